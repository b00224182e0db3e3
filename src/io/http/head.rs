//! Heads of requests and responses: bytes to values. Pure.

/// Longest head in bytes, of a request and of a response (431).
pub const HEAD_MAX: usize = 8 * 1024;
/// Most header fields of a head.
pub const FIELDS_MAX: usize = 32;
/// Header of the CCM's replies: its clock, nanoseconds since 1970.
pub const TIME_HEADER: &str = "x-farmcast-time";

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The target as sent, beginning with a slash.
    pub path: String,
    pub range: Option<Range>,
    /// Only the head of the answer is wanted.
    pub head: bool,
    pub keep_alive: bool,
}

/// Which bytes of a file are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// `bytes=a-`
    From(u64),
    /// `bytes=a-b`, both included, a <= b.
    Between(u64, u64),
    /// `bytes=-n`
    Last(u64),
}

impl Range {
    /// The range a header asks for. As RFC 9110 14.2 has it, another unit, a malformed and a multiple range
    /// are as none.
    fn parse(value: &[u8]) -> Option<Self> {
        let value = std::str::from_utf8(value).ok()?.trim();
        let (unit, range) = value.split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = range.trim().split_once('-')?;
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Some(Self::Between(first, last)),
            (Some(first), None) if last.is_empty() => Some(Self::From(first)),
            (None, Some(last)) if first.is_empty() => Some(Self::Last(last)),
            _ => None,
        }
    }

    /// The bytes `start..end` of a file of `len` bytes; `None` where it has none of them (416).
    pub fn resolve(self, len: u64) -> Option<(u64, u64)> {
        let (start, end) = match self {
            Self::From(first) => (first, len),
            Self::Between(first, last) => (first, last.saturating_add(1).min(len)),
            Self::Last(count) => (len.saturating_sub(count), len),
        };
        (start < end).then_some((start, end))
    }
}

/// The header field that asks for it.
impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::From(first) => write!(f, "bytes={first}-"),
            Self::Between(first, last) => write!(f, "bytes={first}-{last}"),
            Self::Last(count) => write!(f, "bytes=-{count}"),
        }
    }
}

/// The status that answers a head that cannot be served. The connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub text: &'static str,
}

const fn refusal(status: u16, text: &'static str) -> Refusal {
    Refusal { status, text }
}

/// Reads a request from the beginning of `bytes`: it and the length of its head, or `None` where more
/// bytes are needed.
pub fn parse_request(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
    let within = &bytes[..bytes.len().min(HEAD_MAX)];
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    let len = match parsed.parse(within) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(refusal(431, "the head is longer than 8 KiB")),
        Err(httparse::Error::TooManyHeaders) => return Err(refusal(431, "more than 32 header fields")),
        Err(httparse::Error::Version) => return Err(refusal(505, "only HTTP/1.0 and HTTP/1.1")),
        Err(_) => return Err(refusal(400, "not an HTTP request")),
    };
    let head = match parsed.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(refusal(405, "only GET and HEAD")),
    };
    let path = parsed.path.unwrap_or_default();
    if !path.starts_with('/') {
        return Err(refusal(400, "the target is no path"));
    }
    let version = parsed.version.unwrap_or(0);
    let headers = &*parsed.headers;
    if version == 1 && !matches!(only(headers, "host"), Ok(Some(_))) {
        return Err(refusal(400, "exactly one Host is needed"));
    }
    let empty = match only(headers, "content-length") {
        Ok(length) => length.is_none_or(|value| value == b"0"),
        Err(Repeated) => false,
    };
    if !empty || !matches!(only(headers, "transfer-encoding"), Ok(None)) {
        return Err(refusal(400, "a request without a body is needed"));
    }
    let range = only(headers, "range").map_err(|Repeated| refusal(400, "more than one Range"))?;
    let request = Request {
        path: path.to_owned(),
        // A range is defined for GET alone.
        range: range.filter(|_| !head).and_then(Range::parse),
        head,
        keep_alive: version == 1 && !says_close(headers),
    };
    Ok(Some((request, len)))
}

