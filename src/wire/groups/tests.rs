use super::*;
use crate::wire::id::hex;
use proptest::prelude::*;

fn director() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn channel(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(239, 255, 128, last), 7_402)
}

fn group(text: &str, last: u8, sites: &[&str], members: &[u64]) -> Group {
    Group {
        name: name(text),
        channel: channel(last),
        sites: sites.iter().map(|site| name(site)).collect(),
        members: members.iter().map(|node| NodeId(*node)).collect(),
    }
}

fn list() -> GroupList {
    let groups = vec![group("eu", 7, &["shop", "www"], &[1, 3]), group("us", 8, &["blog"], &[2, 3])];
    GroupList { number: ListNumber(9), segment: name("rack1"), groups }
}

#[test]
fn a_list_is_drawn_as_documented_and_opens_only_as_it_was_signed() {
    let bytes = list().sign(&director());
    let expected = "0000000000000009 0005 7261636b31 \
                    0003 0000000000000001 0000000000000002 0000000000000003 0002 \
                    0002 6575 efff8007 1cea 0002 0004 73686f70 0003 777777 a0 \
                    0002 7573 efff8008 1cea 0001 0004 626c6f67 60";
    assert_eq!(hex(&bytes[..bytes.len() - 64]), expected.replace(' ', ""));
    assert_eq!(GroupList::open(&bytes, &director().public()), Ok(list()));
    for at in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[at] ^= 1;
        assert!(GroupList::open(&forged, &director().public()).is_err(), "byte {at}");
        assert!(GroupList::open(&bytes[..at], &director().public()).is_err());
    }
    let stranger = SigningKey::from_seed([2; 32]);
    assert_eq!(GroupList::open(&bytes, &stranger.public()), Err(Malformed::Forged("signature")));
}

#[test]
fn a_list_that_contradicts_itself_is_refused_even_if_it_is_signed() {
    let refused = |change: fn(&mut GroupList)| {
        let mut bad = list();
        change(&mut bad);
        let opened = GroupList::open(&bad.sign(&director()), &director().public());
        assert!(matches!(opened, Err(Malformed::OutOfBounds(_))), "{bad:?}");
    };
    refused(|list| list.number = ListNumber(0));
    refused(|list| list.groups.swap(0, 1));
    refused(|list| list.groups[1].name = name("eu"));
    refused(|list| list.groups[1].channel = channel(7));
    refused(|list| list.groups[1].sites = vec![name("www")]);
    refused(|list| list.groups[0].sites.reverse());
    refused(|list| list.groups[0].channel.set_ip(Ipv4Addr::new(10, 0, 0, 1)));

    // Bits behind the last node.
    let mut bytes = list().sign(&director());
    bytes.truncate(bytes.len() - 64);
    *bytes.last_mut().unwrap() |= 1;
    let signature = director().sign(Domain::Groups, &bytes);
    bytes.extend_from_slice(&signature.0);
    assert_eq!(GroupList::open(&bytes, &director().public()), Err(Malformed::OutOfBounds("group")));
}

#[test]
fn a_site_has_one_group_and_a_group_knows_its_nodes() {
    let list = list();
    let eu = list.serving(&name("www")).unwrap();
    assert_eq!(eu.name, name("eu"));
    assert!(eu.holds(NodeId(3)) && !eu.holds(NodeId(2)));
    assert_eq!(list.serving(&name("none")), None);
}

#[test]
fn the_largest_list_that_fits_needs_as_many_parts_as_a_request_can_name() {
    assert_eq!(usize::from(GroupsPart::count(GroupList::MAX)), GroupsRequest::PARTS_MAX);
    let bytes = vec![7; GroupsPart::LEN * 2 + 1];
    assert_eq!(GroupsPart::count(bytes.len()), 3);
    let last = GroupsPart::of(&bytes, ListNumber(1), 2).unwrap();
    assert_eq!((last.bytes.len(), last.len as usize), (1, bytes.len()));
    assert_eq!(GroupsPart::of(&bytes, ListNumber(1), 3), None);
}

#[test]
fn parts_and_requests_are_drawn_as_documented() {
    let part = GroupsPart { number: ListNumber(9), len: 1_403, part: 1, bytes: b"abc".to_vec() };
    let mut out = Encoder::new();
    part.encode(&mut out);
    assert_eq!(hex(out.as_bytes()), "0000000000000009 0000057b 0001 0003 616263".replace(' ', ""));
    let request = GroupsRequest { number: ListNumber(9), parts: vec![0, 2] };
    let mut out = Encoder::new();
    request.encode(&mut out);
    assert_eq!(hex(out.as_bytes()), "0000000000000009 0002 0000 0002".replace(' ', ""));
    for (len, at, bytes) in [(1_403, 1, 2), (1_403, 1, 4), (1_403, 2, 0), (0, 0, 0), (u32::MAX, 0, 1_400)] {
        let mut out = Encoder::new();
        GroupsPart { number: ListNumber(1), len, part: at, bytes: vec![0; bytes] }.encode(&mut out);
        assert!(GroupsPart::decode(&mut Decoder::new(out.as_bytes())).is_err(), "{len} {at} {bytes}");
    }
}

prop_compose! {
    fn lists()(
        number in 1_u64..,
        table in proptest::collection::btree_set(any::<u64>(), 0..40),
        held in proptest::collection::vec(any::<u64>(), 0..6),
    ) -> GroupList {
        let groups = held.iter().enumerate().map(|(at, bits)| {
            let members: Vec<u64> =
                table.iter().enumerate().filter(|(at, _)| bits >> (at % 64) & 1 == 1).map(|(_, n)| *n).collect();
            let site = format!("s{at}");
            group(&format!("g{at}"), at as u8, &[&site], &members)
        });
        GroupList { number: ListNumber(number), segment: name("rack1"), groups: groups.collect() }
    }
}

proptest! {
    #[test]
    fn any_list_reads_back(list in lists()) {
        prop_assert_eq!(GroupList::open(&list.sign(&director()), &director().public()), Ok(list));
    }

    #[test]
    fn any_list_comes_whole_out_of_its_parts(bytes in proptest::collection::vec(any::<u8>(), 1..9_000)) {
        let mut whole = Vec::new();
        for at in 0..GroupsPart::count(bytes.len()) {
            let part = GroupsPart::of(&bytes, ListNumber(1), at).unwrap();
            let mut out = Encoder::new();
            part.encode(&mut out);
            let read = GroupsPart::decode(&mut Decoder::new(out.as_bytes())).unwrap();
            prop_assert_eq!(&read, &part);
            whole.extend_from_slice(&read.bytes);
        }
        prop_assert_eq!(whole, bytes);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = GroupsPart::decode(&mut Decoder::new(&bytes));
        let _ = GroupsRequest::decode(&mut Decoder::new(&bytes));
        let signature = director().sign(Domain::Groups, &bytes);
        let signed = [&bytes[..], &signature.0].concat();
        let _ = GroupList::open(&signed, &director().public());
    }
}
