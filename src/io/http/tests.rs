use super::client::{CHUNK_MAX, Error, Event};
use super::head::HEAD_MAX;
use super::server::{HEAD_TIME, IDLE_TIME, Wanted};
use super::*;
use crate::time::{Duration, Instant};
use mio::{Events, Poll, Token};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

const SERVER: Token = Token(100);
const CLIENT: Token = Token(7);
const IDLE: Duration = Duration::from_secs(30);

/// A loop with a server of one file at `/o/ab`, and time that stands still until a test moves it.
struct Lab {
    poll: Poll,
    server: Server,
    addr: SocketAddr,
    file: File,
    len: u64,
    now: Instant,
    /// Requests that wait for their answer, where the test gives it itself.
    held: Option<Vec<Wanted>>,
}

impl Lab {
    fn new(content: &[u8], places: usize) -> Self {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Self::of_file(file, content.len() as u64, places)
    }

    fn of_file(file: File, len: u64, places: usize) -> Self {
        let poll = Poll::new().unwrap();
        let listener = mio::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let server = Server::new(listener, poll.registry(), SERVER, places).unwrap();
        Self { poll, server, addr, file, len, now: Instant::from_nanos(1), held: None }
    }

    /// Handles one batch of events; false where none came within `millis`. Reports those of the client.
    fn turn(&mut self, millis: u64, client: &mut bool) -> bool {
        let mut events = Events::with_capacity(16);
        let timeout = std::time::Duration::from_millis(millis);
        while let Err(e) = self.poll.poll(&mut events, Some(timeout)) {
            assert_eq!(e.kind(), ErrorKind::Interrupted);
        }
        for event in &events {
            if event.token() == CLIENT {
                *client = true;
                continue;
            }
            assert!(self.server.tokens().contains(&event.token().0));
            let wanted = self.server.handle_event(self.poll.registry(), event.token(), self.now).unwrap();
            match (wanted, &mut self.held) {
                (Some(wanted), Some(held)) => held.push(wanted),
                (Some(wanted), None) => self.answer(wanted),
                (None, _) => {}
            }
        }
        !events.is_empty()
    }

    fn answer(&mut self, wanted: Wanted) {
        let registry = self.poll.registry();
        if wanted.path == "/o/ab" {
            let file = self.file.try_clone().unwrap();
            self.server.respond_file(registry, wanted.key, file, self.len, self.now).unwrap();
        } else {
            self.server.respond_status(registry, wanted.key, 404, "no such object", self.now).unwrap();
        }
    }

    /// Turns until nothing happens any more.
    fn settle(&mut self) {
        while self.turn(30, &mut false) {}
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        stream
    }

