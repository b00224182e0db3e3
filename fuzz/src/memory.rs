//! What parsing may cost in memory.

#[path = "../../tests/allocation/counting.rs"]
mod counting;

pub use counting::Counting;

/// Bytes that any parser may take, for its errors and its fixed parts.
const FIXED: u64 = 8 * 1024;

/// Runs a parser over `data`.
///
/// # Panics
/// If it held more than [`FIXED`] bytes and `factor` for each byte of `data` at a time.
pub fn bounded<T>(data: &[u8], factor: u64, parse: impl FnOnce() -> T) -> T {
    within(data, FIXED, factor, parse)
}

/// The same for what reads through buffers of `fixed` bytes.
pub fn within<T>(data: &[u8], fixed: u64, factor: u64, parse: impl FnOnce() -> T) -> T {
    let (value, used) = counting::during(parse);
    let most = fixed + factor * data.len() as u64;
    assert!(used.peak <= most, "{} bytes were taken for {} bytes, {most} are allowed", used.peak, data.len());
    value
}
