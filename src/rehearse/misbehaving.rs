//! Every fault of the table behind a few addresses: what `demo` puts a gateway in front of.
//!
//! One scripted upstream plays faults by path and serves the good paths; a second one only on connections that it has
//! answered before, a third one in HTTP/2; further addresses accept and close, refuse, never accept, and say nothing. Which
//! paths a gateway sends where is for its configuration: see [`Misbehaving::addresses`] and [`UpstreamFault::place`].

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::addresses::{FullBacklog, Refusing};
use super::faults::{GOOD_OF_POOLED, Place, UpstreamFault, upstream_faults};
use super::frames::kind::{DATA, HEADERS};
use super::frames::{END_HEADERS, END_STREAM, frame};
use super::good::good_script;
use super::record::Request;
use super::script::{Script, Step, reply, say};
use super::tls::{Flaw, TlsServers};
use super::upstream::Upstream;
use super::upstream_h2::THIS;

/// The whole misbehaving neighbourhood on loopback. Dropping it closes all of it.
pub struct Misbehaving {
    scripted: Upstream,
    pooled: Upstream,
    closing: Upstream,
    refusing: Refusing,
    full: FullBacklog,
    frames: Upstream,
    ungreeting: Upstream,
    certificates: TlsServers,
    plain: Upstream,
    alert: Upstream,
    resetting: Upstream,
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
        let (in_frames, name_in_frames) = (by_place(Place::Frames), name.clone());
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
        let frames = Upstream::in_frames(move |request| {
            in_frames.get(name_in_frames(request)).cloned().unwrap_or_else(good_frames)
        })?;
        let ungreeting = Upstream::script([Step::Hang])?;
        Ok(Misbehaving {
            scripted,
            pooled,
            closing,
            refusing: Refusing::start()?,
            full: FullBacklog::start()?,
            frames,
            ungreeting,
            certificates: TlsServers::start()?,
            plain: Upstream::script([
                Step::Write(reply("400 Bad Request\nconnection: close", "this is no TLS")),
                Step::Close,
            ])?,
            // handshake_failure, as a server says that has no suite in common with the other side.
            alert: Upstream::script([say(&b"\x15\x03\x03\x00\x02\x02\x28"[..]), Step::Close])?,
            // Not before the connection is there for good: then it would be a matter of connecting.
            resetting: Upstream::script([Step::Pause(Duration::from_millis(50)), Step::Reset])?,
        })
    }

    /// Where this kind of server is.
    pub fn address(&self, place: Place) -> SocketAddr {
        match place {
            Place::Scripted => self.scripted.address(),
            Place::Pooled => self.pooled.address(),
            Place::Closing => self.closing.address(),
            Place::Refusing => self.refusing.address(),
            Place::FullBacklog => self.full.address(),
            Place::Frames => self.frames.address(),
            Place::Ungreeting => self.ungreeting.address(),
            Place::ClosingOnFrames => self.closing.address(),
            Place::OtherLanguage => self.scripted.address(),
            Place::TlsPort => self.certificates.address(Flaw::None),
            Place::Expired => self.certificates.address(Flaw::Expired),
            Place::NotYetValid => self.certificates.address(Flaw::NotYetValid),
            Place::WrongName => self.certificates.address(Flaw::WrongName),
            Place::SelfSigned => self.certificates.address(Flaw::SelfSigned),
            Place::Stranger => self.certificates.address(Flaw::Stranger),
            Place::PlainPort => self.plain.address(),
            Place::TlsAlert => self.alert.address(),
            Place::TlsCut => self.closing.address(),
            Place::TlsReset => self.resetting.address(),
            Place::TlsStall => self.ungreeting.address(),
        }
    }

    /// Every upstream, and where it is.
    pub fn addresses(&self) -> [(Place, SocketAddr); Place::ALL.len()] {
        Place::ALL.map(|place| (place, self.address(place)))
    }

    /// The certificate of the authority that is to be trusted, under [`super::tls::NAME`].
    pub fn authority(&self) -> &str {
        self.certificates.authority()
    }

    /// Forgets the requests so far: see [`Upstream::forget`].
    pub fn forget(&self) {
        self.scripted.forget();
        self.pooled.forget();
        self.closing.forget();
        self.frames.forget();
        self.ungreeting.forget();
        self.plain.forget();
        self.alert.forget();
        self.resetting.forget();
    }

    /// The scripted upstream: what it received.
    pub const fn scripted(&self) -> &Upstream {
        &self.scripted
    }

    /// Every upstream that records what it received.
    pub const fn recording(&self) -> [&Upstream; 5] {
        [&self.scripted, &self.pooled, &self.closing, &self.frames, &self.ungreeting]
    }
}

/// The name under which the upstream of kept connections serves well and keeps the connection, however old it is.
pub const KEPT: &str = "kept";

fn kept() -> Script {
    vec![Step::ReadHead, Step::ReadBody, Step::Write(reply("200 OK", GOOD_OF_POOLED))]
}

/// What is no fault, in HTTP/2.
fn good_frames() -> Script {
    let head = frame(HEADERS, END_HEADERS, THIS, [0x88]);
    vec![Step::ReadBody, say([head, frame(DATA, END_STREAM, THIS, b"fine")].concat())]
}

fn name(request: &Request) -> &str {
    request.path().trim_start_matches('/')
}
