//! Disks of nodes that are full: where the spool is, where the site is, and where files may not grow.

use crate::harness::{Farm, Live, Node, can_unshare, noise};
use farmcast::ccm::api::types::{Job, Phase};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of the small disk, and of what lies on it in the way.
const DISK: usize = 24 << 20;
const BALLAST: usize = 16 << 20;
/// Bytes of a file that fits without the ballast only: in the spool, and staged.
const LARGE: usize = 10 << 20;

/// A path as the node sees it, who has mounts of its own.
fn inside(node: &Node, path: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{}", node.pid(), path.display()))
}

/// What to put in front of a command line, so that the program finds a small disk at `dir`.
fn on_a_small_disk(dir: &Path) -> [String; 5] {
    fs::create_dir_all(dir).expect("a directory");
    let dir = dir.to_str().expect("UTF-8");
    // What is there already, such as the node's identity, goes onto the disk too.
    let script = format!(
        "cp -a {dir}/. {dir}.keep && mount -t tmpfs -o size={DISK} none {dir} && cp -a {dir}.keep/. {dir} && \
         exec \"$0\" \"$@\""
    );
    ["unshare", "-Urm", "sh", "-c", &script].map(str::to_owned)
}

#[track_caller]
fn assert_failed_for_space(code: Option<i32>, job: &Job, name: &str) {
    assert_eq!((code, job.phase), (Some(1), Phase::Failed), "{job:#?}");
    assert!(job.text.contains("live was not touched anywhere"), "{}", job.text);
    let node = job.nodes.iter().find(|node| node.name == *name).expect("a node of the job");
    assert_eq!((node.state.as_str(), node.reason.as_str()), ("failed", "no-space"), "{job:#?}");
    assert!(job.text.contains(name) && node.text.contains("free"), "{}", job.text);
}

#[test]
fn a_full_disk_on_a_node_fails_the_job_and_leaves_live_alone_everywhere() {
    if !can_unshare("a full disk on a node") {
        return;
    }
    let mut farm = Farm::with_controller();
    (0..3).for_each(|_| farm.add_node());
    let (spool, root) = (farm.nodes[1].state(), farm.nodes[2].root());
    farm.nodes[1].wrapper = on_a_small_disk(&spool).map(OsString::from).to_vec();
    farm.nodes[2].wrapper = on_a_small_disk(&root).map(OsString::from).to_vec();
    farm.begin();
    let lives = |farm: &Farm| -> Vec<Live> {
        let live = |node: &Node| Live::of(&inside(node, &node.live()));
        farm.nodes.iter().map(live).collect()
    };
    farm.stage("index.html", "one");
    let (code, job) = farm.publish();
    assert_eq!((code, job.phase), (Some(0), Phase::Done), "{job:#?}\n{}", farm.logs());

    // The one cannot take it into its spool, then the other cannot stage it; the second attempt is no better.
    for (at, dir) in [(1, spool), (2, root)] {
        let before = lives(&farm);
        let ballast = inside(&farm.nodes[at], &dir.join("ballast"));
        fs::write(&ballast, noise(1, BALLAST)).expect("it fits");
        farm.stage("large.bin", noise(2, LARGE));
        for _ in 0..2 {
            let (code, job) = farm.publish();
            assert_failed_for_space(code, &job, &farm.nodes[at].name);
            assert_eq!(lives(&farm), before);
        }
        fs::remove_file(&ballast).expect("it was there");
        fs::remove_file(farm.staging().join("large.bin")).expect("it was there");
        farm.stage("index.html", format!("after {at}"));
        let (code, job) = farm.publish();
        assert_eq!((code, job.phase), (Some(0), Phase::Done), "{job:#?}\n{}", farm.logs());
    }
    farm.nodes.iter_mut().for_each(Node::assert_runs);

    // By now the first one's spool is full of assignments that failed elsewhere: the oldest make room.
    farm.stage("large.bin", noise(2, LARGE));
    let (code, job) = farm.publish();
    assert_eq!((code, job.phase), (Some(0), Phase::Done), "{job:#?}\n{}", farm.logs());
    let trees: Vec<_> = lives(&farm).into_iter().map(|live| live.tree).collect();
    assert!(trees.iter().all(|tree| *tree == crate::harness::tree(&farm.staging())));
}

