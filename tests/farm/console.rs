//! What comes to a text port that is no command; and commands of the operator that cannot be.

use crate::harness::{Farm, LATER, SOON, farmcast, noise, reply, run, words};
use crate::remote::ask_tcp;
use farmcast::wire::console::{EVENT, Line, Mark};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[test]
fn a_text_port_answers_rubbish_with_one_line_and_goes_on() {
    let mut farm = Farm::of(1);
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();
    let node = &farm.nodes[0];
    let refused = node.counter("console_refused");
    for (request, code, part) in [
        ("show mebmers", 405, "show members"),
        ("frobnicate", 405, "help"),
        ("show", 405, ""),
        ("show status now", 400, "show status"),
        ("show \u{1}status", 400, ""),
        ("notify document=xyz", 422, "hexadecimal"),
        ("notify document=", 400, ""),
        ("notify", 400, "document=HEX"),
        ("order document=00ff", 403, "refused"),
        ("@toolongatag ping", 400, ""),
    ] {
        let last = node.ask(request).pop().expect("a last line");
        assert_eq!(last.code, code, "{request:?}: {last:?}");
        assert!(words(&last).contains(part), "{request:?}: {part:?} is not in {:?}", words(&last));
    }
    let long = format!("show {}", "x".repeat(100_000));
    assert_eq!(node.ask(&long)[0].code, 413);
    assert!(node.counter("console_refused") >= refused + 10);

    // After a line that is too long the session goes on with the next one.
    let stream = UnixStream::connect(&node.socket).expect("the text port");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    reply(&mut reader);
    (&stream).write_all(format!("{}\r\nping\n", "y".repeat(5_000)).as_bytes()).expect("sent");
    assert_eq!(reply(&mut reader)[0].code, 413);
    assert_eq!(reply(&mut reader)[0].code, 200);

    // Bytes that are no text, half a line, and the end: on the Unix socket and over TCP.
    let (_, row) = farm.leader();
    let text = row.text.parse().expect("an address");
    for seed in 0..40 {
        let mut junk = noise(seed, 20 + 137 * seed as usize);
        if seed % 2 == 0 {
            junk.push(b'\n');
        }
        let mut stream = UnixStream::connect(&node.socket).expect("the text port");
        let _ = stream.write_all(&junk);
        let mut stream = TcpStream::connect_timeout(&text, SOON).expect("the text port");
        let _ = stream.write_all(&junk);
        if seed % 4 == 0 {
            let _ = stream.write_all(b"show sta");
        }
    }
    assert_eq!(ask_tcp(&farm, text, "ping").code, 200);
    assert_eq!(ask_tcp(&farm, text, "shutdown").code, 403, "only by the Unix socket");

    farm.nodes[0].assert_runs();
    assert_eq!(farm.lives(), before);
}

#[test]
fn commands_that_cannot_be_end_with_the_code_that_says_why() {
    let mut farm = Farm::with_controller();
    let staging = farm.path("staging");
    farm.cli(&["publish", "nosuch"]).assert_refused(5, &["nosuch", "farmcast site add"]);
    farm.cli(&["job", "show", "77"]).assert_refused(5, &["77"]);
    farm.cli(&["site", "add", "a b", "--staging", &staging]).assert_refused(2, &["no name of a site"]);
    farm.cli(&["site", "add", "www", "--staging", "/nonexistent/x"])
        .assert_refused(2, &["/nonexistent/x", "make the directory first"]);
    assert_eq!(farm.cli(&["site", "add", "www", "--staging", &staging]).code, Some(0));
    farm.cli(&["site", "add", "www", "--staging", &staging]).assert_refused(4, &["exists"]);
    let said = farm.cli(&["publish", "www"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("no node that serves www is online; start one"), "{said:?}");

    farm.ccm = None;
    std::thread::sleep(Duration::from_millis(50));
    for command in [&["status"][..], &["publish", "www"], &["--json", "node", "list"]] {
        farm.cli(command).assert_refused(69, &[&farm.path("s"), "farmcast ccm run"]);
    }
    let said = run(farmcast(&["--socket", "/nonexistent/s", "status"]), SOON);
    said.assert_refused(69, &["/nonexistent/s", "--socket PATH"]);
}

#[test]
fn a_priority_is_explained_by_terms_that_add_up_to_it() {
    let farm = Farm::of(1);
    let lines = farm.nodes[0].ask("show leader");
    let (last, rows) = lines.split_last().expect("a last line");
    let number = |line: &Line, name: &str| -> u64 {
        line.text(name).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name}: {line:?}"))
    };
    let names: Vec<_> = rows.iter().filter_map(|row| row.text("name")).collect();
    assert_eq!(names, ["processors", "memory", "disk", "idle", "nic", "leading", "reliability", "content"]);
    let points: u64 = rows.iter().map(|row| number(row, "points")).sum();
    assert_eq!(number(last, "own_priority"), points.clamp(1, 1_000), "{lines:?}");
    assert_eq!((last.text("can_lead"), number(last, "factor_pct")), (Some("true"), 100));
    assert!(number(&rows[0], "value") >= 1 && number(&rows[1], "value") > 0);
}

/// What the port tells who watches, in the order in which it happens.
#[test]
fn who_watches_a_node_hears_of_a_publish_and_of_the_leader_that_is_killed() {
    let mut farm = Farm::of(2);
    farm.stage("page.html", "a page");
    let (leader, _) = farm.leader();
    let follower = 1 - leader;
    let stream = UnixStream::connect(&farm.nodes[follower].socket).expect("the text port");
    stream.set_read_timeout(Some(LATER)).expect("a timeout");
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    assert_eq!(reply(&mut reader)[0].code, 100);
    writeln!(&stream, "watch assignment site leader").expect("the request is sent");
    assert_eq!(words(&reply(&mut reader)[0]), "ok topics=leader,assignment,site");
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).expect("an event in time");
        let line = Line::parse(line.trim_end().as_bytes()).expect("a line of the grammar");
        assert_eq!((line.code, line.mark), (EVENT, Mark::Event));
        words(&line)
    };

    let job = farm.publish_well();
    assert_eq!(next(), format!("assignment what=staged assignment={}", job.assignment));
    let live = next();
    assert!(live.starts_with("site what=live site=www order="), "{live}");
    farm.nodes[leader].kill();
    assert_eq!(next(), "leader what=gone");
    let leading = next();
    assert!(leading.starts_with("leader what=leading epoch="), "{leading}");
}
