//! Frames between the sockets and the spool: tags, placement, parity, rebuilding (LD-9..LD-14).

use super::channels::{Channels, Frames};
use super::store::Store;
use crate::io::multicast::{BATCH_FRAMES_MAX, Sent};
use crate::proto::engine::Engine;
use crate::proto::fec;
use crate::proto::receiver::Placement;
use crate::proto::sender::{BATCH_MAX, FrameRun};
use crate::time::Instant;
use crate::wire::assignment::Shape;
use crate::wire::id::{NodeId, ObjectName, SessionId};
use crate::wire::report::Reason;
use crate::wire::seal::{FrameKey, SegmentKey};
use crate::wire::session::{Announce, FRAME_OVERHEAD, FrameHeader};
use arrayvec::ArrayVec;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddrV4;

/// What a session needs beside its machine.
#[derive(Debug)]
struct Session {
    key: FrameKey,
    shape: Shape,
    payload: usize,
    /// The data channel that it is sent on, where we send it.
    channel: Option<SocketAddrV4>,
    /// Parity frames of blocks that cannot be rebuilt yet.
    parity: BTreeMap<(u32, u16), Box<[u8]>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames whose tag is wrong: forged, or of another session with our number.
    pub frames_forged: u64,
    pub frames_malformed: u64,
    pub frames_stored: u64,
    pub frames_duplicate: u64,
    pub frames_parity: u64,
    pub frames_sent: u64,
    pub blocks_rebuilt: u64,
    pub blocks_spoiled: u64,
    /// Batches that waited because the socket's buffer was full.
    pub sends_deferred: u64,
}

/// Payloads that follow one another in an object, gathered for one write: a system call per frame would cost
/// more than the frame.
struct Gathered<'a> {
    session: SessionId,
    name: ObjectName,
    offset: u64,
    len: u64,
    pieces: ArrayVec<IoSlice<'a>, { BATCH_FRAMES_MAX }>,
}

impl<'a> Gathered<'a> {
    fn new(session: SessionId, name: ObjectName, offset: u64) -> Self {
        Self { session, name, offset, len: 0, pieces: ArrayVec::new() }
    }

    fn is_continued_by(&self, session: SessionId, offset: u64) -> bool {
        self.session == session && self.offset + self.len == offset && !self.pieces.is_full()
    }

    fn push(&mut self, payload: &'a [u8]) {
        self.len += payload.len() as u64;
        self.pieces.push(IoSlice::new(payload));
    }

    /// Writes what is there. An error comes with the session that it ends.
    fn write(mut self, store: &mut Store) -> Result<(), (SessionId, io::Error)> {
        let written = store.write_pieces(&self.name, self.offset, &mut self.pieces);
        written.map_err(|error| (self.session, error))
    }
}

#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<SessionId, Session>,
    /// Frames that did not fit the socket's buffer yet.
    deferred: VecDeque<(SessionId, FrameRun)>,
    /// A session whose object could not be written, with the error.
    broken: Vec<(SessionId, io::Error)>,
    scratch: Vec<u8>,
    /// The last batch could not be sent: said once, for hundreds may follow in a second.
    is_blocked: bool,
    pub counters: Counters,
}

impl Sessions {
    /// Takes part in a session from now on; `leader` sends it, on `channel` if that is us.
    pub fn open(
        &mut self,
        key: &SegmentKey,
        leader: NodeId,
        announce: &Announce,
        channel: Option<SocketAddrV4>,
    ) {
        if self.is_open(announce.session) {
            return;
        }
        let session = Session {
            key: key.frame_key(leader, announce.session, &announce.salt),
            shape: announce.shape,
            payload: usize::from(announce.payload),
            channel,
            parity: BTreeMap::new(),
        };
        self.sessions.insert(announce.session, session);
    }

