//! The identity of a listener: a certificate with its chain, and the private key.
//!
//! [`Identity::new`] verifies that the key belongs to the certificate. It does not check the validity dates, because it
//! has no clock.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::expiry::Validity;
use super::{TlsConfigError, pem, provider};

/// A certificate chain with its private key.
pub(crate) struct Identity {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    validity: Validity,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The file that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentityError {
    /// The certificate file.
    Certificate(TlsConfigError),
    /// The key file.
    Key(TlsConfigError),
}

impl Identity {
    /// Parses two PEM files: the certificate with its chain, and the private key.
    ///
    /// # Errors
    /// A file cannot be parsed, or the key does not belong to the certificate.
    pub(crate) fn new(certificate: &[u8], key: &[u8]) -> Result<Identity, IdentityError> {
        let chain = pem::certificates(certificate).map_err(IdentityError::Certificate)?;
        let (names, validity) = chain
            .first()
            .and_then(names_and_validity)
            .ok_or_else(|| IdentityError::Certificate(damaged_certificate()))?;
        let key = pem::private_key(key).map_err(IdentityError::Key)?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => IdentityError::Key(TlsConfigError::new(
                "the key does not belong to the certificate",
                "use the key that the certificate was issued for; the server's certificate must come first in its file",
            )),
            Error::InvalidCertificate(_) => IdentityError::Certificate(damaged_certificate()),
            error => IdentityError::Key(TlsConfigError::new(
                format!("the key cannot be used: {error}"),
                "use an RSA key of 2048 bits or more, or ECDSA P-256 or P-384, or Ed25519",
            )),
        })?;
        Ok(Identity { key: Arc::new(key), names, validity })
    }

    /// The certificate and key, for a handshake.
    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// The DNS names of the certificate, in lower case, including wildcards.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The validity dates of the certificate.
    pub(crate) fn validity(&self) -> Validity {
        self.validity
    }
}

fn names_and_validity(certificate: &CertificateDer<'_>) -> Option<(Vec<String>, Validity)> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let names = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
    Some((names, Validity::parse(certificate)?))
}

fn damaged_certificate() -> TlsConfigError {
    TlsConfigError::new("the first certificate of the file is damaged", "replace it with an intact copy")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn pair(name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn matching_certificate_and_key_form_an_identity() {
        let (certificate, key) = pair("*.Shop.test");
        let identity = Identity::new(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(identity.names(), ["*.shop.test"]);
        // Both in one file, as some programs require.
        let both = format!("{key}{certificate}");
        assert!(Identity::new(both.as_bytes(), both.as_bytes()).is_ok());
    }

    #[test]
    fn error_names_the_faulty_file() {
        let (certificate, key) = pair("a.test");
        let (_, other_key) = pair("a.test");
        let truncated = certificate.trim_end().strip_suffix("-----END CERTIFICATE-----").unwrap();
        let damaged = certificate.replacen("MII", "!!!", 1);
        let not_a_certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let encrypted = key
            .replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE")
            .replace("END PRIVATE", "END ENCRYPTED PRIVATE");
        let cases: &[(&str, &str, &str, &str)] = &[
            ("", &key, "cert", "the file is not PEM"),
            ("hello", &key, "cert", "the file is not PEM"),
            ("\u{30}\u{2}", &key, "cert", "the file is not PEM"),
            (&key, &certificate, "cert", "the file contains a private key but no certificate"),
            (truncated, &key, "cert", "the file is truncated: an -----END line is missing"),
            (&damaged, &key, "cert", "the file is damaged: invalid base64"),
            (not_a_certificate, &key, "cert", "the first certificate of the file is damaged"),
            (&certificate, "", "key", "the file is not PEM"),
            (&certificate, &certificate, "key", "the file contains a certificate but no private key"),
            (&certificate, &other_key, "key", "the key does not belong to the certificate"),
            (&certificate, &encrypted, "key", "the private key is encrypted with a passphrase"),
        ];
        for (certificate, key, file, message) in cases {
            let error = Identity::new(certificate.as_bytes(), key.as_bytes()).unwrap_err();
            let (field, reason) = match &error {
                IdentityError::Certificate(reason) => ("cert", reason),
                IdentityError::Key(reason) => ("key", reason),
            };
            assert_eq!((field, reason.message.as_str()), (*file, *message));
            assert!(!reason.help.is_empty());
        }
    }
}
