//! Where an attempt goes: one address of one server.

use std::ops::Deref;
use std::sync::Arc;

use super::address_order::MAX_ADDRESSES;
use super::endpoint::Endpoint;

/// A server and one of its addresses, for one attempt.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(super) endpoint: Arc<Endpoint>,
    /// The addresses of the same server to try if this one does not connect, in this order.
    pub(super) alternatives: [Option<Arc<Endpoint>>; MAX_ADDRESSES - 1],
}

impl Candidate {
    /// An address without alternatives.
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Candidate { endpoint, alternatives: [None, None, None] }
    }

    /// The address.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// This address and its alternatives.
    pub(crate) fn addresses(&self) -> Vec<Arc<Endpoint>> {
        std::iter::once(&self.endpoint).chain(self.alternatives.iter().flatten()).cloned().collect()
    }
}

impl Deref for Candidate {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

#[cfg(test)]
impl Candidate {
    /// An address for tests, with a state of its own.
    pub(crate) fn for_test(server: &str, address: std::net::SocketAddr) -> Self {
        use super::ejection::EjectionSettings;
        use super::endpoint::EndpointState;
        let now = std::time::Instant::now();
        let state = Arc::new(EndpointState::new(&EjectionSettings::default(), now));
        Candidate::new(Arc::new(Endpoint::new(server.into(), 0, address, None, state)))
    }
}
