//! The one table of the text port's commands (design D13): parser, help, `commands` and tests come from it.

use crate::wire::charter::Charter;
use crate::wire::console::{Argument, Code, Output, Reply, Request, Tag, Unreadable};
use crate::wire::control::is_channel;
use crate::wire::id::unhex;
use crate::wire::notify::Notification;
use crate::wire::order::Order;
use crate::wire::scrub::ScrubRequest;
use crate::wire::seal::Certificate;
use std::fmt;
use std::net::SocketAddrV4;

/// What a session may do; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Over TCP, a key that is not the director's: may say whose it is.
    Guest,
    /// Over TCP, a node of the farm: may hand in documents, whose signature decides what they can do.
    Document,
    /// Also over TCP, the director.
    Observe,
    Operate,
    Admin,
}

impl Level {
    pub const ALL: [Self; 5] = [Self::Guest, Self::Document, Self::Observe, Self::Operate, Self::Admin];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Document => "document",
            Self::Observe => "observe",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A command of the table, with its arguments read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Of one command, or of all that the session may use.
    Help(Option<&'static Verb>),
    Commands,
    Version,
    Ping,
    Quit,
    /// The certificate of the key that the session has shown, not yet opened.
    Hello(Vec<u8>),
    /// Hear of what happens from now on.
    Watch(Topics),
    /// For the node; all others are answered by the port itself.
    Node(Call),
}

/// What the port asks of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Show(Subject),
    /// A signed [`Notification`], not yet opened.
    Notify(Vec<u8>),
    /// A signed [`Order`], not yet opened.
    Order(Vec<u8>),
    /// A signed [`Charter`], not yet opened.
    Charter(Vec<u8>),
    /// A signed [`ScrubRequest`], not yet opened.
    Scrub(Vec<u8>),
    /// Have all members register and the CCM hear of it (NS-5, NS-9).
    Refresh,
    /// Move the segment to another control channel (EL-6).
    Channel(SocketAddrV4),
    Shutdown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Status,
    Leader,
    Members,
    Sessions,
    Counters,
    Store,
    Sites,
    Groups,
    Limits,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Who leads.
    Leader,
    /// Who comes and goes.
    Member,
    /// Transmissions of this node.
    Session,
    /// What is fetched and staged.
    Assignment,
    /// What goes live.
    Site,
    /// Charters, channels, groups.
    Segment,
    /// What an operator has to mend.
    Trouble,
}

impl Topic {
    pub const ALL: [Self; 7] = [
        Self::Leader,
        Self::Member,
        Self::Session,
        Self::Assignment,
        Self::Site,
        Self::Segment,
        Self::Trouble,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Member => "member",
            Self::Session => "session",
            Self::Assignment => "assignment",
            Self::Site => "site",
            Self::Segment => "segment",
            Self::Trouble => "trouble",
        }
    }
}

/// What a session hears of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Topics(u8);

impl Topics {
    pub fn all() -> Self {
        Topic::ALL.into_iter().collect()
    }

    pub const fn has(self, topic: Topic) -> bool {
        self.0 & (1 << topic as u8) != 0
    }
}

impl FromIterator<Topic> for Topics {
    fn from_iter<I: IntoIterator<Item = Topic>>(topics: I) -> Self {
        Self(topics.into_iter().fold(0, |bits, topic| bits | 1 << topic as u8))
    }
}

/// The names, separated by commas.
impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            Topic::ALL.iter().filter(|topic| self.has(**topic)).map(|topic| topic.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Verb {
    pub words: &'static [&'static str],
    pub arg: Option<Arg>,
    pub level: Level,
    pub help: &'static str,
    pub example: &'static str,
    make: fn(Given) -> Command,
}

/// The argument of a command; none has more than one so far.
#[derive(Debug)]
pub struct Arg {
    pub kind: Kind,
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The words of a command; may be left out.
    Words,
    /// `document=HEX`, of at most so many bytes.
    Document { max: usize },
    /// `to=ADDRESS:PORT` of a multicast channel.
    Channel,
    /// Names of topics; all where none is given.
    Topics,
}

