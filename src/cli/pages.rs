//! Lists that the API gives page by page, followed as far as is wanted.

use super::client::Client;
use super::failure::Failure;
use serde::de::DeserializeOwned;

/// Asks for pages of at most `most` until there are `limit` entries in all, or no more; without a limit to the end.
/// `cursor` goes with the first question, as `before=7`, and `next` says from a page what goes with the one behind it.
pub async fn fetch<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    (most, limit): (u32, Option<u32>),
    mut cursor: Option<String>,
    next: impl Fn(&[T]) -> Option<String>,
) -> Result<Vec<Vec<T>>, Failure> {
    let mut pages = Vec::new();
    let mut left = limit.unwrap_or(u32::MAX);
    while left > 0 {
        let count = left.min(most);
        let from = cursor.as_ref().map_or_else(String::new, |cursor| format!("&{cursor}"));
        let page: Vec<T> = client.get(&format!("{path}?limit={count}{from}")).await?;
        let got = u32::try_from(page.len()).unwrap_or(count);
        cursor = next(&page);
        pages.push(page);
        if got < count || cursor.is_none() {
            break;
        }
        left -= count;
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// Follows the numbers 25 to 1 downwards; returns the pages and what was asked.
    async fn follow(most: u32, limit: Option<u32>) -> (Vec<Vec<u64>>, Vec<String>) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = dir.path().join("ccm.sock");
        let listener = UnixListener::bind(&socket).expect("a socket in it");
        let (asked, mut questions) = tokio::sync::mpsc::unbounded_channel();
        let controller = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let len = stream.read(&mut request).await.expect("a request");
                let text = String::from_utf8_lossy(&request[..len]).into_owned();
                let query =
                    text.split_whitespace().nth(1).and_then(|path| path.split_once('?')).expect("a query");
                let value = |name: &str| {
                    let found =
                        query.1.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
                    found.map(|number| number.parse::<u64>().expect("a number"))
                };
                let before = value("before").unwrap_or(26);
                let numbers: Vec<u64> =
                    (1..before).rev().take(value("limit").expect("a limit") as usize).collect();
                let body = serde_json::to_string(&numbers).expect("JSON");
                let head =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                asked.send(query.1.to_owned()).expect("somebody counts");
                stream.write_all(format!("{head}{body}").as_bytes()).await.expect("it is taken");
            }
        });
        let next = |page: &[u64]| page.last().map(|last| format!("before={last}"));
        let pages = fetch(&Client::new(socket), "/v1/numbers", (most, limit), None, next).await;
        controller.abort();
        let mut all = Vec::new();
        while let Ok(question) = questions.try_recv() {
            all.push(question);
        }
        (pages.expect("pages"), all)
    }

    #[tokio::test]
    async fn pages_are_followed_to_the_limit_or_the_end_and_no_further() {
        let (pages, asked) = follow(10, None).await;
        assert_eq!(pages.concat(), (1..=25).rev().collect::<Vec<u64>>());
        assert_eq!(asked, ["limit=10", "limit=10&before=16", "limit=10&before=6"]);
        let (pages, asked) = follow(10, Some(13)).await;
        assert_eq!(pages.concat(), (13..=25).rev().collect::<Vec<u64>>());
        assert_eq!(asked, ["limit=10", "limit=3&before=16"]);
        let (pages, asked) = follow(5, None).await;
        assert_eq!((pages.concat().len(), asked.len()), (25, 6), "the last page is empty");
        let (pages, asked) = follow(100, Some(4)).await;
        assert_eq!((pages, asked), (vec![vec![25, 24, 23, 22]], vec!["limit=4".to_owned()]));
    }
}
