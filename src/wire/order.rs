//! Orders: signed instructions of the CCM to nodes (CO-8, JT-10).

use super::id::{AssignmentId, Name, OrderId, RunId};
use super::seal::{Domain, PublicKey, Signature, SigningKey};
use super::{Decoder, Encoder, Malformed};

/// What to do with a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put the staged result of this assignment live.
    Commit { assignment: AssignmentId },
    /// Put the release that this assignment once made live again: the way back, or to any that is kept
    /// (JT-6, JT-7). 0 stands for what was live before the first assignment.
    Switch { assignment: AssignmentId },
}

impl Action {
    /// Whose result goes live.
    pub const fn assignment(self) -> AssignmentId {
        match self {
            Self::Commit { assignment } | Self::Switch { assignment } => assignment,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Strictly increasing over the farm: a node refuses one not above the last it carried out for the
    /// site (T2), unless it is that one again, which it answers as it did before.
    pub order: OrderId,
    pub run: RunId,
    pub site: Name,
    pub action: Action,
    /// When to carry it out, nanoseconds since 1970 by the CCM's clock; `None` for at once (AT-3).
    pub at: Option<u64>,
    /// Seconds since 1970 after which it is void.
    pub expires: u64,
}

impl Order {
    /// Longest signed order in bytes.
    pub const MAX: usize = 256;

    /// The order as bytes, signed by the director.
    pub fn sign(&self, director: &SigningKey) -> Vec<u8> {
        let mut out = Encoder::new();
        self.order.encode(&mut out);
        self.run.encode(&mut out);
        self.site.encode(&mut out);
        out.u8(match self.action {
            Action::Commit { .. } => 1,
            Action::Switch { .. } => 2,
        });
        self.action.assignment().encode(&mut out);
        out.option(self.at.as_ref(), |out, at| {
            out.u64(*at);
        });
        out.u64(self.expires);
        let signature = director.sign(Domain::Order, out.as_bytes());
        signature.encode(&mut out);
        out.finish()
    }

    pub fn open(bytes: &[u8], director: &PublicKey) -> Result<Self, Malformed> {
        Self::decode(check_signed(Domain::Order, bytes, director)?)
    }

    /// Reads an order without checking the signature: for whoever only passes it on.
    pub fn peek(bytes: &[u8]) -> Result<Self, Malformed> {
        let signed = bytes.len().checked_sub(Signature::LEN).ok_or(Malformed::Truncated("signature"))?;
        Self::decode(&bytes[..signed])
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let order = Self {
            order: OrderId::decode(&mut from)?,
            run: RunId::decode(&mut from)?,
            site: Name::decode(&mut from)?,
            action: match from.u8("action")? {
                1 => Action::Commit { assignment: AssignmentId::decode(&mut from)? },
                2 => Action::Switch { assignment: AssignmentId::decode(&mut from)? },
                _ => return Err(Malformed::Unknown("action")),
            },
            at: from.option("at", |from| from.u64("at"))?,
            expires: from.u64("expires")?,
        };
        from.finish()?;
        Ok(order)
    }
}

/// Splits a signature off the end of a document and checks it.
pub(super) fn check_signed<'a>(
    domain: Domain,
    bytes: &'a [u8],
    key: &PublicKey,
) -> Result<&'a [u8], Malformed> {
    let (signed, signature) =
        bytes.split_last_chunk::<{ Signature::LEN }>().ok_or(Malformed::Truncated("signature"))?;
    key.verify(domain, signed, &Signature(*signature))?;
    Ok(signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_opens_only_as_the_director_signed_it() {
        let director = SigningKey::from_seed([1; 32]);
        for action in
            [Action::Commit { assignment: AssignmentId(9) }, Action::Switch { assignment: AssignmentId(0) }]
        {
            let order = Order {
                order: OrderId(7),
                run: RunId(8),
                site: Name::new(&"s".repeat(Name::MAX)).unwrap(),
                action,
                at: Some(10),
                expires: 11,
            };
            let bytes = order.sign(&director);
            assert!(bytes.len() <= Order::MAX);
            assert_eq!(Order::open(&bytes, &director.public()), Ok(order));
            for at in 0..bytes.len() {
                let mut forged = bytes.clone();
                forged[at] ^= 1;
                assert!(Order::open(&forged, &director.public()).is_err(), "byte {at}");
                assert!(Order::open(&bytes[..at], &director.public()).is_err());
            }
        }
    }
}
