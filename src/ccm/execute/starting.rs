//! Whether a run that is queued may start.

use crate::ccm::api::types::Phase;
use crate::ccm::model::{Run, Wish};
use crate::ccm::policy::OnFreeze;
use crate::ccm::scheduler::window::{self, Window};
use std::collections::BTreeMap;

const CANCELLED: &str = "cancelled by an operator; live was not touched anywhere";

/// What to do with a run that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// What its phase calls for.
    Step,
    /// Nothing, and this is why.
    Wait(String),
    /// Nothing: an operator wishes so.
    Pause,
    /// It ends here.
    Cancel(String),
}

/// All runs that are not over, with what to do: first those that have begun, then those that are queued, in the order
/// in which they were asked for. One run per site at a time (SC-4, SC-7), none before its time (B-13), none while
/// nothing may start.
pub(super) fn in_order(runs: Vec<Run>, windows: &[Window], now_ns: u64) -> Vec<(Run, Next)> {
    let (queued, begun): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(|run| run.phase == Phase::Queued);
    let mut taken: BTreeMap<_, _> = begun.iter().map(|run| (run.site.clone(), run.job)).collect();
    let mut all: Vec<(Run, Next)> = Vec::new();
    for run in begun {
        let next = match run.terms.wish {
            // What was ordered cannot be called back.
            _ if run.phase == Phase::Committing => Next::Step,
            Wish::None => Next::Step,
            Wish::Pause => Next::Pause,
            Wish::Cancel => Next::Cancel(CANCELLED.to_owned()),
        };
        all.push((run, next));
    }
    for run in queued {
        let hold = window::hold(windows, &run.site, now_ns).filter(|_| run.terms.override_reason.is_empty());
        let next = if run.terms.wish == Wish::Cancel {
            Next::Cancel(CANCELLED.to_owned())
        } else if run.terms.wish == Wish::Pause || run.terms.ready_ns > now_ns {
            continue;
        } else if let Some(hold) = hold {
            match run.terms.rules.on_freeze {
                OnFreeze::Wait => Next::Wait(format!("waits: {}", hold.text)),
                OnFreeze::Cancel => Next::Cancel(hold.text),
            }
        } else if let Some(job) = taken.get(&run.site) {
            Next::Wait(format!("waits for job {job}"))
        } else {
            taken.insert(run.site.clone(), run.job);
            Next::Step
        };
        all.push((run, next));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::api::types::Policy;
    use crate::ccm::model::Terms;
    use crate::ccm::policy::Rules;
    use crate::ccm::testing::{name, run};

    fn with(run: Run, set: impl FnOnce(&mut Terms)) -> Run {
        let mut run = run;
        set(&mut run.terms);
        run
    }

    fn next(runs: Vec<Run>, windows: &[Window]) -> Vec<(u64, Next)> {
        in_order(runs, windows, 100).into_iter().map(|(run, next)| (run.id.0, next)).collect()
    }

    /// B-13, SC-4, SC-7.
    #[test]
    fn one_run_of_a_site_goes_on_and_the_next_starts_after_it_and_at_its_time() {
        use Phase::{Distributing, Queued};
        let wait = |job: u64| Next::Wait(format!("waits for job {job}"));
        let later = |id, ready_ns| with(run(id, "www", Queued), |terms| terms.ready_ns = ready_ns);
        assert_eq!(next(vec![later(1, 101)], &[]), []);
        assert_eq!(next(vec![later(1, 100)], &[]), [(1, Next::Step)]);
        // One that is to start later does not hold up those that were asked for after it.
        assert_eq!(next(vec![later(1, 101), run(2, "www", Queued)], &[]), [(2, Next::Step)]);
        // And when its time comes, the other goes on.
        let both = vec![later(1, 100), run(2, "www", Distributing), run(3, "shop", Queued)];
        assert_eq!(next(both, &[]), [(2, Next::Step), (1, wait(2)), (3, Next::Step)]);
        let queue = vec![run(1, "www", Queued), run(2, "www", Queued), run(3, "www", Queued)];
        assert_eq!(next(queue, &[]), [(1, Next::Step), (2, wait(1)), (3, wait(1))]);
    }

    #[test]
    fn what_is_paused_holds_its_site_once_it_has_begun_and_what_is_cancelled_ends_before_its_order() {
        use Phase::{Committing, Distributing, Queued};
        let wished = |id, phase, wish| with(run(id, "www", phase), |terms| terms.wish = wish);
        let other = || run(9, "www", Queued);
        assert_eq!(next(vec![wished(1, Queued, Wish::Pause), other()], &[]), [(9, Next::Step)]);
        let held = next(vec![wished(1, Distributing, Wish::Pause), other()], &[]);
        assert_eq!(held, [(1, Next::Pause), (9, Next::Wait("waits for job 1".to_owned()))]);
        for phase in [Queued, Distributing] {
            let found = next(vec![wished(1, phase, Wish::Cancel)], &[]);
            assert_eq!(found, [(1, Next::Cancel(CANCELLED.to_owned()))]);
        }
        assert_eq!(next(vec![wished(1, Committing, Wish::Cancel)], &[]), [(1, Next::Step)]);
    }

    #[test]
    fn a_window_holds_what_is_queued_unless_it_is_overridden_and_lets_go_on_what_has_begun() {
        use Phase::{Distributing, Queued};
        let freeze = Window {
            name: name("freeze"),
            site: None,
            opens: "at 1970-01-01T00:00:00Z".parse().unwrap(),
            lasts_s: None,
            rate: None,
            reason: "audit".to_owned(),
        };
        let policy = Policy { on_freeze: Some("cancel".to_owned()), ..Policy::default() };
        let rules = Rules::of(&policy).unwrap();
        let text = "the farm is frozen (freeze: audit)".to_owned();
        let runs = vec![
            run(1, "www", Queued),
            run(2, "shop", Distributing),
            with(run(3, "www", Queued), |terms| terms.rules = rules),
            with(run(4, "www", Queued), |terms| terms.override_reason = "a hole".to_owned()),
        ];
        let expected = [
            (2, Next::Step),
            (1, Next::Wait(format!("waits: {text}"))),
            (3, Next::Cancel(text)),
            (4, Next::Step),
        ];
        assert_eq!(next(runs, &[freeze]), expected);
    }
}
