//! Real time: what the hour is, and waiting for something.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970, the clock of files.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Waits until `look` finds something; the limit is generous, for a busy machine.
pub fn wait_for<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if start.elapsed().as_secs() >= seconds {
            return Err(format!("not within {seconds} s: {what}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
