//! Frames at a node: the stand-in of `node/sessions.rs`. Instead of a keyed tag a frame names the sender and
//! salt that the key would be made from.

use crate::disk::Disk;
use farmcast::proto::engine::Engine;
use farmcast::proto::fec;
use farmcast::proto::random::Rng;
use farmcast::proto::receiver::Placement;
use farmcast::proto::sender::FrameRun;
use farmcast::time::Instant;
use farmcast::wire::assignment::Shape;
use farmcast::wire::id::{NodeId, SessionId};
use farmcast::wire::report::Reason;
use farmcast::wire::session::{Announce, FrameHeader, source_frames};
use std::collections::BTreeMap;

/// What the key of a session's frames is made from.
pub type Key = (NodeId, [u8; 16]);

/// Frames that were sent together.
#[derive(Debug)]
pub struct Batch {
    pub key: Key,
    pub frames: Vec<(FrameHeader, Vec<u8>)>,
}

impl Batch {
    /// Turns one bit of it.
    pub fn spoil(&mut self, rng: &mut Rng) {
        let frame = rng.below(self.frames.len() as u64) as usize;
        let payload = &mut self.frames[frame].1;
        let at = rng.below(payload.len() as u64) as usize;
        payload[at] ^= 1 << rng.below(8);
    }
}

#[derive(Debug)]
struct Session {
    key: Key,
    shape: Shape,
    payload: usize,
    parity: BTreeMap<(u32, u16), Vec<u8>>,
}

#[derive(Debug, Default)]
pub struct Sessions(BTreeMap<SessionId, Session>);

impl Sessions {
    pub fn open(&mut self, leader: NodeId, announce: &Announce) {
        let session = Session {
            key: (leader, announce.salt),
            shape: announce.shape,
            payload: announce.payload.into(),
            parity: BTreeMap::new(),
        };
        self.0.insert(announce.session, session);
    }

    pub fn is_open(&self, session: SessionId) -> bool {
        self.0.contains_key(&session)
    }

    pub fn close(&mut self, session: SessionId) {
        self.0.remove(&session);
    }

    pub fn on_frames(
        &mut self,
        now: Instant,
        engine: &mut Engine,
        disk: &mut Disk,
        batch: &Batch,
        arrived: u64,
    ) {
        let mut broken = None;
        for (n, (header, payload)) in batch.frames.iter().enumerate() {
            if arrived >> n & 1 == 0 {
                continue;
            }
            let Some(session) = self.0.get_mut(&header.session) else {
                engine.handle_frame(now, header, payload.len());
                continue;
            };
            if session.key != batch.key {
                continue;
            }
            match engine.handle_frame(now, header, payload.len()) {
                Placement::Store { offset } => {
                    if !disk.write(&session.shape.name, offset as usize, payload) {
                        broken = Some(header.session);
                    }
                }
                Placement::Parity { block, index } => {
                    session.parity.insert((block, index), payload.clone());
                }
                Placement::Duplicate | Placement::Ignore => {}
            }
        }
        if let Some(session) = broken {
            let text = "the spool cannot be written".to_owned();
            engine.handle_reception_failed(now, session, Reason::System, text);
        }
        engine.handle_frames_end(now);
    }

    pub fn on_ready(
        &mut self,
        now: Instant,
        engine: &mut Engine,
        disk: &mut Disk,
        id: SessionId,
        block: u32,
        missing: u16,
    ) {
        let Some(session) = self.0.get_mut(&id) else { return };
        let name = session.shape.name;
        if missing > 0 {
            let (offset, len) = session.shape.block(block);
            let lost = engine.missing(id, block);
            assert_eq!(lost.len(), usize::from(missing), "what is missing is what was said to be");
            let of_block = session.parity.range((block, 0)..=(block, u16::MAX));
            let parities: Vec<(u16, &[u8])> = of_block.map(|(key, frame)| (key.1, &frame[..])).collect();
            if !disk.is_verified(&name, block)
                && let Some(bytes) = disk.bytes_mut(&name)
            {
                let block = &mut bytes[offset as usize..offset as usize + len];
                fec::recover(block, session.payload, &lost, &parities).expect("there is parity enough");
            }
        }
        session.parity.retain(|(of, _), _| *of != block);
        for (block, right) in disk.on_block(now, &name, block) {
            engine.handle_verified(now, id, block, right);
        }
        engine.handle_frames_end(now);
    }

    /// The frames of a run as they go out.
    pub fn frames(&self, disk: &Disk, id: SessionId, run: FrameRun) -> Option<Batch> {
        let session = self.0.get(&id)?;
        let (offset, len) = session.shape.block(run.block);
        let block = &disk.bytes(&session.shape.name)?[offset as usize..offset as usize + len];
        let sources = source_frames(len, session.payload);
        let frames = (0..run.count).map(|n| {
            let index = run.first_index + n;
            let payload = if index < sources {
                let start = usize::from(index) * session.payload;
                block[start..len.min(start + session.payload)].to_vec()
            } else {
                let mut frame = vec![0; session.payload];
                fec::parity(index, block, &mut frame);
                frame
            };
            let sent = run.sent_first + u32::from(n);
            (FrameHeader { session: id, block: run.block, index, pass: run.pass, sent }, payload)
        });
        Some(Batch { key: session.key, frames: frames.collect() })
    }
}
