//! Verifies the certificates of upstreams by the file `upstreams.NAME.tls.ca`.
//!
//! The certificates of the file are authorities, and each is trusted as itself too: `openssl req -x509` creates a
//! certificate of an authority, and operators list it for the server that uses it.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use webpki::RawPublicKeyEntity;

use super::der::certificate_fields;
use super::error_text::names_of_hosts;
use super::expiry::Validity;
use super::provider;

/// Accepts the certificates that an authority of a file has issued, and those of the file.
#[derive(Debug)]
pub(super) struct ListedVerifier {
    by_issuer: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ListedVerifier {
    /// `roots` are the authorities of `listed`.
    ///
    /// # Errors
    /// `roots` is empty.
    pub(super) fn new(roots: RootCertStore, listed: Vec<CertificateDer<'static>>) -> Result<Self, Error> {
        let by_issuer = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let algorithms = provider().signature_verification_algorithms;
        Ok(ListedVerifier { by_issuer, listed, algorithms })
    }

    fn is_listed(&self, certificate: &CertificateDer<'_>) -> bool {
        self.listed.iter().any(|listed| listed == certificate)
    }

    /// The key of a listed certificate that `webpki` cannot read, because it is not of version 3.
    fn key_of_old_version<'a>(
        &self,
        certificate: &'a CertificateDer<'_>,
    ) -> Option<SubjectPublicKeyInfoDer<'a>> {
        let fields = certificate_fields(certificate).filter(|fields| fields.version != 3)?;
        self.is_listed(certificate).then(|| SubjectPublicKeyInfoDer::from(fields.public_key))
    }
}

impl ServerCertVerifier for ListedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.by_issuer.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(_) if self.is_listed(end_entity) => verify_listed(end_entity, server_name, now)
                .map(|()| ServerCertVerified::assertion())
                .map_err(Error::InvalidCertificate),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(key) = self.key_of_old_version(certificate) else {
            return self.by_issuer.verify_tls12_signature(message, certificate, signed);
        };
        let damaged = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let key = RawPublicKeyEntity::try_from(&key).map_err(damaged)?;
        let mappings = self.algorithms.mapping.iter();
        let mut algorithms =
            mappings.filter(|(scheme, _)| *scheme == signed.scheme).flat_map(|(_, algorithms)| *algorithms);
        algorithms
            .any(|algorithm| key.verify_signature(*algorithm, message, signed.signature()).is_ok())
            .then(HandshakeSignatureValid::assertion)
            .ok_or(Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.key_of_old_version(certificate) {
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms),
            None => self.by_issuer.verify_tls13_signature(message, certificate, signed),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_issuer.supported_verify_schemes()
    }
}

/// Verifies that a certificate is valid at `time`.
pub(super) fn verify_dates(certificate: &CertificateDer<'_>, time: UnixTime) -> Result<(), CertificateError> {
    let validity = Validity::parse(certificate).ok_or(CertificateError::BadEncoding)?;
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    if time.as_secs() > validity.not_after {
        return Err(CertificateError::ExpiredContext { time, not_after: at(validity.not_after) });
    }
    if time.as_secs() < validity.not_before {
        return Err(CertificateError::NotValidYetContext { time, not_before: at(validity.not_before) });
    }
    Ok(())
}

/// Verifies a certificate that is trusted as itself: its dates, and its names. One that names no host identifies
/// the server by being listed.
fn verify_listed(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    time: UnixTime,
) -> Result<(), CertificateError> {
    verify_dates(certificate, time)?;
    // Only version 3 has names that can be verified.
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return Ok(()) };
    match parsed.verify_is_valid_for_subject_name(server_name) {
        Ok(()) => Ok(()),
        Err(webpki::Error::CertNotValidForName(context))
            if names_of_hosts(&context.presented).next().is_none() =>
        {
            Ok(())
        }
        Err(webpki::Error::CertNotValidForName(context)) => Err(CertificateError::NotValidForNameContext {
            expected: context.expected,
            presented: context.presented,
        }),
        Err(_) => Err(CertificateError::NotValidForName),
    }
}
