use super::*;
use crate::ccm::api::types::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// A controller that gives one answer, byte for byte, to whatever it is asked.
async fn ask_a_controller_that_says(answer: &'static str) -> Result<Version, Failure> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let socket = dir.path().join("ccm.sock");
    let listener = UnixListener::bind(&socket).expect("a socket in it");
    let controller = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the client connects");
        let mut request = vec![0; 4096];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(answer.as_bytes()).await;
    });
    let result = Client::new(socket).get("/v1/version").await;
    controller.await.expect("the controller ends");
    result
}

#[tokio::test]
async fn an_answer_becomes_a_value_and_unknown_fields_are_ignored() {
    let body = r#"{"schema":"farmcast.version/1","version":"9.9.9","revision":"abc","api":"v1","new":1}"#;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).leak();
    let version = ask_a_controller_that_says(answer).await.expect("a good answer");
    assert_eq!(version.version, "9.9.9");
}

#[tokio::test]
async fn a_problem_is_told_in_the_controllers_words_with_the_right_exit_code() {
    let answer = "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n\
                  {\"type\":\"not-found\",\"title\":\"t\",\"status\":404,\"detail\":\"no site blog\\u001b[2J\"}";
    let failure = ask_a_controller_that_says(answer).await.expect_err("a problem");
    assert_eq!(failure.code(), 5);
    assert_eq!(failure.to_string(), "no site blog\\x1b[2J");
}

#[tokio::test]
async fn an_answer_cut_short_is_no_answer() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{";
    let failure = ask_a_controller_that_says(answer).await.expect_err("a cut answer");
    assert_eq!(failure.code(), 69);
}

#[tokio::test]
async fn without_a_controller_the_message_says_what_to_do() {
    let failure = Client::new("/nonexistent/ccm.sock".into()).get::<Version>("/v1/version").await;
    let failure = failure.expect_err("nobody listens");
    assert_eq!(failure.code(), 69);
    let text = failure.to_string();
    assert!(text.contains("/nonexistent/ccm.sock") && text.contains("--socket"), "{text}");
    assert!(!text.contains('\n'));
}

#[test]
fn what_the_user_typed_cannot_name_another_resource() {
    assert_eq!(segment("../jobs?x"), "%2E%2E%2Fjobs%3Fx");
    assert_eq!(segment("www-1_a"), "www-1_a");
}

/// A controller that takes a request and goes, and another one later: the second gets the same request, key included.
#[tokio::test]
async fn a_request_whose_answer_got_lost_is_sent_again_under_its_key() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let socket = dir.path().join("ccm.sock");
    let listener = UnixListener::bind(&socket).expect("a socket in it");
    let path = socket.clone();
    let controller = tokio::spawn(async move {
        let mut requests = Vec::new();
        let hear = async |listener: &UnixListener| {
            let (mut stream, _) = listener.accept().await.expect("the client connects");
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                stream.read_buf(&mut request).await.expect("a request");
            }
            (String::from_utf8(request).expect("text"), stream)
        };
        requests.push(hear(&listener).await.0);
        drop(listener);
        std::fs::remove_file(&path).expect("its socket");
        tokio::time::sleep(TRY_AFTER * 2).await;
        let listener = UnixListener::bind(&path).expect("a socket");
        let (request, mut stream) = hear(&listener).await;
        requests.push(request);
        let body = r#"{"schema":"farmcast.version/1","version":"1","revision":"r","api":"v1"}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.expect("sent");
        requests
    });
    let client = Client::new(socket);
    let wish = std::collections::BTreeMap::from([("kind", "publish")]);
    let version: Version = client.post_once("/v1/jobs", &wish).await.expect("the second time");
    assert_eq!(version.version, "1");
    let requests = controller.await.expect("the controller ends");
    assert!(requests[0].contains("idempotency-key: "), "{requests:?}");
    assert_eq!(requests[0], requests[1]);
}
