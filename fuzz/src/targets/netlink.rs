//! What the kernel says over netlink: whole datagrams, and the payloads of messages.

use crate::memory::bounded;
use ::netlink::ethtool::Speed;
use ::netlink::message::{Attributes, Messages};
use ::netlink::monitor::read_events;
use ::netlink::route::Route;
use ::netlink::{Address, Link};

pub fn run(datagram: &[u8]) -> bool {
    let mut events = Vec::new();
    let malformed = bounded(datagram, 32, || read_events(datagram, &mut events));
    bounded(datagram, 32, || {
        for message in Messages::new(datagram).flatten() {
            let _ = message.verdict();
            let _ = Speed::decode(message.payload);
            let _ = Link::decode(message.payload);
            let _ = Address::decode(message.payload);
            let _ = Route::decode(message.payload);
        }
        // Attributes alone: every one ends within the bytes.
        let total: usize =
            Attributes::new(datagram).flatten().map(|attribute| 4 + attribute.value.len()).sum();
        assert!(total <= datagram.len());
    });
    malformed == 0 && Messages::new(datagram).all(|message| message.is_ok())
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        include_str!("../../../netlink/tests/captures/acknowledgement.hex"),
        include_str!("../../../netlink/tests/captures/address-ipv4.hex"),
        include_str!("../../../netlink/tests/captures/address-ipv6.hex"),
        include_str!("../../../netlink/tests/captures/link-bridge.hex"),
        include_str!("../../../netlink/tests/captures/link-bridge-port.hex"),
        include_str!("../../../netlink/tests/captures/link-loopback.hex"),
        include_str!("../../../netlink/tests/captures/refusal.hex"),
        include_str!("../../../netlink/tests/captures/request-netem.hex"),
        include_str!("../../../netlink/tests/captures/request-veth.hex"),
        include_str!("../../../netlink/tests/captures/route-default.hex"),
        include_str!("../../../netlink/tests/captures/speed.hex"),
    ]
    .map(|text| {
        let digits: String = text.split_whitespace().collect();
        farmcast::wire::id::unhex(&digits).expect("captures are hexadecimal")
    })
    .into()
}
