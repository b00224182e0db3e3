//! The table `[election]`: timers, and who may lead.

use crate::proto::profile::{Profile, Timer};
use crate::time::Duration;
use crate::wire::id::Name;
use serde::Deserialize;
use std::ops::Range;
use toml::Spanned;

/// Longest timer in milliseconds: an hour.
const TIMER_MAX: u64 = 3_600_000;
/// Most requests for reports: two days of them.
const TRIES_MAX: u32 = 86_400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Election {
    profile: ProfileName,
    pub can_lead: bool,
    pub factor: u32,
    /// Who may lead the segment; everybody where it is left out (EL-3, UI-7).
    leaders: Option<Spanned<Vec<Spanned<String>>>>,
    alive_ms: Option<Spanned<u64>>,
    trigger_ms: Option<Spanned<u64>>,
    claim_min_ms: Option<Spanned<u64>>,
    claim_max_ms: Option<Spanned<u64>>,
    vote_ms: Option<Spanned<u64>>,
    concession_ms: Option<Spanned<u64>>,
    register_quiet_ms: Option<Spanned<u64>>,
    register_again_ms: Option<Spanned<u64>>,
    register_spread_ms: Option<Spanned<u64>>,
    register_refresh_ms: Option<Spanned<u64>>,
    segment_report_ms: Option<Spanned<u64>>,
    report_unit_ms: Option<Spanned<u64>>,
    clock_ms: Option<Spanned<u64>>,
    report_tries: Option<Spanned<u32>>,
}

