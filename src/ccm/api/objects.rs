//! `GET /o/NAME`: assignments, whole or a range of them (GD-10). Anybody may ask: what is in them proves
//! itself, and its name cannot be guessed (design D2).

use super::problem::Refusal;
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::wire::id::{Name, ObjectName};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use std::io::SeekFrom;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, ReadBuf};
use tokio::time::Sleep;
use tokio_util::io::{InspectReader, ReaderStream};

/// Bytes read from the file at a time: little enough for several leaders to share a narrow bound.
const READ_LEN: usize = 64 * 1024;
/// Longest pause before it is looked again what may be sent: a window may have closed.
const PAUSE_MAX_NS: u64 = 500_000_000;

pub async fn fetch(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let unknown = || Refusal::not_found(format!("there is no object {name} here (any more)"));
    let name: ObjectName = name.parse().map_err(|_| unknown())?;
    let path = controller.config.objects().join(format!("{name}.asg"));
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => unknown(),
        _ => Refusal::internal(format!("{}: {error}", path.display())),
    };
    let mut file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let len = file.metadata().await.map_err(failed)?.len();
    let (status, range) = match headers.get(header::RANGE).map(|range| parse_range(range, len)) {
        None | Some(Asked::Whole) => (StatusCode::OK, 0..len),
        Some(Asked::Part(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Some(Asked::Outside) => {
            return Err(Refusal::unsatisfiable(format!("the object has {len} bytes")));
        }
    };
    let part_len = range.end - range.start;
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        file.seek(SeekFrom::Start(range.start)).await.map_err(failed)?;
        let site = controller.site_of(&name);
        let counter = Arc::clone(&controller);
        let counted = InspectReader::new(file.take(part_len), move |bytes| {
            counter.count_served(bytes.len() as u64);
        });
        let bounded = Bounded { file: counted, controller, site, pause: None };
        Body::from_stream(ReaderStream::with_capacity(bounded, READ_LEN))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(part_len));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{len}", range.start, range.end - 1);
        let value = HeaderValue::try_from(text).expect("digits are a header value");
        headers.insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

/// A file that is read no faster than bandwidth windows let us send it.
struct Bounded<R> {
    file: R,
    controller: Arc<Controller>,
    /// `None`: it is distributed for none now.
    site: Option<Name>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Bounded<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = &mut *self;
        let Some(site) = &this.site else { return Pin::new(&mut this.file).poll_read(context, buffer) };
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            let now = now_ns();
            let Some(until) = this.controller.waits_to_send(site, now) else { break };
            let pause = Duration::from_nanos(until.saturating_sub(now).min(PAUSE_MAX_NS));
            this.pause = Some(Box::pin(tokio::time::sleep(pause)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.file).poll_read(context, buffer))?;
        this.controller.note_sent(site, (buffer.filled().len() - before) as u64, now_ns());
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// What is no range that we serve is ignored, as RFC 9110 allows: several ranges, another unit.
    Whole,
    Part(Range<u64>),
    Outside,
}

/// One range of RFC 9110 section 14.1.2: `bytes=FIRST-LAST`, `bytes=FIRST-`, `bytes=-SUFFIX`.
fn parse_range(value: &HeaderValue, len: u64) -> Asked {
    let Some(spec) = value.to_str().ok().and_then(|text| text.strip_prefix("bytes=")) else {
        return Asked::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else { return Asked::Whole };
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(len),
        (Some(first), None) if last.is_empty() => first..len,
        (None, Some(suffix)) if first.is_empty() => len.saturating_sub(suffix)..len,
        _ => return Asked::Whole,
    };
    if range.start < range.end { Asked::Part(range) } else { Asked::Outside }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_served_and_what_is_none_is_ignored() {
        let ask = |text: &'static str| parse_range(&HeaderValue::from_static(text), 10);
        assert_eq!(ask("bytes=0-0"), Asked::Part(0..1));
        assert_eq!(ask("bytes=4-"), Asked::Part(4..10));
        assert_eq!(ask("bytes=4-99"), Asked::Part(4..10));
        assert_eq!(ask("bytes=-3"), Asked::Part(7..10));
        assert_eq!(ask("bytes=-30"), Asked::Part(0..10));
        assert_eq!(ask("bytes=0-99999999999999999999999"), Asked::Part(0..10));
        assert_eq!(ask("bytes=10-"), Asked::Outside);
        assert_eq!(ask("bytes=-0"), Asked::Outside);
        for ignored in
            ["bytes=", "bytes=5-4", "bytes=0-1,3-4", "bytes=a-b", "lines=1-2", "bytes=-", "bytes=+1-2"]
        {
            assert_eq!(ask(ignored), Asked::Whole, "{ignored}");
        }
    }
}
