//! The certificate under which the API answers over TLS: the operator's own, or one that the controller makes for
//! itself and signs with its own key, for clients that pin it.
//!
//! What is made is X.509 version 3 (RFC 5280) with a key on P-256 (RFC 5480): what every TLS library reads.

use super::config::Config;
use crate::wire::pin::Pin;
use crate::wire::seal::random;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use jiff::{Span, Timestamp, tz::TimeZone};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use std::io::Write;
use std::net::IpAddr;
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
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
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
    let made = make(
        &names(config),
        Timestamp::from_nanosecond(i128::from(super::clock::now_ns())).unwrap_or_default(),
    );
    for (path, mode, label, der) in
        [(&key, 0o600, "PRIVATE KEY", &made.key), (&certificate, 0o644, "CERTIFICATE", &made.certificate)]
    {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(mode).open(path);
        file.and_then(|mut file| file.write_all(pem(label, der).as_bytes()).and_then(|()| file.sync_all()))
            .map_err(fail(path))?;
    }
    std::fs::File::open(&dir).and_then(|dir| dir.sync_all()).map_err(fail(&dir))?;
    Ok((certificate, key))
}

/// Under which clients may name this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    hosts: Vec<String>,
    addresses: Vec<IpAddr>,
}

fn names(config: &Config) -> Names {
    let mut hosts = vec!["localhost".to_owned()];
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if !host.is_empty() && host != "localhost" && host.bytes().all(is_plain) {
        hosts.push(host);
    }
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1])];
    for address in [config.api, Some(config.listen), config.advertise].into_iter().flatten() {
        let ip = address.ip();
        if !ip.is_unspecified() && !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    Names { hosts, addresses }
}

#[derive(Debug)]
struct Made {
    certificate: Vec<u8>,
    /// PKCS #8.
    key: Vec<u8>,
}

fn make(names: &Names, now: Timestamp) -> Made {
    let random_source = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random_source)
        .expect("the system has randomness");
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref()).expect("it was just made");
    let content = der::certificate(pair.public_key().as_ref(), names, now);
    let signature = pair.sign(&random_source, &content).expect("the system has randomness");
    let whole = [content, der::ecdsa_with_sha256(), der::bits(signature.as_ref())].concat();
    Made { certificate: der::sequence(&whole), key: key.as_ref().to_vec() }
}

/// RFC 7468: base64 in lines of 64.
fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let mut bytes = [0; 4];
        bytes[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(bytes);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize % 64];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// As much of X.690 and X.509 as one certificate takes.
mod der {
    use super::{IpAddr, Names, Span, TimeZone, Timestamp, YEARS, random};

    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    const OCTET_STRING: u8 = 0x04;
    const OID: u8 = 0x06;
    const UTF8_STRING: u8 = 0x0c;
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    const SEQUENCE: u8 = 0x30;
    const SET: u8 = 0x31;
    const TRUE: [u8; 3] = [0x01, 0x01, 0xff];

    // Object identifiers: RFC 5480, RFC 5758, RFC 5280.
    const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
    const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

    fn item(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match u8::try_from(content.len()) {
            Ok(len @ 0..0x80) => out.push(len),
            _ => {
                let len = content.len().to_be_bytes();
                let from = len.iter().position(|byte| *byte != 0).unwrap_or(len.len() - 1);
                out.push(0x80 | u8::try_from(len.len() - from).expect("a length of at most eight bytes"));
                out.extend_from_slice(&len[from..]);
            }
        }
        out.extend_from_slice(content);
        out
    }

    pub fn sequence(content: &[u8]) -> Vec<u8> {
        item(SEQUENCE, content)
    }

    /// Whole bytes as a BIT STRING.
    pub fn bits(bytes: &[u8]) -> Vec<u8> {
        item(BIT_STRING, &[&[0], bytes].concat())
    }

    pub fn ecdsa_with_sha256() -> Vec<u8> {
        sequence(&item(OID, ECDSA_WITH_SHA256))
    }

    /// RFC 5280, 4.1.2.5: two digits for the year until 2049.
    fn time(at: Timestamp) -> Vec<u8> {
        let at = at.to_zoned(TimeZone::UTC);
        match at.year() {
            ..2050 => item(UTC_TIME, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()),
            _ => item(GENERALIZED_TIME, at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()),
        }
    }

    fn extension(oid: &[u8], is_critical: bool, content: &[u8]) -> Vec<u8> {
        let critical: &[u8] = if is_critical { &TRUE } else { &[] };
        sequence(&[&item(OID, oid), critical, &item(OCTET_STRING, content)].concat())
    }

    /// All but the signature. `public` is the point, uncompressed.
    pub fn certificate(public: &[u8], names: &Names, now: Timestamp) -> Vec<u8> {
        let mut serial: [u8; 16] = random();
        // Positive, and of its full length.
        serial[0] = serial[0] & 0x7f | 0x40;
        let common_name = [item(OID, COMMON_NAME), item(UTF8_STRING, b"farmcast")].concat();
        let name = sequence(&item(SET, &sequence(&common_name)));
        // Clocks of clients may be behind.
        let from = now.checked_sub(Span::new().hours(24)).unwrap_or(now);
        let until = now.to_zoned(TimeZone::UTC).checked_add(Span::new().years(YEARS));
        let until = until.map_or(now, |until| until.timestamp());
        let key = [sequence(&[item(OID, EC_PUBLIC_KEY), item(OID, P256)].concat()), bits(public)].concat();
        let hosts = names.hosts.iter().map(|host| item(0x82, host.as_bytes()));
        let addresses = names.addresses.iter().map(|address| match address {
            IpAddr::V4(address) => item(0x87, &address.octets()),
            IpAddr::V6(address) => item(0x87, &address.octets()),
        });
        let also: Vec<u8> = hosts.chain(addresses).flatten().collect();
        let extensions = [
            // Bit 0: signatures; seven bits are unused.
            extension(KEY_USAGE, true, &item(BIT_STRING, &[7, 0x80])),
            extension(EXTENDED_KEY_USAGE, false, &sequence(&item(OID, SERVER_AUTH))),
            extension(SUBJECT_ALT_NAME, false, &sequence(&also)),
        ];
        sequence(
            &[
                // Version 3.
                item(0xa0, &item(INTEGER, &[2])),
                item(INTEGER, &serial),
                ecdsa_with_sha256(),
                name.clone(),
                sequence(&[time(from), time(until)].concat()),
                name,
                sequence(&key),
                item(0xa3, &sequence(&extensions.concat())),
            ]
            .concat(),
        )
    }
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
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
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
        let made = make(&Names::default(), Timestamp::UNIX_EPOCH);
        std::fs::write(&other, pem("PRIVATE KEY", &made.key)).unwrap();
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

    #[test]
    fn base64_is_padded_and_broken_into_lines() {
        // RFC 4648, section 10.
        for (bytes, text) in [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(pem("X", bytes.as_bytes()), format!("-----BEGIN X-----\n{text}\n-----END X-----\n"));
        }
        assert!(pem("X", &[0; 100]).lines().all(|line| line.len() <= 64));
    }
}
