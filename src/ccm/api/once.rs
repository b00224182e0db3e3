//! Requests that may be sent again: with the header `Idempotency-Key`, what they ask for is done once and answered in
//! the same words for a day, also when the controller was killed in between.

use super::caller::Caller;
use super::problem::Refusal;
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{Answered, DbError, Key, Store};
use axum::http::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub const HEADER: &str = "idempotency-key";
/// Longest key in bytes.
const KEY_MAX: usize = 64;

/// The key of a request, if it has one.
///
/// # Errors
/// It is none.
pub fn key(headers: &HeaderMap, who: &str, request: &str, body: &[u8]) -> Result<Option<Key>, Refusal> {
    let mut given = headers.get_all(HEADER).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let bytes = value.as_bytes();
    let is_plain = (1..=KEY_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    let text = value.to_str().ok().filter(|_| is_plain && given.next().is_none()).ok_or_else(|| {
        Refusal::bad_request(format!(
            "Idempotency-Key is one key of 1 to {KEY_MAX} ASCII letters without spaces"
        ))
    })?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(request.as_bytes()).update(b"\n").update(body);
    let digest = hasher.finalize().to_hex().to_string();
    Ok(Some(Key { who: who.to_owned(), key: text.to_owned(), digest }))
}

/// Carries out a piece of work in one step with its answer; a request that was answered gets that answer again, and
/// nothing is done.
///
/// # Errors
/// Those of `work`, which are not kept; the key is another request's; the database's.
pub async fn once<T>(
    controller: &Controller,
    caller: &Caller,
    work: impl FnOnce(&mut Store) -> Result<Result<T, Refusal>, DbError> + Send + 'static,
) -> Result<T, Refusal>
where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    let key = caller.key().cloned();
    let step = move |store: &mut Store| {
        let now = now_ns();
        if let Some(key) = &key {
            match store.answered(key, now)? {
                Answered::Never => {}
                Answered::So(body) => {
                    let answer = serde_json::from_str(&body);
                    return Ok(answer
                        .map_err(|error| Refusal::internal(format!("the answer that was kept: {error}"))));
                }
                Answered::Otherwise => {
                    let detail = format!("key {} was another request's; take a new one for each", key.key);
                    return Ok(Err(Refusal::key_reused(detail)));
                }
            }
        }
        let done = work(store)?;
        if let (Some(key), Ok(answer)) = (&key, &done) {
            let body = serde_json::to_string(answer).expect("API values have string keys only");
            store.keep_answer(key, &body, now)?;
        }
        Ok::<_, DbError>(done)
    };
    controller.store(move |store| store.whole(step)).await?
}