/// The head of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub content_length: u64,
    /// [`TIME_HEADER`].
    pub time: Option<u64>,
}

/// Why a response cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("the server does not speak HTTP/1: {0}")]
    NotHttp(httparse::Error),
    #[error("the head of the response is longer than {HEAD_MAX} bytes")]
    TooLong,
    #[error("the response has a transfer encoding; only Content-Length is understood here")]
    Encoded,
    #[error("the response has no usable Content-Length")]
    NoLength,
}

/// Reads a response from the beginning of `bytes`, as [`parse_request`].
pub fn parse_response(bytes: &[u8]) -> Result<Option<(Response, usize)>, Unusable> {
    let within = &bytes[..bytes.len().min(HEAD_MAX)];
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let len = match parsed.parse(within).map_err(Unusable::NotHttp)? {
        httparse::Status::Complete(len) => len,
        httparse::Status::Partial if bytes.len() < HEAD_MAX => return Ok(None),
        httparse::Status::Partial => return Err(Unusable::TooLong),
    };
    let headers = &*parsed.headers;
    let status = parsed.code.unwrap_or(0);
    // These never have a body, whatever their head says.
    let bodiless = (100..200).contains(&status) || matches!(status, 204 | 304);
    if !bodiless && !matches!(only(headers, "transfer-encoding"), Ok(None)) {
        return Err(Unusable::Encoded);
    }
    let content_length = match only(headers, "content-length") {
        _ if bodiless => 0,
        Ok(Some(value)) => value_number(value).ok_or(Unusable::NoLength)?,
        Ok(None) | Err(Repeated) => return Err(Unusable::NoLength),
    };
    let time = only(headers, TIME_HEADER).ok().flatten().and_then(value_number);
    Ok(Some((Response { status, content_length, time }, len)))
}

struct Repeated;

/// The value of a header field that may stand once.
fn only<'a>(headers: &[httparse::Header<'a>], name: &str) -> Result<Option<&'a [u8]>, Repeated> {
    let mut found = headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (field, None) => Ok(field.map(|field| field.value)),
        (_, Some(_)) => Err(Repeated),
    }
}

