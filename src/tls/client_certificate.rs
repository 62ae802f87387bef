//! The certificate that a client has presented and the listener has verified, as routes forward it.

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;

use super::der::certificate_fields;
use super::distinguished_name;

/// What is known of a client by its certificate. Made once for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    subject: Option<String>,
    fingerprint: String,
}

impl ClientCertificate {
    /// Reads a verified certificate.
    pub(super) fn new(certificate: &CertificateDer<'_>) -> Self {
        let subject =
            certificate_fields(certificate).and_then(|fields| distinguished_name::to_text(fields.subject));
        let digest = digest(&SHA256, certificate);
        ClientCertificate {
            subject: subject.filter(|text| !text.is_empty()),
            fingerprint: digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect(),
        }
    }

    /// The subject (RFC 4514), in printable ASCII. `None` if it is empty, as in certificates that name their owner only
    /// by subjectAltName.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The SHA-256 of the certificate in DER, in lower-case hexadecimal digits.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}
