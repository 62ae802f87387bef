//! The TLS configuration of a listener: certificate selection by SNI, ALPN, client certificates, and session tickets.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::client_verification::ClientVerification;
use super::identity::Identity;
use super::{VERSIONS, provider};

/// The TLS configuration of a listener, shared by its handshakes.
pub(crate) type ServerTlsConfig = Arc<ServerConfig>;

/// The ALPN identifier of HTTP/2 (RFC 9113 3.1).
pub(crate) const ALPN_H2: &[u8] = b"h2";
/// The ALPN identifier of HTTP/1.1 (RFC 7301 6).
pub(crate) const ALPN_HTTP11: &[u8] = b"http/1.1";

/// Builds the TLS configuration of a listener. Clients without SNI, or with an unknown name, get the first identity
/// that they can verify. With `clients`, clients are asked for certificates.
///
/// # Errors
/// The cryptography provider failed.
pub(crate) fn build(
    identities: &[Identity],
    clients: Option<&ClientVerification>,
) -> Result<ServerTlsConfig, String> {
    with_resolver(Arc::new(SniResolver::new(identities)), clients)
}

/// The same configuration for clients that have no certificates.
///
/// # Errors
/// The cryptography provider failed.
pub(crate) fn without_client_auth(config: &ServerTlsConfig) -> Result<ServerTlsConfig, String> {
    with_resolver(Arc::clone(&config.cert_resolver), None)
}

fn with_resolver(
    resolver: Arc<dyn ResolvesServerCert>,
    clients: Option<&ClientVerification>,
) -> Result<ServerTlsConfig, String> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(|error| error.to_string())?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP11.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if clients.is_none() {
        // Session tickets are encrypted and stored by the client, so resumption needs no memory here.
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|error| error.to_string())?;
    } else {
        // A resumed session keeps the certificate of its first handshake, which may have expired or lost its authority
        // since, and rustls does not verify it again. So every handshake is a full one.
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// Selects the certificate by the server name in the ClientHello (SNI).
struct SniResolver {
    identities: Vec<Arc<CertifiedKey>>,
    /// Exact and wildcard names in lower case, with the indices of their identities in configuration order. A name may
    /// have several, for example RSA and ECDSA.
    names: HashMap<String, Vec<usize>>,
}

impl fmt::Debug for SniResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SniResolver").field("names", &self.names).finish_non_exhaustive()
    }
}

impl SniResolver {
    fn new(identities: &[Identity]) -> Self {
        let mut names: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, identity) in identities.iter().enumerate() {
            for name in identity.names() {
                names.entry(name.clone()).or_default().push(index);
            }
        }
        SniResolver {
            identities: identities.iter().map(|identity| Arc::clone(identity.key())).collect(),
            names,
        }
    }

    /// The certificates for a name, in configuration order.
    fn certificates_for(&self, name: &str) -> Vec<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        // RFC 6125 6.4.3: a wildcard matches exactly one label, the first.
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let indices = self.names.get(&name).or_else(|| self.names.get(&wildcard?));
        indices.into_iter().flatten().filter_map(|index| self.identities.get(*index)).collect()
    }
}

impl ResolvesServerCert for SniResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let matching = hello.server_name().map(|name| self.certificates_for(name)).unwrap_or_default();
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let chosen = matching.iter().copied().find(usable).or_else(|| matching.first().copied());
        // No identity has the name: use the first that the client can verify, or else the first.
        let chosen = chosen.or_else(|| self.identities.iter().find(usable));
        chosen.or_else(|| self.identities.first()).cloned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn identity(names: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        Identity::new(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    #[test]
    fn exact_name_precedes_wildcard_and_wildcard_matches_one_label() {
        let identities = [identity(&["a.test"]), identity(&["*.b.test"]), identity(&["x.b.test", "b.test"])];
        let resolver = SniResolver::new(&identities);
        let index = |name: &str| -> Vec<usize> {
            let position = |key: &&Arc<CertifiedKey>| {
                resolver.identities.iter().position(|known| Arc::ptr_eq(known, key))
            };
            resolver.certificates_for(name).iter().filter_map(position).collect()
        };
        assert_eq!(index("A.test"), [0]);
        assert_eq!(index("x.b.test"), [2]);
        assert_eq!(index("y.b.test"), [1]);
        assert_eq!(index("b.test"), [2]);
        assert_eq!(index("z.y.b.test"), [0; 0]);
        assert_eq!(index("other"), [0; 0]);
    }
}
