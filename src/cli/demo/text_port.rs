//! Asks a node at its text port: who leads, how many bytes it has sent.

use crate::wire::console::{Line, Mark, REPLY_LINE_MAX};
use crate::wire::id::NodeId;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A node answers from its loop, which never takes longer than milliseconds; more means it hangs.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Most lines of one reply.
const LINES_MAX: usize = 4_096;

/// A session with one node.
pub struct TextPort {
    stream: BufReader<UnixStream>,
}

impl TextPort {
    pub async fn connect(socket: &Path) -> io::Result<Self> {
        let mut port = Self { stream: BufReader::new(UnixStream::connect(socket).await?) };
        // The greeting is one last line of its own.
        within(port.reply()).await?;
        Ok(port)
    }

    /// The leader that this node follows or is; `None` while it knows none.
    pub async fn leader(&mut self) -> io::Result<Option<NodeId>> {
        let lines = self.ask("show status").await?;
        let leader = lines.iter().find_map(|line| line.text("leader"));
        Ok(leader.and_then(|text| text.parse().ok()).filter(|leader| *leader != NodeId(0)))
    }

    /// The counter of that name.
    pub async fn counter(&mut self, name: &str) -> io::Result<u64> {
        let lines = self.ask("show counters").await?;
        let row = lines.iter().find(|line| line.text("name") == Some(name));
        row.and_then(|line| line.text("value")?.parse().ok())
            .ok_or_else(|| io::Error::other(format!("the node has no counter {name}")))
    }

    async fn ask(&mut self, request: &str) -> io::Result<Vec<Line>> {
        within(async {
            self.stream.get_mut().write_all(format!("{request}\n").as_bytes()).await?;
            let lines = self.reply().await?;
            match lines.last() {
                Some(line) if line.code < 400 => Ok(lines),
                line => {
                    let text = line.and_then(|line| line.text("text")).unwrap_or("no reason given");
                    Err(io::Error::other(format!("`{request}` was refused: {text}")))
                }
            }
        })
        .await
    }

    /// Lines up to the last one of a reply; events in between are passed over.
    async fn reply(&mut self) -> io::Result<Vec<Line>> {
        let mut lines = Vec::new();
        while lines.len() < LINES_MAX {
            let mut bytes = Vec::new();
            let limit = REPLY_LINE_MAX as u64 + 1;
            (&mut self.stream).take(limit).read_until(b'\n', &mut bytes).await?;
            let Some(text) = bytes.strip_suffix(b"\n") else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let line = Line::parse(text).map_err(io::Error::other)?;
            let mark = line.mark;
            if mark != Mark::Event {
                lines.push(line);
            }
            if mark == Mark::Last {
                return Ok(lines);
            }
        }
        Err(io::Error::other(format!("a reply of more than {LINES_MAX} lines")))
    }
}

async fn within<T>(answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer at the text port");
    tokio::time::timeout(ANSWER_MAX, answer).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// A session with a node that says `replies`, one to each request.
    async fn with_a_node_that_says(
        greeting: &'static str,
        replies: &'static [&'static str],
    ) -> io::Result<TextPort> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = dir.path().join("ctl.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let mut stream = BufReader::new(stream);
            stream.get_mut().write_all(greeting.as_bytes()).await.expect("sent");
            for reply in replies {
                let mut request = String::new();
                stream.read_line(&mut request).await.expect("a request");
                stream.get_mut().write_all(reply.as_bytes()).await.expect("sent");
            }
        });
        TextPort::connect(&socket).await
    }

    const GREETING: &str = "100 farmcast-ctl/1 node=boston-1\n";

    #[tokio::test]
    async fn the_leader_and_counters_are_read() {
        let replies: &[&str] = &[
            "201-status state=member leader=00000000000000ff epoch=3\n200 ok rows=1\n",
            "201-status state=vote leader=\"\"\n200 ok rows=1\n",
            "201-counter name=sent_bytes value=4711\n210+note text=x\n201-counter name=x value=1\n200 ok rows=2\n",
        ];
        let mut port = with_a_node_that_says(GREETING, replies).await.expect("a session");
        assert_eq!(port.leader().await.expect("an answer"), Some(NodeId(255)));
        assert_eq!(port.leader().await.expect("an answer"), None);
        assert_eq!(port.counter("sent_bytes").await.expect("an answer"), 4711);
    }

    #[tokio::test]
    async fn a_refusal_and_an_end_are_errors() {
        let mut port =
            with_a_node_that_says(GREETING, &["503 not-ready text=\"starting\"\n"]).await.expect("a session");
        assert!(port.leader().await.expect_err("refused").to_string().contains("starting"));
        assert!(port.leader().await.is_err());
        assert!(with_a_node_that_says("SSH-2.0\n", &[]).await.is_err());
    }
}
