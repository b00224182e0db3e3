use crate::ccm::access::{ApiToken, Grant, Origin, Role, Scope, Subject, need};
use crate::ccm::api::types::{
    AuditEntry, Event, Job, MadeToken, Node, Problem, Schedule, Site, Token, Window,
};
use crate::ccm::clock::{NS_PER_S, now_ns};
use crate::ccm::controller::Controller;
use crate::ccm::testing::{Answer, controller, free_port, http, listen, listen_from, name};
use std::net::SocketAddr;
use std::sync::Arc;
use tempfile::TempDir;

struct Farm {
    _dir: TempDir,
    controller: Arc<Controller>,
    local: SocketAddr,
    remote: SocketAddr,
}

/// Two sites with a job, a schedule and a window each, asked through the Unix socket and from 192.0.2.9.
async fn farm() -> Farm {
    let (dir, controller) = controller(1);
    let router = super::super::operator(Arc::clone(&controller));
    let (listener, local) = free_port().await;
    listen(router.clone(), listener).await;
    let (listener, remote) = free_port().await;
    listen_from(Origin::Remote { address: [192, 0, 2, 9].into() }, router, listener).await;
    for (at, site) in ["www", "shop"].iter().enumerate() {
        let post = async |path: &str, body: String| {
            let answer = http(local, &format!("POST {path}"), body.as_bytes()).await;
            assert!(answer.status < 300, "{answer:?}");
        };
        post("/v1/sites", format!(r#"{{"name":"{site}","staging":"/"}}"#)).await;
        post("/v1/jobs", format!(r#"{{"kind":"publish","site":"{site}"}}"#)).await;
        let (name, trigger) = (format!("s{}", at + 1), "cron UTC 0 0 * * *");
        let schedule =
            format!(r#"{{"name":"{name}","site":"{site}","kind":"publish","trigger":"{trigger}"}}"#);
        post("/v1/schedules", schedule).await;
        let window =
            format!(r#"{{"name":"w{}","site":"{site}","opens":"","lasts_s":1,"reason":"r"}}"#, at + 1);
        post("/v1/windows", window).await;
    }
    Farm { _dir: dir, controller, local, remote }
}

impl Farm {
    /// The secret of a new token.
    async fn token(&self, of: &str, role: &str, sites: &[&str]) -> String {
        let sites = serde_json::to_string(sites).unwrap();
        let body = format!(r#"{{"name":"{of}","role":"{role}","sites":{sites}}}"#);
        let answer = http(self.local, "POST /v1/tokens", body.as_bytes()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json::<MadeToken>().secret
    }

    async fn ask(&self, secret: &str, head: &str, body: &str) -> Answer {
        http(self.remote, &format!("{head}\nauthorization: Bearer {secret}"), body.as_bytes()).await
    }

    async fn audit(&self) -> Vec<AuditEntry> {
        http(self.local, "GET /v1/audit?limit=1000", b"").await.json()
    }
}

fn detail(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    let problem: Problem = answer.json();
    assert_eq!(problem.status, status);
    problem.detail
}

/// Methods and routes of the operator's router, as its source has them.
fn routes() -> Vec<(&'static str, String)> {
    let source = include_str!("../mod.rs");
    let router = source.split_once("pub fn operator").unwrap().1.split_once(".fallback").unwrap().0;
    let mut found = Vec::new();
    for text in router.split(".route(\"").skip(1) {
        let (path, calls) = text.split_once('"').unwrap();
        for method in ["get", "post", "put", "patch", "delete"] {
            if calls.contains(&format!("{method}(")) {
                found.push((method, path.to_owned()));
            }
        }
    }
    found
}

#[test]
fn every_route_of_the_router_says_what_it_asks_for() {
    let routes = routes();
    assert!(routes.len() > 45, "{routes:?}");
    for (method, route) in routes {
        assert!(
            need(&method.to_uppercase(), &route).is_some(),
            "{method} {route}: nobody may; see access::need"
        );
    }
}

/// The gate stands before every route: each answers 401 without a token, and 403 with one that has no right to it.
#[tokio::test]
async fn each_role_may_what_its_right_says_at_every_route() {
    let farm = farm().await;
    let mut secrets = Vec::new();
    for role in Role::ALL {
        secrets.push((role, farm.token(role.word(), role.word(), &[]).await));
    }
    for (method, route) in routes() {
        let needed = need(&method.to_uppercase(), &route).unwrap();
        // Nothing that is there, so that nothing is done where it is let in.
        let path = route.replace("{name}", "none").replace("{id}", "99").replace("{wish}", "no");
        let head = format!("{} {}", method.to_uppercase(), path.replace("{number}", "9"));
        detail(&http(farm.remote, &head, b"").await, 401);
        for (role, secret) in &secrets {
            let answer = farm.ask(secret, &head, "").await;
            let expected = role.right() >= needed.right;
            assert_eq!(answer.status != 403, expected, "{head} as {role:?}: {answer:?}");
            assert_ne!(answer.status, 401, "{head} as {role:?}");
        }
    }
}

/// What is of other sites is refused or left out, whatever the role, at every route that tells of a site.
#[tokio::test]
async fn a_scope_limits_every_route_and_every_list() {
    let farm = farm().await;
    let secret = farm.token("shop-admin", "admin", &["shop"]).await;
    let jobs: Vec<Job> = farm.ask(&secret, "GET /v1/jobs", "").await.json();
    assert_eq!(jobs.iter().map(|job| job.site.as_str()).collect::<Vec<_>>(), ["shop"]);
    let sites: Vec<Site> = farm.ask(&secret, "GET /v1/sites", "").await.json();
    assert_eq!(sites.iter().map(|site| site.name.as_str()).collect::<Vec<_>>(), ["shop"]);
    let schedules: Vec<Schedule> = farm.ask(&secret, "GET /v1/schedules", "").await.json();
    assert_eq!(schedules.iter().map(|of| of.name.as_str()).collect::<Vec<_>>(), ["s2"]);
    let windows: Vec<Window> = farm.ask(&secret, "GET /v1/windows", "").await.json();
    assert_eq!(windows.iter().map(|of| of.name.as_str()).collect::<Vec<_>>(), ["w2"]);
    let events: Vec<Event> = farm.ask(&secret, "GET /v1/events?limit=1000", "").await.json();
    assert!(!events.is_empty());
    for event in &events {
        let of = ["site shop", "job 2", "run 2", "schedule s2", "window w2"];
        assert!(of.contains(&event.subject.as_str()), "{event:?}");
    }

    let mut seen = 0;
    for (method, route) in routes() {
        let subject = need(&method.to_uppercase(), &route).unwrap().subject;
        let of = |site: &str, number: u8| {
            let name = match subject {
                Subject::Schedule => format!("s{number}"),
                Subject::Window => format!("w{number}"),
                _ => site.to_owned(),
            };
            let path = route.replace("{name}", &name).replace("{id}", &number.to_string());
            format!("{} {}", method.to_uppercase(), path.replace("{number}", "9").replace("{wish}", "no"))
        };
        let body = |site: &str| match (method, route.as_str()) {
            ("post", "/v1/jobs") => format!(r#"{{"kind":"publish","site":"{site}"}}"#),
            ("post", "/v1/schedules") => {
                format!(r#"{{"name":"n","site":"{site}","kind":"publish","trigger":"cron UTC 0 0 * * *"}}"#)
            }
            ("post", "/v1/windows") => format!(r#"{{"name":"n","site":"{site}","opens":"","reason":"r"}}"#),
            _ => String::new(),
        };
        match subject {
            Subject::Anybody | Subject::List => continue,
            Subject::Farm => {
                let refused = detail(&farm.ask(&secret, &of("shop", 2), "").await, 403);
                assert!(refused.contains("whole farm"), "{refused}");
            }
            Subject::Site | Subject::Job | Subject::Schedule | Subject::Window | Subject::Body => {
                assert!(
                    subject != Subject::Body || !body("www").is_empty(),
                    "{route}: what body names a site?"
                );
                let refused = detail(&farm.ask(&secret, &of("www", 1), &body("www")).await, 403);
                assert!(refused.contains("shop only, not for www"), "{method} {route}: {refused}");
                let answer = farm.ask(&secret, &of("shop", 2), &body("shop")).await;
                assert_ne!(answer.status, 403, "{method} {route}: {answer:?}");
            }
        }
        seen += 1;
    }
    assert!(seen > 35, "{seen}");
    // A window of the farm holds its jobs: it is shown, and not its to end. One that starts after another site's jobs
    // tells of them.
    let all = r#"{"name":"all","opens":"","reason":"r"}"#;
    detail(&farm.ask(&secret, "POST /v1/windows", all).await, 403);
    assert_eq!(http(farm.local, "POST /v1/windows", all.as_bytes()).await.status, 201);
    assert_eq!(farm.ask(&secret, "GET /v1/windows/all", "").await.status, 200);
    detail(&farm.ask(&secret, "DELETE /v1/windows/all", "").await, 403);
    let after = r#"{"name":"n2","site":"shop","kind":"publish","trigger":"after www live"}"#;
    detail(&farm.ask(&secret, "POST /v1/schedules", after).await, 403);
}

#[tokio::test]
async fn a_token_that_is_none_or_counts_no_more_is_told_so() {
    let farm = farm().await;
    let secret = farm.token("ci", "viewer", &[]).await;
    assert_eq!(farm.ask(&secret, "GET /v1/version", "").await.status, 200);
    let revoked = http(farm.local, "DELETE /v1/tokens/ci", b"").await;
    assert_eq!(revoked.status, 204, "{revoked:?}");
    let told = farm.ask(&secret, "GET /v1/version", "").await;
    assert!(detail(&told, 401).contains("token ci was revoked"), "{told:?}");
    assert!(
        told.head.contains("www-authenticate: bearer") && told.head.contains("connection: close"),
        "{told:?}"
    );

    let old = ApiToken::new([9; 32]);
    let (key, by) = (old.clone(), "uid:0");
    let grant = Grant {
        name: name("old"),
        role: Role::Admin,
        scope: Scope::Farm,
        expires_ns: now_ns() - NS_PER_S,
        revoked: false,
    };
    farm.controller.store(move |store| store.add_token(&key, &grant, by, 1)).await.unwrap().unwrap();
    let told = detail(&farm.ask(&old.to_string(), "GET /v1/version", "").await, 401);
    assert!(told.contains("token old expired at") && told.contains("farmcast token create"), "{told}");
    let tokens: Vec<Token> = http(farm.local, "GET /v1/tokens", b"").await.json();
    let states: Vec<_> = tokens.iter().map(|token| (token.name.as_str(), token.state.as_str())).collect();
    assert_eq!(states, [("ci", "revoked"), ("old", "expired")]);

    let unknown = ApiToken::new([8; 32]).to_string();
    for header in [
        String::new(),
        "authorization: Basic Zm9v".to_owned(),
        "authorization: Bearer".to_owned(),
        "authorization: Bearer fca1-00".to_owned(),
        format!("authorization: Bearer {unknown}"),
        format!("authorization: Bearer {secret} {secret}"),
        format!("cookie: token={secret}"),
    ] {
        detail(&http(farm.remote, &format!("GET /v1/version\n{header}"), b"").await, 401);
    }
    // What is not there is not for strangers to know either.
    detail(&http(farm.remote, "GET /v1/nothing", b"").await, 401);
    for query in ["token", "access_token", "x=1&Token"] {
        let asked = format!("GET /v1/version?{query}={secret}");
        for from in [farm.local, farm.remote] {
            assert!(detail(&http(from, &asked, b"").await, 400).contains("Authorization"), "{query}");
        }
    }
}

#[tokio::test]
async fn changes_and_refusals_are_written_down_with_who_where_and_how_they_ended() {
    let farm = farm().await;
    let secret = farm.token("ci", "operator", &["www"]).await;
    let publish = r#"{"kind":"publish","site":"www"}"#;
    assert_eq!(farm.ask(&secret, "POST /v1/jobs", publish).await.status, 202);
    assert_eq!(farm.ask(&secret, "POST /v1/jobs/3/cancel", "").await.status, 200);
    detail(&farm.ask(&secret, "POST /v1/jobs/3/retry", "").await, 409);
    let before = farm.audit().await.len();
    for _ in 0..5 {
        detail(&farm.ask(&secret, "POST /v1/jobs", r#"{"kind":"publish","site":"shop"}"#).await, 403);
        detail(&farm.ask(&secret, "GET /v1/nodes", "").await, 403);
        detail(&http(farm.remote, "GET /v1/nodes", b"").await, 401);
    }
    let lines = farm.audit().await;
    assert_eq!(lines.len(), before + 2, "{lines:#?}");
    let shown: Vec<_> = lines
        .iter()
        .take(6)
        .map(|line| {
            (
                line.who.as_str(),
                line.origin.as_str(),
                line.route.as_str(),
                line.site.as_str(),
                line.status,
                line.count,
            )
        })
        .collect();
    let (job, wish) = ("/v1/jobs", "/v1/jobs/{id}/{wish}");
    assert_eq!(
        shown,
        [
            ("", "192.0.2.9", "/v1/nodes", "", 401, 5),
            ("token:ci", "192.0.2.9", job, "", 403, 10),
            ("token:ci", "192.0.2.9", wish, "www", 409, 1),
            ("token:ci", "192.0.2.9", wish, "www", 200, 1),
            ("token:ci", "192.0.2.9", job, "www", 202, 1),
            ("uid:1000", "unix", "/v1/tokens", "", 201, 1),
        ]
    );
    assert!(lines[2].detail.contains("id=3 wish=retry; job 3 is not over"), "{:?}", lines[2]);
    assert_eq!((lines[4].detail.as_str(), lines[4].method.as_str()), ("publish", "POST"));
    assert!(lines[5].detail.contains("ci: operator of www") && !lines[5].detail.contains("fca1"));
    assert!(lines[0].refused && lines[1].refused && !lines[2].refused);
    let page: Vec<AuditEntry> =
        http(farm.local, &format!("GET /v1/audit?before={}&limit=2", lines[3].id), b"").await.json();
    assert_eq!(page, lines[4..6]);
    for bad in ["limit=0", "limit=1001", "limit=x", "after=1", "before=-1"] {
        detail(&http(farm.local, &format!("GET /v1/audit?{bad}"), b"").await, 400);
    }
}

#[tokio::test]
async fn what_makes_no_sense_of_a_token_is_refused() {
    let farm = farm().await;
    let long = "x".repeat(49);
    let many: Vec<String> = (0..101).map(|at| format!("s{at}")).collect();
    for (body, part) in [
        (r#"{"name":"a","role":"king"}"#.to_owned(), "no role"),
        (r#"{"name":"a"}"#.to_owned(), "role"),
        (r#"{"name":"a b","role":"viewer"}"#.to_owned(), "no name of a token"),
        (format!(r#"{{"name":"{long}","role":"viewer"}}"#), "no name of a token"),
        (r#"{"name":"a","role":"viewer","sites":["x y"]}"#.to_owned(), "no name of a site"),
        (r#"{"name":"a","role":"viewer","sites":"www"}"#.to_owned(), "sites"),
        (r#"{"name":"a","role":"viewer","expires_s":999999999}"#.to_owned(), "lives at most"),
        (r#"{"name":"a","role":"viewer","expires_s":-1}"#.to_owned(), "expires_s"),
        (r#"{"name":"a","role":"viewer","admin":true}"#.to_owned(), "unknown field"),
        (
            format!(r#"{{"name":"a","role":"viewer","sites":{}}}"#, serde_json::to_string(&many).unwrap()),
            "100 sites",
        ),
        ("{".to_owned(), "JSON"),
    ] {
        let told = detail(&http(farm.local, "POST /v1/tokens", body.as_bytes()).await, 400);
        assert!(told.contains(part), "{body}: {told}");
    }
    let nowhere = r#"{"name":"a","role":"viewer","sites":["none"]}"#;
    detail(&http(farm.local, "POST /v1/tokens", nowhere.as_bytes()).await, 404);
    farm.token("a", "viewer", &[]).await;
    let twice = r#"{"name":"a","role":"viewer"}"#;
    assert!(detail(&http(farm.local, "POST /v1/tokens", twice.as_bytes()).await, 409).contains("revoke a"));
    detail(&http(farm.local, "DELETE /v1/tokens/none", b"").await, 404);
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(super::BODY_MAX));
    assert!(detail(&http(farm.local, "POST /v1/tokens", large.as_bytes()).await, 400).contains("bytes"));
    detail(&http(farm.local, "PUT /v1/tokens", b"").await, 405);
}

#[tokio::test]
async fn a_request_that_is_sent_again_with_its_key_is_answered_as_before_and_done_once() {
    let farm = farm().await;
    let ci = farm.token("ci", "operator", &[]).await;
    let publish = r#"{"kind":"publish","site":"www"}"#;
    let post = "POST /v1/jobs\nidempotency-key: k1";
    let first = farm.ask(&ci, post, publish).await;
    assert_eq!(first.status, 202, "{first:?}");
    let job: Job = first.json();
    let cancel = format!("POST /v1/jobs/{}/cancel", job.id);
    assert_eq!(http(farm.local, &cancel, b"").await.status, 200);
    let again = farm.ask(&ci, post, publish).await;
    assert_eq!((again.status, &again.body), (202, &first.body), "as it was, whatever became of it");
    let jobs = async || http(farm.local, "GET /v1/jobs", b"").await.json::<Vec<Job>>().len();
    assert_eq!(jobs().await, 3);
    // The same key for something else, and of somebody else.
    let other = detail(&farm.ask(&ci, post, r#"{"kind":"publish","site":"shop"}"#).await, 422);
    assert!(other.contains("k1"), "{other}");
    detail(&farm.ask(&ci, "POST /v1/schedules\nidempotency-key: k1", publish).await, 400);
    assert_eq!(http(farm.local, post, publish.as_bytes()).await.json::<Job>().id, job.id + 1);
    assert_eq!(jobs().await, 4);
    // What was refused may be tried again.
    let lost = r#"{"kind":"publish","site":"lost"}"#;
    for _ in 0..2 {
        detail(&farm.ask(&ci, "POST /v1/jobs\nidempotency-key: k2", lost).await, 404);
    }
    assert_eq!(farm.ask(&ci, "POST /v1/jobs\nidempotency-key: k2", publish).await.status, 202);
    for bad in ["", "a b", &"k".repeat(65), "k\nidempotency-key: k"] {
        let head = format!("POST /v1/jobs\nidempotency-key: {bad}");
        assert!(detail(&farm.ask(&ci, &head, publish).await, 400).contains("one key"), "{bad}");
    }
    for (path, body, status) in [
        (
            "/v1/schedules",
            r#"{"name":"n","site":"www","kind":"publish","trigger":"cron UTC 0 0 * * *"}"#,
            201,
        ),
        ("/v1/windows", r#"{"name":"n","site":"www","opens":"","lasts_s":1,"reason":"r"}"#, 201),
        (cancel.strip_prefix("POST ").unwrap(), "", 200),
    ] {
        let head = format!("POST {path}\nidempotency-key: {}", path.replace('/', "-"));
        let (first, again) = (farm.ask(&ci, &head, body).await, farm.ask(&ci, &head, body).await);
        assert_eq!(
            (first.status, again.status, &first.body),
            (status, status, &again.body),
            "{path}: {again:?}"
        );
    }
}

#[tokio::test]
async fn what_is_asked_for_in_the_wrong_way_is_refused_by_name() {
    let farm = farm().await;
    let long = "x".repeat(49);
    for (head, body, part) in [
        ("POST /v1/jobs", r#"{"kind":"publish","site":"www","now":true}"#.to_owned(), "unknown field `now`"),
        ("POST /v1/jobs", r#"{"kind":"publish"}"#.to_owned(), "site"),
        ("POST /v1/jobs", r#"{"kind":7,"site":"www"}"#.to_owned(), "kind"),
        ("POST /v1/jobs", r#"["publish"]"#.to_owned(), ""),
        ("POST /v1/jobs", format!(r#"{{"kind":"publish","site":"{long}"}}"#), "1 to 48"),
        ("POST /v1/jobs", r#"{"kind":"publish","site":"../www"}"#.to_owned(), "no name of a site"),
        (
            "POST /v1/schedules",
            format!(r#"{{"name":"{long}","site":"www","kind":"publish","trigger":"x"}}"#),
            "1 to 48",
        ),
        (
            "POST /v1/windows",
            r#"{"name":"n","site":"www","opens":"","reason":"r","lasts_s":"1"}"#.to_owned(),
            "lasts_s",
        ),
        ("GET /v1/jobs?limit=0", String::new(), "1 to 1000"),
        ("GET /v1/jobs?limit=1001", String::new(), "1 to 1000"),
        ("GET /v1/jobs?before=x", String::new(), "before"),
        ("GET /v1/jobs?after=1", String::new(), "unknown field `after`"),
        ("GET /v1/events?before=1&after=1", String::new(), "give one"),
        ("GET /v1/events?from=1", String::new(), "unknown field `from`"),
        ("GET /v1/nodes?limit=0", String::new(), "1 to 10000"),
        ("GET /v1/nodes?name=x", String::new(), "unknown field `name`"),
    ] {
        let told = detail(&http(farm.local, head, body.as_bytes()).await, 400);
        assert!(told.contains(part), "{head} {body}: {told}");
    }
}

#[tokio::test]
async fn long_lists_come_page_by_page_and_leave_nothing_out() {
    let farm = farm().await;
    for _ in 0..5 {
        let publish = br#"{"kind":"publish","site":"shop"}"#;
        assert_eq!(http(farm.local, "POST /v1/jobs", publish).await.status, 202);
    }
    let ids = async |query: &str| -> Vec<u64> {
        let page: Vec<Job> = http(farm.local, &format!("GET /v1/jobs{query}"), b"").await.json();
        page.iter().map(|job| job.id).collect()
    };
    assert_eq!(ids("?limit=3").await, [7, 6, 5]);
    assert_eq!(ids("?limit=3&before=5").await, [4, 3, 2]);
    assert_eq!(ids("?limit=3&before=2").await, [1]);
    assert_eq!(ids("?before=1").await, Vec::<u64>::new());
    assert_eq!(ids("").await.len(), 7);
    (2..=5).for_each(|number| {
        let enrolled = farm.controller.store_blocking(|store| {
            crate::ccm::testing::enrol(store, number);
            Ok(())
        });
        enrolled.unwrap();
    });
    let names = async |query: &str| -> Vec<String> {
        let page: Vec<Node> = http(farm.local, &format!("GET /v1/nodes{query}"), b"").await.json();
        page.into_iter().map(|node| node.name).collect()
    };
    assert_eq!(names("?limit=2").await, ["n1", "n2"]);
    assert_eq!(names("?limit=2&after=n2").await, ["n3", "n4"]);
    assert_eq!(names("?limit=2&after=n4").await, ["n5"]);
    assert_eq!(names("?after=n9").await, Vec::<String>::new());
    assert_eq!(names("").await.len(), 5);
}
