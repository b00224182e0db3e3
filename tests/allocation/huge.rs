//! An object of 64 GiB, as a node keeps it in its head.

use farmcast::proto::receiver::{Receiver, ReceiverConfig};
use farmcast::proto::sender::{Sender, SenderConfig};
use farmcast::time::Instant;
use farmcast::wire::assignment::{CommandBuffer, LEAF_LEN, Shape};
use farmcast::wire::id::{AssignmentId, Name, NodeId, RunId, SessionId};
use farmcast::wire::seal::{PublicKey, SigningKey};
use farmcast::wire::session::{Announce, Phase, Repair, RepairWhen};

const LEAVES: usize = 64 * 1024 * 4;

/// Its commands, signed, and by whom. Nobody has its bytes.
pub struct Huge {
    shape: Shape,
    bytes: Vec<u8>,
    publisher: PublicKey,
}

/// What a leader has for it while it sends, and a member that lacks all of it.
pub struct Kept {
    pub sender: Sender,
    pub receiver: Receiver,
    pub buffer: CommandBuffer,
}

impl Huge {
    pub fn sign() -> Self {
        let publisher = SigningKey::from_seed([40; 32]);
        let len = LEAVES as u64 * LEAF_LEN;
        let header = super::session::header(len);
        let (shape, bytes) = CommandBuffer::sign(header, &[], 0, &vec![[7; 32]; LEAVES], &publisher);
        Self { shape, bytes, publisher: publisher.public() }
    }

    pub fn keep(&self) -> Kept {
        let name = || Name::new("www").expect("it is a name");
        let announce = Announce {
            session: SessionId(7),
            salt: [0; 16],
            run: RunId(1),
            assignment: AssignmentId(1),
            site: name(),
            group: name(),
            shape: self.shape,
            payload: 1_400,
            rate: 0,
            pass: 0,
            phase: Phase::Open,
            sent: 0,
            spread_ms: 10,
            counted: true,
            repair: Repair::Parity,
            repair_when: RepairWhen::Immediate,
            nack_ms: 10,
        };
        let now = Instant::from_nanos(1_000_000_000);
        let members: Vec<NodeId> = (1..=8).map(NodeId).collect();
        Kept {
            buffer: CommandBuffer::open(&self.shape, &self.bytes, &self.publisher).expect("it is whole"),
            receiver: Receiver::new(now, ReceiverConfig::default(), &announce, 1, |_| false),
            sender: Sender::new(now, SenderConfig::default(), announce, &members),
        }
    }

    pub fn blocks(&self) -> u32 {
        self.shape.blocks()
    }
}
