mod remote;

use super::super::verbs::{self, Call, Subject};
use super::*;
use crate::wire::seal::SigningKey;
use mio::{Events, Poll};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

const FIRST: Token = Token(40);
/// Whose keys these are.
const NODE: u8 = 1;
const DIRECTOR: u8 = 2;
const ENROLLER: u8 = 3;

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32])
}

/// A loop with a text port on a Unix and a TCP socket, a node that answers every call with its own words,
/// and time that stands still until a test moves it.
struct Lab {
    poll: Poll,
    console: Console,
    path: PathBuf,
    tcp: SocketAddr,
    now: Instant,
    calls: Vec<Call>,
    /// The test answers by itself.
    holds: bool,
    held: Vec<SessionKey>,
    answer: Reply,
    _dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ctl");
        let unix = UnixListener::bind(&path).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = tcp.local_addr().unwrap();
        let poll = Poll::new().unwrap();
        let identity =
            Identity { server: "farmcastd/1.2.3".into(), node: "web03".into(), segment: "boston".into() };
        let gate = Gate::new(&key(NODE), key(DIRECTOR).public(), key(ENROLLER).public());
        let console = Console::new(identity, gate, vec![unix], vec![tcp], poll.registry(), FIRST).unwrap();
        assert_eq!(console.tokens(), 40..40 + 2 + 9);
        Self {
            poll,
            console,
            path,
            tcp: addr,
            now: Instant::from_nanos(1),
            calls: Vec::new(),
            holds: false,
            held: Vec::new(),
            answer: Reply::ok().with("text", "done"),
            _dir: dir,
        }
    }

    /// Turns until nothing happens any more.
    fn settle(&mut self) {
        let mut events = Events::with_capacity(16);
        loop {
            while let Err(e) = self.poll.poll(&mut events, Some(std::time::Duration::from_millis(30))) {
                assert_eq!(e.kind(), ErrorKind::Interrupted);
            }
            if events.is_empty() {
                return;
            }
            for event in &events {
                let registry = self.poll.registry();
                let call = self.console.handle_event(registry, event.token(), self.now).unwrap();
                let Some((key, call)) = call else { continue };
                self.calls.push(call);
                if self.holds {
                    self.held.push(key);
                } else {
                    self.console.reply(registry, key, &self.answer).unwrap();
                }
            }
        }
    }

    fn unix(&mut self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        self.settle();
        stream
    }

    fn tcp(&mut self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        self.settle();
        stream
    }

    /// All that the port says to these lines, after the greeting, until it closes at their end.
    fn session(&mut self, lines: &str) -> String {
        let mut stream = self.unix();
        stream.write_all(lines.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        self.settle();
        without_greeting(&rest(stream))
    }
}

fn rest(mut stream: impl Read) -> String {
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    all
}

fn without_greeting(all: &str) -> String {
    let (greeting, rest) = all.split_once('\n').unwrap();
    assert!(greeting.starts_with("100 farmcast-ctl/1 "), "{greeting}");
    rest.to_owned()
}

/// What has come so far.
fn now(stream: &mut UnixStream) -> String {
    let mut all = Vec::new();
    stream.set_nonblocking(true).unwrap();
    let end = stream.read_to_end(&mut all);
    stream.set_nonblocking(false).unwrap();
    assert!(end.is_ok() || end.unwrap_err().kind() == ErrorKind::WouldBlock);
    String::from_utf8(all).unwrap()
}

#[test]
fn the_greeting_says_who_speaks_and_what_the_session_may() {
    let mut lab = Lab::new();
    let greeting = |level| {
        format!(
            "100 farmcast-ctl/1 server=farmcastd/1.2.3 node=web03 seg=boston level={level} caps=json,watch\n"
        )
    };
    let mut unix = lab.unix();
    assert_eq!(now(&mut unix), greeting("admin"));
    assert_eq!(lab.call(DIRECTOR).hear(&mut lab), greeting("observe"));
    assert_eq!(lab.call(9).hear(&mut lab), greeting("guest"));
}