/// What was given for the argument.
enum Given {
    Nothing,
    Verb(&'static Verb),
    Document(Vec<u8>),
    Channel(SocketAddrV4),
    Topics(Topics),
}

macro_rules! show {
    ($word:literal, $subject:ident, $help:literal) => {
        Verb {
            words: &["show", $word],
            arg: None,
            level: Level::Observe,
            help: $help,
            example: concat!("show ", $word),
            make: |_| Command::Node(Call::Show(Subject::$subject)),
        }
    };
}

/// All commands, in the order in which `help` lists them.
pub static VERBS: &[Verb] = &[
    Verb {
        words: &["help"],
        arg: Some(Arg { kind: Kind::Words, help: "the command to explain; without it, all you may use" }),
        level: Level::Guest,
        help: "explain a command, or list them",
        example: "help show members",
        make: |given| match given {
            Given::Verb(verb) => Command::Help(Some(verb)),
            _ => Command::Help(None),
        },
    },
    Verb {
        words: &["ping"],
        arg: None,
        level: Level::Guest,
        help: "answer at once",
        example: "ping",
        make: |_| Command::Ping,
    },
    Verb {
        words: &["quit"],
        arg: None,
        level: Level::Guest,
        help: "end this session",
        example: "quit",
        make: |_| Command::Quit,
    },
    Verb {
        words: &["hello"],
        arg: Some(Arg {
            kind: Kind::Document { max: Certificate::LEN },
            help: "the certificate of the key that TLS has shown",
        }),
        level: Level::Guest,
        help: "over TCP: say which node of the farm you are, before anything else",
        example: "hello document=00ff",
        make: |given| Command::Hello(given.document()),
    },
    Verb {
        words: &["notify"],
        arg: Some(Arg {
            kind: Kind::Document { max: Notification::MAX },
            help: "a notification signed by the director",
        }),
        level: Level::Document,
        help: "fetch an assignment and hand it on",
        example: "notify document=00ff",
        make: |given| Command::Node(Call::Notify(given.document())),
    },
    Verb {
        words: &["order"],
        arg: Some(Arg { kind: Kind::Document { max: Order::MAX }, help: "an order signed by the director" }),
        level: Level::Document,
        help: "pass an order on to the segment and carry it out",
        example: "order document=00ff",
        make: |given| Command::Node(Call::Order(given.document())),
    },
    Verb {
        words: &["charter"],
        arg: Some(Arg {
            kind: Kind::Document { max: Charter::MAX },
            help: "a charter signed by the director",
        }),
        level: Level::Document,
        help: "have the segment go by a charter; by the one that it has: report how things are",
        example: "charter document=00ff",
        make: |given| Command::Node(Call::Charter(given.document())),
    },
    Verb {
        words: &["scrub"],
        arg: Some(Arg {
            kind: Kind::Document { max: ScrubRequest::MAX },
            help: "a request signed by the director",
        }),
        level: Level::Document,
        help: "compare a site with what was signed; the same again says how far it is and what was found",
        example: "scrub document=00ff",
        make: |given| Command::Node(Call::Scrub(given.document())),
    },
    Verb {
        words: &["watch"],
        arg: Some(Arg {
            kind: Kind::Topics,
            help: "leader, member, session, assignment, site, segment, trouble; without it, all of them",
        }),
        level: Level::Observe,
        help: "hear of what happens from now on, between replies, until this session ends",
        example: "watch site trouble",
        make: |given| match given {
            Given::Topics(topics) => Command::Watch(topics),
            _ => unreachable!("command() reads the argument that the table names"),
        },
    },
    Verb {
        words: &["version"],
        arg: None,
        level: Level::Observe,
        help: "program and protocol",
        example: "version",
        make: |_| Command::Version,
    },
    Verb {
        words: &["commands"],
        arg: None,
        level: Level::Observe,
        help: "this table as data",
        example: "commands json",
        make: |_| Command::Commands,
    },
    show!("status", Status, "one line about this node"),
    show!("leader", Leader, "who leads the segment, and what speaks for this node as leader"),
    show!("members", Members, "the nodes of the segment as the leader knows them"),
    show!("sessions", Sessions, "transmissions sent or received now"),
    show!("counters", Counters, "packets and events since the start, drops by cause"),
    show!("store", Store, "assignments in the spool"),
    show!("sites", Sites, "sites with the version that is live"),
    show!("groups", Groups, "content groups of the segment, their data channels and what came on them"),
    show!("limits", Limits, "bounds that an operator may meet"),
    Verb {
        words: &["refresh"],
        arg: None,
        level: Level::Operate,
        help: "at the leader: have all members register anew, and report to the CCM",
        example: "refresh",
        make: |_| Command::Node(Call::Refresh),
    },
    Verb {
        words: &["channel"],
        arg: Some(Arg { kind: Kind::Channel, help: "the multicast group and port to use from now on" }),
        level: Level::Operate,
        help: "at the leader: move the segment to another control channel",
        example: "channel to=239.255.70.3:7401",
        make: |given| match given {
            Given::Channel(to) => Command::Node(Call::Channel(to)),
            _ => unreachable!("command() reads the argument that the table names"),
        },
    },
    Verb {
        words: &["shutdown"],
        arg: None,
        level: Level::Admin,
        help: "stop this node; a leader says so to its segment first",
        example: "shutdown",
        make: |_| Command::Node(Call::Shutdown),
    },
];

/// A line of a client, as far as the table can take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    pub tag: Option<Tag>,
    pub output: Output,
    /// The command, or the answer where the line is none or asks for more than `level` may.
    pub command: Result<Command, Reply>,
}

