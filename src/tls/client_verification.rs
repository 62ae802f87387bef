//! Verifies the certificates of clients by the file `listen[].tls.client_ca`.
//!
//! The certificates of the file are authorities, and each is trusted as itself too: `openssl req -x509` creates a
//! certificate of an authority, and operators list it for the client that uses it.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::der::certificate_fields;
use super::error_text::describe;
use super::listed_verifier::verify_dates;
use super::{TlsConfigError, pem, provider};

/// Which clients a listener that verifies certificates accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    /// Those with a valid certificate.
    Required,
    /// Those with a valid certificate, and those without a certificate.
    Optional,
}

/// How the certificates of clients are verified.
#[derive(Clone)]
pub(crate) struct ClientVerification(Arc<ClientVerifier>);

impl fmt::Debug for ClientVerification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerification").field("listed", &self.0.listed.len()).finish_non_exhaustive()
    }
}

impl ClientVerification {
    /// Trusts the authorities in a PEM file, and each certificate in it as itself.
    ///
    /// # Errors
    /// The file is not PEM, is damaged, or contains something else than certificates of authorities.
    pub(crate) fn from_pem(file: &[u8], auth: ClientAuth) -> Result<Self, TlsConfigError> {
        if pem::has_private_key(file) {
            return Err(TlsConfigError::new(
                "the file contains a private key",
                "write only the certificates of the authorities; the gateway needs no key of theirs",
            ));
        }
        let (listed, roots) = pem::authorities(file)?;
        // webpki would accept certificates that such a certificate has signed: its owner could take any name.
        let is_other = |certificate: &CertificateDer<'_>| {
            certificate_fields(certificate).is_none_or(|fields| !fields.is_of_authority())
        };
        if let Some(index) = listed.iter().position(is_other) {
            return Err(TlsConfigError::new(
                format!("certificate {} of the file is not that of an authority", index + 1),
                "write the certificate of the authority that has issued it (basicConstraints CA:TRUE)",
            ));
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = match auth {
            ClientAuth::Required => builder,
            ClientAuth::Optional => builder.allow_unauthenticated(),
        };
        let by_issuer =
            builder.build().map_err(|error| TlsConfigError::new(error.to_string(), "please report it"))?;
        Ok(ClientVerification(Arc::new(ClientVerifier { by_issuer, listed })))
    }

    /// The verifier, for a handshake.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0) as Arc<dyn ClientCertVerifier>
    }
}

/// Why a handshake was ended because of the client's certificate, for the log; `None` if it failed for another reason.
pub(crate) fn rejection(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref()? {
        Error::NoCertificatesPresented => Some("the client sent no certificate".to_owned()),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Some("the certificate is not signed by an authority of listen[].tls.client_ca".to_owned())
        }
        Error::InvalidCertificate(CertificateError::Other(other))
            if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
        {
            Some("the certificate is that of an authority, not that of a client".to_owned())
        }
        error @ Error::InvalidCertificate(_) => Some(describe(error)),
        _ => None,
    }
}

/// Accepts the certificates that an authority of a file has issued, and those of the file.
#[derive(Debug)]
struct ClientVerifier {
    by_issuer: Arc<dyn ClientCertVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.by_issuer.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_issuer.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.by_issuer.verify_client_cert(end_entity, intermediates, now);
        if verified.is_err() && self.listed.iter().any(|listed| listed == end_entity) {
            return verify_dates(end_entity, now)
                .map(|()| ClientCertVerified::assertion())
                .map_err(Error::InvalidCertificate);
        }
        // webpki checks only the extended key usage.
        if verified.is_ok() && !certificate_fields(end_entity).is_some_and(|fields| fields.may_sign()) {
            return Err(Error::InvalidCertificate(CertificateError::InvalidPurpose));
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_issuer.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_issuer.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_issuer.supported_verify_schemes()
    }
}
