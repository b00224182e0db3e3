//! Assignments as real bytes, small ones, so that what is staged can be compared with what was published.

use farmcast::proto::random::Rng;
use farmcast::wire::assignment::Shape;
use farmcast::wire::id::{AssignmentId, ObjectName};
use farmcast::wire::order::Order;

/// What a CCM published.
#[derive(Debug)]
pub struct Object {
    pub assignment: AssignmentId,
    pub shape: Shape,
    pub bytes: Vec<u8>,
    /// Travels inside: who has staged it carries it out.
    pub order: Option<Order>,
}

impl Object {
    pub fn random(assignment: AssignmentId, command_len: u64, data_len: u64, rng: &mut Rng) -> Self {
        let mut name = [0; 32];
        name[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
        name[24..].copy_from_slice(&assignment.0.to_be_bytes());
        let shape = Shape { name: ObjectName(name), command_len, data_len };
        let words = shape.file_len().div_ceil(8);
        let mut bytes: Vec<u8> = (0..words).flat_map(|_| rng.next_u64().to_be_bytes()).collect();
        bytes.truncate(shape.file_len() as usize);
        Self { assignment, shape, bytes, order: None }
    }

    pub fn block(&self, block: u32) -> &[u8] {
        let (offset, len) = self.shape.block(block);
        &self.bytes[offset as usize..offset as usize + len]
    }
}
