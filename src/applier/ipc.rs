//! What the two processes of a node say to each other.
//!
//! ```text
//!  0  version (1)
//!  1  kind
//!  2  fields
//! ```
//! One message is one packet of at most [`MESSAGE_MAX`] bytes. Net sends [`Request`]s, the applier
//! answers with [`Reply`]s, each subject by its own reply, in the order in which it gets done.

use crate::io::packet::PacketSocket;
use crate::wire::assignment::Shape;
use crate::wire::control::{Profile, SiteState};
use crate::wire::id::{AssignmentId, Name, ObjectName, OrderId, RunId};
use crate::wire::key_grant::{KeyGrant, KeyRequest};
use crate::wire::order::Order;
use crate::wire::report::{Outcome, Reason, StatusReport};
use crate::wire::scrub::Flaw;
use crate::wire::seal::PublicKey;
use crate::wire::{Decoder, Encoder, Malformed};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const VERSION: u8 = 1;
/// Longest message in bytes: the states of 256 sites with the longest names fit.
pub const MESSAGE_MAX: usize = 16 * 1024;
/// Longest path of a site's root in bytes, as the kernel has it.
const ROOT_MAX: usize = 4_095;
/// Longest path of an entry that is told; those that content cannot hold may be longer than any it can.
const PATH_MAX: usize = 8 * 1024;
/// Longest text of a log line in bytes.
const LOG_MAX: usize = 1_000;

/// A site as the node's file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteConfig {
    pub name: Name,
    pub root: PathBuf,
    /// Versions that stay beside the live one, 1..=64.
    pub keep: u8,
}

/// What net asks of the applier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The first message: the keys that assignments and orders must be signed with. `sites` messages
    /// [`Request::Site`] follow, nothing between.
    Configure { publisher: PublicKey, director: PublicKey, sites: u16 },
    /// One site.
    Site(SiteConfig),
    /// Stage what can be staged of the assignment whose file goes with this message, opened for reading. Its
    /// command buffer is there, and of the rest the first `until` bytes; [`Request::Stage`] follows when all is.
    Begin { shape: Shape, until: u64 },
    /// Of the file of that assignment so many bytes are there now.
    Arrived { object: ObjectName, until: u64 },
    /// Stage the assignment whose file goes with this message, opened for reading, and carry out the order that is in
    /// it, if there is one. `clock_offset_ns` as of [`Request::Order`].
    Stage { run: RunId, assignment: AssignmentId, shape: Shape, clock_offset_ns: i64 },
    /// Carry out a signed order. `clock_offset_ns` is the CCM's clock minus this machine's monotonic one.
    Order { document: Vec<u8>, clock_offset_ns: i64 },
    /// Compare what is live of a site with what was signed, beside everything else.
    Scrub { number: u64, site: Name },
    /// A comparison of this version found something: the site is in doubt if it still has it.
    Doubt { site: Name, version: AssignmentId },
    /// The CCM's answer to what [`Reply::Wants`] asked for.
    Key { document: Vec<u8> },
}

/// What the applier tells net.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The version of every site: once on start and after every switch.
    Sites(Vec<SiteState>),
    /// The answer to [`Request::Stage`]; switched, where it went live by the order that is in it.
    Staged { run: RunId, assignment: AssignmentId, outcome: Outcome },
    /// The answer to [`Request::Order`]. An order that does not open is only logged: nobody could tell
    /// whose run it was of.
    Ordered { run: RunId, order: OrderId, site: Name, outcome: Outcome },
    /// What a comparison found; net counts on [`Reply::Scrubbed`] alone.
    Flawed { number: u64, path: Vec<u8>, flaw: Flaw },
    /// How far a comparison is.
    Scrubbed { number: u64, entries: u64, bytes: u64, flaws: u64, ended: Ended },
    /// The object is encrypted: what was asked for can be done when the CCM has answered this, and is to be asked for
    /// again then. `run` is that of the staging; `None` where it was only to begin.
    Wants { object: ObjectName, run: Option<RunId>, request: KeyRequest },
    /// A line for the log of the node.
    Log { level: log::Level, text: String },
}

