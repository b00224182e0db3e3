//! The matrix: an operation on a site, times its system calls, times what may happen there.

use crate::tracer::{self, Call, Fault, Run, Side};
use crate::versions::{ONE, TWO, Versions};
use farmcast::content::site::Site;
use farmcast::wire::id::AssignmentId;
use farmcast::wire::order::Action;
use nix::errno::Errno;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a process does to a site. It opens it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The second version over the first, which stays live.
    Stage,
    /// The second version goes live; what was found at the start leaves the site.
    Commit,
    /// Back to the first.
    WayBack,
    /// Nothing but what opening does.
    Open,
}

pub const OPERATIONS: [Operation; 3] = [Operation::Stage, Operation::Commit, Operation::WayBack];
const ERRNOS: [Errno; 3] = [Errno::EIO, Errno::ENOSPC, Errno::EMFILE];

impl Operation {
    /// Makes a site in the state that the operation starts from.
    fn prepare(self, versions: &Versions) -> PathBuf {
        let root = versions.site();
        let mut site = Site::open(&root).expect("a site");
        if matches!(self, Self::Commit | Self::WayBack) {
            versions.stage(&mut site, TWO).expect("the second version");
        }
        if self == Self::WayBack {
            versions.order(&mut site, Action::Commit { assignment: TWO }).expect("the second order");
        }
        root
    }

    /// What is live before it, and behind it.
    const fn versions(self) -> (AssignmentId, AssignmentId) {
        match self {
            Self::Stage | Self::Open => (ONE, ONE),
            Self::Commit => (ONE, TWO),
            Self::WayBack => (TWO, ONE),
        }
    }

    /// Does it, at a site that stays open in `held`.
    fn run(self, versions: &Versions, root: &Path, held: &mut Option<Site>) -> Result<(), String> {
        let site = match held {
            Some(site) => site,
            None => held.insert(Site::open(root).map_err(|error| error.to_string())?),
        };
        match self {
            Self::Stage => versions.stage(site, TWO),
            Self::Commit => {
                site.keep(1);
                versions.order(site, Action::Commit { assignment: TWO })
            }
            Self::WayBack => versions.order(site, Action::Switch { assignment: ONE }),
            Self::Open => Ok(()),
        }
    }
}

/// What a sweep found, and how far it went.
pub struct Sweep {
    what: String,
    /// Every call that changes files is a point, and every so-manieth of the others.
    stride: usize,
    points: usize,
    old: usize,
    new: usize,
    /// Errors that were reported, where something was made to fail.
    reported: usize,
    failures: Vec<String>,
    begin: Instant,
}

impl Sweep {
    /// All points, whatever the stride, where `CRASH_ALL` is set.
    pub fn new(what: String, stride: usize) -> Self {
        let stride = if std::env::var_os("CRASH_ALL").is_some() { 1 } else { stride };
        Self {
            what,
            stride,
            points: 0,
            old: 0,
            new: 0,
            reported: 0,
            failures: Vec::new(),
            begin: Instant::now(),
        }
    }

    const fn is_full(&self) -> bool {
        self.stride == 1
    }

    fn takes(&self, index: usize, call: Call) -> bool {
        call.changes_files() || index.is_multiple_of(self.stride)
    }

    /// Calls that change files with their numbers: all, or one of `stride` from `turn` on.
    fn some(&self, calls: Vec<Call>, turn: usize) -> Vec<(usize, Call)> {
        let changing = calls.into_iter().enumerate().filter(|(_, call)| call.changes_files());
        changing.skip(turn % self.stride).step_by(self.stride).collect()
    }

    fn count(&mut self, point: String, result: Result<bool, String>) {
        self.points += 1;
        match result {
            Ok(is_new) => {
                self.new += usize::from(is_new);
                self.old += usize::from(!is_new);
            }
            Err(error) => self.failures.push(format!("{point}: {error}")),
        }
    }

    /// Says what was done.
    pub fn tell(&self) {
        println!(
            "CRASH {}: {} points, stride {}: {} ended old, {} new, {} errors reported, {} failures, {:.1} s",
            self.what,
            self.points,
            self.stride,
            self.old,
            self.new,
            self.reported,
            self.failures.len(),
            self.begin.elapsed().as_secs_f64(),
        );
    }

    /// # Panics
    /// Where a point failed.
    pub fn check(&self) {
        assert!(self.points > 0, "{}: no point at all", self.what);
        assert!(self.failures.is_empty(), "{}:\n{}", self.what, self.failures.join("\n"));
    }
}

/// The calls of an operation that nothing disturbs.
fn calls(versions: &Versions, operation: Operation) -> Vec<Call> {
    let root = operation.prepare(versions);
    let run = attempt(versions, operation, &root, Fault::Nothing);
    assert_eq!(run.said.as_deref(), Some(""), "{operation:?} undisturbed");
    assert_eq!(versions.live(&root), Ok(operation.versions().1), "{operation:?} undisturbed");
    versions.clear();
    run.calls
}

fn attempt(versions: &Versions, operation: Operation, root: &Path, fault: Fault) -> Run {
    tracer::run(fault, || {
        let mut held = None;
        let result = operation.run(versions, root, &mut held);
        tracer::mark();
        result.err().unwrap_or_default()
    })
}