impl Default for Election {
    fn default() -> Self {
        Self {
            profile: ProfileName::Lan,
            can_lead: true,
            factor: 100,
            leaders: None,
            alive_ms: None,
            trigger_ms: None,
            claim_min_ms: None,
            claim_max_ms: None,
            vote_ms: None,
            concession_ms: None,
            register_quiet_ms: None,
            register_again_ms: None,
            register_spread_ms: None,
            register_refresh_ms: None,
            segment_report_ms: None,
            report_unit_ms: None,
            clock_ms: None,
            report_tries: None,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProfileName {
    Lan,
    Classic,
}

/// Where in the file, and what is wrong there.
type Mistake = (Range<usize>, String);

impl Election {
    /// The profile with the timers, and the number of requests, that the file sets.
    pub(super) fn timers(&self) -> Result<Profile, Mistake> {
        let (mut profile, name) = match self.profile {
            ProfileName::Lan => (Profile::LAN, "lan"),
            ProfileName::Classic => (Profile::CLASSIC, "classic"),
        };
        for timer in TIMERS {
            if let Some(given) = self.given(timer) {
                if !(1..=TIMER_MAX).contains(given.get_ref()) {
                    let message = format!("{} must be between 1 and {TIMER_MAX} ms", key(timer));
                    return Err((given.span(), message));
                }
                *place(&mut profile, timer) = Duration::from_millis(*given.get_ref());
            }
        }
        if let Some(given) = &self.report_tries {
            if !(1..=TRIES_MAX).contains(given.get_ref()) {
                return Err((given.span(), format!("report_tries must be between 1 and {TRIES_MAX}")));
            }
            profile.report_tries = *given.get_ref();
        }
        profile.check().map_err(|contradiction| {
            let at = contradiction.timers.iter().find_map(|timer| self.given(*timer));
            let figures: Vec<String> = contradiction
                .timers
                .iter()
                .map(|timer| {
                    let ms = place(&mut profile, *timer).as_millis();
                    match self.given(*timer) {
                        Some(_) => format!("{} is {ms}", key(*timer)),
                        None => format!("{} is {ms} by profile {name}", key(*timer)),
                    }
                })
                .collect();
            let message = format!("{}: {}", contradiction.text, figures.join(", "));
            (at.map_or(0..0, Spanned::span), message)
        })?;
        Ok(profile)
    }

    /// Whether the list of leaders, if there is one, has the node of this name. It is about the node itself: it
    /// does not keep others, which have another list, from leading. A list from the CCM replaces it (EL-3).
    pub(super) fn lists(&self, node: &Name) -> Result<bool, Mistake> {
        let Some(leaders) = &self.leaders else { return Ok(true) };
        if leaders.get_ref().is_empty() {
            let message = "leaders is empty, so nobody could lead: name one, or leave it out".to_owned();
            return Err((leaders.span(), message));
        }
        let mut listed = false;
        for leader in leaders.get_ref() {
            let name = Name::new(leader.get_ref()).map_err(|_| {
                let message = format!("leaders: {:?} is no name of a node", leader.get_ref());
                (leader.span(), message)
            })?;
            listed |= name == *node;
        }
        Ok(listed)
    }

    fn given(&self, timer: Timer) -> Option<&Spanned<u64>> {
        match timer {
            Timer::Alive => &self.alive_ms,
            Timer::Trigger => &self.trigger_ms,
            Timer::ClaimMin => &self.claim_min_ms,
            Timer::ClaimMax => &self.claim_max_ms,
            Timer::Vote => &self.vote_ms,
            Timer::Concession => &self.concession_ms,
            Timer::RegisterQuiet => &self.register_quiet_ms,
            Timer::RegisterAgain => &self.register_again_ms,
            Timer::RegisterSpread => &self.register_spread_ms,
            Timer::RegisterRefresh => &self.register_refresh_ms,
            Timer::SegmentReport => &self.segment_report_ms,
            Timer::ReportUnit => &self.report_unit_ms,
            Timer::Clock => &self.clock_ms,
        }
        .as_ref()
    }
}

const TIMERS: [Timer; 13] = [
    Timer::Alive,
    Timer::Trigger,
    Timer::ClaimMin,
    Timer::ClaimMax,
    Timer::Vote,
    Timer::Concession,
    Timer::RegisterQuiet,
    Timer::RegisterAgain,
    Timer::RegisterSpread,
    Timer::RegisterRefresh,
    Timer::SegmentReport,
    Timer::ReportUnit,
    Timer::Clock,
];

/// The key that sets the timer.
const fn key(timer: Timer) -> &'static str {
    match timer {
        Timer::Alive => "alive_ms",
        Timer::Trigger => "trigger_ms",
        Timer::ClaimMin => "claim_min_ms",
        Timer::ClaimMax => "claim_max_ms",
        Timer::Vote => "vote_ms",
        Timer::Concession => "concession_ms",
        Timer::RegisterQuiet => "register_quiet_ms",
        Timer::RegisterAgain => "register_again_ms",
        Timer::RegisterSpread => "register_spread_ms",
        Timer::RegisterRefresh => "register_refresh_ms",
        Timer::SegmentReport => "segment_report_ms",
        Timer::ReportUnit => "report_unit_ms",
        Timer::Clock => "clock_ms",
    }
}

const fn place(profile: &mut Profile, timer: Timer) -> &mut Duration {
    match timer {
        Timer::Alive => &mut profile.alive_period,
        Timer::Trigger => &mut profile.trigger,
        Timer::ClaimMin => &mut profile.claim_min,
        Timer::ClaimMax => &mut profile.claim_max,
        Timer::Vote => &mut profile.vote,
        Timer::Concession => &mut profile.concession,
        Timer::RegisterQuiet => &mut profile.register_quiet,
        Timer::RegisterAgain => &mut profile.register_again,
        Timer::RegisterSpread => &mut profile.register_spread,
        Timer::RegisterRefresh => &mut profile.register_refresh,
        Timer::SegmentReport => &mut profile.segment_report,
        Timer::ReportUnit => &mut profile.report_unit,
        Timer::Clock => &mut profile.clock_period,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn election(text: &str) -> Election {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_timer_that_is_set_overrides_its_profile_and_no_other() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("", Profile::LAN),
            ("alive_ms = 40", Profile { alive_period: ms(40), ..Profile::LAN }),
            ("trigger_ms = 310", Profile { trigger: ms(310), ..Profile::LAN }),
            ("claim_min_ms = 400", Profile { claim_min: ms(400), ..Profile::LAN }),
            ("claim_max_ms = 900", Profile { claim_max: ms(900), ..Profile::LAN }),
            ("vote_ms = 400", Profile { vote: ms(400), ..Profile::LAN }),
            ("concession_ms = 900", Profile { concession: ms(900), ..Profile::LAN }),
            ("register_quiet_ms = 60", Profile { register_quiet: ms(60), ..Profile::LAN }),
            ("register_again_ms = 60", Profile { register_again: ms(60), ..Profile::LAN }),
            ("register_spread_ms = 60", Profile { register_spread: ms(60), ..Profile::LAN }),
            ("register_refresh_ms = 900", Profile { register_refresh: ms(900), ..Profile::LAN }),
            ("segment_report_ms = 900", Profile { segment_report: ms(900), ..Profile::LAN }),
            ("report_unit_ms = 30", Profile { report_unit: ms(30), ..Profile::LAN }),
            ("clock_ms = 600", Profile { clock_period: ms(600), ..Profile::LAN }),
            ("report_tries = 30", Profile { report_tries: 30, ..Profile::LAN }),
            ("profile = \"classic\"\nvote_ms = 12000", Profile { vote: ms(12_000), ..Profile::CLASSIC }),
        ] {
            assert_eq!(election(text).timers(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn timers_that_contradict_each_other_are_named_with_their_values_and_place() {
        for (text, at, message) in [
            ("alive_ms = 200", 11, "trigger_ms is 350 by profile lan, alive_ms is 200"),
            ("trigger_ms = 250\nalive_ms = 100", 13, "trigger_ms is 250, alive_ms is 100"),
            (
                "trigger_ms = 2000\nprofile = \"classic\"",
                13,
                "trigger_ms is 2000, alive_ms is 750 by profile classic",
            ),
            ("claim_min_ms = 100", 15, "claim_min_ms is 100, trigger_ms is 350 by profile lan"),
            ("claim_max_ms = 350", 15, "claim_max_ms is 350, claim_min_ms is 350"),
            ("vote_ms = 199\nalive_ms = 100", 10, "vote_ms is 199, alive_ms is 100"),
            ("concession_ms = 250", 16, "concession_ms is 250, vote_ms is 250"),
            ("concession_ms = 20000\nvote_ms = 15001", 32, "must not exceed 15 s"),
            (
                "register_quiet_ms = 1000",
                20,
                "register_refresh_ms is 1000 by profile lan, register_quiet_ms is 1000",
            ),
            (
                "register_refresh_ms = 90\nregister_spread_ms = 40",
                22,
                "register_refresh_ms is 90, register_again_ms is 50 by profile lan, register_spread_ms is 40",
            ),
            ("segment_report_ms = 3001", 20, "must not exceed 3 s"),
            ("alive_ms = 0", 11, "between 1 and 3600000"),
            ("vote_ms = 3600001", 10, "between 1 and 3600000"),
            ("report_tries = 0", 15, "between 1 and 86400"),
        ] {
            let (span, found) = election(text).timers().unwrap_err();
            assert_eq!(span.start, at, "{text}: {found}");
            assert!(found.contains(message), "{text}: {found}");
        }
    }

    #[test]
    fn only_a_node_of_the_list_may_lead() {
        let node = Name::new("web01").unwrap();
        for (text, may) in [
            ("", true),
            ("leaders = [\"web01\"]", true),
            ("leaders = [\"web02\", \"web01\"]", true),
            ("leaders = [\"web02\"]", false),
        ] {
            assert_eq!(election(text).lists(&node), Ok(may), "{text}");
        }
        let (span, message) = election("leaders = [\"web01\", \"web 2\"]").lists(&node).unwrap_err();
        assert_eq!(span.start, 20);
        assert!(message.contains("web 2"), "{message}");
        assert!(election("leaders = []").lists(&node).unwrap_err().1.contains("nobody could lead"));
    }
}
