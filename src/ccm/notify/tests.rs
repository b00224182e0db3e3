use super::*;
use crate::ccm::config::Config;
use crate::ccm::testing::{T0, controller, name};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use notice::Kind;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

fn receiver(url: &str) -> Receiver {
    toml::from_str(&format!("name = 'ops'\nurl = '{url}'\ntimeout_s = 5")).unwrap()
}

fn happens(controller: &Controller, kind: Kind, text: &str) {
    controller.store_blocking(|store| store.record_notice(kind, "node web1", text, T0)).unwrap();
}

/// Reads one request, head and body.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4_096];
        let count = stream.read(&mut chunk).await.unwrap();
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let len = head
            .to_lowercase()
            .split("content-length: ")
            .nth(1)
            .map(|rest| rest.lines().next().unwrap().to_owned());
        if count == 0 || body.len() >= len.unwrap().parse::<usize>().unwrap() {
            return (head.to_lowercase(), body.to_owned());
        }
    }
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), status: &str) {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let _ = stream.shutdown().await;
}

/// Answers each request with the next of these, the last for ever, and tells of them.
async fn serve(statuses: &'static [&'static str]) -> (String, mpsc::UnboundedReceiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/secret?a=1", listener.local_addr().unwrap());
    let (told, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for at in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = told.send(request(&mut stream).await);
            answer(&mut stream, statuses[at.min(statuses.len() - 1)]).await;
        }
    });
    (url, heard)
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
}

#[tokio::test]
async fn an_event_is_told_in_order_signed_and_again_until_it_is_taken() {
    let (dir, controller) = controller(0);
    let (url, mut heard) = serve(&["500 Internal Server Error", "503 Unavailable", "204 No Content"]).await;
    let key = dir.path().join("key");
    std::fs::write(&key, "farm secret\n").unwrap();
    let ops = Receiver { secret_file: Some(key), ..receiver(&url) };
    assert!(!turn(&controller, &ops).await.unwrap(), "told from here on");
    let run = controller.store_blocking(|store| {
        store.add_site(&name("www"), Path::new("/srv"), T0)?;
        let run = store.add_job(crate::ccm::model::JobKind::Rollback, &name("www"), T0)?;
        store.end_run(run.id, crate::ccm::api::types::Phase::Failed, "no way", None, T0)?;
        Ok(run)
    });
    happens(&controller, Kind::NodeOffline, "offline");
    for tries in 1..=2 {
        assert!(!turn(&controller, &ops).await.unwrap());
        let standing = controller.store_blocking(|store| store.receiver("ops")).unwrap().unwrap();
        assert_eq!((standing.tries, standing.delivered), (tries, 0));
        assert!(standing.failure.starts_with("it answered 50"), "{}", standing.failure);
        assert!(!turn(&controller, &ops).await.unwrap(), "its time has not come");
        // As if the time had passed.
        controller.store_blocking(|store| store.try_now("ops")).unwrap();
    }
    assert!(turn(&controller, &ops).await.unwrap() && turn(&controller, &ops).await.unwrap());
    assert!(!turn(&controller, &ops).await.unwrap());
    let mut all = Vec::new();
    while let Ok(one) = heard.try_recv() {
        all.push(one);
    }
    assert_eq!(all.len(), 4);
    let (head, body) = &all[2];
    assert!(head.starts_with("post /hooks/secret?a=1 http/1.1"), "{head}");
    let id = header(head, "webhook-id");
    assert!(all[..3].iter().all(|(other, _)| header(other, "webhook-id") == id), "one id for all tries");
    let message: serde_json::Value = serde_json::from_str(body).unwrap();
    let job = run.unwrap().job.0;
    assert_eq!((&message["kind"], &message["site"]), (&"job-failed".into(), &"www".into()));
    assert_eq!((&message["job"], &message["id"]), (&job.into(), &id.into()));
    assert_eq!(message["text"], "failed: no way");
    let signed = format!("{id}.{}.{body}", header(head, "webhook-timestamp"));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"farm secret");
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    let expected = format!("v1,{}", BASE64_STANDARD.encode(tag));
    assert_eq!(header(head, "webhook-signature"), expected.to_lowercase());
    let (_, second) = &all[3];
    assert!(second.contains("\"kind\":\"node-offline\""), "{second}");
}

