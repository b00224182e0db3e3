//! Who reads staging directories, and who changes them as a whole: never both at a time.
//!
//! A publish reads for as long as it composes, and what is uploaded becomes staging before that or behind it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A gate for each staging directory.
#[derive(Debug, Default)]
pub struct Gates(Mutex<BTreeMap<PathBuf, Arc<RwLock<()>>>>);

impl Gates {
    /// Reads a staging directory while nobody lands an upload in it. Blocks.
    pub fn reading<T>(&self, staging: &Path, work: impl FnOnce() -> T) -> T {
        let gate = self.gate(staging);
        let _held = gate.read().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// Changes a staging directory while nobody reads it, or one that holds it or lies in it. Blocks.
    pub fn changing<T>(&self, staging: &Path, all: &[PathBuf], work: impl FnOnce() -> T) -> T {
        let staging = canonical(staging);
        let mut concerned: Vec<PathBuf> = all.iter().map(|path| canonical(path)).collect();
        concerned.retain(|path| path.starts_with(&staging) || staging.starts_with(path));
        concerned.push(staging);
        // In one order for all, or two would wait for each other.
        concerned.sort();
        concerned.dedup();
        let gates: Vec<_> = concerned.iter().map(|path| self.gate(path)).collect();
        let _held: Vec<_> =
            gates.iter().map(|gate| gate.write().unwrap_or_else(PoisonError::into_inner)).collect();
        work()
    }

    fn gate(&self, staging: &Path) -> Arc<RwLock<()>> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(canonical(staging)).or_default())
    }
}

/// One name for a directory, however it is reached.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn who_changes_a_directory_waits_for_those_who_read_it_or_one_around_it_and_for_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let (outer, inner, other) =
            (dir.path().join("outer"), dir.path().join("outer/inner"), dir.path().join("outer-2"));
        for path in [&outer, &inner, &other] {
            std::fs::create_dir(path).unwrap();
        }
        let all = [outer.clone(), inner.clone(), other.clone()];
        let gates = Gates::default();
        let (said, heard) = channel();
        std::thread::scope(|scope| {
            gates.reading(&outer, || {
                assert!(gates.changing(&other, &all, || true), "nobody reads that one");
                scope.spawn(|| gates.changing(&inner, &all, || said.send(()).unwrap()));
                assert!(heard.recv_timeout(Duration::from_millis(50)).is_err(), "somebody reads it");
            });
            heard.recv_timeout(Duration::from_secs(20)).unwrap();
        });
    }
}
