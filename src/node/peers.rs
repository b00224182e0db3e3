//! Who else is in the segment, kept over a restart: where to look for it if multicast does not pass (LD-24).

use super::state_file;
use crate::proto::seek::KNOWN_MAX;
use crate::time::{Duration, Instant};
use crate::wire::control::Peer;
use crate::wire::{Decoder, Encoder, Malformed};
use std::path::{Path, PathBuf};

/// Between two writings: members come and go together.
const PERIOD: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Peers {
    path: PathBuf,
    kept: Vec<Peer>,
    write_at: Option<Instant>,
}

impl Peers {
    /// Reads `STATE/peers`. One that is damaged or absent is none: the farm is found without it.
    pub fn load(state_dir: &Path) -> Self {
        let path = state_dir.join("peers");
        let kept = match state_file::read(&path).map(|bytes| bytes.map(|bytes| decode(&bytes))) {
            Ok(Some(Ok(peers))) => peers,
            Ok(None) => Vec::new(),
            Ok(Some(Err(_))) | Err(_) => {
                log::warn!("{} is not read: it is damaged, and will be written anew", path.display());
                Vec::new()
            }
        };
        Self { path, kept, write_at: None }
    }

    /// The leader first, as far as one was known.
    pub fn kept(&self) -> &[Peer] {
        &self.kept
    }

    /// Writes the peers down where they are others than before, not more than once in ten seconds. An empty
    /// list is not written: it says that the node is alone now, not that it always was.
    pub fn keep(&mut self, now: Instant, peers: &[Peer]) {
        let peers = &peers[..peers.len().min(KNOWN_MAX)];
        if peers.is_empty() || peers == self.kept || self.write_at.is_some_and(|at| now < at) {
            return;
        }
        self.write_at = Some(now + PERIOD);
        let mut out = Encoder::new();
        out.list(peers, |out, peer| peer.encode(out));
        match state_file::write(&self.path, out.as_bytes()) {
            Ok(()) => self.kept = peers.to_vec(),
            Err(error) => log::warn!("the peers cannot be kept: {error}"),
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Vec<Peer>, Malformed> {
    let mut from = Decoder::new(bytes);
    let peers = from.list(KNOWN_MAX, "peers", Peer::decode)?;
    from.finish()?;
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::NodeId;

    fn peer(node: u8) -> Peer {
        Peer { node: NodeId(node.into()), datagram: format!("10.0.0.{node}:7411").parse().unwrap() }
    }

    #[test]
    fn peers_survive_a_restart_and_damage_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let mut peers = Peers::load(dir.path());
        assert_eq!(peers.kept(), []);
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        peers.keep(at(1), &[peer(1), peer(2)]);
        // Too soon after the last, and then not.
        peers.keep(at(2), &[peer(3)]);
        assert_eq!(Peers::load(dir.path()).kept(), [peer(1), peer(2)]);
        peers.keep(at(11), &[peer(3)]);
        peers.keep(at(30), &[]);
        assert_eq!(Peers::load(dir.path()).kept(), [peer(3)]);

        let path = dir.path().join("peers");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Peers::load(dir.path()).kept(), []);
    }
}
