//! Asks the CCM for the keys of encrypted assignments on behalf of the applier, which alone can open the answers.

use super::Shell;
use super::act::ApplierRequest;
use crate::time::{Duration, Instant};
use crate::wire::id::{ObjectName, RunId};
use crate::wire::key_grant::KeyRequest;
use crate::wire::notify::UplinkBody;
use crate::wire::report::{Outcome, Reason, Subject};
use std::collections::BTreeMap;

/// From a refusal to the next question; twice as long after each.
const PAUSE: Duration = Duration::from_millis(500);
/// Questions, after which the node reports that it gets no key: half a minute.
const TRIES: u32 = 7;

/// The keys that the applier lacks, by object: at most as many as the spool holds.
#[derive(Debug, Default)]
pub(super) struct Wants(BTreeMap<ObjectName, Want>);

#[derive(Debug)]
struct Want {
    request: KeyRequest,
    /// The run whose staging waits for it; `None` while the object is still on its way.
    run: Option<RunId>,
    asking: Asking,
    tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    Due(Instant),
    /// The answer is on its way.
    Asked,
    /// The applier has it.
    Answered,
}

impl Want {
    fn due(&self) -> Option<Instant> {
        match self.asking {
            Asking::Due(at) => Some(at),
            Asking::Asked | Asking::Answered => None,
        }
    }

    /// False where it was asked for often enough.
    fn try_again(&mut self, now: Instant, spread: Duration) -> bool {
        let again = self.tries < TRIES;
        if again {
            self.asking = Asking::Due(now + PAUSE * (1_u64 << self.tries.saturating_sub(1)) + spread);
        }
        again
    }
}

impl Wants {
    pub fn deadline(&self) -> Option<Instant> {
        self.0.values().filter_map(Want::due).min()
    }
}

impl Shell {
    /// The applier lacks the key of this object.
    pub(super) fn want_key(
        &mut self,
        now: Instant,
        object: ObjectName,
        run: Option<RunId>,
        request: KeyRequest,
    ) {
        let store = &self.store;
        self.wants.0.retain(|object, _| store.shape(object).is_some());
        let spread = self.engine.key_delay();
        let asking = Asking::Due(now + spread);
        let new = Want { request: request.clone(), run: None, asking, tries: 0 };
        let want = self.wants.0.entry(object).or_insert(new);
        want.run = run.or(want.run);
        // What the CCM answered did not help.
        if want.asking == Asking::Answered && !want.try_again(now, spread) {
            self.give_up(now, &object, "what it gives does not open");
        }
    }

    /// Asks for what is due.
    pub(super) fn ask_for_keys(&mut self, now: Instant) {
        let due = self.wants.0.values_mut().filter(|want| want.due().is_some_and(|at| now >= at));
        let mut requests = Vec::new();
        for want in due {
            want.asking = Asking::Asked;
            want.tries += 1;
            requests.push(want.request.clone());
        }
        for request in requests {
            self.uplink(now, UplinkBody::Key(request));
        }
    }

    /// The CCM's answer.
    pub(super) fn take_key(&mut self, now: Instant, request: &KeyRequest, answer: Result<Vec<u8>, String>) {
        let Some((object, want)) = self.wants.0.iter_mut().find(|(_, want)| want.request == *request) else {
            return;
        };
        let (object, assignment) = (*object, request.assignment);
        let spread = self.engine.key_delay();
        match answer {
            Ok(document) => {
                self.applier_queue.push_back(ApplierRequest::Key { document });
                if let Some(run) = want.run {
                    self.applier_queue.push_back(ApplierRequest::Stage { run, assignment, name: object });
                }
                want.asking = Asking::Answered;
                // What could not be begun without it can now.
                self.aheads.forget(&object);
            }
            Err(text) if want.try_again(now, spread) => {
                self.troubles.tell(now, format!("assignment {assignment}: the CCM gives no key: {text}"));
            }
            Err(text) => self.give_up(now, &object, &text),
        }
    }

    fn give_up(&mut self, now: Instant, object: &ObjectName, why: &str) {
        let Some(Want { run: Some(run), request, .. }) = self.wants.0.remove(object) else { return };
        let assignment = request.assignment;
        let text = format!("it is encrypted, and the CCM gives no key: {}", why.trim_end());
        let (subject, reason) = (Subject::Assignment { run, assignment }, Reason::Incomplete);
        self.report(now, subject, Outcome::Failed { reason, text });
    }
}
