//! One event to one address, by HTTP; signed as <https://www.standardwebhooks.com> says.

use super::receiver::Receiver;
use crate::wire::tls;
use axum::http::{Method, Request, Uri};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Where systems keep the certificates that they trust.
const SYSTEM_CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Posts a body under an id that stays the same for each try; a sentence where it was not taken.
pub async fn post(receiver: &Receiver, id: &str, seconds: u64, body: String) -> Result<(), String> {
    let uri: Uri = receiver.url.parse().map_err(|error| format!("{error}"))?;
    let is_tls = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let signature = match &receiver.secret_file {
        Some(path) => Some(sign(&secret(path)?, id, seconds, &body)),
        None => None,
    };
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header("host", uri.authority().map_or("", |authority| authority.as_str()))
        .header("user-agent", concat!("farmcast/", env!("CARGO_PKG_VERSION")))
        .header("content-type", "application/json")
        .header("connection", "close")
        .header("webhook-id", id)
        .header("webhook-timestamp", seconds);
    if let Some(signature) = signature {
        request = request.header("webhook-signature", signature);
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
    let stream =
        TcpStream::connect((host.as_str(), port)).await.map_err(|error| format!("connecting: {error}"))?;
    if !is_tls {
        return exchange(stream, request).await;
    }
    let trusted = receiver.ca_file.clone();
    let config = super::blocking(move || trust(trusted.as_deref())).await?;
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let connected = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
    exchange(connected.map_err(|error| format!("TLS: {error}"))?, request).await
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    // Ends with this try, however that ends.
    let mut connection = tokio::task::JoinSet::from_iter([connection]);
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    connection.abort_all();
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answered {status}")),
    }
}

fn secret(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    while bytes.pop_if(|byte| matches!(byte, b'\n' | b'\r')).is_some() {}
    if bytes.is_empty() { Err(format!("{}: holds no key", path.display())) } else { Ok(bytes) }
}

/// `v1,` and the HMAC-SHA256 of `ID.SECONDS.BODY` in base64.
fn sign(secret: &[u8], id: &str, seconds: u64, body: &str) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let tag = aws_lc_rs::hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(tag))
}

/// Whom to believe: the certificates of the system, or of one file. Blocks.
fn trust(file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let system = || SYSTEM_CERTIFICATES.iter().map(PathBuf::from).find(|path| path.exists());
    let path = file.map(Path::to_owned).or_else(system).ok_or_else(|| {
        "this system has no certificates to trust; install ca-certificates, or set `ca_file`".to_owned()
    })?;
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&path).map_err(|error| said(&error))? {
        // One that cannot be read is no reason to trust no other.
        let _ = roots.add(certificate.map_err(|error| said(&error))?);
    }
    if roots.is_empty() {
        return Err(said(&"holds no certificate"));
    }
    let config = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots);
    Ok(Arc::new(config.with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_the_specification_shows() {
        // The secret `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw` without its prefix, in base64.
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn who_is_trusted_is_read_from_a_file_and_what_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(trust(Some(&path)).unwrap_err().contains("ca.pem"));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(trust(Some(&path)).unwrap_err().contains("holds no certificate"));
        assert!(secret(&path).is_ok());
        std::fs::write(&path, "\n\n").unwrap();
        assert!(secret(&path).unwrap_err().contains("holds no key"));
    }
}