    /// Sends `request` on a new connection and returns all that comes until the server closes.
    fn ask(&mut self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        self.settle();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Drives `client` to its end.
    fn run(&mut self, client: Result<Client, Error>) -> Outcome {
        let mut client = client.unwrap();
        client.register(self.poll.registry(), CLIENT).unwrap();
        let mut outcome = Outcome::default();
        for _ in 0..10_000 {
            let mut due = false;
            assert!(self.turn(5_000, &mut due), "nothing happens: {client:?}");
            if !due {
                continue;
            }
            // As a loop with other work would: a few events, then the others' turn.
            for round in 0.. {
                if round == 3 {
                    client.rearm(self.poll.registry(), CLIENT).unwrap();
                    break;
                }
                match client.next(self.now) {
                    None => break,
                    Some(event) => {
                        if outcome.take(event) {
                            assert!(client.next(self.now).is_none());
                            assert_eq!(client.deadline(), None);
                            return outcome;
                        }
                    }
                }
            }
        }
        panic!("no end: {client:?}");
    }
}

#[derive(Debug, Default)]
struct Outcome {
    status: u16,
    length: u64,
    time: Option<u64>,
    body: Vec<u8>,
    error: Option<Error>,
}

impl Outcome {
    /// True at the last event.
    fn take(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::Head { status, content_length, time } => {
                assert_eq!(self.status, 0, "one head");
                (self.status, self.length, self.time) = (status, content_length, time);
                false
            }
            Event::Body(bytes) => {
                assert!(!bytes.is_empty() && bytes.len() <= CHUNK_MAX);
                self.body.extend_from_slice(bytes);
                false
            }
            Event::Done => {
                assert_eq!(self.body.len() as u64, self.length);
                true
            }
            Event::Failed(error) => {
                self.error = Some(error);
                true
            }
        }
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Reads one answer of known length from a connection that stays open.
fn read_answer(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

#[test]
fn the_client_fetches_what_the_server_has_whole_and_in_parts() {
    let content = pattern(3 << 20);
    let mut lab = Lab::new(&content, 4);
    let whole = lab.run(Client::get(lab.addr, "/o/ab", None, lab.now, IDLE));
    assert_eq!((whole.status, whole.error.is_none()), (200, true));
    assert!(whole.body == content);
    for (range, start, end) in [
        (Range::From(1 << 20), 1 << 20, 3 << 20),
        (Range::Between(5, 5), 5, 6),
        (Range::Between(100, u64::MAX), 100, 3 << 20),
        (Range::Last(9), (3 << 20) - 9, 3 << 20),
    ] {
        let part = lab.run(Client::get(lab.addr, "/o/ab", Some(range), lab.now, IDLE));
        assert_eq!((part.status, part.error.is_none()), (206, true), "{range}");
        assert!(part.body == content[start..end], "{range}");
    }
    let beyond = lab.run(Client::get(lab.addr, "/o/ab", Some(Range::From(3 << 20)), lab.now, IDLE));
    assert_eq!((beyond.status, beyond.length), (416, 0));
    let missing = lab.run(Client::get(lab.addr, "/o/cd", None, lab.now, IDLE));
    assert_eq!((missing.status, missing.body), (404, b"no such object\n".to_vec()));
    lab.settle();
    assert_eq!(lab.server.clients(), 0);
    assert_eq!(lab.server.counters().broken, 0);
}

#[test]
fn an_empty_file_is_an_answer_too() {
    let mut lab = Lab::new(b"", 1);
    let empty = lab.run(Client::get(lab.addr, "/o/ab", None, lab.now, IDLE));
    assert_eq!((empty.status, empty.length, empty.error.is_none()), (200, 0, true));
}

#[test]
fn the_heads_of_answers_say_what_comes() {
    let mut lab = Lab::new(b"0123456789", 1);
    let head = "HTTP/1.1 206 Partial Content\r\nContent-Type: application/octet-stream\r\n\
                Accept-Ranges: bytes\r\nContent-Length: 3\r\nContent-Range: bytes 7-9/10\r\n\
                Connection: close\r\n\r\n789";
    assert_eq!(
        lab.ask("GET /o/ab HTTP/1.1\r\nHost: h\r\nRange: bytes=7-\r\nConnection: close\r\n\r\n"),
        head
    );
    let unsatisfiable = lab.ask("GET /o/ab HTTP/1.0\r\nRange: bytes=10-\r\n\r\n");
    assert!(unsatisfiable.starts_with("HTTP/1.1 416 Range Not Satisfiable\r\n"), "{unsatisfiable}");
    assert!(unsatisfiable.contains("Content-Range: bytes */10\r\n"), "{unsatisfiable}");
    let whole = lab.ask("HEAD /o/ab HTTP/1.0\r\nRange: bytes=7-\r\n\r\n");
    assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.contains("Content-Length: 10\r\n"), "{whole}");
    assert!(whole.ends_with("\r\n\r\n"));
    let missing = lab.ask("HEAD /x HTTP/1.0\r\n\r\n");
    assert!(missing.starts_with("HTTP/1.1 404 ") && missing.ends_with("\r\n\r\n"), "{missing}");
}

#[test]
fn a_connection_carries_request_after_request_even_when_sent_at_once() {
    let content = pattern(100_000);
    let mut lab = Lab::new(&content, 1);
    let mut stream = lab.connect();
    let mut requests = String::new();
    for at in 0..20 {
        requests += &format!("GET /o/ab HTTP/1.1\r\nHost: h\r\nRange: bytes={at}-{}\r\n\r\n", at + 9);
    }
    stream.write_all(requests.as_bytes()).unwrap();
    lab.settle();
    for at in 0..20 {
        let (head, body) = read_answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 206 ") && !head.contains("Connection"), "{head}");
        assert_eq!(body, content[at..at + 10]);
    }
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    lab.settle();
    assert_eq!(read_answer(&mut stream).1, b"no such object\n");
    assert_eq!(lab.server.counters().requests, 21);
    assert_eq!(lab.server.counters().accepted, 1);
}

#[test]
fn what_is_refused_is_told_so_even_where_the_client_sends_on() {
    let mut lab = Lab::new(b"x", 4);
    for (request, status) in [
        ("GET /o/ab HTTP/1.1\r\n\r\n".to_owned(), "400 Bad Request"),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_MAX * 3)), "431 Request Header Fields Too Large"),
        (
            format!("POST /o/ab HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\n{}", "b".repeat(50_000)),
            "405 Method Not Allowed",
        ),
        ("\0\u{1}garbage\r\n".repeat(2_000), "400 Bad Request"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "505 HTTP Version Not Supported"),
    ] {
        let mut stream = lab.connect();
        stream.write_all(request.as_bytes()).unwrap();
        lab.settle();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains("Connection: close\r\n"));
        assert_eq!(answer.contains("Allow: GET, HEAD\r\n"), status.starts_with("405"));
    }
    lab.settle();
    assert_eq!((lab.server.clients(), lab.server.counters().refused), (0, 5));
}