/// Whether a comparison has come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    No,
    Well,
    /// Why it could not.
    Badly(String),
}

impl Request {
    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u8(VERSION);
        match self {
            Self::Configure { publisher, director, sites } => {
                out.u8(1);
                publisher.encode(&mut out);
                director.encode(&mut out);
                out.u16(*sites);
            }
            Self::Site(SiteConfig { name, root, keep }) => {
                out.u8(2);
                name.encode(&mut out);
                out.bytes16(root.as_os_str().as_bytes()).u8(*keep);
            }
            Self::Stage { run, assignment, shape, clock_offset_ns } => {
                out.u8(3);
                run.encode(&mut out);
                assignment.encode(&mut out);
                shape.encode(&mut out);
                out.i64(*clock_offset_ns);
            }
            Self::Order { document, clock_offset_ns } => {
                out.u8(4).bytes16(document).i64(*clock_offset_ns);
            }
            Self::Begin { shape, until } => {
                out.u8(5);
                shape.encode(&mut out);
                out.u64(*until);
            }
            Self::Arrived { object, until } => {
                out.u8(6);
                object.encode(&mut out);
                out.u64(*until);
            }
            Self::Scrub { number, site } => {
                out.u8(7).u64(*number);
                site.encode(&mut out);
            }
            Self::Doubt { site, version } => {
                out.u8(8);
                site.encode(&mut out);
                version.encode(&mut out);
            }
            Self::Key { document } => {
                out.u8(9).bytes16(document);
            }
        }
        out.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = open(bytes)?;
        let request = match from.u8("request")? {
            1 => Self::Configure {
                publisher: PublicKey::decode(&mut from)?,
                director: PublicKey::decode(&mut from)?,
                sites: from.u16("sites")?,
            },
            2 => Self::Site(SiteConfig {
                name: Name::decode(&mut from)?,
                root: PathBuf::from(OsStr::from_bytes(from.bytes16(ROOT_MAX, "root")?)),
                keep: from.u8("releases to keep")?,
            }),
            3 => Self::Stage {
                run: RunId::decode(&mut from)?,
                assignment: AssignmentId::decode(&mut from)?,
                shape: Shape::decode(&mut from)?,
                clock_offset_ns: from.i64("clock offset")?,
            },
            4 => Self::Order {
                document: from.bytes16(Order::MAX, "order")?.to_vec(),
                clock_offset_ns: from.i64("clock offset")?,
            },
            5 => Self::Begin { shape: Shape::decode(&mut from)?, until: from.u64("bytes")? },
            6 => Self::Arrived { object: ObjectName::decode(&mut from)?, until: from.u64("bytes")? },
            7 => Self::Scrub { number: from.u64("number")?, site: Name::decode(&mut from)? },
            8 => Self::Doubt { site: Name::decode(&mut from)?, version: AssignmentId::decode(&mut from)? },
            9 => Self::Key { document: from.bytes16(KeyGrant::MAX, "key")?.to_vec() },
            _ => return Err(Malformed::Unknown("request")),
        };
        from.finish()?;
        Ok(request)
    }
}

