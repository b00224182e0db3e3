//! The API from afar: over TLS, with tokens that are good for this and not for that, and what is written down of it.

use crate::harness::{Farm, LATER, SOON, Said, farmcast, run, wait_for};
use farmcast::ccm::api::types::{AuditEntry, Event, Job, MadeToken, Phase, Remote, Site};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// A controller with its API on, and what a client elsewhere has to know.
struct Elsewhere {
    farm: Farm,
    url: String,
    fingerprint: String,
}

impl Elsewhere {
    fn of(nodes: usize) -> Self {
        let mut farm = Farm::with_controller();
        farm.ccm = None;
        farm.edit_ccm("#api = \"0.0.0.0:7443\"", "api = \"127.0.0.1:0\"");
        farm.start_ccm();
        (0..nodes).for_each(|_| farm.add_node());
        farm.add_site();
        farm.nodes.iter_mut().for_each(crate::harness::Node::start);
        if nodes > 0 {
            farm.wait_until_whole();
        }
        let remote: Remote = farm.cli(&["--json", "ccm", "remote"]).json();
        let said = farm.cli(&["ccm", "fingerprint"]);
        assert_eq!(said.stdout.trim_end(), remote.fingerprint, "{said:?}");
        Self { farm, url: format!("https://{}", remote.address), fingerprint: remote.fingerprint }
    }

    /// As which it listens now; another port after a start.
    fn find(&mut self) {
        let remote: Remote = self.farm.cli(&["--json", "ccm", "remote"]).json();
        assert_eq!(remote.fingerprint, self.fingerprint, "the certificate stays");
        self.url = format!("https://{}", remote.address);
    }

    fn address(&self) -> SocketAddr {
        self.url.trim_start_matches("https://").parse().expect("an address")
    }