#[test]
fn a_client_that_does_not_read_stalls_nobody_and_is_dropped_in_the_end() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 30).unwrap();
    let mut lab = Lab::of_file(file, 1 << 30, 2);
    let mut slow = lab.connect();
    slow.write_all(b"GET /o/ab HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    lab.settle();
    assert_eq!(lab.server.clients(), 1);
    assert_eq!(lab.server.deadline(), Some(lab.now + IDLE_TIME));
    lab.now += Duration::from_secs(29);
    let quick = lab.run(Client::get(lab.addr, "/o/ab", Some(Range::Last(5)), lab.now, IDLE));
    assert_eq!(quick.body, [0; 5]);
    lab.settle();
    lab.server.expire(lab.now);
    assert_eq!(lab.server.clients(), 1);
    lab.now += Duration::from_secs(1);
    lab.server.expire(lab.now);
    assert_eq!((lab.server.clients(), lab.server.counters().expired), (0, 1));
    assert_eq!(lab.server.deadline(), None);
}

#[test]
fn a_head_that_drips_in_is_not_waited_for_longer_than_one_that_does_not_come() {
    let mut lab = Lab::new(b"x", 2);
    let mut drip = lab.connect();
    lab.settle();
    let deadline = lab.server.deadline().unwrap();
    assert_eq!(deadline, lab.now + HEAD_TIME);
    for byte in b"GET /o/ab HT" {
        drip.write_all(&[*byte]).unwrap();
        lab.now += Duration::from_secs(1);
        lab.settle();
        lab.server.expire(lab.now);
    }
    assert_eq!((lab.server.clients(), lab.server.deadline()), (1, Some(deadline)));
    lab.server.expire(deadline);
    assert_eq!(lab.server.clients(), 0);
    assert_eq!(drip.read(&mut [0; 8]).unwrap_or(0), 0);
}

#[test]
fn a_client_too_many_is_turned_away_and_the_place_is_used_again() {
    let mut lab = Lab::new(b"x", 1);
    let first = lab.connect();
    lab.settle();
    let mut second = lab.connect();
    lab.settle();
    let mut answer = String::new();
    second.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(first);
    lab.settle();
    assert_eq!(lab.server.clients(), 0);
    assert!(lab.ask("GET /o/ab HTTP/1.0\r\n\r\n").ends_with("\r\n\r\nx"));
    assert_eq!(lab.server.counters().turned_away, 1);
}

