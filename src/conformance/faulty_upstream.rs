//! All servers of the upstream fault table, as `demo` and `verify` use them.
//!
//! One scripted upstream selects faults by path and serves the success routes; a second one has the faults of pooled
//! connections, a third one those of HTTP/2. Other servers accept and close, refuse, never accept, or send nothing. The
//! gateway's configuration decides which paths go to which server: see [`FaultyUpstream::addresses`] and
//! [`UpstreamFault::server_kind`].

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::case::{POOLED_BODY, ServerKind, UpstreamFault};
use super::cases::upstream_faults;
use super::frames::frame_type::{DATA, HEADERS};
use super::frames::{END_HEADERS, END_STREAM, encode_frame};
use super::recorder::RecordedHead;
use super::scripted_upstream::ScriptedUpstream;
use super::scripted_upstream_h2::STREAM_PLACEHOLDER;
use super::step::{Script, Step, http_response, write_bytes};
use super::success_routes::success_script;
use super::tls_servers::{CertificateFlaw, TlsServers};
use super::unreachable_servers::{FullBacklog, RefusingPort};

/// All faulty servers on loopback. Dropping it closes them.
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
    /// Starts all servers with all faults; the path selects the fault. Fails if the system is out of ports.
    pub fn start() -> io::Result<FaultyUpstream> {
        FaultyUpstream::with_faults(&upstream_faults())
    }

    /// [`FaultyUpstream::start`] with these faults.
    pub fn with_faults(faults: &[UpstreamFault]) -> io::Result<FaultyUpstream> {
        FaultyUpstream::with_fault_selector(faults, fault_name)
    }

    /// [`FaultyUpstream::with_faults`], where `name` extracts the name of the fault from a request. For gateways whose
    /// paths are fixed by a configuration.
    pub fn with_fault_selector(
        faults: &[UpstreamFault],
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
            // Close the connection: the first request of a row must be the first of its connection.
            None => vec![
                Step::ReadRequestHead,
                Step::ReadBody,
                Step::Write(http_response("200 OK\nconnection: close", POOLED_BODY)),
                Step::Close,
            ],
        })?;
        let closing = ScriptedUpstream::script([Step::Close])?;
        let http2_scripted = ScriptedUpstream::by_h2_request(move |request| {
            http2_faults.get(http2_name_of(request)).cloned().unwrap_or_else(success_frames)
        })?;
        let silent = ScriptedUpstream::script([Step::ReadUntilClose])?;
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
                Step::Write(http_response(
                    "400 Bad Request\nconnection: close",
                    "this server does not support TLS",
                )),
                Step::Close,
            ])?,
            // handshake_failure: the alert of a server without a common cipher suite.
            tls_alert: ScriptedUpstream::script([
                write_bytes(&b"\x15\x03\x03\x00\x02\x02\x28"[..]),
                Step::Close,
            ])?,
            // Wait until the gateway has noticed the connection, also on a busy machine; an earlier reset would be a
            // connect failure.
            resetting: ScriptedUpstream::script([Step::Pause(Duration::from_millis(250)), Step::Reset])?,
        })
    }

    /// The address of this kind of server.
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

    /// The addresses of all kinds of servers.
    pub fn addresses(&self) -> impl Iterator<Item = (ServerKind, SocketAddr)> {
        ServerKind::ALL.iter().map(|server_kind| (*server_kind, self.address(*server_kind)))
    }

    /// The PEM certificate of the authority to trust; the server name is [`super::tls_servers::SERVER_NAME`].
    pub fn ca_pem(&self) -> &str {
        self.tls_servers.ca_pem()
    }

    /// Drops the recorded requests of all servers: see [`ScriptedUpstream::clear_recording`].
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

    /// The scripted upstream, for its recording.
    pub const fn scripted(&self) -> &ScriptedUpstream {
        &self.scripted
    }

    /// The upstreams whose recordings tests check.
    pub const fn recording_upstreams(&self) -> [&ScriptedUpstream; 5] {
        [&self.scripted, &self.pooled, &self.closing, &self.http2_scripted, &self.silent]
    }
}

/// The fault name with which [`ServerKind::Pooled`] always responds with 200 and keeps the connection open.
pub(crate) const KEPT_OPEN: &str = "kept";

fn kept_open_response() -> Script {
    vec![Step::ReadRequestHead, Step::ReadBody, Step::Write(http_response("200 OK", POOLED_BODY))]
}

/// A successful response over HTTP/2.
fn success_frames() -> Script {
    let head = encode_frame(HEADERS, END_HEADERS, STREAM_PLACEHOLDER, [0x88]);
    vec![
        Step::ReadBody,
        write_bytes([head, encode_frame(DATA, END_STREAM, STREAM_PLACEHOLDER, b"fine")].concat()),
    ]
}

fn fault_name(request: &RecordedHead) -> &str {
    request.path().trim_start_matches('/')
}
