//! Power cuts: all that a site goes through, and at each moment of it the states that a disk may be found in. farmcast
//! opens each of them, and live is one signed version, whole.

use crate::disk::{Disk, State};
use crate::history::{Event, History};
use crate::image::Builder;
use crate::tracer;
use crate::versions::{ONE, TWO, Versions};
use farmcast::content::site::{FOUND, Site};
use farmcast::content::tree::{Hasher, hash_tree};
use farmcast::proto::random::Rng;
use farmcast::wire::id::AssignmentId;
use farmcast::wire::order::Action;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

/// States drawn at one moment before the next moment has its turn.
const TURN: usize = 32;
/// States that failed and are told of.
const TOLD: usize = 10;
/// Of so many states, one also takes the next orders.
const GOES_ON: u64 = 50;

/// What a site is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Open,
    Stage(AssignmentId),
    /// An assignment whose data ends early.
    StageTorn(AssignmentId),
    /// With so many versions kept.
    Commit(AssignmentId, usize),
    Switch(AssignmentId),
    Doubt,
}

/// What a site holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    live: Option<AssignmentId>,
    staged: Option<AssignmentId>,
    doubted: bool,
}

const LIFE: [Deed; 15] = [
    Deed::Open,
    Deed::Stage(ONE),
    Deed::Commit(ONE, 2),
    Deed::Stage(TWO),
    Deed::Commit(TWO, 2),
    Deed::Switch(ONE),
    Deed::Stage(TWO),
    Deed::Commit(TWO, 1),
    Deed::Open,
    Deed::Switch(ONE),
    Deed::StageTorn(TWO),
    Deed::Stage(TWO),
    Deed::Doubt,
    Deed::Stage(ONE),
    Deed::Commit(ONE, 2),
];

impl Deed {
    fn carry_out(self, versions: &Versions, root: &Path, held: &mut Option<Site>) -> Result<(), String> {
        if self == Self::Open {
            // The lock must be free before it is taken again.
            drop(held.take());
            *held = Some(Site::open(root).map_err(|error| error.to_string())?);
            return Ok(());
        }
        let site = held.as_mut().ok_or("it was opened first")?;
        match self {
            Self::Open => {}
            Self::Stage(assignment) => versions.stage(site, assignment)?,
            Self::StageTorn(assignment) => match versions.stage_torn(site, assignment) {
                Ok(()) => return Err("data that ends early was staged".into()),
                Err(_) => site.tidy().map_err(|error| error.to_string())?,
            },
            Self::Commit(assignment, keep) => {
                site.keep(keep);
                versions.order(site, Action::Commit { assignment })?;
                site.tidy().map_err(|error| error.to_string())?;
            }
            Self::Switch(assignment) => {
                versions.order(site, Action::Switch { assignment })?;
                site.tidy().map_err(|error| error.to_string())?;
            }
            Self::Doubt => site.doubt().map_err(|error| error.to_string())?,
        }
        Ok(())
    }

    /// What it leads to.
    const fn of(self, before: Standing) -> Standing {
        match self {
            Self::Open => before,
            Self::Stage(assignment) => Standing { staged: Some(assignment), ..before },
            Self::StageTorn(_) => Standing { staged: None, ..before },
            Self::Commit(assignment, _) => Standing { live: Some(assignment), staged: None, doubted: false },
            Self::Switch(assignment) => Standing { live: Some(assignment), doubted: false, ..before },
            Self::Doubt => Standing { doubted: true, ..before },
        }
    }
}

/// What a site may stand at, between two marks or at one.
#[derive(Clone, Copy, Debug)]
struct Expected {
    before: Standing,
    after: Standing,
}

impl Expected {
    const fn exactly(standing: Standing) -> Self {
        Self { before: standing, after: standing }
    }

    fn admits(&self, found: Standing) -> bool {
        let Self { before, after } = self;
        if before == after {
            return found == *before;
        }
        [before.live, after.live].contains(&found.live)
            && [before.staged, after.staged, None].contains(&found.staged)
            && [before.doubted, after.doubted].contains(&found.doubted)
    }
}

/// What is sought in the states of a history.
struct Search<'a> {
    versions: &'a Versions,
    history: &'a History,
    /// Of each moment, which is that behind so many events.
    expected: Vec<Expected>,
    seen: Mutex<HashSet<u128>>,
    failures: Mutex<Vec<String>>,
}

impl<'a> Search<'a> {
    fn new(versions: &'a Versions, history: &'a History, deeds: &[Deed], begin: Standing) -> Self {
        let mut standings = vec![begin];
        for deed in deeds {
            standings.push(deed.of(standings[standings.len() - 1]));
        }
        let mut marks = 0;
        let at = |marks: usize, at_mark: bool| match standings.get(marks + 1) {
            Some(after) if !at_mark => Expected { before: standings[marks], after: *after },
            _ => Expected::exactly(standings[marks.min(standings.len() - 1)]),
        };
        let mut expected = vec![at(0, true)];
        for event in &history.events {
            let is_mark = matches!(event, Event::Mark);
            marks += usize::from(is_mark);
            expected.push(at(marks, is_mark));
        }
        Self { versions, history, expected, seen: Mutex::default(), failures: Mutex::default() }
    }

