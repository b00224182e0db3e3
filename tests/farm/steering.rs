//! A segment as the operator steers it, with real processes: its name, who leads it, where it talks; members that
//! say when they go, and an identity on two machines.

use crate::harness::{Farm, LATER, Node, SOON, wait_for};
use crate::remote::ask_tcp;
use farmcast::ccm::api::types::{SegmentDetail, Status};
use std::fs;

fn show(farm: &Farm, segment: &str) -> SegmentDetail {
    farm.cli(&["--json", "segment", "show", segment]).json()
}

#[track_caller]
fn steer(farm: &Farm, words: &[&str]) {
    let said = farm.cli(&[&["segment"], words].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
}

fn status(node: &Node, key: &str) -> String {
    node.ask("show status")[0].text(key).unwrap_or_default().to_owned()
}

fn leads(farm: &Farm, at: usize) -> bool {
    show(farm, "boston").segment.leader_name == farm.nodes[at].name
        && status(&farm.nodes[at], "state") == "gl_is_me"
}

/// NS-3, NS-14: the name is kept over leaders and restarts, and shown everywhere.
#[test]
fn a_segment_keeps_its_new_name_over_leaders_and_restarts() {
    let mut farm = Farm::of(3);
    let title = |farm: &Farm| {
        let nodes: Vec<String> = farm.nodes.iter().map(|node| status(node, "title")).collect();
        nodes.iter().all(|title| title == "East.Coast")
    };
    steer(&farm, &["rename", "boston", "East.Coast"]);
    wait_for("the name at the nodes", SOON, || title(&farm).then_some(()));
    let (leader, _) = farm.leader();
    farm.nodes[leader].kill();
    wait_for("another leader", SOON, || {
        let segment = show(&farm, "East.Coast").segment;
        (!segment.leader_name.is_empty() && segment.leader_name != farm.nodes[leader].name).then_some(())
    });
    wait_for("its absence in the history", SOON, || {
        let events = show(&farm, "boston").events;
        events.iter().any(|event| event.text == "offline, was in segment boston").then_some(())
    });
    farm.ccm = None;
    farm.start_ccm();
    farm.nodes[leader].start();
    farm.wait_until_whole();
    wait_for("the name at all nodes", SOON, || title(&farm).then_some(()));
    assert!(farm.rows().iter().all(|row| row.segment == "East.Coast" && row.segment_id == "boston"));
    let shown = farm.cli(&["status"]);
    assert!(shown.stdout.contains("East.Coast") && !shown.stdout.contains("boston"), "{shown:?}");
    farm.stage("page", "one");
    let job = farm.publish_well();
    assert!(job.nodes.iter().all(|node| node.segment == "East.Coast"), "{job:#?}");
    let events = show(&farm, "boston").events;
    for part in
        ["renamed from boston to East.Coast", "led by", "offline, was in segment boston", "online in segment"]
    {
        assert!(events.iter().any(|event| event.text.contains(part)), "{part:?} is not in {events:#?}");
    }
    let taken = farm.cli(&["segment", "rename", "nowhere", "x"]);
    taken.assert_refused(5, &["there is no segment nowhere", "farmcast segment list"]);
}

/// EL-3.
#[test]
fn the_operator_says_who_leads_and_a_strict_list_leaves_nobody() {
    let mut farm = Farm::of(3);
    let (first, _) = farm.leader();
    let (second, third) = ((first + 1) % 3, (first + 2) % 3);
    let names: Vec<String> = farm.nodes.iter().map(|node| node.name.clone()).collect();
    steer(&farm, &["leader", "boston", &names[second], "--open-after", "2"]);
    wait_for("the one of the list", SOON, || leads(&farm, second).then_some(()));
    farm.nodes[first].wait_for_log("not on the list of leaders: handed over");
    assert_eq!(
        farm.nodes[third].ask("show leader").last().and_then(|line| line.text("standing").map(str::to_owned)),
        Some("substitute".to_owned())
    );
    farm.stage("page", "one");
    farm.publish_well();

    // It dies: the others vote in time, and make room when it is back.
    farm.nodes[second].kill();
    wait_for("a substitute", SOON, || (leads(&farm, first) || leads(&farm, third)).then_some(()));
    farm.nodes[second].start();
    wait_for("the one of the list again", SOON, || leads(&farm, second).then_some(()));

    // The other way round, on two nodes; then strictly, on one that is not there.
    let two = format!("{},{}", names[first], names[third]);
    steer(&farm, &["leader", "boston", &two]);
    wait_for("one of the two", SOON, || (leads(&farm, first) || leads(&farm, third)).then_some(()));
    farm.nodes[third].kill();
    steer(&farm, &["leader", "boston", &names[third], "--strict"]);
    let leaderless = || farm.cli(&["--json", "status"]).json::<Status>().segments[0].leader.is_empty();
    wait_for("a segment without a leader", LATER, || leaderless().then_some(()));
    assert_eq!(status(&farm.nodes[first], "leader"), "");
    farm.nodes[third].start();
    wait_for("the only one that may", SOON, || leads(&farm, third).then_some(()));
    steer(&farm, &["leader", "boston", "--any"]);
    wait_for("a charter that all have", SOON, || {
        let segment = show(&farm, "boston").segment;
        (segment.charter == segment.charter_reported && segment.nodes_behind == 0).then_some(())
    });
    farm.cli(&["segment", "leader", "boston", "nobody"]).assert_refused(5, &["there is no node nobody"]);
}

/// NS-5, NS-7, NS-9; EL-6 by the node's own port.
#[test]
fn a_leader_answers_its_operator_and_hears_who_leaves() {
    let mut farm = Farm::of(3);
    let (leader, row) = farm.leader();
    let member = (leader + 1) % 3;
    let before = show(&farm, "boston").segment.reported_ns;
    steer(&farm, &["refresh", "boston"]);
    assert!(show(&farm, "boston").segment.reported_ns > before);
    let last = |node: &Node, line: &str| node.ask(line).last().expect("a reply").code;
    assert_eq!(last(&farm.nodes[leader], "refresh"), 202);
    assert_eq!(last(&farm.nodes[member], "refresh"), 503, "it does not lead");
    // From afar only what the director signed.
    let text = row.text.parse().expect("an address");
    assert_eq!(ask_tcp(&farm, text, "refresh").code, 403);
    assert_eq!(ask_tcp(&farm, text, "channel to=239.255.70.9:7401").code, 403);
    assert_eq!(ask_tcp(&farm, text, "charter document=00ff").code, 403);

    let to = format!(
        "239.255.{}.7:{}",
        1 + farm.control_channel.ip().octets()[2] % 200,
        farm.control_channel.port()
    );
    assert_eq!(last(&farm.nodes[member], &format!("channel to={to}")), 503);
    let data = farm.data_channel().expect("the leader has a list of groups");
    assert_eq!(last(&farm.nodes[leader], &format!("channel to={data}")), 422);
    assert_eq!(last(&farm.nodes[leader], &format!("channel to={}", farm.control_channel)), 203);
    assert_eq!(last(&farm.nodes[leader], &format!("channel to={to}")), 202);
    wait_for("all on the new channel", SOON, || {
        farm.nodes.iter().all(|node| status(node, "control_channel") == to).then_some(())
    });
    farm.stage("page", "one");
    farm.publish_well();

    // It says so, and nobody has to miss it.
    farm.nodes[member].process.as_ref().expect("it runs").ask_to_end();
    farm.nodes[leader].wait_for_log("has left");
    let name = &farm.nodes[member].name;
    wait_for("its absence in the history", SOON, || {
        let events = show(&farm, "boston").events;
        let gone = |event: &farmcast::ccm::api::types::Event| {
            event.subject == format!("node {name}") && event.text.starts_with("offline")
        };
        events.iter().any(gone).then_some(())
    });
    farm.nodes[member].kill();
    farm.nodes[member].start();
    farm.wait_until_whole();
}

/// EL-12: what was counted outlives the process.
#[test]
fn a_crash_counts_against_a_node_and_a_clean_end_does_not() {
    let mut farm = Farm::of(1);
    let counted = |farm: &Farm| -> (u64, u64) {
        let lines = farm.nodes[0].ask("show leader");
        let number =
            |line: &farmcast::wire::console::Line, key| line.text(key).and_then(|text| text.parse().ok());
        let term = lines.iter().find(|line| line.text("name") == Some("reliability")).expect("the term");
        (
            number(lines.last().expect("a reply"), "crashes").expect("crashes"),
            number(term, "value").expect("percent"),
        )
    };
    assert_eq!(counted(&farm).0, 0);
    farm.nodes[0].process.as_mut().expect("it runs").ask_to_end();
    farm.nodes[0].process.as_mut().expect("it runs").end(SOON);
    farm.nodes[0].start();
    assert_eq!(counted(&farm).0, 0);
    farm.nodes[0].kill();
    farm.nodes[0].start();
    let (crashes, percent) = counted(&farm);
    assert_eq!(crashes, 1);
    assert!((60..75).contains(&percent), "{percent}");
}

/// Bad input: a cloned disk. Both machines say so, so does the CCM, one keeps silent, and a publish goes well.
#[test]
fn an_identity_on_two_machines_is_named_on_both_and_disturbs_nobody() {
    let mut farm = Farm::of(3);
    let (leader, _) = farm.leader();
    let member = (leader + 1) % 3;
    farm.add_node();
    let copy = farm.nodes.len() - 1;
    let (from, to) = (farm.nodes[member].state(), farm.nodes[copy].state());
    for file in ["identity", "boot"] {
        fs::copy(from.join(file), to.join(file)).expect("a copy");
    }
    // Started as the last, the copy is the one that everybody believes.
    farm.nodes[copy].start();
    farm.nodes[member].wait_for_log("has the identity of this node; this one keeps silent");
    farm.nodes[copy].wait_for_log("has the identity of this node: stop the one that is a copy");
    farm.nodes[leader].wait_for_log("two machines register as node");
    let said = |node: &Node| (status(node, "aside"), status(node, "twin").is_empty());
    assert_eq!(said(&farm.nodes[member]), ("true".into(), false));
    assert_eq!(said(&farm.nodes[copy]), ("false".into(), false));
    let verdict = wait_for("a verdict", SOON, || {
        let status: Status = farm.cli(&["--json", "status"]).json();
        status.verdict.contains("second machine").then_some(status.verdict)
    });
    assert!(verdict.contains(&farm.nodes[member].name), "{verdict}");

    // The copy is stopped, the original started anew: all is as it was.
    farm.nodes[copy].kill();
    let gone = farm.nodes.pop().expect("the copy");
    drop(gone);
    farm.nodes[member].kill();
    farm.nodes[member].start();
    wait_for("the original", LATER, || (status(&farm.nodes[member], "registered") == "true").then_some(()));
    farm.stage("page", "one");
    let (_, job) = farm.publish();
    let of = |at: usize| {
        job.nodes.iter().find(|node| node.name == farm.nodes[at].name).map(|node| node.state.as_str())
    };
    assert_eq!((of(leader), of(member)), (Some("live"), Some("live")), "{job:#?}\n{}", farm.logs());
}
