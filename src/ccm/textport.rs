//! The controller's end of a leader's text port: TLS, one request, one reply (grammar: `wire::console`).

use crate::wire::id::NodeId;
use crate::wire::seal::SigningKey;
use crate::wire::tls;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// From connecting to the last line of the reply.
const PATIENCE: Duration = Duration::from_secs(5);
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
    #[error("{0}: no TLS session with node {1}: {2}; is its farmcastd older than this controller?")]
    Handshake(SocketAddr, NodeId, std::io::Error),
    #[error("{0}: refused: {1}")]
    Refused(SocketAddr, String),
}

/// Calls on nodes in the name of the director.
#[derive(Clone, Debug)]
pub struct TextPorts {
    director: Arc<SigningKey>,
    patience: Duration,
}

impl TextPorts {
    pub fn new(director: &SigningKey) -> Self {
        let director = Arc::new(SigningKey::from_seed(*director.seed()));
        Self { director, patience: PATIENCE }
    }

    /// Sends one request line to the node `to`, and to no other; `Ok` where the last line of the reply has a code 2xx.
    pub async fn request(&self, to: NodeId, addr: SocketAddr, line: &str) -> Result<(), TextPortError> {
        self.ask(to, addr, line).await.map(drop)
    }

    /// The same, for whoever reads the reply: its lines.
    pub async fn ask(&self, to: NodeId, addr: SocketAddr, line: &str) -> Result<Vec<String>, TextPortError> {
        match tokio::time::timeout(self.patience, self.converse(to, addr, line)).await {
            Ok(result) => result,
            Err(_) => Err(TextPortError::Timeout(addr)),
        }
    }

    async fn converse(&self, to: NodeId, addr: SocketAddr, line: &str) -> Result<Vec<String>, TextPortError> {
        let io = |error| TextPortError::Io(addr, error);
        let connector = TlsConnector::from(tls::client(&self.director, to));
        let socket = TcpStream::connect(addr).await.map_err(io)?;
        let stream = connector.connect(ServerName::from(addr.ip()), socket).await;
        let stream = stream.map_err(|error| TextPortError::Handshake(addr, to, error))?;
        speak(stream, addr, line).await
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite,
    addr: SocketAddr,
    line: &str,
) -> Result<Vec<String>, TextPortError> {
    let io = |error| TextPortError::Io(addr, error);
    let (read, mut write) = tokio::io::split(stream);
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
    use tokio::task::JoinHandle;
    use tokio_rustls::TlsAcceptor;

    fn key(number: u8) -> SigningKey {
        SigningKey::from_seed([number; 32])
    }

    fn id(number: u8) -> NodeId {
        NodeId::of_key(&key(number).public().0)
    }

    async fn request(addr: SocketAddr, line: &str) -> Result<(), TextPortError> {
        TextPorts::new(&key(1)).request(id(2), addr, line).await
    }

    /// A text port of node `number` that says `script` and hands back what it was asked.
    async fn port_of(number: u8, script: &'static str) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = TlsAcceptor::from(tls::server(&key(number))).accept(stream).await else {
                return String::new();
            };
            assert_eq!(tls::peer_key(stream.get_ref().1.peer_certificates()), Some(key(1).public()));
            let (read, mut write) = tokio::io::split(stream);
            write.write_all(script.as_bytes()).await.unwrap();
            write.shutdown().await.unwrap();
            let mut line = String::new();
            let _ = BufReader::new(read).read_line(&mut line).await;
            line
        });
        (addr, asked)
    }

    async fn port(script: &'static str) -> (SocketAddr, JoinHandle<String>) {
        port_of(2, script).await
    }

    #[tokio::test]
    async fn a_request_is_one_line_and_the_last_code_decides() {
        let (addr, asked) = port("100 farmcast-ctl/1\n202-row a=1\n200 ok\n").await;
        let lines = TextPorts::new(&key(1)).ask(id(2), addr, "notify document=00ff").await.unwrap();
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

    #[tokio::test]
    async fn another_node_than_the_one_meant_is_told_nothing() {
        let (addr, asked) = port_of(3, "100 farmcast-ctl/1\n200 ok\n").await;
        let error = request(addr, "notify document=00ff").await.unwrap_err();
        assert!(matches!(error, TextPortError::Handshake(..)), "{error}");
        assert!(error.to_string().contains("answers, not"), "{error}");
        assert_eq!(asked.await.unwrap(), "");
    }

    /// A port of the version before, without TLS, is told nothing either.
    #[tokio::test]
    async fn a_port_that_speaks_plain_text_is_told_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"100 farmcast-ctl/1 server=farmcastd/0\n").await.unwrap();
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said).await;
            said
        });
        let error = request(addr, "notify document=00ff").await.unwrap_err();
        assert!(matches!(error, TextPortError::Handshake(..)), "{error}");
        assert!(!asked.await.unwrap().windows(6).any(|bytes| bytes == b"notify"));
    }

    /// It accepts, and says nothing: the deadline ends it.
    #[tokio::test]
    async fn a_node_that_hangs_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let ports = TextPorts { patience: Duration::from_millis(100), ..TextPorts::new(&key(1)) };
        assert!(matches!(ports.request(id(2), addr, "x").await, Err(TextPortError::Timeout(_))));
        drop(listener);
    }
}