#[test]
fn levels_come_from_the_user_at_the_other_end() {
    let peer = |uid| Ok(Some(Peer { uid, gid: 7 }));
    assert_eq!(level_of(peer(0), 1000), Level::Admin);
    assert_eq!(level_of(peer(1000), 1000), Level::Admin);
    assert_eq!(level_of(peer(1001), 1000), Level::Observe);
    assert_eq!(level_of(Ok(None), 1000), Level::Guest);
    assert_eq!(level_of(Err(ErrorKind::Other.into()), 1000), Level::Observe);
}

#[test]
fn a_session_sent_at_once_is_answered_in_order_and_ends_with_its_input() {
    let mut lab = Lab::new();
    let said = lab.session(
        "ping\n@a show status\r\n\n@b version\nshow nothing\nshow members json\n@c ping\nunfinished",
    );
    assert_eq!(
        said,
        "200 ok text=pong\n\
         @a 200 ok text=done\n\
         @b 200 ok server=farmcastd/1.2.3 protocol=farmcast-ctl/1\n\
         405 unknown-command text=\"help lists the commands\"\n\
         200 {\"kind\":\"ok\",\"text\":\"done\"}\n\
         @c 200 ok text=pong\n"
    );
    assert_eq!(lab.calls, [Call::Show(Subject::Status), Call::Show(Subject::Members)]);
    assert_eq!(lab.console.sessions(), 0);
    let counters = lab.console.counters();
    assert_eq!((counters.requests, counters.refused, counters.broken), (6, 1, 0));
}

#[test]
fn help_and_commands_need_no_node() {
    let mut lab = Lab::new();
    let said = lab.session("help\nhelp show members\ncommands json\n");
    assert!(said.contains("201-command syntax=\"show members\" help="), "{said}");
    assert!(said.contains("\n200 ok syntax=\"show members\" level=observe "), "{said}");
    assert!(said.ends_with(&format!("200 {{\"kind\":\"ok\",\"rows\":{}}}\n", verbs::VERBS.len())), "{said}");
    assert!(lab.calls.is_empty());
}

#[test]
fn quit_ends_the_session_and_what_follows_is_not_read() {
    let mut lab = Lab::new();
    let mut stream = lab.unix();
    stream.write_all(b"show sites\nquit\nshutdown\n").unwrap();
    lab.settle();
    assert_eq!(without_greeting(&rest(stream)), "200 ok text=done\n200 ok text=bye\n");
    assert_eq!(lab.calls, [Call::Show(Subject::Sites)]);
    assert_eq!(lab.console.sessions(), 0);
}