impl Reply {
    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u8(VERSION);
        match self {
            Self::Sites(states) => {
                out.u8(1).list(states, |out, state| {
                    state.site.encode(out);
                    out.option(state.version.as_ref(), |out, version| version.encode(out));
                });
            }
            Self::Staged { run, assignment, outcome } => {
                out.u8(2);
                run.encode(&mut out);
                assignment.encode(&mut out);
                encode_outcome(&mut out, outcome);
            }
            Self::Ordered { run, order, site, outcome } => {
                out.u8(3);
                run.encode(&mut out);
                order.encode(&mut out);
                site.encode(&mut out);
                encode_outcome(&mut out, outcome);
            }
            Self::Log { level, text } => {
                out.u8(4).u8(*level as u8).str16(&text[..text.floor_char_boundary(LOG_MAX)]);
            }
            Self::Flawed { number, path, flaw } => {
                out.u8(5).u64(*number).bytes16(path).u8(*flaw as u8);
            }
            Self::Scrubbed { number, entries, bytes, flaws, ended } => {
                out.u8(6).u64(*number).u64(*entries).u64(*bytes).u64(*flaws);
                match ended {
                    Ended::No => out.u8(0),
                    Ended::Well => out.u8(1),
                    Ended::Badly(text) => out.u8(2).str16(&text[..text.floor_char_boundary(LOG_MAX)]),
                };
            }
            Self::Wants { object, run, request } => {
                out.u8(7);
                object.encode(&mut out);
                out.option(run.as_ref(), |out, run| run.encode(out));
                request.encode(&mut out);
            }
        }
        out.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = open(bytes)?;
        let reply = match from.u8("reply")? {
            1 => Self::Sites(from.list(Profile::SITES_MAX, "sites", |from| {
                Ok(SiteState {
                    site: Name::decode(from)?,
                    version: from.option("version", AssignmentId::decode)?,
                })
            })?),
            2 => Self::Staged {
                run: RunId::decode(&mut from)?,
                assignment: AssignmentId::decode(&mut from)?,
                outcome: decode_outcome(&mut from)?,
            },
            3 => Self::Ordered {
                run: RunId::decode(&mut from)?,
                order: OrderId::decode(&mut from)?,
                site: Name::decode(&mut from)?,
                outcome: decode_outcome(&mut from)?,
            },
            4 => {
                let code = usize::from(from.u8("level")?);
                let level = log::Level::iter()
                    .find(|level| *level as usize == code)
                    .ok_or(Malformed::Unknown("level"))?;
                Self::Log { level, text: from.str16(LOG_MAX, "text")?.to_owned() }
            }
            5 => Self::Flawed {
                number: from.u64("number")?,
                path: from.bytes16(PATH_MAX, "path")?.to_vec(),
                flaw: Flaw::decode(&mut from)?,
            },
            6 => Self::Scrubbed {
                number: from.u64("number")?,
                entries: from.u64("entries")?,
                bytes: from.u64("bytes")?,
                flaws: from.u64("flaws")?,
                ended: match from.u8("end")? {
                    0 => Ended::No,
                    1 => Ended::Well,
                    2 => Ended::Badly(from.str16(LOG_MAX, "text")?.to_owned()),
                    _ => return Err(Malformed::Unknown("end")),
                },
            },
            7 => Self::Wants {
                object: ObjectName::decode(&mut from)?,
                run: from.option("run", RunId::decode)?,
                request: KeyRequest::decode(&mut from)?,
            },
            _ => return Err(Malformed::Unknown("reply")),
        };
        from.finish()?;
        Ok(reply)
    }
}

fn open(bytes: &[u8]) -> Result<Decoder<'_>, Malformed> {
    let mut from = Decoder::new(bytes);
    if from.u8("version")? == VERSION { Ok(from) } else { Err(Malformed::Unknown("version")) }
}

fn encode_outcome(out: &mut Encoder, outcome: &Outcome) {
    match outcome {
        Outcome::Staged => {
            out.u8(1);
        }
        Outcome::Switched { at } => {
            out.u8(2).u64(*at);
        }
        Outcome::Failed { reason, text } => {
            let end = text.floor_char_boundary(StatusReport::TEXT_MAX);
            out.u8(3).u8(*reason as u8).str16(&text[..end]);
        }
    }
}

fn decode_outcome(from: &mut Decoder<'_>) -> Result<Outcome, Malformed> {
    Ok(match from.u8("outcome")? {
        1 => Outcome::Staged,
        2 => Outcome::Switched { at: from.u64("at")? },
        3 => Outcome::Failed {
            reason: Reason::from_code(from.u8("reason")?)?,
            text: from.str16(StatusReport::TEXT_MAX, "text")?.to_owned(),
        },
        _ => return Err(Malformed::Unknown("outcome")),
    })
}

