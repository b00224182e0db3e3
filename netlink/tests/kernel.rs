//! Against the real kernel, without root: every test runs itself again inside a user and network namespace of
//! its own (`unshare -Urn` of util-linux). Where that is not possible it says so on standard error and passes.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use netlink::bridge::Bridge;
use netlink::ethtool::Ethtool;
use netlink::qdisc::{Chance, Impairment, TokenBucket};
use netlink::route::{default_route, route_to, routes};
use netlink::socket::Protocol;
use netlink::{Address, Error, Event, Lab, Link, Monitor, Namespace, Socket};

const INSIDE: &str = "FARMCAST_NETLINK_INSIDE";

/// Runs `body` in a namespace of its own, by starting this test binary again for the test `name` alone.
fn in_namespace(name: &str, body: fn() -> Result<(), Error>) {
    if std::env::var_os(INSIDE).is_some() {
        if let Err(error) = body() {
            panic!("{error}");
        }
        return;
    }
    if let Err(reason) = namespaces_work() {
        // Past the capture of the test harness, so that nobody takes a skipped test for a passed one.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: {reason}");
        return;
    }
    let own = std::env::current_exe().expect("a running program knows its file");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(own)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare has just been there");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "inside the namespace:\n{text}");
}

fn namespaces_work() -> Result<(), String> {
    let probe = Command::new("unshare").args(["--user", "--map-root-user", "--net", "true"]).output();
    match probe {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("no namespaces here: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("no `unshare` here: {error}")),
    }
}

/// Waits up to ten seconds for the kernel to tell something. It tells of a change by us at once, of a carrier
/// that came or went within a second.
fn collect(monitor: &mut Monitor, mut done: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..1_000 {
        while monitor.next_events(&mut events).expect("the subscription stands") {}
        if done(&events) {
            return events;
        }
        #[expect(clippy::disallowed_methods, reason = "a test outside of the loop, waiting for the kernel")]
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the kernel did not tell in time; so far: {events:#?}")
}

fn changed<'a>(events: &'a [Event], name: &str) -> impl Iterator<Item = &'a Link> {
    events.iter().filter_map(move |event| match event {
        Event::LinkChanged(link) if link.name == name => Some(link),
        _ => None,
    })
}

fn v4(last: u8) -> IpAddr {
    IpAddr::from([10, 77, 0, last])
}

#[test]
fn a_segment_is_built_of_a_bridge_and_veth_pairs() {
    in_namespace("a_segment_is_built_of_a_bridge_and_veth_pairs", || {
        let mut monitor = Monitor::open()?;
        let mut lab = Lab::here()?;
        lab.create_bridge("segment", Bridge { snooping: true, querier: true })?;
        lab.create_veth("port", "eth0", None)?;
        let bridge = lab.link("segment")?;
        let port = lab.link("port")?;
        assert_eq!((bridge.kind.as_deref(), port.kind.as_deref()), (Some("bridge"), Some("veth")));
        assert!(!port.up && !port.running);

        lab.set_master(port.index, Some(bridge.index))?;
        for name in ["segment", "port", "eth0"] {
            let index = lab.link(name)?.index;
            lab.set_up(index)?;
        }
        collect(&mut monitor, |events| {
            changed(events, "port").any(|link| link.running && link.master == Some(bridge.index))
        });
        for (switch, file) in [("1", "multicast_snooping"), ("1", "multicast_querier"), ("0", "stp_state")] {
            let path = format!("/sys/class/net/segment/bridge/{file}");
            // /sys may still be the one of the outer namespace.
            if let Ok(text) = std::fs::read_to_string(path) {
                assert_eq!(text.trim(), switch, "{file}");
            }
        }

        lab.set_master(port.index, None)?;
        assert_eq!(lab.link("port")?.master, None);
        lab.delete(port.index)?;
        assert!(matches!(lab.link("eth0"), Err(Error::NoLink { .. })), "the other end goes with it");
        Ok(())
    });
}

#[test]
fn the_monitor_tells_of_links_addresses_and_routes() {
    in_namespace("the_monitor_tells_of_links_addresses_and_routes", || {
        let mut monitor = Monitor::open()?;
        assert!(monitor.as_raw_fd() >= 0);
        let mut lab = Lab::here()?;
        lab.create_veth("a", "b", None)?;
        let (a, b) = (lab.link("a")?.index, lab.link("b")?.index);
        lab.set_mtu(a, 9000)?;
        lab.set_up(a)?;
        let events = collect(&mut monitor, |events| changed(events, "a").any(|link| link.up));
        assert!(changed(&events, "a").any(|link| link.mtu == 9000 && !link.up), "{events:#?}");
        assert!(changed(&events, "a").all(|link| !link.running), "the other end is down: {events:#?}");

        lab.set_up(b)?;
        collect(&mut monitor, |events| changed(events, "a").any(|link| link.up && link.running));

        let address = Address { link: a, address: v4(1), prefix: 24 };
        lab.add_address(address)?;
        let events = collect(&mut monitor, |events| events.contains(&Event::RouteChanged));
        assert!(events.contains(&Event::AddressAdded(address)), "{events:#?}");
        assert!(lab.addresses()?.contains(&address));

        lab.remove_address(address)?;
        collect(&mut monitor, |events| events.contains(&Event::AddressRemoved(address)));

        lab.set_down(b)?;
        collect(&mut monitor, |events| changed(events, "a").any(|link| link.up && !link.running));
        lab.delete(a)?;
        let events = collect(&mut monitor, |events| {
            [a, b].iter().all(|index| events.contains(&Event::LinkGone(*index)))
        });
        assert!(!events.contains(&Event::Overrun));
        assert_eq!(monitor.malformed, 0);
        Ok(())
    });
}

#[test]
fn an_overrun_is_told_and_a_snapshot_makes_up_for_it() {
    in_namespace("an_overrun_is_told_and_a_snapshot_makes_up_for_it", || {
        // The smallest queue the kernel gives: a few events.
        let mut monitor = Monitor::open_with_queue(1)?;
        let mut lab = Lab::here()?;
        lab.create_veth("a", "b", None)?;
        let a = lab.link("a")?.index;
        for mtu in 1000..1200 {
            lab.set_mtu(a, mtu)?;
        }
        let mut events = Vec::new();
        while monitor.next_events(&mut events)? {}
        assert_eq!(
            events.last(),
            Some(&Event::Overrun),
            "nothing older may follow it: {} events",
            events.len()
        );
        let snapshot = monitor.snapshot()?;
        assert_eq!(snapshot.links.iter().find(|link| link.index == a).map(|link| link.mtu), Some(1199));

        events.clear();
        lab.set_mtu(a, 1400)?;
        let events = collect(&mut monitor, |events| !events.is_empty());
        assert!(changed(&events, "a").any(|link| link.mtu == 1400), "it goes on as before: {events:#?}");
        Ok(())
    });
}

#[test]
fn a_link_moves_to_another_namespace_and_is_worked_on_there() {
    in_namespace("a_link_moves_to_another_namespace_and_is_worked_on_there", || {
        let mut lab = Lab::here()?;
        let node = Namespace::create()?;
        let mut inside = Lab::inside(&node)?;
        lab.create_veth("port0", "eth0", Some(&node))?;
        lab.create_veth("port1", "eth1", None)?;
        let moved = lab.link("eth1")?.index;
        lab.move_to(moved, &node)?;
        assert!(matches!(lab.link("eth1"), Err(Error::NoLink { .. })));

        let eth0 = inside.link("eth0")?.index;
        inside.set_up(eth0)?;
        inside.link("eth1")?;
        inside.add_address(Address { link: eth0, address: v4(2), prefix: 24 })?;
        inside.add_address(Address { link: eth0, address: "fd00::2".parse().expect("IPv6"), prefix: 64 })?;
        inside.add_route(IpAddr::from([224, 0, 0, 0]), 4, eth0)?;
        inside.add_route(IpAddr::from([0, 0, 0, 0]), 0, eth0)?;
        let (to_group, all) = node.within(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let to_group = route_to(&mut socket, IpAddr::from([239, 255, 7, 1]))?;
            Ok::<_, Error>((to_group, routes(&mut socket)?))
        })??;
        assert_eq!((to_group.link, to_group.source), (Some(eth0), Some(v4(2))));
        assert_eq!(default_route(&all, false).and_then(|route| route.link), Some(eth0));

        // A process that is started inside lives inside; a link is moved to it by its number.
        lab.create_veth("port2", "eth2", None)?;
        let eth2 = lab.link("eth2")?.index;
        let sleeper = node.within(|| Command::new("sleep").arg("60").stdin(Stdio::null()).spawn())?;
        let mut sleeper = sleeper.expect("sleep starts");
        let arrived = lab.move_to_process(eth2, sleeper.id()).and_then(|()| inside.link("eth2"));
        let same =
            Namespace::of_process(sleeper.id()).and_then(|namespace| Lab::inside(&namespace)?.link("eth2"));
        sleeper.kill().expect("it is our child");
        sleeper.wait().expect("it is our child");
        arrived?;
        same?;
        Ok(())
    });
}

