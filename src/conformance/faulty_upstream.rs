//! Every fault of the table behind a few addresses: what `demo` puts a gateway in front of.
//!
//! One scripted upstream plays faults by path and serves the good paths; a second one only on connections that it has
//! answered before, a third one in HTTP/2; further addresses accept and close, refuse, never accept, and say nothing. Which
//! paths a gateway sends where is for its configuration: see [`FaultyUpstream::addresses`] and [`UpstreamFault::server_kind`].

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::frames::frame_type::{DATA, HEADERS};
use super::frames::{END_HEADERS, END_STREAM, encode_frame};
use super::recorder::RecordedHead;
use super::script::{Script, UpstreamStep, http_response, write_bytes};
use super::scripted_upstream::ScriptedUpstream;
use super::scripted_upstream_h2::STREAM_PLACEHOLDER;
use super::success_routes::success_script;
use super::tls_servers::{CertificateFlaw, TlsServers};
use super::unreachable_servers::{FullBacklog, RefusingPort};
use super::upstream_faults::{POOLED_BODY, ServerKind, UpstreamFault, upstream_faults};

/// The whole misbehaving neighbourhood on loopback. Dropping it closes all of it.
pub struct FaultyUpstream {
    scripted: ScriptedUpstream,
    pooled: ScriptedUpstream,
    closing: ScriptedUpstream,
    refusing: RefusingPort,
    full_backlog: FullBacklog,
    http2_scripted: ScriptedUpstream,
    silent: ScriptedUpstream,
    tls_servers: TlsServers,
    plaintext: ScriptedUpstream,
    tls_alert: ScriptedUpstream,
    resetting: ScriptedUpstream,
}

impl FaultyUpstream {
    /// Starts all of it. Fails when the system gives no ports.
    pub fn start() -> io::Result<FaultyUpstream> {
        FaultyUpstream::with_faults(upstream_faults())
    }

    /// The same with these faults.
    pub fn with_faults(faults: Vec<UpstreamFault>) -> io::Result<FaultyUpstream> {
        FaultyUpstream::with_fault_selector(faults, fault_name)
    }

