//! Frames: header, tag, payload.

use crate::memory::bounded;
use farmcast::wire::id::SessionId;
use farmcast::wire::session::FrameHeader;

pub fn run(datagram: &[u8]) -> bool {
    let Ok((header, tag, payload)) = bounded(datagram, 0, || FrameHeader::decode(datagram)) else {
        return false;
    };
    assert_eq!([&header.encode(payload.len(), tag)[..], payload].concat(), datagram);
    true
}

pub fn seeds() -> Vec<Vec<u8>> {
    let header =
        FrameHeader { session: SessionId(0x0102_0304), block: 0x11, index: 0x22, pass: 1, sent: 0x33 };
    vec![
        [&header.encode(3, [0xaa; 16])[..], b"abc"].concat(),
        [&header.encode(1_432, [0xaa; 16])[..], &[0x5a; 1_432]].concat(),
        header.encode(0, [0; 16]).to_vec(),
    ]
}
