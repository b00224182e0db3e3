//! `farmcastd --doctor` on a farm that is well, and on one that is not.

use crate::harness::{Farm, Node, SOON, Said, farmcast, run};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;

fn doctor(node: &Node, words: &[&str]) -> Said {
    let config = node.config.to_str().expect("UTF-8");
    run(farmcast(&[words, &["--config", config]].concat()), SOON)
}

/// The level of each thing that was looked at.
#[track_caller]
fn levels(said: &Said) -> BTreeMap<String, String> {
    let level = |line: &str| {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        let field = |name: &str| value[name].as_str().expect("a text").to_owned();
        assert!(!field("finding").is_empty(), "{said:?}");
        assert_eq!(field("level") == "ok", field("remedy").is_empty(), "{said:?}");
        (field("what"), field("level"))
    };
    said.stdout.lines().map(level).collect()
}

#[test]
fn a_node_that_runs_well_is_called_well_in_text_and_in_json() {
    let farm = Farm::of(2);
    for node in &farm.nodes {
        let said = doctor(node, &["doctor", "--json"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let found = levels(&said);
        // The machine of the test may have small buffers, a small disk or an old kernel; its farm is sound.
        for what in [
            "config",
            "user",
            "state dir",
            "identity",
            "site www",
            "interface",
            "mtu",
            "multicast",
            "leader",
            "querier",
            "daemon",
            "datagram_port",
            "http_port",
            "text_port",
            "ccm",
            "clock",
            "memberships",
            "capabilities",
        ] {
            assert_eq!(found.get(what).map(String::as_str), Some("ok"), "{what}: {said:?}");
        }
        assert!(!found.values().any(|level| level == "fail"), "{said:?}");
        assert!(said.stdout.contains("leads the 2 nodes of boston"), "{said:?}");
    }
    let said = doctor(&farm.nodes[0], &["node", "doctor"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.lines().all(|line| ["ok ", "warn "].iter().any(|level| line.starts_with(level))));
    // It neither disturbs the daemons nor leaves anything behind.
    for node in &farm.nodes {
        let names =
            fs::read_dir(node.root()).expect("the root").chain(fs::read_dir(node.state()).expect("it"));
        for name in names {
            let name = name.expect("an entry").file_name();
            assert!(!name.to_string_lossy().contains("doctor"), "{name:?}");
        }
        assert_eq!((node.counter("messages_refused"), node.counter("datagrams_garbage")), (0, 0));
    }
    farm.stage("index.html", "after");
    farm.publish_well();
}

#[test]
fn what_is_wrong_fails_with_a_remedy_and_exit_1() {
    let mut farm = Farm::with_controller();
    farm.add_node();
    let node = &farm.nodes[0];
    let good = fs::read_to_string(&node.config).expect("its configuration");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it is bound").port();
    let root = node.dir.join("file");
    fs::write(&root, "no directory").expect("a file");
    let bad = good
        .replace("text_port = 0", &format!("text_port = {port}"))
        .replace(&format!("127.0.0.1:{}", farm.ccm_port), "127.0.0.1:1")
        .replace(&format!("{:?}", node.root()), &format!("{root:?}"))
        .replace(&format!("{:?}", node.state()), "\"/nonexistent/state\"");
    fs::write(&node.config, bad).expect("a configuration");
    let said = doctor(node, &["doctor", "--json"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let found = levels(&said);
    for what in ["text_port", "ccm", "site www", "state dir"] {
        assert_eq!(found.get(what).map(String::as_str), Some("fail"), "{what}: {said:?}");
    }
    // Nobody else runs: that is no failure.
    assert_eq!(found["leader"], "warn", "{said:?}");
    assert_eq!(found["http_port"], "ok", "{said:?}");

    fs::write(&node.config, good.replace("segment", "segmnet")).expect("a configuration");
    let said = doctor(node, &["node", "--doctor"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let mut lines = said.stdout.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("fail  config") && line.contains("toml:2: ")));
    assert!(lines.any(|line| line.contains("buffer")), "the machine is checked all the same: {said:?}");
}

#[test]
fn a_farm_with_the_same_segment_and_channel_is_found_out() {
    let mut ours = Farm::with_controller();
    ours.add_node();
    let mut theirs = Farm::with_controller();
    theirs.control_channel = ours.control_channel;
    theirs.add_node();
    theirs.begin();
    let said = doctor(&ours.nodes[0], &["doctor"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let line = said.stdout.lines().find(|line| line.starts_with("fail  leader")).expect("it is found");
    assert!(line.contains("its key is not ours") && line.contains("change one"), "{line}");
}
