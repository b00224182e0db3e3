//! The reader and the writer that every format is declared with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why bytes are not the value they were taken for. Always the sender's fault: count and drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it ends before {0}")]
    Truncated(&'static str),
    #[error("{0} is out of bounds")]
    OutOfBounds(&'static str),
    #[error("{0} is none that this version knows")]
    Unknown(&'static str),
    #[error("bytes follow the last field")]
    Trailing,
    #[error("{0} does not verify")]
    Forged(&'static str),
    #[error("it is encrypted, and its key is not here")]
    Sealed,
}

/// A cursor over untrusted bytes.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes; `what` names the field in the error.
    pub fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated(what))?;
        self.rest = tail;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated(what))?;
        self.rest = tail;
        Ok(*head)
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(what)?[0])
    }

    pub fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    pub fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    pub fn bool(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::OutOfBounds(what)),
        }
    }

    /// Bytes behind a 16-bit length of at most `max`.
    pub fn bytes16(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u16(what)?);
        if len > max {
            return Err(Malformed::OutOfBounds(what));
        }
        self.take(len, what)
    }

    /// Bytes behind a 32-bit length of at most `max`.
    pub fn bytes32(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let len = self.u32(what)? as usize;
        if len > max {
            return Err(Malformed::OutOfBounds(what));
        }
        self.take(len, what)
    }

    /// UTF-8 behind a 16-bit length of at most `max` bytes.
    pub fn str16(&mut self, max: usize, what: &'static str) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes16(max, what)?).map_err(|_| Malformed::OutOfBounds(what))
    }

    pub fn socket_addr(&mut self, what: &'static str) -> Result<SocketAddr, Malformed> {
        let ip = match self.u8(what)? {
            4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>(what)?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>(what)?)),
            _ => return Err(Malformed::OutOfBounds(what)),
        };
        Ok(SocketAddr::new(ip, self.u16(what)?))
    }

    /// A value that may be missing, behind one byte that says so.
    pub fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.bool(what)? { read(self).map(Some) } else { Ok(None) }
    }

    /// Values behind a 16-bit count of at most `max`.
    pub fn list<T>(
        &mut self,
        max: usize,
        what: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = usize::from(self.u16(what)?);
        // Every value takes at least one byte.
        if count > max || count > self.remaining() {
            return Err(Malformed::OutOfBounds(what));
        }
        // A count may still lie: large values are made room for as they come, beyond what the bytes justify.
        let justified = self.remaining() / size_of::<T>().max(1) + 1;
        let mut values = Vec::with_capacity(count.min(justified));
        for _ in 0..count {
            values.push(read(self)?);
        }
        Ok(values)
    }

    /// Ends the value: nothing may follow.
    pub const fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

/// A growing buffer of encoded fields.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// # Panics
    /// If `bytes` is longer than 65,535: a bound that the value's constructor must keep.
    pub fn bytes16(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u16::try_from(bytes.len()).expect("the field's bound is below 64 KiB");
        self.u16(len).raw(bytes)
    }

    /// # Panics
    /// If `bytes` is longer than 4 GiB.
    pub fn bytes32(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u32::try_from(bytes.len()).expect("the field's bound is below 4 GiB");
        self.u32(len).raw(bytes)
    }

    pub fn str16(&mut self, text: &str) -> &mut Self {
        self.bytes16(text.as_bytes())
    }

    pub fn socket_addr(&mut self, addr: SocketAddr) -> &mut Self {
        match addr.ip() {
            IpAddr::V4(ip) => self.u8(4).raw(&ip.octets()),
            IpAddr::V6(ip) => self.u8(6).raw(&ip.octets()),
        };
        self.u16(addr.port())
    }

    pub fn option<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) -> &mut Self {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
        self
    }

    /// # Panics
    /// If there are more than 65,535 values.
    pub fn list<T>(&mut self, values: &[T], mut write: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.u16(u16::try_from(values.len()).expect("the list's bound is below 65,536"));
        for value in values {
            write(self, value);
        }
        self
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins anew in the same memory.
    pub fn clear(&mut self) -> &mut Self {
        self.bytes.clear();
        self
    }

    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lying_count_is_refused_before_memory_is_reserved() {
        let mut decoder = Decoder::new(&[0xff, 0xff, 1, 2]);
        let list = decoder.list(100_000, "list", |d| d.u8("item"));
        assert_eq!(list, Err(Malformed::OutOfBounds("list")));
    }

    #[test]
    fn what_follows_a_whole_value_is_an_error() {
        let mut decoder = Decoder::new(&[1, 2]);
        assert_eq!(decoder.u8("first"), Ok(1));
        assert_eq!(decoder.finish(), Err(Malformed::Trailing));
    }

    proptest! {
        #[test]
        fn every_field_reads_back_as_written(
            a: u8, b: u16, c: u32, d: u64, e: i64, f: bool,
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            text in "[ -~]{0,40}",
            ip: [u8; 4], ip6: [u8; 16], port: u16,
            some in proptest::option::of(any::<u32>()),
            list in proptest::collection::vec(any::<u16>(), 0..50),
        ) {
            let v4 = SocketAddr::new(IpAddr::from(ip), port);
            let v6 = SocketAddr::new(IpAddr::from(ip6), port);
            let mut out = Encoder::new();
            out.u8(a).u16(b).u32(c).u64(d).i64(e).bool(f).bytes16(&bytes).bytes32(&bytes).str16(&text);
            out.socket_addr(v4).socket_addr(v6);
            out.option(some.as_ref(), |o, v| { o.u32(*v); });
            out.list(&list, |o, v| { o.u16(*v); });
            let encoded = out.finish();

            let mut d2 = Decoder::new(&encoded);
            prop_assert_eq!(d2.u8("a").unwrap(), a);
            prop_assert_eq!(d2.u16("b").unwrap(), b);
            prop_assert_eq!(d2.u32("c").unwrap(), c);
            prop_assert_eq!(d2.u64("d").unwrap(), d);
            prop_assert_eq!(d2.i64("e").unwrap(), e);
            prop_assert_eq!(d2.bool("f").unwrap(), f);
            prop_assert_eq!(d2.bytes16(300, "bytes").unwrap(), &bytes[..]);
            prop_assert_eq!(d2.bytes32(300, "bytes").unwrap(), &bytes[..]);
            prop_assert_eq!(d2.str16(40, "text").unwrap(), text);
            prop_assert_eq!(d2.socket_addr("v4").unwrap(), v4);
            prop_assert_eq!(d2.socket_addr("v6").unwrap(), v6);
            prop_assert_eq!(d2.option("some", |d| d.u32("some")).unwrap(), some);
            prop_assert_eq!(d2.list(50, "list", |d| d.u16("item")).unwrap(), list);
            prop_assert!(d2.finish().is_ok());
            for cut in 0..encoded.len() {
                let mut short = Decoder::new(&encoded[..cut]);
                let whole = (|| {
                    short.u8("a")?; short.u16("b")?; short.u32("c")?; short.u64("d")?; short.i64("e")?;
                    short.bool("f")?; short.bytes16(300, "x")?; short.bytes32(300, "x")?; short.str16(40, "x")?;
                    short.socket_addr("x")?; short.socket_addr("x")?;
                    short.option("x", |d| d.u32("x"))?; short.list(50, "x", |d| d.u16("x"))?;
                    Ok::<(), Malformed>(())
                })();
                prop_assert!(whole.is_err());
            }
        }
    }
}
