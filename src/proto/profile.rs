//! The timers of a segment, in two profiles (design D7), with the relations that must hold between them.

use crate::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Between two leader-alives.
    pub alive_period: Duration,
    /// Silence of the leader after which an election starts (EL-7).
    pub trigger: Duration,
    /// Strongest and weakest candidate's claim after the last leader-alive (EL-9, EL-10).
    pub claim_min: Duration,
    pub claim_max: Duration,
    /// How long a vote stays open (EL-11).
    pub vote: Duration,
    /// How long a loser waits for the winner's first leader-alive (B-6).
    pub concession: Duration,
    /// Quiet time after the last registration before the leader reports the registered (RG-4).
    pub register_quiet: Duration,
    /// Fixed wait before a member that was left out registers again (RG-5) ...
    pub register_again: Duration,
    /// ... and the random part on top; also spreads the first registrations.
    pub register_spread: Duration,
    /// Members register anew this often; three missed times mean offline (B-17).
    pub register_refresh: Duration,
    /// The leader repeats its segment report to the CCM this often (NS-5).
    pub segment_report: Duration,
    /// Unit of the random delay of status reports (SR-9), and between two requests for missing ones.
    pub report_unit: Duration,
    /// Requests to those that have not reported on a document; who does not answer the last is missing (SR-8).
    /// A few seconds apart at most, and a large assignment takes its time to stage: half an hour at least.
    pub report_tries: u32,
    /// A member asks the leader for the time this often.
    pub clock_period: Duration,
}

/// Requests of a leader that is not told otherwise: the first few aside they come two seconds apart or more.
const REPORT_TRIES: u32 = 900;
/// Reports of so many members may come at once.
const REPORTS_AT_ONCE: u64 = 16;
/// Between two reports of the others, on average ...
const REPORT_SPACING: Duration = Duration::from_millis(18);
/// ... but who waits for them waits no longer than this.
const REPORT_SPREAD_MAX: Duration = Duration::from_millis(3_400);
/// Time in which one member of a segment asks for a key, and the most that all of it take.
const KEY_SPACING: Duration = Duration::from_millis(50);
const KEY_SPREAD_MAX: Duration = Duration::from_secs(5);

impl Profile {
    /// Within how long so many members report by themselves, or when asked: it grows with their number, so that
    /// reports never come in a flood (SR-9).
    pub fn report_spread(&self, members: usize) -> Duration {
        let grown = REPORT_SPACING * (members as u64).saturating_sub(REPORTS_AT_ONCE);
        self.report_unit.max(grown.min(REPORT_SPREAD_MAX))
    }

    /// Within how long the members of a segment ask the CCM for the key of what they all receive: of a farm of many
    /// segments not all nodes ask at one moment.
    pub fn key_spread(members: usize) -> Duration {
        (KEY_SPACING * (members as u64).saturating_sub(1)).min(KEY_SPREAD_MAX)
    }

    /// The documented timers of the sources: wide segments, slow networks. They leave the time between two
    /// leader-alives open; with three under the trigger, a member took its leader for gone twenty times a year
    /// at 1 % loss, and some of the votes took ten seconds each (tests/sim/steady.rs).
    pub const CLASSIC: Self = Self {
        alive_period: Duration::from_millis(750),
        trigger: Duration::from_secs(5),
        claim_min: Duration::from_secs(5),
        claim_max: Duration::from_secs(10),
        vote: Duration::from_secs(10),
        concession: Duration::from_secs(15),
        register_quiet: Duration::from_secs(3),
        register_again: Duration::from_millis(500),
        register_spread: Duration::from_secs(1),
        register_refresh: Duration::from_secs(10),
        // Three fit into the ten seconds after which the CCM takes a silent segment offline.
        segment_report: Duration::from_secs(3),
        report_unit: Duration::from_secs(2),
        report_tries: REPORT_TRIES,
        clock_period: Duration::from_secs(10),
    };

    /// Failover below one second on a healthy LAN. Seven leader-alives fit under the trigger: with three, some
    /// member took its leader for gone every minute at 5 % loss (tests/sim/snapshots/election.txt).
    pub const LAN: Self = Self {
        alive_period: Duration::from_millis(50),
        trigger: Duration::from_millis(350),
        claim_min: Duration::from_millis(350),
        claim_max: Duration::from_millis(500),
        vote: Duration::from_millis(250),
        concession: Duration::from_millis(500),
        register_quiet: Duration::from_millis(50),
        register_again: Duration::from_millis(50),
        register_spread: Duration::from_millis(50),
        register_refresh: Duration::from_secs(1),
        segment_report: Duration::from_secs(1),
        report_unit: Duration::from_millis(20),
        report_tries: REPORT_TRIES,
        clock_period: Duration::from_millis(500),
    };