#[test]
fn a_multicast_datagram_crosses_a_segment_between_two_namespaces() {
    in_namespace("a_multicast_datagram_crosses_a_segment_between_two_namespaces", || {
        let group = Ipv4Addr::new(239, 255, 7, 1);
        let mut lab = Lab::here()?;
        lab.create_bridge("segment", Bridge { snooping: true, querier: true })?;
        let bridge = lab.link("segment")?.index;
        lab.set_up(bridge)?;
        let mut sockets = Vec::new();
        for node in [1, 2] {
            let namespace = Namespace::create()?;
            let port = format!("port{node}");
            lab.create_veth(&port, "eth0", Some(&namespace))?;
            let port = lab.link(&port)?.index;
            lab.set_master(port, Some(bridge))?;
            lab.set_up(port)?;
            let mut inside = Lab::inside(&namespace)?;
            let eth0 = inside.link("eth0")?.index;
            inside.set_up(eth0)?;
            inside.add_address(Address { link: eth0, address: v4(node), prefix: 24 })?;
            inside.add_route(IpAddr::from([224, 0, 0, 0]), 4, eth0)?;
            let IpAddr::V4(own) = v4(node) else { unreachable!("v4 makes IPv4") };
            let socket = namespace.within(|| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7411))?;
                socket.join_multicast_v4(&group, &own)?;
                socket.set_read_timeout(Some(Duration::from_millis(100)))?;
                Ok::<_, std::io::Error>(socket)
            })?;
            sockets.push(socket.expect("a socket inside"));
        }
        // The ports of the bridge take a moment to come up, so the first datagrams may find no way.
        let mut buffer = [0; 64];
        let arrived = (0..100).find_map(|_| {
            sockets[0].send_to(b"leader alive", (group, 7411)).expect("there is a route");
            sockets[1].recv_from(&mut buffer).ok()
        });
        let (length, sender) = arrived.expect("a datagram crosses within ten seconds");
        assert_eq!((&buffer[..length], sender.ip()), (&b"leader alive"[..], v4(1)));
        Ok(())
    });
}

