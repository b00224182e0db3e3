//! The operator's API over TLS: who connects shakes hands, asks and reads the answer within bounds, so that nobody
//! holds up others, and who does not is counted.

use super::access::Origin;
use super::controller::Controller;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsAcceptor;

/// Connections at a time, and of one address.
const CONNECTIONS_MAX: usize = 256;
const OF_ONE_MAX: usize = 64;
/// Time for the handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Time in which the head of a request must be here, the first as any that follows.
const HEAD_MAX: Duration = Duration::from_secs(15);
/// Time for which a client may take nothing of its answer.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Before the kernel is asked again where it has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the API is reached, and what became of connections since the start.
#[derive(Debug, Default)]
pub struct Remote {
    /// Address and certificate; empty while it is off.
    pub door: OnceLock<(SocketAddr, crate::wire::pin::Pin)>,
    pub open: AtomicU64,
    pub handshakes_failed: AtomicU64,
    /// Closed at once, for there were too many.
    pub turned_away: AtomicU64,
    /// Requests that named no token that counts, or one without the right.
    pub refused: AtomicU64,
}

/// Connections that are open, by address.
#[derive(Debug, Default)]
struct Places(Mutex<BTreeMap<IpAddr, usize>>);

impl Places {
    /// `None` where all are taken.
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let key = network(address);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = taken.get(&key).copied().unwrap_or(0);
        if of_one >= OF_ONE_MAX || taken.values().sum::<usize>() >= CONNECTIONS_MAX {
            return None;
        }
        taken.insert(key, of_one + 1);
        Some(Place { of: Arc::clone(self), key })
    }
}

/// Who has one address of IPv6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// A place that is taken, until it is dropped.
#[derive(Debug)]
struct Place {
    of: Arc<Places>,
    key: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

/// Serves the router to whoever connects; does not end.
pub async fn serve(listener: TcpListener, tls: TlsAcceptor, router: Router, controller: Arc<Controller>) {
    let places = Arc::new(Places::default());
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // A connection that is gone already, or no descriptors: neither is for good.
                log::debug!("api: accept: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take(from.ip()) else {
            controller.remote.turned_away.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (tls, controller) = (tls.clone(), Arc::clone(&controller));
        let origin = Origin::Remote { address: from.ip().to_canonical() };
        let router = router.clone().layer(axum::Extension(ConnectInfo(origin)));
        tokio::spawn(async move {
            controller.remote.open.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = attend(stream, &tls, router).await {
                if let Ended::Handshake(_) = error {
                    controller.remote.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                }
                log::debug!("api: {origin}: {error}");
            }
            controller.remote.open.fetch_sub(1, Ordering::Relaxed);
            drop(place);
        });
    }
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("handshake: {0}")]
    Handshake(io::Error),
    #[error("{0}")]
    Http(hyper::Error),
}

async fn attend(stream: TcpStream, tls: &TlsAcceptor, router: Router) -> Result<(), Ended> {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let stream =
        match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(Unhurried::new(stream, STALL_MAX))).await {
            Ok(shaken) => shaken.map_err(Ended::Handshake)?,
            Err(_) => return Err(Ended::Handshake(io::ErrorKind::TimedOut.into())),
        };
    let service = TowerToHyperService::new(router.into_service::<Incoming>());
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(Ended::Http)
}

/// A stream whose other end may be slow, and may not stop to read for longer than `patience`.
#[derive(Debug)]
struct Unhurried<S> {
    stream: S,
    patience: Duration,
    /// Runs while nothing is taken.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Unhurried<S> {
    const fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, stalled: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unhurried<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unhurried<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn one_address_takes_its_share_of_the_places_and_all_no_more_than_there_are() {
        let places = Arc::new(Places::default());
        let v4 = |at: u8| IpAddr::from([192, 0, 2, at]);
        let mut held: Vec<Place> = (0..OF_ONE_MAX).map_while(|_| places.take(v4(1))).collect();
        assert!(held.len() == OF_ONE_MAX && places.take(v4(1)).is_none());
        // The same machine by another form of its address, and by another of its network.
        assert!(places.take("::ffff:192.0.2.1".parse().unwrap()).is_none());
        held.extend((0..OF_ONE_MAX).map_while(|at| places.take(format!("fd00::{at:x}").parse().unwrap())));
        assert!(held.len() == 2 * OF_ONE_MAX && places.take("fd00::ffff".parse().unwrap()).is_none());
        held.extend((0..OF_ONE_MAX).flat_map(|_| [places.take(v4(2)), places.take(v4(3))]).flatten());
        assert!(held.len() == CONNECTIONS_MAX && places.take(v4(4)).is_none());
        held.truncate(CONNECTIONS_MAX - 1);
        assert!(places.take(v4(4)).is_some());
        drop(held);
        assert!(places.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn who_takes_nothing_is_given_up_and_who_is_slow_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut stream = Unhurried::new(near, Duration::from_secs(2));
        let slow = tokio::spawn(async move {
            let mut taken = Vec::new();
            for _ in 0..10 {
                sleep(Duration::from_millis(10)).await;
                let mut bytes = [0; 16];
                let count = tokio::io::AsyncReadExt::read(&mut far, &mut bytes).await.unwrap();
                taken.extend_from_slice(&bytes[..count]);
            }
            (taken, far)
        });
        stream.write_all(&[7; 160]).await.unwrap();
        let (taken, _far) = slow.await.unwrap();
        assert_eq!(taken.len(), 160);
        let stalled = stream.write_all(&[7; 160]).await.unwrap_err();
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
    }
}
