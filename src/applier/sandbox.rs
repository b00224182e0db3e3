//! What the applier gives up before it reads anything of others: new privileges, core dumps, and every
//! file but those of its sites.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use std::fmt;
use std::path::Path;

/// The newest rules that we ask for; an older kernel enforces what it knows.
const RULES: ABI = ABI::V5;

/// How far the sandbox reaches on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All file and TCP access outside the sites is refused.
    Full,
    /// Most of it: the kernel is older than the rules.
    Partial,
    /// The kernel has no Landlock, or one that cannot allow renames between directories.
    None,
}

/// As it stands in the log.
impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "confined to the sites by Landlock",
            Self::Partial => "confined to the sites by Landlock as far as this kernel knows it",
            Self::None => "not confined: this kernel has no Landlock with renames between directories",
        })
    }
}

/// Gives up what is not needed for good. What the kernel cannot do is left out, and the result says so.
pub fn enter<'a>(roots: impl Iterator<Item = &'a Path>) -> Reach {
    // These fail on no kernel that we run on, and what they guard against is not an attack by itself.
    let _ = prctl::set_no_new_privs();
    let _ = prctl::set_dumpable(false);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    confine(roots).unwrap_or(Reach::None)
}

/// Landlock for this thread and those it starts.
fn confine<'a>(roots: impl Iterator<Item = &'a Path>) -> Result<Reach, RulesetError> {
    let mut rules = Ruleset::default()
        // Without this right the kernel refuses the exchange of live and temp.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .create()?;
    for root in roots {
        // A root that is missing is a site that did not open, and stays so.
        if let Ok(root) = PathFd::new(root) {
            rules = rules.add_rule(PathBeneath::new(root, AccessFs::from_all(RULES)))?;
        }
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Reach::Full,
        RulesetStatus::PartiallyEnforced => Reach::Partial,
        RulesetStatus::NotEnforced => Reach::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::site::Site;

    #[test]
    fn a_confined_thread_reaches_its_sites_and_no_other_file() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let confined = std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                drop(Site::open(root.path()).unwrap());
                // Landlock needs it, and unlike the rest of `enter` it is the thread's own.
                prctl::set_no_new_privs().unwrap();
                let reach = confine([root.path()].into_iter()).unwrap_or(Reach::None);
                // Opening a site exchanges two directories.
                drop(Site::open(root.path()).unwrap());
                (reach, std::fs::read(outside.path().join("secret")).is_ok())
            });
            confined.join().unwrap()
        });
        match confined {
            (Reach::None, readable) => assert!(readable),
            (_, readable) => assert!(!readable),
        }
    }
}
