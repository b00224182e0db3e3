//! HTTP over the controller's Unix socket, or over TLS from afar: one request per connection.

mod secure;

use super::clock::Stopwatch;
use super::failure::Failure;
use super::output::printable;
use crate::ccm::api::types::Problem;
use crate::wire::id::hex;
use crate::wire::seal::random;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use secure::NoWay;
pub use secure::{Secure, Trust, token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// Where the controller of a machine listens.
const SYSTEM_SOCKET: &str = "/run/farmcast/ccm.sock";
/// Longest wait for a whole answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// The same where the controller walks trees first: a million files on slow disks.
const WALK_MAX: Duration = Duration::from_secs(900);
/// The same for a piece of something long, on a slow line.
const SEND_MAX: Duration = Duration::from_secs(120);
/// For how long a request whose answer got lost is sent again, and after what: long enough for a controller to start.
const AGAIN_FOR: Duration = Duration::from_secs(20);
const TRY_AFTER: Duration = Duration::from_millis(500);
/// Largest answer: a list of 10,000 nodes takes about 5 MB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

pub struct Client {
    way: Way,
}

/// How the controller is reached.
enum Way {
    Socket(PathBuf),
    Tls(Box<Secure>),
}

/// The system's controller where there is one, else the demo's.
pub fn default_socket() -> PathBuf {
    let system = Path::new(SYSTEM_SOCKET);
    if system.exists() { system.to_owned() } else { demo_socket() }
}

/// Where a running demo can be found: a link in a directory of its user's own.
pub fn demo_socket() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| Path::new(path).is_absolute());
    let base = runtime.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    base.join(format!("farmcast-demo-{}", nix::unistd::getuid())).join("ccm.sock")
}

impl Client {
    pub const fn new(socket: PathBuf) -> Self {
        Self { way: Way::Socket(socket) }
    }