/// Reads a line, which ends before its LF, of a session of `level`. Whatever the bytes, it does not panic.
pub fn parse(line: &[u8], level: Level) -> Parsed {
    match Request::parse(line) {
        Ok(request) => Parsed { tag: request.tag, output: request.output, command: command(&request, level) },
        Err(refused) => {
            let code = match refused.why {
                Unreadable::TooLong(_) | Unreadable::TooMany => Code::TooLong,
                _ => Code::Syntax,
            };
            let reply = Reply::refused(code, refused.why.to_string());
            Parsed { tag: refused.tag, output: Output::Logfmt, command: Err(reply) }
        }
    }
}

fn command(request: &Request, level: Level) -> Result<Command, Reply> {
    let (verb, rest) = find(&request.words).ok_or_else(|| unknown(&request.words, level))?;
    if level < verb.level {
        return Err(Reply::new(Code::Denied).with("need", verb.level.as_str()));
    }
    let given = match &verb.arg {
        None => nothing(verb, rest, &request.args).map(|()| Given::Nothing)?,
        Some(Arg { kind: Kind::Words, .. }) => {
            nothing(verb, &[], &request.args)?;
            topic(rest, level)?
        }
        Some(Arg { kind: Kind::Document { max }, .. }) => {
            nothing(verb, rest, &[])?;
            Given::Document(document(verb, &request.args, *max)?)
        }
        Some(Arg { kind: Kind::Channel, .. }) => {
            nothing(verb, rest, &[])?;
            Given::Channel(channel(verb, &request.args)?)
        }
        Some(Arg { kind: Kind::Topics, .. }) => {
            nothing(verb, &[], &request.args)?;
            Given::Topics(topics(rest)?)
        }
    };
    Ok((verb.make)(given))
}

/// The verb whose words the request begins with, and the words after them.
fn find(words: &[String]) -> Option<(&'static Verb, &[String])> {
    let verb = VERBS.iter().find(|verb| {
        words.len() >= verb.words.len() && verb.words.iter().zip(words).all(|(word, given)| word == given)
    })?;
    Some((verb, &words[verb.words.len()..]))
}

fn nothing(verb: &Verb, words: &[String], args: &[Argument]) -> Result<(), Reply> {
    let surplus = match (words.first(), args.first()) {
        (Some(word), _) => word.clone().into_bytes(),
        (None, Some(arg)) => arg.key.clone().map_or_else(|| arg.value.clone(), String::into_bytes),
        (None, None) => return Ok(()),
    };
    Err(Reply::refused(Code::Syntax, format!("the command is: {}", verb.syntax()))
        .with("surplus", &surplus[..]))
}

fn topic(words: &[String], level: Level) -> Result<Given, Reply> {
    if words.is_empty() {
        return Ok(Given::Nothing);
    }
    match find(words) {
        Some((verb, [])) => Ok(Given::Verb(verb)),
        _ => Err(unknown(words, level)),
    }
}

fn topics(words: &[String]) -> Result<Topics, Reply> {
    if words.is_empty() {
        return Ok(Topics::all());
    }
    let topic = |word: &String| {
        Topic::ALL.into_iter().find(|topic| topic.as_str() == word).ok_or_else(|| {
            let text = format!("the topics are {}", Topics::all());
            Reply::new(Code::BadValue).with("arg", word.as_str()).with("text", text)
        })
    };
    words.iter().map(topic).collect()
}

/// The value of the one argument that a verb takes.
fn value<'a>(verb: &Verb, args: &'a [Argument], wanted: &str) -> Result<&'a [u8], Reply> {
    let refused = || Reply::refused(Code::Syntax, format!("the command is: {}", verb.syntax()));
    match args {
        [Argument { key: Some(key), value }] if key == wanted => Ok(value),
        [Argument { key: Some(key), .. }] => Err(refused().with("surplus", key.as_str())),
        _ => Err(refused()),
    }
}

