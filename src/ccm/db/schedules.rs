//! Schedules, and the windows in which nothing starts.

use super::runs::{insert_job, kind_columns, policy_column};
use super::step::Step;
use super::{DbError, Store, events, int, parsed, uint};
use crate::ccm::model::{JobKind, NewJob, Run};
use crate::ccm::notify::notice::Kind;
use crate::ccm::scheduler::bandwidth::BYTES_PER_MBIT;
use crate::ccm::scheduler::window::Window;
use crate::ccm::scheduler::{End, Schedule, Trigger};
use crate::wire::id::{JobId, Name};
use rusqlite::{OptionalExtension, Row};
use std::sync::Arc;

const SCHEDULES: &str = "SELECT name, site, kind, version, checksum, trigger_text, enabled, policy, grace_s, \
     since_ns, seen_end, staging, last_job, last_ns, last_text, called_ns FROM schedules";

/// What has become of a schedule that was due.
#[derive(Debug)]
pub struct Outcome {
    /// The job that it starts; none where it starts none.
    pub job: Option<NewJob>,
    pub text: String,
    /// Ends of runs up to this one are dealt with.
    pub seen_end: u64,
    /// What stands in staging.
    pub staging: String,
    /// It stays enabled.
    pub goes_on: bool,
    /// Another job is in its way.
    pub conflict: bool,
}

