use super::*;
use mio::{Events, Poll};

/// Both ends of a Unix connection: ours, and one by hand.
fn pair(received_max: usize, outgoing_max: usize) -> (Stream, std::os::unix::net::UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::from(theirs));
    theirs.set_nonblocking(false).unwrap();
    (Stream::unix(ours, received_max, outgoing_max), theirs)
}

#[test]
fn what_comes_in_stops_at_the_bound_and_goes_on_when_consumed() {
    let (mut stream, mut peer) = pair(10, 0);
    assert_eq!(stream.fill().unwrap(), Fill::Drained);
    peer.write_all(b"0123456789abc").unwrap();
    assert_eq!(stream.fill().unwrap(), Fill::Full);
    assert_eq!(stream.received(), b"0123456789");
    stream.consume(8);
    assert_eq!(stream.fill().unwrap(), Fill::Drained);
    assert_eq!(stream.received(), b"89abc");
    drop(peer);
    assert_eq!(stream.fill().unwrap(), Fill::Ended);
    assert_eq!(stream.fill().unwrap(), Fill::Ended);
    assert_eq!(stream.received(), b"89abc");
}

#[test]
fn what_goes_out_is_taken_whole_or_not_at_all() {
    let (mut stream, mut peer) = pair(0, 8);
    stream.send(b"12345").unwrap();
    assert_eq!(stream.send(b"6789"), Err(Overflow { waiting: 5, bound: 8 }));
    stream.send(b"678").unwrap();
    assert!(stream.flush().unwrap());
    stream.send(b"x").unwrap();
    stream.close_after_flush();
    assert!(!stream.is_finished());
    assert!(stream.flush().unwrap() && stream.is_finished());
    drop(stream);
    let mut all = String::new();
    peer.read_to_string(&mut all).unwrap();
    assert_eq!(all, "12345678x");
}

#[test]
fn a_full_kernel_leaves_the_rest_waiting() {
    let (mut stream, mut peer) = pair(0, 8 << 20);
    let line = [b"x".repeat(999), b"\n".to_vec()].concat();
    stream.send(&line.repeat(4000)).unwrap();
    assert!(!stream.flush().unwrap());
    // What was sent is forgotten here, but not that a line is under way.
    stream.send(&line).unwrap();
    let before = stream.waiting();
    assert!(before > 0);
    let dropped = stream.drop_unsent_lines();
    assert!(dropped > 0 && stream.waiting() < 1000, "{before} {dropped}");
    stream.send(b"509 slow-reader\n").unwrap();
    stream.close_after_flush();
    let mut all = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    while !stream.is_finished() {
        let count = peer.read(&mut buffer).unwrap();
        all.extend_from_slice(&buffer[..count]);
        stream.flush().unwrap();
    }
    drop(stream);
    peer.read_to_end(&mut all).unwrap();
    let lines: Vec<_> = all.split_inclusive(|c| *c == b'\n').collect();
    let (last, whole) = lines.split_last().unwrap();
    assert_eq!(*last, b"509 slow-reader\n");
    assert!(whole.iter().all(|sent| *sent == line));
}

#[test]
fn the_kernel_knows_who_is_at_the_other_end() {
    let (stream, _peer) = pair(0, 0);
    let own = Peer { uid: nix::unistd::getuid().as_raw(), gid: nix::unistd::getgid().as_raw() };
    assert_eq!(stream.peer().unwrap(), Some(own));
}

#[test]
fn asking_again_brings_an_event_without_any_change() {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(4);
    let (mut stream, _peer) = pair(1, 1);
    stream.register(poll.registry(), Token(3)).unwrap();
    let mut heard = |poll: &mut Poll| {
        poll.poll(&mut events, Some(std::time::Duration::from_millis(100))).unwrap();
        events.iter().any(|event| event.token() == Token(3))
    };
    assert!(heard(&mut poll));
    assert!(!heard(&mut poll));
    stream.rearm(poll.registry(), Token(3)).unwrap();
    assert!(heard(&mut poll));
}