    #[track_caller]
    fn token(&self, name: &str, role: &str, more: &[&str]) -> String {
        let said = self.farm.cli(&[&["--json", "token", "create", name, "--role", role], more].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        said.json::<MadeToken>().secret
    }

    /// A command with a token, over TLS.
    #[track_caller]
    fn cli(&self, token: &str, words: &[&str]) -> Said {
        self.cli_by(&["--fingerprint", &self.fingerprint], token, words)
    }

    #[track_caller]
    fn cli_by(&self, trust: &[&str], token: &str, words: &[&str]) -> Said {
        let mut command = farmcast(&[&["--ccm", &self.url], trust, words].concat());
        command.env("FARMCAST_TOKEN", token);
        run(command, LATER)
    }

    fn audit(&self) -> Vec<AuditEntry> {
        self.farm.cli(&["--json", "audit", "--limit", "1000"]).json()
    }
}

#[test]
fn every_verb_works_over_tls_as_over_the_socket() {
    let mut elsewhere = Elsewhere::of(1);
    let token = elsewhere.token("boss", "admin", &[]);
    elsewhere.farm.stage("index.html", "one");
    let said = elsewhere.cli(&token, &["--json", "publish", "www"]);
    assert_eq!((said.code, said.json::<Job>().phase), (Some(0), Phase::Done), "{said:?}");
    elsewhere.farm.assert_live_is_staging();
    for words in [
        &["status"][..],
        &["node", "list"],
        &["segment", "list"],
        &["site", "show", "www"],
        &["diff", "www"],
        &["plan", "www"],
        &["job", "list"],
        &["job", "report", "1"],
        &["version", "list", "www"],
        &["schedule", "list"],
        &["schedule", "check"],
        &["freeze", "show"],
        &["group", "list"],
        &["db", "status"],
        &["events"],
        &["audit"],
        &["token", "list"],
        &["ccm", "fingerprint"],
    ] {
        let (near, far) = (elsewhere.farm.cli(words), elsewhere.cli(&token, words));
        assert_eq!((near.code, far.code), (Some(0), Some(0)), "{words:?}: {far:?}");
        // What tells of the moment differs by that.
        let same = ["site", "diff", "plan", "job", "version", "group", "ccm"];
        if same.contains(&words[0]) {
            assert_eq!(near.stdout, far.stdout, "{words:?}");
        }
    }
    // A token in a file, the certificate itself as its own authority, and a name of the machine.
    let file = elsewhere.farm.path("token");
    fs::write(&file, format!("{token}\n")).expect("a file");
    let certificate = elsewhere.farm.path("ccm/api/certificate.pem");
    let by_name = format!("https://localhost:{}", elsewhere.address().port());
    for url in [&elsewhere.url, &by_name] {
        let words = ["--ccm", url, "--ca", &certificate, "--token-file", &file, "--json", "site", "list"];
        let said = run(farmcast(&words), SOON);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(said.json::<Vec<Site>>().len(), 1);
    }
    // The same certificate and the same tokens after a start.
    elsewhere.farm.ccm = None;
    elsewhere.farm.start_ccm();
    elsewhere.find();
    assert_eq!(elsewhere.cli(&token, &["status"]).code, Some(0));
}

#[test]
fn a_controller_that_is_another_than_was_meant_is_told_nothing() {
    let elsewhere = Elsewhere::of(0);
    let token = elsewhere.token("boss", "admin", &[]);
    let before = elsewhere.audit().len();
    let wrong = format!("sha256:{}", "ab".repeat(32));
    let said = elsewhere.cli_by(&["--fingerprint", &wrong], &token, &["status"]);
    said.assert_refused(4, &[&elsewhere.fingerprint, "not the one of --fingerprint"]);
    let other = Elsewhere::of(0);
    let ca = other.farm.path("ccm/api/certificate.pem");
    elsewhere.cli_by(&["--ca", &ca], &token, &["status"]).assert_refused(4, &["not to be trusted"]);
    let none = ["--ca", "/nonexistent.pem"];
    elsewhere.cli_by(&none, &token, &["status"]).assert_refused(2, &["/nonexistent.pem"]);
    elsewhere.cli_by(&[], &token, &["status"]).assert_refused(2, &["--fingerprint"]);
    elsewhere.cli(" ", &["status"]).assert_refused(2, &["FARMCAST_TOKEN", "--token-file"]);
    let plain = ["--ccm", &elsewhere.url.replace("https", "http"), "--fingerprint", &wrong, "status"];
    let mut command = farmcast(&plain);
    command.env("FARMCAST_TOKEN", &token);
    run(command, SOON).assert_refused(2, &["never without TLS"]);
    assert_eq!(elsewhere.audit().len(), before, "no request came through");
    // Nobody there.
    let mut gone = farmcast(&["--ccm", "https://127.0.0.1:1", "--fingerprint", &wrong, "status"]);
    gone.env("FARMCAST_TOKEN", &token);
    run(gone, SOON).assert_refused(69, &["127.0.0.1:1", "`api`"]);
}

#[test]
fn each_role_may_what_it_says_and_within_its_sites_only() {
    let elsewhere = Elsewhere::of(1);
    let shop = elsewhere.farm.path("shop");
    fs::create_dir(&shop).expect("another staging directory");
    assert_eq!(elsewhere.farm.cli(&["site", "add", "shop", "--staging", &shop]).code, Some(0));
    elsewhere.farm.stage("index.html", "one");
    let roles = ["viewer", "creator", "operator", "admin"];
    let tokens = roles.map(|role| elsewhere.token(role, role, &["--expires", "1h"]));
    for (words, from) in [
        (&["job", "list"][..], 0),
        (&["publish", "www", "--no-wait"], 2),
        (&["freeze", "on", "--reason", "r"], 2),
        (&["freeze", "off"], 2),
        (&["node", "invite"], 3),
        (&["site", "policy", "www", "--retries", "0"], 3),
        (&["token", "list"], 3),
        (&["audit"], 3),
    ] {
        for (at, token) in tokens.iter().enumerate().rev() {
            let said = elsewhere.cli(token, words);
            if at < from {
                said.assert_refused(4, &[&format!("token:{} is a {0}", roles[at]), roles[from]]);
            } else if words[0] != "freeze" || at == 3 {
                assert_eq!(said.code, Some(0), "{words:?} as {}: {said:?}", roles[at]);
            }
        }
    }

    let scoped = elsewhere.token("shops", "operator", &["--site", "shop"]);
    let jobs: Vec<Job> = elsewhere.cli(&scoped, &["--json", "job", "list"]).json();
    assert_eq!(jobs, [], "those of www are not its");
    let sites: Vec<Site> = elsewhere.cli(&scoped, &["--json", "site", "list"]).json();
    assert_eq!(sites.iter().map(|site| site.name.as_str()).collect::<Vec<_>>(), ["shop"]);
    for words in [&["publish", "www", "--no-wait"][..], &["diff", "www"], &["job", "show", "1"]] {
        elsewhere.cli(&scoped, words).assert_refused(4, &["token:shops is for shop only, not for www"]);
    }
    for words in [&["status"][..], &["node", "list"], &["freeze", "on", "--reason", "r"]] {
        elsewhere.cli(&scoped, words).assert_refused(4, &["the whole farm"]);
    }
    assert_eq!(elsewhere.cli(&scoped, &["publish", "shop", "--no-wait"]).code, Some(0));
    assert_eq!(elsewhere.cli(&scoped, &["freeze", "on", "--site", "shop", "--reason", "r"]).code, Some(0));
    let events: Vec<Event> = elsewhere.cli(&scoped, &["--json", "events", "--last", "1000"]).json();
    assert!(events.iter().any(|event| event.subject == "window freeze-shop"), "{events:?}");
    assert!(events.iter().all(|event| event.subject != "site www" && event.subject != "job 1"), "{events:?}");
}

#[test]
fn tokens_that_were_revoked_or_expired_let_nobody_in_and_that_is_written_down() {
    let elsewhere = Elsewhere::of(0);
    let (short, lost) =
        (elsewhere.token("short", "admin", &["--expires", "2s"]), elsewhere.token("lost", "admin", &[]));
    assert_eq!(elsewhere.cli(&lost, &["job", "list"]).code, Some(0));
    assert_eq!(elsewhere.farm.cli(&["token", "revoke", "lost"]).code, Some(0));
    elsewhere.cli(&lost, &["job", "list"]).assert_refused(4, &["token lost was revoked", "token create"]);
    wait_for("the end of the token", SOON, || {
        (elsewhere.cli(&short, &["job", "list"]).code == Some(4)).then_some(())
    });
    elsewhere.cli(&short, &["job", "list"]).assert_refused(4, &["token short expired at"]);
    let unknown = format!("fca1-{}", "00".repeat(32));
    elsewhere.cli(&unknown, &["job", "list"]).assert_refused(4, &["knows no such token"]);
    elsewhere.cli("word", &["job", "list"]).assert_refused(4, &["64 hexadecimal digits"]);

    let lines = elsewhere.audit();
    let uid = format!("uid:{}", nix::unistd::getuid());
    let made = lines.iter().find(|line| line.route == "/v1/tokens" && line.status == 201).expect("a line");
    assert_eq!((made.who.as_str(), made.origin.as_str(), made.refused), (uid.as_str(), "unix", false));
    for who in ["token:lost", "token:short", ""] {
        let line = lines.iter().find(|line| line.who == who).unwrap_or_else(|| panic!("{who}: {lines:#?}"));
        assert_eq!((line.origin.as_str(), line.status, line.refused), ("127.0.0.1", 401, true), "{line:?}");
    }
    let said = elsewhere.farm.cli(&["audit"]);
    assert!(said.stdout.contains("token:lost") && !said.stdout.contains("fca1"), "{said:?}");
    let remote: Remote = elsewhere.farm.cli(&["--json", "ccm", "remote"]).json();
    assert!(remote.refused >= 5, "{remote:?}");
    // Nothing of a secret lies in the database.
    let database = fs::read(elsewhere.farm.path("ccm/ccm.db")).expect("the database");
    for secret in [&short, &lost] {
        let digits = &secret.as_bytes()[5..];
        assert!(!database.windows(digits.len()).any(|window| window == digits));
    }
}

/// Who connects and says nothing, or speaks in plain text, holds up nobody and is counted.
#[test]
fn silent_and_garbled_connections_hold_up_nobody() {
    let elsewhere = Elsewhere::of(0);
    let token = elsewhere.token("boss", "admin", &[]);
    let connect = || TcpStream::connect_timeout(&elsewhere.address(), SOON).expect("it listens");
    let silent: Vec<TcpStream> = (0..40).map(|_| connect()).collect();
    for request in
        [&b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff, 0, 0], &[0; 64]]
    {
        let mut stream = connect();
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        stream.write_all(request).expect("sent");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(!said.starts_with(b"HTTP"), "{said:?}");
    }
    let said = elsewhere.cli(&token, &["--json", "ccm", "remote"]);
    let remote: Remote = said.json();
    assert!(remote.handshakes_failed >= 2 && remote.connections >= 40, "{remote:?}");
    // As many as one address may have: the next is closed at once.
    let more: Vec<TcpStream> = (0..40).map(|_| connect()).collect();
    wait_for("connections that are turned away", SOON, || {
        let remote: Remote = elsewhere.farm.cli(&["--json", "ccm", "remote"]).json();
        (remote.turned_away > 0).then_some(())
    });
    drop((silent, more));
    wait_for("the places", SOON, || (elsewhere.cli(&token, &["job", "list"]).code == Some(0)).then_some(()));
}

