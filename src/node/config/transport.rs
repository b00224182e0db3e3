//! `[transport]`: how this node sends while it leads (LD-6, LD-14..LD-20).

use crate::node::transfers::PullLimits;
use crate::proto::engine::Transport as Settings;
use crate::proto::sender::SenderConfig;
use crate::time::Duration;
use crate::wire::quorum::Quorum;
use crate::wire::session::{Repair, RepairWhen};
use serde::Deserialize;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;

/// A value that is refused: where it stands and why.
type Mistake = (Range<usize>, String);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Transport {
    rate_max_mbit: Option<Spanned<u64>>,
    rate_start_mbit: Option<Spanned<u64>>,
    repair: Option<RepairWord>,
    repair_when: Option<WhenWord>,
    nack_ms: Option<Spanned<u64>>,
    quorum: Option<Spanned<String>>,
    tries: Option<Spanned<u64>>,
    nacks_per_second: Option<Spanned<u64>>,
    announce_in_alive: Option<bool>,
    fetch_sources: Option<Spanned<u64>>,
    fetch_min_kib: Option<Spanned<u64>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RepairWord {
    Parity,
    Resend,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WhenWord {
    PassEnd,
    Immediate,
    Timed,
}

const RATES: RangeInclusive<u64> = 1..=400_000;
/// A source that brings less, KiB a second, is left for the next.
const FETCH_MIN_KIB: u64 = 8;
const RATE_START: u64 = 50_000_000;

impl Transport {
    /// Bytes per second: where sessions start, and what they never exceed.
    pub(super) fn rates(&self) -> Result<(u64, u64), Mistake> {
        let rate = |field: &Option<Spanned<u64>>, default, what| match field {
            Some(field) if !RATES.contains(field.get_ref()) => {
                Err((field.span(), format!("{what} must be between 1 and 400000 Mbit/s")))
            }
            Some(field) => Ok(*field.get_ref() * 125_000),
            None => Ok(default),
        };
        let max = rate(&self.rate_max_mbit, u64::MAX, "rate_max_mbit")?;
        let start = rate(&self.rate_start_mbit, RATE_START, "rate_start_mbit")?;
        Ok((start.min(max), max))
    }

    /// How this node pulls objects.
    pub(super) fn pulls(&self) -> Result<PullLimits, Mistake> {
        let within = |field: &Option<Spanned<u64>>, range: RangeInclusive<u64>, default, what| match field {
            Some(field) if !range.contains(field.get_ref()) => {
                let (low, high) = (range.start(), range.end());
                Err((field.span(), format!("{what} must be between {low} and {high}")))
            }
            field => Ok(field.as_ref().map_or(default, |field| *field.get_ref())),
        };
        let at_once = within(&self.fetch_sources, 1..=4, 1, "fetch_sources")? as usize;
        let rate_min = within(&self.fetch_min_kib, 0..=1 << 20, FETCH_MIN_KIB, "fetch_min_kib")? << 10;
        Ok(PullLimits { at_once, rate_min })
    }

    pub(super) fn settings(&self) -> Result<Settings, Mistake> {
        let within = |field: &Option<Spanned<u64>>, range: RangeInclusive<u64>, what| match field {
            Some(field) if !range.contains(field.get_ref()) => {
                let (low, high) = (range.start(), range.end());
                Err((field.span(), format!("{what} must be between {low} and {high}")))
            }
            field => Ok(field.as_ref().map(|field| *field.get_ref())),
        };
        let mut sender = SenderConfig::default();
        if let Some(repair) = self.repair {
            sender.repair = match repair {
                RepairWord::Parity => Repair::Parity,
                RepairWord::Resend => Repair::Resend,
            };
        }
        if let Some(when) = self.repair_when {
            sender.repair_when = match when {
                WhenWord::PassEnd => RepairWhen::PassEnd,
                WhenWord::Immediate => RepairWhen::Immediate,
                WhenWord::Timed => RepairWhen::Timed,
            };
        }
        if let Some(millis) = within(&self.nack_ms, 10..=60_000, "nack_ms")? {
            sender.nack_interval = Duration::from_millis(millis);
        }
        if let Some(quorum) = &self.quorum {
            let parsed: Result<Quorum, _> = quorum.get_ref().parse();
            sender.quorum =
                parsed.map_err(|error| (quorum.span(), format!("quorum {:?}: {error}", quorum.get_ref())))?;
        }
        if let Some(tries) = within(&self.tries, 1..=1_000, "tries")? {
            sender.tries_max = tries as u16;
        }
        if let Some(lists) = within(&self.nacks_per_second, 1..=10_000, "nacks_per_second")? {
            sender.allowance.lists_per_second = lists as u16;
        }
        let announce_in_alive = self.announce_in_alive.unwrap_or(Settings::default().announce_in_alive);
        Ok(Settings { sender, announce_in_alive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(text: &str) -> Transport {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_is_not_set_is_as_fast_as_can_be() {
        assert_eq!(transport("").settings(), Ok(Settings::default()));
        assert_eq!(transport("").rates(), Ok((RATE_START, u64::MAX)));
        assert_eq!(transport("rate_max_mbit = 8").rates(), Ok((1_000_000, 1_000_000)));
    }

    #[test]
    fn every_key_sets_what_it_names() {
        let text = "repair = \"resend\"\nrepair_when = \"timed\"\nnack_ms = 250\nquorum = \"75%\"\ntries = 3\n\
                    nacks_per_second = 20\nannounce_in_alive = false";
        let settings = transport(text).settings().unwrap();
        let sender = settings.sender;
        assert_eq!((sender.repair, sender.repair_when), (Repair::Resend, RepairWhen::Timed));
        assert_eq!(sender.nack_interval, Duration::from_millis(250));
        assert_eq!((sender.quorum, sender.tries_max), (Quorum::Percent(75), 3));
        assert_eq!((sender.allowance.lists_per_second, settings.announce_in_alive), (20, false));
    }

    #[test]
    fn pulls_are_from_one_source_that_does_not_trickle_unless_said_otherwise() {
        assert_eq!(transport("").pulls(), Ok(PullLimits { at_once: 1, rate_min: 8_192 }));
        let limits = transport("fetch_sources = 2\nfetch_min_kib = 100").pulls().unwrap();
        assert_eq!(limits, PullLimits { at_once: 2, rate_min: 102_400 });
        let (span, found) = transport("fetch_sources = 5").pulls().unwrap_err();
        assert_eq!((span.start, found.as_str()), (16, "fetch_sources must be between 1 and 4"));
    }

    #[test]
    fn a_value_out_of_bounds_is_named_with_its_place() {
        for (text, at, message) in [
            ("nack_ms = 9", 10, "between 10 and 60000"),
            ("tries = 0", 8, "between 1 and 1000"),
            ("nacks_per_second = 10001", 19, "between 1 and 10000"),
            ("tries = 3\nquorum = \"0%\"", 19, "a share from \"1%\""),
        ] {
            let (span, found) = transport(text).settings().unwrap_err();
            assert_eq!(span.start, at, "{text}: {found}");
            assert!(found.contains(message), "{text}: {found}");
        }
        assert_eq!(transport("rate_start_mbit = 0").rates().unwrap_err().0.start, 18);
        assert!(toml::from_str::<Transport>("repair = \"fec\"").is_err());
    }
}
