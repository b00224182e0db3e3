//! Joining a farm with a token that is none, was used, has expired or is another node's; with no farm there.

use crate::harness::{Farm, SOON, farmcast, free_port, run};
use farmcast::wire::join::Token;
use std::fs;
use std::thread;
use std::time::Duration;

#[test]
fn a_token_is_good_once_in_time_and_for_its_node() {
    let mut farm = Farm::with_controller();
    farm.add_node();
    let node = &farm.nodes[0];
    let ccm = format!("127.0.0.1:{}", farm.ccm_port);
    let config = farm.path("other.toml");
    let text = fs::read_to_string(&node.config).expect("a configuration");
    let text =
        text.replace("node-1\"", "other\"").replace("/node-1/", "/other/").replace("node-1.s", "other.s");
    fs::write(&config, text).expect("a configuration");
    let join = |token: &str| {
        run(farmcast(&["node", "join", "--ccm", &ccm, "--token", token, "--config", &config]), SOON)
    };
    let invite = |more: &[&str]| -> String {
        let said = farm.cli(&[&["--json", "node", "invite"], more].concat());
        said.json::<farmcast::ccm::api::types::Invite>().token
    };

    join("fcj1-00ff").assert_refused(2, &["--token", "copy it whole"]);
    let unknown = Token::new([7; 32]).to_string();
    join(&unknown).assert_refused(1, &["no such token", "farmcast node invite"]);
    let others = invite(&["somebody-else"]);
    join(&others).assert_refused(1, &["the token is for node somebody-else"]);
    let short = invite(&["--expires", "1"]);
    thread::sleep(Duration::from_millis(2_100));
    join(&short).assert_refused(1, &["expired", "farmcast node invite"]);
    assert!(!farm.dir.path().join("other/state/identity").exists());

    let good = invite(&[]);
    let said = join(&good);
    assert_eq!(said.code, Some(0), "{said:?}");
    join(&invite(&[])).assert_refused(1, &["joined a farm already"]);
    fs::remove_dir_all(farm.path("other/state")).expect("its state");
    join(&good).assert_refused(1, &["used by another node", "farmcast node invite"]);
    join(&invite(&[])).assert_refused(1, &["a node named other exists", "farmcast node invite other"]);

    // Nobody there, and somebody who is no controller.
    let nobody = format!("127.0.0.1:{}", free_port());
    let said =
        run(farmcast(&["node", "join", "--ccm", &nobody, "--token", &good, "--config", &config]), SOON);
    said.assert_refused(69, &["the CCM cannot be reached", "farmcast ccm run"]);
    let said =
        run(farmcast(&["node", "join", "--ccm", "nowhere", "--token", &good, "--config", &config]), SOON);
    said.assert_refused(2, &["--ccm \"nowhere\" is no HOST:PORT"]);
}