#[test]
fn a_web_request_and_bytes_of_any_kind_are_refused_line_by_line() {
    let mut lab = Lab::new();
    let mut stream = lab.unix();
    let all: Vec<u8> = (0..=255).collect();
    stream.write_all(b"GET /o/ab HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    stream.write_all(&all.repeat(20)).unwrap();
    stream.write_all(b"\nping\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    lab.settle();
    let said = without_greeting(&rest(stream));
    let (last, refused) =
        said.lines().collect::<Vec<_>>().split_last().map(|(a, b)| (*a, b.to_vec())).unwrap();
    assert_eq!(last, "200 ok text=pong");
    assert!(refused.len() > 20 && refused.iter().all(|line| line.starts_with("400 syntax text=")), "{said}");
}

#[test]
fn a_line_too_long_is_refused_once_and_the_next_one_is_read() {
    let mut lab = Lab::new();
    let mut longest = "ping ".to_owned();
    longest.push_str(&" ".repeat(LINE_MAX - longest.len()));
    let said = lab.session(&format!("{longest}\r\n@x {}\nping\n", "y".repeat(20_000)));
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert_eq!((lines[0], lines[2]), ("200 ok text=pong", "200 ok text=pong"));
    assert!(lines[1].starts_with("@x 413 too-long "), "{said}");
}

#[test]
fn a_node_that_answers_later_keeps_the_order_and_may_answer_nobody() {
    let mut lab = Lab::new();
    lab.holds = true;
    let mut stream = lab.unix();
    stream.write_all(b"show store\nping\n").unwrap();
    lab.settle();
    assert_eq!(without_greeting(&now(&mut stream)), "");
    let key = lab.held.pop().unwrap();
    lab.console.reply(lab.poll.registry(), key, &lab.answer).unwrap();
    lab.settle();
    assert_eq!(now(&mut stream), "200 ok text=done\n200 ok text=pong\n");
    // A second answer to the same call, and one to a session that is gone, go nowhere.
    lab.console.reply(lab.poll.registry(), key, &lab.answer).unwrap();
    stream.write_all(b"show store\n").unwrap();
    lab.settle();
    lab.now += IDLE_TIME;
    lab.console.expire(lab.now);
    assert_eq!(lab.console.sessions(), 0);
    let mut other = lab.unix();
    lab.console.reply(lab.poll.registry(), lab.held[0], &lab.answer).unwrap();
    lab.settle();
    assert_eq!(without_greeting(&now(&mut other)), "");
}

#[test]
fn a_session_that_says_nothing_is_told_so_and_ended() {
    let mut lab = Lab::new();
    let mut stream = lab.unix();
    assert_eq!(lab.console.deadline(), Some(lab.now + IDLE_TIME));
    lab.now += Duration::from_secs(100);
    stream.write_all(b"ping\n").unwrap();
    lab.settle();
    let deadline = lab.console.deadline().unwrap();
    assert_eq!(deadline, lab.now + IDLE_TIME);
    lab.console.expire(deadline - Duration::from_nanos(1));
    assert_eq!(lab.console.sessions(), 1);
    lab.console.expire(deadline);
    assert_eq!((lab.console.sessions(), lab.console.deadline()), (0, None));
    assert!(rest(stream).ends_with("200 ok text=pong\n504 timeout text=\"nothing asked for 120.0s\"\n"));
    assert_eq!(lab.console.counters().idle, 1);
}

#[test]
fn sessions_are_counted_and_the_last_place_is_kept_for_our_own_user() {
    let mut lab = Lab::new();
    let guests: Vec<_> = (0..SESSIONS).map(|_| lab.tcp()).collect();
    assert_eq!(lab.console.sessions(), SESSIONS);
    assert_eq!(rest(lab.tcp()), "", "there is no TLS in which it could be told");
    let mut own = lab.unix();
    own.write_all(b"ping\n").unwrap();
    lab.settle();
    assert_eq!(without_greeting(&now(&mut own)), "200 ok text=pong\n");
    assert!(rest(lab.unix()).starts_with("508 busy "));
    drop(guests);
    lab.settle();
    assert_eq!(lab.console.sessions(), 1);
    assert_eq!(lab.console.counters().turned_away, 2);
}

#[test]
fn a_client_that_does_not_read_its_replies_is_turned_out() {
    let mut lab = Lab::new();
    lab.answer = Reply::ok().with("text", "x".repeat(50_000));
    let mut stream = lab.unix();
    for _ in 0..40 {
        stream.write_all(b"show counters\n").unwrap();
        lab.settle();
    }
    assert_eq!(lab.console.counters().slow_readers, 1);
    assert!(lab.calls.len() < 40, "no more is asked for it");
    // It may still read what was under way, and the reason.
    assert_eq!(lab.console.sessions(), 1);
    let mut all = Vec::new();
    while lab.console.sessions() > 0 {
        let mut buffer = [0; 65_536];
        let count = stream.read(&mut buffer).unwrap();
        all.extend_from_slice(&buffer[..count]);
        lab.settle();
    }
    let mut tail = Vec::new();
    // The kernel reports the requests left unread as a reset, after all that was sent.
    let _ = stream.read_to_end(&mut tail);
    all.extend_from_slice(&tail);
    let all = without_greeting(std::str::from_utf8(&all).unwrap());
    let (last, whole) = all.lines().collect::<Vec<_>>().split_last().map(|(a, b)| (*a, b.to_vec())).unwrap();
    assert!(last == "509 slow-reader text=\"more than 262144 bytes waited to be read\"", "{last:.80}");
    assert!(whole.iter().all(|line| line.len() == "200 ok text=".len() + 50_000));
}

#[test]
fn a_client_turned_out_that_still_does_not_read_is_dropped() {
    let mut lab = Lab::new();
    lab.answer = Reply::ok().with("text", "x".repeat(50_000));
    let mut stream = lab.unix();
    while lab.console.counters().slow_readers == 0 {
        stream.write_all(b"show counters\n").unwrap();
        lab.settle();
    }
    let deadline = lab.console.deadline().unwrap();
    assert_eq!(deadline, lab.now + LEAVE_TIME);
    lab.console.expire(deadline);
    assert_eq!(lab.console.sessions(), 0);
}

#[test]
fn a_reply_beyond_the_bound_is_replaced_by_its_size() {
    let mut lab = Lab::new();
    lab.answer = Reply::ok().with("text", "x".repeat(REPLIES_MAX));
    let said = lab.session("@1 show members\nping\n");
    assert_eq!(
        said,
        "@1 413 too-long text=\"the reply would be 262160 bytes\" max_bytes=262144\n200 ok text=pong\n"
    );
}

#[test]
fn who_watches_hears_what_happens_between_replies_and_of_its_topics_only() {
    let mut lab = Lab::new();
    lab.holds = true;
    let (mut all, mut some, mut none) = (lab.unix(), lab.unix(), lab.unix());
    all.write_all(b"@w watch json\n").unwrap();
    some.write_all(b"watch site trouble\nshow store\n").unwrap();
    none.write_all(b"ping\nwatch weather\n").unwrap();
    lab.settle();
    let topics = "leader,member,session,assignment,site,segment,trouble";
    assert_eq!(
        without_greeting(&now(&mut all)),
        format!("@w 200 {{\"kind\":\"ok\",\"topics\":\"{topics}\"}}\n")
    );
    assert_eq!(without_greeting(&now(&mut some)), "200 ok topics=site,trouble\n");
    let refused = format!("422 bad-value arg=weather text=\"the topics are {topics}\"\n");
    assert_eq!(without_greeting(&now(&mut none)), format!("200 ok text=pong\n{refused}"));

    lab.console.announce(Topic::Member, &Event::new("member").with("what", "joined"));
    lab.console.announce(Topic::Site, &Event::new("site").with("what", "live"));
    assert_eq!(
        now(&mut all),
        "210+{\"kind\":\"member\",\"what\":\"joined\"}\n210+{\"kind\":\"site\",\"what\":\"live\"}\n"
    );
    // Its reply is still to come, and whole.
    assert_eq!(now(&mut some), "210+site what=live\n");
    let key = lab.held.pop().unwrap();
    lab.console.reply(lab.poll.registry(), key, &lab.answer).unwrap();
    assert_eq!(now(&mut some), "200 ok text=done\n");
    assert_eq!(now(&mut none), "");
}

#[test]
fn who_watches_need_say_nothing_and_is_dropped_where_it_does_not_read() {
    let mut lab = Lab::new();
    let mut stream = lab.unix();
    stream.write_all(b"watch\n").unwrap();
    lab.settle();
    now(&mut stream);
    lab.now += IDLE_TIME;
    lab.console.expire(lab.now);
    assert_eq!(now(&mut stream), "210+alive\n");
    assert_eq!((lab.console.sessions(), lab.console.deadline()), (1, Some(lab.now + IDLE_TIME)));
    let event = Event::new("trouble").with("text", "x".repeat(10_000));
    for _ in 0..200 {
        lab.console.announce(Topic::Trouble, &event);
    }
    assert_eq!(lab.console.counters().slow_readers, 1);
    lab.now = lab.console.deadline().unwrap();
    lab.console.expire(lab.now);
    assert_eq!(lab.console.sessions(), 0);
}
