use super::types::{Event, Invite, Job, Node, Phase, Problem, Segment, SegmentDetail, Site, Status, Version};
use crate::ccm::controller::Controller;
use crate::ccm::db::Keep;
use crate::ccm::testing::{
    Answer, controller, free_port, http, id, key, listen, name, profile, segment_report, uplink,
};
use crate::wire::id::{AssignmentId, RunId};
use crate::wire::join::{JoinReply, JoinRequest, Token};
use crate::wire::notify::{NextReply, NextRequest, UplinkBody};
use std::net::SocketAddr;
use std::sync::Arc;
use tempfile::TempDir;

struct Farm {
    dir: TempDir,
    controller: Arc<Controller>,
    operator: SocketAddr,
    node: SocketAddr,
}

async fn farm(nodes: u8) -> Farm {
    let (dir, controller) = controller(nodes);
    let (listener, operator) = free_port().await;
    listen(super::operator(Arc::clone(&controller)), listener).await;
    let (listener, node) = free_port().await;
    listen(super::node(Arc::clone(&controller)), listener).await;
    Farm { dir, controller, operator, node }
}

fn problem(answer: &Answer, status: u16, kind: &str) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.head.contains("content-type: application/problem+json"), "{answer:?}");
    let problem: Problem = answer.json();
    assert_eq!((problem.status, problem.kind.as_str()), (status, kind));
    problem.detail
}

#[tokio::test]
async fn sites_and_jobs_are_made_and_shown() {
    let farm = farm(0).await;
    let staging = farm.dir.path().join("staging");
    std::fs::create_dir(&staging).unwrap();
    let site = format!("{{\"name\":\"www\",\"staging\":\"{}\"}}", staging.display());
    let unknown = http(farm.operator, "POST /v1/jobs", b"{\"kind\":\"publish\",\"site\":\"www\"}").await;
    assert!(problem(&unknown, 404, "not-found").contains("farmcast site add www"));

    let added = http(farm.operator, "POST /v1/sites", site.as_bytes()).await;
    assert_eq!((added.status, added.json::<Site>().version), (201, 0));
    problem(&http(farm.operator, "POST /v1/sites", site.as_bytes()).await, 409, "conflict");
    for bad in [
        r#"{"name":"a/b","staging":"/"}"#,
        r#"{"name":"a","staging":"relative"}"#,
        r#"{"name":"a","staging":"/no/such/directory"}"#,
        r#"{"name":"a"}"#,
        r#"{"#,
    ] {
        let answer = http(farm.operator, "POST /v1/sites", bad.as_bytes()).await;
        problem(&answer, 400, "bad-request");
    }
    assert_eq!(http(farm.operator, "GET /v1/sites", b"").await.json::<Vec<Site>>().len(), 1);

    let job = http(farm.operator, "POST /v1/jobs", b"{\"kind\":\"publish\",\"site\":\"www\"}").await;
    assert_eq!(job.status, 202);
    let job: Job = job.json();
    assert_eq!((job.id, job.phase, job.site.as_str()), (1, Phase::Queued, "www"));
    assert_eq!(http(farm.operator, "GET /v1/jobs/1", b"").await.json::<Job>(), job);
    assert_eq!(http(farm.operator, "GET /v1/jobs", b"").await.json::<Vec<Job>>(), [job]);
    problem(&http(farm.operator, "GET /v1/jobs/2", b"").await, 404, "not-found");
    problem(&http(farm.operator, "GET /v1/jobs/x", b"").await, 404, "not-found");
    problem(&http(farm.operator, "GET /v1/nothing", b"").await, 404, "not-found");
    let rollback = http(farm.operator, "POST /v1/jobs", b"{\"kind\":\"undo\",\"site\":\"www\"}").await;
    problem(&rollback, 400, "bad-request");
    assert_eq!(http(farm.operator, "GET /v1/version", b"").await.json::<Version>().api, "v1");
    let status: Status = http(farm.operator, "GET /v1/status", b"").await.json();
    assert_eq!((status.running.len(), status.verdict.as_str()), (1, "Job 1 publishes www: queued."));
}

