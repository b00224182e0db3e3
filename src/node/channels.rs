//! The datagram sockets of a node and the envelopes that pass through them.

use crate::io::fault::Loss;
use crate::io::multicast::{Batch, Bulk, Group, Sent, Unicast};
use crate::io::raw::{self, Raw};
use crate::node::config::{Config, Reports};
use crate::node::data_channels::DataChannels;
use crate::proto::engine::{Channel, Destination};
use crate::time::Instant;
use crate::wire::envelope::{ENVELOPE_MAGIC, MESSAGE_MAX, Message, Opened, Sealer, Sender};
use crate::wire::id::{Epoch, NodeId};
use crate::wire::seal;
use crate::wire::session::FRAME_MAGIC;
use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, RawFd};

/// Batches read from a data channel before the other sockets have their turn: work of a few milliseconds.
const DATA_SHARE: usize = 8;
/// The same for messages, which are single datagrams.
const MESSAGE_SHARE: usize = 256;

/// Control channels beside the preconfigured one: where the segment is, where it goes, where it was.
const MOVES_MAX: usize = 3;
/// Frames that came together.
pub type Frames<'a, 'bytes> = &'a mut dyn Iterator<Item = &'bytes [u8]>;

/// A socket of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Control,
    Data,
    Unicast,
    /// Reports of members, where they do not come by UDP.
    Report,
}

impl Port {
    pub const ALL: [Self; 4] = [Self::Control, Self::Data, Self::Unicast, Self::Report];

    /// The multicast channel that is heard here.
    pub const fn channel(self) -> Option<Channel> {
        match self {
            Self::Control => Some(Channel::Control),
            Self::Data => Some(Channel::Data),
            Self::Unicast | Self::Report => None,
        }
    }
}

/// What came and went; every dropped datagram has its cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub messages_received: u64,
    pub messages_sent: u64,
    /// Messages that went to a single node because multicast does not reach it.
    pub copies_sent: u64,
    pub frames_received: u64,
    /// Neither envelope nor frame.
    pub garbage: u64,
    /// Envelopes with a wrong tag, signature, certificate or format.
    pub refused: u64,
    /// Envelopes of another segment on the same channel.
    pub foreign: u64,
}

#[derive(Debug)]
pub struct Channels {
    control: Group,
    /// The channel of [`Self::control`].
    home: SocketAddrV4,
    /// Control channels that the segment has moved to, or is about to (EL-6); at most [`MOVES_MAX`].
    moved: Vec<(SocketAddrV4, Group)>,
    pub data: DataChannels,
    unicast: Unicast,
    /// For reports; `None`: they go by UDP.
    raw: Option<Raw>,
    reports: Reports,
    interface: Ipv4Addr,
    ttl: u32,
    bulk: Bulk,
    sealer: Sealer,
    node: NodeId,
    boot: u32,
    seq: u64,
    pub loss: Loss,
    pub counters: Counters,
}

impl Channels {
    /// # Errors
    /// With a sentence that names the socket and what to do.
    pub fn open(config: &Config, sealer: Sealer, boot: u32) -> Result<Self, String> {
        let channel = config.control_channel;
        let control = Group::join(channel, config.interface).map_err(|error| {
            format!("cannot join {channel} on {}: {error}; see network.control_channel", config.interface)
        })?;
        let unicast = Unicast::bind(config.interface, config.datagram_port, config.ttl).map_err(|error| {
            let address = SocketAddrV4::new(config.interface, config.datagram_port);
            format!("cannot bind UDP {address}: {error}; set network.datagram_port to a free port, or to 0")
        })?;
        let bulk = Bulk::bind(config.interface, config.ttl)
            .map_err(|error| format!("cannot bind UDP {}:0 for frames: {error}", config.interface))?;
        let port = unicast.local_addr().map_or(0, |addr| addr.port());
        let raw = open_raw(config.reports, config.interface, port)?;
        Ok(Self {
            control,
            raw,
            reports: config.reports,
            home: config.control_channel,
            moved: Vec::new(),
            data: DataChannels::new(config.interface, config.control_channel),
            unicast,
            interface: config.interface,
            ttl: config.ttl,
            bulk,
            node: sealer.certificate().node(),
            sealer,
            boot,
            seq: 0,
            loss: Loss::new(config.loss_pct, config.loss_seed),
            counters: Counters::default(),
        })
    }

