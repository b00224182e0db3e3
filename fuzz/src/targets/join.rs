//! Joining: what travels under a token's key, and the token's own text.

use super::message::name;
use crate::memory::bounded;
use crate::seal::{AUTHORITY, CERTIFICATE, NODE};
use farmcast::wire::Encoder;
use farmcast::wire::join::{Farm, FarmSecret, JoinReply, JoinRequest, Token};
use farmcast::wire::seal::seal_secret;

const SECRET: [u8; 32] = [5; 32];

/// The key under which both sides seal (docs/PROTOCOL.md), so that what the fuzzer makes up can be read.
fn key() -> [u8; 32] {
    blake3::derive_key("farmcast/1 join token key", &SECRET)
}

pub fn run(data: &[u8]) -> bool {
    let Some((choice, rest)) = data.split_first() else { return false };
    let token = Token::new(SECRET);
    match choice % 4 {
        0 => {
            let sealed = seal_secret(&key(), b"join request", rest);
            let request = [&token.id()[..], &sealed].concat();
            assert_eq!(JoinRequest::token_id(&request), Ok(token.id()));
            let Ok(request) = bounded(&request, 64, || JoinRequest::open(&request, &token)) else {
                return false;
            };
            assert_eq!(
                plain(|out| {
                    request.public_key.encode(out);
                    request.name.encode(out);
                }),
                rest
            );
        }
        1 => {
            let sealed = seal_secret(&key(), b"join reply", rest);
            let Ok(reply) = bounded(&sealed, 64, || JoinReply::open(&sealed, &token)) else { return false };
            assert_eq!(
                plain(|out| {
                    reply.certificate.encode(out);
                    reply.farm.encode(out);
                }),
                rest
            );
        }
        // As it comes, without our seal.
        2 => return JoinRequest::open(rest, &token).is_ok() || JoinReply::open(rest, &token).is_ok(),
        _ => {
            let Ok(text) = std::str::from_utf8(rest) else { return false };
            let Ok(token) = text.parse::<Token>() else { return false };
            assert_eq!(token.to_string(), text.to_ascii_lowercase());
        }
    }
    true
}

fn plain(write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut out = Encoder::new();
    write(&mut out);
    out.finish()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let token = Token::new(SECRET);
    let farm = Farm {
        publisher: AUTHORITY.public(),
        director: AUTHORITY.public(),
        enroller: AUTHORITY.public(),
        secret: FarmSecret([6; 32]),
    };
    let request = JoinRequest { public_key: NODE.public(), name: name("web01") };
    let sealed = request.seal(&token);
    let request = plain(|out| {
        NODE.public().encode(out);
        name("web01").encode(out);
    });
    let reply = plain(|out| {
        CERTIFICATE.encode(out);
        farm.encode(out);
    });
    [(0, request), (1, reply), (2, sealed), (3, token.to_string().into_bytes())]
        .map(|(choice, rest)| [&[choice][..], &rest].concat())
        .into()
}
