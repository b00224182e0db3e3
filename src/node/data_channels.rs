//! The data channels that a node listens on: those of its content groups and no others (LD-2).
//!
//! Each has a socket of its own. A socket takes 20 memberships (`igmp_max_memberships`) and no more; with one
//! for each channel that bound is never met, and the kernel counts what is lost on each.

use crate::io::multicast::{Batch, Group};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, RawFd};

/// What came on a channel since it was joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub datagrams: u64,
    pub bytes: u64,
    /// Datagrams that the kernel dropped because we read too slowly.
    pub drops: u64,
}

#[derive(Debug)]
struct Joined {
    group: Group,
    traffic: Traffic,
}

#[derive(Debug)]
pub struct DataChannels {
    interface: Ipv4Addr,
    /// Never joined, whoever asks: control traffic and content stay apart (LD-3).
    control: Vec<SocketAddrV4>,
    wanted: BTreeSet<SocketAddrV4>,
    joined: BTreeMap<SocketAddrV4, Joined>,
    /// False while this node sends a session itself.
    hears: bool,
    /// Drops on channels that were left.
    past_drops: u64,
}

impl DataChannels {
    pub fn new(interface: Ipv4Addr, control: SocketAddrV4) -> Self {
        Self {
            interface,
            control: vec![control],
            wanted: BTreeSet::new(),
            joined: BTreeMap::new(),
            hears: true,
            past_drops: 0,
        }
    }

    /// Control messages come on these channels from now on.
    pub fn keep_off(&mut self, control: Vec<SocketAddrV4>) {
        self.control = control;
    }

    /// Listens on these channels and leaves all others.
    pub fn set(&mut self, channels: BTreeSet<SocketAddrV4>) {
        let left: Vec<SocketAddrV4> =
            self.joined.keys().filter(|channel| !channels.contains(channel)).copied().collect();
        for channel in left {
            if let Some(joined) = self.joined.remove(&channel) {
                self.past_drops += joined.traffic.drops;
            }
        }
        self.wanted = channels;
    }

    /// Joins what is wanted and not joined yet. Returns the sockets that are new and must be watched, and the
    /// channels that cannot be joined, with the reason: those are tried again by the next call.
    pub fn join_missing(&mut self) -> (Vec<RawFd>, Vec<(SocketAddrV4, io::Error)>) {
        let (mut new, mut failed) = (Vec::new(), Vec::new());
        for &channel in &self.wanted {
            if self.joined.contains_key(&channel) {
                continue;
            }
            let joined = if self.control.contains(&channel) {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a control channel of this node"))
            } else {
                Group::join(channel, self.interface).and_then(|mut group| {
                    group.listen(self.hears)?;
                    Ok(group)
                })
            };
            match joined {
                Ok(group) => {
                    new.push(group.as_raw_fd());
                    self.joined.insert(channel, Joined { group, traffic: Traffic::default() });
                }
                Err(error) => failed.push((channel, error)),
            }
        }
        (new, failed)
    }

    /// Channels that are wanted and cannot be joined.
    pub fn is_complete(&self) -> bool {
        self.wanted.len() == self.joined.len()
    }

    /// What came on a channel; `None` where it is not joined.
    pub fn traffic(&self, channel: SocketAddrV4) -> Option<Traffic> {
        self.joined.get(&channel).map(|joined| joined.traffic)
    }

    pub fn drops(&self) -> u64 {
        self.past_drops + self.joined.values().map(|joined| joined.traffic.drops).sum::<u64>()
    }