    pub fn is_open(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    pub fn close(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.deferred.retain(|(of, _)| *of != session);
    }

    /// Puts frames that came together where they belong. Nothing is done for one whose tag is wrong.
    pub fn on_frames(
        &mut self,
        now: Instant,
        engine: &mut Engine,
        store: &mut Store,
        frames: Frames<'_, '_>,
    ) {
        let mut gathered: Option<Gathered<'_>> = None;
        for datagram in frames {
            let Some((session, name, offset, payload)) = self.place(now, engine, datagram) else { continue };
            if !gathered.as_ref().is_some_and(|before| before.is_continued_by(session, offset)) {
                let before = gathered.replace(Gathered::new(session, name, offset));
                self.broken.extend(before.and_then(|before| before.write(store).err()));
            }
            gathered.get_or_insert_with(|| Gathered::new(session, name, offset)).push(payload);
        }
        self.broken.extend(gathered.and_then(|last| last.write(store).err()));
    }

    /// Where a frame's payload is to be written: session, object and offset.
    fn place<'a>(
        &mut self,
        now: Instant,
        engine: &mut Engine,
        datagram: &'a [u8],
    ) -> Option<(SessionId, ObjectName, u64, &'a [u8])> {
        let Ok((header, tag, payload)) = FrameHeader::decode(datagram) else {
            self.counters.frames_malformed += 1;
            return None;
        };
        let Some(session) = self.sessions.get_mut(&header.session) else {
            // Counted by the engine; the announcement may have been lost.
            engine.handle_frame(now, &header, payload.len());
            return None;
        };
        if session.key.check(header.nonce(), payload, tag).is_err() {
            self.counters.frames_forged += 1;
            return None;
        }
        match engine.handle_frame(now, &header, payload.len()) {
            Placement::Store { offset } => {
                self.counters.frames_stored += 1;
                return Some((header.session, session.shape.name, offset, payload));
            }
            Placement::Parity { block, index } => {
                self.counters.frames_parity += 1;
                session.parity.insert((block, index), payload.into());
            }
            Placement::Duplicate => self.counters.frames_duplicate += 1,
            Placement::Ignore => {}
        }
        None
    }

