use super::super::Level;
use super::*;

fn link() -> Link {
    Link {
        index: 2,
        name: "eth0".to_owned(),
        up: true,
        running: true,
        loopback: false,
        multicast: true,
        mtu: 1_500,
        kind: None,
        address: None,
        master: None,
    }
}

#[test]
fn an_interface_must_be_up_carry_multicast_and_have_the_address() {
    let address = Ipv4Addr::new(10, 0, 0, 1);
    let lo = Link { loopback: true, multicast: false, ..link() };
    for (link, has_address, level, part) in [
        (Some(link()), true, Level::Ok, "up and has 10.0.0.1, 1000 Mbit/s"),
        (Some(lo), true, Level::Ok, "up"),
        (Some(link()), false, Level::Fail, "does not have"),
        (Some(Link { up: false, running: false, ..link() }), true, Level::Fail, "switched off"),
        (Some(Link { running: false, ..link() }), true, Level::Fail, "no carrier"),
        (Some(Link { multicast: false, ..link() }), true, Level::Fail, "not carry multicast"),
        (None, false, Level::Fail, "no eth0"),
    ] {
        let facts = Ok(Facts { link, has_address, speed: Some(1_000) });
        let finding = judge_interface("eth0", address, &facts);
        assert_eq!(finding.level, level, "{finding:?}");
        assert!(finding.text.contains(part), "{finding:?}");
        assert_eq!(finding.remedy.is_empty(), level == Level::Ok);
    }
    assert_eq!(judge_interface("eth0", address, &Err("no netlink".to_owned())).level, Level::Warn);
}

#[test]
fn an_mtu_that_breaks_control_messages_is_a_warning() {
    for (mtu, loopback, level, part) in [
        (1_280, false, Level::Warn, "fragments"),
        (1_499, false, Level::Warn, "fragments"),
        (1_500, false, Level::Ok, "frames carry"),
        (9_000, false, Level::Ok, "must take that much"),
        (65_536, true, Level::Ok, "frames carry"),
    ] {
        let finding = judge_mtu(&Link { mtu, loopback, ..link() });
        assert_eq!(finding.level, level, "{mtu}");
        assert!(finding.text.contains(part), "{finding:?}");
    }
}

#[test]
fn multicast_that_does_not_come_back_fails() {
    let group = Ipv4Addr::new(239, 255, 70, 1);
    for (took, level) in [
        (Ok(Some(Duration::from_micros(90))), Level::Ok),
        (Ok(None), Level::Fail),
        (Err(io::ErrorKind::NetworkUnreachable.into()), Level::Fail),
    ] {
        assert_eq!(judge_loop("eth0", group, &took).level, level, "{took:?}");
    }
}

fn from(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 7411))
}

fn heard(leaders: &[(u64, u16)]) -> Heard {
    let leader = |(node, members): &(u64, u16)| (NodeId(*node), Leader { addr: from(9), members: *members });
    Heard { leaders: leaders.iter().map(leader).collect(), ..Heard::default() }
}

#[test]
fn who_leads_is_judged_by_what_was_heard() {
    let own = Some(NodeId(1));
    let wrong_key = Heard { wrong_key: BTreeSet::from([from(7).ip()]), ..Heard::default() };
    let sealed = Heard { sealed: 20, ..Heard::default() };
    for (own, heard, level, part) in [
        (own, heard(&[(2, 3)]), Level::Ok, "leads the 3 nodes"),
        (own, heard(&[(1, 3)]), Level::Ok, "this node leads the 3 nodes"),
        (own, heard(&[(1, 1)]), Level::Warn, "nobody is registered"),
        (own, heard(&[(1, 1), (2, 1)]), Level::Warn, "2 nodes lead"),
        (own, heard(&[]), Level::Warn, "no leader of boston was heard"),
        (own, wrong_key, Level::Fail, "10.0.0.7 speaks as segment boston and its key is not ours"),
        (None, sealed, Level::Warn, "without an identity"),
        (None, heard(&[]), Level::Warn, "no leader"),
    ] {
        let findings = judge_heard("boston", own, &heard, None);
        assert_eq!(findings[0].level, level, "{findings:?}");
        assert!(findings[0].text.contains(part), "{findings:?}");
        assert_eq!(findings.len(), 1, "{findings:?}");
    }
}