#[test]
fn an_answer_may_come_later_and_one_for_a_client_that_left_goes_nowhere() {
    let mut lab = Lab::new(b"x", 1);
    lab.held = Some(Vec::new());
    let mut stream = lab.connect();
    stream.write_all(b"GET /o/ab HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    lab.settle();
    let wanted = lab.held.as_mut().unwrap().pop().unwrap();
    assert_eq!((wanted.path.as_str(), wanted.head), ("/o/ab", false));
    assert_eq!(lab.server.deadline(), None, "the delay is ours");
    lab.answer(wanted.clone());
    lab.settle();
    assert_eq!(read_answer(&mut stream).1, b"x");
    // Answered twice: the second answer has no request.
    lab.answer(wanted.clone());
    drop(stream);
    lab.settle();
    assert_eq!(lab.server.clients(), 0);
    // Another client has the place now; the old key is not its key.
    let mut other = lab.connect();
    other.write_all(b"GET /o/cd HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    lab.settle();
    lab.answer(wanted);
    let wanted = lab.held.as_mut().unwrap().pop().unwrap();
    lab.answer(wanted);
    lab.settle();
    assert_eq!(read_answer(&mut other).1, b"no such object\n");
}

#[test]
fn a_file_that_became_shorter_breaks_the_connection_instead_of_padding_it() {
    let mut lab = Lab::new(b"short", 1);
    lab.len = 1000;
    let cut = lab.run(Client::get(lab.addr, "/o/ab", None, lab.now, IDLE));
    assert_eq!((cut.status, cut.length, cut.body.as_slice()), (200, 1000, &b"short"[..]));
    assert!(matches!(cut.error, Some(Error::Closed(_) | Error::Broken(..))), "{:?}", cut.error);
    assert_eq!((lab.server.clients(), lab.server.counters().broken), (0, 1));
}

/// Lets a client talk to a server by hand, which answers `answer` once it has read all of the request.
fn against(
    answer: Vec<u8>,
    begin: impl FnOnce(SocketAddr) -> Result<Client, Error>,
    request_len: usize,
) -> (Outcome, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while request.len() < request_len || !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0);
            request.extend_from_slice(&buffer[..count]);
        }
        stream.write_all(&answer).unwrap();
        String::from_utf8_lossy(&request).into_owned()
    });
    let mut lab = Lab::new(b"", 1);
    let outcome = lab.run(begin(addr));
    (outcome, server.join().unwrap())
}

fn get(addr: SocketAddr) -> Result<Client, Error> {
    Client::get(addr, "/o/ab", Some(Range::From(7)), Instant::from_nanos(1), IDLE)
}

#[test]
fn a_post_sends_its_body_and_hears_the_clock() {
    let answer = b"HTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 200 OK\r\nx-farmcast-time: 1763600000000000000\r\ncontent-length: 2\r\n\r\nok";
    let body = pattern(2 << 20);
    let (outcome, request) = against(
        answer.to_vec(),
        |addr| {
            Client::post(addr, "/v1/uplink", "application/octet-stream", &body, Instant::from_nanos(1), IDLE)
        },
        2 << 20,
    );
    assert_eq!(
        (outcome.status, outcome.time, outcome.body.as_slice()),
        (200, Some(1_763_600_000_000_000_000), &b"ok"[..])
    );
    assert!(request.starts_with("POST /v1/uplink HTTP/1.1\r\nHost: 127.0.0.1:"), "{request:.80}");
    assert!(request.contains("Content-Length: 2097152\r\n"));
}

#[test]
fn a_get_asks_for_its_range_and_takes_no_byte_beyond_the_length() {
    let (outcome, request) =
        against(b"HTTP/1.1 206 Partial\r\nContent-Length: 3\r\n\r\nabcdef".to_vec(), get, 0);
    assert_eq!(outcome.body, b"abc");
    assert!(outcome.error.is_none());
    assert!(
        request.contains("\r\nRange: bytes=7-\r\n") && request.contains("\r\nConnection: close\r\n"),
        "{request}"
    );
}

