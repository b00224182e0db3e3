//! The way to a controller elsewhere: TLS 1.3 to somebody who is known by an authority or by a pin, and a token.

use super::super::failure::Failure;
use crate::wire::pin::Pin;
use crate::wire::tls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where nothing is said behind the host.
const PORT_DEFAULT: u16 = 7443;
/// Time for a connection and its handshake.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Longest file with a token in bytes.
const TOKEN_FILE_MAX: usize = 4_096;

/// Why no connection came about.
#[derive(Debug)]
pub enum NoWay {
    /// Nobody is there; another time there may be.
    Unreachable(String),
    /// Somebody is, and it is not who was meant.
    Refused(String),
}

/// By what a controller is known.
#[derive(Debug)]
pub enum Trust {
    Authorities(PathBuf),
    Pinned(Pin),
}

impl Trust {
    /// # Errors
    /// Neither is given, or the fingerprint is none.
    pub fn new(ca: Option<&Path>, fingerprint: Option<&str>) -> Result<Self, Failure> {
        match (ca, fingerprint) {
            (_, Some(text)) => text.parse().map(Self::Pinned).map_err(|_| {
                Failure::Usage(format!("--fingerprint {text:?}: sha256: and 64 hexadecimal digits are expected"))
            }),
            (Some(file), None) => Ok(Self::Authorities(file.to_owned())),
            (None, None) => Err(Failure::Usage(
                "say by what the controller is known: --fingerprint, as `farmcast ccm fingerprint` shows it there, or \
                 --ca FILE"
                    .to_owned(),
            )),
        }
    }

    fn config(&self) -> Result<ClientConfig, Failure> {
        let builder = tls::client_builder();
        Ok(match self {
            Self::Pinned(pin) => {
                let verifier = Arc::new(Pinned { pin: *pin, provider: tls::provider() });
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
            Self::Authorities(file) => {
                builder.with_root_certificates(authorities(file)?).with_no_client_auth()
            }
        })
    }
}

fn authorities(file: &Path) -> Result<RootCertStore, Failure> {
    let bad = |why: String| Failure::Usage(format!("--ca {}: {why}", file.display()));
    let text = std::fs::read(file).map_err(|error| bad(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("holds no certificate in PEM".to_owned()));
    }
    Ok(roots)
}

/// The token of the command line: from a file, or from the environment, never from the arguments, which everybody on
/// this machine can read.
///
/// # Errors
/// There is none.
pub fn token(file: Option<&Path>) -> Result<String, Failure> {
    let text = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            text.map_err(|error| Failure::Usage(format!("--token-file {}: {error}", file.display())))?
        }
        None => std::env::var("FARMCAST_TOKEN").unwrap_or_default(),
    };
    let token = text.trim();
    if token.is_empty() || token.len() > TOKEN_FILE_MAX {
        let advice =
            "name a token with --token-file FILE, or set FARMCAST_TOKEN: `farmcast token create` makes one";
        return Err(Failure::Usage(advice.to_owned()));
    }
    Ok(token.to_owned())
}

pub struct Secure {
    host: String,
    port: u16,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    token: String,
}

impl Secure {
    /// # Errors
    /// `url` is none, or what it is to be trusted by cannot be read.
    pub fn new(url: &str, trust: &Trust, token: String) -> Result<Self, Failure> {
        let (host, port) = host_and_port(url).ok_or_else(|| {
            Failure::Usage(format!(
                "--ccm {url:?}: https://HOST:PORT is expected; the API is never without TLS"
            ))
        })?;
        let name = ServerName::try_from(host.clone())
            .map_err(|_| Failure::Usage(format!("--ccm {url:?}: {host:?} is no name of a host")))?;
        Ok(Self { host, port, name, config: Arc::new(trust.config()?), token })
    }

    /// `ccm.example.org:7443`
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub async fn connect(&self) -> Result<TlsStream<TcpStream>, NoWay> {
        let connecting = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            let _ = stream.set_nodelay(true);
            TlsConnector::from(Arc::clone(&self.config)).connect(self.name.clone(), stream).await
        };
        match tokio::time::timeout(CONNECT_MAX, connecting).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.no_way(&error)),
            Err(_) => Err(NoWay::Unreachable(format!("no connection within {} s", CONNECT_MAX.as_secs()))),
        }
    }

    fn no_way(&self, error: &std::io::Error) -> NoWay {
        let authority = self.authority();
        match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) => {
                NoWay::Refused(format!("{authority}: {why}"))
            }
            Some(Error::InvalidCertificate(why)) => NoWay::Refused(format!(
                "{authority}: its certificate is not to be trusted by what --ca names: {why}; --fingerprint pins one"
            )),
            Some(error) => NoWay::Unreachable(format!("TLS: {error}")),
            None => NoWay::Unreachable(error.to_string()),
        }
    }
}

/// Of `https://HOST`, `https://HOST:PORT`, `https://[ADDRESS]:PORT`.
fn host_and_port(url: &str) -> Option<(String, u16)> {
    let rest = url.strip_prefix("https://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            (host, if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) })
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => PORT_DEFAULT,
    };
    let is_host = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
    is_host.then(|| (host.to_owned(), port))
}

/// Takes one certificate, whatever names and times stand in it.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "shows the certificate {0}, not the one of --fingerprint; somebody else answers, or it has a new one"
)]
struct AnotherPin(Pin);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pin = Pin::of(shown);
        if pin != self.pin {
            let other = OtherError(Arc::new(AnotherPin(pin)));
            return Err(Error::InvalidCertificate(CertificateError::Other(other)));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls::refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // That it holds the key of what it shows: a certificate alone is known to everybody.
        verify_tls13_signature(message, shown, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port_behind_https_and_nothing_else() {
        let good = |url: &str| host_and_port(url).map(|(host, port)| format!("{host} {port}"));
        for (url, expected) in [
            ("https://ccm.example.org:8443", "ccm.example.org 8443"),
            ("https://ccm.example.org/", "ccm.example.org 7443"),
            ("https://10.0.0.1:1", "10.0.0.1 1"),
            ("https://[fd00::1]:7443", "fd00::1 7443"),
            ("https://[fd00::1]", "fd00::1 7443"),
        ] {
            assert_eq!(good(url).as_deref(), Some(expected), "{url}");
        }
        for url in [
            "",
            "ccm:7443",
            "http://ccm:7443",
            "https://",
            "https://:7443",
            "https://ccm:0",
            "https://ccm:99999",
            "https://ccm:7443/v1",
            "https://me@ccm:7443",
            "https://[fd00::1",
            "https://[fd00::1]7443",
        ] {
            assert_eq!(good(url), None, "{url}");
        }
    }

    #[test]
    fn a_controller_must_be_known_by_something() {
        assert_eq!(Trust::new(None, None).unwrap_err().code(), 2);
        assert_eq!(Trust::new(None, Some("sha256:00")).unwrap_err().code(), 2);
        let missing = Trust::new(Some(Path::new("/nonexistent.pem")), None).unwrap();
        let failure = Secure::new("https://ccm", &missing, String::new()).err().expect("no such file");
        assert!(failure.code() == 2 && failure.to_string().contains("/nonexistent.pem"), "{failure}");
    }
}
