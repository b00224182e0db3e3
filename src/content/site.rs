//! One site on a node, or its shadow at the CCM: what is live, what is staged, and the switch (design D9).
//!
//! ```text
//! ROOT/live/                 what the web server serves
//! ROOT/.farmcast/temp/       what was staged; other names of live's files where they did not change
//!                backup/     what was live before
//!                trash/      what is being removed
//!                state       last order, what is staged
//!                journal     intent to switch, while one is under way
//!                lock        held while a process has the site open
//! ```
//! A switch is one `renameat2(RENAME_EXCHANGE)`, so a reader finds the old tree or the new one, whole
//! (CO-9, CO-10). A process may be killed between any two steps: [`Site::open`] finds out which tree is
//! live and finishes or undoes the rest.

use super::dir::{Dir, Kind};
use super::journal::{Intent, Record, State};
use crate::wire::id::{AssignmentId, OrderId};
use crate::wire::report::Reason;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub use super::journal::Switch;
pub use super::stage::{StageError, Staged};

pub(super) const LIVE: &[u8] = b"live";
pub(super) const TEMP: &[u8] = b"temp";
const HIDDEN: &[u8] = b".farmcast";
const BACKUP: &[u8] = b"backup";
const TRASH: &[u8] = b"trash";
const LOCK: &[u8] = b"lock";
const PROBES: [&[u8]; 2] = [b"probe-a", b"probe-b"];

/// A site that is open in this process and in no other.
#[derive(Debug)]
pub struct Site {
    pub(super) path: PathBuf,
    pub(super) root: Dir,
    pub(super) hidden: Dir,
    pub(super) state: State,
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
    #[error("{what}: {cause}")]
    Io { what: &'static str, cause: io::Error },
}

impl SwitchError {
    /// The reason by which the CCM groups failures.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::OldOrder { .. } => Reason::OldOrder,
            Self::NotStaged { .. } => Reason::NotStaged,
            Self::Io { .. } => Reason::System,
        }
    }
}

/// A step of a switch. Each can be repeated; a crash may fall before or after any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The journal says what is about to happen.
    Intend,
    /// Live and temp change places.
    Exchange,
    /// The exchange is on the disk.
    SyncExchange,
    /// The older backup goes to the trash.
    DropBackup,
    /// What was live becomes the backup.
    KeepBackup,
    /// The state says what is live now. Behind the backup's steps, for on a full disk it needs their room.
    Remember,
    /// The journal is closed.
    Close,
}

/// A switch from its beginning.
pub(super) const SWITCH: [Step; 7] = [
    Step::Intend,
    Step::Exchange,
    Step::SyncExchange,
    Step::DropBackup,
    Step::KeepBackup,
    Step::Remember,
    Step::Close,
];
/// Those before the instant.
const PREPARE: usize = 1;
/// Those up to the instant.
const EXCHANGED: usize = 2;

impl Site {
    /// Opens the site at `path`, makes what is missing, and finishes or undoes a switch that was cut short.
    pub fn open(path: &Path) -> Result<Self, SiteError> {
        let mut site = Self::open_unrecovered(path)?;
        let fail = |what| move |cause| SiteError::Io { path: path.into(), what, cause };
        for step in site.recovery().map_err(fail("reading the journal"))? {
            site.perform(step).map_err(fail("finishing a switch that was cut short"))?;
        }
        site.unsettled = None;
        site.drop_unstaged().map_err(fail("removing what was not staged to the end"))?;
        site.tidy().map_err(fail("removing old content"))?;
        site.probe_exchange()?;
        Ok(site)
    }

    /// The assignment whose result is live; `None` before the first switch.
    pub fn version(&self) -> Option<AssignmentId> {
        self.state.last.map(|last| last.assignment)
    }

    /// The last order that was carried out, 0 before the first.
    pub fn last_order(&self) -> OrderId {
        self.state.last.map_or(OrderId(0), |last| last.order)
    }

    /// The last order that was carried out, what it put live and when.
    pub fn last_switch(&self) -> Option<Switch> {
        self.state.last
    }

    /// The assignment that is staged and can be committed.
    pub fn staged(&self) -> Option<AssignmentId> {
        self.state.staged.map(|staged| staged.assignment)
    }

    pub fn live_path(&self) -> PathBuf {
        self.path.join("live")
    }

    /// Where what the site knows of its content can be kept: the hidden directory, never served.
    pub fn hashes_path(&self) -> PathBuf {
        self.hidden_path().join("hashes")
    }

    pub fn hidden_path(&self) -> PathBuf {
        self.path.join(".farmcast")
    }

