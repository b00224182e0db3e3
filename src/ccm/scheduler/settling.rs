//! When staging has changed and come to rest (ST-4).
//!
//! Two looks at staging that see the same, a quiet period apart, and another tree than the last job was started for:
//! then a job starts. A hint of the kernel that something was written makes the next look come soon; without hints
//! (network file systems, too many directories) staging is looked at again and again.

const NS_PER_S: u64 = 1_000_000_000;
/// A hint is followed by others: so long they are gathered.
const GATHER_NS: u64 = NS_PER_S / 2;
/// Between two looks where nothing hints at a change.
pub const RESCAN_NS: u64 = 60 * NS_PER_S;

/// One staging directory under watch. Prints are what a look at the whole tree comes to: equal for equal trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settling {
    quiet_ns: u64,
    /// What the last job was started for; empty for none.
    handled: String,
    /// What was seen last, if it differs, and since when.
    seen: Option<(String, u64)>,
    look_ns: u64,
}

impl Settling {
    /// `handled` is the print for which the last job was started; empty for none.
    pub fn new(quiet_s: u32, handled: String) -> Self {
        Self { quiet_ns: u64::from(quiet_s) * NS_PER_S, handled, seen: None, look_ns: 0 }
    }

    /// What the last job was started for; empty for none.
    pub fn handled(&self) -> &str {
        &self.handled
    }

    /// Whether the tree is to be looked at.
    pub const fn wants_look(&self, now_ns: u64) -> bool {
        now_ns >= self.look_ns
    }

    /// Something was written.
    pub fn hint(&mut self, now_ns: u64) {
        match &mut self.seen {
            // It moves again, so what was seen has not come to rest.
            Some((_, since)) => *since = now_ns,
            None => self.look_ns = self.look_ns.min(now_ns.saturating_add(GATHER_NS)),
        }
    }

    /// What a look found that began at `began_ns`; `None` where the tree changed under it. True where a job is to
    /// start for it.
    pub fn looked(&mut self, print: Option<&str>, began_ns: u64) -> bool {
        let Some(print) = print else {
            self.seen = None;
            self.look_ns = began_ns.saturating_add(self.quiet_ns);
            return false;
        };
        if print == self.handled {
            self.seen = None;
            self.look_ns = began_ns.saturating_add(RESCAN_NS);
            return false;
        }
        match &self.seen {
            Some((seen, since)) if seen == print && began_ns >= since.saturating_add(self.quiet_ns) => {
                print.clone_into(&mut self.handled);
                self.seen = None;
                self.look_ns = began_ns.saturating_add(RESCAN_NS);
                true
            }
            Some((seen, since)) if seen == print => {
                self.look_ns = since.saturating_add(self.quiet_ns);
                false
            }
            _ => {
                self.seen = Some((print.to_owned(), began_ns));
                self.look_ns = began_ns.saturating_add(self.quiet_ns);
                false
            }
        }
    }
}
