//! Objects for others: leaders that pull from us, members that finish by unicast, any HTTP client (GD-10, GD-17).

use super::Shell;
use crate::node::fatal::Fatal;
use crate::time::{Duration, Instant};
use crate::wire::id::ObjectName;
use mio::Token;

/// How often it is looked at how many are given something, and what they may be given.
const BOUNDS_PERIOD: Duration = Duration::from_millis(250);

impl Shell {
    pub(super) fn on_http(&mut self, now: Instant, token: Token) -> Result<(), Fatal> {
        let registry = self.reactor.registry();
        let wanted = self.http.handle_event(registry, token, now).map_err(Fatal::system("HTTP server"))?;
        let Some(wanted) = wanted else { return Ok(()) };
        let name: Option<ObjectName> = wanted.path.strip_prefix("/o/").and_then(|name| name.parse().ok());
        let answered = match name {
            None => self.http.respond_status(registry, wanted.key, 404, "only /o/NAME is served here", now),
            Some(name) => {
                self.serving.push((wanted.key, name));
                self.keep_bounds(now);
                let registry = self.reactor.registry();
                if let Some((file, len)) = self.store.open_complete(&name) {
                    self.http.respond_file(registry, wanted.key, file, len, now)
                } else if self.engine.passes_on_early(&name)
                    && let Some((file, len)) = self.store.open_growing(&name)
                {
                    self.growing.retain(|(key, _)| self.http.ready(*key).is_some());
                    self.growing.push((wanted.key, name));
                    let ready = |at| self.store.verified_until(&name, at);
                    self.http.respond_growing(registry, wanted.key, file, len, ready, now)
                } else {
                    let text = "this node does not hold that object";
                    self.http.respond_status(registry, wanted.key, 404, text, now)
                }
            }
        };
        answered.map_err(Fatal::system("HTTP server"))
    }

    /// Divides what may be sent now among all who are given an object: the answers that have ended leave their part to
    /// the others.
    pub(super) fn keep_bounds(&mut self, now: Instant) {
        self.bounds_at = now + BOUNDS_PERIOD;
        self.serving.retain(|(key, _)| self.http.is_open(*key));
        let names = self.serving.iter().map(|(_, name)| *name).collect();
        let rates = self.engine.handle_serving(now, names);
        for ((key, _), rate) in self.serving.iter().zip(rates) {
            self.http.pace(*key, rate);
        }
    }

    /// More of an object may have been verified: who waits for it gets it.
    pub(super) fn serve_on(&mut self, now: Instant) -> Result<(), Fatal> {
        let mut at = 0;
        while let Some((key, name)) = self.growing.get(at).copied() {
            let Some(ready) = self.http.ready(key) else {
                self.growing.swap_remove(at);
                continue;
            };
            let verified = self.store.verified_until(&name, ready);
            if verified > ready {
                let advanced = self.http.advance(self.reactor.registry(), key, verified, now);
                advanced.map_err(Fatal::system("HTTP server"))?;
            }
            at += 1;
        }
        Ok(())
    }
}
