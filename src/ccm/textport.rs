//! The controller's end of a leader's text port: one request, one reply (grammar: `wire::console`).

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// From connecting to the last line of the reply.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest line, and most of the whole reply, that is read.
const REPLY_MAX: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum TextPortError {
    #[error("{0}: no reply within 5 s")]
    Timeout(SocketAddr),
    #[error("{0}: {1}")]
    Io(SocketAddr, std::io::Error),
    #[error("{0}: is no farmcast text port: it greets with {1:?}")]
    Greeting(SocketAddr, String),
    #[error("{0}: refused: {1}")]
    Refused(SocketAddr, String),
}

/// Sends one request line; `Ok` where the last line of the reply has a code 2xx.
pub async fn request(addr: SocketAddr, line: &str) -> Result<(), TextPortError> {
    ask(addr, line).await.map(drop)
}

/// The same, for whoever reads the reply: its lines.
pub async fn ask(addr: SocketAddr, line: &str) -> Result<Vec<String>, TextPortError> {
    match tokio::time::timeout(DEADLINE, converse(addr, line)).await {
        Ok(result) => result,
        Err(_) => Err(TextPortError::Timeout(addr)),
    }
}

async fn converse(addr: SocketAddr, line: &str) -> Result<Vec<String>, TextPortError> {
    let io = |error| TextPortError::Io(addr, error);
    let mut stream = TcpStream::connect(addr).await.map_err(io)?;
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read.take(REPLY_MAX)).lines();
    let ended = || io(std::io::ErrorKind::UnexpectedEof.into());
    let greeting = lines.next_line().await.map_err(io)?.ok_or_else(ended)?;
    if !greeting.starts_with("100 ") {
        return Err(TextPortError::Greeting(addr, greeting.chars().take(60).collect()));
    }
    write.write_all(format!("{line}\n").as_bytes()).await.map_err(io)?;
    let mut all = Vec::new();
    loop {
        let reply = lines.next_line().await.map_err(io)?.ok_or_else(ended)?;
        match (reply.get(..1), reply.as_bytes().get(3)) {
            (_, Some(b'-' | b'+')) => all.push(reply),
            (Some("2"), _) => {
                all.push(reply);
                return Ok(all);
            }
            _ => return Err(TextPortError::Refused(addr, reply.chars().take(300).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A text port that says `script` and hands back what it was asked.
    async fn port(script: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            write.write_all(script.as_bytes()).await.unwrap();
            drop(write);
            let mut line = String::new();
            BufReader::new(read).read_line(&mut line).await.unwrap();
            line
        });
        (addr, asked)
    }

    #[tokio::test]
    async fn a_request_is_one_line_and_the_last_code_decides() {
        let (addr, asked) = port("100 farmcast-ctl/1\n202-row a=1\n200 ok\n").await;
        let lines = ask(addr, "notify document=00ff").await.unwrap();
        assert_eq!(lines, ["202-row a=1", "200 ok"]);
        assert_eq!(asked.await.unwrap(), "notify document=00ff\n");

        let (addr, _asked) = port("100 farmcast-ctl/1\n422 bad-value arg=document\n").await;
        let refused = request(addr, "notify document=x").await.unwrap_err();
        assert!(refused.to_string().ends_with("refused: 422 bad-value arg=document"), "{refused}");

        let (addr, _asked) = port("SSH-2.0-x\r\n").await;
        assert!(matches!(request(addr, "x").await, Err(TextPortError::Greeting(..))));

        let (addr, _asked) = port("100 farmcast-ctl/1\n202-row").await;
        assert!(matches!(request(addr, "x").await, Err(TextPortError::Io(..) | TextPortError::Refused(..))));
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        assert!(matches!(request(addr, "x").await, Err(TextPortError::Io(..))));
    }
}
