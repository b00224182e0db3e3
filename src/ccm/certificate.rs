//! The certificate under which the API answers over TLS: the operator's own, or one that the controller makes for
//! itself and signs with its own key, for clients that pin it.

use super::config::Config;
use crate::wire::pin::Pin;
use crate::wire::tls;
use jiff::civil::Date;
use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
/// Years for which one that is made counts. Whoever pins it does not ask.
const YEARS: i64 = 10;

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("{path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{path}: {error}")]
    Write { path: PathBuf, error: std::io::Error },
    #[error("{path}: holds no {what} in PEM ({error})")]
    Malformed { path: PathBuf, what: &'static str, error: rustls::pki_types::pem::Error },
    #[error("{0}: others than its owner can read it; take their rights away with `chmod 600`")]
    Readable(PathBuf),
    #[error("a certificate for the API cannot be made: {0}")]
    Make(rcgen::Error),
    #[error("{certificate} and {key} do not belong together, or cannot be used: {error}")]
    Unfit { certificate: PathBuf, key: PathBuf, error: rustls::Error },
}

/// How the API answers over TLS, and what clients pin.
#[derive(Clone, Debug)]
pub struct Identity {
    pub tls: Arc<ServerConfig>,
    pub pin: Pin,
}

/// Reads the certificate that the configuration names, or else the controller's own, which is made where there is none.
///
/// # Errors
/// What is wrong with which file.
pub fn load(config: &Config) -> Result<Identity, CertificateError> {
    let (certificate, key) = match (&config.api_certificate, &config.api_key) {
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        _ => own(config)?,
    };
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| CertificateError::Read { path: path.to_owned(), error })
    };
    let malformed =
        |path: &Path, what, error| CertificateError::Malformed { path: path.to_owned(), what, error };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(&certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| malformed(&certificate, "certificate", error))?;
    let Some(first) = chain.first() else {
        return Err(malformed(&certificate, "certificate", rustls::pki_types::pem::Error::NoItemsFound));
    };
    let pin = Pin::of(first);
    let private = read(&key)?;
    let mode =
        std::fs::metadata(&key).map_err(|error| CertificateError::Read { path: key.clone(), error })?;
    if mode.permissions().mode() & 0o007 != 0 {
        return Err(CertificateError::Readable(key));
    }
    let private =
        PrivateKeyDer::from_pem_slice(&private).map_err(|error| malformed(&key, "private key", error))?;
    let tls = tls::server_builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| CertificateError::Unfit { certificate, key, error })?;
    Ok(Identity { tls: Arc::new(tls), pin })
}

/// Files of the certificate that the controller made; makes it where there is none.
fn own(config: &Config) -> Result<(PathBuf, PathBuf), CertificateError> {
    let dir = config.dir.join("api");
    let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |error| CertificateError::Write { path, error }
    };
    // The certificate is written last: where it is, the key is.
    if certificate.try_exists().map_err(fail(&certificate))? {
        return Ok((certificate, key));
    }
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&dir).map_err(fail(&dir))?;
    let now = Timestamp::from_nanosecond(i128::from(super::clock::now_ns())).unwrap_or_default();
    let made = make(names(config), now).map_err(CertificateError::Make)?;
    for (path, mode, pem) in [(&key, 0o600, &made.key), (&certificate, 0o644, &made.certificate)] {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(mode).open(path);
        file.and_then(|mut file| file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(fail(path))?;
    }
    std::fs::File::open(&dir).and_then(|dir| dir.sync_all()).map_err(fail(&dir))?;
    Ok((certificate, key))
}

/// Host names and addresses under which clients may name this machine.
fn names(config: &Config) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if !host.is_empty() && host.bytes().all(is_plain) {
        names.push(host);
    }
    let addresses = [config.api, Some(config.listen), config.advertise].into_iter().flatten();
    names.extend(
        addresses.map(|address| address.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()),
    );
    let mut known = BTreeSet::new();
    names.retain(|name| known.insert(name.clone()));
    names
}

/// A certificate and its key, both in PEM.
struct Made {
    certificate: String,
    key: String,
}

fn make(names: Vec<String>, now: Timestamp) -> Result<Made, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut content = CertificateParams::new(names)?;
    content.distinguished_name = DistinguishedName::new();
    content.distinguished_name.push(DnType::CommonName, "farmcast");
    content.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    content.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let midnight = |date: Date| {
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let today = now.to_zoned(TimeZone::UTC).date();
    // Clocks of clients may be behind.
    content.not_before = midnight(today.saturating_sub(Span::new().days(1)));
    content.not_after = midnight(today.saturating_add(Span::new().years(YEARS)));
    let certificate = content.self_signed(&key)?;
    Ok(Made { certificate: certificate.pem(), key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::controller;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};
    use std::time::Duration;

    fn config() -> (tempfile::TempDir, Config) {
        let (dir, controller) = controller(0);
        let config = Config { api: Some("192.0.2.1:7443".parse().unwrap()), ..controller.config.clone() };
        (dir, config)
    }

    #[test]
    fn a_certificate_is_made_once_and_a_verifier_takes_it_for_the_names_that_it_has() {
        let (_dir, config) = config();
        let first = load(&config).unwrap();
        assert_eq!(load(&config).unwrap().pin, first.pin);
        let dir = config.dir.join("api");
        assert_eq!(std::fs::metadata(dir.join(KEY)).unwrap().permissions().mode() & 0o777, 0o600);

        let text = std::fs::read(dir.join(CERTIFICATE)).unwrap();
        let certificate = CertificateDer::from_pem_slice(&text).unwrap();
        assert_eq!(Pin::of(&certificate), first.pin);
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider()).build().unwrap();
        let now = Duration::from_nanos(crate::ccm::clock::now_ns());
        let verify = |name: &str, at: Duration| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::since_unix_epoch(at)).is_ok()
        };
        let year = Duration::from_secs(365 * 86_400);
        for name in ["localhost", "127.0.0.1", "192.0.2.1"] {
            assert!(verify(name, now) && verify(name, now + 9 * year), "{name}");
        }
        assert!(!verify("example.org", now) && !verify("192.0.2.2", now));
        assert!(!verify("localhost", now + 11 * year) && !verify("localhost", now - year));
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_of_another_certificate_is_refused() {
        let (_dir, config) = config();
        load(&config).unwrap();
        let (mine, other) = (config.dir.join("api").join(KEY), config.dir.join("other.pem"));
        std::fs::set_permissions(&mine, std::fs::Permissions::from_mode(0o604)).unwrap();
        assert!(matches!(load(&config), Err(CertificateError::Readable(_))));
        let made = make(vec![], Timestamp::UNIX_EPOCH).unwrap();
        std::fs::write(&other, &made.key).unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
        let certificate = Some(config.dir.join("api").join(CERTIFICATE));
        let own = |key: &Path| Config {
            api_certificate: certificate.clone(),
            api_key: Some(key.to_owned()),
            ..config.clone()
        };
        assert!(matches!(load(&own(&other)), Err(CertificateError::Unfit { .. })));
        std::fs::write(&other, "no key").unwrap();
        assert!(matches!(load(&own(&other)), Err(CertificateError::Malformed { .. })));
        let error = load(&own(&config.dir.join("none.pem"))).unwrap_err().to_string();
        assert!(error.contains("none.pem"), "{error}");
    }
}
