//! From where data channels are taken: a range of multicast addresses and ports (LD-2, LD-3).
//!
//! Every group has a channel of its own in each segment: segments that share a switch do not hear each other's
//! content. What was given stays; the first try depends on the farm, so that two farms on one network rarely
//! meet.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

/// `ADDRESS/PREFIX:PORT` or `ADDRESS/PREFIX:FIRST-LAST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ChannelRange {
    first: Ipv4Addr,
    prefix: u8,
    ports: (u16, u16),
}

/// Where nodes hear each other unless they are told otherwise.
const CONTROL_CHANNEL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 70, 1), 7401);

impl ChannelRange {
    /// 32,768 addresses for private use within a site (RFC 2365).
    pub const DEFAULT: Self =
        Self { first: Ipv4Addr::new(239, 255, 128, 0), prefix: 17, ports: (7402, 7402) };

    /// How many channels there are.
    pub fn count(&self) -> u64 {
        self.addresses() * u64::from(self.ports.1 - self.ports.0 + 1)
    }

    pub fn contains(&self, channel: SocketAddrV4) -> bool {
        let offset = channel.ip().to_bits().checked_sub(self.first.to_bits());
        let ports = self.ports.0..=self.ports.1;
        offset.is_some_and(|offset| u64::from(offset) < self.addresses()) && ports.contains(&channel.port())
    }

    /// A channel that is not taken, the same for the same `seed` as long as that one is free. `None` where all
    /// are taken.
    pub fn pick(&self, seed: u64, taken: &BTreeSet<SocketAddrV4>) -> Option<SocketAddrV4> {
        let count = self.count();
        // One more than are taken: among so many one is free.
        let tries = count.min(taken.len() as u64 + 1);
        (0..tries)
            .map(|try_| self.nth((seed % count + try_) % count))
            .find(|channel| !taken.contains(channel))
    }

    /// Neighbours differ in their address, for that is what switches and network cards look at.
    fn nth(&self, index: u64) -> SocketAddrV4 {
        let address = self.first.to_bits() + (index % self.addresses()) as u32;
        let port = self.ports.0 + (index / self.addresses()) as u16;
        SocketAddrV4::new(Ipv4Addr::from_bits(address), port)
    }

    fn addresses(&self) -> u64 {
        1 << (32 - self.prefix)
    }
}

impl fmt::Display for ChannelRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.first, self.prefix, self.ports.0)?;
        if self.ports.1 > self.ports.0 { write!(f, "-{}", self.ports.1) } else { Ok(()) }
    }
}

impl FromStr for ChannelRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || {
            format!("{text:?} is no range of channels: give ADDRESS/PREFIX:PORT or ADDRESS/PREFIX:FIRST-LAST")
        };
        let (network, ports) = text.split_once(':').ok_or_else(malformed)?;
        let (address, prefix) = network.split_once('/').ok_or_else(malformed)?;
        let (from, to) = ports.split_once('-').unwrap_or((ports, ports));
        let address: Ipv4Addr = address.parse().map_err(|_| malformed())?;
        let prefix: u8 = prefix.parse().map_err(|_| malformed())?;
        let ports: (u16, u16) =
            (from.parse().map_err(|_| malformed())?, to.parse().map_err(|_| malformed())?);
        if !(4..=32).contains(&prefix) || ports.0 == 0 || ports.1 < ports.0 {
            return Err(malformed());
        }
        let range = Self {
            first: Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - u32::from(prefix)))),
            prefix,
            ports,
        };
        let reserved = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), ports.0);
        if !range.first.is_multicast() || range.contains(reserved) || range.first.octets()[..3] == [224, 0, 0]
        {
            return Err(format!(
                "{text:?} are no multicast addresses for free use: take some of 239.0.0.0/8, as in {}",
                Self::DEFAULT
            ));
        }
        if range.contains(CONTROL_CHANNEL) {
            return Err(format!(
                "{text:?} holds {CONTROL_CHANNEL}, on which nodes hear each other: choose other addresses or ports"
            ));
        }
        Ok(range)
    }
}

impl TryFrom<String> for ChannelRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> ChannelRange {
        text.parse().unwrap()
    }

    #[test]
    fn every_channel_of_a_range_is_given_once_and_then_none() {
        for text in ["239.255.128.0/30:7402", "239.1.2.3/32:7402-7405", "239.1.2.2/31:1-2"] {
            let range = range(text);
            assert_eq!(range.count(), 4, "{text}");
            let mut taken = BTreeSet::new();
            while let Some(channel) = range.pick(u64::MAX, &taken) {
                assert!(range.contains(channel) && taken.insert(channel), "{channel}");
            }
            assert_eq!(taken.len(), 4, "{text}");
        }
    }

    #[test]
    fn a_free_channel_is_picked_by_the_seed_alone() {
        let range = ChannelRange::DEFAULT;
        let first = range.pick(12_345, &BTreeSet::new()).unwrap();
        assert_eq!(first, "239.255.176.57:7402".parse().unwrap());
        assert_eq!(range.pick(12_345 + range.count(), &BTreeSet::new()), Some(first));
        let next = range.pick(12_345, &BTreeSet::from([first])).unwrap();
        assert_eq!(next, "239.255.176.58:7402".parse().unwrap());
        assert!(!range.contains("239.255.127.255:7402".parse().unwrap()));
        assert!(!range.contains("240.0.0.0:7402".parse().unwrap()));
        assert!(!range.contains("239.255.128.0:7403".parse().unwrap()));
    }

    #[test]
    fn a_range_that_cannot_be_used_is_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<ChannelRange>().unwrap_err();
        for bad in [
            "",
            "239.255.128.0",
            "239.255.128.0/17",
            "239.255.128.0/33:1",
            "239.1.1.1/3:1",
            "239.1.1.1/32:0",
            "239.1.1.1/32:9-8",
            "x/17:1",
            "239.1.1.1/32:1-x",
        ] {
            assert!(refused(bad).contains("no range of channels"), "{bad}");
        }
        for bad in ["10.0.0.0/8:7402", "224.0.0.0/24:7402", "224.0.0.128/25:7402", "224.0.0.0/4:7402"] {
            assert!(refused(bad).contains("239.0.0.0/8"), "{bad}");
        }
        assert!(refused("239.255.70.0/24:7400-7410").contains("239.255.70.1:7401"));
        assert_eq!(range("239.255.70.0/24:7402").count(), 256);
        assert_eq!(range("239.255.200.7/17:7402"), ChannelRange::DEFAULT);
        for text in ["239.255.128.0/17:7402", "239.1.2.3/32:7402-7405"] {
            assert_eq!(range(text).to_string(), text);
        }
    }
}