#[test]
fn a_link_is_slowed_down_and_restored() {
    in_namespace("a_link_is_slowed_down_and_restored", || {
        let mut lab = Lab::here()?;
        lab.create_veth("a", "b", None)?;
        let a = lab.link("a")?.index;
        let bucket = TokenBucket { rate: 12_500_000, burst: 65_536, limit: 262_144 };
        match lab.slow_down(a, bucket) {
            Ok(()) => {
                lab.slow_down(a, TokenBucket { rate: 12_500_000_000, ..bucket })?;
                lab.restore(a)?;
            }
            Err(Error::Unsupported { what }) => assert!(what.contains("tbf")),
            Err(error) => return Err(error),
        }
        Ok(())
    });
}

#[test]
fn netem_is_set_or_named_as_what_the_kernel_lacks() {
    in_namespace("netem_is_set_or_named_as_what_the_kernel_lacks", || {
        let mut lab = Lab::here()?;
        lab.create_veth("a", "b", None)?;
        let a = lab.link("a")?.index;
        let bad = Impairment { delay_nanos: 20_000_000, loss: Chance::percent(1.0), ..Impairment::default() };
        match lab.impair(a, bad) {
            Ok(()) => lab.restore(a)?,
            Err(Error::Unsupported { what }) => assert!(what.contains("sch_netem")),
            Err(error) => return Err(error),
        }
        Ok(())
    });
}

#[test]
fn the_speed_of_a_veth_is_known_and_that_of_the_loopback_is_not() {
    in_namespace("the_speed_of_a_veth_is_known_and_that_of_the_loopback_is_not", || {
        let mut lab = Lab::here()?;
        lab.create_veth("a", "b", None)?;
        let mut ethtool = Ethtool::open()?;
        let speed = ethtool.speed(lab.link("a")?.index)?;
        // A kernel without ETHTOOL_NETLINK says nothing about either.
        assert!(speed.is_none_or(|speed| speed.mbit == Some(10_000)), "{speed:?}");
        let lo = lab.link("lo")?.index;
        assert!(ethtool.speed(lo)?.is_none_or(|speed| speed.mbit.is_none()));
        assert_eq!(ethtool.speed(9_999)?, None, "no such link");
        Ok(())
    });
}

#[test]
fn a_refusal_says_what_was_tried_and_why_not() {
    in_namespace("a_refusal_says_what_was_tried_and_why_not", || {
        let mut lab = Lab::here()?;
        lab.create_veth("a", "b", None)?;
        let again = lab.create_veth("a", "c", None).expect_err("the name is taken").to_string();
        assert!(again.starts_with("create veth pair: ") && again.contains("File exists"), "{again}");
        let a = lab.link("a")?.index;
        let tiny = lab.set_mtu(a, 1).expect_err("no link is so small").to_string();
        assert!(tiny.starts_with("set MTU: Invalid argument"), "{tiny}");
        assert!(matches!(lab.create_veth("sixteen-letters-", "c", None), Err(Error::BadName { .. })));
        assert!(matches!(lab.create_bridge("a/b", Bridge::default()), Err(Error::BadName { .. })));
        Ok(())
    });
}
