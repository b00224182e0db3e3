//! Who is told of what happens: webhooks and programs, dead and hung ones too (UI).

use crate::harness::{Farm, LATER, SITE, SOON, wait_for};
use farmcast::ccm::api::types::{JobLog, Phase, Receiver};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a webhook got: head and body.
type Heard = Arc<Mutex<Vec<String>>>;

/// A webhook that fails so often, then takes everything. Ends with the test's process.
fn webhook(failures: usize) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("its address"));
    let heard = Heard::default();
    let told = Arc::clone(&heard);
    thread::spawn(move || {
        for (at, stream) in listener.incoming().flatten().enumerate() {
            let status = if at < failures { "503 Not Now" } else { "200 OK" };
            told.lock().expect("nobody panics with it").push(answer(stream, status));
        }
    });
    (url, heard)
}

fn answer(mut stream: TcpStream, status: &str) -> String {
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    while !bytes.ends_with(b"}\n") {
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => bytes.extend_from_slice(&chunk[..count]),
            _ => break,
        }
    }
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn receivers(farm: &Farm) -> Vec<Receiver> {
    farm.cli(&["--json", "notify", "list"]).json()
}

/// Adds tables to `ccm.toml`; they hold from the next start on.
fn notify(farm: &mut Farm, tables: &str) {
    let path = farm.path("ccm/ccm.toml");
    let text = fs::read_to_string(&path).expect("ccm.toml");
    fs::write(&path, format!("{text}\n{tables}")).expect("ccm.toml");
    farm.ccm = None;
    farm.start_ccm();
    wait_for("their places in the history", SOON, || {
        // They are told of what happens from their first look on.
        let known = receivers(farm);
        let log = farm.cli(&["--json", "events"]);
        (log.code == Some(0) && !known.is_empty()).then_some(())
    });
    thread::sleep(std::time::Duration::from_millis(1_500));
}

#[test]
fn a_webhook_that_fails_twice_is_told_in_the_end_and_what_happens_meanwhile_outlives_a_restart() {
    let mut farm = Farm::of(1);
    let (url, heard) = webhook(2);
    notify(
        &mut farm,
        &format!("[[notify]]\nname = \"ops\"\nurl = \"{url}\"\nevents = [\"job-done\", \"job-failed\"]\n"),
    );
    farm.wait_until_whole();
    farm.stage("index.html", "one");
    let first = farm.publish_well();
    wait_for("a try in vain", SOON, || (!heard.lock().expect("a list").is_empty()).then_some(()));
    farm.ccm.as_mut().expect("it runs").kill();
    farm.start_ccm();
    farm.wait_until_whole();
    farm.stage("index.html", "two");
    let second = farm.publish_well();
    let told = wait_for("both jobs to be told of", LATER, || {
        let heard = heard.lock().expect("a list").clone();
        let of = |job: u64| heard.iter().filter(|text| text.contains(&format!("\"job\":{job},"))).count();
        (of(first.id) >= 3 && of(second.id) >= 1).then_some(heard)
    });
    assert!(
        told.iter().all(|text| text.contains("\"kind\":\"job-done\"") && text.contains("webhook-id: event-"))
    );
    let ids = |job: u64| {
        let of = told.iter().filter(|text| text.contains(&format!("\"job\":{job},")));
        let mut ids: Vec<_> =
            of.filter_map(|text| text.lines().find(|line| line.starts_with("webhook-id"))).collect();
        ids.dedup();
        ids.len()
    };
    assert_eq!((ids(first.id), ids(second.id)), (1, 1));
    let log: JobLog = farm.cli(&["--json", "job", "log", &second.id.to_string()]).json();
    let text = log.lines.join("\n");
    for part in ["publish of www", "attempt 1 (run", "done: ", "node node-1 of boston: live", "history:"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    wait_for("its file", SOON, || fs::metadata(farm.path(&format!("ccm/runs/{}.log", second.id))).ok());
    farm.cli(&["job", "log", "99"]).assert_refused(5, &["there is no job 99"]);
}

#[test]
fn receivers_that_hang_or_are_dead_delay_no_job_and_are_named() {
    let mut farm = Farm::of(1);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("its address");
    let out = farm.path("mail");
    let tables = format!(
        "[[notify]]\nname = \"silent\"\nurl = \"http://{address}/\"\ntimeout_s = 1\n\
         [[notify]]\nname = \"dead\"\nurl = \"http://127.0.0.1:1/\"\n\
         [[notify]]\nname = \"hung\"\ncommand = [\"/bin/sleep\", \"1000\"]\ntimeout_s = 1\n\
         [[notify]]\nname = \"mail\"\ncommand = [\"/bin/sh\", \"-c\", \"cat >> {out}\"]\nevents = [\"job-done\"]\n"
    );
    notify(&mut farm, &tables);
    farm.wait_until_whole();
    farm.stage("index.html", "one");
    let job = farm.publish_well();
    let mail =
        wait_for("the mail", SOON, || fs::read_to_string(&out).ok().filter(|mail| mail.ends_with("}\n")));
    assert!(
        mail.contains("\"kind\":\"job-done\"") && mail.contains(&format!("\"site\":\"{SITE}\"")),
        "{mail}"
    );
    assert_eq!((mail.lines().count(), job.phase), (1, Phase::Done));
    let failing = wait_for("three failures", SOON, || {
        let failing: Vec<String> =
            receivers(&farm).into_iter().filter(|of| of.tries > 0).map(|of| of.failure).collect();
        (failing.len() == 3).then_some(failing)
    });
    for part in ["no answer within 1 s", "connecting: ", "/bin/sleep did not end within 1 s and was killed"] {
        assert!(failing.iter().any(|failure| failure.contains(part)), "{failing:?}");
    }
    assert_eq!(farm.cli(&["notify", "test", "mail"]).code, Some(0));
    let said = farm.cli(&["notify", "test", "dead"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    farm.cli(&["notify", "test", "nobody"]).assert_refused(5, &["names no receiver \"nobody\""]);
}
