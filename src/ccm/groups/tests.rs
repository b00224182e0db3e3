use super::*;
use crate::ccm::testing::{id, name, node_with, seen};

fn chosen(text: &str, nodes: &[&str], sites: &[&str]) -> Group {
    Group {
        name: name(text),
        nodes: Nodes::Chosen(nodes.iter().map(|choice| choice.parse().unwrap()).collect()),
        sites: sites.iter().map(|site| name(site)).collect(),
    }
}

fn default_of(site: &str) -> Group {
    Group { name: name(site), nodes: Nodes::All, sites: vec![name(site)] }
}

#[test]
fn a_default_group_holds_whoever_hosts_its_site() {
    let groups = [default_of("www"), default_of("shop")];
    let hosts = node_with(1, Some(seen("boston", false, &[("www", 0)])));
    let never_seen = node_with(2, None);
    assert!(groups[0].holds(&hosts) && !groups[1].holds(&hosts) && !groups[0].holds(&never_seen));
    assert!(takes(&groups, &hosts, &name("www")) && !takes(&groups, &hosts, &name("shop")));
}

#[test]
fn an_operators_group_holds_whom_it_chooses_if_they_host_one_of_its_sites() {
    let groups = [chosen("eu", &["n1", "segment:paris"], &["www", "shop"])];
    let node = |number, segment, sites| node_with(number, Some(seen(segment, true, sites)));
    let named = node(1, "boston", &[("shop", 3)]);
    assert!(groups[0].holds(&named));
    assert!(takes(&groups, &named, &name("shop")) && !takes(&groups, &named, &name("www")));
    assert!(groups[0].holds(&node(2, "paris", &[("www", 0)])));
    assert!(!groups[0].holds(&node(2, "boston", &[("www", 0)])));
    let idle = node(1, "boston", &[("blog", 0)]);
    assert!(groups[0].chooses(&idle) && !groups[0].holds(&idle));
    assert!(!takes(&groups, &named, &name("blog")), "no group serves it");
}

#[test]
fn a_list_names_groups_that_have_a_member_there_in_order() {
    let groups =
        [default_of("www"), chosen("eu", &["n1", "n3"], &["shop", "blog"]), chosen("us", &["n9"], &["news"])];
    let node = |number, sites| node_with(number, Some(seen("boston", true, sites)));
    let nodes =
        [node(1, &[("blog", 0)]), node(2, &[("www", 0), ("shop", 0)]), node(3, &[("www", 1), ("shop", 0)])];
    let planned = plan(&groups, &nodes);
    let ids = |numbers: &[u8]| {
        let mut ids: Vec<NodeId> = numbers.iter().map(|number| id(*number)).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(planned.len(), 2);
    assert_eq!((&planned[0].name, &planned[0].members), (&name("eu"), &ids(&[1, 3])));
    assert_eq!(planned[0].sites, [name("blog"), name("shop")]);
    assert_eq!((&planned[1].name, &planned[1].members), (&name("www"), &ids(&[2, 3])));
    assert!(plan(&groups, &[node(2, &[])]).is_empty());
}
