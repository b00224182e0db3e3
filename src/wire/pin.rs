//! The fingerprint of a certificate, by which a client knows a controller without an authority: `sha256:` and 64
//! hexadecimal digits of the SHA-256 hash of its DER form, as other tools print it too.

use super::Malformed;
use super::id::{hex, unhex};
use aws_lc_rs::digest::{SHA256, digest};
use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        let hash = digest(&SHA256, certificate);
        Self(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pin {
    type Err = Malformed;

    /// Also with colons between the bytes, as `openssl x509 -fingerprint` prints them.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let digits = text.strip_prefix("sha256:").ok_or(Malformed::OutOfBounds("fingerprint"))?;
        let bytes = unhex(&digits.replace(':', "")).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(Malformed::OutOfBounds("fingerprint"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_the_sha256_of_the_certificate_and_reads_back() {
        // FIPS 180-2, appendix B.1.
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let pin = Pin::of(b"abc");
        assert_eq!(pin.to_string(), abc);
        assert_eq!(abc.parse(), Ok(pin));
        let digits = abc.as_bytes()[7..].chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase());
        assert_eq!(format!("sha256:{}", digits.collect::<Vec<_>>().join(":")).parse(), Ok(pin));
        for bad in ["", "sha256:", &abc[7..], &abc[..70], "sha1:00", &format!("{abc}00")] {
            assert!(bad.parse::<Pin>().is_err(), "{bad}");
        }
    }
}