/// Kills an operation at both sides of each of its calls.
pub fn kill_everywhere(sweep: &mut Sweep, versions: &Versions, operation: Operation) {
    for (index, call) in calls(versions, operation).into_iter().enumerate() {
        if !sweep.takes(index, call) {
            continue;
        }
        for side in [Side::Entry, Side::Exit] {
            if !sweep.is_full() && side == Side::Exit && !call.changes_files() {
                continue;
            }
            let root = operation.prepare(versions);
            let run = attempt(versions, operation, &root, Fault::Kill { call: index, side });
            let (old, new) = operation.versions();
            let result = match run.said {
                None => versions.recover(&root),
                Some(said) => Err(format!("it was not killed, it says {said:?}")),
            };
            let result = result.and_then(|live| one_of(live, old, new));
            sweep.count(format!("{operation:?} killed at {side:?} of call {index}, {call}"), result);
            versions.clear();
        }
    }
}

/// Kills an operation behind a call that changes files, and what opens the site then behind one of its own: all
/// pairs, or some of both.
pub fn kill_recoveries(sweep: &mut Sweep, versions: &Versions, operation: Operation) {
    let firsts = sweep.some(calls(versions, operation), 0);
    for (turn, (first, at)) in firsts.into_iter().enumerate() {
        let killed = |operation| {
            let root = Operation::prepare(operation, versions);
            attempt(versions, operation, &root, Fault::Kill { call: first, side: Side::Exit });
            root
        };
        let root = killed(operation);
        let run = attempt(versions, Operation::Open, &root, Fault::Nothing);
        assert_eq!(run.said.as_deref(), Some(""), "{operation:?} killed behind call {first}, {at}");
        versions.clear();
        for (second, call) in sweep.some(run.calls, turn) {
            let root = killed(operation);
            let before = versions.live(&root);
            let fault = Fault::Kill { call: second, side: Side::Exit };
            let result = match attempt(versions, Operation::Open, &root, fault).said {
                None => before.and_then(|before| {
                    one_of(versions.recover(&root)?, before, before)?;
                    let (old, new) = operation.versions();
                    one_of(before, old, new)
                }),
                Some(said) => Err(format!("opening was not killed, it says {said:?}")),
            };
            let point =
                format!("{operation:?} killed behind call {first}, {at}, opening behind {second}, {call}");
            sweep.count(point, result);
            versions.clear();
        }
    }
}

/// Whether it is the new version.
fn one_of(live: AssignmentId, old: AssignmentId, new: AssignmentId) -> Result<bool, String> {
    match live {
        live if live == new => Ok(old != new),
        live if live == old => Ok(false),
        _ => Err(format!("{live} is live, neither {old} nor {new}")),
    }
}

/// Lets each call of an operation that touches files fail, and does it again: in the same process, or in one that
/// opens the site anew.
pub fn fail_everywhere(sweep: &mut Sweep, versions: &Versions, operation: Operation) {
    let mut turn = 0_usize;
    for (index, call) in calls(versions, operation).into_iter().enumerate() {
        if !call.touches_files() || !sweep.takes(index, call) {
            continue;
        }
        for (nth, errno) in ERRNOS.into_iter().enumerate() {
            turn += 1;
            // Of a call that only looks, one error tells nearly as much as three.
            if !sweep.is_full() && !call.changes_files() && nth != index % ERRNOS.len() {
                continue;
            }
            for goes_on in [true, false] {
                if !sweep.is_full() && goes_on == turn.is_multiple_of(2) {
                    continue;
                }
                let root = operation.prepare(versions);
                let fault = Fault::Fail { call: index, errno };
                let result = fail(versions, operation, &root, fault, goes_on, &mut sweep.reported);
                let how = if goes_on { "same process" } else { "opened anew" };
                sweep
                    .count(format!("{operation:?}: call {index}, {call}, fails with {errno}; {how}"), result);
                versions.clear();
            }
        }
    }
}

fn fail(
    versions: &Versions,
    operation: Operation,
    root: &Path,
    fault: Fault,
    goes_on: bool,
    reported: &mut usize,
) -> Result<bool, String> {
    let (old, new) = operation.versions();
    let run = tracer::run(fault, || {
        let mut held = None;
        let first = operation.run(versions, root, &mut held);
        tracer::mark();
        let failed = first.is_err();
        match judge(versions, root, first, old, new) {
            Err(error) => format!("BAD {error}"),
            Ok(()) if goes_on => {
                let again = operation.run(versions, root, &mut held);
                match again.and_then(|()| one_of(versions.live(root)?, new, new)) {
                    Err(error) => format!("BAD again: {error}"),
                    Ok(_) => failed.to_string(),
                }
            }
            Ok(()) => failed.to_string(),
        }
    });
    match run.said.as_deref() {
        Some("true") => *reported += 1,
        Some("false") => {}
        said => return Err(format!("{said:?}")),
    }
    one_of(versions.recover(root)?, old, new)
}

/// An operation that fails says why, and live is as it was; one that succeeds has done it.
fn judge(
    versions: &Versions,
    root: &Path,
    result: Result<(), String>,
    old: AssignmentId,
    new: AssignmentId,
) -> Result<(), String> {
    let live = versions.live(root)?;
    match result {
        Ok(()) if live == new => Ok(()),
        Ok(()) => Err(format!("it says that it is done, but {live} is live")),
        Err(error) if live != old => Err(format!("{live} is live behind the error {error:?}")),
        Err(error) if !error.contains("os error") => Err(format!("the error does not say why: {error:?}")),
        Err(_) => Ok(()),
    }
}
