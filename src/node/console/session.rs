//! One session: lines to commands, replies to lines.

use super::super::verbs::{self, Call, Command, Level, Parsed, Topic, Topics};
use super::{Counters, Gate, IDLE_TIME, Identity, LEAVE_TIME, LINE_BUFFER, REPLIES_MAX, SessionKey};
use crate::io::stream::Stream;
use crate::time::Instant;
use crate::wire::console::{Code, Event, Output, Reply, Tag};
use crate::wire::seal::PublicKey;
use crate::wire::tls;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) stream: Stream,
    pub(super) level: Level,
    /// Over TCP.
    pub(super) remote: bool,
    /// What TLS has shown; `None` until the handshake is over, and over a Unix socket.
    pub(super) key: Option<PublicKey>,
    pub(super) serial: u64,
    /// The call that the node has not answered; until then no further line is read.
    pub(super) asked: Option<SessionKey>,
    /// What it hears of, and in which form.
    pub(super) watch: Option<(Topics, Output)>,
    /// In the middle of a line that was refused for its length.
    pub(super) skipping: bool,
    /// When it connected or said its last line.
    pub(super) heard: Instant,
    pub(super) deadline: Instant,
}

impl Session {
    /// The handshake is over: greets, and gives the level of the key.
    pub(super) fn admit(&mut self, gate: &Gate, identity: &Identity, now: Instant) {
        self.key = tls::peer_key(self.stream.shown());
        self.level = self.key.as_ref().map_or(Level::Guest, |key| gate.level(key));
        if self.level > Level::Guest {
            self.deadline = now + IDLE_TIME;
        }
        self.send(&identity.greeting(self.level));
    }

    /// Answers the lines received, up to one that is for the node.
    pub(super) fn take_lines(
        &mut self,
        place: usize,
        (gate, identity): (&Gate, &Identity),
        now: Instant,
        counters: &mut Counters,
    ) -> Option<(SessionKey, Call)> {
        while !self.stream.is_closing() {
            let line = self.next_line()?;
            if self.level > Level::Guest {
                self.deadline = now + IDLE_TIME;
            }
            self.heard = now;
            // A person who presses return twice asks for nothing.
            if line.trim_ascii().is_empty() {
                continue;
            }
            counters.requests += 1;
            let Parsed { tag, output, command } = verbs::parse(&line, self.level);
            let mut leaves = matches!(command, Ok(Command::Quit));
            let reply = match command {
                Ok(Command::Node(call)) => {
                    let key = SessionKey { place, serial: self.serial, tag, output };
                    self.asked = Some(key);
                    return Some((key, call));
                }
                Ok(Command::Help(of)) => verbs::help(of, self.level),
                Ok(Command::Commands) => verbs::commands(),
                Ok(Command::Version) => identity.version(),
                Ok(Command::Ping) => Reply::ok().with("text", "pong"),
                Ok(Command::Quit) => Reply::ok().with("text", "bye"),
                Ok(Command::Watch(topics)) => {
                    self.watch = Some((topics, output));
                    Reply::ok().with("topics", topics.to_string())
                }
                Ok(Command::Hello(document)) => self.hello(gate, &document, now).unwrap_or_else(|refusal| {
                    (counters.strangers, leaves) = (counters.strangers + 1, true);
                    refusal
                }),
                Err(refusal) => {
                    counters.refused += 1;
                    refusal
                }
            };
            self.say(&reply, tag, output, now, counters);
            if leaves {
                self.leave(now);
            }
        }
        None
    }

    /// A client says which node of the farm it is.
    fn hello(&mut self, gate: &Gate, document: &[u8], now: Instant) -> Result<Reply, Reply> {
        let Some(key) = self.key.as_ref().filter(|_| self.level == Level::Guest) else {
            return Ok(Reply::new(Code::Already).with("level", self.level.as_str()));
        };
        gate.vouch(key, document).map_err(|error| {
            Reply::refused(Code::Denied, format!("the certificate is not of this farm and key: {error}"))
        })?;
        self.level = Level::Document;
        self.deadline = now + IDLE_TIME;
        Ok(Reply::ok().with("level", self.level.as_str()))
    }

    /// The next line without its LF. One that is too long is given as far as the buffer goes, to be
    /// refused, and its rest is skipped.
    fn next_line(&mut self) -> Option<Vec<u8>> {
        loop {
            let received = self.stream.received();
            match received.iter().position(|c| *c == b'\n') {
                Some(end) => {
                    let line = received[..end].to_vec();
                    self.stream.consume(end + 1);
                    if !std::mem::take(&mut self.skipping) {
                        return Some(line);
                    }
                }
                None if received.len() < LINE_BUFFER => return None,
                None => {
                    let line = received.to_vec();
                    self.stream.consume(line.len());
                    if !std::mem::replace(&mut self.skipping, true) {
                        return Some(line);
                    }
                }
            }
        }
    }

    /// Puts a reply into the queue; turns a client out that has not read those before it.
    pub(super) fn say(
        &mut self,
        reply: &Reply,
        tag: Option<Tag>,
        output: Output,
        now: Instant,
        counters: &mut Counters,
    ) {
        let mut lines = reply.print(tag, output);
        if lines.len() > REPLIES_MAX {
            let text = format!("the reply would be {} bytes", lines.len());
            lines = Reply::refused(Code::TooLong, text).with("max_bytes", REPLIES_MAX).print(tag, output);
        }
        self.queue(&lines, now, counters);
    }

    /// Puts an event into the queue of who watches its topic.
    pub(super) fn hear(&mut self, topic: Topic, event: &Event, now: Instant, counters: &mut Counters) {
        if let Some((_, output)) = self.watch.filter(|(topics, _)| topics.has(topic)) {
            self.queue(&event.print(output), now, counters);
        }
    }

    /// Who watches and says nothing hears at times that nothing has happened: so a client that is gone is noticed.
    pub(super) fn still_here(&mut self, now: Instant, counters: &mut Counters) {
        if let Some((_, output)) = self.watch {
            self.deadline = now + IDLE_TIME;
            self.queue(&Event::new("alive").print(output), now, counters);
        }
    }

    fn queue(&mut self, lines: &str, now: Instant, counters: &mut Counters) {
        if self.stream.is_closing() {
            return;
        }
        if self.stream.waiting() + lines.len() > REPLIES_MAX {
            // Where it fails it fails again at the end of the turn, and the session is over.
            let _ = self.stream.flush();
        }
        if self.stream.waiting() + lines.len() <= REPLIES_MAX {
            self.send(lines);
            return;
        }
        counters.slow_readers += 1;
        self.stream.drop_unsent_lines();
        let text = format!("more than {REPLIES_MAX} bytes waited to be read");
        self.send(&Reply::refused(Code::SlowReader, text).print(None, Output::Logfmt));
        self.leave(now);
    }

    pub(super) fn send(&mut self, lines: &str) {
        self.stream.send(lines.as_bytes()).expect("say() keeps to REPLIES_MAX, beyond which LAST_WORDS fit");
    }

    /// Ends the session once what is queued has been read.
    pub(super) fn leave(&mut self, now: Instant) {
        if !self.stream.is_closing() {
            self.stream.close_after_flush();
            self.deadline = now + LEAVE_TIME;
        }
    }

    /// Sends what can be sent; true where the session is over.
    pub(super) fn flush(&mut self, counters: &mut Counters) -> bool {
        match self.stream.flush() {
            Ok(_) => self.stream.is_finished(),
            Err(_) => {
                counters.broken += 1;
                true
            }
        }
    }
}
