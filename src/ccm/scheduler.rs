//! When jobs start by themselves, and what stands in their way (SC-1..SC-16). Pure.
//!
//! A [`Schedule`] says what starts it, its [`Trigger`]: a time, a cron expression, a change of staging, the end of
//! another job. [`Schedule::due`] compares that with the time: what was planned for now or before is due (B-13).
//! What has been dealt with is kept in the schedule, so a controller that was away, or was killed, starts nothing
//! twice and knows what it missed.
//!
//! [`conflict`] says which jobs get in each other's way, [`window`] when nothing may start, [`bandwidth`] how much may
//! be sent, [`lookahead`] what will be, [`settling`] when staging has come to rest.

pub mod bandwidth;
pub mod conflict;
pub mod lookahead;
pub mod settling;
#[cfg(test)]
mod tests;
pub mod timing;
pub mod window;

use super::api::types::{Phase, Policy};
use super::model::JobKind;
use crate::wire::id::{JobId, Name};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use timing::{Cron, NoTiming, instant, rfc3339};

const NS_PER_S: u64 = 1_000_000_000;
/// A clock that stands so far before what was dealt with last was set back: the schedule goes by the new time.
const CLOCK_SET_BACK_NS: u64 = 24 * 3_600 * NS_PER_S;

/// A job that starts by itself (JT-19).
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub name: Name,
    pub site: Name,
    pub kind: JobKind,
    pub trigger: Trigger,
    pub enabled: bool,
    /// What its jobs go by, beside what their site says.
    pub policy: Policy,
    /// A start that was missed is made up for within so many seconds.
    pub grace_s: u32,
    /// Times up to this one have been dealt with, nanoseconds since 1970.
    pub since_ns: u64,
    /// Ends of runs up to this one have been dealt with.
    pub seen_end: u64,
    /// When its trigger was called last, if it waits for calls; nanoseconds since 1970, 0 before.
    pub called_ns: u64,
    /// What stood in staging when it last started a job; empty before the first look.
    pub staging: String,
    /// The job that it started last.
    pub last_job: Option<JobId>,
    /// What became of it when it was due last, and when that was; 0 before.
    pub last_text: String,
    pub last_ns: u64,
}

/// What starts a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// Once, nanoseconds since 1970.
    At(u64),
    Cron(Cron),
    /// When staging has changed and then rested for so many seconds (ST-4).
    Change {
        quiet_s: u32,
    },
    /// When a job of another site has ended so (SC-2).
    After {
        site: Name,
        ended: Ended,
    },
    /// When somebody outside calls this name, at most once in so many seconds (SC-14).
    Called {
        name: Name,
        gap_s: u32,
    },
}

/// How a job has to end to start another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With something new live, on all nodes or on some.
    Live,
    Failed,
    Any,
}

impl Ended {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Live, "live"), (Self::Failed, "failed"), (Self::Any, "any")];

    const fn fits(self, phase: Phase) -> bool {
        match self {
            Self::Live => matches!(phase, Phase::Done | Phase::Partial),
            Self::Failed => matches!(phase, Phase::Failed),
            Self::Any => phase.is_over(),
        }
    }
}

/// The end of a run, numbered in the order in which they ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub number: u64,
    pub site: Name,
    pub phase: Phase,
    pub job: JobId,
}

/// What follows from a trigger and the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    No,
    /// A job is to start; `why` is a sentence for the history.
    Start {
        why: String,
    },
    /// The start was missed by more than the grace.
    Missed {
        why: String,
    },
    /// The clock was set back by more than a day.
    ClockSetBack,
}

impl Schedule {
    /// A start that was missed is made up for within so many seconds, if nothing else is said.
    pub const GRACE_DEFAULT_S: u32 = 300;

