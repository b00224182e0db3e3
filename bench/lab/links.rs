//! How fast and how good the links of a segment are: options that all scenarios share.

use crate::units;
use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// The sender's own interface: its sockets feel the queue.
    Sender,
    /// A switch behind it: what does not fit is lost without a word.
    Ports,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Offloads {
    /// On where nothing impairs the links, else off.
    Auto,
    On,
    /// Every packet on the links is of wire size.
    Off,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Links {
    /// Receivers, without the sender.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub members: u8,
    /// Rate of the bottleneck: a number with kbit, mbit or gbit behind it.
    #[arg(long, value_parser = units::rate)]
    pub rate: Option<u64>,
    /// Where the rate is: the sender's own link, or the bridge's port of every member.
    #[arg(long, value_enum, default_value_t = Place::Sender)]
    pub bottleneck: Place,
    /// Bytes that may wait before the bottleneck.
    #[arg(long, default_value = "256K", value_parser = units::bytes)]
    pub queue: u64,
    /// Percent of packets that each member loses.
    #[arg(long, default_value_t = 0.0, value_parser = units::percent)]
    pub loss: f64,
    /// Mean packets of a loss: 1 means that losses are independent, more that they come in bursts.
    #[arg(long, default_value_t = 1.0, value_parser = units::burst)]
    pub burst: f64,
    /// Delay on the way to the members, with ms or us behind it; answers come at once.
    #[arg(long, default_value = "0ms", value_parser = units::micros)]
    pub delay: u64,
    /// The delay varies evenly by so much in both directions; packets overtake each other.
    #[arg(long, default_value = "0ms", value_parser = units::micros)]
    pub jitter: u64,
    /// Percent of packets that skip the delay.
    #[arg(long, default_value_t = 0.0, value_parser = units::percent)]
    pub reorder: f64,
    /// MTU of all links, from which the payload of a frame follows.
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u32).range(1_280..=9_000))]
    pub payload_mtu: u32,
    /// Segmentation offload of the links.
    #[arg(long, value_enum, default_value_t = Offloads::Auto)]
    pub offloads: Offloads,
    /// Of the relay that delays; the kernel draws losses from its own generator.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Links {
    pub fn offloads_on(&self) -> bool {
        match self.offloads {
            Offloads::On => !self.is_delayed(),
            Offloads::Off => false,
            Offloads::Auto => self.rate.is_none() && self.loss == 0.0 && !self.is_delayed(),
        }
    }

    pub fn is_delayed(&self) -> bool {
        self.delay > 0 || self.jitter > 0
    }

    /// Chances per packet, of 1, that a burst of losses begins and that it ends.
    pub fn bursts(&self) -> (f64, f64) {
        let end = 1.0 / self.burst;
        let loss = self.loss / 100.0;
        ((loss * end / (1.0 - loss)).min(1.0), end)
    }
}