    /// The relations without which the election does not converge.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&self) -> Result<(), Contradiction> {
        let again = self.register_again + self.register_spread;
        let relations: [(bool, &[Timer], &str); 10] = [
            (self.alive_period > Duration::ZERO, &[Timer::Alive], "alive must be above zero"),
            (
                self.trigger >= self.alive_period * 3,
                &[Timer::Trigger, Timer::Alive],
                "trigger must outlast three times alive, or two lost messages start an election",
            ),
            (
                self.claim_min >= self.trigger,
                &[Timer::ClaimMin, Timer::Trigger],
                "claim_min must not come before trigger",
            ),
            (
                self.claim_max > self.claim_min,
                &[Timer::ClaimMax, Timer::ClaimMin],
                "claim_max must be above claim_min, or all candidates claim at once",
            ),
            (
                self.vote >= self.alive_period * 2,
                &[Timer::Vote, Timer::Alive],
                "vote must outlast two times alive, or one lost claim decides it",
            ),
            (self.vote <= VOTE_MAX, &[Timer::Vote], "vote must not exceed 15 s"),
            (
                self.concession > self.vote,
                &[Timer::Concession, Timer::Vote],
                "concession must outlast vote, or a loser claims again before the winner leads",
            ),
            (
                self.register_refresh > self.register_quiet,
                &[Timer::RegisterRefresh, Timer::RegisterQuiet],
                "register_refresh must be above register_quiet, or the registered are never reported",
            ),
            (
                self.register_refresh > again,
                &[Timer::RegisterRefresh, Timer::RegisterAgain, Timer::RegisterSpread],
                "register_refresh must be above register_again with register_spread, or who was left out asks too late",
            ),
            (
                self.segment_report <= REPORT_MAX,
                &[Timer::SegmentReport],
                "segment_report must not exceed 3 s, or the CCM takes the segment for gone",
            ),
        ];
        let broken = relations.into_iter().find(|(holds, ..)| !holds);
        broken.map_or(Ok(()), |(_, timers, text)| Err(Contradiction { timers, text }))
    }
}

/// The timers that an operator may set one by one (EL-7 to EL-11, RG-4 to RG-6, NS-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    Alive,
    Trigger,
    ClaimMin,
    ClaimMax,
    Vote,
    Concession,
    RegisterQuiet,
    RegisterAgain,
    RegisterSpread,
    RegisterRefresh,
    SegmentReport,
    ReportUnit,
    Clock,
}

/// A relation between timers that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Which it is about.
    pub timers: &'static [Timer],
    pub text: &'static str,
}

/// No vote stays open longer (EL-11).
const VOTE_MAX: Duration = Duration::from_secs(15);
/// Segment reports come at least this often: the CCM takes a segment for gone after 10 s.
const REPORT_MAX: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::random::Rng;
    use crate::proto::registration::share;

    /// All nodes of a farm lack the key of an assignment at the same time.
    #[test]
    fn ten_thousand_nodes_ask_for_a_key_over_seconds_and_few_at_once() {
        let mut rng = Rng::new(7);
        let mut slots = [0_u32; 60];
        for _ in 0..10_000 {
            // 300 segments of 33 or 34.
            let delay = share(Profile::key_spread(33), rng.next_u64());
            slots[(delay.as_millis() / 100) as usize] += 1;
        }
        assert!(slots.iter().all(|count| *count < 800), "{slots:?}");
        assert_eq!(slots.iter().filter(|count| **count > 0).count(), 16, "{slots:?}");
        let millis = |members| Profile::key_spread(members).as_millis();
        assert_eq!([0, 1, 2, 10, 101, 4_096].map(millis), [0, 0, 50, 450, 5_000, 5_000]);
    }

    #[test]
    fn the_profiles_keep_their_own_relations() {
        assert_eq!(Profile::CLASSIC.check(), Ok(()));
        assert_eq!(Profile::LAN.check(), Ok(()));
    }

    #[test]
    fn each_broken_relation_names_its_timers() {
        use Timer::*;
        let (classic, ms) = (Profile::CLASSIC, Duration::from_millis);
        // Tight where the next shorter or longer timer breaks a relation.
        let lan = Profile {
            alive_period: ms(100),
            trigger: ms(350),
            claim_min: ms(350),
            vote: ms(250),
            ..Profile::LAN
        };
        let cases: [(Profile, &[Timer]); 11] = [
            (Profile { alive_period: ms(0), ..lan }, &[Alive]),
            (Profile { alive_period: ms(117), ..lan }, &[Trigger, Alive]),
            (Profile { trigger: ms(299), ..lan }, &[Trigger, Alive]),
            (Profile { claim_min: ms(349), ..lan }, &[ClaimMin, Trigger]),
            (Profile { claim_max: ms(350), ..lan }, &[ClaimMax, ClaimMin]),
            (Profile { vote: ms(199), ..lan }, &[Vote, Alive]),
            (Profile { vote: ms(15_001), concession: ms(20_000), ..classic }, &[Vote]),
            (Profile { concession: ms(250), ..lan }, &[Concession, Vote]),
            (Profile { register_refresh: ms(50), ..lan }, &[RegisterRefresh, RegisterQuiet]),
            (Profile { register_refresh: ms(100), ..lan }, &[RegisterRefresh, RegisterAgain, RegisterSpread]),
            (Profile { segment_report: ms(3_001), ..classic }, &[SegmentReport]),
        ];
        for (profile, timers) in cases {
            assert_eq!(profile.check().unwrap_err().timers, timers, "{profile:?}");
        }
    }
}
