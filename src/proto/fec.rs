//! A systematic erasure code over GF(256): any `k` of a block's frames give back the block (design D4).
//!
//! Frame `j < k` is the block's own bytes. Parity frame `i >= k` is the sum over all source frames of
//! `source[j] / (i + j)`, in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1. These factors form a Cauchy matrix:
//! every square part of it can be inverted, by a formula, so rebuilding costs only (frames missing) x k
//! products, little where little is lost.
//!
//! The work is all in [`combine`]. It multiplies nothing while it reads frames: a frame is added to one
//! of 16 sums for each half of its factor, and only the 32 sums are weighted in the end. Plain XOR loops
//! over words are what the compiler turns into vector instructions without `unsafe`.

use thiserror::Error;

/// Frames that a block can have, source and parity together.
pub const SYMBOLS_MAX: u16 = 255;

/// A block that cannot be rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unrecoverable {
    #[error("{missing} frames are missing, only {parities} parity frames are at hand")]
    TooFew { missing: usize, parities: usize },
    #[error("frame {0} of the block is named twice, or is not of its kind")]
    Frame(u16),
    #[error("a parity frame has not the length of a frame")]
    Length,
}

/// Source frames of a block of `len` bytes.
fn source_frames(len: usize, frame_len: usize) -> usize {
    len.div_ceil(frame_len)
}

/// Computes parity frame `index` of a block into `out`, whose length is the length of a frame. A short
/// last source frame counts as filled up with zeros.
///
/// # Panics
/// If `index` is not that of a parity frame: the sender's plan never names another.
pub fn parity(index: u16, block: &[u8], out: &mut [u8]) {
    let k = source_frames(block.len(), out.len());
    assert!(usize::from(index) >= k && index < SYMBOLS_MAX, "parity {index} of a block of {k} frames");
    let frame_len = out.len();
    let sources = || block.chunks(frame_len).enumerate().map(|(j, frame)| (factor(index, j as u16), frame));
    combine(sources, out);
}

/// Rebuilds the frames `missing` of a block in place from as many parity frames. What stands in the
/// place of missing frames does not matter.
pub fn recover(
    block: &mut [u8],
    frame_len: usize,
    missing: &[u16],
    parities: &[(u16, &[u8])],
) -> Result<(), Unrecoverable> {
    let count = missing.len();
    let Some(parities) = parities.get(..count) else {
        return Err(Unrecoverable::TooFew { missing: count, parities: parities.len() });
    };
    let k = source_frames(block.len(), frame_len) as u16;
    let mut lost = [false; SYMBOLS_MAX as usize + 1];
    for (&index, is_source) in
        missing.iter().zip(std::iter::repeat(true)).chain(parities.iter().map(|(index, _)| (index, false)))
    {
        if index >= SYMBOLS_MAX || (index < k) != is_source || lost[usize::from(index)] {
            return Err(Unrecoverable::Frame(index));
        }
        lost[usize::from(index)] = true;
    }
    if parities.iter().any(|(_, frame)| frame.len() != frame_len) {
        return Err(Unrecoverable::Length);
    }

    // What the missing frames alone contribute to each parity frame.
    let mut shares = vec![0; count * frame_len];
    for (share, &(index, frame)) in shares.chunks_mut(frame_len).zip(parities) {
        let present = || {
            let sources = block.chunks(frame_len).enumerate();
            let factors = sources.map(|(j, frame)| (factor(index, j as u16), frame));
            factors.zip(lost).filter(|(_, lost)| !lost).map(|(term, _)| term)
        };
        combine(|| present().chain(std::iter::once((1, frame))), share);
    }
    let mut rebuilt = vec![0; frame_len];
    for &index in missing {
        let row: Vec<u8> =
            parities.iter().map(|&(p, _)| inverse_factor(index, p, missing, parities)).collect();
        combine(|| row.iter().copied().zip(shares.chunks(frame_len)), &mut rebuilt);
        let place = block.chunks_mut(frame_len).nth(usize::from(index)).expect("checked to be below k");
        place.copy_from_slice(&rebuilt[..place.len()]);
    }
    Ok(())
}

