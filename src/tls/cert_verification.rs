//! Verifies the certificates of upstreams, and maps failed handshakes to a [`Cause`].
//!
//! Verification is on unless the configuration disables it explicitly. Every handshake has a server name to verify.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, InvalidMessage, OtherError, RootCertStore,
    SignatureScheme,
};

use super::error_text::describe;
use super::listed_verifier::ListedVerifier;
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

/// Which certificates are accepted.
enum Trust {
    /// Those that an authority of the operating system has issued.
    System(RootCertStore),
    /// Those that an authority of a file has issued, and those of the file.
    Listed(RootCertStore),
    /// All.
    Anything,
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
    pub(crate) fn system_roots() -> Result<CertVerification, TlsConfigError> {
        let certificates = rustls_native_certs::load_native_certs().certs;
        let mut roots = RootCertStore::empty();
        let (accepted, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        if accepted == 0 {
            return Err(TlsConfigError::new(
                "no trusted authorities are installed on this system",
                "install ca-certificates, or set the authority's certificate: tls: { ca: FILE }",
            ));
        }
        CertVerification::new(Some(certificates), Trust::System(roots))
    }

    /// Trusts only the authorities in a PEM file, and each certificate in it as itself.
    ///
    /// # Errors
    /// The file is not PEM, is damaged, or contains no certificate.
    pub(crate) fn from_pem(file: &[u8]) -> Result<CertVerification, TlsConfigError> {
        let (certificates, roots) = pem::authorities(file)?;
        CertVerification::new(Some(certificates), Trust::Listed(roots))
    }

    /// Accepts any certificate. A man in the middle can then read and modify the traffic.
    ///
    /// # Errors
    /// The cryptography provider failed.
    pub fn disabled() -> Result<CertVerification, TlsConfigError> {
        CertVerification::new(None, Trust::Anything)
    }

    fn new(
        authorities: Option<Vec<CertificateDer<'static>>>,
        trust: Trust,
    ) -> Result<CertVerification, TlsConfigError> {
        let config_error = |error: Error| TlsConfigError::new(error.to_string(), "please report it");
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(config_error)?;
        let verified_by = |verifier: Arc<dyn ServerCertVerifier>| {
            builder.clone().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        };
        let config = match trust {
            Trust::System(roots) => builder.clone().with_root_certificates(roots).with_no_client_auth(),
            Trust::Listed(roots) => {
                let listed = authorities.clone().unwrap_or_default();
                verified_by(Arc::new(ListedVerifier::new(roots, listed).map_err(config_error)?))
            }
            Trust::Anything => {
                verified_by(Arc::new(NoVerifier(provider().signature_verification_algorithms)))
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
    pub(crate) fn is_enabled(&self) -> bool {
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
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            let evidence = Evidence::owned(format!("{} (upstreams.*.tls.sni)", describe(tls_error)));
            (Cause::TlsCertificateError, evidence)
        }
        Error::InvalidCertificate(CertificateError::Other(other)) if is_of_authority(other) => (
            Cause::TlsCertificateError,
            Evidence::from_static(
                "the certificate is that of an authority, not that of a server; to trust it, list it in upstreams.*.tls.ca",
            ),
        ),
        Error::InvalidCertificate(_) => (Cause::TlsCertificateError, Evidence::owned(describe(tls_error))),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            (Cause::TlsProtocolError, Evidence::from_static("the server does not use TLS on this port"))
        }
        _ => (Cause::TlsProtocolError, Evidence::owned(describe(tls_error))),
    }
}

/// Whether a server presented the certificate of an authority, as `openssl req -x509` creates it.
fn is_of_authority(error: &OtherError) -> bool {
    matches!(error.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Describes an I/O error of a connection that may use TLS, for the log.
pub(crate) fn describe_io_error(error: &io::Error) -> String {
    tls_error(error).map_or_else(|| error.to_string(), describe)
}

/// Whether an I/O error on an established connection comes from TLS.
pub(crate) fn is_tls_error(error: &io::Error) -> bool {
    tls_error(error).is_some()
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Accepts any certificate, also one that cannot be parsed or whose key is too weak. Checking that the server has its
/// key would prove nothing: an attacker who intercepts the connection presents another certificate.
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.supported_schemes();
        schemes.extend(
            UNVERIFIABLE_SCHEMES.iter().filter(|scheme| !self.0.supported_schemes().contains(scheme)),
        );
        schemes
    }
}

/// Schemes that the cryptography provider cannot verify. A server whose key allows no other one could not sign.
const UNVERIFIABLE_SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED448,
    SignatureScheme::ECDSA_SHA1_Legacy,
    SignatureScheme::RSA_PKCS1_SHA1,
];
