//! Every fault of the table behind four addresses: what `demo` puts a gateway in front of.
//!
//! One scripted upstream plays faults by path and serves the good paths; three further addresses accept and close, refuse,
//! and never accept. Which paths a gateway sends where is for its configuration: see [`Misbehaving::addresses`] and
//! [`UpstreamFault::place`].

use std::io;
use std::net::SocketAddr;

use super::addresses::{FullBacklog, Refusing};
use super::faults::{Place, UpstreamFault, upstream_faults};
use super::good::good_script;
use super::script::Step;
use super::upstream::Upstream;

/// The whole misbehaving neighbourhood on loopback. Dropping it closes all of it.
pub struct Misbehaving {
    scripted: Upstream,
    closing: Upstream,
    refusing: Refusing,
    full: FullBacklog,
}

impl Misbehaving {
    /// Starts all of it. Fails when the system gives no ports.
    pub fn start() -> io::Result<Misbehaving> {
        let faults: Vec<UpstreamFault> = upstream_faults();
        let scripted = Upstream::by_request(move |request| {
            let name = request.path().trim_start_matches('/');
            match faults.iter().find(|fault| fault.name == name && fault.place == Place::Scripted) {
                Some(fault) => fault.script.clone(),
                None => good_script(request),
            }
        })?;
        let closing = Upstream::script([Step::Close])?;
        Ok(Misbehaving { scripted, closing, refusing: Refusing::start()?, full: FullBacklog::start()? })
    }

    /// Where this kind of server is.
    pub const fn address(&self, place: Place) -> SocketAddr {
        match place {
            Place::Scripted => self.scripted.address(),
            Place::Closing => self.closing.address(),
            Place::Refusing => self.refusing.address(),
            Place::FullBacklog => self.full.address(),
        }
    }

    /// Every upstream by the name it should have in a configuration.
    pub fn addresses(&self) -> [(&'static str, SocketAddr); 4] {
        Place::ALL.map(|place| (place.name(), self.address(place)))
    }

    /// The scripted upstream: what it received.
    pub const fn scripted(&self) -> &Upstream {
        &self.scripted
    }
}