    /// Looks into so many different states, or all that there are, and returns how many they were.
    fn look(&self, name: &str, wanted: usize, threads: usize, seed: u64) -> usize {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let place = self.versions.place().join(format!("{name}-{thread}"));
                    let mut builder = Builder::new(place).expect("a place for images");
                    self.look_alone(&mut builder, wanted, thread, threads, seed);
                    assert!(
                        builder.is_untouched().expect("it is ours"),
                        "a file with other names was written to"
                    );
                });
            }
        });
        self.seen.lock().expect("nobody panicked").len()
    }

    /// Every so-manieth moment, round after round.
    fn look_alone(&self, builder: &mut Builder, wanted: usize, thread: usize, threads: usize, seed: u64) {
        let mut rng = Rng::new(seed ^ ((thread as u64 + 1) << 48));
        let mut exhausted = vec![false; self.expected.len()];
        while !exhausted.iter().skip(thread).step_by(threads).all(|done| *done) {
            let mut disk = Disk::of(&self.history.before);
            for (moment, exhausted) in exhausted.iter_mut().enumerate() {
                if moment % threads == thread && !*exhausted {
                    let fresh =
                        (0..TURN).filter(|_| self.is_fresh(&disk, moment, builder, &mut rng, wanted)).count();
                    *exhausted = fresh == 0;
                }
                if let Some(event) = self.history.events.get(moment) {
                    disk.take(event);
                }
            }
        }
    }

    /// Draws a state; whether nobody had before, and it was looked into.
    fn is_fresh(
        &self,
        disk: &Disk,
        moment: usize,
        builder: &mut Builder,
        rng: &mut Rng,
        wanted: usize,
    ) -> bool {
        if self.failures.lock().expect("nobody panicked").len() >= TOLD {
            return false;
        }
        let state = disk.cut(rng);
        let nth = {
            let mut seen = self.seen.lock().expect("nobody panicked");
            if seen.len() >= wanted || !seen.insert(state.fingerprint() ^ moment as u128) {
                return false;
            }
            seen.len() as u64
        };
        if let Err(error) = self.judge(&state, moment, builder, nth.is_multiple_of(GOES_ON)) {
            let mut failures = self.failures.lock().expect("nobody panicked");
            failures.push(format!("behind {moment} events: {error}\n{}", told(&state)));
        }
        true
    }

    fn judge(
        &self,
        state: &State,
        moment: usize,
        builder: &mut Builder,
        goes_on: bool,
    ) -> Result<(), String> {
        let root = builder.build(state).map_err(|error| format!("building it: {error}"))?;
        let (site, found) = standing(self.versions, &root)?;
        let expected = self.expected[moment];
        if !expected.admits(found) {
            return Err(format!("{found:?}, where {expected:?}"));
        }
        drop(site);
        if goes_on {
            self.versions.go_on(&root)?;
        }
        Ok(())
    }
}

/// Opens a site, as after a power cut: what is live, staged and kept is what it says, byte by byte.
fn standing(versions: &Versions, root: &Path) -> Result<(Site, Standing), String> {
    let site = Site::open(root).map_err(|error| format!("opening: {error}"))?;
    let live = whose(versions, "live", &site.live_path())?;
    if site.signed().map(|(assignment, _)| assignment) != live {
        return Err(format!("{live:?} is live, the site says {:?}", site.signed()));
    }
    if site.version() != live.filter(|_| !site.is_doubted()) {
        return Err(format!("{live:?} is live, the site says {:?}", site.version()));
    }
    if let Some(staged) = site.staged()
        && whose(versions, "temp", &root.join(".farmcast/temp"))? != Some(staged)
    {
        return Err(format!("{staged} is not what is staged"));
    }
    for release in site.releases() {
        let assignment = release.assignment;
        if whose(versions, "a release", &site.release_path(assignment))?
            != Some(assignment).filter(|a| *a != FOUND)
        {
            return Err(format!("{assignment} is not what is kept as that"));
        }
    }
    let found = Standing { live, staged: site.staged(), doubted: site.is_doubted() };
    Ok((site, found))
}

/// The version whose tree stands there; `None` is nothing at all, as before the first.
fn whose(versions: &Versions, what: &str, path: &Path) -> Result<Option<AssignmentId>, String> {
    let hash = hash_tree(path).map_err(|error| format!("{what}: {error}"))?.hash;
    if hash == Hasher::new().finish().hash {
        return Ok(None);
    }
    versions.of_tree(&hash).map(Some).ok_or_else(|| format!("{what} is none of the signed versions"))
}