/// Net's end of the socket.
#[derive(Debug)]
pub struct Channel(PacketSocket);

/// The applier's end of the socket.
#[derive(Debug)]
pub struct Service(PacketSocket);

/// The two ends, connected; both block.
pub fn pair() -> io::Result<(Channel, Service)> {
    let (net, applier) = PacketSocket::pair()?;
    Ok((Channel(net), Service(applier)))
}

impl Channel {
    /// For the loop, which waits for the descriptor to be readable instead.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.0.set_nonblocking(on)
    }

    /// Sends a request, with [`Request::Stage`] and [`Request::Begin`] the file. `WouldBlock` where the applier is
    /// behind by more requests than the socket holds: send it again later. `BrokenPipe` where it is gone.
    /// `InvalidInput` where a document or a path is longer than any that is valid.
    pub fn send(&self, request: &Request, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let too_long = match request {
            Request::Order { document, .. } => document.len() > Order::MAX,
            Request::Site(site) => site.root.as_os_str().len() > ROOT_MAX,
            _ => false,
        };
        if too_long {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "longer than any valid request"));
        }
        self.0.send(&request.encode(), file)
    }

    /// The next reply; `None` once the applier is gone, `WouldBlock` where there is none yet.
    pub fn recv(&self) -> io::Result<Option<Reply>> {
        let mut buffer = [0; MESSAGE_MAX];
        match self.0.recv(&mut buffer)? {
            Some((len, _)) => Ok(Some(Reply::decode(&buffer[..len]).map_err(invalid)?)),
            None => Ok(None),
        }
    }
}

