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
    /// Requests for missing reports before they count as missing (SR-8).
    pub report_tries: u32,
    /// A member asks the leader for the time this often.
    pub clock_period: Duration,
}

impl Profile {
    /// The documented timers of the sources: wide segments, slow networks.
    pub const CLASSIC: Self = Self {
        alive_period: Duration::from_millis(1_500),
        trigger: Duration::from_secs(5),
        claim_min: Duration::from_secs(5),
        claim_max: Duration::from_secs(10),
        vote: Duration::from_secs(10),
        concession: Duration::from_secs(15),
        register_quiet: Duration::from_secs(3),
        register_again: Duration::from_millis(500),
        register_spread: Duration::from_secs(1),
        register_refresh: Duration::from_secs(10),
        segment_report: Duration::from_secs(10),
        report_unit: Duration::from_secs(2),
        report_tries: 8,
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
        report_tries: 10,
        clock_period: Duration::from_millis(500),
    };

    /// The relations without which the election does not converge.
    ///
    /// # Errors
    /// Names the first that does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let relations = [
            (self.alive_period > Duration::ZERO, "alive_period must be above zero"),
            (self.trigger >= self.alive_period * 3, "trigger must outlast three alive periods"),
            (self.claim_min >= self.trigger, "claim_min must not come before the trigger"),
            (self.claim_max > self.claim_min, "claim_max must be above claim_min"),
            (self.vote >= self.alive_period * 2, "vote must outlast two alive periods"),
            (self.concession > self.vote, "concession must outlast the vote"),
            (self.register_refresh > self.register_quiet, "register_refresh must be above register_quiet"),
        ];
        relations.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_keep_their_own_relations() {
        assert_eq!(Profile::CLASSIC.check(), Ok(()));
        assert_eq!(Profile::LAN.check(), Ok(()));
        let broken = Profile { concession: Duration::ZERO, ..Profile::LAN };
        assert!(broken.check().is_err());
    }
}
