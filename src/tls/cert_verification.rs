//! What is demanded of an upstream's certificate, and what a failed handshake with it is called.
//!
//! Verification is on unless the file says in so many words that it is off. A name is part of every handshake, so that
//! there is none whose certificate could belong to anybody.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, InvalidMessage, RootCertStore,
    SignatureScheme,
};

use super::server_config::{ALPN_H2, ALPN_HTTP11};
use super::{TlsConfigError, VERSIONS, pem, provider};
use crate::contract::{Cause, Evidence};

/// Whom an upstream's servers must be certified by.
pub struct CertVerification {
    /// `None`: nobody asks.
    authorities: Option<Vec<CertificateDer<'static>>>,
    /// One for each of [`Alpn`].
    client_configs: [Arc<ClientConfig>; 3],
}

/// Which protocols a server is offered (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2, or else HTTP/1.1.
    Http2OrHttp1,
    /// HTTP/2 alone.
    Http2,
}

impl fmt::Debug for CertVerification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorities = self.authorities.as_ref().map(Vec::len);
        f.debug_struct("Trust").field("authorities", &authorities).finish_non_exhaustive()
    }
}

/// The same demand; handshakes may then go on as they did.
impl PartialEq for CertVerification {
    fn eq(&self, other: &Self) -> bool {
        self.authorities == other.authorities
    }
}

impl Eq for CertVerification {}

impl CertVerification {
    /// In the authorities that this system trusts. What can be read of its list is taken.
    ///
    /// # Errors
    /// There are none.
    pub fn system_roots() -> Result<CertVerification, TlsConfigError> {
        let certificates = rustls_native_certs::load_native_certs().certs;
        let mut roots = RootCertStore::empty();
        let (accepted, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        if accepted == 0 {
            return Err(TlsConfigError::new(
                "this system has no list of trusted authorities",
                "install ca-certificates, or name the authority's certificate: tls: { ca: FILE }",
            ));
        }
        CertVerification::new(Some(certificates), roots)
    }

    /// In the authorities of a PEM file and in nobody else.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn from_pem(file: &[u8]) -> Result<CertVerification, TlsConfigError> {
        let certificates = pem::certificates(file)?;
        let mut roots = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            let damaged = |_| {
                let message = format!("certificate {} of the file is damaged", index + 1);
                TlsConfigError::new(message, "copy it anew from where it was issued")
            };
            roots.add(certificate.clone()).map_err(damaged)?;
        }
        CertVerification::new(Some(certificates), roots)
    }

    /// In anybody at all.
    ///
    /// # Errors
    /// The cryptography does not work; never seen.
    pub fn disabled() -> Result<CertVerification, TlsConfigError> {
        CertVerification::new(None, RootCertStore::empty())
    }

    fn new(
        authorities: Option<Vec<CertificateDer<'static>>>,
        roots: RootCertStore,
    ) -> Result<CertVerification, TlsConfigError> {
        let config_error = |error: Error| TlsConfigError::new(error.to_string(), "please report it");
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(config_error)?;
        let config = match &authorities {
            Some(_) => builder.with_root_certificates(roots).with_no_client_auth(),
            None => {
                let no_verifier = NoVerifier(provider().signature_verification_algorithms);
                let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(no_verifier));
                builder.with_no_client_auth()
            }
        };
        let [http1, both, http2] = [
            vec![ALPN_HTTP11.to_vec()],
            vec![ALPN_H2.to_vec(), ALPN_HTTP11.to_vec()],
            vec![ALPN_H2.to_vec()],
        ]
        .map(|protocols| {
            let mut config = config.clone();
            config.alpn_protocols = protocols;
            Arc::new(config)
        });
        Ok(CertVerification { authorities, client_configs: [http1, both, http2] })
    }

    /// Whether certificates are looked at.
    pub fn is_enabled(&self) -> bool {
        self.authorities.is_some()
    }

    /// For handshakes.
    pub(super) fn client_config(&self, alpn: Alpn) -> &Arc<ClientConfig> {
        let [http1, both, http2] = &self.client_configs;
        match alpn {
            Alpn::Http1 => http1,
            Alpn::Http2OrHttp1 => both,
            Alpn::Http2 => http2,
        }
    }
}

/// The name that a server must be certified for, and that it is asked by (SNI).
///
/// # Errors
/// It is neither a host name nor an address.
pub fn server_name(text: &str) -> Result<ServerName<'static>, TlsConfigError> {
    ServerName::try_from(text.to_owned()).map_err(|_| {
        let help = "expected a host name, for example api.internal, or an address";
        TlsConfigError::new("no certificate can be for this name", help)
    })
}

/// What a handshake that failed is called, and what the log may say of it.
pub fn handshake_fault(error: &io::Error) -> (Cause, Evidence) {
    let Some(tls_error) = tls_error(error) else {
        let evidence = if error.kind() == io::ErrorKind::UnexpectedEof {
            Evidence::from_static("the server closed the connection inside the TLS handshake")
        } else {
            Evidence::owned(format!("inside the TLS handshake: {error}"))
        };
        return (Cause::TlsProtocolError, evidence);
    };
    match tls_error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => (
            Cause::TlsCertificateError,
            Evidence::from_static(
                "the certificate is signed by nobody who is trusted here (upstreams.*.tls.ca)",
            ),
        ),
        Error::InvalidCertificate(_) => (Cause::TlsCertificateError, Evidence::owned(tls_error.to_string())),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => (
            Cause::TlsProtocolError,
            Evidence::from_static("the server does not answer in TLS: a plain port?"),
        ),
        _ => (Cause::TlsProtocolError, Evidence::owned(tls_error.to_string())),
    }
}

/// Whether TLS is what broke, on a connection whose handshake was over.
pub fn is_tls_error(error: &io::Error) -> bool {
    tls_error(error).is_some()
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Takes any certificate, but still wants proof that the server has its key.
#[derive(Debug)]
struct NoVerifier(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
