//! The resolved addresses of a server. `server::tasks` runs the lookups; requests only read the result.
//!
//! The list is empty until the first successful lookup; an IP address needs none. A lookup that fails later keeps the
//! previous addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;

/// The addresses of one server, replaced atomically.
#[derive(Debug)]
pub(crate) struct Addresses {
    host: String,
    port: u16,
    is_literal: bool,
    current: ArcSwap<Vec<SocketAddr>>,
}

impl Addresses {
    /// `host` is an IP address or a host name.
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let literal = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        Addresses {
            host: host.to_owned(),
            port,
            is_literal: literal.is_some(),
            current: ArcSwap::from_pointee(literal.into_iter().collect()),
        }
    }

    /// Whether the host is a name that needs DNS lookups.
    pub(crate) fn is_name(&self) -> bool {
        !self.is_literal
    }

    /// The host and port to look up.
    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The current addresses, sorted.
    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<Vec<SocketAddr>>> {
        self.current.load()
    }

    /// Replaces the addresses with the result of a lookup. An empty result keeps the previous addresses.
    pub(crate) fn update(&self, mut addresses: Vec<SocketAddr>) {
        if addresses.is_empty() {
            return;
        }
        addresses.sort_unstable();
        addresses.dedup();
        if **self.current.load() != addresses {
            self.current.store(Arc::new(addresses));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_needs_no_lookup_and_name_is_empty_until_resolved() {
        let literal = Addresses::new("::1", 80);
        assert!(!literal.is_name());
        assert_eq!(**literal.current(), vec!["[::1]:80".parse::<SocketAddr>().unwrap()]);
        let name = Addresses::new("api.internal", 80);
        assert!(name.is_name() && name.current().is_empty());
        let (first, second) = ("10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        name.update(vec![second, first, second]);
        assert_eq!(**name.current(), vec![first, second]);
        name.update(Vec::new());
        assert_eq!(**name.current(), vec![first, second], "an empty result keeps the previous addresses");
    }
}
