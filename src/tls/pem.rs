//! PEM files: the certificates and the private key in them, or what is wrong, in the words of who made the file.
//!
//! Pure functions on bytes: who reads the file knows its name and its place in the configuration.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsConfigError;

/// Every certificate of a file, in its order; at least one.
///
/// # Errors
/// The file is no PEM, is damaged, or holds something else.
pub fn certificates(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(file).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(no_certificate(file)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(damaged(&error)),
    }
}

/// The private key of a file: the first one.
///
/// # Errors
/// The file is no PEM, is damaged, holds something else, or a key that is locked with a password.
pub fn private_key(file: &[u8]) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    match PrivateKeyDer::from_pem_slice(file) {
        Ok(key) if is_encrypted(file) => {
            // The traditional form: the same label, and a line that says so.
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
    if contains(file, "PRIVATE KEY-----") {
        return TlsConfigError::new(
            "the file holds a private key and no certificate",
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
            "the file holds a certificate and no private key",
            "cert and key may be swapped",
        );
    }
    not_pem(file, "private key")
}

fn not_pem(file: &[u8], wanted: &str) -> TlsConfigError {
    if contains(file, "-----BEGIN ") {
        let help = "expected a PEM file that has one";
        return TlsConfigError::new(format!("the file holds no {wanted}"), help);
    }
    // DER begins with a SEQUENCE of two length octets.
    if file.starts_with(&[0x30, 0x82]) {
        let help = "convert it: openssl x509 -inform der -in FILE (or openssl pkey -inform der)";
        return TlsConfigError::new("the file is DER, not PEM", help);
    }
    let help = "expected text with a part that begins with -----BEGIN";
    TlsConfigError::new("the file is not PEM", help)
}

fn encrypted_key() -> TlsConfigError {
    let message = "the private key is locked with a password";
    TlsConfigError::new(
        message,
        "store it unlocked, readable by the gateway alone: openssl pkey -in FILE -out KEY",
    )
}

fn is_encrypted(file: &[u8]) -> bool {
    contains(file, "BEGIN ENCRYPTED PRIVATE KEY-----") || contains(file, "Proc-Type: 4,ENCRYPTED")
}

fn damaged(error: &pem::Error) -> TlsConfigError {
    let message = match error {
        pem::Error::MissingSectionEnd { .. } => "the file ends inside a part: its -----END line is missing",
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN line of the file is damaged",
        pem::Error::Base64Decode(_) => "the file is damaged: a part is not base64",
        pem::Error::SectionTooLarge => "a part of the file is far too large",
        // The library's enum may grow.
        _ => "the file cannot be read as PEM",
    };
    TlsConfigError::new(message, "copy it anew from where it was issued")
}

fn contains(file: &[u8], text: &str) -> bool {
    memchr::memmem::find(file, text.as_bytes()).is_some()
}