fn told(state: &State) -> String {
    let mut lines = Vec::new();
    let mut next = vec![(state.root, String::new())];
    while let Some((directory, path)) = next.pop() {
        for (name, found) in &state.directories[&directory] {
            let path = format!("{path}/{}", name.display());
            let torn = if found.torn { ", torn" } else { "" };
            lines.push(format!("  {path} {:o} is {}{torn}", found.version.mode, found.node));
            if state.directories.contains_key(&found.node) {
                next.push((found.node, path));
            }
        }
    }
    lines.sort();
    lines.join("\n")
}

fn record(versions: &Versions, root: &Path, deeds: &'static [Deed]) -> History {
    History::of(root, deeds.len() + 1, || {
        let mut held = None;
        for deed in deeds {
            if let Err(error) = deed.carry_out(versions, root, &mut held) {
                return format!("{deed:?}: {error}");
            }
            tracer::mark();
        }
        String::new()
    })
}

/// States that are looked into where nobody says otherwise.
const STATES: usize = 4_000;

/// All that the life of a site may leave, and what a cut while that is repaired leaves.
pub fn cut_everywhere() {
    let wanted =
        std::env::var("CRASH_STATES").map_or(STATES, |text| text.parse().expect("a number of states"));
    let seed = std::env::var("CRASH_SEED").map_or(1, |text| text.parse().expect("a number"));
    let versions = Versions::compose("power");
    let begin = Instant::now();
    let root = versions.place().join("life");
    std::fs::create_dir(&root).expect("the place is ours");
    let life = record(&versions, &root, &LIFE);
    let search = Search::new(&versions, &life, &LIFE, Standing::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut states = search.look("image", wanted - wanted / 4, threads, seed);
    let mut failures = search.failures.into_inner().expect("nobody panicked");
    let mut recoveries = 0_u64;
    while states < wanted && failures.is_empty() {
        let mut rng = Rng::new(seed ^ recoveries.wrapping_mul(0x9e37_79b9));
        let (found, failed) = cut_again(&versions, &life, &mut rng, (wanted - states).min(500), recoveries);
        states += found;
        failures.extend(failed);
        recoveries += 1;
    }
    println!(
        "CRASH power: {states} different states of {} moments and {recoveries} recoveries, seed {seed}, {} failures, \
         {:.1} s",
        search.expected.len(),
        failures.len(),
        begin.elapsed().as_secs_f64(),
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Cuts the power at some moment, and again while what was found is repaired. Returns how many states were looked into.
fn cut_again(
    versions: &Versions,
    life: &History,
    rng: &mut Rng,
    wanted: usize,
    turn: u64,
) -> (usize, Vec<String>) {
    let mut disk = Disk::of(&life.before);
    let moment = rng.below(life.events.len() as u64) as usize;
    life.events[..moment].iter().for_each(|event| disk.take(event));
    let place = versions.place().join("found");
    let mut builder = Builder::new(place).expect("a place for images");
    let root = builder.build(&disk.cut(rng)).expect("an image");
    let repair = record(versions, &root, &[Deed::Open]);
    let standing = match standing(versions, &root) {
        Ok((_, standing)) => standing,
        Err(error) => return (1, vec![format!("behind {moment} events: {error}")]),
    };
    let search = Search::new(versions, &repair, &[Deed::Open], standing);
    let states = search.look("again", wanted, 1, turn);
    let failures = search.failures.into_inner().expect("nobody panicked");
    (states, failures.into_iter().map(|text| format!("cut behind {moment} events, again {text}")).collect())
}

/// Where a sync is left out the search finds what that does: it could not see a loss otherwise.
pub fn find_what_is_not_synced() {
    let versions = Versions::compose("unsynced");
    let root = versions.place().join("life");
    std::fs::create_dir(&root).expect("the place is ours");
    let life = record(&versions, &root, &LIFE);
    let (is_sync, is_sync_all) =
        (|event: &Event| matches!(event, Event::Sync(_)), |event: &Event| matches!(event, Event::SyncAll));
    for (what, left_out) in [("fsync", &is_sync as &dyn Fn(&Event) -> bool), ("syncfs", &is_sync_all)] {
        let events = life.events.iter().filter(|event| !left_out(event)).cloned().collect();
        let careless = History { before: life.before.clone(), events };
        let search = Search::new(&versions, &careless, &LIFE, Standing::default());
        let states = search.look(what, 3_000, 1, 1);
        let failures = search.failures.into_inner().expect("nobody panicked");
        println!("CRASH without {what}: {} failures in {states} states", failures.len());
        assert!(!failures.is_empty(), "nothing depends on {what}, or the search is blind");
    }
}