/// NS-11.
#[tokio::test]
async fn a_node_joins_reports_and_is_shown() {
    let farm = farm(0).await;
    let invite =
        http(farm.operator, "POST /v1/invites", br#"{"node":"","can_lead":true,"expires_s":0}"#).await;
    assert_eq!(invite.status, 201);
    let invite: Invite = invite.json();
    assert!(invite.command.contains(&invite.token) && invite.command.contains("127.0.0.1:7400"));
    let token: Token = invite.token.parse().unwrap();

    let request = JoinRequest { public_key: key(1).public(), name: name("n1") };
    let answer = http(farm.node, "POST /v1/join", &request.seal(&token)).await;
    assert_eq!(answer.status, 200);
    let reply = JoinReply::open(&answer.body, &token).unwrap();
    assert_eq!(reply.farm, farm.controller.keys.farm());
    let stranger = http(farm.node, "POST /v1/join", &request.seal(&Token::new([1; 32]))).await;
    problem(&stranger, 403, "denied");

    let report = segment_report("boston", 1, vec![profile(1, &[("www", 0)])]);
    let report = uplink(1, 1, UplinkBody::Segment(report));
    let taken = http(farm.node, "POST /v1/uplink", &report).await;
    assert_eq!(taken.status, 204);
    assert!(taken.head.contains("x-farmcast-time: 1"), "{}", taken.head);
    let replayed = http(farm.node, "POST /v1/uplink", &report).await;
    problem(&replayed, 409, "conflict");
    assert!(replayed.head.contains("x-farmcast-time: "));
    let mut forged = report.clone();
    forged[30] ^= 1;
    problem(&http(farm.node, "POST /v1/uplink", &forged).await, 403, "denied");
    problem(&http(farm.node, "POST /v1/uplink", b"short").await, 400, "bad-request");
    let next = UplinkBody::Next(NextRequest { run: RunId(1), assignment: AssignmentId(1), whole: true });
    let unknown = http(farm.node, "POST /v1/uplink", &uplink(2, 1, next)).await;
    assert!(problem(&unknown, 403, "denied").contains("has not joined"));

    let nodes: Vec<Node> = http(farm.operator, "GET /v1/nodes", b"").await.json();
    let one = &nodes[0];
    assert_eq!(
        (one.id.clone(), one.state.as_str(), one.segment.as_str()),
        (id(1).to_string(), "leader", "boston")
    );
    let status: Status = http(farm.operator, "GET /v1/status", b"").await.json();
    assert_eq!((status.nodes_online, status.segments[0].leader_name.as_str()), (1, "n1"));
}

#[tokio::test]
async fn who_asks_for_the_next_leader_of_no_run_is_told_nobody() {
    let farm = farm(1).await;
    let request = NextRequest { run: RunId(9), assignment: AssignmentId(9), whole: true };
    let answer = http(farm.node, "POST /v1/uplink", &uplink(1, 1, UplinkBody::Next(request))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(NextReply::decode(&answer.body), Ok(NextReply::Nobody));
}

#[tokio::test]
async fn objects_are_served_whole_and_in_ranges_and_counted() {
    let farm = farm(0).await;
    let object: Vec<u8> = (0..600_000_u32).map(|at| at as u8).collect();
    let hex = "ab".repeat(32);
    std::fs::write(farm.controller.config.objects().join(format!("{hex}.asg")), &object).unwrap();
    let get = format!("GET /o/{hex}");

    let whole = http(farm.node, &get, b"").await;
    assert_eq!((whole.status, whole.body.len()), (200, object.len()));
    assert!(whole.head.contains("content-length: 600000") && whole.head.contains("accept-ranges: bytes"));
    assert_eq!(farm.controller.served_bytes(), 600_000);
    let part = http(farm.node, &format!("{get}\nrange: bytes=1000-300999"), b"").await;
    assert_eq!((part.status, &part.body[..]), (206, &object[1_000..301_000]));
    assert!(part.head.contains("content-range: bytes 1000-300999/600000"), "{}", part.head);
    assert_eq!(farm.controller.served_bytes(), 900_000);
    let outside = http(farm.node, &format!("{get}\nrange: bytes=600000-"), b"").await;
    problem(&outside, 416, "bad-range");

    let head = http(farm.node, &format!("HEAD /o/{hex}"), b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.head.contains("content-length: 600000"), "{}", head.head);
    assert_eq!(farm.controller.served_bytes(), 900_000);
    for missing in [format!("GET /o/{}", "cd".repeat(32)), "GET /o/..%2fccm.db".to_owned()] {
        problem(&http(farm.node, &missing, b"").await, 404, "not-found");
    }
}

#[tokio::test]
async fn the_nodes_port_does_not_operate_the_farm() {
    let farm = farm(0).await;
    problem(&http(farm.node, "POST /v1/invites", b"{}").await, 404, "not-found");
    problem(&http(farm.node, "GET /v1/status", b"").await, 404, "not-found");
}

/// EL-3, EL-6, NS-14: what operators decide of a segment, and what is refused.
#[tokio::test]
async fn segments_are_shown_renamed_and_steered() {
    let farm = farm(3).await;
    let post =
        async |path: &str, body: &str| http(farm.operator, &format!("POST {path}"), body.as_bytes()).await;
    let rename = r#"{"name":"east"}"#;
    let unknown = problem(&post("/v1/segments/boston/name", rename).await, 404, "not-found");
    assert!(unknown.contains("farmcast segment list"), "{unknown}");

    let stubborn = crate::wire::control::Profile { leads: false, ..profile(2, &[]) };
    let report = segment_report("boston", 1, vec![profile(1, &[]), stubborn]);
    http(farm.node, "POST /v1/uplink", &uplink(1, 1, UplinkBody::Segment(report))).await;
    let list: Vec<Segment> = http(farm.operator, "GET /v1/segments", b"").await.json();
    assert_eq!((list[0].name.as_str(), list[0].id.as_str(), list[0].charter), ("boston", "boston", 0));
    assert_eq!(list[0].channel, "239.1.1.1:7401");

    let renamed: SegmentDetail = post("/v1/segments/boston/name", rename).await.json();
    assert_eq!((renamed.segment.name.as_str(), renamed.segment.id.as_str()), ("east", "boston"));
    assert_eq!((renamed.segment.charter, renamed.segment.charter_reported), (1, 0));
    assert_eq!(renamed.events[0].text, "renamed from boston to east");
    let nodes: Vec<Node> = http(farm.operator, "GET /v1/nodes", b"").await.json();
    assert_eq!((nodes[0].segment.as_str(), nodes[0].segment_id.as_str()), ("east", "boston"));
    assert_eq!((nodes[0].cpu_mhz, nodes[0].load_pct, nodes[0].connections), (3_000, 12, 34));
    assert_eq!(
        (nodes[0].location.as_str(), nodes[0].may_lead, nodes[1].may_lead),
        ("Europe/Vienna", true, false)
    );
    let status: Status = http(farm.operator, "GET /v1/status", b"").await.json();
    assert_eq!(status.segments[0].name, "east");
    problem(&post("/v1/segments/east/name", r#"{"name":"a/b"}"#).await, 400, "bad-request");

    let moved = post("/v1/segments/east/channel", r#"{"channel":"239.9.9.9:7401"}"#).await;
    assert_eq!(moved.json::<SegmentDetail>().segment.wanted_channel, "239.9.9.9:7401");
    for bad in ["10.0.0.1:7401", "224.0.0.5:7401", "239.9.9.9", "x"] {
        let answer = post("/v1/segments/east/channel", &format!("{{\"channel\":\"{bad}\"}}")).await;
        assert!(problem(&answer, 400, "bad-request").contains("239.255.70.3:7401"), "{bad}");
    }
    let back = post("/v1/segments/east/channel", r#"{"channel":""}"#).await;
    assert_eq!(back.json::<SegmentDetail>().segment.wanted_channel, "");

    let led = post("/v1/segments/east/leaders", r#"{"nodes":["n1","n1"],"open_after_s":30}"#).await;
    let led: SegmentDetail = led.json();
    assert_eq!((led.segment.leaders, led.segment.open_after_s), (vec!["n1".to_owned()], Some(30)));
    for (name, status, kind, part) in [
        ("n9", 404, "not-found", "farmcast node list"),
        ("n2", 409, "conflict", "can_lead"),
        ("n3", 409, "conflict", "not been seen"),
    ] {
        let body = format!("{{\"nodes\":[\"{name}\"],\"open_after_s\":null}}");
        let detail = problem(&post("/v1/segments/east/leaders", &body).await, status, kind);
        assert!(detail.contains(part), "{name}: {detail}");
    }
    let any: SegmentDetail =
        post("/v1/segments/east/leaders", r#"{"nodes":[],"open_after_s":null}"#).await.json();
    assert_eq!((any.segment.leaders, any.segment.charter), (vec![], 5));
    let refused = problem(&post("/v1/segments/east/refresh", "{}").await, 409, "conflict");
    assert!(refused.contains("cannot be asked"), "nobody listens there: {refused}");
}

/// Whoever follows the history is told that what it would go on from is not kept any more, by page and by stream.
#[tokio::test]
async fn who_goes_on_from_events_that_are_not_kept_any_more_is_told_so() {
    let farm = farm(0).await;
    let first = farm
        .controller
        .store_blocking(|store| {
            (0..20).try_for_each(|_| store.record_event("farm", "x", 1_000))?;
            let keep = Keep { days: 400, events: 5 };
            store.prune_events(keep, 100, 1_000)?;
            store.events_forgotten()
        })
        .unwrap();
    let get = |path: String| async move { http(farm.operator, &format!("GET {path}"), b"").await };
    for path in ["/v1/events?after=3".to_owned(), "/v1/events?stream=1&after=3".to_owned()] {
        let detail = problem(&get(path).await, 410, "gone");
        assert!(detail.contains(&format!("go on after {first}")), "{detail}");
    }
    let resumed =
        http(farm.operator, "GET /v1/events\naccept: text/event-stream\nlast-event-id: 3", b"").await;
    problem(&resumed, 410, "gone");
    for after in [0, first] {
        let events: Vec<Event> = get(format!("/v1/events?after={after}")).await.json();
        assert_eq!((events.len(), events[0].id), (5, first + 1), "from the first that is kept");
    }
}
