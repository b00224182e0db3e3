//! Two content groups on one segment: each has its own nodes, its own site and its own data channel (LD-2, GD-22).

use crate::farm::{FLOODS, Farm};
use crate::harness::{LATER, SITE, noise, tree};
use crate::world::in_lab;
use farmcast::ccm::api::types::{GroupDetail, Job, Phase};
use std::fs;
use std::path::PathBuf;

const SHOP: &str = "shop";
const CONTENT: usize = 2 << 20;

/// Publishes a site to a group, whose nodes must all have it live afterwards.
fn publish(farm: &Farm, site: &str, seed: u64, group: &[usize]) -> Job {
    fs::write(staging(farm, site).join("noise"), noise(seed, CONTENT)).expect("a file of staging");
    let said = farm.cli(&["--json", "publish", site]);
    let job: Job = said.json();
    assert_eq!((said.code, job.phase), (Some(0), Phase::Done), "{job:#?}\n{}", farm.logs());
    let mut names: Vec<&str> = job.nodes.iter().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, group.iter().map(|at| farm.members[*at].node.name.as_str()).collect::<Vec<_>>());
    for at in group {
        assert_eq!(tree(&live(farm, *at, site)), tree(&staging(farm, site)), "{site} on node {at}");
    }
    job
}

fn staging(farm: &Farm, site: &str) -> PathBuf {
    farm.path(if site == SITE { "staging" } else { "staging-shop" })
}

fn live(farm: &Farm, at: usize, site: &str) -> PathBuf {
    let node = &farm.members[at].node;
    if site == SITE { node.live() } else { node.dir.join(SHOP).join("live") }
}

/// Datagrams that the kernel handed to sockets of the machine.
fn delivered(farm: &Farm, at: usize) -> u64 {
    farm.members[at].machine.snmp("Udp:", "InDatagrams")
}

fn counters(farm: &Farm, name: &str) -> Vec<u64> {
    farm.members.iter().map(|member| member.node.counter(name)).collect()
}

/// The groups whose channel a node listens on.
fn joined(farm: &Farm, at: usize) -> Vec<String> {
    let rows = farm.members[at].node.ask("show groups");
    let joined = rows.iter().filter(|row| row.text("joined") == Some("true"));
    joined.filter_map(|row| row.text("name").map(str::to_owned)).collect()
}

