//! TLS for listeners and upstreams. Callers apply the handshake timeouts and handle failures.
//!
//! - [`pem`] parses certificate and key files, [`der`] the fields of a certificate. [`expiry`] has its validity dates.
//! - [`identity`] pairs a certificate with its private key. [`server_config`] selects one by SNI on a listener.
//! - [`cert_verification`] verifies the certificates of upstreams, [`client_verification`] those of clients, of which
//!   [`client_certificate`] is forwarded. [`error_text`] describes what failed.
//! - [`stream`] performs the handshakes and implements pingora's stream traits.

pub(crate) mod cert_verification;
pub(crate) mod client_certificate;
pub(crate) mod client_verification;
mod der;
mod distinguished_name;
pub(crate) mod error_text;
pub(crate) mod expiry;
pub(crate) mod identity;
mod listed_verifier;
pub(crate) mod pem;
pub(crate) mod server_config;
pub(crate) mod stream;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// A diagnostic for a certificate, a key or a TLS setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfigError {
    /// The problem.
    pub message: String,
    /// How to fix it.
    pub help: String,
}

impl TlsConfigError {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        TlsConfigError { message: message.into(), help: help.into() }
    }
}

/// TLS 1.3 and 1.2. rustls does not implement older versions.
const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The cryptography provider, passed explicitly because the process-wide default can be changed by other code.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}
