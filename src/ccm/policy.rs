//! The rules by which a job goes: what is enough, what stands in its way, what follows a failure. Pure.
//!
//! A [`Policy`] is a wish: what it leaves out is as the site has it, and what that leaves out as [`Rules::DEFAULT`]. A
//! job's rules are settled when it is added and never change.
//!
//! "Quorum" means four things (B-15). Before a run: how many of the nodes that are to have the site must be online
//! (`online_quorum`). Within a segment: how many members must have an assignment before its multicast ends, after
//! which the others pull it (`local_quorum`, LD-19). For success: how many must have staged before the switch is
//! ordered (`quorum`). Afterwards: how many must be live, or all go back to what was live before (`threshold`).

use super::api::types::Policy;
use crate::wire::quorum::{NoQuorum, Quorum};

/// Attempts after the first that a policy can ask for.
const RETRIES_MAX: u8 = 100;
/// Checkpoints of a site that a policy can have kept.
const CHECKPOINTS_MAX: u8 = 100;
/// Smallest size that a policy can ask assignments to keep within: a part is more than its header.
const ASSIGNMENT_MIN: u64 = 64 << 10;
/// Longest time to wait: a week.
const RETRY_AFTER_MAX_S: u32 = 7 * 24 * 3_600;

/// What a job goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Of the nodes that are waited for, those that must have staged before any switches.
    pub quorum: Quorum,
    /// Of the nodes that are to have the site, those that must be online at the start (SC-11).
    pub online_quorum: Quorum,
    /// `None`: as the controller's file says.
    pub local_quorum: Option<Quorum>,
    /// Of the nodes that were waited for, those that must be live in the end, or all go back (TH-5).
    pub threshold: Quorum,
    pub on_conflict: OnConflict,
    pub on_freeze: OnFreeze,
    /// When nodes go live.
    pub activation: Activation,
    /// What is sent is encrypted (AS-15).
    pub encrypt: bool,
    /// Attempts after the first where a run fails (SC-9, SC-10).
    pub retries: u8,
    pub retry_after_s: u32,
    /// Checkpoints of the site that stay when a job makes another (VC-8).
    pub checkpoints: u8,
    /// Of a site: how long a node is online and lacks what is live before a job brings it along by itself (JT-20); 0:
    /// none does.
    pub bring_along_after_s: u32,
    /// Of a site: bytes of one upload, as they are sent, and entries in it (ST-1).
    pub upload_bytes: u64,
    pub upload_entries: u64,
    /// Bytes of the largest assignment: a larger update is split (AS-13). `None`: none is.
    pub assignment_max: Option<u64>,
}

/// What becomes of a job that goes where another goes already (SC-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    Queue,
    Cancel,
}

/// What becomes of a job that is to start while nothing may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFreeze {
    Wait,
    Cancel,
}

