use super::*;
use crate::ccm::api;
use crate::ccm::api::types::{Node, Problem, Site};
use crate::ccm::testing::{Answer, controller, free_port, http, id, listen, profile, segment_report, uplink};
use crate::wire::groups::GroupList;
use crate::wire::notify::UplinkBody;
use std::net::SocketAddr;
use tempfile::TempDir;

struct Farm {
    _dir: TempDir,
    controller: Arc<Controller>,
    operator: SocketAddr,
    node: SocketAddr,
}

/// Nodes n1 to n3 of boston, which all host www and shop.
async fn farm() -> Farm {
    let (dir, controller) = controller(3);
    let (listener, operator) = free_port().await;
    listen(api::operator(Arc::clone(&controller)), listener).await;
    let (listener, node) = free_port().await;
    listen(api::node(Arc::clone(&controller)), listener).await;
    let farm = Farm { _dir: dir, controller, operator, node };
    assert_eq!(farm.report(1, 0).await.status, 204, "no site, no group, no list");
    for site in ["www", "shop"] {
        let body = format!("{{\"name\":\"{site}\",\"staging\":\"/\"}}");
        assert_eq!(http(farm.operator, "POST /v1/sites", body.as_bytes()).await.status, 201);
    }
    farm
}

impl Farm {
    /// A report of leader n1, whose members go by this list.
    async fn report(&self, seq: u64, list: u64) -> Answer {
        let members = [1, 2, 3].map(|number| {
            let profile = profile(number, &[("www", 0), ("shop", 0)]);
            crate::wire::control::Profile { groups: ListNumber(list), ..profile }
        });
        let body = UplinkBody::Segment(segment_report("boston", 1, members.to_vec()));
        http(self.node, "POST /v1/uplink", &uplink(1, seq, body)).await
    }

    async fn ask(&self, head: &str, body: &str) -> Answer {
        http(self.operator, head, body.as_bytes()).await
    }

    async fn refused(&self, head: &str, body: &str, status: u16) -> String {
        let answer = self.ask(head, body).await;
        assert_eq!(answer.status, status, "{answer:?}");
        answer.json::<Problem>().detail
    }
}

#[tokio::test]
async fn a_leader_is_answered_with_the_list_until_it_goes_by_it() {
    let farm = farm().await;
    let answer = farm.report(2, 0).await;
    assert_eq!(answer.status, 200);
    let list = GroupList::open(&answer.body, &farm.controller.keys.director.public()).unwrap();
    assert_eq!((list.number, list.groups.len()), (ListNumber(1), 2));
    assert_eq!(farm.report(3, 0).await.body, answer.body, "the same document again");
    assert_eq!(farm.report(4, 1).await.status, 204);

    let change = r#"{"name":"eu","nodes":["n1","n2"]}"#;
    assert_eq!(farm.ask("POST /v1/groups", change).await.status, 201);
    assert_eq!(farm.report(5, 1).await.status, 204, "it serves no site yet");
    assert_eq!(farm.ask("POST /v1/sites/www/group", r#"{"group":"eu"}"#).await.json::<Site>().group, "eu");
    let answer = farm.report(6, 1).await;
    let list = GroupList::open(&answer.body, &farm.controller.keys.director.public()).unwrap();
    assert_eq!((list.number, list.groups[0].name.as_str()), (ListNumber(2), "eu"));
    assert!(list.groups[0].holds(id(2)) && !list.groups[0].holds(id(3)));

    let shown: GroupDetail = farm.ask("GET /v1/groups/eu", "").await.json();
    let segment = &shown.segments[0];
    assert_eq!((segment.channel.clone(), segment.list), (list.groups[0].channel.to_string(), 2));
    assert_eq!((segment.members, segment.current), (2, 0));
    farm.report(7, 2).await;
    let shown: GroupDetail = farm.ask("GET /v1/groups/eu", "").await.json();
    assert_eq!(shown.segments[0].current, 2);
}

#[tokio::test]
async fn groups_are_made_shown_changed_and_deleted() {
    let farm = farm().await;
    let all: Vec<Group> = farm.ask("GET /v1/groups", "").await.json();
    assert!(all.len() == 2 && all.iter().all(|group| group.default && group.nodes_total == 3));
    let made = farm.ask("POST /v1/groups", r#"{"name":"eu","nodes":["n1","n9*"]}"#).await;
    assert_eq!(made.status, 201);
    let made: GroupDetail = made.json();
    assert_eq!((made.group.chosen, made.nodes.len()), (vec!["n1".to_owned(), "n9*".to_owned()], 1));
    assert!(!made.nodes[0].member, "without a site nobody is a member");

    farm.ask("POST /v1/sites/www/group", r#"{"group":"eu"}"#).await;
    let changed: GroupDetail =
        farm.ask("POST /v1/groups/eu", r#"{"add":["n2"],"remove":["n9*"]}"#).await.json();
    assert_eq!((changed.group.nodes_total, changed.nodes.len()), (2, 2));
    let nodes: Vec<Node> = farm.ask("GET /v1/nodes", "").await.json();
    assert_eq!(
        (&nodes[0].groups[..], &nodes[2].groups[..]),
        (&["eu", "shop"].map(str::to_owned)[..], &["shop".to_owned()][..])
    );

    for (head, body, status, says) in [
        ("POST /v1/groups", r#"{"name":"a/b"}"#, 400, "no name of a group"),
        ("POST /v1/groups", r#"{"name":"us","nodes":["a b"]}"#, 400, "chooses no node"),
        ("POST /v1/groups", r#"{"name":"us","nodes":["n9"]}"#, 404, "no node n9"),
        ("POST /v1/groups", r#"{"name":"eu"}"#, 409, "exists"),
        ("POST /v1/groups", r#"{"name":"shop"}"#, 409, "is a site"),
        ("POST /v1/groups/us", r#"{"add":["n1"]}"#, 404, "no group us"),
        ("POST /v1/groups/shop", r#"{"add":["n1"]}"#, 409, "default group"),
        ("POST /v1/groups/eu", r#"{"remove":["n3"]}"#, 404, "does not choose n3"),
        ("GET /v1/groups/us", "", 404, "no group us"),
        ("DELETE /v1/groups/us", "", 404, "no group us"),
        ("DELETE /v1/groups/eu", "", 409, "serves www"),
        ("POST /v1/sites/blog/group", r#"{"group":"eu"}"#, 404, "no site blog"),
        ("POST /v1/sites/www/group", r#"{"group":"us"}"#, 404, "no group us"),
        ("POST /v1/sites", r#"{"name":"eu","staging":"/"}"#, 409, "there is a group eu"),
    ] {
        let detail = farm.refused(head, body, status).await;
        assert!(detail.contains(says), "{head} {body}: {detail}");
    }
    let site: Site = farm.ask("POST /v1/sites/www/group", r#"{"group":""}"#).await.json();
    assert_eq!(site.group, "www");
    assert_eq!(farm.ask("DELETE /v1/groups/eu", "").await.status, 204);
    assert_eq!(farm.ask("GET /v1/groups", "").await.json::<Vec<Group>>(), all);
}
