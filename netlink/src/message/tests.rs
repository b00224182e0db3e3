use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::captures::{ANSWERS, bytes, sequence};
use crate::ethtool::{Duplex, Speed};
use crate::route::{Route, default_route};
use crate::{Address, Link, address, veth};

fn only(datagram: &[u8]) -> Message<'_> {
    let mut messages = Messages::new(datagram);
    let message = messages.next().unwrap().unwrap();
    assert_eq!(messages.next(), None);
    message
}

#[test]
fn a_captured_link_is_read_as_ip_link_shows_it() {
    let lo = Link::decode(only(&bytes("link-loopback")).payload).unwrap();
    assert_eq!((lo.index, lo.name.as_str(), lo.loopback, lo.up, lo.mtu), (1, "lo", true, false, 65536));
    assert_eq!((lo.kind, lo.master, lo.address), (None, None, Some([0; 6])));

    let bridge = Link::decode(only(&bytes("link-bridge")).payload).unwrap();
    assert_eq!((bridge.name.as_str(), bridge.kind.as_deref()), ("br0", Some("bridge")));

    let port = Link::decode(only(&bytes("link-bridge-port")).payload).unwrap();
    assert_eq!((port.name.as_str(), port.kind.as_deref()), ("v1", Some("veth")));
    assert_eq!((port.up, port.running, port.multicast, port.master), (true, true, true, Some(bridge.index)));
}

#[test]
fn a_captured_address_is_read_as_ip_address_shows_it() {
    let four = Address::decode(only(&bytes("address-ipv4")).payload).unwrap();
    let expected = Address { link: 3, address: IpAddr::from([10, 9, 0, 1]), prefix: 24 };
    assert_eq!(four, Some(expected));
    let six = Address::decode(only(&bytes("address-ipv6")).payload).unwrap().unwrap();
    assert_eq!((six.link, six.address.to_string().as_str(), six.prefix), (3, "fd00::1", 64));
}

#[test]
fn a_captured_default_route_is_found_with_its_link() {
    let route = Route::decode(only(&bytes("route-default")).payload).unwrap().unwrap();
    assert_eq!((route.link, route.metric, route.gateway), (Some(3), 50, Some(IpAddr::from([10, 9, 0, 2]))));
    assert_eq!(default_route(&[route], false), Some(&route));
    assert_eq!(default_route(&[route], true), None);
    let mut worse = route;
    worse.metric = 60;
    assert_eq!(default_route(&[worse, route], false), Some(&route));
}

#[test]
fn a_captured_speed_is_read_as_ethtool_shows_it() {
    let speed = Speed::decode(only(&bytes("speed")).payload).unwrap();
    assert_eq!(speed, Speed { mbit: Some(10_000), duplex: Some(Duplex::Full) });
}

#[test]
fn a_captured_refusal_gives_number_and_sentence_and_an_acknowledgement_neither() {
    let (number, said) = only(&bytes("refusal")).verdict().unwrap();
    assert_eq!(number, libc::ENOENT);
    assert_eq!(said.as_deref(), Some("Qdisc not found. To create specify NLM_F_CREATE flag"));
    assert_eq!(only(&bytes("acknowledgement")).verdict(), Ok((0, None)));
}

#[test]
fn our_requests_are_the_bytes_that_ip_sends() {
    let captured = bytes("request-veth");
    let ours = veth::create("va", "vb", None).encode(sequence(&captured), libc::NLM_F_ACK);
    assert_eq!(ours, captured);

    let captured = bytes("request-address");
    let link = u32::from_ne_bytes(captured[20..24].try_into().unwrap());
    let address = Address { link, address: IpAddr::from([10, 8, 0, 1]), prefix: 24 };
    assert_eq!(address::add(&address).encode(sequence(&captured), libc::NLM_F_ACK), captured);
}

#[test]
fn a_length_that_lies_ends_the_walk_with_an_error() {
    let mut datagram = bytes("address-ipv4");
    datagram[0] += 4;
    let found: Vec<_> = Messages::new(&datagram).collect();
    assert_eq!(found, [Err(Malformed::Message { length: 80, left: 76 })]);
    for length in [0u8, 15] {
        datagram[0] = length;
        assert!(matches!(Messages::new(&datagram).next(), Some(Err(Malformed::Message { .. }))));
    }
    // Attributes: too short for itself, too long for what holds it, cut in its header.
    for broken in [&[3, 0, 1, 0][..], &[9, 0, 1, 0, 1, 2, 3, 4], &[8, 0]] {
        let found: Vec<_> = Attributes::new(broken).collect();
        assert!(matches!(found[..], [Err(Malformed::Attribute { .. })]), "{found:?}");
    }
    assert_eq!(Attributes::new(&[]).next(), None);
}

#[test]
fn what_was_built_reads_back() {
    let mut request = Request::new("test", 7, libc::NLM_F_CREATE);
    request.fixed(&[1, 2, 3, 4, 5]).u8(1, 9).u32(2, 0xdead_beef).string(3, "lo").nest(4, |inner| {
        inner.attribute(5, &[1, 2, 3]);
    });
    let encoded = request.encode(42, libc::NLM_F_ACK);
    let message = only(&encoded);
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_CREATE | libc::NLM_F_ACK) as u16;
    assert_eq!((message.kind, message.flags, message.sequence), (7, flags, 42));
    let (fixed, attributes) = message.split("a test", 5).unwrap();
    assert_eq!(fixed, [1, 2, 3, 4, 5]);
    let attributes: Vec<_> = attributes.map(Result::unwrap).collect();
    assert_eq!(attributes[0].u8(), Ok(9));
    assert_eq!(attributes[1].u32(), Ok(0xdead_beef));
    assert_eq!(attributes[2].string(), "lo");
    assert_eq!(attributes[3].kind, 4, "without the mark for nesting");
    let inner: Vec<_> = attributes[3].nested().map(Result::unwrap).collect();
    assert_eq!((inner[0].kind, inner[0].value), (5, &[1u8, 2, 3][..]));
    assert!(attributes[0].u32().is_err());
}

/// Gives bytes to everything that reads what the kernel sent.
fn read_all(bytes: &[u8]) {
    let _ = Link::decode(bytes);
    let _ = Address::decode(bytes);
    let _ = Route::decode(bytes);
    let mut events = Vec::new();
    crate::monitor::read_events(bytes, &mut events);
    for message in Messages::new(bytes).flatten() {
        let _ = message.verdict();
        let _ = Speed::decode(message.payload);
        let _ = Link::decode(message.payload);
        let _ = Address::decode(message.payload);
        let _ = Route::decode(message.payload);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        read_all(&bytes);
    }

    #[test]
    fn a_damaged_answer_never_panics(
        which in 0..ANSWERS.len(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut answer = bytes(ANSWERS[which]);
        for (at, byte) in damage {
            let at = at.index(answer.len());
            answer[at] = byte;
        }
        read_all(&answer);
        answer.truncate(cut.index(answer.len()));
        read_all(&answer);
    }

    #[test]
    fn attributes_read_back_whatever_they_hold(
        values in proptest::collection::vec((1u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..40)), 0..10),
    ) {
        let mut request = Request::new("test", 7, 0);
        for (kind, value) in &values {
            request.attribute(*kind, value);
        }
        let encoded = request.encode(1, 0);
        let (_, attributes) = only(&encoded).split("nothing", 0).unwrap();
        let found: Vec<_> = attributes.map(|a| a.unwrap()).map(|a| (a.kind, a.value.to_vec())).collect();
        prop_assert_eq!(found, values);
    }
}
