//! The interface of the segment, followed over netlink.

use netlink::ethtool::Ethtool;
use netlink::{Event, Link, Monitor};
use std::os::fd::{AsRawFd, RawFd};

/// Path MTU assumed where the kernel cannot be asked.
const MTU_DEFAULT: usize = 1_500;

#[derive(Debug)]
pub struct Links {
    monitor: Option<Monitor>,
    name: String,
    mtu: usize,
    running: bool,
    speed: Option<u32>,
}

/// Mbit/s of a link, where its driver knows.
pub fn speed_of(link: &Link) -> Option<u32> {
    Ethtool::open().ok()?.speed(link.index).ok()??.mbit
}

impl Links {
    /// Follows the interface of this name. Where netlink is not to be had, a plain Ethernet is assumed.
    pub fn open(name: &str) -> Self {
        let monitor = Monitor::open();
        if let Err(error) = &monitor {
            log::warn!("links cannot be followed: {error}; an MTU of {MTU_DEFAULT} is assumed");
        }
        let (monitor, name) = (monitor.ok(), name.to_owned());
        let mut links = Self { monitor, name, mtu: MTU_DEFAULT, running: true, speed: None };
        links.resync();
        links
    }

    pub const fn mtu(&self) -> usize {
        self.mtu
    }

    /// Mbit/s of the interface, where its driver knows.
    pub const fn speed(&self) -> Option<u32> {
        self.speed
    }

    /// To be watched for reading, where there is one.
    pub fn fd(&self) -> Option<RawFd> {
        self.monitor.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Takes in what happened. True where the interface came (back) up: its groups must be joined anew.
    pub fn handle_event(&mut self) -> bool {
        let Some(monitor) = &mut self.monitor else { return false };
        let mut events = Vec::new();
        if let Err(error) = monitor.next_events(&mut events) {
            log::warn!("links are not followed any more: {error}");
            self.monitor = None;
        }
        let was_running = self.running;
        for event in events {
            match event {
                Event::LinkChanged(link) if link.name == self.name => {
                    if self.mtu != link.mtu as usize {
                        log::info!("{}: MTU is {}", self.name, link.mtu);
                    }
                    self.take(&link);
                }
                Event::Overrun => self.resync(),
                _ => {}
            }
        }
        if was_running != self.running {
            log::info!("{} is {}", self.name, if self.running { "up" } else { "down" });
        }
        self.running && !was_running
    }

    fn resync(&mut self) {
        let Some(monitor) = &mut self.monitor else { return };
        match monitor.snapshot() {
            Ok(snapshot) => {
                if let Some(link) = snapshot.links.into_iter().find(|link| link.name == self.name) {
                    self.take(&link);
                }
            }
            Err(error) => log::warn!("links cannot be listed: {error}"),
        }
    }
    fn take(&mut self, link: &Link) {
        // A card negotiates its speed anew whenever its carrier returns.
        (self.mtu, self.running, self.speed) = (link.mtu as usize, link.running, speed_of(link));
    }
}
