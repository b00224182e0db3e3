//! One-time tokens with which nodes join.

use super::{DbError, Enrolment, Store, int, nodes, uint};
use crate::wire::id::{Name, NodeId, hex};
use crate::wire::join::Token;
use rusqlite::OptionalExtension;

/// An invite that a request names and that is not void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingInvite {
    pub token: Token,
    pub can_lead: bool,
    /// The name that the node must join with; `None` for any.
    pub node: Option<Name>,
}

/// How an attempt to join ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    Admitted,
    /// The token has admitted another node.
    Used,
    /// A node of this name exists, and the token is not for that name.
    NameTaken,
}

impl Store {
    pub fn add_invite(
        &mut self,
        token: &Token,
        node: Option<&Name>,
        can_lead: bool,
        expires_ns: u64,
    ) -> Result<(), DbError> {
        let sql = "INSERT INTO invites (id, token, node, can_lead, expires_ns) VALUES (?1, ?2, ?3, ?4, ?5)";
        let node = node.map_or("", Name::as_str);
        self.db.execute(sql, (hex(&token.id()), token.to_string(), node, can_lead, int(expires_ns)))?;
        Ok(())
    }

    /// The invite of this token id; `None` where there is none or it expired.
    pub fn invite(&self, id: &[u8; 16], now_ns: u64) -> Result<Option<PendingInvite>, DbError> {
        let sql = "SELECT token, node, can_lead, expires_ns FROM invites WHERE id = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            let node: String = row.get(1)?;
            let invite = PendingInvite {
                token: super::parsed(row, 0)?,
                node: if node.is_empty() { None } else { Some(super::parsed(row, 1)?) },
                can_lead: row.get(2)?,
            };
            Ok((invite, uint(row, 3)?))
        };
        let found = self.db.query_row(sql, [hex(id)], read).optional()?;
        Ok(found.filter(|(_, expires_ns)| now_ns < *expires_ns).map(|(invite, _)| invite))
    }

    /// Lets a node in. The same node may ask again with the same token, for the answer may get lost.
    pub fn admit(
        &mut self,
        invite: &PendingInvite,
        enrolment: &Enrolment,
        now_ns: u64,
    ) -> Result<Admission, DbError> {
        let step = self.write()?;
        let node = NodeId::of_key(&enrolment.key.0);
        let id = hex(&invite.token.id());
        let used_by: String =
            step.query_row("SELECT used_by FROM invites WHERE id = ?1", [&id], |row| row.get(0))?;
        if used_by == node.to_string() {
            return Ok(Admission::Admitted);
        }
        if !used_by.is_empty() {
            return Ok(Admission::Used);
        }
        let holder = nodes::named(&step, &enrolment.name)?;
        if holder.is_some_and(|holder| holder != node) && invite.node.as_ref() != Some(&enrolment.name) {
            return Ok(Admission::NameTaken);
        }
        nodes::insert(&step, enrolment, now_ns)?;
        step.execute("UPDATE invites SET used_by = ?2 WHERE id = ?1", (&id, node.to_string()))?;
        step.execute("DELETE FROM invites WHERE expires_ns < ?1", [int(now_ns)])?;
        step.commit()?;
        Ok(Admission::Admitted)
    }
}