    /// The sockets that a node has from its start; those of the data channels come with its groups.
    pub fn fds(&self) -> Vec<(Port, RawFd)> {
        let raw = self.raw.as_ref().map(|raw| (Port::Report, raw.as_raw_fd()));
        let udp = [(Port::Control, self.control.as_raw_fd()), (Port::Unicast, self.unicast.as_raw_fd())];
        udp.into_iter().chain(raw).collect()
    }

    /// What came and went by the raw socket.
    pub fn raw_counters(&self) -> raw::Counters {
        self.raw.as_ref().map_or_else(raw::Counters::default, |raw| raw.counters)
    }

    pub fn datagram_addr(&self) -> io::Result<SocketAddr> {
        self.unicast.local_addr()
    }

    /// Joins exactly these control channels beside the preconfigured one. Returns those that are new with their
    /// descriptors, each of which is to be watched as [`Port::Control`] until it is closed by the next call.
    ///
    /// # Errors
    /// The first channel that could not be joined; the others are.
    pub fn join_moved(
        &mut self,
        channels: &[SocketAddrV4],
    ) -> (Vec<RawFd>, Option<(SocketAddrV4, io::Error)>) {
        self.data.keep_off(channels.iter().copied().chain([self.home]).collect());
        self.moved.retain(|(channel, _)| channels.contains(channel));
        let (mut new, mut failure) = (Vec::new(), None);
        for channel in channels.iter().take(MOVES_MAX) {
            if self.moved.iter().any(|(known, _)| known == channel) {
                continue;
            }
            match Group::join(*channel, self.interface) {
                Ok(group) => {
                    new.push(group.as_raw_fd());
                    self.moved.push((*channel, group));
                }
                Err(error) => failure = failure.or(Some((*channel, error))),
            }
        }
        (new, failure)
    }

    /// Joins the groups anew on an interface that came back.
    pub fn rejoin(&mut self) -> io::Result<()> {
        self.unicast.set_interface(self.interface)?;
        self.bulk.set_interface(self.interface)?;
        self.control.rejoin(self.interface, self.interface)?;
        self.moved.iter().try_for_each(|(_, group)| group.rejoin(self.interface, self.interface))?;
        self.data.rejoin(self.interface)
    }

    /// Moves to another address of the interface: the sockets that send are new ones.
    pub fn move_to(&mut self, interface: Ipv4Addr) -> io::Result<()> {
        let port = self.unicast.local_addr()?.port();
        let mut unicast = Unicast::bind(interface, port, self.ttl)?;
        let mut bulk = Bulk::bind(interface, self.ttl)?;
        self.control.rejoin(self.interface, interface)?;
        self.moved.iter().try_for_each(|(_, group)| group.rejoin(self.interface, interface))?;
        self.data.rejoin(interface)?;
        unicast.sent_bytes = self.unicast.sent_bytes;
        unicast.sent_datagrams = self.unicast.sent_datagrams;
        unicast.overflows = self.unicast.overflows;
        bulk.sent_bytes = self.bulk.sent_bytes;
        bulk.sent_datagrams = self.bulk.sent_datagrams;
        if let Some(before) = self.raw.take() {
            let mut raw = open_raw(self.reports, interface, port).map_err(io::Error::other)?;
            if let Some(raw) = &mut raw {
                raw.counters = before.counters;
            }
            self.raw = raw;
        }
        (self.unicast, self.bulk, self.interface) = (unicast, bulk, interface);
        Ok(())
    }