#[test]
fn answers_that_cannot_be_used_fail_with_a_reason() {
    let error = |answer: &str| against(answer.as_bytes().to_vec(), get, 0).0.error.unwrap().to_string();
    let reason = error("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert!(reason.contains("only Content-Length is understood"), "{reason}");
    assert!(error("HTTP/1.1 200 OK\r\n\r\nbody until the end").contains("no usable Content-Length"));
    assert!(error("100 farmcast-ctl/1 server=x\r\n").contains("does not speak HTTP/1"));
    assert!(error("HTTP/1.1 200 OK\r\nContent-Le").contains("before its answer was whole"));
    assert!(error("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").contains("before its answer was whole"));
    assert!(error(&format!("HTTP/1.1 200 {}", "x".repeat(HEAD_MAX))).contains("longer than 8192 bytes"));
}

#[test]
fn a_server_that_says_nothing_or_is_not_there_fails_the_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut lab = Lab::new(b"", 1);
    let mut silent = Client::get(addr, "/", None, lab.now, IDLE).unwrap();
    silent.register(lab.poll.registry(), CLIENT).unwrap();
    while lab.turn(30, &mut false) {
        assert!(silent.next(lab.now).is_none());
    }
    let deadline = silent.deadline().unwrap();
    assert_eq!(deadline, lab.now + IDLE);
    assert!(silent.next(deadline - Duration::from_nanos(1)).is_none());
    assert!(matches!(silent.next(deadline), Some(Event::Failed(Error::Idle(..)))));
    assert!(silent.next(deadline).is_none());
    drop((silent, listener));
    let error = lab.run(Client::get(addr, "/", None, lab.now, IDLE)).error.unwrap();
    assert!(matches!(error, Error::Connect(..)), "{error}");
}

/// Cut-through: what may be sent yet is sent, the rest when the owner says so, and nobody else waits meanwhile.
#[test]
fn a_file_that_grows_is_sent_as_far_as_it_may_be() {
    let content = pattern(300_000);
    let mut lab = Lab::new(&content, 3);
    lab.held = Some(Vec::new());
    let mut stream = lab.connect();
    stream.write_all(b"GET /o/ab HTTP/1.1\r\nHost: h\r\nRange: bytes=1000-299999\r\n\r\n").unwrap();
    lab.settle();
    let wanted = lab.held.as_mut().unwrap().pop().unwrap();
    let (key, file, now) = (wanted.key, lab.file.try_clone().unwrap(), lab.now);
    let ready = |from| {
        assert_eq!(from, 1_000);
        5_000
    };
    lab.server.respond_growing(lab.poll.registry(), key, file, 300_000, ready, now).unwrap();
    lab.settle();
    stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    let mut seen = Vec::new();
    let mut read = |stream: &mut TcpStream| {
        let mut buffer = [0; 65_536];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            seen.extend_from_slice(&buffer[..count]);
        }
        seen.len()
    };
    let head = read(&mut stream) - 4_000;
    assert_eq!(lab.server.ready(key), Some(5_000));

    lab.server.advance(lab.poll.registry(), key, 4_000, now).unwrap();
    assert_eq!(lab.server.ready(key), Some(5_000), "what was allowed stays so");
    lab.server.advance(lab.poll.registry(), key, 200_000, now).unwrap();
    lab.settle();
    assert_eq!(read(&mut stream) - head, 199_000);
    lab.server.advance(lab.poll.registry(), key, u64::MAX, now).unwrap();
    lab.settle();
    assert_eq!(read(&mut stream) - head, 299_000);
    assert_eq!(lab.server.ready(key), None);
    assert!(seen[head..] == content[1_000..]);

    // A file that does not grow any more is given up, and a client that left is forgotten.
    let mut slow = lab.connect();
    slow.write_all(b"GET /o/ab HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    lab.settle();
    let key = lab.held.as_mut().unwrap().pop().unwrap().key;
    let file = lab.file.try_clone().unwrap();
    lab.server.respond_growing(lab.poll.registry(), key, file, 300_000, |_| 10, now).unwrap();
    lab.server.expire(now + IDLE_TIME);
    assert_eq!(lab.server.ready(key), None);
    lab.server.advance(lab.poll.registry(), key, 300_000, now).unwrap();
}
