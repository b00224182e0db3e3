//! One site on a node, or its shadow at the CCM: what is live, what is staged, and the switch (design D9).
//!
//! ```text
//! ROOT/live/                 what the web server serves
//! ROOT/.farmcast/temp/       what was staged; other names of live's files where they did not change
//!                releases/N/ what assignment N had put live before; 0: what was found here
//!                inventory/N what is in the tree of assignment N, one line each entry
//!                parts/NAME/ what the parts of an update make so far, of which the last was NAME
//!                part        how far that is
//!                trash/      what is being removed
//!                state       last order, what is staged, what is kept
//!                doubt       there where live was found not to be what was signed
//!                journal     intent to switch, while one is under way
//!                lock        held while a process has the site open
//! ```
//! A switch is one `renameat2(RENAME_EXCHANGE)`, so a reader finds the old tree or the new one, whole
//! (CO-9, CO-10), and so is the way back to a release that is kept (CO-7, JT-6, JT-7, VC-11). A process may
//! be killed between any two steps: [`Site::open`] finds out which tree is live and finishes or undoes the
//! rest.

use super::dir::{Dir, Kind};
use super::journal::{Doubt, Intent, Parts, Record, Release, Source, State};
use super::scrub::Scrub;
use crate::wire::id::{AssignmentId, OrderId};
use crate::wire::order::Action;
use crate::wire::report::Reason;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub use super::journal::{RELEASES_MAX, Switch};
pub use super::stage::{StageError, Staged};

pub(super) const LIVE: &[u8] = b"live";
pub(super) const TEMP: &[u8] = b"temp";
const HIDDEN: &[u8] = b".farmcast";
const RELEASES: &[u8] = b"releases";
const INVENTORY: &[u8] = b"inventory";
pub(super) const PARTS: &[u8] = b"parts";
const TRASH: &[u8] = b"trash";
const LOCK: &[u8] = b"lock";
const PROBES: [&[u8]; 2] = [b"probe-a", b"probe-b"];

/// The release that is what stood in live before farmcast's first switch.
pub const FOUND: AssignmentId = AssignmentId(0);

/// A site that is open in this process and in no other.
#[derive(Debug)]
pub struct Site {
    pub(super) path: PathBuf,
    pub(super) root: Dir,
    pub(super) hidden: Dir,
    pub(super) state: State,
    /// How far an update has come that comes in parts.
    pub(super) parts: Option<Parts>,
    /// Live is not what was signed as its version.
    doubted: bool,
    /// Versions beside live that stay.
    keep: usize,
    /// A switch whose instant is past but whose traces are not yet all on the disk.
    unsettled: Option<Intent>,
    _lock: Flock<File>,
}

/// Why a site cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    #[error("{}: another process has this site open", path.display())]
    Busy { path: PathBuf },
    #[error("{}: {what}: {cause}", path.display())]
    Io { path: PathBuf, what: &'static str, cause: io::Error },
    #[error(
        "{}: its file system cannot exchange two directories ({cause}); move the site to ext4, xfs, btrfs or tmpfs",
        path.display()
    )]
    NoExchange { path: PathBuf, cause: io::Error },
}

/// Why an order was not carried out. Live is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    #[error("order {order} is not newer than {last}, which was carried out")]
    OldOrder { order: OrderId, last: OrderId },
    #[error("assignment {assignment} is not staged here{}", staged.map_or(String::new(), |id| format!(", but {id}")))]
    NotStaged { assignment: AssignmentId, staged: Option<AssignmentId> },
    #[error("release {assignment} is not kept here{}", kept(releases))]
    NotKept { assignment: AssignmentId, releases: Vec<AssignmentId> },
    #[error("{what}: {cause}")]
    Io { what: &'static str, cause: io::Error },
}

