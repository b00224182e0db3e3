//! What the two processes of a node say to each other, over a real pair of sockets: the applier trusts net no
//! more than net trusts the network.

use super::message::{announce, name};
use crate::seal::AUTHORITY;
use farmcast::applier::ipc::{MESSAGE_MAX, Reply, Request, Service, SiteConfig, pair};
use farmcast::wire::control::SiteState;
use farmcast::wire::id::{AssignmentId, OrderId, RunId};
use farmcast::wire::report::{Outcome, Reason};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

/// The first byte tells who hears the rest. What is heard is said again, and must be the same bytes.
pub fn run(data: &[u8]) -> bool {
    let Some((choice, message)) = data.split_first() else { return false };
    if message.is_empty() || message.len() > MESSAGE_MAX {
        return false;
    }
    if choice % 2 == 0 { applier_hears(message) } else { net_hears(message) }
}

fn applier_hears(message: &[u8]) -> bool {
    let (net, applier) = raw_pair();
    send(net.as_raw_fd(), message, MsgFlags::empty()).expect("the other end is open");
    match Service::from(applier).recv() {
        Ok(Some((request, None))) => {
            let (channel, service) = pair().expect("sockets are to be had");
            match channel.send(&request, None) {
                Ok(()) => assert_eq!(heard(&OwnedFd::from(service)), message),
                // Only a relay of what is longer than any order; such a request is not decoded.
                Err(error) => panic!("{request:?} cannot be said again: {error}"),
            }
            true
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => false,
        other => panic!("{other:?}"),
    }
}

fn net_hears(message: &[u8]) -> bool {
    let (channel, service) = pair().expect("sockets are to be had");
    send(OwnedFd::from(service).as_raw_fd(), message, MsgFlags::empty()).expect("the other end is open");
    match channel.recv() {
        Ok(Some(reply)) => {
            let (net, applier) = raw_pair();
            Service::from(applier).send(&reply).expect("the other end is open");
            assert_eq!(heard(&net), message);
            true
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => false,
        other => panic!("{other:?}"),
    }
}

fn raw_pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty())
        .expect("sockets are to be had")
}

fn heard(socket: &OwnedFd) -> Vec<u8> {
    let mut buffer = vec![0; MESSAGE_MAX + 1];
    let len = recv(socket.as_fd().as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("something was said");
    buffer.truncate(len);
    buffer
}

pub fn seeds() -> Vec<Vec<u8>> {
    let keys = AUTHORITY.public();
    let requests = [
        Request::Configure { publisher: keys, director: keys, sites: 2 },
        Request::Site(SiteConfig { name: name("www"), root: PathBuf::from("/srv/www"), keep: 2 }),
        Request::Stage {
            run: RunId(4),
            assignment: AssignmentId(5),
            shape: announce().shape,
            clock_offset_ns: 6,
        },
        Request::Order { document: vec![7; 120], clock_offset_ns: -5 },
        Request::Key { document: vec![7; 260] },
    ];
    let failed = Outcome::Failed { reason: Reason::System, text: "no".to_owned() };
    let replies = [
        Reply::Sites(vec![SiteState { site: name("www"), version: Some(AssignmentId(5)) }]),
        Reply::Staged { run: RunId(4), assignment: AssignmentId(5), outcome: Outcome::Staged },
        Reply::Ordered { run: RunId(4), order: OrderId(9), site: name("www"), outcome: failed },
        Reply::Log { level: log::Level::Warn, text: "staged".to_owned() },
        Reply::Wants {
            object: announce().shape.name,
            run: Some(RunId(4)),
            request: super::document::key_request([5; 32]),
        },
    ];
    let mut seeds = Vec::new();
    for request in requests {
        let (channel, service) = pair().expect("sockets are to be had");
        channel.send(&request, None).expect("the other end is open");
        seeds.push([&[0][..], &heard(&OwnedFd::from(service))].concat());
    }
    for reply in replies {
        let (net, applier) = raw_pair();
        Service::from(applier).send(&reply).expect("the other end is open");
        seeds.push([&[1][..], &heard(&net)].concat());
    }
    seeds
}
