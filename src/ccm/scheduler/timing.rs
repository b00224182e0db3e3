//! Times as operators write them: instants, and cron expressions in a time zone.
//!
//! A clock that goes forward skips an hour, one that goes back has an hour twice. An expression with one time of day
//! starts once on such days: behind the gap, if its time was skipped, and the first time, if its time comes twice. One
//! with several times of day starts at each that the clock shows, in the doubled hour twice.

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use std::fmt;
use std::str::FromStr;

const NS_PER_S: u64 = 1_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTiming {
    #[error("{0:?} is no time: give it as 2026-11-22T03:00:00Z, or as 2026-11-22T03:00:00 ZONE")]
    Instant(String),
    #[error("{0:?} is no time zone: give its name as Europe/Vienna, or UTC")]
    Zone(String),
    #[error("{text:?} is no cron expression ({why}): minute, hour, day of month, month, day of week")]
    Cron { text: String, why: String },
    #[error("{0:?} is never: no day fits")]
    Never(String),
}

/// A cron expression in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron {
    pattern: Box<croner::Cron>,
    text: String,
    zone: TimeZone,
    zone_name: String,
}

impl Cron {
    /// Reads the five fields of crontab(5), or six with seconds in front; `@daily` and the like are understood.
    ///
    /// # Errors
    /// What is no expression or no zone, and what fits no day at all.
    pub fn new(text: &str, zone_name: &str) -> Result<Self, NoTiming> {
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let pattern = parser
            .parse(text)
            .map_err(|error| NoTiming::Cron { text: text.to_owned(), why: error.to_string() })?;
        let zone = zone(zone_name)?;
        let pattern = Box::new(pattern);
        let cron = Self { pattern, text: text.trim().to_owned(), zone, zone_name: zone_name.to_owned() };
        // 29 February comes at least every eighth year.
        match cron.next(0) {
            Some(_) => Ok(cron),
            None => Err(NoTiming::Never(cron.text)),
        }
    }

    /// The first time after `after_ns`.
    pub fn next(&self, after_ns: u64) -> Option<u64> {
        let start = self.zoned(after_ns)?;
        nanos(&self.pattern.find_next_occurrence(&start, false).ok()?)
    }

    /// The last time after `after_ns` and not after `until_ns`.
    pub fn last(&self, after_ns: u64, until_ns: u64) -> Option<u64> {
        let start = self.zoned(until_ns)?;
        let found = nanos(&self.pattern.find_previous_occurrence(&start, true).ok()?)?;
        // What is skipped and made up for behind the gap lies after the time for which it was found.
        let last = (found <= until_ns).then_some(found);
        last.filter(|last| *last > after_ns)
    }

    /// Whole seconds, for expressions know no parts of them.
    fn zoned(&self, ns: u64) -> Option<Zoned> {
        let seconds = i64::try_from(ns / NS_PER_S).ok()?;
        Some(Timestamp::from_second(seconds).ok()?.to_zoned(self.zone.clone()))
    }
}

/// `Europe/Vienna 0 3 * * *`
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.zone_name, self.text)
    }
}

impl FromStr for Cron {
    type Err = NoTiming;

    fn from_str(text: &str) -> Result<Self, NoTiming> {
        let (zone, pattern) = text.split_once(' ').ok_or_else(|| NoTiming::Zone(text.to_owned()))?;
        Self::new(pattern, zone)
    }
}

/// Reads `2026-11-22T03:00:00Z`, with any offset, or a time of day in a zone: `2026-11-22T03:00 Europe/Vienna`.
/// Of a time that comes twice it is the first, of one that is skipped the one as long after midnight.
///
/// # Errors
/// What is no time, or lies before 1970 or after 2550.
pub fn instant(text: &str) -> Result<u64, NoTiming> {
    let no_time = || NoTiming::Instant(text.to_owned());
    let at = match text.trim().rsplit_once(' ') {
        Some((time, name)) if name.starts_with(|letter: char| letter.is_ascii_alphabetic()) => {
            let time: DateTime = time.parse().map_err(|_| no_time())?;
            time.to_zoned(zone(name)?).map_err(|_| no_time())?.timestamp()
        }
        _ => text.trim().parse::<Timestamp>().map_err(|_| no_time())?,
    };
    u64::try_from(at.as_nanosecond()).map_err(|_| no_time())
}

/// `2026-11-22T03:00:00Z`
pub fn rfc3339(ns: u64) -> String {
    let seconds = i64::try_from(ns / NS_PER_S).ok();
    seconds
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(String::new, |at| at.to_string())
}

fn zone(name: &str) -> Result<TimeZone, NoTiming> {
    TimeZone::get(name).map_err(|_| NoTiming::Zone(name.to_owned()))
}

fn nanos(at: &Zoned) -> Option<u64> {
    u64::try_from(at.timestamp().as_nanosecond()).ok()
}
