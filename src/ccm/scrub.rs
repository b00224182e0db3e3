//! Having a node compare what it has live with what was signed (design D9): asked at its text port until it is done.

use super::clock::{NS_PER_S, now_ns};
use super::controller::Controller;
use super::model::Node;
use super::textport::TextPortError;
use crate::wire::console::{Body, Line};
use crate::wire::id::{Name, hex};
use crate::wire::scrub::{Flaw, ScrubRequest};
use crate::wire::seal::random;
use std::time::Duration;

/// Longest comparison; who asks at the command line waits as long.
const DEADLINE: Duration = Duration::from_secs(890);
const ASK_EVERY: Duration = Duration::from_millis(250);
/// A node that is busy or restarts is asked again so often.
const TRIES: u32 = 20;

/// What a node found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    pub version: u64,
    pub entries: u64,
    pub bytes: u64,
    pub flaws: u64,
    /// Paths as text, where other bytes are `\xNN`.
    pub found: Vec<(String, Flaw)>,
    /// Why it came to no end; empty: it did.
    pub problem: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ScrubFailed {
    #[error("{0} is offline")]
    Offline(Name),
    #[error("{0} does not serve {1}")]
    NotThere(Name, Name),
    #[error("{node}: {error}")]
    Unreachable { node: Name, error: TextPortError },
    #[error("{0} says what is no answer; is it of another version?")]
    NoAnswer(Name),
    #[error("{0} takes longer than {wait} s", wait = DEADLINE.as_secs())]
    Slow(Name),
}

/// Asks `node` to compare, and waits until it has.
pub async fn scrub(
    controller: &Controller,
    node: &Node,
    site: &Name,
    doubt: bool,
) -> Result<Scrubbed, ScrubFailed> {
    let seen = node.seen.as_ref().filter(|seen| seen.online);
    let seen = seen.ok_or_else(|| ScrubFailed::Offline(node.name.clone()))?;
    if node.site(site).is_none() {
        return Err(ScrubFailed::NotThere(node.name.clone(), site.clone()));
    }
    let request = ScrubRequest {
        number: u64::from_be_bytes(random()),
        node: node.id,
        site: site.clone(),
        doubt,
        expires: now_ns() / NS_PER_S + DEADLINE.as_secs(),
    };
    let line = format!("scrub document={}", hex(&request.sign(&controller.keys.director)));
    let poll = async {
        let mut failures = 0;
        loop {
            match controller.text_ports.ask(node.id, seen.text, &line).await {
                Ok(lines) => {
                    failures = 0;
                    let answer = read(&lines).ok_or_else(|| ScrubFailed::NoAnswer(node.name.clone()))?;
                    if let Some(scrubbed) = answer {
                        return Ok(scrubbed);
                    }
                }
                Err(error) if failures == TRIES => {
                    return Err(ScrubFailed::Unreachable { node: node.name.clone(), error });
                }
                Err(_) => failures += 1,
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    tokio::time::timeout(DEADLINE, poll).await.map_err(|_| ScrubFailed::Slow(node.name.clone()))?
}

/// The lines of a node's answer: how it ended, `None` while it runs. `None` around that where it is no such answer.
fn read(lines: &[String]) -> Option<Option<Scrubbed>> {
    let mut scrubbed = Scrubbed::default();
    let (last, rows) = lines.split_last()?;
    for row in rows {
        let row = Line::parse(row.as_bytes()).ok()?;
        let flaw = row.text("what")?.parse().ok()?;
        scrubbed.found.push((shown(&row, "path")?, flaw));
    }
    let last = Line::parse(last.as_bytes()).ok()?;
    let number = |key: &str| last.text(key)?.parse::<u64>().ok();
    (scrubbed.version, scrubbed.entries) = (number("version")?, number("entries")?);
    (scrubbed.bytes, scrubbed.flaws) = (number("bytes")?, number("flaws")?);
    match last.text("state")? {
        "running" => return Some(None),
        "done" => {}
        "failed" => last.text("text")?.clone_into(&mut scrubbed.problem),
        _ => return None,
    }
    Some(Some(scrubbed))
}

/// A value that may be no text.
fn shown(line: &Line, key: &str) -> Option<String> {
    let Body::Fields { fields, .. } = &line.body else { return None };
    let (_, bytes) = fields.iter().find(|(name, _)| name == key)?;
    Some(match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_answer_is_read_as_the_node_says_it() {
        let running = "200 ok rows=0 state=running version=7 entries=10 bytes=20 flaws=0 text=\"\"";
        assert_eq!(read(&lines(running)), Some(None));
        let done = "201-flaw path=\"a b\\xff\" what=content\n201-flaw path=c what=missing\n\
                    200 ok rows=2 state=done version=7 entries=10 bytes=20 flaws=9 text=\"\"";
        let expected = Scrubbed {
            version: 7,
            entries: 10,
            bytes: 20,
            flaws: 9,
            found: vec![("a b\\xff".to_owned(), Flaw::Content), ("c".to_owned(), Flaw::Missing)],
            problem: String::new(),
        };
        assert_eq!(read(&lines(done)), Some(Some(expected)));
        let failed = "200 ok rows=0 state=failed version=0 entries=0 bytes=0 flaws=0 text=\"no version\"";
        assert_eq!(read(&lines(failed)).unwrap().unwrap().problem, "no version");
        for wrong in [
            "",
            "200 ok",
            "201-flaw path=a what=else\n200 ok",
            "200 ok state=soon version=1 entries=1 bytes=1 flaws=0",
        ] {
            assert_eq!(read(&lines(wrong)), None, "{wrong}");
        }
    }
}
