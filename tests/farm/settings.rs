//! Configurations that are wrong, missing, or as shipped.

use crate::harness::{FARMCAST, SOON, Said, farmcast, run};
use std::fs;
use std::path::Path;
use std::process::Command;

const FARMCASTD: &str = env!("CARGO_BIN_EXE_farmcastd");

fn farmcastd(arguments: &[&str]) -> Said {
    let mut command = Command::new(FARMCASTD);
    command.args(arguments);
    run(command, SOON)
}

/// The shipped configuration of a node, as a file that this machine can use.
fn shipped_node(dir: &Path, from: &str, to: &str) -> String {
    let text = include_str!("../../sysconfig/farmcastd.toml")
        .replace("#interface = \"eth0\"", "interface = \"127.0.0.1\"")
        .replace(
            "#[[site]]\n#name = \"www\"\n#root = \"/srv/www\"",
            "[[site]]\nname = \"www\"\nroot = \"/srv/www\"",
        );
    assert!(text.contains(from), "{from:?} is not in the shipped configuration");
    let path = dir.join("farmcastd.toml");
    fs::write(&path, text.replace(from, to)).expect("a configuration");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn the_shipped_configurations_pass_the_check() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = shipped_node(dir.path(), "", "");
    let checks = [
        farmcastd(&["--check-config", "--config", &node]),
        run(farmcast(&["node", "--check-config", "--config", &node]), SOON),
        run(farmcast(&["ccm", "run", "--check-config", "--config", "sysconfig/ccm.toml"]), SOON),
    ];
    for said in checks {
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
        assert!(said.stdout.ends_with(": ok\n"), "{said:?}");
    }
}

#[test]
fn a_mistake_in_a_configuration_is_named_with_file_and_line_and_exit_78() {
    let dir = tempfile::tempdir().expect("a directory");
    let cases = [
        ("segment = \"default\"", "segmnet = \"x\"", "segmnet"),
        ("#alive_ms = 50", "alive_ms = 200", "trigger must outlast"),
        ("#concession_ms = 500", "concession_ms = 250", "concession_ms is 250, vote_ms is 250"),
        ("#leaders = [\"web01\", \"web02\"]", "leaders = []", "nobody could lead"),
        ("#datagram_port = 7411", "datagram_port = \"many\"", "expected u16"),
        ("#http_port = 7412", "http_port = 70000", "expected u16"),
        ("#control_channel = \"239.255.70.1:7401\"", "control_channel = \"10.0.0.1:7401\"", "no multicast"),
        ("ccm = \"127.0.0.1:7400\"", "ccm = 7400", "expected a string"),
        ("root = \"/srv/www\"", "root = \"srv/www\"", "absolute"),
        ("interface = \"127.0.0.1\"", "interface = \"nosuch0\"", "nosuch0"),
        ("level = \"info\"", "level = \"info", ""),
    ];
    for (from, to, part) in cases {
        // What is only a comment in the shipped file is set.
        let to = if from.starts_with('#') { to.to_owned() } else { format!("\n{to}") };
        let from = from.trim_start_matches('#');
        let commented = format!("#{from}");
        let text = include_str!("../../sysconfig/farmcastd.toml");
        let config =
            match text.contains(&commented) && !["interface", "root"].iter().any(|k| from.starts_with(k)) {
                true => shipped_node(dir.path(), &commented, &to),
                false => shipped_node(dir.path(), from, &to),
            };
        let line = fs::read_to_string(&config).expect("it was written");
        let at = line.lines().position(|line| line.trim() == to.trim()).expect("it is in there") + 1;
        let place = format!("{config}:{at}: ");
        for said in [
            farmcastd(&["--check-config", "--config", &config]),
            farmcastd(&["--config", &config]),
            run(farmcast(&["node", "--config", &config]), SOON),
        ] {
            said.assert_refused(78, &[&place, part]);
        }
    }
}