fn kept(releases: &[AssignmentId]) -> String {
    match releases {
        [] => "; none is".to_owned(),
        some => {
            format!("; kept are {}", some.iter().map(AssignmentId::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}

impl SwitchError {
    /// The reason by which the CCM groups failures.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::OldOrder { .. } => Reason::OldOrder,
            Self::NotStaged { .. } | Self::NotKept { .. } => Reason::NotStaged,
            Self::Io { .. } => Reason::System,
        }
    }
}

/// A step of a switch. Each can be repeated; a crash may fall before or after any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The journal says what is about to happen.
    Intend,
    /// Live and what goes live change places.
    Exchange,
    /// The exchange is on the disk.
    SyncExchange,
    /// What was live gets the name of its release.
    Keep,
    /// Releases beyond those that stay go to the trash.
    Prune,
    /// The state says what is live now. Behind what frees room, for on a full disk it needs it.
    Remember,
    /// The journal is closed.
    Close,
}

/// A switch from its beginning.
pub(super) const SWITCH: [Step; 7] =
    [Step::Intend, Step::Exchange, Step::SyncExchange, Step::Keep, Step::Prune, Step::Remember, Step::Close];
/// Those before the instant.
const PREPARE: usize = 1;
/// Those up to the instant.
const EXCHANGED: usize = 2;

impl Site {
    /// How many versions beside live are kept where nobody says.
    pub const KEEP: usize = 2;

    /// Opens the site at `path`, makes what is missing, and finishes or undoes a switch that was cut short.
    pub fn open(path: &Path) -> Result<Self, SiteError> {
        let mut site = Self::open_unrecovered(path)?;
        let fail = |what| move |cause| SiteError::Io { path: path.into(), what, cause };
        for step in site.recovery().map_err(fail("reading the journal"))? {
            site.perform(step).map_err(fail("finishing a switch that was cut short"))?;
        }
        site.unsettled = None;
        site.drop_unstaged().map_err(fail("removing what was not staged to the end"))?;
        site.drop_orphans().map_err(fail("removing parts of what was not staged to the end"))?;
        site.tidy().map_err(fail("removing old content"))?;
        site.probe_exchange()?;
        Ok(site)
    }

    /// Keeps so many versions beside live from the next switch on, 1..=[`RELEASES_MAX`].
    pub fn keep(&mut self, releases: usize) {
        self.keep = releases.clamp(1, RELEASES_MAX);
    }

    /// The assignment whose result is live; `None` before the first switch, where a switch went back to what
    /// was found here, and where live is in doubt.
    pub fn version(&self) -> Option<AssignmentId> {
        let last = self.state.last.filter(|_| !self.doubted)?;
        Some(last.assignment).filter(|assignment| *assignment != FOUND)
    }

    /// The version that live was signed as, in doubt or not, and the hash that it was signed with.
    pub fn signed(&self) -> Option<(AssignmentId, [u8; 32])> {
        Some((self.state.last?.assignment, self.state.result?))
    }

    /// What there is to compare live with.
    ///
    /// # Errors
    /// A sentence, where the site has no version.
    pub fn compared(&self) -> Result<Scrub, String> {
        let signed = self.signed().filter(|_| !self.doubted);
        let none =
            "the site has no version that it could be compared with; `farmcast synchronize` brings one";
        let (version, result) = signed.ok_or_else(|| none.to_owned())?;
        Ok(Scrub { live: self.live_path(), inventory: self.inventory_path(version), result })
    }

    /// Live was found not to be what was signed: from now on the site has no version, so that nothing is built
    /// on what it holds and the controller brings it all of one (CM-7). Over a restart too; until the next
    /// switch.
    ///
    /// # Errors
    /// The doubt cannot be written down.
    pub fn doubt(&mut self) -> io::Result<()> {
        self.doubted = true;
        Doubt { inode: self.root.stat(LIVE)?.st_ino }.store(&self.hidden)
    }

    /// Whether live was found not to be what was signed.
    pub const fn is_doubted(&self) -> bool {
        self.doubted
    }

    /// What was live before and is kept, the last first.
    pub fn releases(&self) -> &[Release] {
        &self.state.releases
    }

    /// What the site at `path` keeps, read beside whoever has it open; nothing where there is no site.
    pub fn read_releases(path: &Path) -> io::Result<Vec<Release>> {
        match Dir::open(&path.join(".farmcast")) {
            Ok(hidden) => Ok(State::load(&hidden)?.unwrap_or_default().releases),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// What went live last at the site at `path`, read beside whoever has it open; `None` where nothing did.
    pub fn read_last_switch(path: &Path) -> io::Result<Option<Switch>> {
        match Dir::open(&path.join(".farmcast")) {
            Ok(hidden) => Ok(State::load(&hidden)?.unwrap_or_default().last),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The last order that was carried out, 0 before the first.
    pub fn last_order(&self) -> OrderId {
        self.state.last.map_or(OrderId(0), |last| last.order)
    }

    /// The last order that was carried out, what it put live and when.
    pub fn last_switch(&self) -> Option<Switch> {
        self.state.last
    }

    /// The assignment that is staged and can be committed. None of which only some parts are.
    pub fn staged(&self) -> Option<AssignmentId> {
        self.state.staged.map(|staged| staged.assignment)
    }

    pub fn live_path(&self) -> PathBuf {
        self.path.join("live")
    }

    /// The tree of what is staged.
    pub(super) fn temp_path(&self) -> PathBuf {
        self.path.join(".farmcast/temp")
    }

    /// The tree of a version that is kept beside live.
    pub fn release_path(&self, assignment: AssignmentId) -> PathBuf {
        self.path.join(".farmcast/releases").join(assignment.0.to_string())
    }

    /// Where stands what is in the tree of this assignment, entry by entry.
    pub fn inventory_path(&self, assignment: AssignmentId) -> PathBuf {
        self.path.join(".farmcast/inventory").join(assignment.0.to_string())
    }

    /// Gets ready to do what `order` says, so that only the exchange is left to do. `planned` is the instant
    /// it is planned for; it is what the site remembers should the process be killed between the exchange
    /// and its record.
    ///
    /// The order that was carried out last may come again: it is answered as before. So may a newer one
    /// for what is live already.
    pub fn prepare(
        &mut self,
        order: OrderId,
        action: Action,
        planned: u64,
    ) -> Result<Prepared<'_>, SwitchError> {
        let fail = |what| move |cause| SwitchError::Io { what, cause };
        self.settle().map_err(fail("finishing the switch before"))?;
        let assignment = action.assignment();
        let last = self.last_order();
        if order < last || (order == last && (self.doubted || self.state.live().assignment != assignment)) {
            return Err(SwitchError::OldOrder { order, last });
        }
        let is_live = |last: &Switch| last.assignment == assignment && !self.doubted;
        if let Some(switch) = self.state.last.filter(is_live) {
            if order > last {
                self.state.last = Some(Switch { order, ..switch });
                self.state.store(&self.hidden).map_err(fail("recording the order"))?;
            }
            return Ok(Prepared { site: self, plan: Plan::Done(switch.at) });
        }
        let (source, result) = match action {
            Action::Commit { .. } => match self.state.staged {
                Some(staged) if staged.assignment == assignment => (Source::Temp, Some(staged.result)),
                _ => return Err(SwitchError::NotStaged { assignment, staged: self.staged() }),
            },
            Action::Switch { .. } => {
                match self.state.releases.iter().find(|release| release.assignment == assignment) {
                    Some(release) => (Source::Release(assignment), release.result),
                    None => {
                        let releases = self.state.releases.iter().map(|release| release.assignment).collect();
                        return Err(SwitchError::NotKept { assignment, releases });
                    }
                }
            }
        };
        let intent = self
            .intent(Switch { order, assignment, at: planned }, source, result)
            .map_err(fail("looking at live and what takes its place"))?;
        for step in &SWITCH[..PREPARE] {
            self.run(*step, &intent).map_err(fail("recording the intent to switch"))?;
        }
        Ok(Prepared { site: self, plan: Plan::Exchange(intent) })
    }

    /// Carries out an order at once; `now` tells the instant. Returns when it went live.
    pub fn carry_out(
        &mut self,
        order: OrderId,
        action: Action,
        now: impl Fn() -> u64,
    ) -> Result<u64, SwitchError> {
        self.prepare(order, action, now())?.exchange(now)
    }

    /// Removes what earlier switches and stagings left. Not part of a switch, for it takes time.
    pub fn tidy(&self) -> io::Result<()> {
        self.hidden.child(TRASH)?.empty().map(drop)
    }

    /// Carries on a switch whose exchange is done but whose record failed, say on a full disk.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if let Some(intent) = self.unsettled {
            for step in &SWITCH[EXCHANGED..] {
                self.run_firmly(*step, &intent)?;
            }
            self.unsettled = None;
        }
        Ok(())
    }

    /// Puts an entry of the hidden directory where [`Self::tidy`] removes it.
    pub(super) fn discard(&self, name: &[u8]) -> io::Result<()> {
        self.discard_from(&self.hidden, name)
    }

    pub(super) fn discard_from(&self, dir: &Dir, name: &[u8]) -> io::Result<()> {
        let Some(stat) = dir.find(name)? else { return Ok(()) };
        let trash = self.hidden.child(TRASH)?;
        self.make_movable(dir, name)?;
        let inode = stat.st_ino.to_string();
        if trash.find(inode.as_bytes())?.is_some() {
            trash.remove(inode.as_bytes())?;
        }
        dir.rename(name, &trash, inode.as_bytes())
    }

    /// Only who may write in a directory may move it elsewhere, and what the site's owner did to the mode
    /// of live must not stop a switch.
    pub(super) fn make_movable(&self, dir: &Dir, name: &[u8]) -> io::Result<()> {
        let stat = dir.stat(name)?;
        if Kind::of(&stat) == Kind::Directory && stat.st_mode & 0o200 == 0 {
            dir.chmod(name, stat.st_mode & 0o777 | 0o200)?;
        }
        Ok(())
    }

    fn open_unrecovered(path: &Path) -> Result<Self, SiteError> {
        let fail = |what| move |cause| SiteError::Io { path: path.into(), what, cause };
        std::fs::create_dir_all(path).map_err(fail("making the site's directory"))?;
        let root = Dir::open(path).map_err(fail("opening the site's directory"))?;
        let hidden = child_or_make(&root, HIDDEN, 0o700)
            .map_err(fail("opening .farmcast, which must be a directory"))?;
        let lock = hidden.open_or_create(LOCK).map_err(fail("opening the lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => SiteError::Busy { path: path.into() },
            errno => SiteError::Io { path: path.into(), what: "taking the lock", cause: errno.into() },
        })?;
        child_or_make(&root, LIVE, 0o755).map_err(fail("opening live, which must be a directory"))?;
        for name in [TRASH, RELEASES, INVENTORY, PARTS] {
            child_or_make(&hidden, name, 0o700).map_err(fail("opening .farmcast"))?;
        }
        let state = State::load(&hidden).map_err(fail("reading the state"))?.unwrap_or_default();
        let parts = Parts::load(&hidden).map_err(fail("reading how far the parts of an update are"))?;
        let doubt = Doubt::load(&hidden).map_err(fail("reading a doubt"))?;
        let live = root.stat(LIVE).map_err(fail("looking at live"))?.st_ino;
        Ok(Self {
            path: path.into(),
            root,
            hidden,
            state,
            parts,
            doubted: doubt.is_some_and(|doubt| doubt.inode == live),
            keep: Self::KEEP,
            unsettled: None,
            _lock: lock,
        })
    }

    /// The steps that a switch which was cut short still needs, and what it was about.
    fn recovery(&mut self) -> io::Result<Vec<Step>> {
        let Some(intent) = Intent::load(&self.hidden)? else { return Ok(Vec::new()) };
        self.unsettled = Some(intent);
        let live = self.root.stat(LIVE)?.st_ino;
        Ok(if live == intent.incoming_inode {
            SWITCH[EXCHANGED..].to_vec()
        } else {
            // Not exchanged: what is staged stays staged. Or live was replaced by hand, and then nothing
            // that we know of it holds.
            vec![Step::Close]
        })
    }

    fn perform(&mut self, step: Step) -> io::Result<()> {
        match self.unsettled {
            Some(intent) => self.run_firmly(step, &intent),
            None => Ok(()),
        }
    }

    /// A step that must not fail for a full disk as long as there is something to remove.
    fn run_firmly(&mut self, step: Step, intent: &Intent) -> io::Result<()> {
        match self.run(step, intent) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.tidy()?;
                self.run(step, intent)
            }
            done => done,
        }
    }

    fn intent(&self, switch: Switch, source: Source, result: Option<[u8; 32]>) -> io::Result<Intent> {
        let (dir, name) = self.place(source)?;
        self.make_movable(&self.root, LIVE)?;
        self.make_movable(&dir, &name)?;
        Ok(Intent {
            switch,
            source,
            incoming_inode: dir.stat(&name)?.st_ino,
            incoming_result: result,
            outgoing_inode: self.root.stat(LIVE)?.st_ino,
            outgoing: if self.doubted {
                // Nobody must get back to it as to the version that it was.
                Release { assignment: switch.assignment, result: None }
            } else {
                self.state.live()
            },
            keep: self.keep as u8,
        })
    }

    /// Where a tree stands that may go live: a directory, and its name there.
    fn place(&self, source: Source) -> io::Result<(Dir, Vec<u8>)> {
        match source {
            Source::Temp => Ok((self.root.child(HIDDEN)?, TEMP.to_vec())),
            Source::Release(assignment) => Ok((self.hidden.child(RELEASES)?, file_name(assignment))),
        }
    }

    pub(super) fn run(&mut self, step: Step, intent: &Intent) -> io::Result<()> {
        match step {
            Step::Intend => intent.store(&self.hidden),
            Step::Exchange => {
                let (dir, name) = self.place(intent.source)?;
                self.root.exchange(LIVE, &dir, &name)
            }
            Step::SyncExchange => {
                self.root.sync()?;
                self.place(intent.source)?.0.sync()
            }
            Step::Keep => self.keep_outgoing(intent),
            Step::Prune => self.prune(&intent.releases(&self.state.releases), intent),
            Step::Remember => {
                self.remember(intent);
                self.state.store(&self.hidden)?;
                Doubt::discard(&self.hidden)
            }
            Step::Close => Intent::discard(&self.hidden),
        }
    }

    /// A second time it changes nothing.
    fn remember(&mut self, intent: &Intent) {
        self.doubted = false;
        self.state = State {
            last: Some(intent.switch),
            result: intent.incoming_result,
            staged: self.state.staged.filter(|_| intent.source != Source::Temp),
            releases: intent.releases(&self.state.releases),
        };
    }

    /// What was live stands where its successor stood: it gets its own name.
    fn keep_outgoing(&self, intent: &Intent) -> io::Result<()> {
        let (dir, name) = self.place(intent.source)?;
        // Else it has its name already.
        if dir.find(&name)?.is_some_and(|stat| stat.st_ino == intent.outgoing_inode) {
            if !intent.keeps_outgoing() {
                return self.discard_from(&dir, &name);
            }
            let releases = self.hidden.child(RELEASES)?;
            let release = file_name(intent.outgoing.assignment);
            self.discard_from(&releases, &release)?;
            self.make_movable(&dir, &name)?;
            dir.rename(&name, &releases, &release)?;
            releases.sync()?;
        }
        Ok(())
    }

    /// Puts into the trash what is kept of any other version than these, live and what is staged.
    fn prune(&self, stay: &[Release], intent: &Intent) -> io::Result<()> {
        let releases = self.hidden.child(RELEASES)?;
        let is_kept = |name: &[u8]| stay.iter().any(|release| file_name(release.assignment) == name);
        for entry in releases.entries()? {
            if !is_kept(&entry.name) {
                self.discard_from(&releases, &entry.name)?;
            }
        }
        let inventories = self.hidden.child(INVENTORY)?;
        let staged = self.state.staged.map(|staged| file_name(staged.assignment));
        for entry in inventories.entries()? {
            let is_live = file_name(intent.switch.assignment) == entry.name;
            if !is_live && !is_kept(&entry.name) && staged.as_deref() != Some(&entry.name) {
                self.discard_from(&inventories, &entry.name)?;
            }
        }
        Ok(())
    }

    /// Removes a `temp` that was being staged when the process ended.
    fn drop_unstaged(&mut self) -> io::Result<()> {
        let temp = self.hidden.find(TEMP)?;
        if self.state.staged.is_some() && temp.is_none() {
            self.state.staged = None;
            self.state.store(&self.hidden)?;
        }
        if self.state.staged.is_none() && temp.is_some() {
            self.discard(TEMP)?;
        }
        Ok(())
    }

    /// Finds out before the first assignment, not at its switch, that the file system cannot do it.
    fn probe_exchange(&self) -> Result<(), SiteError> {
        let fail = |cause| SiteError::NoExchange { path: self.path.clone(), cause };
        for name in PROBES {
            child_or_make(&self.hidden, name, 0o700).map_err(fail)?;
        }
        let exchanged = self.hidden.exchange(PROBES[0], &self.hidden, PROBES[1]);
        for name in PROBES {
            self.hidden.remove(name).map_err(fail)?;
        }
        exchanged.map_err(fail)
    }
}

