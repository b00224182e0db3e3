//! Has the applier stage what has come of an assignment, while the rest still arrives.

use super::Shell;
use crate::applier::ipc::Request;
use crate::wire::id::ObjectName;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

/// Bytes of data from which on it is worth a thread, and bytes between two words to the applier.
const STEP: u64 = 1 << 20;

/// The objects that are being staged ahead, and how many bytes of each the applier was told of: at most those of
/// the spool.
#[derive(Debug, Default)]
pub(super) struct Aheads(BTreeMap<ObjectName, u64>);

impl Aheads {
    /// It is begun anew.
    pub fn forget(&mut self, object: &ObjectName) {
        self.0.remove(object);
    }
}

impl Shell {
    /// Tells the applier of what was verified in this turn. What it does not hear now it hears with the next block,
    /// and all of it with the request to stage.
    pub(super) fn stage_ahead(&mut self) {
        while let Some(object) = self.store.take_grown() {
            let Some(shape) = self.store.shape(&object).copied() else { continue };
            if self.store.is_complete(&object) {
                self.aheads.0.remove(&object);
                continue;
            }
            let told = self.aheads.0.get(&object).copied();
            let until = self.store.verified_until(&object, told.unwrap_or(0)).min(shape.data_len);
            if until < told.unwrap_or(0) + STEP || !self.engine.is_to_stage(&object) {
                continue;
            }
            let sent = match told {
                Some(_) => self.applier.send(&Request::Arrived { object, until }, None),
                None => match self.store.open_growing(&object) {
                    Some((file, _)) => {
                        self.applier.send(&Request::Begin { shape, until }, Some(file.as_fd()))
                    }
                    None => continue,
                },
            };
            if sent.is_ok() {
                self.aheads.0.insert(object, until);
            }
        }
        let store = &self.store;
        self.aheads.0.retain(|object, _| store.shape(object).is_some());
    }
}
