//! Over TCP: who gets in, how far, and what becomes of clients that mean no good.

use super::*;
use crate::wire::id::{NodeId, hex};
use crate::wire::seal::Certificate;
use crate::wire::{Encoder, tls};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

/// A client under TLS, driven along with the loop.
pub struct Remote {
    socket: TcpStream,
    connection: ClientConnection,
}

impl Lab {
    /// Connects under the key `number`.
    pub fn call(&mut self, number: u8) -> Remote {
        let config = tls::client(&key(number), NodeId::of_key(&key(NODE).public().0));
        let connection = ClientConnection::new(config, ServerName::from(self.tcp.ip())).unwrap();
        let socket = TcpStream::connect(self.tcp).unwrap();
        socket.set_nonblocking(true).unwrap();
        Remote { socket, connection }
    }
}

impl Remote {
    fn say(&mut self, lines: &str) {
        self.connection.writer().write_all(lines.as_bytes()).unwrap();
    }

    /// What has come until nothing moves any more.
    pub fn hear(&mut self, lab: &mut Lab) -> String {
        let mut all = Vec::new();
        let mut moved = true;
        while moved {
            moved = false;
            while self.connection.wants_write() && self.connection.write_tls(&mut self.socket).is_ok() {
                moved = true;
            }
            lab.settle();
            while let Ok(1..) = self.connection.read_tls(&mut self.socket) {
                let _ = self.connection.process_new_packets();
                let _ = self.connection.reader().read_to_end(&mut all);
                moved = true;
            }
        }
        String::from_utf8(all).unwrap()
    }

    /// The replies to these lines, after the greeting.
    fn ask(&mut self, lab: &mut Lab, lines: &str) -> String {
        self.say(lines);
        without_greeting(&self.hear(lab))
    }

    /// What would go out now, as it lies on the wire.
    fn records(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).unwrap();
        }
        bytes
    }
}

/// The line with the certificate of `number`, signed by `enroller`.
fn hello(number: u8, enroller: u8) -> String {
    let mut out = Encoder::new();
    Certificate::issue(&key(enroller), key(number).public(), true, 7).encode(&mut out);
    format!("hello document={}\n", hex(out.as_bytes()))
}

#[test]
fn the_director_looks_and_brings_documents_and_changes_nothing_else() {
    let mut lab = Lab::new();
    let said = lab.call(DIRECTOR).ask(
        &mut lab,
        "show status\nnotify document=0102\nrefresh\nshutdown\norder document=03\nhello document=00\n",
    );
    assert_eq!(
        said,
        "200 ok text=done\n200 ok text=done\n403 denied need=operate\n403 denied need=admin\n\
         200 ok text=done\n203 already level=observe\n"
    );
    let expected = [Call::Show(Subject::Status), Call::Notify(vec![1, 2]), Call::Order(vec![3])];
    assert_eq!(lab.calls, expected);
}

#[test]
fn a_node_of_the_farm_brings_documents_once_its_certificate_is_seen() {
    let mut lab = Lab::new();
    let lines = format!("notify document=01\n{}notify document=02\nversion\n", hello(9, ENROLLER));
    let said = lab.call(9).ask(&mut lab, &lines);
    assert_eq!(
        said,
        "403 denied need=document\n200 ok level=document\n200 ok text=done\n403 denied need=observe\n"
    );
    assert_eq!(lab.calls, [Call::Notify(vec![2])]);
    assert_eq!(lab.console.counters().strangers, 0);
}

#[test]
fn strangers_are_counted_and_shown_out() {
    let mut lab = Lab::new();
    let whole = hello(9, ENROLLER);
    let raised = whole.replacen("00000007", "00000009", 1);
    assert_ne!(raised, whole, "the cap on its priority");
    let half = format!("{}\n", &whole[.."hello document=".len() + 100]);
    // Another farm's certificate, another node's, one that was changed, half of one.
    for (count, line) in [hello(9, 8), hello(10, ENROLLER), raised, half].into_iter().enumerate() {
        let said = lab.call(9).ask(&mut lab, &format!("{line}notify document=01\n"));
        assert!(said.starts_with("403 denied text=\"the certificate is not of this farm"), "{line}: {said}");
        assert_eq!(said.lines().count(), 1, "what follows is not read: {said}");
        assert_eq!((lab.console.counters().strangers, lab.console.sessions()), (count as u64 + 1, 0));
    }
    assert!(lab.calls.is_empty());
    // Who does not say who it is, is not waited for; whatever else it says does not put that off.
    let mut silent = lab.call(9);
    lab.now += Duration::from_secs(2);
    silent.ask(&mut lab, "ping\n");
    lab.now += HELLO_TIME;
    lab.console.expire(lab.now);
    assert_eq!((lab.console.counters().strangers, lab.console.sessions()), (5, 0));
    assert_eq!(silent.hear(&mut lab), "504 timeout text=\"nothing asked for 3.0s\"\n");
}

