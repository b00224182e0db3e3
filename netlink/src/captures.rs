//! Messages as they really were: what the kernel sent, and what `ip` and `tc` send for the same wish. Taken
//! with strace inside `unshare -Urn` on a little-endian machine; tests/captures/README.md tells how.

/// The bytes of a capture.
pub fn bytes(name: &str) -> Vec<u8> {
    let text = match name {
        "acknowledgement" => include_str!("../tests/captures/acknowledgement.hex"),
        "address-ipv4" => include_str!("../tests/captures/address-ipv4.hex"),
        "address-ipv6" => include_str!("../tests/captures/address-ipv6.hex"),
        "link-bridge" => include_str!("../tests/captures/link-bridge.hex"),
        "link-bridge-port" => include_str!("../tests/captures/link-bridge-port.hex"),
        "link-loopback" => include_str!("../tests/captures/link-loopback.hex"),
        "refusal" => include_str!("../tests/captures/refusal.hex"),
        "request-address" => include_str!("../tests/captures/request-address.hex"),
        "request-netem" => include_str!("../tests/captures/request-netem.hex"),
        "request-netem-bursts" => include_str!("../tests/captures/request-netem-bursts.hex"),
        "request-veth" => include_str!("../tests/captures/request-veth.hex"),
        "route-default" => include_str!("../tests/captures/route-default.hex"),
        "speed" => include_str!("../tests/captures/speed.hex"),
        _ => panic!("there is no capture {name}"),
    };
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("hexadecimal digits are ASCII");
        u8::from_str_radix(pair, 16).expect("only hexadecimal digits are left")
    };
    digits.chunks(2).map(byte).collect()
}

/// All captures that the kernel sent.
pub const ANSWERS: &[&str] = &[
    "acknowledgement",
    "address-ipv4",
    "address-ipv6",
    "link-bridge",
    "link-bridge-port",
    "link-loopback",
    "refusal",
    "route-default",
    "speed",
];

/// The sequence number of a captured request, which ours has to repeat to be the same bytes.
pub fn sequence(capture: &[u8]) -> u32 {
    u32::from_ne_bytes(capture[8..12].try_into().expect("four bytes"))
}
