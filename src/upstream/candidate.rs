//! Where an attempt goes: one address of one server.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;

/// A server and one of its addresses, for one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The server's label.
    pub server: Arc<str>,
    /// The address to connect to.
    pub address: SocketAddr,
    /// The name to verify the certificate against; `None` without TLS.
    pub tls_name: Option<Arc<ServerName<'static>>>,
}