fn channel(verb: &Verb, args: &[Argument]) -> Result<SocketAddrV4, Reply> {
    let text = std::str::from_utf8(value(verb, args, TO)?).unwrap_or_default();
    text.parse().ok().filter(|address| is_channel(*address)).ok_or_else(|| {
        let text = "no multicast group and port, as 239.255.70.3:7401; 224.0.0.0/24 is not for channels";
        Reply::new(Code::BadValue).with("arg", TO).with("text", text)
    })
}

fn document(verb: &Verb, args: &[Argument], max: usize) -> Result<Vec<u8>, Reply> {
    let value = value(verb, args, DOCUMENT)?;
    let bad = |text: String| Reply::new(Code::BadValue).with("arg", DOCUMENT).with("text", text);
    let bytes = std::str::from_utf8(value).ok().and_then(unhex);
    match bytes {
        None => Err(bad("not hexadecimal".into())),
        Some(bytes) if bytes.is_empty() => Err(bad("empty".into())),
        Some(bytes) if bytes.len() > max => Err(bad(format!("longer than {max} bytes")).with("max", max)),
        Some(bytes) => Ok(bytes),
    }
}

const DOCUMENT: &str = "document";
const TO: &str = "to";

/// `405` with the nearest command that the session may use, where one is near.
fn unknown(words: &[String], level: Level) -> Reply {
    let asked = words.join(" ");
    let reply = Reply::new(Code::UnknownCommand);
    let allowed = VERBS.iter().filter(|verb| verb.level <= level);
    let nearest =
        allowed.map(|verb| (distance(&asked, &verb.name()), verb)).min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, verb)) if distance <= asked.len() / 3 + 1 => reply.with("did-you-mean", verb.name()),
        _ => reply.with("text", "help lists the commands"),
    }
}

/// Edits from one text to the other: letters inserted, deleted, replaced or swapped with the next.
fn distance(from: &str, to: &str) -> usize {
    // A request has up to 4096 bytes, a command 20: what is that much longer is no misspelling.
    const FAR: usize = 64;
    if from.len() > FAR {
        return from.len();
    }
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

impl Given {
    fn document(self) -> Vec<u8> {
        match self {
            Self::Document(bytes) => bytes,
            Self::Nothing | Self::Verb(_) | Self::Channel(_) | Self::Topics(_) => {
                unreachable!("command() reads the argument that the table names")
            }
        }
    }
}

impl PartialEq for Verb {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words
    }
}

impl Eq for Verb {}

impl Verb {
    /// Its words.
    pub fn name(&self) -> String {
        self.words.join(" ")
    }

    pub fn syntax(&self) -> String {
        match self.arg.as_ref().map(|arg| arg.kind) {
            None => self.name(),
            Some(Kind::Words) => format!("{} [COMMAND]", self.name()),
            Some(Kind::Document { .. }) => format!("{} {DOCUMENT}=HEX", self.name()),
            Some(Kind::Channel) => format!("{} {TO}=ADDRESS:PORT", self.name()),
            Some(Kind::Topics) => format!("{} [TOPIC ...]", self.name()),
        }
    }
}

/// What `help` answers to a session of `level`.
pub fn help(of: Option<&Verb>, level: Level) -> Reply {
    match of {
        None => VERBS.iter().filter(|verb| verb.level <= level).fold(Reply::table(), |reply, verb| {
            reply.row("command", vec![("syntax", verb.syntax().into()), ("help", verb.help.into())])
        }),
        Some(verb) => {
            let mut reply = Reply::ok()
                .with("syntax", verb.syntax())
                .with("level", verb.level.as_str())
                .with("help", verb.help)
                .with("example", verb.example);
            if let Some(arg) = &verb.arg {
                reply = reply.with("arg", arg.help);
                if let Kind::Document { max } = arg.kind {
                    reply = reply.with("max_bytes", max);
                }
            }
            reply
        }
    }
}

/// What `commands` answers: the whole table.
pub fn commands() -> Reply {
    VERBS.iter().fold(Reply::table(), |reply, verb| {
        let mut fields = vec![
            ("name", verb.name().into()),
            ("syntax", verb.syntax().into()),
            ("level", verb.level.as_str().into()),
            ("help", verb.help.into()),
            ("example", verb.example.into()),
        ];
        if let Some(arg) = &verb.arg {
            fields.push(("arg", arg.help.into()));
        }
        reply.row("command", fields)
    })
}

#[cfg(test)]
mod tests;