    pub const fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Bytes and datagrams that left through the sockets of this node.
    pub const fn sent(&self) -> (u64, u64) {
        let (messages, frames) = (&self.unicast, &self.bulk);
        (messages.sent_bytes + frames.sent_bytes, messages.sent_datagrams + frames.sent_datagrams)
    }

    /// Datagrams that the kernel dropped because we read too slowly.
    pub fn overflows(&self) -> u64 {
        let moved: u64 = self.moved.iter().map(|(_, group)| u64::from(group.overflows)).sum();
        moved + self.control.overflows as u64 + self.data.drops() + self.unicast.overflows as u64
    }

    /// Of these, those of the data channels.
    pub fn frame_overflows(&self) -> u32 {
        self.data.drops() as u32
    }

    /// Bytes that the socket of a data channel may hold unread, by the kernel's count: all that receive ask for
    /// the same and are granted the same.
    pub fn frame_room(&self) -> u32 {
        self.control.room()
    }

    /// Reads what waits at a port: batches of frames go to `take_frames` where they lie, envelopes that open
    /// are appended to `inbox`. True where more may wait.
    pub fn receive(
        &mut self,
        now: Instant,
        port: Port,
        inbox: &mut Vec<(SocketAddr, Opened)>,
        take_frames: &mut dyn FnMut(Frames<'_, '_>),
    ) -> io::Result<bool> {
        let Self { control, moved, data, unicast, raw, sealer, loss, counters, node, boot, seq, .. } = self;
        let own = unicast.local_addr()?;
        let announced = Cell::new(false);
        let mut asked_by = None;
        let mut take = |batch: Batch<'_>| {
            let mut frames = batch.datagrams().filter(|datagram| {
                if loss.drops() {
                    return false;
                }
                match datagram.first() {
                    Some(&FRAME_MAGIC) => {
                        counters.frames_received += 1;
                        return true;
                    }
                    Some(byte) if *byte == ENVELOPE_MAGIC[0] => match sealer.open(datagram) {
                        Ok(opened)
                            if opened.sender.node == *node
                                && is_own(&opened.sender, *boot, *seq, batch.from == own) => {}
                        Ok(opened) => {
                            counters.messages_received += 1;
                            announced.set(matches!(opened.message, Message::Announce(_)));
                            if let Message::StatusRequest(_) = opened.message {
                                asked_by = Some(batch.from);
                            }
                            inbox.push((batch.from, opened));
                        }
                        Err(crate::wire::Malformed::Unknown("segment")) => counters.foreign += 1,
                        Err(error) => {
                            counters.refused += 1;
                            log::debug!("message from {} refused: {error}", batch.from);
                        }
                    },
                    _ => counters.garbage += 1,
                }
                false
            });
            take_frames(&mut frames);
        };
        let mut more = true;
        for _ in 0..MESSAGE_SHARE {
            more = match port {
                Port::Control => {
                    let mut more = control.receive(&mut take)?;
                    for (_, group) in moved.iter_mut() {
                        more |= group.receive(&mut take)?;
                    }
                    more
                }
                Port::Data => {
                    more = data.receive(DATA_SHARE, &announced, &mut take)?;
                    break;
                }
                Port::Unicast => unicast.receive(&mut take)?,
                Port::Report => match raw {
                    Some(raw) => raw.receive(now, &mut |from, bytes| take(Batch::one(from, bytes)))?,
                    None => false,
                },
            };
            // The frames behind an announcement are of use only once it was acted upon (LD-4).
            if !more || announced.take() {
                break;
            }
        }
        if let (Some(raw), Some(leader)) = (raw, asked_by) {
            raw.doubt(leader);
        }
        Ok(more)
    }

    /// `control` is the control channel that the segment uses now.
    pub fn multicast(
        &mut self,
        to: Destination,
        control: SocketAddrV4,
        epoch: Epoch,
        message: &Message,
    ) -> io::Result<()> {
        let to = match to {
            Destination::Control => control,
            Destination::OtherControl(channel) | Destination::Data(channel) => channel,
        };
        let datagram = self.seal(epoch, message);
        self.counters.messages_sent += 1;
        self.unicast.send(SocketAddr::V4(to), &datagram)
    }

    /// Sends one message to each, sealed once.
    ///
    /// # Errors
    /// The last one; the others got it.
    pub fn send_each(&mut self, to: &[SocketAddr], epoch: Epoch, message: &Message) -> io::Result<()> {
        let datagram = self.seal(epoch, message);
        let mut result = Ok(());
        for to in to {
            if let Err(error) = self.unicast.send(*to, &datagram) {
                result = Err(error);
            }
        }
        self.counters.copies_sent += to.len() as u64;
        self.counters.messages_sent += to.len() as u64;
        result
    }

    /// To one node; a report by the raw socket, where there is one and the node hears it.
    pub fn send(&mut self, now: Instant, to: SocketAddr, epoch: Epoch, message: &Message) -> io::Result<()> {
        let datagram = self.seal(epoch, message);
        self.counters.messages_sent += 1;
        let is_report = matches!(message, Message::Status(_) | Message::Nack(_) | Message::Progress(_));
        if let Some(raw) = self.raw.as_mut().filter(|_| is_report && datagram.len() <= raw::PAYLOAD_MAX)
            && raw.reaches(to, now, || u64::from_be_bytes(seal::random()))
            && raw.send(to, &datagram).is_ok()
        {
            return Ok(());
        }
        self.unicast.send(to, &datagram)
    }

    fn seal(&mut self, epoch: Epoch, message: &Message) -> Vec<u8> {
        self.seq += 1;
        let sender = Sender { node: self.node, boot: self.boot, seq: self.seq, epoch };
        let datagram = self.sealer.seal(sender, message);
        if datagram.len() > MESSAGE_MAX {
            // Only a profile of very many sites is so long; it still goes, in IP fragments.
            log::debug!("a message of {} bytes does not fit one datagram of 1,500", datagram.len());
        }
        datagram
    }

    pub fn send_frames(&mut self, to: SocketAddrV4, frames: &[(&[u8], &[u8])]) -> io::Result<Sent> {
        self.bulk.send_frames(to, frames)
    }
}