/// The name by which a version's tree and its inventory are kept.
pub(super) fn file_name(assignment: AssignmentId) -> Vec<u8> {
    assignment.0.to_string().into_bytes()
}

fn child_or_make(dir: &Dir, name: &[u8], mode: u32) -> io::Result<Dir> {
    match dir.find(name)? {
        None => dir.make(name, mode)?,
        Some(stat) if Kind::of(&stat) == Kind::Directory => {}
        Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
    }
    dir.child(name)
}

enum Plan {
    /// It is live since then.
    Done(u64),
    Exchange(Intent),
}

/// A switch of which only the exchange is left. Dropped without it, nothing was switched and what was
/// staged stays staged.
pub struct Prepared<'a> {
    site: &'a mut Site,
    plan: Plan,
}

impl Prepared<'_> {
    /// Whether the order asks for what is live already: there is no instant to wait for.
    pub const fn is_done(&self) -> bool {
        matches!(self.plan, Plan::Done(_))
    }

    /// Exchanges live and what takes its place. `now` is asked for the instant right after. Returns when it went live.
    ///
    /// What fails behind the exchange does not undo it: it is done again before the next use of the site.
    pub fn exchange(self, now: impl FnOnce() -> u64) -> Result<u64, SwitchError> {
        let site = self.site;
        let mut intent = match self.plan {
            Plan::Done(at) => return Ok(at),
            Plan::Exchange(intent) => intent,
        };
        for step in &SWITCH[PREPARE..EXCHANGED] {
            site.run(*step, &intent).map_err(|cause| SwitchError::Io {
                what: "exchanging live and what takes its place",
                cause,
            })?;
        }
        intent.switch.at = now();
        site.remember(&intent);
        site.unsettled = Some(intent);
        if let Err(cause) = site.settle() {
            log::warn!("{}: recording a switch: {cause}; it will be tried again", site.path.display());
        }
        Ok(intent.switch.at)
    }
}

#[cfg(test)]
mod tests;
