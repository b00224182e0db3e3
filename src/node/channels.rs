//! The datagram sockets of a node and the envelopes that pass through them.

use crate::io::fault::Loss;
use crate::io::multicast::{Batch, Bulk, Group, Sent, Unicast};
use crate::node::config::Config;
use crate::node::data_channels::DataChannels;
use crate::proto::engine::{Channel, Destination};
use crate::wire::envelope::{ENVELOPE_MAGIC, MESSAGE_MAX, Message, Opened, Sealer, Sender};
use crate::wire::id::{Epoch, NodeId};
use crate::wire::session::FRAME_MAGIC;
use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, RawFd};

/// Batches read from a data channel before the other sockets have their turn: work of a few milliseconds.
const DATA_SHARE: usize = 8;
/// The same for messages, which are single datagrams.
const MESSAGE_SHARE: usize = 256;

/// Frames that came together.
pub type Frames<'a, 'bytes> = &'a mut dyn Iterator<Item = &'bytes [u8]>;

/// A socket of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Control,
    Data,
    Unicast,
}

impl Port {
    pub const ALL: [Self; 3] = [Self::Control, Self::Data, Self::Unicast];

    /// The multicast channel that is heard here.
    pub const fn channel(self) -> Option<Channel> {
        match self {
            Self::Control => Some(Channel::Control),
            Self::Data => Some(Channel::Data),
            Self::Unicast => None,
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
    pub data: DataChannels,
    unicast: Unicast,
    interface: Ipv4Addr,
    ttl: u32,
    bulk: Bulk,
    control_channel: SocketAddrV4,
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
        Ok(Self {
            control,
            data: DataChannels::new(config.interface, config.control_channel),
            unicast,
            interface: config.interface,
            ttl: config.ttl,
            bulk,
            control_channel: config.control_channel,
            node: sealer.certificate().node(),
            sealer,
            boot,
            seq: 0,
            loss: Loss::new(config.loss_pct, config.loss_seed),
            counters: Counters::default(),
        })
    }

    /// The sockets that a node has from its start; those of the data channels come with its groups.
    pub fn fds(&self) -> [(Port, RawFd); 2] {
        [(Port::Control, self.control.as_raw_fd()), (Port::Unicast, self.unicast.as_raw_fd())]
    }

    pub fn datagram_addr(&self) -> io::Result<SocketAddr> {
        self.unicast.local_addr()
    }

    /// Joins the groups anew on an interface that came back.
    pub fn rejoin(&mut self) -> io::Result<()> {
        self.unicast.set_interface(self.interface)?;
        self.bulk.set_interface(self.interface)?;
        self.control.rejoin(self.interface, self.interface)?;
        self.data.rejoin(self.interface)
    }

    /// Moves to another address of the interface: the sockets that send are new ones.
    pub fn move_to(&mut self, interface: Ipv4Addr) -> io::Result<()> {
        let port = self.unicast.local_addr()?.port();
        let mut unicast = Unicast::bind(interface, port, self.ttl)?;
        let mut bulk = Bulk::bind(interface, self.ttl)?;
        self.control.rejoin(self.interface, interface)?;
        self.data.rejoin(interface)?;
        unicast.sent_bytes = self.unicast.sent_bytes;
        unicast.sent_datagrams = self.unicast.sent_datagrams;
        unicast.overflows = self.unicast.overflows;
        bulk.sent_bytes = self.bulk.sent_bytes;
        bulk.sent_datagrams = self.bulk.sent_datagrams;
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
        self.control.overflows as u64 + self.data.drops() + self.unicast.overflows as u64
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
        port: Port,
        inbox: &mut Vec<(SocketAddr, Opened)>,
        take_frames: &mut dyn FnMut(Frames<'_, '_>),
    ) -> io::Result<bool> {
        let Self { control, data, unicast, sealer, loss, counters, .. } = self;
        let announced = Cell::new(false);
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
                        Ok(opened) => {
                            counters.messages_received += 1;
                            announced.set(matches!(opened.message, Message::Announce(_)));
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
        for _ in 0..MESSAGE_SHARE {
            let more = match port {
                Port::Control => control.receive(&mut take)?,
                Port::Data => return data.receive(DATA_SHARE, &announced, &mut take),
                Port::Unicast => unicast.receive(&mut take)?,
            };
            if !more {
                return Ok(false);
            }
            if announced.take() {
                // The frames behind it are of use only once it was acted upon (LD-4).
                return Ok(true);
            }
        }
        Ok(true)
    }

    pub fn multicast(&mut self, to: Destination, epoch: Epoch, message: &Message) -> io::Result<()> {
        let to = match to {
            Destination::Control => self.control_channel,
            Destination::Data(channel) => channel,
        };
        self.send(SocketAddr::V4(to), epoch, message)
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

    pub fn send(&mut self, to: SocketAddr, epoch: Epoch, message: &Message) -> io::Result<()> {
        let datagram = self.seal(epoch, message);
        self.counters.messages_sent += 1;
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
