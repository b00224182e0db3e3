//! Staging that is missing, unreadable or written to while it is published; a site root that cannot be.

use crate::harness::{Farm, can_unshare, noise, set_mode};
use farmcast::ccm::api::types::Phase;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[test]
fn staging_that_cannot_be_read_fails_the_job_and_names_the_path() {
    let mut farm = Farm::of(1);
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();

    let (staging, away) = (farm.staging(), farm.dir.path().join("away"));
    fs::rename(&staging, &away).expect("a rename");
    let (code, job) = farm.publish();
    assert_eq!((code, job.phase), (Some(1), Phase::Failed), "{job:#?}");
    assert!(job.text.contains(&farm.path("staging")), "{}", job.text);
    fs::write(&staging, "no directory").expect("a file");
    let (code, job) = farm.publish();
    assert_eq!((code, job.phase), (Some(1), Phase::Failed), "{job:#?}");
    assert!(job.text.contains(&farm.path("staging")), "{}", job.text);
    fs::remove_file(&staging).expect("it was there");
    fs::rename(&away, &staging).expect("a rename");
    assert_eq!(farm.lives(), before);

    // Root reads everything, unless in a user namespace where it owns its files and no more.
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root || can_unshare("a staging file that may not be read") {
        if is_root {
            farm.ccm = None;
            farm.start_ccm_with(&["unshare", "-U"]);
            farm.wait_until_whole();
        }
        farm.stage("secret.html", "two");
        set_mode(&staging.join("secret.html"), 0);
        let (code, job) = farm.publish();
        assert_eq!((code, job.phase), (Some(1), Phase::Failed), "{job:#?}");
        for part in [&farm.path("staging/secret.html"), "denied"] {
            assert!(job.text.contains(part), "{part:?} is not in {:?}", job.text);
        }
        assert_eq!(farm.lives(), before);
        set_mode(&staging.join("secret.html"), 0o644);
        fs::create_dir(staging.join("closed")).expect("a directory");
        set_mode(&staging.join("closed"), 0);
        let (code, job) = farm.publish();
        assert_eq!((code, job.phase), (Some(1), Phase::Failed), "{job:#?}");
        assert!(job.text.contains(&farm.path("staging/closed")), "{}", job.text);
        assert_eq!(farm.lives(), before);
        set_mode(&staging.join("closed"), 0o755);
    }
    farm.stage("index.html", "three");
    farm.publish_well();
}

#[test]
fn a_file_that_grows_while_it_is_read_is_never_torn() {
    let farm = Farm::of(1);
    farm.stage("index.html", "one");
    farm.publish_well();
    let (log, stop) = (farm.staging().join("access.log"), AtomicBool::new(false));
    fs::write(&log, noise(1, 24 << 20)).expect("a large file");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = OpenOptions::new().append(true).open(&log).expect("it is there");
            for number in 0..u64::MAX {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                writeln!(file, "line {number}").expect("a line");
            }
        });
        let (code, job) = farm.publish();
        stop.store(true, Ordering::Relaxed);
        match job.phase {
            Phase::Failed => {
                assert_eq!(code, Some(1));
                assert!(job.text.contains(&farm.path("staging/access.log")), "{}", job.text);
                assert!(!farm.nodes[0].live().join("access.log").exists());
            }
            Phase::Done => {
                let live = fs::read(farm.nodes[0].live().join("access.log")).expect("it is live");
                let now = fs::read(&log).expect("it is there");
                assert!(now.starts_with(&live), "what is live was never in staging");
            }
            _ => panic!("{job:#?}"),
        }
    });
    farm.publish_well();
}

/// A node whose site cannot be made goes on with everything else, says why, and names the path.
#[test]
fn a_site_root_that_cannot_be_made_fails_its_jobs_and_not_the_node() {
    let mut farm = Farm::with_controller();
    (0..2).for_each(|_| farm.add_node());
    let blocked = farm.nodes[1].dir.join("file");
    fs::write(&blocked, "in the way").expect("a file");
    let config = &farm.nodes[1].config;
    let text = fs::read_to_string(config).expect("its configuration");
    fs::write(config, text.replace("/node-2/www\"", "/node-2/file/www\"")).expect("a configuration");
    farm.begin();
    farm.stage("index.html", "one");
    let before = farm.lives();
    let (code, job) = farm.publish();
    assert_eq!((code, job.phase), (Some(1), Phase::Failed), "{job:#?}\n{}", farm.logs());
    for part in ["node-2", "file/www", "making the site's directory", "restart the node"] {
        assert!(job.text.contains(part), "{part:?} is not in {:?}", job.text);
    }
    assert_eq!(farm.lives(), before, "live is untouched everywhere");
    farm.nodes[1].wait_for_log("file/www: making the site's directory");
    farm.nodes.iter_mut().for_each(crate::harness::Node::assert_runs);

    // Out of the way with it, and what the text says.
    fs::remove_file(&blocked).expect("it was there");
    farm.nodes[1].kill();
    farm.nodes[1].start();
    farm.nodes[1].ask("ping");
    farm.wait_until_whole();
    let (code, job) = farm.publish();
    assert_eq!((code, job.phase), (Some(0), Phase::Done), "{job:#?}\n{}", farm.logs());
    assert_eq!(fs::read_to_string(blocked.join("www/live/index.html")).expect("live"), "one");
}

#[test]
fn what_content_cannot_hold_is_left_out_with_a_warning() {
    let farm = Farm::of(1);
    farm.stage("index.html", "one");
    let fifo = farm.staging().join("pipe");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let socket = std::os::unix::net::UnixListener::bind(farm.staging().join("socket"));
    let said = farm.cli(&["publish", "www"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for name in ["pipe", "socket"] {
        let warns = |line: &str| line.starts_with("warning: ") && line.contains(name);
        assert!(said.stderr.lines().any(warns), "{said:?}");
        assert!(!farm.nodes[0].live().join(name).exists());
    }
    drop(socket);
}
