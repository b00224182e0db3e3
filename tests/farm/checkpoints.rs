//! Whole copies of a site at the controller, and a damaged farm brought back to one (VC-7..VC-9, JT-3, JT-11).

use crate::harness::{Farm, LATER, SITE, noise, tree, wait_for};
use farmcast::ccm::api::types::{Checkpoint, CheckpointReport, Job, Phase, SiteVersion};
use std::fs;
use std::path::PathBuf;

#[track_caller]
fn job(farm: &Farm, arguments: &[&str]) -> Job {
    farm.cli(&[&["--json"], arguments].concat()).json()
}

#[track_caller]
fn checkpoint(farm: &Farm, options: &[&str]) -> Job {
    let job = job(farm, &[&["version", "checkpoint", SITE], options].concat());
    assert_eq!(
        (job.kind.as_str(), job.phase, job.nodes_total),
        ("checkpoint", Phase::Done, 0),
        "{}",
        job.text
    );
    job
}

fn chunks(farm: &Farm) -> Vec<PathBuf> {
    let folders = fs::read_dir(farm.path("ccm/checkpoints/chunks")).expect("chunks");
    let folders = folders.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
    folders
        .flat_map(|path| fs::read_dir(path).expect("a folder"))
        .map(|entry| entry.expect("one").path())
        .collect()
}

#[test]
fn a_damaged_site_is_brought_back_to_its_checkpoint_and_a_damaged_checkpoint_never_goes_live() {
    let mut farm = Farm::of(3);
    farm.stage("index.html", "good");
    farm.stage("large.bin", noise(1, 3 << 20));
    fs::create_dir(farm.staging().join("docs")).expect("a directory");
    farm.stage("docs/a.html", "a page");
    let first = farm.publish_well();
    let good = tree(&farm.nodes[0].live());
    checkpoint(&farm, &["--name", "verified"]);
    farm.cli(&["version", "checkpoint", SITE, "--name", "verified"])
        .assert_refused(4, &["www has checkpoint 1 (verified) already"]);
    farm.cli(&["version", "checkpoint", SITE, "--name", "7"]).assert_refused(2, &["it has a number"]);

    // A bad release goes out, and a node loses what it had.
    farm.stage("index.html", "bad");
    fs::remove_file(farm.staging().join("docs/a.html")).expect("it was staged");
    let second = farm.publish_well();
    farm.nodes[1].kill();
    let gone = || farm.rows().iter().any(|row| row.name == "node-2" && row.state == "offline");
    wait_for("a node that is offline", LATER, || gone().then_some(()));
    fs::remove_dir_all(farm.nodes[1].root()).expect("the node's site");
    fs::create_dir(farm.nodes[1].root()).expect("an empty root");
    farm.nodes[1].start();
    farm.wait_until_whole();
    let restored = job(&farm, &["version", "restore", SITE, "verified"]);
    assert_eq!(
        (restored.kind.as_str(), restored.phase, restored.nodes_live),
        ("restore", Phase::Done, 3),
        "{}\n{}",
        restored.text,
        farm.logs()
    );
    assert!(restored.assignment > second.assignment);
    assert!(restored.assignment_bytes < 100_000, "nodes get the difference: {}", restored.assignment_bytes);
    for node in &farm.nodes {
        assert_eq!(tree(&node.live()), good, "{}", node.name);
    }
    assert_eq!(fs::read_to_string(farm.staging().join("index.html")).expect("staging"), "bad");
    let versions: Vec<SiteVersion> = farm.cli(&["--json", "version", "list", SITE]).json();
    let of = |number: u64| versions.iter().find(|version| version.version == number).expect("a version");
    assert_eq!((of(first.assignment).checkpoints.as_slice(), of(restored.assignment).live), (&[1][..], true));
    let list = farm.cli(&["version", "list", SITE]);
    assert!(list.stdout.contains("verified"), "{list:?}");

    // What is damaged is named, and does not go live.
    let whole: CheckpointReport = farm.cli(&["--json", "version", "verify", SITE, "1"]).json();
    assert_eq!((whole.files, whole.chunks, whole.flaws.len()), (3, 5, 0));
    let size = |path: &PathBuf| fs::metadata(path).expect("a chunk").len();
    let largest = chunks(&farm).into_iter().max_by_key(size).expect("chunks");
    let mut bytes = fs::read(&largest).expect("a chunk");
    bytes[1_000] ^= 1;
    fs::write(&largest, bytes).expect("a chunk");
    let said = farm.cli(&["version", "verify", SITE, "verified"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stdout.starts_with("large.bin: chunk ") && said.stdout.contains(": not what it was"),
        "{said:?}"
    );
    farm.wait_until_whole();
    let refused = job(&farm, &["version", "restore", SITE, "1"]);
    assert_eq!((refused.phase, refused.assignment), (Phase::Failed, 0));
    assert!(refused.text.contains("large.bin: chunk"), "{}", refused.text);
    for node in &farm.nodes {
        assert_eq!(tree(&node.live()), good, "{}", node.name);
    }

    // The next publish brings what stands in staging.
    farm.publish_well();
    farm.cli(&["version", "restore", SITE, "none"]).assert_refused(5, &["www has no checkpoint none"]);
}

/// A controller that is killed while it makes checkpoints has the old ones or one more, whole; nothing else stays.
#[test]
fn a_controller_killed_while_it_makes_checkpoints_keeps_whole_ones_and_nothing_else() {
    let mut farm = Farm::of(1);
    for number in 0..40 {
        farm.stage(&format!("file-{number}.bin"), noise(number, 1 << 20));
    }
    farm.publish_well();
    let mut known = 0;
    for round in 0..6u64 {
        let started = farm.cli(&["--json", "version", "checkpoint", SITE, "--no-wait"]);
        let id = started.json::<Job>().id;
        std::thread::sleep(std::time::Duration::from_millis(60 * round));
        farm.ccm = None;
        farm.start_ccm();
        let made =
            wait_for("the end of the job", LATER, || Some(farm.job(id)).filter(|job| job.phase.is_over()));
        assert_eq!(made.phase, Phase::Done, "{}", made.text);
        let list: Vec<Checkpoint> =
            serde_json::from_str(&http_checkpoints(&farm)).expect("checkpoints of the API");
        assert!(list.len() > known || list.len() == 5, "{list:?}");
        known = list.len();
        for checkpoint in &list {
            let said = farm.cli(&["version", "verify", SITE, &checkpoint.number.to_string()]);
            assert_eq!(said.code, Some(0), "{said:?}");
        }
    }
    wait_for("a clean vault", LATER, || {
        (!PathBuf::from(farm.path("ccm/checkpoints/unswept")).exists()).then_some(())
    });
    let kept = fs::read_dir(farm.path("ccm/checkpoints/manifests")).expect("manifests").count();
    assert_eq!((kept, chunks(&farm).len()), (5, 40), "five are kept, of the same content");
}

fn http_checkpoints(farm: &Farm) -> String {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(farm.path("s")).expect("the controller");
    write!(stream, "GET /v1/sites/{SITE}/checkpoints HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
}
