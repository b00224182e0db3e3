//! Pulls from servers that behave, and from servers that do not. Real sockets, made-up time.

mod handing;

use super::*;
use crate::node::store::tests::object;
use crate::wire::assignment::{LEAF_LEN, Shape};
use crate::wire::seal::{Certificate, SigningKey};
use mio::{Events, Poll};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const LEAVES: u32 = 70;

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    /// As it should.
    Ranges,
    /// It knows no ranges.
    Whole,
    /// It does not have it.
    Lacks,
    /// A leaf in the middle of what it sends is wrong.
    Wrong,
    /// It sends a little and falls silent, but does not close.
    Trickles,
    /// It closes in the middle.
    Breaks,
}

struct Place {
    addr: SocketAddr,
    /// Ranges that it was asked for.
    asked: Arc<Mutex<Vec<(usize, usize)>>>,
    clients: Arc<AtomicUsize>,
}

fn place(file: &Arc<Vec<u8>>, conduct: Conduct) -> Place {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (asked, clients) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (file, told, count) = (Arc::clone(file), Arc::clone(&asked), Arc::clone(&clients));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (file, told) = (Arc::clone(&file), Arc::clone(&told));
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                let range = head.lines().find_map(|line| line.strip_prefix("Range: bytes=")).unwrap();
                let (first, last) = range.split_once('-').unwrap();
                let (first, end): (usize, usize) =
                    (first.parse().unwrap(), last.parse::<usize>().unwrap() + 1);
                told.lock().unwrap().push((first, end));
                let mut body = file[first..end].to_vec();
                let mut status = "206 Partial Content";
                match conduct {
                    Conduct::Ranges => {}
                    Conduct::Whole => (status, body) = ("200 OK", file.to_vec()),
                    Conduct::Lacks => (status, body) = ("404 Not Found", b"none".to_vec()),
                    // The command buffer is right, or nothing could be judged.
                    Conduct::Wrong if body.len() > LEAF_LEN as usize => {
                        let middle = body.len() / 2;
                        body[middle] ^= 1;
                    }
                    Conduct::Wrong | Conduct::Trickles | Conduct::Breaks => {}
                }
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                let sent = match conduct {
                    Conduct::Trickles | Conduct::Breaks if body.len() > LEAF_LEN as usize => 100_000,
                    _ => body.len(),
                };
                // A client that has what it wanted leaves.
                let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&body[..sent]));
                if conduct == Conduct::Trickles {
                    let _ = stream.read(&mut byte);
                }
            });
        }
    });
    Place { addr, asked, clients }
}

/// A node that has joined the farm of enroller 1.
fn caller(number: u8) -> Caller {
    let key = SigningKey::from_seed([number; 32]);
    let certificate = Certificate::issue(&SigningKey::from_seed([1; 32]), key.public(), true, 1);
    Caller { key, certificate }
}

struct Puller {
    poll: Poll,
    transfers: Transfers,
    store: Store,
    shape: Shape,
    file: Arc<Vec<u8>>,
    now: Instant,
    _dir: tempfile::TempDir,
}

impl Puller {
    fn new(at_once: usize) -> Self {
        let publisher = SigningKey::from_seed([1; 32]);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
        let (shape, file) = object(&publisher, LEAVES);
        let file = Arc::new(file);
        let limits = PullLimits { at_once, rate_min: 1 << 20 };
        let ccm = SocketAddr::from(([127, 0, 0, 1], 1));
        let transfers = Transfers::new(Token(8), ccm, limits, caller(9));
        let now = Instant::from_nanos(1);
        Self { poll: Poll::new().unwrap(), transfers, store, shape, file, now, _dir: dir }
    }