    /// Gets ready to put `assignment` live on behalf of `order`, so that only the exchange is left to do.
    /// `planned` is the instant it is planned for; it is what the site remembers should the process be
    /// killed between the exchange and its record.
    ///
    /// The order that was carried out last may come again: it is answered as before. So may a newer one
    /// for what is live already.
    pub fn prepare(
        &mut self,
        order: OrderId,
        assignment: AssignmentId,
        planned: u64,
    ) -> Result<Prepared<'_>, SwitchError> {
        let fail = |what| move |cause| SwitchError::Io { what, cause };
        self.settle().map_err(fail("finishing the switch before"))?;
        let last = self.last_order();
        if order < last || (order == last && self.version() != Some(assignment)) {
            return Err(SwitchError::OldOrder { order, last });
        }
        if let Some(switch) = self.state.last.filter(|last| last.assignment == assignment) {
            if order > last {
                self.state.last = Some(Switch { order, ..switch });
                self.state.store(&self.hidden).map_err(fail("recording the order"))?;
            }
            return Ok(Prepared { site: self, plan: Plan::Done(switch.at) });
        }
        if self.staged() != Some(assignment) {
            return Err(SwitchError::NotStaged { assignment, staged: self.staged() });
        }
        let intent = self
            .intent(Switch { order, assignment, at: planned })
            .map_err(fail("looking at live and temp"))?;
        for step in &SWITCH[..PREPARE] {
            self.run(*step, &intent).map_err(fail("recording the intent to switch"))?;
        }
        Ok(Prepared { site: self, plan: Plan::Exchange(intent) })
    }

    /// Puts `assignment` live at once; `now` tells the instant. Returns when it went live.
    pub fn commit(
        &mut self,
        order: OrderId,
        assignment: AssignmentId,
        now: impl Fn() -> u64,
    ) -> Result<u64, SwitchError> {
        self.prepare(order, assignment, now())?.exchange(now)
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
        let Some(stat) = self.hidden.find(name)? else { return Ok(()) };
        let trash = self.hidden.child(TRASH)?;
        self.make_movable(&self.hidden, name)?;
        let inode = stat.st_ino.to_string();
        if trash.find(inode.as_bytes())?.is_some() {
            trash.remove(inode.as_bytes())?;
        }
        self.hidden.rename(name, &trash, inode.as_bytes())
    }

    /// Only who may write in a directory may move it elsewhere, and what the site's owner did to the mode
    /// of live must not stop a switch.
    fn make_movable(&self, dir: &Dir, name: &[u8]) -> io::Result<()> {
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
        child_or_make(&hidden, TRASH, 0o700).map_err(fail("opening the trash"))?;
        let state = State::load(&hidden).map_err(fail("reading the state"))?.unwrap_or_default();
        Ok(Self { path: path.into(), root, hidden, state, unsettled: None, _lock: lock })
    }

    /// The steps that a switch which was cut short still needs, and what it was about.
    fn recovery(&mut self) -> io::Result<Vec<Step>> {
        let Some(intent) = Intent::load(&self.hidden)? else { return Ok(Vec::new()) };
        self.unsettled = Some(intent);
        let live = self.root.stat(LIVE)?.st_ino;
        Ok(if live == intent.temp_inode {
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

    fn intent(&self, switch: Switch) -> io::Result<Intent> {
        self.make_movable(&self.root, LIVE)?;
        Ok(Intent {
            switch,
            live_inode: self.root.stat(LIVE)?.st_ino,
            temp_inode: self.hidden.stat(TEMP)?.st_ino,
        })
    }

    pub(super) fn run(&mut self, step: Step, intent: &Intent) -> io::Result<()> {
        match step {
            Step::Intend => intent.store(&self.hidden),
            Step::Exchange => self.root.exchange(LIVE, &self.hidden, TEMP),
            Step::SyncExchange => {
                self.root.sync()?;
                self.hidden.sync()
            }
            Step::DropBackup => match self.hidden.find(TEMP)? {
                Some(_) => self.discard(BACKUP),
                // The backup is already what was live.
                None => Ok(()),
            },
            Step::KeepBackup => match self.hidden.find(TEMP)? {
                Some(_) => self.hidden.rename(TEMP, &self.hidden, BACKUP),
                None => Ok(()),
            },
            Step::Remember => {
                self.state = State { last: Some(intent.switch), staged: None };
                self.state.store(&self.hidden)
            }
            Step::Close => Intent::discard(&self.hidden),
        }
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

    /// Exchanges live and temp. `now` is asked for the instant right after. Returns when it went live.
    ///
    /// What fails behind the exchange does not undo it: it is done again before the next use of the site.
    pub fn exchange(self, now: impl FnOnce() -> u64) -> Result<u64, SwitchError> {
        let site = self.site;
        let mut intent = match self.plan {
            Plan::Done(at) => return Ok(at),
            Plan::Exchange(intent) => intent,
        };
        for step in &SWITCH[PREPARE..EXCHANGED] {
            site.run(*step, &intent)
                .map_err(|cause| SwitchError::Io { what: "exchanging live and temp", cause })?;
        }
        intent.switch.at = now();
        site.state = State { last: Some(intent.switch), staged: None };
        site.unsettled = Some(intent);
        if let Err(cause) = site.settle() {
            log::warn!("{}: recording a switch: {cause}; it will be tried again", site.path.display());
        }
        Ok(intent.switch.at)
    }
}

#[cfg(test)]
mod tests;