/// By a library alone, as another program would: TLS 1.3, a header, JSON; and the events as they come.
#[test]
fn another_program_speaks_the_api_over_tls_and_hears_what_happens() {
    let elsewhere = Elsewhere::of(0);
    let token = elsewhere.token("robot", "operator", &["--site", "www"]);
    let pem = fs::read(elsewhere.farm.path("ccm/api/certificate.pem")).expect("the certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let open = |request: &str| {
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = rustls::ClientConnection::new(Arc::clone(&config), name).expect("a client");
        let socket = TcpStream::connect_timeout(&elsewhere.address(), SOON).expect("it listens");
        socket.set_read_timeout(Some(SOON)).expect("a timeout");
        let mut stream = rustls::StreamOwned::new(connection, socket);
        write!(stream, "{request}\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n").expect("sent");
        stream
    };
    let mut events = open("GET /v1/events HTTP/1.1");
    write!(events, "accept: text/event-stream\r\n\r\n").expect("sent");
    let mut heard = String::new();
    let mut hear = |part: &str| {
        wait_for(part, SOON, || {
            let mut bytes = [0; 4096];
            let count = events.read(&mut bytes).expect("it goes on");
            assert!(count > 0, "it ended after {heard}");
            heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
            heard.contains(part).then_some(())
        });
    };
    hear("text/event-stream");
    let mut post = open("POST /v1/jobs HTTP/1.1");
    let body = r#"{"kind":"publish","site":"www"}"#;
    let length = body.len();
    write!(
        post,
        "connection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .expect("sent");
    let mut answer = String::new();
    let _ = post.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    hear("\"subject\":\"run 1\"");
}

/// A request whose answer nobody heard, for the controller was killed, is sent again and makes one job, whenever it
/// was killed.
#[test]
fn a_job_that_is_asked_for_again_after_a_kill_is_there_once() {
    let mut farm = Farm::with_controller();
    farm.add_site();
    let socket = farm.path("s");
    let ask = |key: &str, wait: bool| -> Option<String> {
        let mut stream = UnixStream::connect(&socket).expect("the controller listens");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        let body = r#"{"kind":"publish","site":"www"}"#;
        let head =
            format!("POST /v1/jobs HTTP/1.1\r\nhost: x\r\nconnection: close\r\nidempotency-key: {key}");
        let length = body.len();
        write!(stream, "{head}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
            .expect("sent");
        let mut answer = String::new();
        (wait && stream.read_to_string(&mut answer).is_ok()).then_some(answer)
    };
    const ROUNDS: u64 = 12;
    for round in 0..ROUNDS {
        let key = format!("key-{round}");
        // From at once to well behind its end.
        ask(&key, round + 1 == ROUNDS);
        std::thread::sleep(Duration::from_micros(round * round * 150));
        farm.ccm = None;
        farm.start_ccm();
        let answers = [ask(&key, true), ask(&key, true)].map(|answer| answer.expect("an answer"));
        assert!(answers[0].starts_with("HTTP/1.1 202"), "{answers:?}");
        let body = |answer: &str| answer.split_once("\r\n\r\n").expect("a body").1.to_owned();
        assert_eq!(body(&answers[0]), body(&answers[1]));
        let jobs: Vec<Job> = farm.cli(&["--json", "job", "list"]).json();
        let ids: Vec<u64> = jobs.iter().map(|job| job.id).rev().collect();
        assert_eq!(ids, (1..=round + 1).collect::<Vec<_>>(), "round {round}");
    }
}
