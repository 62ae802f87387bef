//! The identity of a listener: a certificate with its chain, and the private key.
//!
//! [`Identity::new`] verifies that the key belongs to the certificate. It does not check the validity dates, because it
//! has no clock.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::der::{certificate_fields, key_kind};
use super::error_text::{describe, describe_webpki_error};
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
        let Some(first) = chain.first() else {
            return Err(IdentityError::Certificate(damaged_certificate()));
        };
        let (names, validity) = names_and_validity(first).map_err(IdentityError::Certificate)?;
        let signing_key = provider()
            .key_provider
            .load_private_key(pem::private_key(key).map_err(IdentityError::Key)?)
            .map_err(|_| IdentityError::Key(unusable_key(first)))?;
        let key = CertifiedKey::new(chain, signing_key);
        match key.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => return Err(IdentityError::Key(mismatch(&key))),
            Err(error) => {
                let message =
                    format!("the first certificate of the file cannot be used: {}", describe(&error));
                return Err(IdentityError::Certificate(TlsConfigError::new(message, INTACT_COPY)));
            }
        }
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

/// What the certificate says about itself.
///
/// # Errors
/// It is damaged, or not of version 3: only that one names hosts (RFC 5280 4.2.1.6), and clients reject the others.
fn names_and_validity(certificate: &CertificateDer<'_>) -> Result<(Vec<String>, Validity), TlsConfigError> {
    let fields = certificate_fields(certificate).ok_or_else(damaged_certificate)?;
    if fields.version != 3 {
        return Err(TlsConfigError::new(
            format!(
                "the first certificate of the file is X.509 version {}, which cannot name a host",
                fields.version
            ),
            "issue it as version 3, with a subjectAltName; openssl does so with -addext or -extfile",
        ));
    }
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| {
        let reason = describe_webpki_error(&error);
        TlsConfigError::new(
            format!("the first certificate of the file cannot be used: {reason}"),
            INTACT_COPY,
        )
    })?;
    let names = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
    Ok((names, Validity::parse(certificate).ok_or_else(damaged_certificate)?))
}

/// The key belongs to another certificate, perhaps of the same file.
fn mismatch(key: &CertifiedKey) -> TlsConfigError {
    let public_key = key.key.public_key();
    let belongs = |certificate: &CertificateDer<'_>| {
        let fields = certificate_fields(certificate);
        fields.zip(public_key.as_ref()).is_some_and(|(fields, own)| fields.public_key == own.as_ref())
    };
    match key.cert.iter().position(belongs) {
        Some(index) => TlsConfigError::new(
            format!("the key belongs to certificate {} of its file, not to the first one", index + 1),
            "write the server's certificate first, then those that it is signed by",
        ),
        None => TlsConfigError::new(
            "the key does not belong to the certificate",
            "use the key that the certificate was issued for; the server's certificate must come first in its file",
        ),
    }
}

/// The key cannot be read. Its certificate tells of which kind it is.
fn unusable_key(certificate: &CertificateDer<'_>) -> TlsConfigError {
    let kind = certificate_fields(certificate).and_then(|fields| key_kind(fields.public_key));
    let message = match kind {
        Some(kind) if !kind.supported => format!("the key of the certificate is {}", kind.description),
        Some(_) | None => "the key is damaged, or of a kind that is not supported".to_owned(),
    };
    TlsConfigError::new(message, "use an RSA key of 2048 to 8192 bits, or ECDSA P-256 or P-384, or Ed25519")
}

fn damaged_certificate() -> TlsConfigError {
    TlsConfigError::new("the first certificate of the file is damaged", INTACT_COPY)
}

const INTACT_COPY: &str = "replace it with an intact copy";

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

    #[test]
    fn wrong_order_of_the_certificates_is_named() {
        let (certificate, key) = pair("a.test");
        let (other, _) = pair("b.test");
        let error = Identity::new(format!("{other}{certificate}").as_bytes(), key.as_bytes()).unwrap_err();
        let IdentityError::Key(reason) = error else { panic!("{error:?}") };
        assert_eq!(reason.message, "the key belongs to certificate 2 of its file, not to the first one");
    }
}