impl Store {
    /// False where one of that name exists.
    pub fn add_schedule(&mut self, schedule: &Schedule, now_ns: u64) -> Result<bool, DbError> {
        let step = self.write_schedules()?;
        let (kind, version, checksum) = kind_columns(schedule.kind);
        let sql = "INSERT INTO schedules (name, site, kind, version, checksum, trigger_text, enabled, policy, \
                   grace_s, since_ns, seen_end) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
                   ifnull((SELECT value FROM counters WHERE name = 'end'), 0)) ON CONFLICT DO NOTHING";
        let added = step.execute(
            sql,
            (
                schedule.name.as_str(),
                schedule.site.as_str(),
                kind,
                version,
                checksum,
                schedule.trigger.to_string(),
                schedule.enabled,
                policy_column(&schedule.policy),
                schedule.grace_s,
                int(schedule.since_ns),
            ),
        )? == 1;
        if added {
            let text = format!("added: {} of {} {}", schedule.kind.word(), schedule.site, schedule.trigger);
            events::record(&step, &format!("schedule {}", schedule.name), &text, now_ns)?;
        }
        step.commit()?;
        Ok(added)
    }

    /// All schedules by name: the same list until one of them changes, for reading a thousand cron expressions takes
    /// longer than all else that is done once a second.
    pub fn schedules(&self) -> Result<Arc<[Schedule]>, DbError> {
        if let Some(known) = &*self.schedules.borrow() {
            return Ok(Arc::clone(known));
        }
        let mut query = self.db.prepare_cached(&format!("{SCHEDULES} ORDER BY name"))?;
        let all: Arc<[Schedule]> = query.query_map([], read_schedule)?.collect::<Result<_, _>>()?;
        *self.schedules.borrow_mut() = Some(Arc::clone(&all));
        Ok(all)
    }

    /// A transaction that changes schedules.
    pub(super) fn write_schedules(&mut self) -> Result<Step<'_>, DbError> {
        self.schedules.take();
        self.write()
    }

    pub fn schedule(&self, name: &Name) -> Result<Option<Schedule>, DbError> {
        let mut query = self.db.prepare_cached(&format!("{SCHEDULES} WHERE name = ?1"))?;
        Ok(query.query_row([name.as_str()], read_schedule).optional()?)
    }

    /// False where there is none. Jobs that it started stay.
    pub fn remove_schedule(&mut self, name: &Name, now_ns: u64) -> Result<bool, DbError> {
        let step = self.write_schedules()?;
        let removed = step.execute("DELETE FROM schedules WHERE name = ?1", [name.as_str()])? == 1;
        if removed {
            events::record(&step, &format!("schedule {name}"), "removed", now_ns)?;
        }
        step.commit()?;
        Ok(removed)
    }

    /// Lets a schedule start jobs, or not. What happened while it was disabled is not made up for. False where there
    /// is none.
    pub fn enable_schedule(&mut self, name: &Name, enabled: bool, now_ns: u64) -> Result<bool, DbError> {
        let step = self.write_schedules()?;
        let sql = "UPDATE schedules SET enabled = ?2, since_ns = ?3, \
                   seen_end = ifnull((SELECT value FROM counters WHERE name = 'end'), 0) \
                   WHERE name = ?1 AND enabled != ?2";
        if step.execute(sql, (name.as_str(), enabled, int(now_ns)))? == 1 {
            let text = if enabled { "enabled" } else { "disabled" };
            events::record(&step, &format!("schedule {name}"), text, now_ns)?;
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM schedules WHERE name = ?1)";
        let known = step.query_row(sql, [name.as_str()], |row| row.get(0))?;
        step.commit()?;
        Ok(known)
    }

    /// Writes down what became of a schedule that was due, and adds its job, in one step: whatever happens, it is
    /// dealt with once. `None` where it started none, or the schedule has changed since it was read.
    pub fn settle_schedule(
        &mut self,
        schedule: &Schedule,
        outcome: &Outcome,
        now_ns: u64,
    ) -> Result<Option<Run>, DbError> {
        let step = self.write_schedules()?;
        let sql = "UPDATE schedules SET since_ns = ?2, seen_end = ?3, staging = ?4, enabled = ?5, last_ns = ?2, \
                   last_text = ?6 WHERE name = ?1 AND since_ns = ?7 AND seen_end = ?8 AND staging = ?9 AND enabled";
        let name = schedule.name.as_str();
        let changed = step.execute(
            sql,
            (
                name,
                int(now_ns),
                int(outcome.seen_end),
                &outcome.staging,
                outcome.goes_on,
                &outcome.text,
                int(schedule.since_ns),
                int(schedule.seen_end),
                &schedule.staging,
            ),
        )?;
        if changed == 0 {
            return Ok(None);
        }
        let subject = format!("schedule {name}");
        match outcome.conflict {
            true => events::tell(&step, Kind::Conflict, &subject, &outcome.text, now_ns)?,
            false => events::record(&step, &subject, &outcome.text, now_ns)?,
        }
        let run = match &outcome.job {
            None => None,
            Some(job) => {
                let run = insert_job(&step, job, now_ns)?;
                let sql =
                    "UPDATE schedules SET last_job = (SELECT job FROM runs WHERE id = ?2) WHERE name = ?1";
                step.execute(sql, (name, int(run.0)))?;
                Some(run)
            }
        };
        step.commit()?;
        run.map_or(Ok(None), |run| self.run(run))
    }

    /// Somebody outside calls a trigger: the schedules that wait for it start when they may. Those, as they stand; what
    /// is called again before it started counts once.
    pub fn call_trigger(&mut self, trigger: &Name, now_ns: u64) -> Result<Vec<Schedule>, DbError> {
        let waits = |schedule: &Schedule| matches!(&schedule.trigger, Trigger::Called { name, .. } if name == trigger);
        let mut called: Vec<Schedule> = self.schedules()?.iter().filter(|one| waits(one)).cloned().collect();
        let step = self.write_schedules()?;
        for schedule in called.iter_mut().filter(|schedule| schedule.enabled) {
            if schedule.pending_call().is_none() {
                // In the same nanosecond as what was dealt with last it would be taken for that.
                schedule.called_ns = now_ns.max(schedule.since_ns + 1);
                let sql = "UPDATE schedules SET called_ns = ?2 WHERE name = ?1";
                step.execute(sql, (schedule.name.as_str(), int(schedule.called_ns)))?;
                let text = format!("{trigger} was called");
                events::record(&step, &format!("schedule {}", schedule.name), &text, now_ns)?;
            }
        }
        step.commit()?;
        Ok(called)
    }

    /// Goes by a clock that was set back.
    pub fn rewind_schedule(&mut self, name: &Name, now_ns: u64) -> Result<(), DbError> {
        let step = self.write_schedules()?;
        let sql = "UPDATE schedules SET since_ns = ?2 WHERE name = ?1";
        step.execute(sql, (name.as_str(), int(now_ns)))?;
        let text = "the clock was set back by more than a day: goes by the new time";
        events::record(&step, &format!("schedule {name}"), text, now_ns)?;
        Ok(step.commit()?)
    }

    /// Ends of runs beyond a number, in their order, but for those that bring nothing to any node.
    pub fn ends_after(&self, number: u64) -> Result<Vec<End>, DbError> {
        let sql = "SELECT r.ended, r.site, r.phase, r.job FROM runs r JOIN jobs j ON j.id = r.job \
                   WHERE r.ended > ?1 AND j.kind != 'checkpoint' ORDER BY r.ended";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([int(number)], |row| {
            let (number, job) = (uint(row, 0)?, JobId(uint(row, 3)?));
            Ok(End { number, site: parsed(row, 1)?, phase: parsed(row, 2)?, job })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// False where one of that name exists.
    pub fn add_window(&mut self, window: &Window, now_ns: u64) -> Result<bool, DbError> {
        let step = self.write()?;
        let sql = "INSERT INTO windows (name, site, opens, lasts_s, reason, rate) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                   ON CONFLICT DO NOTHING";
        let (site, opens) = (window.site.as_ref().map_or("", Name::as_str), window.opens.to_string());
        let (lasts, rate) = (window.lasts_s.map(int), window.rate.map(int));
        let values = (window.name.as_str(), site, &opens, lasts, &window.reason, rate);
        let added = step.execute(sql, values)? == 1;
        if added {
            let of = window.site.as_ref().map_or("every site", Name::as_str);
            let lasts =
                window.lasts_s.map_or("until it is lifted".to_owned(), |lasts| format!("for {lasts} s"));
            let what = match window.rate {
                None => format!("keeps jobs of {of} from starting"),
                Some(rate) => format!("bounds what is sent of {of} to {} Mbit/s", rate / BYTES_PER_MBIT),
            };
            let text = format!("{what}, {opens}, {lasts}: {}", window.reason);
            events::record(&step, &format!("window {}", window.name), &text, now_ns)?;
        }
        step.commit()?;
        Ok(added)
    }

    /// All windows by name.
    pub fn windows(&self) -> Result<Vec<Window>, DbError> {
        let sql = "SELECT name, site, opens, lasts_s, reason, rate FROM windows ORDER BY name";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([], |row| {
            let site: String = row.get(1)?;
            Ok(Window {
                name: parsed(row, 0)?,
                site: if site.is_empty() { None } else { Some(parsed(row, 1)?) },
                opens: parsed(row, 2)?,
                lasts_s: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
                reason: row.get(4)?,
                rate: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// False where there is none.
    pub fn remove_window(&mut self, name: &Name, now_ns: u64) -> Result<bool, DbError> {
        let step = self.write()?;
        let removed = step.execute("DELETE FROM windows WHERE name = ?1", [name.as_str()])? == 1;
        if removed {
            events::record(&step, &format!("window {name}"), "lifted", now_ns)?;
        }
        step.commit()?;
        Ok(removed)
    }
}

fn read_schedule(row: &Row<'_>) -> rusqlite::Result<Schedule> {
    let number = row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned);
    let (kind, policy): (String, String) = (row.get(2)?, row.get(7)?);
    let last_job = uint(row, 12)?;
    Ok(Schedule {
        name: parsed(row, 0)?,
        site: parsed(row, 1)?,
        kind: JobKind::new(&kind, number, row.get(4)?).map_err(|error| super::unreadable(2, error))?,
        trigger: parsed(row, 5)?,
        enabled: row.get(6)?,
        policy: serde_json::from_str(&policy).map_err(|error| super::unreadable(7, error))?,
        grace_s: row.get(8)?,
        since_ns: uint(row, 9)?,
        seen_end: uint(row, 10)?,
        staging: row.get(11)?,
        last_job: (last_job != 0).then_some(JobId(last_job)),
        last_ns: uint(row, 13)?,
        last_text: row.get(14)?,
        called_ns: uint(row, 15)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::api::types::{Phase, Policy};
    use crate::ccm::scheduler::Due;
    use crate::ccm::testing::{SECOND, T0, name, store};
    use std::path::Path;

    fn schedule(label: &str) -> Schedule {
        Schedule {
            policy: Policy { retries: Some(3), ..Policy::default() },
            ..Schedule::new(
                name(label),
                name("www"),
                JobKind::Publish { checksum: true },
                "cron UTC 0 3 * * *".parse().unwrap(),
                T0,
            )
        }
    }

    fn outcome(schedule: &Schedule, starts: bool) -> Outcome {
        let job = starts.then(|| NewJob {
            kind: schedule.kind,
            site: schedule.site.clone(),
            nodes: Vec::new(),
            policy: schedule.policy.clone(),
            schedule: Some(schedule.name.clone()),
            override_reason: String::new(),
        });
        let (text, staging) = ("planned".to_owned(), "print".to_owned());
        Outcome { job, text, seen_end: 7, staging, goes_on: true, conflict: false }
    }

    #[test]
    fn what_is_due_is_dealt_with_once_in_one_step_with_its_job() {
        let (_dir, mut store) = store();
        store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
        let nightly = schedule("nightly");
        assert!(store.add_schedule(&nightly, T0).unwrap());
        assert!(!store.add_schedule(&nightly, T0).unwrap());
        assert_eq!(store.schedule(&nightly.name).unwrap(), Some(nightly.clone()));
        let run = store.settle_schedule(&nightly, &outcome(&nightly, true), T0 + SECOND).unwrap().unwrap();
        assert_eq!((run.phase, run.terms.schedule), (Phase::Queued, Some(nightly.name.clone())));
        assert_eq!((run.kind, run.terms.rules.retries), (nightly.kind, 3));
        // As it was read before: somebody has dealt with it.
        assert_eq!(store.settle_schedule(&nightly, &outcome(&nightly, true), T0 + SECOND).unwrap(), None);
        assert_eq!(store.unfinished_runs().unwrap().len(), 1);
        let read = store.schedules().unwrap()[0].clone();
        assert_eq!((read.since_ns, read.seen_end, read.last_job), (T0 + SECOND, 7, Some(run.job)));
        assert_eq!((read.staging.as_str(), read.last_text.as_str()), ("print", "planned"));
        // A start that comes to nothing is dealt with all the same, and a disabled schedule starts nothing.
        assert_eq!(store.settle_schedule(&read, &outcome(&read, false), T0 + 2 * SECOND).unwrap(), None);
        let read = store.schedules().unwrap()[0].clone();
        assert!(store.enable_schedule(&read.name, false, T0 + 3 * SECOND).unwrap());
        let off = store.schedules().unwrap()[0].clone();
        assert_eq!(store.settle_schedule(&off, &outcome(&off, true), T0 + 4 * SECOND).unwrap(), None);
        assert_eq!(store.unfinished_runs().unwrap().len(), 1);
        assert!(
            store.remove_schedule(&read.name, T0).unwrap() && !store.remove_schedule(&read.name, T0).unwrap()
        );
        assert!(!store.enable_schedule(&read.name, true, T0).unwrap());
    }

    #[test]
    fn a_call_starts_what_waits_for_it_once_and_not_before_its_gap_is_over() {
        let (_dir, mut store) = store();
        store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
        let trigger = "called balancer 10".parse().unwrap();
        let waiting = Schedule { trigger, ..schedule("waiting") };
        store.add_schedule(&waiting, T0).unwrap();
        store.add_schedule(&schedule("nightly"), T0).unwrap();
        let due = |store: &Store, at| store.schedule(&waiting.name).unwrap().unwrap().due(&[], at);
        let start = Due::Start { why: "balancer was called".to_owned() };
        assert_eq!(store.call_trigger(&name("other"), T0).unwrap(), []);
        assert_eq!(due(&store, T0 + SECOND), Due::No);
        // In the very instant in which it was made.
        assert_eq!(store.call_trigger(&name("balancer"), T0).unwrap().len(), 1);
        assert_eq!(due(&store, T0 + SECOND), start);
        let read = store.schedule(&waiting.name).unwrap().unwrap();
        store.settle_schedule(&read, &outcome(&read, true), T0 + SECOND).unwrap().unwrap();
        assert_eq!(due(&store, T0 + 100 * SECOND), Due::No, "one call, one start");
        for second in [2, 3] {
            let called = store.call_trigger(&name("balancer"), T0 + second * SECOND).unwrap();
            assert_eq!(
                called[0].pending_call(),
                Some(T0 + 11 * SECOND),
                "a start in {second} s would be too soon"
            );
        }
        assert_eq!(due(&store, T0 + 10 * SECOND), Due::No);
        assert_eq!(due(&store, T0 + 11 * SECOND), start);
        store.enable_schedule(&waiting.name, false, T0 + 4 * SECOND).unwrap();
        store.call_trigger(&name("balancer"), T0 + 5 * SECOND).unwrap();
        store.enable_schedule(&waiting.name, true, T0 + 6 * SECOND).unwrap();
        assert_eq!(due(&store, T0 + 20 * SECOND), Due::No, "what it missed is not made up for");
    }

    #[test]
    fn ends_are_told_in_their_order_and_those_before_a_schedule_are_not_its_own() {
        let (_dir, mut store) = store();
        store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
        let runs: Vec<Run> =
            (0..3).map(|_| store.add_job(JobKind::Rollback, &name("www"), T0).unwrap()).collect();
        for (run, phase) in [(2, Phase::Failed), (0, Phase::Unchanged)] {
            store.end_run(runs[run].id, phase, "over", None, T0).unwrap();
        }
        let ends = store.ends_after(0).unwrap();
        let told: Vec<_> = ends.iter().map(|end| (end.number, end.job, end.phase)).collect();
        assert_eq!(told, [(1, runs[2].job, Phase::Failed), (2, runs[0].job, Phase::Unchanged)]);
        assert_eq!(store.ends_after(1).unwrap(), ends[1..]);
        store.add_schedule(&schedule("late"), T0).unwrap();
        assert_eq!(store.schedules().unwrap()[0].seen_end, 2);
    }

    #[test]
    fn a_window_is_kept_until_it_is_lifted() {
        let (_dir, mut store) = store();
        let window = |site: Option<Name>, lasts_s, rate| Window {
            name: name("w"),
            site,
            opens: "cron UTC 0 3 * * *".parse().unwrap(),
            lasts_s,
            rate,
            reason: "backups".to_owned(),
        };
        for window in [window(None, None, None), window(Some(name("www")), Some(60), Some(125_000))] {
            assert!(store.add_window(&window, T0).unwrap() && !store.add_window(&window, T0).unwrap());
            assert_eq!(store.windows().unwrap(), [window]);
            assert!(store.remove_window(&name("w"), T0).unwrap());
            assert!(!store.remove_window(&name("w"), T0).unwrap());
        }
    }
}
