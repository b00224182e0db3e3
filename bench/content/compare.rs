//! Two equal trees: how long it takes to see that nothing changed.

use crate::peers;
use crate::table::Rounds;
use crate::trees::{grow, scratch};
use serde_json::json;
use std::path::Path;

pub fn run(rounds: &Rounds, place: &Path, files: u32) {
    let scratch = scratch(place);
    let scratch = scratch.path();
    let (old, new) = (scratch.join("shadow"), scratch.join("staging"));
    grow(&new, files);
    // With its times, as a publish leaves a shadow.
    let copy = [new.to_str().expect("the place is text"), old.to_str().expect("the place is text")];
    let mut copied = std::process::Command::new("cp");
    assert!(copied.arg("-a").args(copy).status().expect("cp is everywhere").success());
    let (from, to) = (format!("{}/", copy[0]), format!("{}/", copy[1]));
    // Fills the cache of content hashes, as the first publish does.
    let first = peers::compose(scratch).expect("our own is there");
    assert_eq!(first.bytes, 0, "the trees are equal");
    rounds.measure(
        "compare",
        &json!({ "files": files }),
        0,
        &mut [
            ("farmcast", &mut || peers::compose(scratch)),
            ("rsync -an", &mut || peers::run("rsync", &["-an", &from, &to], None)),
        ],
    );
}