fn group(farm: &Farm, words: &[&str]) -> GroupDetail {
    let said = farm.cli(&[&["--json", "group"], words].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    said.json()
}

#[test]
fn what_is_published_to_one_group_reaches_no_node_of_the_other_and_a_node_moves_between_them() {
    let name =
        "groups::what_is_published_to_one_group_reaches_no_node_of_the_other_and_a_node_moves_between_them";
    in_lab(name, &[], || {
        let mut farm = Farm::build(&[5], FLOODS, "");
        for member in &farm.members {
            let root = member.node.dir.join(SHOP);
            let text = fs::read_to_string(&member.node.config).expect("a configuration");
            let site = format!("{text}[[site]]\nname = \"{SHOP}\"\nroot = {root:?}\n");
            fs::write(&member.node.config, site).expect("a configuration");
        }
        farm.begin();
        let shop = staging(&farm, SHOP);
        fs::create_dir(&shop).expect("a staging directory");
        let words = ["site", "add", SHOP, "--staging", shop.to_str().expect("UTF-8")];
        assert_eq!(farm.cli(&words).code, Some(0));
        farm.wait_until_whole();

        // Whoever leads is in the first group, so that all of the second only receive.
        let leader = farm.agreed_leader(0).expect("one leader");
        let mut order: Vec<usize> = (0..farm.members.len()).filter(|at| *at != leader).collect();
        let (mut first, second) = (vec![order.remove(0), leader], order);
        first.sort_unstable();
        let names = |of: &[usize]| -> Vec<String> {
            of.iter().map(|at| farm.members[*at].node.name.clone()).collect()
        };
        for (to, of, site) in [("eu", &first, SITE), ("us", &second, SHOP)] {
            let names = names(of);
            let words: Vec<&str> =
                ["create", to].into_iter().chain(names.iter().map(String::as_str)).collect();
            group(&farm, &words);
            assert_eq!(farm.cli(&["site", "group", site, to]).code, Some(0));
        }

        // At once, before a leader has reported again: the run itself brings the list.
        publish(&farm, SITE, 1, &first);
        let frames = farm.members[leader].node.counter("frames_sent");
        assert!(frames > 1_000, "{frames} frames");
        for at in &second {
            assert_eq!(
                farm.members[*at].node.counter("frames_received"),
                0,
                "node {at} is in the other group"
            );
            assert!(!live(&farm, *at, SITE).join("noise").exists());
            assert_eq!(joined(&farm, *at), ["us"]);
        }
        let before: Vec<u64> = (0..farm.members.len()).map(|at| delivered(&farm, at)).collect();
        publish(&farm, SITE, 2, &first);
        for at in &second {
            let got = delivered(&farm, *at) - before[*at];
            assert!(got < 600, "node {at}: {got} datagrams where the group got more than {frames}");
        }

        publish(&farm, SHOP, 3, &second);
        let stored = counters(&farm, "frames_stored");
        assert!(second.iter().all(|at| stored[*at] > 0), "{stored:?}");

        // A node moves from one group to the other, and is served there with what is published next.
        let moved = second[0];
        let name = farm.members[moved].node.name.clone();
        group(&farm, &["remove", "us", &name]);
        let detail = group(&farm, &["add", "eu", &name]);
        assert_eq!(detail.group.nodes_total, 3);
        farm.wait("the move", LATER, || (joined(&farm, moved) == ["eu"]).then_some(()));
        farm.wait("every node's list", LATER, || {
            let detail = group(&farm, &["show", "eu"]);
            detail.segments.iter().all(|segment| segment.current == segment.members).then_some(())
        });
        let mut grown = first.clone();
        grown.push(moved);
        grown.sort_unstable();
        let job = publish(&farm, SITE, 4, &grown);
        assert!(["publish", "replicate"].contains(&job.assignment_kind.as_str()), "{job:?}");
        let had = farm.members[moved].node.counter("frames_received");
        publish(&farm, SHOP, 5, &second[1..]);
        assert_eq!(farm.members[moved].node.counter("frames_received"), had, "it has left the other channel");

        // What it was stays after a restart.
        farm.members[moved].node.kill();
        farm.members[moved].node.start();
        farm.wait("its list after a restart", LATER, || (joined(&farm, moved) == ["eu"]).then_some(()));
    });
}

#[test]
fn groups_that_cannot_be_are_refused_with_what_to_do() {
    let name = "groups::groups_that_cannot_be_are_refused_with_what_to_do";
    in_lab(name, &[], || {
        let farm = Farm::of(&[2], FLOODS, "data_channels = \"239.9.9.9/32:7402\"");
        farm.stage("index.html", "one");
        farm.publish_well();
        farm.cli(&["group", "create", "eu", "web9"])
            .assert_refused(5, &["no node web9", "farmcast node list"]);
        let said = farm.cli(&["group", "create", "eu", "web00", "segment:segment0"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        farm.cli(&["group", "create", "eu"]).assert_refused(4, &["exists already"]);
        assert_eq!(farm.cli(&["site", "group", SITE, "eu"]).code, Some(0));
        farm.cli(&["group", "delete", "eu"]).assert_refused(4, &["serves www"]);
        farm.cli(&["group", "remove", "eu", "web01"]).assert_refused(5, &["does not choose web01"]);
        // The one channel that the range has is the default group's.
        farm.stage("index.html", "two");
        let said = farm.cli(&["publish", SITE]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!((said.stdout + &said.stderr).contains("no data channel is free for group eu"));
        assert_eq!(farm.cli(&["site", "group", SITE, "--default"]).code, Some(0));
        farm.publish_well();
        let list = farm.cli(&["group", "list"]).stdout;
        assert!(list.contains("segment:segment0 web00") && list.contains("all that host it"), "{list}");
    });
}
