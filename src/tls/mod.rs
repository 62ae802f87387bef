//! How TLS is spoken: what a certificate file says, who is served with it, whom we trust, and the encrypted stream itself.
//!
//! [`pem`] reads files, [`identity`] binds a certificate to its key, [`server_config`] is what a listener shows to clients,
//! [`cert_verification`] is what is demanded of an upstream,
//! [`stream`] makes a connection encrypted and is the only file that knows
//! pingora. Nothing here knows a request, a limit of time or what is answered when a handshake fails.

pub mod cert_verification;
pub mod expiry;
pub mod identity;
pub mod pem;
pub mod server_config;
pub mod stream;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// Why a file cannot be used: what is wrong with it, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfigError {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

impl TlsConfigError {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        TlsConfigError { message: message.into(), help: help.into() }
    }
}

/// TLS 1.3, and 1.2 for those who have nothing newer; older versions and their suites are not even compiled in.
const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The cryptography, named here and never looked up in a place that others could set.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}