    /// One that has started nothing yet, from `since_ns` on: enabled, of no policy of its own, with
    /// [`Schedule::GRACE_DEFAULT_S`].
    pub fn new(name: Name, site: Name, kind: JobKind, trigger: Trigger, since_ns: u64) -> Self {
        Self {
            name,
            site,
            kind,
            trigger,
            enabled: true,
            policy: Policy::default(),
            grace_s: Self::GRACE_DEFAULT_S,
            since_ns,
            seen_end: 0,
            called_ns: 0,
            staging: String::new(),
            last_job: None,
            last_text: String::new(),
            last_ns: 0,
        }
    }

    /// What is due at `now_ns`. Of several starts that were missed one is made up for. `ends` are those of runs
    /// beyond [`Schedule::seen_end`]. Changes of staging are [`settling`]'s and never due here.
    pub fn due(&self, ends: &[End], now_ns: u64) -> Due {
        if !self.enabled {
            return Due::No;
        }
        if self.since_ns > now_ns.saturating_add(CLOCK_SET_BACK_NS) {
            return Due::ClockSetBack;
        }
        let planned = match &self.trigger {
            Trigger::At(at) => Some(*at).filter(|at| *at > self.since_ns && *at <= now_ns),
            Trigger::Cron(cron) => cron.last(self.since_ns, now_ns),
            Trigger::Change { .. } => None,
            Trigger::After { site, ended } => {
                let fits =
                    |end: &&End| end.number > self.seen_end && end.site == *site && ended.fits(end.phase);
                return match ends.iter().rfind(fits) {
                    Some(end) => {
                        Due::Start { why: format!("job {} of {} ended {}", end.job, end.site, end.phase) }
                    }
                    None => Due::No,
                };
            }
            Trigger::Called { name, .. } => {
                return match self.pending_call() {
                    Some(from) if from <= now_ns => Due::Start { why: format!("{name} was called") },
                    _ => Due::No,
                };
            }
        };
        let Some(planned) = planned else { return Due::No };
        let late_s = (now_ns - planned) / NS_PER_S;
        let why = match late_s {
            0..=1 => format!("planned for {}", rfc3339(planned)),
            late => format!("planned for {}, {late} s ago", rfc3339(planned)),
        };
        if late_s > u64::from(self.grace_s) {
            let why = format!("{why}, which is beyond its grace of {} s: skipped", self.grace_s);
            return Due::Missed { why };
        }
        Due::Start { why }
    }

    /// Whether it is the end of another job that starts it.
    pub const fn is_after_a_job(&self) -> bool {
        matches!(self.trigger, Trigger::After { .. })
    }

    /// From when on a call that was not dealt with may start it; `None` where there is none.
    pub fn pending_call(&self) -> Option<u64> {
        let Trigger::Called { gap_s, .. } = &self.trigger else { return None };
        let gap_ns = if self.last_ns == 0 { 0 } else { u64::from(*gap_s) * NS_PER_S };
        (self.called_ns > self.since_ns).then(|| self.called_ns.max(self.last_ns.saturating_add(gap_ns)))
    }

    /// From when on something may be due by the clock; `None`: never, unless it changes or the clock is set back.
    pub fn wakes(&self) -> Option<u64> {
        match &self.trigger {
            _ if !self.enabled => None,
            Trigger::At(at) => Some(*at).filter(|at| *at > self.since_ns),
            Trigger::Cron(cron) => cron.next(self.since_ns),
            Trigger::Called { .. } => self.pending_call(),
            Trigger::Change { .. } | Trigger::After { .. } => None,
        }
    }

    /// When it starts next by the clock; `None` where that depends on something else, or never again.
    pub fn next(&self, now_ns: u64) -> Option<u64> {
        let after = now_ns.max(self.since_ns);
        match &self.trigger {
            _ if !self.enabled => None,
            Trigger::At(at) => Some(*at).filter(|at| *at > self.since_ns),
            Trigger::Cron(cron) => cron.next(after),
            Trigger::Called { .. } => self.pending_call(),
            Trigger::Change { .. } | Trigger::After { .. } => None,
        }
    }
}

