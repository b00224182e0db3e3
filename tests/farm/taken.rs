//! Ports and sockets that somebody else has.

use crate::harness::{Farm, LATER, Running, SITE, SOON, farmcast, run, wait_for};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};

#[test]
fn a_port_in_use_is_named_with_what_to_do_and_exit_69() {
    let mut farm = Farm::with_controller();
    farm.add_node();
    let node = &farm.nodes[0];
    let config = node.config.to_str().expect("UTF-8");
    let good = fs::read_to_string(config).expect("its configuration");
    let start = |text: &str| {
        fs::write(config, text).expect("a configuration");
        run(farmcast(&["node", "--config", config]), SOON)
    };

    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it is bound").port();
    let said = start(&good.replace("datagram_port = 0", &format!("datagram_port = {port}")));
    assert_ends(&said, 69, &[&format!("UDP 127.0.0.1:{port}"), "set network.datagram_port to a free port"]);

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it is bound").port();
    for key in ["http_port", "text_port"] {
        let said = start(&good.replace(&format!("{key} = 0"), &format!("{key} = {port}")));
        assert_ends(
            &said,
            69,
            &[&format!("TCP 127.0.0.1:{port}"), &format!("set network.{key} to a free port")],
        );
    }

    // Whoever holds the port of a channel without sharing it.
    let taken = UdpSocket::bind(("0.0.0.0", farm.control_channel.port())).expect("a port");
    let said = start(&good);
    assert_ends(&said, 69, &[&farm.control_channel.to_string(), "control_channel"]);
    drop(taken);

    // The socket of a living daemon is left to it; any file that is no socket is left alone.
    let living = UnixListener::bind(&node.socket).expect("a socket");
    assert_ends(&start(&good), 69, &["in use", "control.socket"]);
    drop(living);
    fs::remove_file(&node.socket).expect("it was there");
    fs::write(&node.socket, "precious").expect("a file");
    assert_ends(&start(&good), 73, &["control.socket"]);
    assert_eq!(fs::read_to_string(&node.socket).expect("it is still there"), "precious");
    let nowhere = start(&good.replace("node-1.s", "nowhere/node-1.s"));
    assert_ends(&nowhere, 73, &["nowhere/node-1.s", "control.socket"]);

    // A state directory in which nothing can be made.
    fs::remove_dir_all(node.state().join("spool")).expect("the spool");
    fs::write(node.state().join("spool"), "in the way").expect("a file");
    assert_ends(&start(&good), 73, &["state/spool"]);
    fs::remove_file(node.state().join("spool")).expect("it was there");

    // What a dead daemon left behind is replaced.
    fs::remove_file(&node.socket).expect("it was there");
    drop(UnixListener::bind(&node.socket).expect("a socket"));
    assert!(node.socket.exists());
    fs::write(config, &good).expect("a configuration");
    farm.begin();
    farm.nodes[0].ask("ping");
}

#[test]
fn two_controllers_do_not_share_a_farm() {
    let mut farm = Farm::with_controller();
    let config = farm.path("ccm/ccm.toml");
    let second = run(farmcast(&["ccm", "run", "--config", &config]), SOON);
    assert_ends(&second, 69, &["another ccm works on this farm", "stop it first"]);

    // The ports of one farm are not free for another's controller.
    let (other, listen) = (farm.path("other"), format!("127.0.0.1:{}", farm.ccm_port));
    let said = run(
        farmcast(&["ccm", "init", "--dir", &other, "--listen", &listen, "--socket", &farm.path("s")]),
        SOON,
    );
    assert_eq!(said.code, Some(0), "{said:?}");
    let config = format!("{other}/ccm.toml");
    let second = run(farmcast(&["ccm", "run", "--config", &config]), SOON);
    assert_ends(&second, 69, &[&listen, "set `listen`"]);
    let text = fs::read_to_string(&config).expect("its configuration");
    fs::write(&config, text.replace(&listen, "127.0.0.1:0")).expect("a configuration");
    let second = run(farmcast(&["ccm", "run", "--config", &config]), SOON);
    assert_ends(&second, 69, &["another ccm runs there", "set `socket`"]);
    assert_eq!(farm.cli(&["status"]).code, Some(0), "the first goes on");

    // After a crash the socket is still there, and is taken over.
    farm.ccm = None;
    assert!(UnixStream::connect(farm.path("s")).is_err());
    farm.start_ccm();
    assert_eq!(farm.cli(&["status"]).code, Some(0));
    let mut ccm = farm.ccm.take().expect("it runs");
    ccm.ask_to_end();
    assert_eq!(ccm.end(LATER).code(), Some(0), "{}", farm.ccm_log());
    assert!(!std::path::Path::new(&farm.path("s")).exists(), "a clean end leaves no socket");
}

/// A copy of the controller's directory, from before the last publish, is started beside the controller. Nobody reports
/// to it, so it orders no switch; nodes go on with what they have, and by the word of the one that they know.
#[test]
fn an_older_copy_of_the_controller_beside_it_moves_nobody() {
    let mut farm = Farm::of(2);
    farm.stage("index.html", "one");
    farm.publish_well();
    let (copy, socket) = (farm.path("copy"), farm.path("t"));
    let copied = run(
        {
            let mut copying = std::process::Command::new("cp");
            copying.args(["-a", &farm.path("ccm"), &copy]);
            copying
        },
        SOON,
    );
    assert_eq!(copied.code, Some(0), "{copied:?}");
    farm.stage("index.html", "two");
    farm.publish_well();
    let before = farm.lives();

    let config = format!("{copy}/ccm.toml");
    let text = fs::read_to_string(&config).expect("its configuration");
    let text = text
        .replace(&farm.path("ccm"), &copy)
        .replace(&format!("{:?}", farm.path("s")), &format!("{socket:?}"));
    let text = text.replace(&format!("127.0.0.1:{}", farm.ccm_port), "127.0.0.1:0");
    fs::write(&config, text).expect("a configuration");
    let log = farm.dir.path().join("copy.log");
    let mut second = Running::start(&[], &["ccm", "run", "--config", &config], &log);
    wait_for("the copy", SOON, || UnixStream::connect(&socket).ok());
    farm.stage("index.html", "three, by the wrong one");
    let said = run(farmcast(&["--socket", &socket, "publish", SITE]), LATER);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        (said.stdout.clone() + &said.stderr).contains("went offline"),
        "it says that nobody answers: {said:?}"
    );
    assert_eq!(farm.lives(), before, "{}", fs::read_to_string(&log).unwrap_or_default());
    assert!(second.ended().is_none());

    farm.stage("index.html", "three");
    farm.publish_well();
    farm.nodes.iter_mut().for_each(crate::harness::Node::assert_runs);
}

/// The last line of the log is why it ended; notes may stand before it.
#[track_caller]
fn assert_ends(said: &crate::harness::Said, code: i32, parts: &[&str]) {
    assert_eq!(said.code, Some(code), "{said:?}");
    let errors: Vec<_> = said.stderr.lines().filter(|line| line.contains("error: ")).collect();
    assert_eq!(errors.len(), 1, "one line says why: {said:?}");
    for part in parts {
        assert!(errors[0].contains(part), "{part:?} is not in {said:?}");
    }
}
