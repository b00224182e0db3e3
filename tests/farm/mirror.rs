//! Plain HTTP: any client fetches an object, and any server that has it is a source (GD-17).

use crate::harness::{Farm, LATER, noise, run};
use farmcast::ccm::api::types::Status;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a mirror does.
#[derive(Default)]
struct Mirror {
    served: AtomicU64,
    /// Its disk has rotted: a byte of what it sends is another.
    rotten: AtomicBool,
    down: AtomicBool,
}

/// A server as small as can be: whole files only, no ranges, one client after the other.
fn serve(objects: PathBuf) -> (SocketAddr, Arc<Mirror>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (addr, mirror) = (listener.local_addr().expect("its address"), Arc::new(Mirror::default()));
    let shared = Arc::clone(&mirror);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            if shared.down.load(Ordering::SeqCst) {
                continue;
            }
            let mut lines = BufReader::new(stream.try_clone().expect("a copy")).lines();
            let Some(Ok(line)) = lines.next() else { continue };
            while let Some(Ok(field)) = lines.next() {
                if field.is_empty() {
                    break;
                }
            }
            let name = line.split_whitespace().nth(1).and_then(|path| path.strip_prefix("/o/"));
            let mut file =
                fs::read(objects.join(format!("{}.asg", name.unwrap_or("none")))).unwrap_or_default();
            if shared.rotten.load(Ordering::SeqCst)
                && let Some(byte) = file.get_mut(300_000)
            {
                *byte ^= 1;
            }
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", file.len());
            // A client that has what it wanted leaves.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&file));
            shared.served.fetch_add(file.len() as u64, Ordering::SeqCst);
        }
    });
    (addr, mirror)
}

#[test]
fn a_plain_server_is_a_source_and_one_that_rots_or_falls_is_replaced_by_the_controller() {
    let mut farm = Farm::with_controller();
    let (addr, mirror) = serve(PathBuf::from(farm.path("ccm/objects")));
    farm.ccm = None;
    farm.edit_ccm("#mirrors = []", &format!("mirrors = [\"{addr}\"]"));
    farm.start_ccm();
    (0..2).for_each(|_| farm.add_node());
    farm.begin();
    let served = || farm.cli(&["--json", "status"]).json::<Status>().served_bytes;

    farm.stage("noise", noise(1, 2 << 20));
    farm.publish_well();
    assert_eq!(served(), 0, "all came from the mirror");
    assert!(mirror.served.load(Ordering::SeqCst) > 2 << 20);

    mirror.rotten.store(true, Ordering::SeqCst);
    farm.stage("noise", noise(2, 2 << 20));
    let job = farm.publish_well();
    let from_us = served();
    assert!(from_us > 0 && from_us < job.assignment_bytes, "{from_us}: only what was not right");
    let (leader, _) = farm.leader();
    farm.nodes[leader].wait_for_log("is not what the publisher signed");

    mirror.down.store(true, Ordering::SeqCst);
    farm.stage("noise", noise(3, 2 << 20));
    let job = farm.publish_well();
    assert_eq!(served() - from_us, job.assignment_bytes);
    farm.assert_live_is_staging();
}

#[test]
fn any_client_fetches_any_part_of_an_object_from_the_controller_and_from_a_leader() {
    if Command::new("curl").arg("--version").output().is_err() {
        let _ = writeln!(std::io::stderr(), "SKIPPED, not shown here: an object by curl: no `curl` here");
        return;
    }
    let farm = Farm::of(2);
    farm.stage("noise", noise(1, 1 << 20));
    let job = farm.publish_well();
    let objects = fs::read_dir(farm.path("ccm/objects")).expect("objects");
    let found = objects
        .map(|entry| entry.expect("an entry").path())
        .find(|path| fs::metadata(path).is_ok_and(|meta| meta.len() == job.assignment_bytes));
    let path = found.expect("the assignment");
    let (name, object) = (path.file_stem().expect("a name"), fs::read(&path).expect("a file"));
    let log = farm.nodes[farm.leader().0].log();
    let leader = log.split("objects http://").nth(1).and_then(|rest| rest.split(',').next());
    let leader = leader.expect("a node says where its objects are").to_owned();
    for source in [format!("127.0.0.1:{}", farm.ccm_port), leader] {
        let url = format!("http://{source}/o/{}", name.to_str().expect("digits"));
        for (range, part) in [
            ("0-", &object[..]),
            ("100-299", &object[100..300]),
            ("-77", &object[object.len() - 77..]),
            ("262144-", &object[262_144..]),
        ] {
            let target = farm.path("part");
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--fail", "--range", range, "--output", &target, &url]);
            let said = run(curl, LATER);
            assert_eq!(said.code, Some(0), "{url} {range}: {said:?}");
            assert!(fs::read(&target).expect("what came") == part, "{url} {range}");
        }
    }
}