/// When a node goes live with what it has staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// At the instant of an order, which is given when enough have staged (CO-8).
    Commit,
    /// By itself, at once (CO-11).
    Autonomous,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPolicy {
    #[error("{field} {error}")]
    Quorum { field: &'static str, error: NoQuorum },
    #[error("{field} is `{one}` or `{other}`, not {text:?}")]
    Word { field: &'static str, one: &'static str, other: &'static str, text: String },
    #[error("{field} is not within {low} to {high}")]
    Range { field: &'static str, low: u32, high: u32 },
    #[error("{field} is at least 1")]
    Zero { field: &'static str },
    #[error("assignment_max is 0, for none, or at least {} bytes", ASSIGNMENT_MIN)]
    AssignmentMax,
}

impl Rules {
    pub const DEFAULT: Self = Self {
        quorum: Quorum::All,
        online_quorum: Quorum::Percent(50),
        local_quorum: None,
        threshold: Quorum::Percent(50),
        on_conflict: OnConflict::Queue,
        on_freeze: OnFreeze::Wait,
        activation: Activation::Commit,
        encrypt: false,
        retries: 0,
        retry_after_s: 60,
        checkpoints: 5,
        bring_along_after_s: 60,
        upload_bytes: 64 << 30,
        upload_entries: 1_000_000,
        assignment_max: None,
    };

    /// What a policy comes to.
    ///
    /// # Errors
    /// A field that says nothing sensible.
    pub fn of(policy: &Policy) -> Result<Self, NoPolicy> {
        let quorum = |field, text: &Option<String>| match text {
            Some(text) => text.parse().map(Some).map_err(|error| NoPolicy::Quorum { field, error }),
            None => Ok(None),
        };
        // Whether it says the other word.
        let says = |field, one, other, text: &Option<String>| match text.as_deref() {
            Some(word) if word == other => Ok(true),
            Some(word) if word != one => Err(NoPolicy::Word { field, one, other, text: word.to_owned() }),
            _ => Ok(false),
        };
        let retries = policy.retries.unwrap_or(Self::DEFAULT.retries);
        if retries > RETRIES_MAX {
            return Err(NoPolicy::Range { field: "retries", low: 0, high: RETRIES_MAX.into() });
        }
        let retry_after_s = policy.retry_after_s.unwrap_or(Self::DEFAULT.retry_after_s);
        if !(1..=RETRY_AFTER_MAX_S).contains(&retry_after_s) {
            return Err(NoPolicy::Range { field: "retry_after_s", low: 1, high: RETRY_AFTER_MAX_S });
        }
        let checkpoints = policy.checkpoints.unwrap_or(Self::DEFAULT.checkpoints);
        if !(1..=CHECKPOINTS_MAX).contains(&checkpoints) {
            return Err(NoPolicy::Range { field: "checkpoints", low: 1, high: CHECKPOINTS_MAX.into() });
        }
        let bring_along_after_s = policy.bring_along_after_s.unwrap_or(Self::DEFAULT.bring_along_after_s);
        if bring_along_after_s > RETRY_AFTER_MAX_S {
            return Err(NoPolicy::Range { field: "bring_along_after_s", low: 0, high: RETRY_AFTER_MAX_S });
        }
        let least = |field, wish: Option<u64>, default| match wish {
            Some(0) => Err(NoPolicy::Zero { field }),
            wish => Ok(wish.unwrap_or(default)),
        };
        let upload_bytes = least("upload_bytes", policy.upload_bytes, Self::DEFAULT.upload_bytes)?;
        let upload_entries = least("upload_entries", policy.upload_entries, Self::DEFAULT.upload_entries)?;
        let assignment_max = policy.assignment_max.filter(|max| *max > 0);
        if assignment_max.is_some_and(|max| max < ASSIGNMENT_MIN) {
            return Err(NoPolicy::AssignmentMax);
        }
        Ok(Self {
            quorum: quorum("quorum", &policy.quorum)?.unwrap_or(Self::DEFAULT.quorum),
            online_quorum: quorum("online_quorum", &policy.online_quorum)?
                .unwrap_or(Self::DEFAULT.online_quorum),
            local_quorum: quorum("local_quorum", &policy.local_quorum)?,
            threshold: quorum("threshold", &policy.threshold)?.unwrap_or(Self::DEFAULT.threshold),
            on_conflict: match says("on_conflict", "queue", "cancel", &policy.on_conflict)? {
                true => OnConflict::Cancel,
                false => OnConflict::Queue,
            },
            on_freeze: match says("on_freeze", "wait", "cancel", &policy.on_freeze)? {
                true => OnFreeze::Cancel,
                false => OnFreeze::Wait,
            },
            activation: match says("activation", "commit", "autonomous", &policy.activation)? {
                true => Activation::Autonomous,
                false => Activation::Commit,
            },
            encrypt: policy.encrypt.unwrap_or(Self::DEFAULT.encrypt),
            retries,
            retry_after_s,
            checkpoints,
            bring_along_after_s,
            upload_bytes,
            upload_entries,
            assignment_max,
        })
    }
}

/// `over`, and where it says nothing `under`.
pub fn overlay(over: &Policy, under: &Policy) -> Policy {
    let either = |over: &Option<String>, under: &Option<String>| over.as_ref().or(under.as_ref()).cloned();
    Policy {
        quorum: either(&over.quorum, &under.quorum),
        online_quorum: either(&over.online_quorum, &under.online_quorum),
        local_quorum: either(&over.local_quorum, &under.local_quorum),
        threshold: either(&over.threshold, &under.threshold),
        on_conflict: either(&over.on_conflict, &under.on_conflict),
        on_freeze: either(&over.on_freeze, &under.on_freeze),
        activation: either(&over.activation, &under.activation),
        encrypt: over.encrypt.or(under.encrypt),
        retries: over.retries.or(under.retries),
        retry_after_s: over.retry_after_s.or(under.retry_after_s),
        checkpoints: over.checkpoints.or(under.checkpoints),
        bring_along_after_s: over.bring_along_after_s.or(under.bring_along_after_s),
        upload_bytes: over.upload_bytes.or(under.upload_bytes),
        upload_entries: over.upload_entries.or(under.upload_entries),
        assignment_max: over.assignment_max.or(under.assignment_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_policy_leaves_out_is_as_the_one_below_it_says() {
        let site = Policy { quorum: Some("80%".into()), retries: Some(2), ..Policy::default() };
        let job = Policy { retries: Some(5), on_conflict: Some("cancel".into()), ..Policy::default() };
        let rules = Rules::of(&overlay(&job, &site)).unwrap();
        let expected = Rules {
            quorum: Quorum::Percent(80),
            retries: 5,
            on_conflict: OnConflict::Cancel,
            ..Rules::DEFAULT
        };
        assert_eq!(rules, expected);
        assert_eq!(Rules::of(&Policy::default()), Ok(Rules::DEFAULT));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let word = |text: &str| Some(text.to_owned());
        for (policy, said) in [
            (Policy { quorum: word("most"), ..Policy::default() }, "quorum must be \"all\""),
            (Policy { online_quorum: word("0"), ..Policy::default() }, "online_quorum must be"),
            (Policy { threshold: word("101%"), ..Policy::default() }, "threshold must be"),
            (
                Policy { on_conflict: word("wait"), ..Policy::default() },
                "on_conflict is `queue` or `cancel`, not \"wait\"",
            ),
            (Policy { on_freeze: word("queue"), ..Policy::default() }, "on_freeze is `wait` or `cancel`"),
            (
                Policy { activation: word("now"), ..Policy::default() },
                "activation is `commit` or `autonomous`, not \"now\"",
            ),
            (Policy { retries: Some(101), ..Policy::default() }, "retries is not within 0 to 100"),
            (Policy { upload_bytes: Some(0), ..Policy::default() }, "upload_bytes is at least 1"),
            (Policy { checkpoints: Some(0), ..Policy::default() }, "checkpoints is not within 1 to 100"),
            (
                Policy { retry_after_s: Some(0), ..Policy::default() },
                "retry_after_s is not within 1 to 604800",
            ),
        ] {
            let error = Rules::of(&policy).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