    /// Reads up to `share` batches of each channel, or until `take` sets `pause`. True where more may wait.
    pub fn receive(
        &mut self,
        share: usize,
        pause: &Cell<bool>,
        take: &mut dyn FnMut(Batch<'_>),
    ) -> io::Result<bool> {
        let mut more = false;
        for Joined { group, traffic } in self.joined.values_mut() {
            more |= receive(group, traffic, share, pause, take)?;
            if pause.get() {
                return Ok(true);
            }
        }
        Ok(more)
    }

    /// Listens, or does not while this node sends: its own frames cost as much as those of others.
    pub fn hear(&mut self, hear: bool) -> io::Result<()> {
        self.hears = hear;
        self.joined.values_mut().try_for_each(|joined| joined.group.listen(hear))
    }

    /// Joins anew on an interface that came back, or has another address now.
    pub fn rejoin(&mut self, interface: Ipv4Addr) -> io::Result<()> {
        let before = std::mem::replace(&mut self.interface, interface);
        self.joined.values().try_for_each(|joined| joined.group.rejoin(before, interface))
    }
}

fn receive(
    group: &mut Group,
    traffic: &mut Traffic,
    share: usize,
    pause: &Cell<bool>,
    take: &mut dyn FnMut(Batch<'_>),
) -> io::Result<bool> {
    for _ in 0..share {
        let more = group.receive(&mut |batch| {
            traffic.datagrams += batch.datagrams().count() as u64;
            traffic.bytes += batch.bytes() as u64;
            take(batch);
        })?;
        if !more {
            return Ok(false);
        }
        traffic.drops = u64::from(group.overflows);
        if pause.get() {
            break;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    const LO: Ipv4Addr = Ipv4Addr::LOCALHOST;

    fn channel(last: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(239, 255, 72, last), port)
    }

    fn sender() -> (UdpSocket, u16) {
        let socket = socket2::Socket::from(UdpSocket::bind((LO, 0)).unwrap());
        socket.set_multicast_if_v4(&LO).unwrap();
        let socket = UdpSocket::from(socket);
        // The port of a socket that we hold is nobody else's group port.
        let port = socket.local_addr().unwrap().port();
        (socket, port)
    }

    fn heard(channels: &mut DataChannels) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        // What the kernel loops back is there when the call that sent it returns.
        let mut take = |batch: Batch<'_>| heard.extend(batch.datagrams().map(<[u8]>::to_vec));
        assert!(!channels.receive(8, &Cell::new(false), &mut take).unwrap());
        heard
    }

    #[test]
    fn exactly_what_is_set_is_heard_and_counted() {
        let (sender, port) = sender();
        let [first, second, third] = [1, 2, 3].map(|last| channel(last, port));
        let mut channels = DataChannels::new(LO, channel(9, port));
        let say = |(channel, text): (SocketAddrV4, &str)| {
            sender.send_to(text.as_bytes(), channel).unwrap();
        };

        channels.set([first, second].into());
        assert_eq!(channels.join_missing().0.len(), 2);
        assert!(channels.join_missing().0.is_empty() && channels.is_complete());
        [(first, "a"), (second, "bc"), (third, "d")].into_iter().for_each(say);
        assert_eq!(heard(&mut channels), [b"a".to_vec(), b"bc".to_vec()]);
        assert_eq!(channels.traffic(second).unwrap(), Traffic { datagrams: 1, bytes: 2, drops: 0 });
        assert_eq!(channels.traffic(third), None);

        channels.set([second, third].into());
        assert_eq!(channels.join_missing().0.len(), 1);
        [(first, "a"), (second, "b"), (third, "c")].into_iter().for_each(say);
        assert_eq!(heard(&mut channels), [b"b".to_vec(), b"c".to_vec()]);
        assert_eq!(channels.traffic(second).unwrap().datagrams, 2, "it was not joined anew");

        // Who sends does not hear, also on a channel that comes meanwhile.
        channels.hear(false).unwrap();
        channels.set([first, second].into());
        assert_eq!(channels.join_missing().0.len(), 1);
        [(first, "a"), (second, "b")].into_iter().for_each(say);
        assert_eq!(heard(&mut channels), Vec::<Vec<u8>>::new());
        channels.hear(true).unwrap();
        say((first, "a"));
        assert_eq!(heard(&mut channels), [b"a".to_vec()]);
    }

    #[test]
    fn the_control_channel_is_never_joined_for_content() {
        let (_sender, port) = sender();
        let mut channels = DataChannels::new(LO, channel(1, port));
        channels.set([channel(1, port), channel(2, port)].into());
        let (new, failed) = channels.join_missing();
        assert_eq!((new.len(), failed.len(), failed[0].0), (1, 1, channel(1, port)));
        assert!(failed[0].1.to_string().contains("control channel") && !channels.is_complete());

        // The segment's control channel has moved.
        channels.keep_off(vec![channel(1, port), channel(3, port)]);
        channels.set([channel(2, port), channel(3, port)].into());
        let (new, failed) = channels.join_missing();
        assert_eq!((new.len(), failed.len(), failed[0].0), (0, 1, channel(3, port)));
    }

    #[test]
    fn more_channels_are_joined_than_one_socket_would_take() {
        let (sender, port) = sender();
        let all: BTreeSet<SocketAddrV4> = (1..=40).map(|last| channel(last, port)).collect();
        let mut channels = DataChannels::new(LO, channel(0, port));
        channels.set(all.clone());
        assert_eq!(channels.join_missing().0.len(), 40);
        for channel in &all {
            sender.send_to(b"x", channel).unwrap();
        }
        assert_eq!(heard(&mut channels).len(), 40);
    }
}
