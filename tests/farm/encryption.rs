//! Content that only nodes which are to have it can read (AS-15..AS-17, SX-1).

use crate::harness::{Farm, SITE, farmcast, noise};
use farmcast::ccm::api::types::{Job, Phase, Policy};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

const WORDS: &[u8] = b"nobody else is to read this";

fn objects(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "asg")).collect()
}

/// No object of the directory shows content or names.
fn assert_closed(dir: &Path) {
    let objects = objects(dir);
    assert!(!objects.is_empty(), "{}", dir.display());
    for object in objects {
        let bytes = std::fs::read(&object).expect("an object");
        for part in [WORDS, b"confidential"] {
            assert!(!bytes.windows(part.len()).any(|window| window == part), "{}", object.display());
        }
    }
}

fn inspect(path: &Path) -> String {
    let said = crate::harness::run(
        farmcast(&["assignment", "inspect", path.to_str().expect("plain")]),
        Duration::from_secs(20),
    );
    assert_eq!(said.code, Some(0), "{said:?}");
    said.stdout
}

#[test]
fn what_a_site_encrypts_goes_live_on_its_nodes_and_lies_nowhere_in_clear_on_the_way() {
    let mut farm = Farm::of(3);
    let set = ["--json", "site", "policy", SITE, "--encrypt"];
    assert_eq!(farm.cli(&set).json::<Policy>().encrypt, Some(true));
    farm.stage("confidential.html", WORDS);
    farm.stage("large.bin", noise(5, 3 << 20));
    farm.publish_well();
    farm.assert_live_is_staging();
    farm.wait_until_whole();
    // A difference, then one that goes live by itself; a node restarts between them, with no key kept.
    farm.stage("confidential.html", [WORDS, b", not even now"].concat());
    let mut large = noise(5, 3 << 20);
    large[1 << 20..(1 << 20) + 9].copy_from_slice(b"different");
    farm.stage("large.bin", large);
    farm.publish_well();
    farm.assert_live_is_staging();
    farm.nodes[1].kill();
    farm.nodes[1].start();
    farm.wait_until_whole();
    farm.cli(&["site", "policy", SITE, "--encrypt", "--activation", "autonomous"]);
    farm.stage("confidential-too.html", WORDS);
    farm.publish_well();
    farm.assert_live_is_staging();

    let at_controller = PathBuf::from(farm.path("ccm/objects"));
    assert_closed(&at_controller);
    farm.nodes.iter().for_each(|node| assert_closed(&node.state().join("spool")));

    let received = objects(&farm.nodes[0].state().join("spool")).remove(0);
    let shown = inspect(&received);
    assert!(shown.contains("encrypted: AES-256-GCM; only its controller"), "{shown}");
    assert!(!shown.contains("confidential"), "{shown}");
    let composed = objects(&at_controller).remove(0);
    let shown = inspect(&composed);
    assert!(shown.contains("decrypted with the controller's secret"), "{shown}");
    assert!(shown.contains("confidential"), "{shown}");
    let arguments = ["--json", "assignment", "verify", composed.to_str().expect("plain")];
    let proof: Value = crate::harness::run(farmcast(&arguments), Duration::from_secs(20)).json();
    assert_eq!((&proof["encrypted"], &proof["decrypted"]), (&true.into(), &true.into()));

    let back: Job = farm.cli(&["--json", "rollback", SITE]).json();
    assert_eq!((back.phase, back.nodes_live), (Phase::Done, 3), "{}", back.text);
}
