//! Sender and receiver of a session, driven by whatever passes the parsers: fields out of all bounds, lists that
//! claim everything, time that leaps.

use super::message::announce;
use farmcast::proto::receiver::{Placement, Receiver, ReceiverAction, ReceiverConfig};
use farmcast::proto::sender::{Action, BATCH_MAX, Sender, SenderConfig};
use farmcast::time::{Duration, Instant};
use farmcast::wire::assignment::{LEAF_LEN, Shape};
use farmcast::wire::id::{NodeId, SessionId};
use farmcast::wire::nack::{FrameRange, Lack, Nack};
use farmcast::wire::session::{Announce, FrameHeader, Phase, Progress, Repair, RepairWhen};
use farmcast::wire::{Decoder, Malformed};

/// Actions of a machine in a row, beyond which it does not come to rest.
const ACTIONS_MAX: usize = 100_000;

pub fn run(data: &[u8]) -> bool {
    world(&mut Decoder::new(data)).is_ok()
}

struct World {
    now: Instant,
    head: Announce,
    receiver: Receiver,
    sender: Sender,
    /// Blocks that wait for their hash.
    ready: Vec<u32>,
}

fn world(from: &mut Decoder<'_>) -> Result<(), Malformed> {
    let command_len = u64::from(from.u16("command length")?) * 8 + 97;
    let data_len = u64::from(from.u32("data length")?) % (40 * LEAF_LEN);
    let shape = Shape { command_len, data_len, ..announce().shape };
    let modes = from.u8("modes")?;
    let repair = [Repair::Parity, Repair::Resend][usize::from(modes % 2)];
    let repair_when =
        [RepairWhen::PassEnd, RepairWhen::Immediate, RepairWhen::Timed][usize::from(modes / 2 % 3)];
    let payload = from.u16("payload")?.clamp(1_100, 8_936);
    let head = Announce { shape, payload, repair, repair_when, nack_ms: modes.into(), ..announce() };
    let sending = SenderConfig { repair, repair_when, ..SenderConfig::default() };
    let config =
        ReceiverConfig { parity_max: u32::from(from.u8("parity")?) * 4, ..ReceiverConfig::default() };
    let held = from.u8("held")?;
    let now = Instant::from_nanos(1_000_000_000);
    let mut world = World {
        now,
        receiver: Receiver::new(now, config, &head, 7, |block| held >> (block % 8) & 1 == 1),
        sender: Sender::new(now, sending, head.clone(), &[NodeId(1), NodeId(2)]),
        head,
        ready: Vec::new(),
    };
    while from.remaining() > 0 {
        world.step(from)?;
        world.rest();
    }
    Ok(())
}

impl World {
    fn step(&mut self, from: &mut Decoder<'_>) -> Result<(), Malformed> {
        let now = self.now;
        match from.u8("step")? % 9 {
            0 => {
                let header = FrameHeader {
                    session: SessionId(self.head.session.0 ^ u32::from(from.u8("session")? / 250)),
                    block: u32::from(from.u8("block")?),
                    index: from.u16("index")? % 300,
                    pass: from.u16("pass")?,
                    sent: from.u32("sent")?,
                };
                let len = match from.u8("length")? {
                    0 => usize::from(from.u16("length")?),
                    _ => self.fitting(&header),
                };
                self.placed(&header, len);
            }
            1 => {
                let phase = [Phase::Open, Phase::PassEnd, Phase::Close][usize::from(from.u8("phase")? % 3)];
                let (pass, spread_ms) = (from.u16("pass")?, from.u16("spread")?);
                let sent = from.u32("sent")?;
                self.receiver
                    .on_announce(now, &Announce { phase, pass, spread_ms, sent, ..self.head.clone() });
            }
            2 => {
                let right = from.bool("right")?;
                if let Some(block) = self.ready.pop() {
                    self.receiver.on_verified(now, block, right);
                }
            }
            3 => self.now = now + Duration::from_micros(u64::from(from.u32("micros")?)),
            4 => {
                let nack = nack(from, self.head.session)?;
                self.sender.on_nack(now, NodeId(u64::from(from.u8("node")? % 4)), &nack);
            }
            5 => {
                let [seen, latest] = [from.u32("seen")?, from.u32("latest")?];
                let [settled, received] = [from.u32("settled")?, from.u32("received")?];
                let (dropped, room) = (from.u32("dropped")?, from.u16("room")?);
                let session = self.head.session;
                let progress = Progress { session, seen, latest, settled, received, dropped, room };
                self.sender.on_progress(now, NodeId(u64::from(from.u8("node")? % 4)), &progress);
            }
            6 => self.sender.on_member_joined(NodeId(u64::from(from.u8("node")? % 4))),
            7 => self.sender.on_member_left(NodeId(u64::from(from.u8("node")? % 4))),
            _ => match from.u8("rarely")? {
                0 => self.receiver.fail(now),
                1 => self.sender.stop(now),
                2 => self.receiver.on_drops(from.u32("drops")?),
                byte => self.sender.hold(byte % 2 == 0),
            },
        }
        Ok(())
    }