/// The controller keeps everything twice: object and shadow.
#[test]
fn a_full_disk_at_the_controller_fails_the_job_and_sends_nothing() {
    if !can_unshare("a full disk at the controller") {
        return;
    }
    let mut farm = Farm::with_controller();
    farm.add_node();
    farm.ccm = None;
    let dir = farm.dir.path().join("ccm");
    let wrapper = on_a_small_disk(&dir);
    farm.start_ccm_with(&wrapper.each_ref().map(String::as_str));
    farm.begin();
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();
    for size in [BALLAST, 2 * DISK] {
        farm.stage("large.bin", noise(5, size));
        let (code, job) = farm.publish();
        assert_eq!((code, job.phase), (Some(1), Phase::Failed), "{job:#?}\n{}", farm.logs());
        assert!(job.text.contains("free"), "{}", job.text);
        assert_eq!(farm.lives(), before);
    }
    // Not a byte is free, not for the database either: it waits, says so, and goes on.
    let ballast =
        PathBuf::from(format!("/proc/{}/root{}", farm.ccm.as_ref().expect("it runs").id(), dir.display()));
    let ballast = ballast.join("ballast");
    let _ = fs::write(&ballast, noise(6, DISK));
    farm.stage("large.bin", "small");
    let said = farm.cli(&["--json", "publish", "www", "--no-wait"]);
    assert!(said.code == Some(0) || said.stderr.contains("full"), "{said:?}");
    fs::remove_file(&ballast).expect("it was there");
    // Where the job was taken all the same, it goes live now, and the next one may find nothing that it could bring.
    let (code, job) = farm.publish();
    assert_eq!(code, Some(0), "{job:#?}\n{}", farm.logs());
    assert!(matches!(job.phase, Phase::Done | Phase::Unchanged), "{job:#?}");
    farm.assert_live_is_staging();
}

/// What is uploaded lies beside staging until it is whole, and needs room there.
#[test]
fn an_upload_without_room_is_refused_leaves_staging_alone_and_goes_well_when_there_is_some() {
    if !can_unshare("a full disk under an upload") {
        return;
    }
    let mut farm = Farm::with_controller();
    farm.ccm = None;
    let disk = farm.dir.path().join("disk");
    fs::create_dir_all(disk.join("shop")).expect("a staging directory");
    fs::write(disk.join("shop/index.html"), "old").expect("a page in it");
    let wrapper = on_a_small_disk(&disk);
    farm.start_ccm_with(&wrapper.each_ref().map(String::as_str));
    let seen =
        PathBuf::from(format!("/proc/{}/root{}", farm.ccm.as_ref().expect("it runs").id(), disk.display()));
    let added = farm.cli(&["site", "add", "shop", "--staging", &farm.path("disk/shop")]);
    assert_eq!(added.code, Some(0), "{added:?}");
    let from = farm.dir.path().join("from");
    fs::create_dir(&from).expect("a directory");
    fs::write(from.join("large.bin"), noise(7, LARGE)).expect("a file in it");
    let upload = |farm: &Farm| farm.cli(&["upload", "shop", &farm.path("from")]);

    fs::write(seen.join("ballast"), noise(6, BALLAST)).expect("it fits");
    for _ in 0..2 {
        upload(&farm).assert_refused(4, &["bytes are needed", "are free"]);
        let kept = fs::read_to_string(seen.join("shop/index.html")).expect("the page");
        assert_eq!(kept, "old");
        assert!(!seen.join("shop/large.bin").exists());
    }
    // Not a byte more is taken by what was refused.
    fs::write(seen.join("more"), noise(8, DISK - BALLAST - (1 << 20))).expect("all that was free is free");
    fs::remove_file(seen.join("more")).expect("it was there");
    fs::remove_file(seen.join("ballast")).expect("it was there");
    let said = upload(&farm);
    assert_eq!(said.code, Some(0), "{said:?}\n{}", farm.ccm_log());
    assert_eq!(fs::read(seen.join("shop/large.bin")).expect("it landed"), noise(7, LARGE));
    assert!(!seen.join("shop/index.html").exists(), "it took the place of what was there");
}

/// `ulimit -f`, which needs no rights: the kernel would end a process that does not expect it.
#[test]
fn a_limit_on_the_size_of_files_is_no_space_and_not_the_end_of_the_node() {
    let mut farm = Farm::with_controller();
    (0..2).for_each(|_| farm.add_node());
    let script = "ulimit -f 8192; exec \"$0\" \"$@\"";
    farm.nodes[1].wrapper = ["sh", "-c", script].map(OsString::from).to_vec();
    farm.begin();
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();
    // The spool takes it, the site does not: noise is stored as it is, zeros are a hole in the spool.
    farm.stage("large.bin", noise(3, LARGE));
    let (code, job) = farm.publish();
    assert_failed_for_space(code, &job, "node-2");
    assert_eq!(farm.lives(), before);
    farm.stage("large.bin", vec![0x55; LARGE]);
    let (code, job) = farm.publish();
    assert_failed_for_space(code, &job, "node-2");
    assert_eq!(farm.lives(), before);
    farm.nodes[1].assert_runs();
    farm.stage("large.bin", "small");
    farm.publish_well();
}
