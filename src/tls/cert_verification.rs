//! Verifies the certificates of upstreams, and maps failed handshakes to a [`Cause`].
//!
//! Verification is on unless the configuration disables it explicitly. Every handshake has a server name to verify.

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

/// How the certificates of an upstream's servers are verified.
pub struct CertVerification {
    /// The trusted authorities; `None`: verification is disabled.
    authorities: Option<Vec<CertificateDer<'static>>>,
    /// One for each variant of [`Alpn`].
    client_configs: [Arc<ClientConfig>; 3],
}

/// The protocols offered to a server (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 preferred, HTTP/1.1 otherwise.
    Http2OrHttp1,
    /// HTTP/2 only.
    Http2,
}

impl fmt::Debug for CertVerification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorities = self.authorities.as_ref().map(Vec::len);
        f.debug_struct("CertVerification").field("authorities", &authorities).finish_non_exhaustive()
    }
}

/// Equal if the authorities are the same. A reload then keeps the upstream and its connections.
impl PartialEq for CertVerification {
    fn eq(&self, other: &Self) -> bool {
        self.authorities == other.authorities
    }
}

impl Eq for CertVerification {}

impl CertVerification {
    /// Trusts the authorities that the operating system trusts. Unreadable entries are skipped.
    ///
    /// # Errors
    /// No trusted authority was found.
    pub fn system_roots() -> Result<CertVerification, TlsConfigError> {
        let certificates = rustls_native_certs::load_native_certs().certs;
        let mut roots = RootCertStore::empty();
        let (accepted, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        if accepted == 0 {
            return Err(TlsConfigError::new(
                "no trusted authorities are installed on this system",
                "install ca-certificates, or set the authority's certificate: tls: { ca: FILE }",
            ));
        }
        CertVerification::new(Some(certificates), roots)
    }

    /// Trusts only the authorities in a PEM file.
    ///
    /// # Errors
    /// The file is not PEM, is damaged, or contains no certificate.
    pub fn from_pem(file: &[u8]) -> Result<CertVerification, TlsConfigError> {
        let certificates = pem::certificates(file)?;
        let mut roots = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            let damaged = |_| {
                let message = format!("certificate {} of the file is damaged", index + 1);
                TlsConfigError::new(message, "replace it with an intact copy")
            };
            roots.add(certificate.clone()).map_err(damaged)?;
        }
        CertVerification::new(Some(certificates), roots)
    }

    /// Accepts any certificate. A man in the middle can then read and modify the traffic.
    ///
    /// # Errors
    /// The cryptography provider failed.
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

    /// Whether certificates are verified.
    pub fn is_enabled(&self) -> bool {
        self.authorities.is_some()
    }

    /// The rustls configuration for a handshake.
    pub(super) fn client_config(&self, alpn: Alpn) -> &Arc<ClientConfig> {
        let [http1, both, http2] = &self.client_configs;
        match alpn {
            Alpn::Http1 => http1,
            Alpn::Http2OrHttp1 => both,
            Alpn::Http2 => http2,
        }
    }
}

/// Parses the server name for SNI and certificate verification.
///
/// # Errors
/// `text` is neither a host name nor an IP address.
pub(crate) fn server_name(text: &str) -> Result<ServerName<'static>, TlsConfigError> {
    ServerName::try_from(text.to_owned()).map_err(|_| {
        let help = "expected a host name, for example api.internal, or an address";
        TlsConfigError::new("not a valid certificate name", help)
    })
}

/// Maps an error of a client handshake to a cause and the evidence for the log.
pub(crate) fn handshake_fault(error: &io::Error) -> (Cause, Evidence) {
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
                "the certificate is not signed by a trusted authority (upstreams.*.tls.ca)",
            ),
        ),
        Error::InvalidCertificate(_) => (Cause::TlsCertificateError, Evidence::owned(tls_error.to_string())),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            (Cause::TlsProtocolError, Evidence::from_static("the server does not use TLS on this port"))
        }
        _ => (Cause::TlsProtocolError, Evidence::owned(tls_error.to_string())),
    }
}

/// Whether an I/O error on an established connection comes from TLS.
pub(crate) fn is_tls_error(error: &io::Error) -> bool {
    tls_error(error).is_some()
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Accepts any certificate, but still verifies that the server has its private key.
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