impl Service {
    /// Another descriptor of the same end.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::from(self.0.as_fd().try_clone_to_owned()?))
    }

    pub fn send(&self, reply: &Reply) -> io::Result<()> {
        self.0.send(&reply.encode(), None)
    }

    /// The next request and its file; `None` once net is gone.
    pub fn recv(&self) -> io::Result<Option<(Request, Option<OwnedFd>)>> {
        let mut buffer = [0; MESSAGE_MAX];
        match self.0.recv(&mut buffer)? {
            Some((len, fd)) => Ok(Some((Request::decode(&buffer[..len]).map_err(invalid)?, fd))),
            None => Ok(None),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for Service {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl From<Service> for OwnedFd {
    fn from(service: Service) -> Self {
        service.0.into()
    }
}

fn invalid(cause: Malformed) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a message of the other process is malformed: {cause}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::content_key::Salt;
    use crate::wire::id::ObjectName;
    use std::io::Read;

    fn shape() -> Shape {
        Shape { name: ObjectName([7; 32]), command_len: 500, data_len: 9_000 }
    }

    #[test]
    fn every_request_reads_back_and_the_file_goes_with_it() {
        let (net, applier) = pair().unwrap();
        let requests = [
            Request::Configure { publisher: PublicKey([1; 32]), director: PublicKey([2; 32]), sites: 3 },
            Request::Site(SiteConfig {
                name: Name::new("www").unwrap(),
                root: PathBuf::from("/srv/www"),
                keep: 3,
            }),
            Request::Stage {
                run: RunId(1),
                assignment: AssignmentId(2),
                shape: shape(),
                clock_offset_ns: -3,
            },
            Request::Order { document: vec![5; Order::MAX], clock_offset_ns: -7 },
            Request::Begin { shape: shape(), until: 8 },
            Request::Arrived { object: shape().name, until: 9 },
            Request::Scrub { number: 7, site: Name::new("www").unwrap() },
            Request::Doubt { site: Name::new("www").unwrap(), version: AssignmentId(7) },
            Request::Key { document: vec![8; KeyGrant::MAX] },
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "spool").unwrap();
        for request in requests {
            let goes = matches!(request, Request::Stage { .. } | Request::Begin { .. });
            let opened = goes.then(|| std::fs::File::open(file.path()).unwrap());
            net.send(&request, opened.as_ref().map(AsFd::as_fd)).unwrap();
            let (read, fd) = applier.recv().unwrap().unwrap();
            assert_eq!(read, request);
            if let Some(fd) = fd {
                let mut text = String::new();
                std::fs::File::from(fd).read_to_string(&mut text).unwrap();
                assert_eq!(text, "spool");
            }
            let bytes = request.encode();
            (0..bytes.len()).for_each(|at| assert!(Request::decode(&bytes[..at]).is_err(), "{request:?}"));
        }
    }

    #[test]
    fn every_reply_reads_back_and_the_longest_fits() {
        let (net, applier) = pair().unwrap();
        let longest = |n: u16| SiteState {
            site: Name::new(&format!("{n:048}")).unwrap(),
            version: Some(AssignmentId(u64::MAX)),
        };
        let failed = Outcome::Failed { reason: Reason::NoSpace, text: "disk full".to_owned() };
        let site = Name::new("www").unwrap();
        let replies = [
            Reply::Sites((0..Profile::SITES_MAX as u16).map(longest).collect()),
            Reply::Staged { run: RunId(1), assignment: AssignmentId(2), outcome: Outcome::Staged },
            Reply::Staged { run: RunId(1), assignment: AssignmentId(2), outcome: failed },
            Reply::Ordered { run: RunId(1), order: OrderId(2), site, outcome: Outcome::Switched { at: 9 } },
            Reply::Wants {
                object: ObjectName([7; 32]),
                run: Some(RunId(1)),
                request: KeyRequest {
                    site: Name::new("www").unwrap(),
                    assignment: AssignmentId(2),
                    salt: Salt([3; 16]),
                    recipient: [4; 32],
                },
            },
            Reply::Log { level: log::Level::Warn, text: "careful".to_owned() },
            Reply::Flawed { number: 7, path: vec![b'x'; PATH_MAX], flaw: Flaw::Names },
            Reply::Scrubbed { number: 7, entries: 1, bytes: 2, flaws: 3, ended: Ended::No },
            Reply::Scrubbed { number: 7, entries: 1, bytes: 2, flaws: 3, ended: Ended::Well },
            Reply::Scrubbed {
                number: 7,
                entries: 1,
                bytes: 2,
                flaws: 3,
                ended: Ended::Badly("no".to_owned()),
            },
        ];
        for reply in replies {
            applier.send(&reply).unwrap();
            assert_eq!(net.recv().unwrap().unwrap(), reply);
            let bytes = reply.encode();
            assert!(bytes.len() <= MESSAGE_MAX);
            (0..bytes.len()).for_each(|at| assert!(Reply::decode(&bytes[..at]).is_err(), "{reply:?}"));
        }
    }

    #[test]
    fn a_text_too_long_is_cut_between_characters() {
        let outcome = Outcome::Failed { reason: Reason::System, text: "ü".repeat(300) };
        let reply = Reply::Staged { run: RunId(1), assignment: AssignmentId(2), outcome };
        let Reply::Staged { outcome: Outcome::Failed { text, .. }, .. } =
            Reply::decode(&reply.encode()).unwrap()
        else {
            panic!("another reply came back")
        };
        assert_eq!(text, "ü".repeat(200));
    }

    #[test]
    fn an_order_longer_than_any_is_not_even_sent() {
        let (net, _applier) = pair().unwrap();
        let request = Request::Order { document: vec![0; 100_000], clock_offset_ns: 0 };
        assert_eq!(net.send(&request, None).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn garbage_is_an_error_and_not_a_panic() {
        for bytes in [&[][..], &[2, 1], &[1, 99], &[1, 2, 0, 0], &[255; 300]] {
            assert!(Request::decode(bytes).is_err());
            assert!(Reply::decode(bytes).is_err());
        }
    }
}
