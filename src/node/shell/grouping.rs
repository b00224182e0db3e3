//! Lists of content groups: checked, kept, and followed by the sockets.

use super::{Shell, TOKEN_PORTS};
use crate::node::channels::Port;
use crate::node::groups;
use crate::time::Instant;
use crate::wire::groups::GroupList;
use mio::Token;
use std::collections::BTreeSet;
use std::net::SocketAddrV4;

impl Shell {
    /// A list that the CCM sent or that came whole out of its parts.
    pub(super) fn take_groups(&mut self, now: Instant, signed: Vec<u8>) {
        let list = match GroupList::open(&signed, &self.farm.director) {
            Ok(list) => list,
            Err(error) => {
                self.channels.counters.refused += 1;
                self.troubles.tell(now, format!("a list of groups is refused: {error}"));
                return;
            }
        };
        if self.engine.handle_groups(now, list, signed.clone())
            && let Err((path, error)) = groups::store(&self.config.state_dir, &signed)
        {
            log::warn!("{}: {error}; after a restart the list of groups is asked for anew", path.display());
        }
    }

    /// Goes by the list that was kept, until there is a newer one.
    pub(super) fn load_groups(&mut self, now: Instant) {
        if let Some((list, signed)) = groups::load(&self.config.state_dir, &self.farm.director) {
            self.engine.handle_groups(now, list, signed);
        }
    }

    pub(super) fn set_data_channels(&mut self, now: Instant, channels: BTreeSet<SocketAddrV4>) {
        self.channels.data.set(channels);
        self.join_data_channels(now);
    }

    /// Joins the channels that could not be joined before.
    pub(super) fn join_data_channels(&mut self, now: Instant) {
        let (new, failed) = self.channels.data.join_missing();
        for fd in new {
            if let Err(error) = self.reactor.watch_fd(fd, Token(TOKEN_PORTS + Port::Data as usize)) {
                log::error!("a data channel cannot be watched: {error}");
            }
            // What came between joining and watching is not told of.
            self.waiting[Port::Data as usize] = true;
        }
        for (channel, error) in failed {
            self.troubles.tell(now, format!("data channel {channel} cannot be joined: {error}"));
        }
    }
}