    /// The same, where `fault_name` finds the fault's name in a request: for gateways whose paths are not ours to choose.
    pub fn with_fault_selector(
        faults: Vec<UpstreamFault>,
        name: impl Fn(&RecordedHead) -> &str + Clone + Send + Sync + 'static,
    ) -> io::Result<FaultyUpstream> {
        let name_of = name.clone();
        let scripts_of = |server_kind| -> HashMap<&'static str, Script> {
            let selected = faults.iter().filter(|fault| fault.server_kind == server_kind);
            selected.map(|fault| (fault.name, fault.script.clone())).collect()
        };
        let (scripted_faults, pooled_faults) =
            (scripts_of(ServerKind::Scripted), scripts_of(ServerKind::Pooled));
        let (http2_faults, http2_name_of) = (scripts_of(ServerKind::Http2Scripted), name.clone());
        let scripted = ScriptedUpstream::by_request(move |request| {
            scripted_faults.get(name_of(request)).cloned().unwrap_or_else(|| success_script(request))
        })?;
        let pooled = ScriptedUpstream::by_request(move |request| match pooled_faults.get(name(request)) {
            Some(script) if request.number > 1 => script.clone(),
            Some(_) => kept_open_response(),
            None if name(request) == KEPT_OPEN => kept_open_response(),
            // Not to be kept: the first request of a row must be the first of its connection.
            None => vec![
                UpstreamStep::ReadRequestHead,
                UpstreamStep::ReadBody,
                UpstreamStep::Write(http_response("200 OK\nconnection: close", POOLED_BODY)),
                UpstreamStep::Close,
            ],
        })?;
        let closing = ScriptedUpstream::script([UpstreamStep::Close])?;
        let http2_scripted = ScriptedUpstream::by_h2_request(move |request| {
            http2_faults.get(http2_name_of(request)).cloned().unwrap_or_else(success_frames)
        })?;
        let silent = ScriptedUpstream::script([UpstreamStep::ReadUntilClose])?;
        Ok(FaultyUpstream {
            scripted,
            pooled,
            closing,
            refusing: RefusingPort::start()?,
            full_backlog: FullBacklog::start()?,
            http2_scripted,
            silent,
            tls_servers: TlsServers::start()?,
            plaintext: ScriptedUpstream::script([
                UpstreamStep::Write(http_response("400 Bad Request\nconnection: close", "this is no TLS")),
                UpstreamStep::Close,
            ])?,
            // handshake_failure, as a server says that has no suite in common with the other side.
            tls_alert: ScriptedUpstream::script([
                write_bytes(&b"\x15\x03\x03\x00\x02\x02\x28"[..]),
                UpstreamStep::Close,
            ])?,
            // Not before the connection is there for good: then it would be a matter of connecting.
            resetting: ScriptedUpstream::script([
                UpstreamStep::Pause(Duration::from_millis(50)),
                UpstreamStep::Reset,
            ])?,
        })
    }

    /// Where this kind of server is.
    pub fn address(&self, server_kind: ServerKind) -> SocketAddr {
        match server_kind {
            ServerKind::Scripted => self.scripted.address(),
            ServerKind::Pooled => self.pooled.address(),
            ServerKind::Closing => self.closing.address(),
            ServerKind::Refusing => self.refusing.address(),
            ServerKind::FullBacklog => self.full_backlog.address(),
            ServerKind::Http2Scripted => self.http2_scripted.address(),
            ServerKind::Http2Silent => self.silent.address(),
            ServerKind::Http2Closing => self.closing.address(),
            ServerKind::Http1InsteadOfHttp2 => self.scripted.address(),
            ServerKind::UnexpectedTls => self.tls_servers.address(CertificateFlaw::None),
            ServerKind::ExpiredCertificate => self.tls_servers.address(CertificateFlaw::Expired),
            ServerKind::NotYetValidCertificate => self.tls_servers.address(CertificateFlaw::NotYetValid),
            ServerKind::WrongNameCertificate => self.tls_servers.address(CertificateFlaw::WrongName),
            ServerKind::SelfSignedCertificate => self.tls_servers.address(CertificateFlaw::SelfSigned),
            ServerKind::UnknownIssuer => self.tls_servers.address(CertificateFlaw::UnknownIssuer),
            ServerKind::PlaintextInsteadOfTls => self.plaintext.address(),
            ServerKind::TlsAlert => self.tls_alert.address(),
            ServerKind::TlsClosed => self.closing.address(),
            ServerKind::TlsReset => self.resetting.address(),
            ServerKind::TlsStalled => self.silent.address(),
        }
    }

    /// Every upstream, and where it is.
    pub fn addresses(&self) -> [(ServerKind, SocketAddr); ServerKind::ALL.len()] {
        ServerKind::ALL.map(|server_kind| (server_kind, self.address(server_kind)))
    }

    /// The certificate of the authority that is to be trusted, under [`super::tls_servers::SERVER_NAME`].
    pub fn ca_pem(&self) -> &str {
        self.tls_servers.ca_pem()
    }

    /// Forgets the requests so far: see [`Upstream::clear_recording`].
    pub fn clear_recording(&self) {
        self.scripted.clear_recording();
        self.pooled.clear_recording();
        self.closing.clear_recording();
        self.http2_scripted.clear_recording();
        self.silent.clear_recording();
        self.plaintext.clear_recording();
        self.tls_alert.clear_recording();
        self.resetting.clear_recording();
    }

    /// The scripted upstream: what it received.
    pub const fn scripted(&self) -> &ScriptedUpstream {
        &self.scripted
    }

    /// Every upstream that records what it received.
    pub const fn recording_upstreams(&self) -> [&ScriptedUpstream; 5] {
        [&self.scripted, &self.pooled, &self.closing, &self.http2_scripted, &self.silent]
    }
}

/// The name under which the upstream of kept connections serves well and keeps the connection, however old it is.
pub const KEPT_OPEN: &str = "kept";

fn kept_open_response() -> Script {
    vec![
        UpstreamStep::ReadRequestHead,
        UpstreamStep::ReadBody,
        UpstreamStep::Write(http_response("200 OK", POOLED_BODY)),
    ]
}

/// What is no fault, in HTTP/2.
fn success_frames() -> Script {
    let head = encode_frame(HEADERS, END_HEADERS, STREAM_PLACEHOLDER, [0x88]);
    vec![
        UpstreamStep::ReadBody,
        write_bytes([head, encode_frame(DATA, END_STREAM, STREAM_PLACEHOLDER, b"fine")].concat()),
    ]
}

fn fault_name(request: &RecordedHead) -> &str {
    request.path().trim_start_matches('/')
}
