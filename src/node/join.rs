//! `farmcastd join`: makes the node's key, and has the CCM certify it for a one-time token.

use super::config::Config;
use super::identity::Identity;
use crate::io::clock;
use crate::io::http::client::{Client, Event};
use crate::io::reactor::Reactor;
use crate::time::Duration;
use crate::wire::join::{JoinReply, JoinRequest, Token};
use crate::wire::seal::{SigningKey, random};
use std::net::SocketAddr;

/// The CCM must answer within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer of the CCM.
const ANSWER_MAX: usize = 16 << 10;

/// Why joining failed, each a sentence with what to do.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the CCM cannot be reached: {0}; is `farmcast ccm run` running, and the address right?")]
    Unreachable(String),
    /// The CCM refused, or what was wrong is on this side.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for JoinError {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// Joins the farm and stores the identity in the state directory.
pub fn join(config: &Config, ccm: SocketAddr, token: &Token) -> Result<Identity, JoinError> {
    if Identity::exists(&config.state_dir) {
        let dir = config.state_dir.display();
        let text = format!("this node has joined a farm already; to join another, empty {dir} first");
        return Err(text.into());
    }
    let key = SigningKey::from_seed(random());
    let request = JoinRequest { public_key: key.public(), name: config.name.clone() };
    let answer = post(ccm, &request.seal(token))?;
    let reply = JoinReply::open(&answer, token)
        .map_err(|error| format!("the answer of {ccm} is not that of the token's farm: {error}"))?;
    if reply.certificate.public_key != key.public() {
        return Err(format!("{ccm} certified another key than ours").into());
    }
    let identity = Identity { key, certificate: reply.certificate, farm: reply.farm };
    identity.store(&config.state_dir).map_err(|error| error.to_string())?;
    Ok(identity)
}

fn post(ccm: SocketAddr, body: &[u8]) -> Result<Vec<u8>, JoinError> {
    let unreachable = |error: &dyn std::fmt::Display| JoinError::Unreachable(error.to_string());
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let now = clock::monotonic();
    let mut client = Client::post(ccm, "/v1/join", "application/octet-stream", body, now, PATIENCE)
        .map_err(|error| unreachable(&error))?;
    client.register(reactor.registry(), mio::Token(0)).map_err(|error| error.to_string())?;
    let (mut status, mut answer) = (0, Vec::new());
    loop {
        let now = clock::monotonic();
        while let Some(event) = client.next(now) {
            match event {
                Event::Head { status: found, .. } => status = found,
                Event::Body(bytes) if answer.len() + bytes.len() <= ANSWER_MAX => {
                    answer.extend_from_slice(bytes)
                }
                Event::Body(_) => {
                    return Err(format!("the answer of {ccm} is too long for one of a CCM").into());
                }
                Event::Done if status == 200 => return Ok(answer),
                Event::Done => {
                    let text = String::from_utf8_lossy(&answer).into_owned();
                    return Err(format!("the CCM at {ccm} refused ({status}): {text}").into());
                }
                Event::Failed(error) => return Err(unreachable(&error)),
            }
        }
        reactor.wait(now, client.deadline()).map_err(|error| error.to_string())?;
    }
}
