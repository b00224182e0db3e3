//! Qdiscs: what a link does to the packets it sends. `tbf` makes it slow, `netem` makes it bad.

use crate::message::Request;

/// Bytes of `struct tcmsg`: family u8, pad, index i32, handle, parent, info u32.
const FIXED_BYTES: usize = 20;
/// `TC_H_ROOT`: the qdisc of the link itself.
const ROOT: u32 = u32::MAX;
/// Nanoseconds of one tick of the kernel's packet scheduler (`PSCHED_SHIFT` 6).
const TICK_NANOS: u64 = 64;
/// `TC_LINKLAYER_ETHERNET`: the kernel computes times itself and wants no table of them.
const LINKLAYER_ETHERNET: u8 = 1;

const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
const NETEM_REORDER: u16 = 3;
const NETEM_CORRUPT: u16 = 4;
const NETEM_LOSS: u16 = 5;
const NETEM_LOSS_GE: u16 = 2;
const NETEM_LATENCY64: u16 = 10;
const NETEM_JITTER64: u16 = 11;

/// A token bucket: the link sends `rate` on average and `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes per second.
    pub rate: u64,
    /// Bytes that may go out at once; at least an MTU, and with segmentation offload 64 KiB.
    pub burst: u32,
    /// Bytes that may wait; what comes on top is dropped, as in a switch with a short queue.
    pub limit: u32,
}

/// A probability as netem counts it: a share of 2^32 - 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chance(u32);

impl Chance {
    pub const NEVER: Self = Self(0);

    /// `percent` is cut to 0-100; what is no number is never.
    pub fn percent(percent: f64) -> Self {
        // A cast from f64 cuts at the bounds and makes 0 of what is no number.
        Self((percent / 100.0 * f64::from(u32::MAX)).round_ties_even() as u32)
    }
}

/// Loss in bursts by two states (Gilbert-Elliott): good loses nothing, bad loses all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursts {
    /// From good to bad, per packet.
    pub begin: Chance,
    /// From bad to good, per packet; its inverse is the mean length of a burst.
    pub end: Chance,
}

/// A bad link. The default does nothing but hold up to 1,000 packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impairment {
    pub delay_nanos: u64,
    /// Delay varies by so much in both directions, evenly.
    pub jitter_nanos: u64,
    /// Independent loss; not together with `bursts`, which then decides alone.
    pub loss: Chance,
    pub bursts: Option<Bursts>,
    pub duplicate: Chance,
    /// So many packets skip the delay, and so overtake others.
    pub reorder: Chance,
    /// One bit of a packet is flipped.
    pub corrupt: Chance,
    /// Packets that may wait; with a delay this bounds the rate.
    pub limit_packets: u32,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            delay_nanos: 0,
            jitter_nanos: 0,
            loss: Chance::NEVER,
            bursts: None,
            duplicate: Chance::NEVER,
            reorder: Chance::NEVER,
            corrupt: Chance::NEVER,
            limit_packets: 1_000,
        }
    }
}

fn fixed(link: u32) -> [u8; FIXED_BYTES] {
    let mut bytes = [0; FIXED_BYTES];
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[12..16].copy_from_slice(&ROOT.to_ne_bytes());
    bytes
}

fn replace(doing: &'static str, link: u32, kind: &str) -> Request {
    let mut request = Request::new(doing, libc::RTM_NEWQDISC, libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
    request.fixed(&fixed(link)).string(libc::TCA_KIND, kind);
    request
}

/// The request that gives a link back its usual queue.
pub(crate) fn remove(link: u32) -> Request {
    let mut request = Request::new("remove qdisc", libc::RTM_DELQDISC, 0);
    request.fixed(&fixed(link));
    request
}

/// The request that puts a token bucket on a link, in place of what is there.
pub(crate) fn token_bucket(link: u32, bucket: TokenBucket) -> Request {
    // struct tc_tbf_qopt: two struct tc_ratespec of 12 bytes (average, peak), limit, buffer, MTU.
    let mut parms = [0; 36];
    parms[1] = LINKLAYER_ETHERNET;
    let narrow = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    parms[8..12].copy_from_slice(&narrow.to_ne_bytes());
    parms[24..28].copy_from_slice(&bucket.limit.to_ne_bytes());
    let mut request = replace("set token bucket", link, "tbf");
    request.hold(libc::TCA_OPTIONS, |options| {
        options.attribute(TBF_PARMS, &parms).u32(TBF_BURST, bucket.burst);
        if bucket.rate > u64::from(u32::MAX) {
            options.attribute(TBF_RATE64, &bucket.rate.to_ne_bytes());
        }
    });
    request
}

/// The request that puts an impairment on a link, in place of what is there.
pub(crate) fn impairment(link: u32, bad: Impairment) -> Request {
    let ticks = |nanos: u64| u32::try_from(nanos / TICK_NANOS).unwrap_or(u32::MAX);
    // Reordering needs a gap; 1 lets the chance alone decide.
    let gap = u32::from(bad.reorder != Chance::NEVER);
    // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
    let loss = if bad.bursts.is_some() { 0 } else { bad.loss.0 };
    let head =
        [ticks(bad.delay_nanos), bad.limit_packets, loss, gap, bad.duplicate.0, ticks(bad.jitter_nanos)];
    let mut request = replace("set netem", link, "netem");
    request.hold(libc::TCA_OPTIONS, |options| {
        options.fixed(&joined(&head));
        // Each with its correlation, which is none: the kernel's is known to be wrong.
        if bad.reorder != Chance::NEVER {
            options.attribute(NETEM_REORDER, &joined(&[bad.reorder.0, 0]));
        }
        if bad.corrupt != Chance::NEVER {
            options.attribute(NETEM_CORRUPT, &joined(&[bad.corrupt.0, 0]));
        }
        if let Some(bursts) = bad.bursts {
            options.nest(NETEM_LOSS, |loss| {
                // struct tc_netem_gemodel: p, r, h (what passes in bad), k1 (what is lost in good).
                loss.attribute(NETEM_LOSS_GE, &joined(&[bursts.begin.0, bursts.end.0, 0, 0]));
            });
        }
        // In nanoseconds, where ticks are too coarse or too few to say it; older kernels read the ticks.
        let exact = |nanos: u64| u64::from(ticks(nanos)) * TICK_NANOS == nanos;
        if !exact(bad.delay_nanos) {
            options.attribute(NETEM_LATENCY64, &bad.delay_nanos.to_ne_bytes());
        }
        if !exact(bad.jitter_nanos) {
            options.attribute(NETEM_JITTER64, &bad.jitter_nanos.to_ne_bytes());
        }
    });
    request
}

fn joined(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests;