/// What source frame `j` is multiplied by in parity frame `index`.
const fn factor(index: u16, j: u16) -> u8 {
    inverse((index ^ j) as u8)
}

/// The entry of the inverse of the Cauchy matrix over rows `parities` and columns `missing` that turns
/// the share of parity frame `p` into its part of source frame `j`.
fn inverse_factor(j: u16, p: u16, missing: &[u16], parities: &[(u16, &[u8])]) -> u8 {
    let log = |a: u16, b: u16| u32::from(LOG[usize::from(a ^ b)]);
    let mut over = 0;
    let mut under = log(p, j);
    for (&m, &(q, _)) in missing.iter().zip(parities) {
        over += log(p, m) + log(q, j);
        under += if q == p { 0 } else { log(p, q) };
        under += if m == j { 0 } else { log(j, m) };
    }
    EXP[((over + 255 * 512 - under) % 255) as usize]
}

/// Bytes that are worked on at once: the 32 sums of this width stay in the first-level cache.
const WIDTH: usize = 512;

/// `out` = the sum of all frames, each times its factor. Frames may be shorter than `out`, as if filled up
/// with zeros.
fn combine<'a, I: Iterator<Item = (u8, &'a [u8])>>(terms: impl Fn() -> I, out: &mut [u8]) {
    for (at, out) in out.chunks_mut(WIDTH).enumerate() {
        let start = at * WIDTH;
        let width = out.len();
        // Sums of the frames by the low half of their factor, then by the high half.
        let mut sums = [[0_u8; WIDTH]; 32];
        for (factor, frame) in terms() {
            let end = frame.len().min(start + width);
            let Some(piece) = frame.get(start..end) else { continue };
            add(&mut sums[usize::from(factor & 15)], piece);
            add(&mut sums[16 + usize::from(factor >> 4)], piece);
        }
        out.fill(0);
        for bit in (0..8).rev() {
            double(out);
            let half = (bit / 4) * 16;
            for low in (0..16).filter(|low| low >> (bit % 4) & 1 == 1) {
                add(out, &sums[half + low][..width]);
            }
        }
    }
}

fn add(sum: &mut [u8], piece: &[u8]) {
    let len = sum.len().min(piece.len());
    let (words, rest) = sum[..len].as_chunks_mut::<8>();
    let (more_words, more_rest) = piece[..len].as_chunks::<8>();
    for (a, b) in words.iter_mut().zip(more_words) {
        *a = (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)).to_ne_bytes();
    }
    for (a, b) in rest.iter_mut().zip(more_rest) {
        *a ^= b;
    }
}

/// Multiplies every byte by x.
fn double(bytes: &mut [u8]) {
    const TOP: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        let value = u64::from_ne_bytes(*word);
        let carry = (value & TOP) >> 7;
        *word = (((value & !TOP) << 1) ^ (carry * u64::from(POLYNOMIAL))).to_ne_bytes();
    }
    for byte in rest {
        *byte = (*byte << 1) ^ ((*byte >> 7) * POLYNOMIAL);
    }
}

const POLYNOMIAL: u8 = 0x1d;
const TABLES: ([u8; 255], [u8; 256]) = tables();
/// Powers of x.
static EXP: [u8; 255] = TABLES.0;
/// Logarithms to the base x; that of 0 is never asked for.
static LOG: [u8; 256] = TABLES.1;

const fn tables() -> ([u8; 255], [u8; 256]) {
    let (mut exp, mut log) = ([0; 255], [0; 256]);
    let mut power: u8 = 1;
    let mut exponent = 0;
    while exponent < 255 {
        exp[exponent] = power;
        log[power as usize] = exponent as u8;
        power = (power << 1) ^ if power & 0x80 == 0 { 0 } else { POLYNOMIAL };
        exponent += 1;
    }
    (exp, log)
}

const fn inverse(value: u8) -> u8 {
    TABLES.0[(255 - TABLES.1[value as usize] as usize) % 255]
}

#[cfg(test)]
mod tests;