#[tokio::test]
async fn what_nobody_takes_for_a_day_is_given_up_and_the_history_says_so() {
    let (_dir, controller) = controller(0);
    // Nobody listens there.
    let ops = receiver("http://127.0.0.1:1/");
    turn(&controller, &ops).await.unwrap();
    happens(&controller, Kind::NodeOffline, "offline");
    turn(&controller, &ops).await.unwrap();
    let standing = controller.store_blocking(|store| store.receiver("ops")).unwrap().unwrap();
    assert!(standing.failure.starts_with("connecting: "), "{}", standing.failure);
    let since = now_ns() - GIVE_UP_NS;
    controller.store_blocking(|store| store.note_undelivered("ops", "still", since, 0)).unwrap();
    assert!(turn(&controller, &ops).await.unwrap());
    let standing = controller.store_blocking(|store| store.receiver("ops")).unwrap().unwrap();
    assert_eq!((standing.dropped, standing.tries), (1, 0));
    let events = controller.store_blocking(|store| store.events(1)).unwrap();
    assert!(events[0].1.contains("is given up after a day: connecting: "), "{events:?}");
    assert!(!turn(&controller, &ops).await.unwrap());
}

#[tokio::test]
async fn a_receiver_that_says_nothing_is_given_its_time_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (_, told) = test(&Receiver { timeout_s: 1, ..receiver(&url) }).await;
    assert_eq!(told, Err("no answer within 1 s".to_owned()));
}

#[tokio::test]
async fn https_is_believed_only_where_somebody_vouches_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, include_str!("tests/ca.pem")).unwrap();
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tests/leaf.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tests/leaf.key")).unwrap();
    let config = crate::wire::tls::server_builder();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Whoever does not believe us goes away.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            request(&mut stream).await;
            answer(&mut stream, "200 OK").await;
        }
    });
    let ops = Receiver { ca_file: Some(ca.clone()), ..receiver(&format!("https://localhost:{port}/")) };
    assert_eq!(test(&ops).await.1, Ok(()));
    let other = Receiver { ca_file: Some(ca), ..receiver(&format!("https://127.0.0.1:{port}/")) };
    assert!(test(&other).await.1.unwrap_err().starts_with("TLS: "), "another name");
    let leaf = dir.path().join("leaf.pem");
    std::fs::write(&leaf, include_str!("tests/leaf.pem")).unwrap();
    let stranger = Receiver { ca_file: Some(leaf), ..ops };
    let error = test(&stranger).await.1.unwrap_err();
    assert!(error.starts_with("TLS: "), "{error}");
}

#[test]
fn waits_grow_up_to_five_minutes() {
    let seconds: Vec<u64> =
        [0, 1, 2, 8, 9, 64, u32::MAX].map(|tries| retry_after_ns(tries) / NS_PER_S).to_vec();
    assert_eq!(seconds, [1, 2, 4, 256, 300, 300, 300]);
}

#[test]
fn a_receiver_that_makes_no_sense_keeps_the_controller_from_starting() {
    let text = "dir = \"/d\"\n[[notify]]\nname = \"ops\"\n";
    let error = Config::parse("ccm.toml", text).unwrap_err().to_string();
    assert_eq!(error, "ccm.toml:2: [[notify]]: \"ops\": give `url` or `command`");
    let config = Config::parse("ccm.toml", &format!("{text}url = \"http://127.0.0.1/\"\n")).unwrap();
    assert_eq!(config.notify.len(), 1);
}