#[test]
fn a_mistake_in_the_controllers_configuration_ends_it_with_78() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ccm.toml");
    let config = path.to_str().expect("UTF-8");
    for (text, line, part) in [
        ("dir = \"/d\"\nlistne = 1\n", 2, "listne"),
        ("dir = \"/d\"\n\nfirst_level = \"two\"\n", 3, "expected u16"),
        ("dir = \"d\"\n", 1, "absolute"),
        ("dir = \"/d\"\ncommit_lead_ms = 999999\n", 2, "commit_lead_ms"),
    ] {
        fs::write(&path, text).expect("a configuration");
        let place = format!("{config}:{line}: ");
        for check in
            [&["ccm", "run", "--config", config][..], &["ccm", "run", "--check-config", "--config", config]]
        {
            run(farmcast(check), SOON).assert_refused(78, &[&place, part]);
        }
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named_with_what_to_do() {
    for said in [
        farmcastd(&["--config", "/nonexistent/farmcastd.toml"]),
        farmcastd(&["--check-config", "--config", "/nonexistent/farmcastd.toml"]),
        run(farmcast(&["node", "--config", "/nonexistent/farmcastd.toml"]), SOON),
    ] {
        said.assert_refused(78, &["/nonexistent/farmcastd.toml", "--config FILE"]);
    }
    let said = run(farmcast(&["ccm", "run", "--config", "/nonexistent/ccm.toml"]), SOON);
    said.assert_refused(78, &["/nonexistent/ccm.toml", "farmcast ccm init"]);
}

#[test]
fn arguments_that_are_none_end_with_2() {
    farmcastd(&["--confg", "x"]).assert_refused(2, &["--confg", "--help"]);
    run(farmcast(&["node", "join", "--ccm", "h:1"]), SOON).assert_refused(2, &["--token"]);
    let mut command = Command::new(FARMCAST);
    command.args(["publsih", "www"]);
    let said = run(command, SOON);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.stderr.contains("publish"), "{said:?}");
}

/// A node that has not joined has no keys: it says which command gives it some.
#[test]
fn a_node_that_has_not_joined_is_told_to_join() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = format!("{:?}", dir.path().join("state"));
    let config = shipped_node(dir.path(), "\"/var/lib/farmcast/node\"", &state);
    farmcastd(&["--config", &config]).assert_refused(78, &["identity", "join first", "farmcast node invite"]);
    fs::create_dir(dir.path().join("state")).expect("a state directory");
    farmcastd(&["--config", &config]).assert_refused(78, &["identity", "join first"]);
    fs::write(dir.path().join("state/identity"), "rubbish").expect("an identity");
    farmcastd(&["--config", &config]).assert_refused(78, &["identity", "damaged", "join again"]);
}

/// The farm's own directory: missing keys, a database that is none.
#[test]
fn a_controller_without_its_state_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("ccm.toml");
    let text =
        format!("dir = {:?}\nsocket = {:?}\nlisten = \"127.0.0.1:0\"\n", dir.path(), dir.path().join("s"));
    fs::write(&config, text).expect("a configuration");
    let start = || run(farmcast(&["ccm", "run", "--config", config.to_str().expect("UTF-8")]), SOON);
    start().assert_refused(78, &["publisher.key", "farmcast ccm init"]);

    let farm = dir.path().join("farm");
    let place = farm.to_str().expect("UTF-8");
    let init = ["ccm", "init", "--listen", "127.0.0.1:0", "--dir", place, "--socket", "x.sock"];
    assert_eq!(run(farmcast(&init), SOON).code, Some(0));
    run(farmcast(&init), SOON).assert_refused(4, &["exists", "choose another directory"]);
    let socket = dir.path().join("s");
    let config = farm.join("ccm.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text.replace("x.sock", socket.to_str().expect("UTF-8"))).expect("a configuration");
    fs::write(farm.join("ccm.db"), "this is no database, and long enough to be looked at as one")
        .expect("a file");
    let start = || run(farmcast(&["ccm", "run", "--config", config.to_str().expect("UTF-8")]), SOON);
    start().assert_refused(73, &["ccm.db"]);
}