    /// Pulls until the end, without the word that it has begun. Where nothing happens for a while, time goes on.
    fn pull(&mut self, sources: &[&Place]) -> Done {
        self.store.create(&self.shape).unwrap();
        let sources: Vec<SocketAddr> = sources.iter().map(|place| place.addr).collect();
        let registry = self.poll.registry();
        let mut done: Vec<Done> =
            self.transfers.fetch(registry, &self.store, self.shape, &sources, self.now).into_iter().collect();
        let mut events = Events::with_capacity(16);
        for _ in 0..20_000 {
            done.retain(|done| !matches!(done, Done::Begun(_)));
            if let Some(end) = done.pop() {
                assert!(done.is_empty(), "{done:?} and {end:?}");
                return end;
            }
            // Long enough that a busy machine is not taken for a server that has nothing more to say.
            let pause = std::time::Duration::from_secs(3);
            while self.poll.poll(&mut events, Some(pause)).is_err() {}
            let tokens: Vec<Token> = events.iter().map(mio::event::Event::token).collect();
            let (registry, store) = (self.poll.registry(), &mut self.store);
            let ended = if tokens.is_empty() {
                self.now = self.transfers.deadline().expect("something is under way");
                self.transfers.expire(registry, store, self.now)
            } else {
                let mut all = Vec::new();
                for token in tokens {
                    all.extend(self.transfers.handle_event(registry, store, token, self.now));
                }
                all
            };
            done.extend(ended.into_iter().map(|(done, _)| done));
        }
        panic!("no end");
    }

    fn assert_whole(&self, end: &Done) {
        assert!(matches!(end, Done::Fetched(name) if *name == self.shape.name), "{end:?}");
        assert!(self.store.mapping(&self.shape.name).unwrap()[..] == self.file[..]);
    }
}

fn asked(place: &Place) -> usize {
    place.asked.lock().unwrap().iter().map(|(start, end)| end - start).sum()
}

#[test]
fn a_server_that_knows_no_ranges_is_a_source_as_well() {
    for conduct in [Conduct::Ranges, Conduct::Whole] {
        let mut puller = Puller::new(1);
        let source = place(&puller.file, conduct);
        let end = puller.pull(&[&source]);
        puller.assert_whole(&end);
        assert_eq!(source.clients.load(Ordering::SeqCst), 2, "the commands, then the data");
    }
}

#[test]
fn a_source_that_fails_is_replaced_and_what_it_brought_counts() {
    for conduct in [Conduct::Lacks, Conduct::Breaks, Conduct::Trickles, Conduct::Wrong] {
        let mut puller = Puller::new(1);
        let (bad, good) = (place(&puller.file, conduct), place(&puller.file, Conduct::Ranges));
        let end = puller.pull(&[&bad, &good]);
        puller.assert_whole(&end);
        assert!(bad.clients.load(Ordering::SeqCst) > 0, "{conduct:?}");
        if conduct == Conduct::Wrong {
            // The first half was right.
            assert!(asked(&good) < puller.file.len() * 3 / 5, "{} of {}", asked(&good), puller.file.len());
        }
    }
}

#[test]
fn who_sent_wrong_leaves_is_not_asked_again_while_another_is_there() {
    let mut puller = Puller::new(1);
    let (bad, good) = (place(&puller.file, Conduct::Wrong), place(&puller.file, Conduct::Lacks));
    let end = puller.pull(&[&bad, &good]);
    assert!(matches!(&end, Done::FetchFailed(_, error) if error.fatal.is_none()), "{end:?}");
    let before = bad.clients.load(Ordering::SeqCst);
    let better = place(&puller.file, Conduct::Ranges);
    let end = puller.pull(&[&bad, &better]);
    puller.assert_whole(&end);
    assert_eq!(bad.clients.load(Ordering::SeqCst), before, "it is remembered");
}

#[test]
fn two_sources_share_the_work_and_the_slow_one_delays_nobody() {
    let mut puller = Puller::new(2);
    let (first, second) = (place(&puller.file, Conduct::Ranges), place(&puller.file, Conduct::Ranges));
    let end = puller.pull(&[&first, &second]);
    puller.assert_whole(&end);
    assert!(asked(&first) > 0 && asked(&second) > puller.file.len() / 3);

    let mut puller = Puller::new(2);
    let (slow, good) = (place(&puller.file, Conduct::Trickles), place(&puller.file, Conduct::Ranges));
    let end = puller.pull(&[&slow, &good]);
    puller.assert_whole(&end);
    let fetched = puller.transfers.fetched_bytes as usize;
    assert!(fetched < puller.file.len() + (1 << 20), "{fetched} bytes: next to nothing came twice");
}

#[test]
fn a_source_that_is_not_there_fails_the_pull_with_its_address() {
    let mut puller = Puller::new(1);
    let gone = Place {
        addr: TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
        asked: Arc::default(),
        clients: Arc::default(),
    };
    let end = puller.pull(&[&gone]);
    let Done::FetchFailed(_, error) = end else { panic!("{end:?}") };
    assert!(error.text.contains(&gone.addr.to_string()), "{error}");
}
