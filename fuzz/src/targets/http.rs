//! Heads of HTTP requests and of the answers that a client gets.

use crate::memory::bounded;
use farmcast::io::http::head::{HEAD_MAX, parse_request, parse_response};

/// The first byte tells which head it is.
pub fn run(data: &[u8]) -> bool {
    let Some((choice, bytes)) = data.split_first() else { return false };
    if choice % 2 == 0 {
        let Ok(Some((request, len))) = bounded(bytes, 8, || parse_request(bytes)) else { return false };
        assert!(request.path.starts_with('/') && len <= HEAD_MAX.min(bytes.len()));
        // What follows a head changes nothing about it, and no part of it is a head.
        assert_eq!(parse_request(&bytes[..len]), Ok(Some((request.clone(), len))));
        assert_eq!(parse_request(&bytes[..len - 1]), Ok(None));
        for file_len in [0, 1, 4_096, u64::MAX] {
            if let Some((start, end)) = request.range.and_then(|range| range.resolve(file_len)) {
                assert!(start < end && end <= file_len);
            }
        }
    } else {
        let Ok(Some((response, len))) = bounded(bytes, 8, || parse_response(bytes)) else { return false };
        assert!(len <= HEAD_MAX.min(bytes.len()));
        assert_eq!(parse_response(&bytes[..len]), Ok(Some((response, len))));
        assert_eq!(parse_response(&bytes[..len - 1]), Ok(None));
    }
    true
}

pub fn seeds() -> Vec<Vec<u8>> {
    let requests = [
        "GET /o/ab HTTP/1.1\r\nHost: h\r\nRange: bytes=5-9\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: h\r\nConnection: x, close\r\n\r\n",
        "GET / HTTP/1.0\r\nrange: bytes=-4\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nRange: bytes=18446744073709551615-\r\nContent-Length: 0\r\n\r\n",
    ];
    let responses = [
        "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nX-Farmcast-Time: 99\r\n\r\nwhatever",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nx",
    ];
    let seed = |choice: u8| move |text: &&str| [&[choice][..], text.as_bytes()].concat();
    requests.iter().map(seed(0)).chain(responses.iter().map(seed(1))).collect()
}