    fn fitting(&self, header: &FrameHeader) -> usize {
        let payload = usize::from(self.head.payload);
        if header.block >= self.head.shape.blocks() || header.index >= self.head.source_frames(header.block) {
            return payload;
        }
        let (_, len) = self.head.shape.block(header.block);
        payload.min(len - usize::from(header.index) * payload)
    }

    /// A frame lands within its block, or nowhere.
    fn placed(&mut self, header: &FrameHeader, len: usize) {
        match self.receiver.on_frame(self.now, header, len) {
            Placement::Store { offset } => {
                let (start, block_len) = self.head.shape.block(header.block);
                assert!(offset >= start && offset + len as u64 <= start + block_len as u64);
            }
            Placement::Parity { block, index } => {
                assert!(
                    block < self.head.shape.blocks() && index < 255 && len == usize::from(self.head.payload)
                );
            }
            Placement::Duplicate | Placement::Ignore => {}
        }
    }

    /// Both machines say all they have to say.
    fn rest(&mut self) {
        let blocks = self.head.shape.blocks();
        let mut said = 0;
        while let Some(action) = self.receiver.poll(self.now) {
            match action {
                ReceiverAction::Ready { block, missing } => {
                    assert!(block < blocks && self.receiver.missing(block).count() == usize::from(missing));
                    self.ready.push(block);
                }
                ReceiverAction::Nack(nack) => {
                    assert!(nack.lacks.len() + nack.ranges.len() <= Nack::LACKS_MAX);
                    assert!(nack.part < nack.parts && nack.parts <= Nack::PARTS_MAX);
                    assert!(nack.lacks.iter().all(|lack| lack.first + lack.count <= blocks && lack.lack > 0));
                }
                ReceiverAction::Complete => assert_eq!(self.receiver.verified(), blocks),
                ReceiverAction::Progress(_) | ReceiverAction::Abandoned | ReceiverAction::Over => {}
            }
            said += 1;
            assert!(said < ACTIONS_MAX, "the receiver does not come to rest");
        }
        assert!(self.receiver.verified() <= blocks);
        said = 0;
        while let Some(action) = self.sender.poll(self.now) {
            if let Action::Frames(run) = action {
                assert!(run.block < blocks && (1..=BATCH_MAX).contains(&run.count));
                let sources = self.head.source_frames(run.block);
                let end = run.first_index + run.count;
                // All source frames or all parity.
                assert!(end <= sources || (run.first_index >= sources && end <= 255));
            }
            said += 1;
            assert!(said < ACTIONS_MAX, "the sender does not come to rest");
        }
        let _ = (self.receiver.next_deadline(), self.sender.next_deadline(), self.sender.standing());
    }
}

/// A list as its parser lets it pass: ascending, not overlapping, of any size.
fn nack(from: &mut Decoder<'_>, session: SessionId) -> Result<Nack, Malformed> {
    let (pass, flags, count) = (from.u16("pass")?, from.u8("flags")?, from.u8("count")? % 6);
    let (mut lacks, mut first) = (Vec::new(), 0_u32);
    for _ in 0..count {
        first = first.saturating_add(u32::from(from.u8("gap")?));
        let count = u32::from(from.u16("count")?).pow(2).clamp(1, u32::MAX - first);
        lacks.push(Lack { first, count, lack: from.u16("lack")?.max(1) });
        first += count;
        if first == u32::MAX {
            break;
        }
    }
    let (mut ranges, mut place) = (Vec::new(), None);
    for _ in 0..flags >> 5 {
        let (block, first) = (u32::from(from.u8("block")?), from.u16("first")?);
        if place < Some((block, first)) {
            place = Some((block, first));
            ranges.push(FrameRange { block, first, count: from.u32("range")?.max(1) });
        }
    }
    let (seen, parts) = (from.u32("seen")?, from.u8("parts")? % Nack::PARTS_MAX + 1);
    let part = from.u8("part")? % parts;
    let (more, early, failed) = (flags & 1 == 1, flags & 2 == 2, flags & 28 == 28);
    Ok(Nack { session, pass, seen, lacks, ranges, part, parts, more, failed, early })
}

pub fn seeds() -> Vec<Vec<u8>> {
    // A session of three blocks: frames, an announcement, hashes, lists, reports, time.
    let mut bytes = vec![0, 100, 0, 8, 0, 0, 2, 5, 0x98, 255, 2];
    for index in 0..6_u8 {
        bytes.extend([0, 0, 0, 0, index, 0, 1, 0, 0, 0, index + 1, 1]);
    }
    bytes.extend([3, 0, 0, 255, 255, 1, 1, 0, 1, 0, 9, 0, 0, 0, 9, 2, 1, 3, 0, 3, 0, 0]);
    bytes.extend([4, 0, 0, 1, 2, 0, 0, 1, 0, 3, 1, 0, 2, 255, 255, 0, 0, 0, 9, 0, 0, 1]);
    bytes.extend([
        5, 0, 0, 0, 9, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 1, 0, 9, 1, 6, 3, 7, 2, 3, 1, 0, 0, 0, 8, 3,
    ]);
    vec![bytes]
}
