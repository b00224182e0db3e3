//! When nothing may start: blackout windows and freezes; and bandwidth windows, see [`bandwidth`](super::bandwidth).

use super::timing::{Cron, NoTiming, instant, rfc3339};
use crate::wire::id::Name;
use std::fmt;
use std::str::FromStr;

const NS_PER_S: u64 = 1_000_000_000;

/// A time in which jobs of a site, or of all sites, do not start, or in which no more than so much is sent of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub name: Name,
    /// `None`: every site.
    pub site: Option<Name>,
    pub opens: Opens,
    /// `None`: until it is lifted, which is a freeze.
    pub lasts_s: Option<u64>,
    /// Bytes per second that each machine may send of content; `None`: no job starts.
    pub rate: Option<u64>,
    pub reason: String,
}

/// When a window begins.
#[derive(Clone, Debug, PartialEq)]
pub enum Opens {
    At(u64),
    Cron(Cron),
}

/// Why a job does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub window: Name,
    pub text: String,
    /// Nanoseconds since 1970; `None` until it is lifted.
    pub until_ns: Option<u64>,
}

impl Window {
    pub fn is_freeze(&self) -> bool {
        self.lasts_s.is_none() && self.keeps_jobs()
    }

    /// Whether jobs do not start while it is open.
    pub fn keeps_jobs(&self) -> bool {
        self.rate.is_none()
    }

    pub fn covers(&self, site: &Name) -> bool {
        self.site.as_ref().is_none_or(|own| own == site)
    }

    /// Until when it is open, if it is at `now_ns`: the inner `None` where that has no end.
    pub fn open(&self, now_ns: u64) -> Option<Option<u64>> {
        let until = self.end(self.last_opened(now_ns)?);
        until.is_none_or(|until| now_ns < until).then_some(until)
    }

    /// When it opened last.
    pub fn last_opened(&self, now_ns: u64) -> Option<u64> {
        match &self.opens {
            Opens::At(at) => Some(*at).filter(|at| *at <= now_ns),
            Opens::Cron(cron) => cron.last(0, now_ns),
        }
    }

    /// When it ends that opened then; `None` where it is until it is lifted.
    pub fn end(&self, opened_ns: u64) -> Option<u64> {
        self.lasts_s.map(|lasts| opened_ns.saturating_add(lasts.saturating_mul(NS_PER_S)))
    }
}

/// The window that keeps a job of `site` from starting at `now_ns`: of several the one that is open longest.
pub fn hold(windows: &[Window], site: &Name, now_ns: u64) -> Option<Hold> {
    let open = windows.iter().filter(|window| window.keeps_jobs() && window.covers(site));
    let open = open.filter_map(|window| Some((window, window.open(now_ns)?)));
    let (window, until_ns) = open.max_by_key(|(_, until)| until.unwrap_or(u64::MAX))?;
    let what = if window.is_freeze() { "frozen" } else { "in blackout" };
    let of = window.site.as_ref().map_or("the farm", Name::as_str);
    let until = until_ns.map_or_else(String::new, |until| format!(" until {}", rfc3339(until)));
    let text = format!("{of} is {what}{until} ({}: {})", window.name, window.reason);
    Some(Hold { window: window.name.clone(), text, until_ns })
}

/// `at 2026-12-24T12:00:00Z`, `cron Europe/Vienna 0 18 * * FRI`
impl fmt::Display for Opens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => write!(f, "at {}", rfc3339(*at)),
            Self::Cron(cron) => write!(f, "cron {cron}"),
        }
    }
}

impl FromStr for Opens {
    type Err = NoTiming;

    fn from_str(text: &str) -> Result<Self, NoTiming> {
        match text.split_once(' ') {
            Some(("at", rest)) => Ok(Self::At(instant(rest)?)),
            Some(("cron", rest)) => Ok(Self::Cron(rest.parse()?)),
            _ => Err(NoTiming::Instant(text.to_owned())),
        }
    }
}
