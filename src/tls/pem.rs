//! Parses certificates and private keys from PEM files, with a diagnostic for each common mistake.
//!
//! Pure functions on bytes: the caller adds the file name and the configuration key.

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsConfigError;

/// All certificates of a file, in order; at least one.
///
/// # Errors
/// The file is not PEM, is damaged, or contains no certificate.
pub(crate) fn certificates(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(file).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(no_certificate(file)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(damaged(&error)),
    }
}

/// All certificates of a file of authorities, in order, and the authorities; at least one.
///
/// # Errors
/// The file is not PEM, is damaged, or contains no certificate.
pub(crate) fn authorities(
    file: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), TlsConfigError> {
    let certificates = certificates(file)?;
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates.iter().enumerate() {
        let damaged = |_| {
            let message = format!("certificate {} of the file is damaged", index + 1);
            TlsConfigError::new(message, "replace it with an intact copy")
        };
        roots.add(certificate.clone()).map_err(damaged)?;
    }
    Ok((certificates, roots))
}

/// Whether a file contains a private key.
pub(super) fn has_private_key(file: &[u8]) -> bool {
    contains(file, "PRIVATE KEY-----")
}

/// The first private key of a file.
///
/// # Errors
/// The file is not PEM, is damaged, contains no private key, or the key is encrypted with a passphrase.
pub(crate) fn private_key(file: &[u8]) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    match PrivateKeyDer::from_pem_slice(file) {
        Ok(key) if is_encrypted(file) => {
            // The traditional format has the same label and a `Proc-Type: 4,ENCRYPTED` line.
            drop(key);
            Err(encrypted_key())
        }
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(no_key(file)),
        Err(_) if is_encrypted(file) => Err(encrypted_key()),
        Err(error) => Err(damaged(&error)),
    }
}

fn no_certificate(file: &[u8]) -> TlsConfigError {
    if has_private_key(file) {
        return TlsConfigError::new(
            "the file contains a private key but no certificate",
            "cert and key may be swapped",
        );
    }
    not_pem(file, "certificate")
}

fn no_key(file: &[u8]) -> TlsConfigError {
    if is_encrypted(file) {
        return encrypted_key();
    }
    if contains(file, "BEGIN CERTIFICATE-----") {
        return TlsConfigError::new(
            "the file contains a certificate but no private key",
            "cert and key may be swapped",
        );
    }
    not_pem(file, "private key")
}

fn not_pem(file: &[u8], expected: &str) -> TlsConfigError {
    if contains(file, "-----BEGIN ") {
        let help = format!("expected a PEM file with a {expected}");
        return TlsConfigError::new(format!("the file contains no {expected}"), help);
    }
    // DER begins with a SEQUENCE of two length octets.
    if file.starts_with(&[0x30, 0x82]) {
        let help = "convert it: openssl x509 -inform der -in FILE (or openssl pkey -inform der)";
        return TlsConfigError::new("the file is DER, not PEM", help);
    }
    let help = "expected text with a -----BEGIN line";
    TlsConfigError::new("the file is not PEM", help)
}

fn encrypted_key() -> TlsConfigError {
    let message = "the private key is encrypted with a passphrase";
    TlsConfigError::new(
        message,
        "decrypt it into a file that only the gateway can read: openssl pkey -in FILE -out KEY",
    )
}

fn is_encrypted(file: &[u8]) -> bool {
    contains(file, "BEGIN ENCRYPTED PRIVATE KEY-----") || contains(file, "Proc-Type: 4,ENCRYPTED")
}

fn damaged(error: &pem::Error) -> TlsConfigError {
    let message = match error {
        pem::Error::MissingSectionEnd { .. } => "the file is truncated: an -----END line is missing",
        pem::Error::IllegalSectionStart { .. } => "the file is damaged: invalid -----BEGIN line",
        pem::Error::Base64Decode(_) => "the file is damaged: invalid base64",
        pem::Error::SectionTooLarge => "a section of the file is too large",
        // The enum is non-exhaustive.
        _ => "the file cannot be read as PEM",
    };
    TlsConfigError::new(message, "replace it with an intact copy")
}

fn contains(file: &[u8], text: &str) -> bool {
    memchr::memmem::find(file, text.as_bytes()).is_some()
}