/// Sites that would start each other in a circle if `new` were added: the way round, or nothing.
pub fn circle(schedules: &[Schedule], new: &Schedule) -> Option<Vec<Name>> {
    let Trigger::After { site: cause, .. } = &new.trigger else { return None };
    // From what `new` works on to everything that follows from it, back to its own cause.
    let mut ways = vec![vec![new.site.clone()]];
    let mut visited = BTreeSet::from([new.site.clone()]);
    while let Some(way) = ways.pop() {
        let at = way.last().expect("a way has a start");
        if at == cause {
            return Some(way);
        }
        for schedule in schedules.iter().filter(|schedule| schedule.name != new.name) {
            let Trigger::After { site, .. } = &schedule.trigger else { continue };
            if site == at && visited.insert(schedule.site.clone()) {
                ways.push(way.iter().cloned().chain([schedule.site.clone()]).collect());
            }
        }
    }
    None
}

/// The form in the database and in the API: `at 2026-11-22T03:00:00Z`, `cron Europe/Vienna 0 3 * * *`,
/// `change 30`, `after www live`, `called balancer 10`.
impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => write!(f, "at {}", rfc3339(*at)),
            Self::Cron(cron) => write!(f, "cron {cron}"),
            Self::Change { quiet_s } => write!(f, "change {quiet_s}"),
            Self::After { site, ended } => {
                let (_, word) = Ended::ALL.iter().find(|(known, _)| known == ended).expect("all are listed");
                write!(f, "after {site} {word}")
            }
            Self::Called { name, gap_s } => write!(f, "called {name} {gap_s}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTrigger {
    #[error(transparent)]
    Timing(#[from] NoTiming),
    #[error("staging has to rest for 1 to 86,400 seconds, not {0:?}")]
    Quiet(String),
    #[error("{0:?} is no site and end of a job: give SITE and `live`, `failed` or `any`")]
    After(String),
    #[error("{0:?} is no call: give NAME, and how many seconds at least lie between two starts, 1 to 86,400")]
    Called(String),
    #[error(
        "{0:?} starts no job: `at TIME`, `cron ZONE EXPRESSION`, `change SECONDS`, `after SITE END`, `called NAME \
         SECONDS` do"
    )]
    Unknown(String),
}

/// As [`Trigger`] is displayed; a time may also be given as in [`instant`].
impl FromStr for Trigger {
    type Err = NoTrigger;

    fn from_str(text: &str) -> Result<Self, NoTrigger> {
        let (word, rest) = text.split_once(' ').ok_or_else(|| NoTrigger::Unknown(text.to_owned()))?;
        match word {
            "at" => Ok(Self::At(instant(rest)?)),
            "cron" => Ok(Self::Cron(rest.parse()?)),
            "change" => match rest.parse() {
                Ok(quiet_s @ 1..=86_400) => Ok(Self::Change { quiet_s }),
                _ => Err(NoTrigger::Quiet(rest.to_owned())),
            },
            "after" => {
                let no_end = || NoTrigger::After(rest.to_owned());
                let (site, word) = rest.split_once(' ').ok_or_else(no_end)?;
                let (ended, _) = Ended::ALL.iter().find(|(_, known)| *known == word).ok_or_else(no_end)?;
                Ok(Self::After { site: Name::new(site).map_err(|_| no_end())?, ended: *ended })
            }
            "called" => {
                let called = rest.split_once(' ').and_then(|(name, gap)| {
                    let gap_s = gap.parse().ok().filter(|gap| (1..=86_400).contains(gap))?;
                    Some(Self::Called { name: Name::new(name).ok()?, gap_s })
                });
                called.ok_or_else(|| NoTrigger::Called(rest.to_owned()))
            }
            _ => Err(NoTrigger::Unknown(text.to_owned())),
        }
    }
}
