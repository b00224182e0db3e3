//! The interface of the segment, followed over netlink: a node outlives whatever happens to it.

use netlink::ethtool::Ethtool;
use netlink::{Event, Link, Monitor};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, RawFd};

/// Path MTU assumed where the kernel cannot be asked.
const MTU_DEFAULT: usize = 1_500;

/// What became of the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub mtu: bool,
    /// It is up with our address after it was not, or it is another of the same name: groups must be joined
    /// anew.
    pub returned: bool,
    /// Our address is gone and it has this one instead.
    pub moved_to: Option<Ipv4Addr>,
}

#[derive(Debug)]
pub struct Links {
    monitor: Option<Monitor>,
    name: String,
    /// The address that our sockets are bound to.
    own: Ipv4Addr,
    /// `None` while there is no such interface.
    interface: Option<Interface>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Interface {
    index: u32,
    mtu: usize,
    running: bool,
    /// A card negotiates it anew whenever its carrier returns.
    speed: Option<u32>,
    addresses: Vec<Ipv4Addr>,
}

/// Mbit/s of a link, where its driver knows.
pub fn speed_of(link: &Link) -> Option<u32> {
    Ethtool::open().ok()?.speed(link.index).ok()??.mbit
}

impl Links {
    /// Follows the interface of this name, of which we use the address `own`. Where netlink is not to be had,
    /// a plain Ethernet is assumed.
    pub fn open(name: &str, own: Ipv4Addr) -> Self {
        let monitor = Monitor::open();
        if let Err(error) = &monitor {
            log::warn!("links cannot be followed: {error}; an MTU of {MTU_DEFAULT} is assumed");
        }
        let mut links = Self { monitor: monitor.ok(), name: name.to_owned(), own, interface: None };
        links.interface = links.look();
        links
    }

    pub fn mtu(&self) -> usize {
        self.interface.as_ref().map_or(MTU_DEFAULT, |interface| interface.mtu)
    }

    /// Mbit/s of the interface, where its driver knows.
    pub fn speed(&self) -> Option<u32> {
        self.interface.as_ref()?.speed
    }

    /// Our sockets are bound to another address from now on.
    pub const fn use_address(&mut self, own: Ipv4Addr) {
        self.own = own;
    }

    /// To be watched for reading, where there is one.
    pub fn fd(&self) -> Option<RawFd> {
        self.monitor.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Takes in what happened.
    pub fn handle_event(&mut self) -> Changes {
        let Some(monitor) = &mut self.monitor else { return Changes::default() };
        let mut events = Vec::new();
        while match monitor.next_events(&mut events) {
            Ok(more) => more,
            Err(error) => {
                log::warn!("links are not followed any more: {error}");
                self.monitor = None;
                return Changes::default();
            }
        } {}
        // Events only say that it is time to look: what counts is how the interface is now.
        let ours = |index: u32| self.interface.as_ref().is_some_and(|interface| interface.index == index);
        let concerns = |event: &Event| match event {
            Event::LinkChanged(link) => link.name == self.name || ours(link.index),
            Event::LinkGone(index) => ours(*index),
            Event::AddressAdded(address) | Event::AddressRemoved(address) => ours(address.link),
            Event::RouteChanged => false,
            Event::Overrun => true,
        };
        if !events.iter().any(concerns) {
            return Changes::default();
        }
        let before = std::mem::take(&mut self.interface);
        self.interface = self.look();
        self.tell(before.as_ref());
        compare(before.as_ref(), self.interface.as_ref(), self.own)
    }

    fn tell(&self, before: Option<&Interface>) {
        let after = self.interface.as_ref();
        let running = |interface: Option<&Interface>| interface.is_some_and(|interface| interface.running);
        if running(before) != running(after) {
            log::info!("{} is {}", self.name, if running(after) { "up" } else { "down" });
        }
        if let (Some(before), Some(after)) = (before, after) {
            if before.mtu != after.mtu {
                log::info!("{}: MTU is {}", self.name, after.mtu);
            }
            if before.addresses.contains(&self.own) && !after.addresses.contains(&self.own) {
                log::warn!("{} has lost the address {}", self.name, self.own);
            }
        }
    }

    fn look(&mut self) -> Option<Interface> {
        let snapshot = match self.monitor.as_mut()?.snapshot() {
            Ok(snapshot) => snapshot,
            Err(error) => {
                log::warn!("links cannot be listed: {error}");
                return None;
            }
        };
        let link = snapshot.links.into_iter().find(|link| link.name == self.name)?;
        let on_it = snapshot.addresses.iter().filter(|address| address.link == link.index);
        let addresses = on_it.filter_map(|address| match address.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        Some(Interface {
            index: link.index,
            mtu: link.mtu as usize,
            running: link.running,
            speed: speed_of(&link),
            addresses: addresses.collect(),
        })
    }
}

fn compare(before: Option<&Interface>, after: Option<&Interface>, own: Ipv4Addr) -> Changes {
    let Some(after) = after else { return Changes::default() };
    let usable = |interface: &Interface| interface.running && interface.addresses.contains(&own);
    let was_usable = before.is_some_and(|before| usable(before) && before.index == after.index);
    let moved = after.running && !after.addresses.contains(&own);
    Changes {
        mtu: before.is_none_or(|before| before.mtu != after.mtu),
        returned: usable(after) && !was_usable,
        moved_to: after.addresses.first().copied().filter(|_| moved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn interface(index: u32, running: bool, addresses: &[Ipv4Addr]) -> Interface {
        Interface { index, mtu: 1_500, running, speed: None, addresses: addresses.to_vec() }
    }

    #[test]
    fn an_interface_returns_with_its_carrier_its_address_or_another_index() {
        let whole = interface(2, true, &[OWN]);
        let quiet = Changes::default();
        let back = Changes { returned: true, ..quiet };
        let down = interface(2, false, &[OWN]);
        let bare = interface(2, true, &[]);
        assert_eq!(compare(Some(&whole), Some(&whole), OWN), quiet);
        assert_eq!(compare(Some(&whole), Some(&down), OWN), quiet);
        assert_eq!(compare(Some(&down), Some(&whole), OWN), back);
        assert_eq!(compare(Some(&whole), Some(&bare), OWN), quiet);
        assert_eq!(compare(Some(&bare), Some(&whole), OWN), back);
        assert_eq!(compare(Some(&whole), None, OWN), quiet);
        assert_eq!(compare(None, Some(&whole), OWN), Changes { mtu: true, ..back });
        assert_eq!(compare(Some(&whole), Some(&interface(3, true, &[OWN])), OWN), back);
    }

    #[test]
    fn an_address_is_left_only_when_it_is_gone_and_another_is_there() {
        let both = interface(2, true, &[OTHER, OWN]);
        let other = interface(2, true, &[OTHER]);
        assert_eq!(compare(Some(&both), Some(&both), OWN).moved_to, None);
        assert_eq!(compare(Some(&both), Some(&other), OWN).moved_to, Some(OTHER));
        assert_eq!(compare(Some(&both), Some(&interface(2, false, &[OTHER])), OWN).moved_to, None);
        assert_eq!(compare(Some(&other), Some(&other), OTHER), Changes::default());
    }

    #[test]
    fn another_mtu_is_told() {
        let (small, large) =
            (interface(2, true, &[OWN]), Interface { mtu: 9_000, ..interface(2, true, &[OWN]) });
        assert_eq!(compare(Some(&small), Some(&large), OWN), Changes { mtu: true, ..Changes::default() });
    }
}
