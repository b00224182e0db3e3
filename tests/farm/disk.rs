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

/// Gives a node a small disk at `dir`.
fn on_a_small_disk(node: &mut Node, dir: &Path) {
    fs::create_dir_all(dir).expect("a directory");
    let dir = dir.to_str().expect("UTF-8");
    // What is there already, the node's identity, goes onto the disk too.
    let script = format!(
        "cp -a {dir}/. {dir}.keep && mount -t tmpfs -o size={DISK} none {dir} && cp -a {dir}.keep/. {dir} && \
         exec \"$@\""
    );
    node.wrapper = ["unshare", "-Urm", "sh", "-c", &script, "sh"].map(OsString::from).to_vec();
}

#[track_caller]
fn assert_failed_for_space(code: Option<i32>, job: &Job, names: &[&str]) {
    assert_eq!((code, job.phase), (Some(1), Phase::Failed), "{job:#?}");
    assert!(job.text.contains("live was not touched anywhere"), "{}", job.text);
    for name in names {
        let node = job.nodes.iter().find(|node| node.name == *name).expect("a node of the job");
        assert_eq!((node.state.as_str(), node.reason.as_str()), ("failed", "no-space"), "{job:#?}");
        assert!(job.text.contains(name) && node.text.contains("free"), "{}", job.text);
    }
}

#[test]
fn a_full_disk_on_a_node_fails_the_job_and_leaves_live_alone_everywhere() {
    if !can_unshare("a full disk on a node") {
        return;
    }
    let mut farm = Farm::with_controller();
    (0..3).for_each(|_| farm.add_node());
    let (spool, root) = (farm.nodes[1].state(), farm.nodes[2].root());
    on_a_small_disk(&mut farm.nodes[1], &spool);
    on_a_small_disk(&mut farm.nodes[2], &root);
    farm.begin();
    let lives = |farm: &Farm| -> Vec<Live> {
        let live = |node: &Node| Live::of(&inside(node, &node.live()));
        farm.nodes.iter().map(live).collect()
    };
    farm.stage("index.html", "one");
    let (code, job) = farm.publish();
    assert_eq!((code, job.phase), (Some(0), Phase::Done), "{job:#?}\n{}", farm.logs());

    let before = lives(&farm);
    let ballasts = [(1, spool), (2, root)].map(|(at, dir)| inside(&farm.nodes[at], &dir.join("ballast")));
    for ballast in &ballasts {
        fs::write(ballast, noise(1, BALLAST)).expect("it fits");
    }
    farm.stage("large.bin", noise(2, LARGE));
    for _ in 0..2 {
        let (code, job) = farm.publish();
        assert_failed_for_space(code, &job, &["node-2", "node-3"]);
        assert_eq!(lives(&farm), before);
    }
    farm.nodes.iter_mut().for_each(Node::assert_runs);

    for ballast in &ballasts {
        fs::remove_file(ballast).expect("it was there");
    }
    let (code, job) = farm.publish();
    assert_eq!((code, job.phase), (Some(0), Phase::Done), "{job:#?}\n{}", farm.logs());
    let trees: Vec<_> = lives(&farm).into_iter().map(|live| live.tree).collect();
    assert!(trees.iter().all(|tree| *tree == crate::harness::tree(&farm.staging())));
}

/// `ulimit -f`, which needs no rights: the kernel would end a process that does not expect it.
#[test]
fn a_limit_on_the_size_of_files_is_no_space_and_not_the_end_of_the_node() {
    let mut farm = Farm::with_controller();
    (0..2).for_each(|_| farm.add_node());
    let script = "ulimit -f 8192; exec \"$@\"";
    farm.nodes[1].wrapper = ["sh", "-c", script, "sh"].map(OsString::from).to_vec();
    farm.begin();
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();
    // The spool takes it, the site does not: noise is stored as it is, zeros are a hole in the spool.
    farm.stage("large.bin", noise(3, LARGE));
    let (code, job) = farm.publish();
    assert_failed_for_space(code, &job, &["node-2"]);
    assert_eq!(farm.lives(), before);
    farm.stage("large.bin", vec![0x55; LARGE]);
    let (code, job) = farm.publish();
    assert_failed_for_space(code, &job, &["node-2"]);
    assert_eq!(farm.lives(), before);
    farm.nodes[1].assert_runs();
    farm.stage("large.bin", "small");
    farm.publish_well();
}
