use super::*;
use crate::captures::bytes;

/// A captured entry of a dump, as if the kernel told it as an event of the given kind.
fn told(name: &str, kind: u16) -> Vec<u8> {
    let mut message = bytes(name);
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message
}

fn events(datagram: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    assert_eq!(read_events(datagram, &mut events), 0);
    events
}

#[test]
fn what_the_kernel_tells_becomes_events_in_its_order() {
    let datagram = [
        told("link-bridge-port", libc::RTM_NEWLINK),
        told("address-ipv4", libc::RTM_NEWADDR),
        told("address-ipv4", libc::RTM_DELADDR),
        told("link-bridge-port", libc::RTM_DELLINK),
    ]
    .concat();
    let [
        Event::LinkChanged(link),
        Event::AddressAdded(came),
        Event::AddressRemoved(went),
        Event::LinkGone(gone),
    ] = &events(&datagram)[..]
    else {
        panic!("{:?}", events(&datagram))
    };
    assert_eq!((link.name.as_str(), link.index), ("v1", *gone));
    assert_eq!(came, went);
}

#[test]
fn a_burst_of_routes_is_one_event() {
    let route = told("route-default", libc::RTM_NEWROUTE);
    let gone = told("route-default", libc::RTM_DELROUTE);
    assert_eq!(events(&[&route[..], &gone, &route].concat()), [Event::RouteChanged]);
}

#[test]
fn a_port_that_only_leaves_its_bridge_is_not_gone() {
    for kind in [libc::RTM_NEWLINK, libc::RTM_DELLINK] {
        let mut port = told("link-bridge-port", kind);
        port[16] = libc::AF_BRIDGE as u8;
        assert_eq!(events(&port), []);
    }
}

#[test]
fn a_broken_message_is_counted_and_the_next_datagram_is_read() {
    let mut found = Vec::new();
    let whole = told("address-ipv4", libc::RTM_NEWADDR);
    assert_eq!(read_events(&whole[..40], &mut found), 1);
    let mut short = whole.clone();
    short.truncate(20);
    short[0] = 20;
    assert_eq!(read_events(&short, &mut found), 1);
    assert_eq!(found, []);
    assert_eq!(read_events(&whole, &mut found), 0);
    assert_eq!(found.len(), 1);
}
