//! The log: one line per event on standard error, for a person at a terminal or for the journal.
//!
//! Under systemd a line begins with its severity (`<4>`), which the journal takes off and stores; it adds
//! the time itself. Elsewhere a line begins with the time of day in UTC. The clock is an argument, for
//! only two files of the tree may read one (design D1).

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write;
use std::sync::OnceLock;

/// Reads the wall clock: nanoseconds since 1970.
pub type WallClock = fn() -> u64;

struct Backend {
    level: LevelFilter,
    journal: bool,
    now: WallClock,
}

static BACKEND: OnceLock<Backend> = OnceLock::new();

/// Starts logging; a second call changes nothing.
pub fn start(level: LevelFilter, now: WallClock) {
    let backend = BACKEND.get_or_init(|| Backend { level, journal: is_journal(), now });
    if log::set_logger(backend).is_ok() {
        log::set_max_level(level);
    }
}

/// A line on standard error as it is, for what goes wrong before the log is started: a caller at a terminal
/// wants `FILE:LINE: MESSAGE` and nothing before it.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", one_line(text));
}

/// Whether standard error is a stream of the journal: systemd names its device and inode.
fn is_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    nix::sys::stat::fstat(std::io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

impl Log for Backend {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let message = record.args().to_string();
            let line = if self.journal {
                journal_line(record.level(), &message)
            } else {
                terminal_line(record.level(), (self.now)(), &message)
            };
            // A log that cannot be written has nobody to tell.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// syslog(3) severities.
const fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn journal_line(level: Level, message: &str) -> String {
    format!("<{}>{}\n", severity(level), one_line(message))
}

fn terminal_line(level: Level, now_ns: u64, message: &str) -> String {
    let ms = now_ns / 1_000_000;
    let (h, m, s) = (ms / 3_600_000 % 24, ms / 60_000 % 60, ms / 1_000 % 60);
    let ms = ms % 1_000;
    let word = match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug => "debug: ",
        Level::Trace => "trace: ",
    };
    format!("{h:02}:{m:02}:{s:02}.{ms:03} {word}{}\n", one_line(message))
}

/// What comes from elsewhere must not forge a second line (T28).
fn one_line(message: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    message.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_and_how_bad() {
        let noon = (12 * 3_600 + 34 * 60 + 56) * 1_000_000_000 + 7_000_000;
        assert_eq!(terminal_line(Level::Warn, noon, "x"), "12:34:56.007 warning: x\n");
        assert_eq!(journal_line(Level::Error, "x"), "<3>x\n");
    }

    #[test]
    fn a_message_cannot_forge_a_second_line() {
        assert_eq!(journal_line(Level::Info, "a\n<3>b\u{1b}"), "<6>a\\n<3>b\\u{1b}\n");
    }
}