/// Where multicast is blocked the daemon knows its leader by unicast, and no election is wrong.
#[test]
fn a_leader_whom_the_daemon_follows_by_unicast_is_no_warning() {
    let findings = judge_heard("boston", Some(NodeId(1)), &heard(&[]), Some("00aa"));
    assert_eq!(findings[0].level, Level::Ok);
    assert!(findings[0].text.starts_with("00aa leads boston"), "{findings:?}");
}

#[test]
fn strangers_on_the_channel_have_a_line_of_their_own() {
    let crowd: BTreeSet<IpAddr> = (1..=5).map(|last| from(last).ip()).collect();
    let heard = Heard {
        foreign: crowd.clone(),
        wrong_key: BTreeSet::from([from(7).ip()]),
        odd: BTreeSet::from([from(8).ip()]),
        ..heard(&[(2, 3)])
    };
    let findings = judge_heard("boston", Some(NodeId(1)), &heard, None);
    let whats: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(whats, ["leader", "keys", "channel", "strangers"]);
    assert!(findings[1..].iter().all(|finding| finding.level == Level::Warn));
    assert!(findings[2].text.ends_with("10.0.0.1, 10.0.0.2, 10.0.0.3 and 2 more"), "{findings:?}");
}

#[test]
fn a_message_is_sorted_by_what_is_wrong_with_it() {
    use crate::wire::control::LeaderAlive;
    use crate::wire::envelope::Sender;
    use crate::wire::id::{Epoch, ListNumber, Name};
    use crate::wire::join::FarmSecret;
    use crate::wire::seal::{Certificate, SigningKey};

    let enroller = SigningKey::from_seed([9; 32]);
    let sealer = |segment: &str, secret: u8| {
        let key = SigningKey::from_seed([1; 32]);
        let certificate = Certificate::issue(&enroller, key.public(), true, u32::MAX);
        let segment = Name::new(segment).unwrap();
        let public = enroller.public();
        let farm = crate::wire::join::Farm {
            publisher: public,
            director: public,
            enroller: public,
            secret: FarmSecret([secret; 32]),
        };
        Sealer::new(&segment, farm.segment_key(&segment), key, certificate, public)
    };
    let (ours, other_segment, other_farm) = (sealer("boston", 1), sealer("paris", 1), sealer("boston", 2));
    let say = |by: &Sealer, priority| {
        let node = by.certificate().node();
        let alive = LeaderAlive {
            priority,
            members: 4,
            registered: 0,
            http_port: 1,
            groups: ListNumber(0),
            charter: crate::wire::id::CharterId(0),
            channel: "239.1.1.1:7".parse().unwrap(),
            moves_in_ms: 0,
            pointer: false,
            session: None,
        };
        by.seal(Sender { node, boot: 1, seq: 1, epoch: Epoch(1) }, &Message::LeaderAlive(alive))
    };
    let node = ours.certificate().node();

    let mut heard = Heard::default();
    heard.take(from(1), ours.open(&say(&ours, 7)));
    heard.take(from(2), ours.open(&say(&other_segment, 7)));
    heard.take(from(3), ours.open(&say(&other_farm, 7)));
    heard.take(from(4), ours.open(b"rubbish"));
    assert_eq!(heard.leaders, BTreeMap::from([(node, Leader { addr: from(1), members: 4 })]));
    assert_eq!(heard.foreign, BTreeSet::from([from(2).ip()]));
    assert_eq!(heard.wrong_key, BTreeSet::from([from(3).ip()]));
    assert_eq!(heard.odd, BTreeSet::from([from(4).ip()]));
    assert!(heard.has_others(None) && !heard.has_others(Some(node)));
    heard.take(from(1), ours.open(&say(&ours, 0)));
    assert!(heard.leaders.is_empty(), "it has resigned");
}