fn says_close(headers: &[httparse::Header<'_>]) -> bool {
    headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("connection"))
        .flat_map(|field| field.value.split(|c| *c == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

fn value_number(value: &[u8]) -> Option<u64> {
    number(std::str::from_utf8(value).ok()?.trim())
}

/// Digits alone: `parse` would take a sign too.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Option<(Request, usize)>, Refusal> {
        parse_request(text.as_bytes())
    }

    fn get(fields: &str) -> Request {
        request(&format!("GET /o/ab HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).unwrap().unwrap().0
    }

    fn status(text: &str) -> u16 {
        request(text).unwrap_err().status
    }

    #[test]
    fn a_request_is_read_once_it_is_whole_and_what_follows_is_left_alone() {
        let text = "GET /o/ab HTTP/1.1\r\nHost: h\r\nRange: bytes=5-9\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(request(&text[..end]), Ok(None), "{end}");
        }
        let whole = Request {
            path: "/o/ab".into(),
            range: Some(Range::Between(5, 9)),
            head: false,
            keep_alive: true,
        };
        assert_eq!(request(&format!("{text}GET /next")), Ok(Some((whole, text.len()))));
    }

    #[test]
    fn ranges_we_do_not_serve_are_as_none() {
        for (value, range) in [
            ("bytes=0-", Some(Range::From(0))),
            ("bytes=0-0", Some(Range::Between(0, 0))),
            ("Bytes= 7-9", Some(Range::Between(7, 9))),
            ("bytes=-4", Some(Range::Last(4))),
            ("bytes=18446744073709551615-", Some(Range::From(u64::MAX))),
            ("bytes=18446744073709551616-", None),
            ("bytes=9-7", None),
            ("bytes=0-1,4-5", None),
            ("bytes=-", None),
            ("bytes=", None),
            ("bytes=+1-2", None),
            ("bytes=1-x", None),
            ("leaves=0-1", None),
        ] {
            assert_eq!(get(&format!("Range: {value}\r\n")).range, range, "{value}");
        }
        assert_eq!(status("GET / HTTP/1.1\r\nHost: h\r\nRange: bytes=0-\r\nRange: bytes=1-\r\n\r\n"), 400);
        let (head, _) = request("HEAD / HTTP/1.1\r\nHost: h\r\nRange: bytes=1-\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.range, head.head), (None, true));
    }

    #[test]
    fn ranges_end_with_the_file_and_never_overflow() {
        assert_eq!(Range::From(0).resolve(10), Some((0, 10)));
        assert_eq!(Range::From(9).resolve(10), Some((9, 10)));
        assert_eq!(Range::From(10).resolve(10), None);
        assert_eq!(Range::From(0).resolve(0), None);
        assert_eq!(Range::Between(0, 0).resolve(10), Some((0, 1)));
        assert_eq!(Range::Between(5, u64::MAX).resolve(10), Some((5, 10)));
        assert_eq!(Range::Between(10, 11).resolve(10), None);
        assert_eq!(Range::Last(3).resolve(10), Some((7, 10)));
        assert_eq!(Range::Last(u64::MAX).resolve(10), Some((0, 10)));
        assert_eq!(Range::Last(0).resolve(10), None);
    }

    #[test]
    fn what_is_no_request_for_a_file_is_refused_with_its_status() {
        for (text, expected) in [
            ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", 405),
            ("get / HTTP/1.1\r\nHost: h\r\n\r\n", 405),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
            ("\u{1}\u{2}\u{3}\r\n\r\n", 400),
            ("@1 show status\n", 400),
        ] {
            assert_eq!(status(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_head_too_long_or_of_too_many_fields_is_refused() {
        assert_eq!(status(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_MAX))), 431);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(2000))), 431);
        let fits = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(HEAD_MAX - 26));
        assert_eq!(fits.len(), HEAD_MAX);
        assert!(request(&fits).unwrap().is_some());
        assert_eq!(status(&fits.replacen("Host: ", "Host:  ", 1)), 431);
    }

    #[test]
    fn a_connection_stays_open_unless_a_side_says_otherwise() {
        assert!(get("").keep_alive);
        assert!(!get("Connection: close\r\n").keep_alive);
        assert!(!get("Connection: x, CLOSE\r\n").keep_alive);
        assert!(!request("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().0.keep_alive);
    }

    #[test]
    fn a_response_needs_one_plain_length() {
        let parse = |fields: &str| parse_response(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes());
        let (response, _) = parse("content-length: 7\r\nX-Farmcast-Time: 99\r\n").unwrap().unwrap();
        assert_eq!(response, Response { status: 200, content_length: 7, time: Some(99) });
        assert_eq!(parse(""), Err(Unusable::NoLength));
        assert_eq!(parse("Content-Length: -7\r\n"), Err(Unusable::NoLength));
        assert_eq!(parse("Content-Length: 7\r\nContent-Length: 7\r\n"), Err(Unusable::NoLength));
        assert_eq!(parse("Transfer-Encoding: chunked\r\n"), Err(Unusable::Encoded));
        assert_eq!(parse("Content-Length: 7\r\nx-farmcast-time: noon\r\n").unwrap().unwrap().0.time, None);
        let empty = parse_response(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert_eq!((empty.0.status, empty.0.content_length), (204, 0));
        assert!(matches!(parse_response(b"100 farmcast-ctl/1 server=x\n"), Err(Unusable::NotHttp(_))));
        assert_eq!(
            parse_response(format!("HTTP/1.1 200 {}", "x".repeat(HEAD_MAX)).as_bytes()),
            Err(Unusable::TooLong)
        );
    }
}
