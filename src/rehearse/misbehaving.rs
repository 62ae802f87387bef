//! Every fault of the table behind five addresses: what `demo` puts a gateway in front of.
//!
//! One scripted upstream plays faults by path and serves the good paths; a second one only on connections that it has
//! answered before; three further addresses accept and close, refuse, and never accept. Which paths a gateway sends where is for its configuration: see [`Misbehaving::addresses`] and
//! [`UpstreamFault::place`].

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use super::addresses::{FullBacklog, Refusing};
use super::faults::{GOOD_OF_POOLED, Place, UpstreamFault, upstream_faults};
use super::good::good_script;
use super::record::Request;
use super::script::{Script, Step, reply};
use super::upstream::Upstream;

/// The whole misbehaving neighbourhood on loopback. Dropping it closes all of it.
pub struct Misbehaving {
    scripted: Upstream,
    pooled: Upstream,
    closing: Upstream,
    refusing: Refusing,
    full: FullBacklog,
}

impl Misbehaving {
    /// Starts all of it. Fails when the system gives no ports.
    pub fn start() -> io::Result<Misbehaving> {
        Misbehaving::playing(upstream_faults())
    }

    /// The same with these faults.
    pub fn playing(faults: Vec<UpstreamFault>) -> io::Result<Misbehaving> {
        Misbehaving::chosen_by(faults, name)
    }

    /// The same, where `name` finds the fault's name in a request: for gateways whose paths are not ours to choose.
    pub fn chosen_by(
        faults: Vec<UpstreamFault>,
        name: impl Fn(&Request) -> &str + Clone + Send + Sync + 'static,
    ) -> io::Result<Misbehaving> {
        let name_of = name.clone();
        let by_place = |place| -> HashMap<&'static str, Script> {
            let played = faults.iter().filter(|fault| fault.place == place);
            played.map(|fault| (fault.name, fault.script.clone())).collect()
        };
        let (anywhere, reused) = (by_place(Place::Scripted), by_place(Place::Pooled));
        let scripted = Upstream::by_request(move |request| {
            anywhere.get(name_of(request)).cloned().unwrap_or_else(|| good_script(request))
        })?;
        let pooled = Upstream::by_request(move |request| match reused.get(name(request)) {
            Some(script) if request.number > 1 => script.clone(),
            Some(_) => kept(),
            None if name(request) == KEPT => kept(),
            // Not to be kept: the first request of a row must be the first of its connection.
            None => vec![
                Step::ReadHead,
                Step::ReadBody,
                Step::Write(reply("200 OK\nconnection: close", GOOD_OF_POOLED)),
                Step::Close,
            ],
        })?;
        let closing = Upstream::script([Step::Close])?;
        Ok(Misbehaving {
            scripted,
            pooled,
            closing,
            refusing: Refusing::start()?,
            full: FullBacklog::start()?,
        })
    }

    /// Where this kind of server is.
    pub const fn address(&self, place: Place) -> SocketAddr {
        match place {
            Place::Scripted => self.scripted.address(),
            Place::Pooled => self.pooled.address(),
            Place::Closing => self.closing.address(),
            Place::Refusing => self.refusing.address(),
            Place::FullBacklog => self.full.address(),
        }
    }

    /// Every upstream by the name it should have in a configuration.
    pub fn addresses(&self) -> [(&'static str, SocketAddr); 5] {
        Place::ALL.map(|place| (place.name(), self.address(place)))
    }

    /// Forgets the requests so far: see [`Upstream::forget`].
    pub fn forget(&self) {
        self.scripted.forget();
        self.pooled.forget();
        self.closing.forget();
    }

    /// The scripted upstream: what it received.
    pub const fn scripted(&self) -> &Upstream {
        &self.scripted
    }

    /// Every upstream that records what it received.
    pub const fn recording(&self) -> [&Upstream; 3] {
        [&self.scripted, &self.pooled, &self.closing]
    }
}

/// The name under which the upstream of kept connections serves well and keeps the connection, however old it is.
pub const KEPT: &str = "kept";

fn kept() -> Script {
    vec![Step::ReadHead, Step::ReadBody, Step::Write(reply("200 OK", GOOD_OF_POOLED))]
}

fn name(request: &Request) -> &str {
    request.path().trim_start_matches('/')
}
