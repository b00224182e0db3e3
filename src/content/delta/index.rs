//! Where the old version of a file holds which bytes: a table from the hash of a short window to one place in
//! every few where it stands.
//!
//! The old file is sampled at fixed steps and the new one looked up at every byte, so any range that both have
//! and that is a step and a window long is found, wherever it stands. Memory is bounded by the table's: for large
//! files the step grows, not the table.

/// Bytes whose hash is looked up. What both files have in common in a shorter run is not found by itself.
pub const WINDOW: usize = 32;
/// Most samples: the table of them takes 16 MiB, the filter 1 MiB.
const SAMPLES_MAX: u64 = 1 << 20;
/// Least distance of samples: closer ones find no more, for copied ranges must be longer to be worth naming.
const STEP_MIN: u64 = 32;
/// Of the filter, by sample: one of so many is set, so most bytes are known to begin no copy at once.
const FILTER_BITS: u64 = 8;

/// A random number for each byte, always the same.
static GEAR: [u64; 256] = gear();

const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state = 0x6661_726d_6361_7374_u64;
    let mut at = 0;
    while at < 256 {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = word ^ (word >> 31);
        at += 1;
    }
    table
}

/// Hash of the last [`WINDOW`] bytes that were pushed: each push moves it by two bits, so older ones are gone.
#[derive(Clone, Copy, Default)]
pub struct Rolling(u64);

impl Rolling {
    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        self.0 = (self.0 << 2).wrapping_add(GEAR[usize::from(byte)]);
    }

    pub fn of(window: &[u8]) -> Self {
        let mut rolling = Self::default();
        window.iter().for_each(|&byte| rolling.push(byte));
        rolling
    }
}

/// The samples of one file.
pub struct Index {
    step: u64,
    /// By the hash's highest bits: its lower half, and the number of the sample; [`FREE`] where none is. Of two
    /// samples with one place the first stays.
    table: Vec<u64>,
    table_shift: u32,
    filter: Vec<u64>,
    filter_shift: u32,
}

const FREE: u64 = u64::MAX;

impl Index {
    /// An empty index for a file of this size.
    pub fn new(size: u64) -> Self {
        let step = size.div_ceil(SAMPLES_MAX).next_power_of_two().max(STEP_MIN);
        let samples = size.div_ceil(step).next_power_of_two().max(64);
        let (slots, bits) = (samples * 2, samples * FILTER_BITS);
        Self {
            step,
            table: vec![FREE; slots as usize],
            table_shift: 64 - slots.trailing_zeros(),
            filter: vec![0; bits as usize / 64],
            filter_shift: 64 - bits.trailing_zeros(),
        }
    }

    /// Distance of samples, in bytes.
    pub const fn step(&self) -> u64 {
        self.step
    }

    /// Bytes of memory that it takes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        (self.table.len() + self.filter.len()) * 8
    }

    /// Notes the window that begins at `at`, a multiple of the step.
    pub fn add(&mut self, at: u64, window: &[u8]) {
        let Rolling(hash) = Rolling::of(window);
        let slot = &mut self.table[(hash >> self.table_shift) as usize];
        if *slot == FREE {
            *slot = (hash << 32) | (at / self.step);
            let bit = hash >> self.filter_shift;
            self.filter[bit as usize / 64] |= 1 << (bit % 64);
        }
    }

    /// Whether a window of this hash may be known. Most that are not are told by this.
    #[inline(always)]
    pub fn may_know(&self, Rolling(hash): Rolling) -> bool {
        let bit = hash >> self.filter_shift;
        self.filter[bit as usize / 64] >> (bit % 64) & 1 == 1
    }

    /// Where in the file a window of this hash begins, if one does; its bytes are not compared.
    pub fn find(&self, Rolling(hash): Rolling) -> Option<u64> {
        let slot = self.table[(hash >> self.table_shift) as usize];
        let known = slot != FREE && slot >> 32 == hash & 0xffff_ffff;
        known.then_some((slot & 0xffff_ffff) * self.step)
    }
}
