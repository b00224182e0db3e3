//! A node's text port over TCP: what the director, a node of the farm and strangers can do there.

use crate::forged::key;
use crate::harness::{Farm, SOON, reply, wait_for, words};
use farmcast::node::identity::Identity;
use farmcast::wire::console::Line;
use farmcast::wire::id::{NodeId, hex};
use farmcast::wire::seal::{Certificate, SigningKey};
use farmcast::wire::{Encoder, tls};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub type Session = StreamOwned<ClientConnection, TcpStream>;

/// Connects to a text port under a key and hears the greeting.
pub fn call(text: SocketAddr, own: &SigningKey, to: NodeId) -> io::Result<(Session, Line)> {
    let socket = TcpStream::connect_timeout(&text, SOON)?;
    socket.set_read_timeout(Some(SOON))?;
    let connection = ClientConnection::new(tls::client(own, to), ServerName::from(text.ip()));
    let mut session = StreamOwned::new(connection.expect("a client"), socket);
    // Where all places are taken, the connection is closed before it has begun.
    while session.conn.is_handshaking() {
        session.conn.complete_io(&mut session.sock)?;
    }
    let greeting = reply(&mut session).pop().expect("a line");
    Ok((session, greeting))
}

/// One request in a session; the last line of the reply.
#[track_caller]
pub fn ask(session: &mut Session, request: &str) -> Line {
    writeln!(session, "{request}").expect("the request is sent");
    reply(session).pop().expect("a line")
}

/// One request of the director; the last line of the reply.
#[track_caller]
pub fn ask_tcp(farm: &Farm, text: SocketAddr, request: &str) -> Line {
    let director = key(farm, "director");
    let rows = farm.rows();
    let row = rows.iter().find(|row| row.text == text.to_string()).expect("a node of the farm");
    let to = row.id.parse().expect("an id");
    wait_for("the text port", SOON, || {
        let (mut session, greeting) = call(text, &director, to).ok()?;
        assert_eq!(greeting.text("level"), Some("observe"), "{}", words(&greeting));
        Some(ask(&mut session, request))
    })
}

fn hello(certificate: &Certificate) -> String {
    let mut out = Encoder::new();
    certificate.encode(&mut out);
    format!("hello document={}", hex(out.as_bytes()))
}

#[test]
fn who_is_not_of_the_farm_gets_nowhere_and_is_counted() {
    let mut farm = Farm::of(2);
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();
    let (leader, row) = farm.leader();
    let (text, to) = (row.text.parse().expect("an address"), row.id.parse().expect("an id"));
    let node = &farm.nodes[leader];
    let counts = || ["console_strangers", "console_handshakes_failed"].map(|name| node.counter(name));
    let (strangers, failed) = (counts()[0], counts()[1]);

    // The director looks; it does not steer a node from afar.
    assert_eq!(ask_tcp(&farm, text, "show status").code, 200);
    assert_eq!(ask_tcp(&farm, text, "shutdown").code, 403);
    // Another node of the farm hands in documents, which are judged by their own signature.
    let member = Identity::load(&farm.nodes[1 - leader].state()).expect("an identity");
    let (mut session, greeting) = call(text, &member.key, to).expect("a session");
    assert_eq!(greeting.text("level"), Some("guest"));
    assert_eq!(ask(&mut session, "notify document=00ff").code, 403);
    assert_eq!(ask(&mut session, &hello(&member.certificate)).code, 200);
    let denied = ask(&mut session, "notify document=00ff");
    assert!(denied.code == 403 && words(&denied).contains("refused"), "{}", words(&denied));
    assert_eq!(ask(&mut session, "show status").code, 403);

    // A key of nobody's; a certificate of the farm under another key; one that an attacker made.
    let attacker = SigningKey::from_seed([66; 32]);
    let made = Certificate::issue(&attacker, attacker.public(), true, u32::MAX);
    for certificate in [&member.certificate, &made] {
        let (mut session, _) = call(text, &attacker, to).expect("a session");
        assert_eq!(ask(&mut session, "show status").code, 403);
        assert_eq!(ask(&mut session, &hello(certificate)).code, 403);
        assert_eq!(session.read(&mut [0; 1]).unwrap_or(0), 0, "it is shown out");
    }
    assert_eq!(counts()[0], strangers + 2);
    // Plain text, as the version before spoke it.
    for request in [&b"show status\n"[..], b"notify document=00ff\n", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect_timeout(&text, SOON).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        stream.write_all(request).expect("sent");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(!said.starts_with(b"100 "), "no greeting without TLS");
    }
    wait_for("the count", SOON, || (counts()[1] == failed + 3).then_some(()));
    assert_eq!(farm.lives(), before);
    farm.nodes.iter_mut().for_each(crate::harness::Node::assert_runs);
    farm.stage("index.html", "two");
    farm.publish_well();
}

/// Whoever holds connections open must lock out neither the operator nor the controller, whether the connections are
/// silent, in the middle of a handshake or behind it.
#[test]
fn thirty_idle_connections_lock_nobody_out() {
    let farm = Farm::of(1);
    farm.stage("index.html", "one");
    let (_, row) = farm.leader();
    let (text, to): (SocketAddr, NodeId) =
        (row.text.parse().expect("an address"), row.id.parse().expect("an id"));
    let connect = || TcpStream::connect_timeout(&text, SOON).expect("it listens");
    let silent: Vec<_> = (0..10).map(|_| connect()).collect();
    let halfway: Vec<_> = (0..10)
        .map(|_| {
            let mut stream = connect();
            // The head of a handshake record of 512 bytes.
            let _ = stream.write_all(&[0x16, 3, 1, 2, 0, 1]);
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(600));
    let attacker = SigningKey::from_seed([66; 32]);
    let unnamed: Vec<_> = (0..10).filter_map(|_| call(text, &attacker, to).ok()).collect();
    let node = &farm.nodes[0];
    assert_eq!(node.ask("ping")[0].code, 200, "the operator gets in");
    assert!(node.counter("console_turned_away") > 0);
    farm.publish_well();
    drop((silent, halfway, unnamed));
    assert_eq!(ask_tcp(&farm, text, "ping").code, 200);
}