    /// Tells the engine of sessions that could not be written.
    pub fn finish_batch(&mut self, now: Instant, engine: &mut Engine) {
        for (session, error) in self.broken.drain(..) {
            let reason = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    Reason::NoSpace
                }
                _ => Reason::System,
            };
            engine.handle_reception_failed(
                now,
                session,
                reason,
                format!("the spool cannot be written: {error}"),
            );
        }
    }

    /// A block has frames enough: rebuilds the missing ones and has it hashed.
    pub fn on_ready(
        &mut self,
        now: Instant,
        engine: &mut Engine,
        store: &mut Store,
        session_id: SessionId,
        block: u32,
        missing: u16,
    ) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        let mut rebuilt = Ok(());
        if missing > 0 {
            self.counters.blocks_rebuilt += 1;
            rebuilt = session.rebuild(engine, store, session_id, block, &mut self.scratch);
        }
        session.parity.retain(|(of, _), _| *of != block);
        let verdicts = match rebuilt {
            Ok(()) => store.on_block(&session.shape.name, block),
            Err(error) => {
                log::warn!("session {session_id}: block {block} cannot be rebuilt: {error}");
                vec![(block, false)]
            }
        };
        for (block, right) in verdicts {
            self.counters.blocks_spoiled += u64::from(!right);
            engine.handle_verified(now, session_id, block, right);
        }
    }

    /// Sends frames of a session that we lead; what the socket does not take is sent later.
    pub fn send(&mut self, channels: &mut Channels, store: &Store, session: SessionId, run: FrameRun) {
        if !self.deferred.is_empty() {
            self.deferred.push_back((session, run));
        } else if let Some(rest) = self.send_now(channels, store, session, run) {
            self.counters.sends_deferred += 1;
            self.deferred.push_back((session, rest));
        }
    }

    /// Sends what was put off, as far as the socket takes it. True where something remains.
    pub fn send_deferred(&mut self, channels: &mut Channels, store: &Store) -> bool {
        while let Some((session, run)) = self.deferred.pop_front() {
            if let Some(rest) = self.send_now(channels, store, session, run) {
                self.deferred.push_front((session, rest));
                return true;
            }
        }
        false
    }

    pub fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// Returns what is left to be sent.
    fn send_now(
        &mut self,
        channels: &mut Channels,
        store: &Store,
        session_id: SessionId,
        run: FrameRun,
    ) -> Option<FrameRun> {
        let session = self.sessions.get(&session_id)?;
        let channel = session.channel?;
        let mapping = store.mapping(&session.shape.name)?;
        let (offset, len) = session.shape.block(run.block);
        let block = &mapping[offset as usize..offset as usize + len];
        let sources = len.div_ceil(session.payload) as u16;

        let parity_frames = (run.first_index + run.count).saturating_sub(sources.max(run.first_index));
        self.scratch.resize(usize::from(parity_frames) * session.payload, 0);
        let first_parity = sources.max(run.first_index);
        for (n, out) in self.scratch.chunks_mut(session.payload).enumerate() {
            fec::parity(first_parity + n as u16, block, out);
        }

        let mut headers = ArrayVec::<[u8; FRAME_OVERHEAD], { BATCH_MAX as usize }>::new();
        let mut payloads = ArrayVec::<&[u8], { BATCH_MAX as usize }>::new();
        for n in 0..run.count {
            let index = run.first_index + n;
            let payload = if index < sources {
                let start = usize::from(index) * session.payload;
                &block[start..len.min(start + session.payload)]
            } else {
                let start = usize::from(index - first_parity) * session.payload;
                &self.scratch[start..start + session.payload]
            };
            let sent = run.sent_first + u32::from(n);
            let header = FrameHeader { session: session_id, block: run.block, index, pass: run.pass, sent };
            headers.push(header.encode(payload.len(), session.key.tag(header.nonce(), payload)));
            payloads.push(payload);
        }
        let mut frames = ArrayVec::<(&[u8], &[u8]), { BATCH_MAX as usize }>::new();
        frames.extend(headers.iter().map(|header| &header[..]).zip(payloads.iter().copied()));

        // A short last source frame ends its batch: the kernel's segments are all of one length.
        let full = FRAME_OVERHEAD + session.payload;
        let mut done = 0;
        while done < frames.len() {
            let short = frames[done..].iter().position(|(h, p)| h.len() + p.len() < full);
            let end = short.map_or(frames.len(), |at| done + at + 1);
            match channels.send_frames(channel, &frames[done..end]) {
                Ok(Sent::All) => (done, self.is_blocked) = (end, false),
                Ok(Sent::Full(taken)) => {
                    done += taken;
                    break;
                }
                Err(error) => {
                    // What cannot be sent is lost, and repaired like any other loss.
                    if !std::mem::replace(&mut self.is_blocked, true) {
                        log::warn!("session {session_id}: frames cannot be sent: {error}");
                    }
                    done = end;
                }
            }
        }
        let sent = done as u16;
        self.counters.frames_sent += u64::from(sent);
        (sent < run.count).then(|| FrameRun {
            first_index: run.first_index + sent,
            count: run.count - sent,
            sent_first: run.sent_first + u32::from(sent),
            ..run
        })
    }
}

#[derive(Debug, thiserror::Error)]
enum RebuildError {
    #[error("{0}")]
    Code(#[from] fec::Unrecoverable),
    #[error("the spool cannot be written: {0}")]
    System(#[from] io::Error),
    #[error("its object has left the spool")]
    Gone,
}

impl Session {
    fn rebuild(
        &self,
        engine: &Engine,
        store: &mut Store,
        session: SessionId,
        block: u32,
        scratch: &mut Vec<u8>,
    ) -> Result<(), RebuildError> {
        let missing = engine.missing(session, block);
        let (offset, len) = self.shape.block(block);
        let mapping = store.mapping(&self.shape.name).ok_or(RebuildError::Gone)?;
        scratch.clear();
        scratch.extend_from_slice(&mapping[offset as usize..offset as usize + len]);
        let parities: Vec<(u16, &[u8])> = self
            .parity
            .range((block, 0)..=(block, u16::MAX))
            .map(|((_, index), frame)| (*index, &frame[..]))
            .collect();
        fec::recover(scratch, self.payload, &missing, &parities)?;
        for index in missing {
            let start = usize::from(index) * self.payload;
            let end = len.min(start + self.payload);
            store.write(&self.shape.name, offset + start as u64, &scratch[start..end])?;
        }
        Ok(())
    }
}
