//! Notifications handed to text ports that take them, refuse them, are somebody else's, or hang.

use super::*;
use crate::wire::id::{NodeId, unhex};
use crate::wire::notify::NextLeader;
use crate::wire::{Decoder, tls};
use rustls::{ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader};
use std::thread::JoinHandle;

/// The text port of node `number`, which answers the two requests that it hears so; what it heard.
fn port(number: u8, answers: [&'static str; 2]) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let heard = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let connection = ServerConnection::new(tls::server(&SigningKey::from_seed([number; 32]))).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        let mut heard = Vec::new();
        if stream.write_all(b"100 farmcast-ctl/1 level=guest\n").and_then(|()| stream.flush()).is_err() {
            return heard;
        }
        let mut stream = BufReader::new(stream);
        for answer in answers {
            let mut line = String::new();
            if stream.read_line(&mut line).is_err() {
                break;
            }
            heard.push(line.trim_end().to_owned());
            let _ = stream.get_mut().write_all(answer.as_bytes());
        }
        heard
    });
    (addr, heard)
}

/// Hands a notification to node 4 at this address; how that ended.
fn hand(text: SocketAddr) -> Result<(), String> {
    let mut puller = Puller::new(1);
    let to = NodeId::of_key(&SigningKey::from_seed([4; 32]).public().0);
    let next = NextLeader { text, notification: vec![1, 2] };
    let registry = puller.poll.registry();
    let mut end = puller.transfers.hand(registry, AssignmentId(7), to, &next, puller.now);
    let mut events = Events::with_capacity(16);
    while end.is_none() {
        while puller.poll.poll(&mut events, Some(std::time::Duration::from_secs(3))).is_err() {}
        let (registry, store) = (puller.poll.registry(), &mut puller.store);
        let ended = if events.is_empty() {
            puller.now = puller.transfers.deadline().expect("something is under way");
            puller.transfers.expire(registry, store, puller.now)
        } else {
            let tokens: Vec<Token> = events.iter().map(mio::event::Event::token).collect();
            let handle = |token| puller.transfers.handle_event(registry, store, token, puller.now);
            tokens.into_iter().flat_map(handle).collect()
        };
        end = ended.into_iter().map(|(done, _)| done).next();
    }
    assert_eq!(puller.transfers.deadline(), None, "nothing is left behind");
    match end {
        Some(Done::Handed(AssignmentId(7), end)) => end,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_next_leader_hears_who_hands_it_what() {
    let (addr, heard) = port(4, ["200 ok level=document\n", "202 accepted\n"]);
    hand(addr).unwrap();
    let heard = heard.join().unwrap();
    let certificate = unhex(heard[0].strip_prefix("hello document=").unwrap()).unwrap();
    let certificate = Certificate::decode(&mut Decoder::new(&certificate)).unwrap();
    assert_eq!(certificate, caller(9).certificate);
    assert_eq!(heard[1], "notify document=0102");
}

#[test]
fn refusals_come_back_word_by_word() {
    let (addr, _heard) = port(4, ["200 ok level=document\n", "503 not-ready text=\"not the leader\"\n"]);
    assert_eq!(hand(addr).unwrap_err(), "503 not-ready text=\"not the leader\"");
    let (addr, _heard) = port(4, ["403 denied text=\"not of this farm\"\n", ""]);
    assert_eq!(hand(addr).unwrap_err(), "403 denied text=\"not of this farm\"");
}

#[test]
fn another_node_than_the_notification_names_is_told_nothing() {
    let (addr, heard) = port(5, ["", ""]);
    let error = hand(addr).unwrap_err();
    assert!(error.contains("answers, not"), "{error}");
    assert!(heard.join().unwrap().iter().all(String::is_empty));
}

#[test]
fn a_port_that_hangs_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(hand(listener.local_addr().unwrap()).unwrap_err(), "no answer in time");
}