#[test]
fn a_client_in_plain_text_hears_an_alert_and_no_more() {
    let mut lab = Lab::new();
    for bytes in [&b"notify document=00\n"[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 4_000], &[0x16; 40_000]] {
        let mut stream = lab.tcp();
        let _ = stream.write_all(bytes);
        lab.settle();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(said.is_empty() || said[0] == 0x15, "an alert, {said:02x?}");
    }
    assert_eq!((lab.console.counters().handshakes_failed, lab.console.sessions()), (4, 0));
    assert_eq!((lab.console.counters().requests, lab.calls.len()), (0, 0));
}

#[test]
fn a_handshake_that_trickles_ends_at_the_deadline() {
    let mut lab = Lab::new();
    let mut remote = lab.call(DIRECTOR);
    let first = remote.records();
    for byte in &first[..20] {
        remote.socket.write_all(&[*byte]).unwrap();
        lab.settle();
        lab.now += Duration::from_millis(100);
    }
    assert_eq!(lab.console.sessions(), 1);
    let deadline = lab.console.deadline().unwrap();
    assert_eq!(deadline, Instant::from_nanos(1) + HELLO_TIME, "bytes do not put it off");
    lab.console.expire(deadline);
    assert_eq!((lab.console.sessions(), lab.console.counters().handshakes_failed), (0, 1));
}

#[test]
fn a_record_that_is_cut_or_changed_is_no_line() {
    let mut lab = Lab::new();
    // Within the handshake.
    let mut remote = lab.call(DIRECTOR);
    let first = remote.records();
    remote.socket.write_all(&first[..first.len() / 2]).unwrap();
    lab.settle();
    remote.socket.shutdown(Shutdown::Write).unwrap();
    lab.settle();
    assert_eq!((lab.console.sessions(), lab.console.counters().handshakes_failed), (0, 1));

    let cases: [fn(&mut Vec<u8>); 2] =
        [|record| record.truncate(record.len() - 1), |record| *record.last_mut().unwrap() ^= 1];
    for (count, change) in cases.into_iter().enumerate() {
        let mut remote = lab.call(DIRECTOR);
        assert!(remote.hear(&mut lab).starts_with("100 "));
        remote.say("notify document=01\n");
        let mut record = remote.records();
        change(&mut record);
        remote.socket.write_all(&record).unwrap();
        remote.socket.shutdown(Shutdown::Write).unwrap();
        lab.settle();
        assert_eq!((lab.console.sessions(), lab.console.counters().broken), (0, count as u64 + 1));
    }
    assert!(lab.calls.is_empty());
}

#[test]
fn replies_of_many_records_come_whole_and_a_reader_that_stops_is_turned_out() {
    let mut lab = Lab::new();
    lab.answer = Reply::ok().with("text", "x".repeat(200_000));
    let said = lab.call(DIRECTOR).ask(&mut lab, "show counters\nquit\n");
    assert_eq!(said.len(), "200 ok text=\n200 ok text=bye\n".len() + 200_000);
    assert_eq!((lab.console.sessions(), lab.console.counters().broken), (0, 0));

    let mut deaf = lab.call(DIRECTOR);
    deaf.hear(&mut lab);
    for _ in 0..100 {
        if lab.console.counters().slow_readers > 0 {
            break;
        }
        deaf.say("show counters\n");
        let records = deaf.records();
        deaf.socket.write_all(&records).unwrap();
        lab.settle();
    }
    assert_eq!(lab.console.counters().slow_readers, 1);
}

#[test]
fn a_client_that_is_silent_gives_its_place_to_the_next() {
    let mut lab = Lab::new();
    let mut first = lab.call(DIRECTOR);
    first.hear(&mut lab);
    lab.now += Duration::from_millis(100);
    let others: Vec<_> = (1..SESSIONS).map(|_| lab.tcp()).collect();
    lab.now += SILENT_TIME - Duration::from_millis(50);
    let mut next = lab.call(DIRECTOR);
    assert_eq!(next.ask(&mut lab, "ping\n"), "200 ok text=pong\n", "the first was silent for longest");
    next.say("quit\n");
    next.hear(&mut lab);
    let _newcomer = lab.tcp();
    assert_eq!(rest(lab.tcp()), "", "the others have only just come");
    assert_eq!(lab.console.counters().turned_away, 2);
    drop(others);
}