    /// A controller elsewhere.
    pub fn over_tls(secure: Secure) -> Self {
        Self { way: Way::Tls(Box::new(secure)) }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, Bytes::new(), ANSWER_MAX).await
    }

    /// For who has begun to follow something: a controller that is started again goes on with it.
    pub async fn get_again<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let began = Stopwatch::start();
        loop {
            match self.get(path).await {
                Err(failure) if failure.is_silence() && began.elapsed() <= AGAIN_FOR => {
                    tokio::time::sleep(TRY_AFTER).await;
                }
                answer => return answer,
            }
        }
    }

    /// For what makes the controller walk whole trees.
    pub async fn get_patiently<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, Bytes::new(), WALK_MAX).await
    }

    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).expect("API values have string keys only");
        self.call(Method::POST, path, body.into(), ANSWER_MAX).await
    }

    /// For what creates work: it carries a key, and where the answer gets lost it is sent again with the same one, so
    /// that the work is there once.
    pub async fn post_once<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        let body = Bytes::from(serde_json::to_vec(body).expect("API values have string keys only"));
        let key = hex(&random::<16>());
        let (mut lost, began) = (None, Stopwatch::start());
        loop {
            let answer = self.answer(Method::POST, path, body.clone(), ANSWER_MAX, Some(&key)).await;
            match (answer, &lost) {
                (Err(Failure::Lost(text)), _) | (Err(Failure::Unreachable(text)), Some(_)) => {
                    if began.elapsed() > AGAIN_FOR {
                        return Err(Failure::Lost(text));
                    }
                    lost = Some(text);
                    tokio::time::sleep(TRY_AFTER).await;
                }
                (answer, _) => return read(path, &answer?),
            }
        }
    }

    /// For what makes the controller, or a node, read or write whole trees.
    pub async fn post_patiently<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).expect("API values have string keys only");
        self.call(Method::POST, path, body.into(), WALK_MAX).await
    }

    /// Sends a piece of something long, as it is.
    pub async fn send<T: DeserializeOwned>(&self, path: &str, piece: Vec<u8>) -> Result<T, Failure> {
        self.call(Method::POST, path, piece.into(), SEND_MAX).await
    }

    /// For what answers with nothing.
    pub async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.answer(Method::DELETE, path, Bytes::new(), ANSWER_MAX, None).await.map(drop)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<T, Failure> {
        read(path, &self.answer(method, path, body, patience, None).await?)
    }

    /// The body of an answer that is a success.
    async fn answer(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
        key: Option<&str>,
    ) -> Result<Bytes, Failure> {
        let answer = tokio::time::timeout(patience, self.exchange(method, path, body, key)).await;
        let (status, body) = match answer {
            Ok(answer) => answer?,
            Err(_) => return Err(self.lost(&format!("no answer within {} s", patience.as_secs()))),
        };
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }

    /// Takes the history from behind an event on, event by event, until the stream ends or `take` fails.
    pub async fn events<T: DeserializeOwned>(
        &self,
        after: u64,
        mut take: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let accept = ("accept", "text/event-stream".to_owned());
        let resume = ("last-event-id", after.to_string());
        let answer = self.open(Method::GET, "/v1/events", Bytes::new(), &[accept, resume]).await?;
        let status = answer.status();
        let mut body = answer.into_body();
        if !status.is_success() {
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.lost(&causes(&*error)))?;
            return Err(refusal(status, &body.to_bytes()));
        }
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.lost(&causes(&error)))?;
            rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let Some(json) = line.strip_prefix(b"data: ") else { continue };
                let event = serde_json::from_slice(json)
                    .map_err(|error| Failure::Ran(format!("an event is not understood: {error}")))?;
                take(event)?;
            }
            if rest.len() > ANSWER_BYTES_MAX {
                return Err(Failure::Ran("an event has no end".to_owned()));
            }
        }
        Ok(())
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        key: Option<&str>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut headers = vec![("accept", "application/json".to_owned())];
        headers.extend(key.map(|key| ("idempotency-key", key.to_owned())));
        let answer = self.open(method, path, body, &headers).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| self.lost(&causes(&*error)))?;
        Ok((status, body.to_bytes()))
    }

    /// Sends a request; the answer's body is still to come.
    async fn open(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&'static str, String)],
    ) -> Result<Response<Incoming>, Failure> {
        let mut request =
            Request::builder().method(method).uri(path).header("content-type", "application/json");
        let mut sender = match &self.way {
            Way::Socket(socket) => {
                let stream = UnixStream::connect(socket).await;
                request = request.header("host", "localhost");
                self.begin(stream.map_err(|error| self.unreachable(&causes(&error)))?).await?
            }
            Way::Tls(secure) => {
                let stream = match secure.connect().await {
                    Ok(stream) => stream,
                    Err(NoWay::Unreachable(why)) => return Err(self.unreachable(&why)),
                    Err(NoWay::Refused(text)) => return Err(Failure::Refused(text)),
                };
                request = request.header("host", secure.authority());
                let bearer = HeaderValue::try_from(format!("Bearer {}", secure.token()));
                let mut bearer =
                    bearer.map_err(|_| Failure::Usage("the token has stray letters".to_owned()))?;
                bearer.set_sensitive(true);
                request = request.header("authorization", bearer);
                self.begin(stream).await?
            }
        };
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| Failure::Usage(format!("{path} is no address of the API: {error}")))?;
        sender.send_request(request).await.map_err(|error| self.lost(&causes(&error)))
    }

    /// Begins to speak HTTP.
    async fn begin<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(&causes(&error)))?;
        // Ends by itself when sender and answer are dropped; its error is the answer's too.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::Unreachable(self.silence(why))
    }

    fn lost(&self, why: &str) -> Failure {
        Failure::Lost(self.silence(why))
    }

    fn silence(&self, why: &str) -> String {
        match &self.way {
            Way::Socket(socket) => format!(
                "no controller answers at {} ({why}): start one (`farmcast ccm run`, `farmcast demo`), or name \
                 its socket with --socket PATH",
                socket.display()
            ),
            Way::Tls(secure) => format!(
                "no controller answers at {} ({why}): see that it runs, that `api` is set in its ccm.toml, and that \
                 the way to it is open",
                secure.authority()
            ),
        }
    }
}

fn read<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::Ran(format!("the controller's answer to {path} is not understood: {error}"))
    })
}

/// An answer that is no success, in the controller's own words where it gave some.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let text = match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if !problem.detail.is_empty() => printable(&problem.detail),
        Ok(problem) => printable(&problem.title),
        Err(_) => format!("the controller answered {status}"),
    };
    match status.as_u16() {
        400 | 422 => Failure::Usage(text),
        404 => Failure::NotFound(text),
        400..500 | 507 => Failure::Refused(text),
        _ => Failure::Ran(text),
    }
}

/// Makes a path segment of what the user typed, so that it cannot name another resource.
pub fn segment(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut path, byte| {
        match byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            true => path.push(char::from(byte)),
            false => drop(write!(path, "%{byte:02X}")),
        }
        path
    })
}

/// An error with its causes, which hyper keeps apart.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