/// The raw socket for reports, where one is wanted and may be had; the log says which way they go.
fn open_raw(reports: Reports, interface: Ipv4Addr, port: u16) -> Result<Option<Raw>, String> {
    let raw = match reports {
        Reports::Udp => return Ok(None),
        Reports::Raw | Reports::Auto => Raw::open(interface, port),
    };
    match raw {
        Ok(raw) => {
            log::info!("reports go by raw sockets, IP protocol {}, to leaders that hear it", raw::PROTOCOL);
            Ok(Some(raw))
        }
        Err(error) if reports == Reports::Auto => {
            log::info!("reports go by UDP: a raw socket is refused ({error}), it takes CAP_NET_RAW");
            Ok(None)
        }
        Err(error) => Err(format!(
            "cannot open a raw socket for reports: {error}; give CAP_NET_RAW, or set network.reports to \"auto\" or \
             \"udp\""
        )),
    }
}

/// Whether a message under our own id is one that we sent, or one of ours that somebody repeats: not in a later
/// life than ours, and no more than we have sent in this one. Multicast comes back to its sender.
const fn is_own(sender: &Sender, boot: u32, seq: u64, from_here: bool) -> bool {
    if sender.boot == boot { sender.seq <= seq } else { sender.boot < boot && from_here }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_sent_is_told_from_what_a_copy_of_this_node_sends() {
        let said = |boot, seq| Sender { node: NodeId(1), boot, seq, epoch: Epoch(0) };
        for (sender, from_here, own) in [
            (said(5, 100), true, true),
            (said(5, 100), false, true),
            (said(5, 101), true, false),
            (said(5, 101), false, false),
            (said(4, 900), true, true),
            (said(4, 900), false, false),
            (said(6, 1), true, false),
        ] {
            assert_eq!(is_own(&sender, 5, 100, from_here), own, "{sender:?} {from_here}");
        }
    }
}
