//! The appliance daemon stays small: built with the `node` feature alone, its tree holds no runtime, database
//! or HTTP framework (design section 2). Cargo resolves the tree; nothing is built here.

use std::process::Command;

/// What a server that only receives content has no use for.
const UNWANTED: &[&str] = &[
    "tokio",
    "rusqlite",
    "libsqlite3-sys",
    "axum",
    "hyper",
    "hyper-util",
    "clap",
    "serde_json",
    "jiff",
    "indicatif",
];

/// Names of the packages that `farmcast` links with the given features, each once.
fn tree(features: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "farmcast", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--locked", "--offline"])
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs, for it runs this test");
    assert!(output.status.success(), "cargo tree failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("package names are ASCII");
    let mut names: Vec<String> =
        text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_appliance_links_no_runtime_database_or_http_framework() {
    let names = tree(&["--no-default-features", "--features", "node"]);
    assert!(names.iter().any(|name| name == "mio"), "the daemon's own loop is missing in {names:?}");
    let found: Vec<&str> = UNWANTED.iter().copied().filter(|name| names.iter().any(|n| n == name)).collect();
    assert!(
        found.is_empty(),
        "the appliance's tree holds {found:?}; `cargo tree -i NAME` tells who asks for it"
    );
}

#[test]
fn the_controller_does_link_them_so_the_question_is_asked_rightly() {
    let names = tree(&["--no-default-features", "--features", "ccm"]);
    let missing: Vec<&str> =
        UNWANTED.iter().copied().filter(|name| !names.iter().any(|n| n == name)).collect();
    assert!(missing.is_empty(), "renamed or gone, so the test above no longer looks for them: {missing:?}");
}
