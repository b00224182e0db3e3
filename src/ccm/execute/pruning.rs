//! The history is pruned beside everything else: some lines in a turn, and again soon while there are more.

use crate::ccm::clock::NS_PER_S;
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Keep};
use std::sync::Arc;

const EVERY_NS: u64 = 60 * NS_PER_S;
/// Events that go in one turn: a few milliseconds of the database.
const AT_ONCE: u32 = 500;

#[derive(Debug, Default)]
pub(super) struct Pruning {
    next_ns: u64,
}

impl Pruning {
    pub async fn turn(&mut self, controller: &Arc<Controller>, now_ns: u64) -> Result<(), DbError> {
        // A clock that was set back would keep us waiting.
        if now_ns < self.next_ns && self.next_ns - now_ns <= EVERY_NS {
            return Ok(());
        }
        self.next_ns = now_ns + EVERY_NS;
        let history = &controller.config.history;
        let keep = Keep { days: history.keep_days, events: history.keep_events };
        let gone = controller.store(move |store| store.prune_events(keep, AT_ONCE, now_ns)).await?;
        if gone == AT_ONCE {
            self.next_ns = 0;
        }
        Ok(())
    }
}
