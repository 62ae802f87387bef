//! All servers of the upstream fault table, as `demo` and `verify` use them.
//!
//! One scripted upstream selects faults by path and serves the success routes; a second one has the faults of pooled
//! connections, a third one those of HTTP/2, a fourth one those of Unix sockets. Other servers accept and close,
//! refuse, never accept, or send nothing. The gateway's configuration decides which paths go to which server: see
//! [`FaultyUpstream::servers`] and [`UpstreamFault::server_kind`].

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::cases::upstream_faults;
use super::demo_page;
use super::frames::frame_type::{DATA, HEADERS};
use super::frames::{END_HEADERS, END_STREAM, STREAM_PLACEHOLDER, encode_frame};
use super::payload::http_response;
use super::recorder::RecordedHead;
use super::scripted_upstream::ScriptedUpstream;
use super::server_thread::{ServerThread, SocketFolder};
use super::step::{Script, Step, write_bytes};
use super::success_routes::success_script;
use super::tls_servers::{self, Authorities};
use super::unreachable_servers::{FullBacklog, RefusingPort};
use super::upstream_case::{POOLED_BODY, ServerKind, UpstreamFault};

/// All faulty servers on loopback. Dropping it closes them.
pub struct FaultyUpstream {
    /// In the order of [`ServerKind::ALL`].
    servers: Vec<FaultyServer>,
    sockets: SocketFolder,
    _bridge: ServerThread,
    _full_socket: FullBacklog,
    ca_pem: String,
}

enum FaultyServer {
    Scripted(ScriptedUpstream),
    Refusing(RefusingPort),
    FullBacklog(FullBacklog),
    Tls(ServerThread),
}

impl FaultyUpstream {
    /// Starts all servers with all faults; the path selects the fault. Fails if the system is out of ports.
    pub fn start() -> io::Result<FaultyUpstream> {
        FaultyUpstream::with_faults(&upstream_faults())
    }

    /// [`FaultyUpstream::start`] with these faults.
    pub fn with_faults(faults: &[UpstreamFault]) -> io::Result<FaultyUpstream> {
        FaultyUpstream::with_fault_selector(faults, |request| request.path().trim_start_matches('/'))
    }

    /// [`FaultyUpstream::with_faults`], where `name` extracts the name of the fault from a request. For gateways whose
    /// paths are fixed by a configuration.
    pub(crate) fn with_fault_selector(
        faults: &[UpstreamFault],
        name: impl Fn(&RecordedHead) -> &str + Copy + Send + Sync + 'static,
    ) -> io::Result<FaultyUpstream> {
        let (authorities, sockets) = (Authorities::generate()?, SocketFolder::create()?);
        let start = |server_kind: &ServerKind| -> io::Result<FaultyServer> {
            let selected = faults.iter().filter(|fault| fault.server_kind == *server_kind);
            let scripts: HashMap<&'static str, Script> =
                selected.map(|fault| (fault.name, fault.script.clone())).collect();
            let upstream = match server_kind {
                ServerKind::Scripted | ServerKind::Http1InsteadOfHttp2 | ServerKind::UnixScripted => {
                    ScriptedUpstream::by_request(move |request| {
                        let script = scripts.get(name(request)).cloned().or_else(|| demo_page::page(request));
                        script.unwrap_or_else(|| success_script(request))
                    })
                }
                ServerKind::Pooled => ScriptedUpstream::by_request(move |request| {
                    let script = scripts.get(name(request));
                    match script.filter(|_| request.number > 1) {
                        Some(script) => script.clone(),
                        None => pooled_response(script.is_some() || name(request) == KEPT_OPEN),
                    }
                }),
                ServerKind::Http2Scripted => ScriptedUpstream::by_h2_request(move |request| {
                    scripts.get(name(request)).cloned().unwrap_or_else(success_frames)
                }),
                ServerKind::Closing
                | ServerKind::Http2Closing
                | ServerKind::TlsClosed
                | ServerKind::UnixStale
                | ServerKind::UnixFullBacklog => ScriptedUpstream::script([Step::Close]),
                ServerKind::Http2Silent | ServerKind::TlsStalled => {
                    ScriptedUpstream::script([Step::ReadUntilClose])
                }
                ServerKind::PlaintextInsteadOfTls => {
                    let head = "400 Bad Request\nconnection: close";
                    let response = http_response(head, "this server does not support TLS");
                    ScriptedUpstream::script([Step::Write(response), Step::Close])
                }
                // handshake_failure: the alert of a server without a common cipher suite.
                ServerKind::TlsAlert => {
                    ScriptedUpstream::script([write_bytes(&b"\x15\x03\x03\x00\x02\x02\x28"[..]), Step::Close])
                }
                // A reset before the ClientHello could still be a failure to connect.
                ServerKind::TlsReset => ScriptedUpstream::script([Step::WaitForData, Step::Reset]),
                ServerKind::Refusing => return Ok(FaultyServer::Refusing(RefusingPort::start()?)),
                ServerKind::FullBacklog => return Ok(FaultyServer::FullBacklog(FullBacklog::start()?)),
                ServerKind::UnexpectedTls
                | ServerKind::ExpiredCertificate
                | ServerKind::NotYetValidCertificate
                | ServerKind::WrongNameCertificate
                | ServerKind::SelfSignedCertificate
                | ServerKind::UnknownIssuer => {
                    return tls_servers::start(*server_kind, &authorities).map(FaultyServer::Tls);
                }
            };
            upstream.map(FaultyServer::Scripted)
        };
        let servers = ServerKind::ALL.iter().map(start).collect::<io::Result<Vec<_>>>()?;
        let socket = |server_kind: ServerKind| sockets.socket(server_kind.upstream_name());
        let address = address_of(&servers, ServerKind::UnixScripted);
        let bridge = ServerThread::on_socket(&socket(ServerKind::UnixScripted), address)?;
        let full_socket = FullBacklog::on_socket(&socket(ServerKind::UnixFullBacklog))?;
        drop(UnixListener::bind(socket(ServerKind::UnixStale))?);
        let ca_pem = authorities.trusted_pem();
        Ok(FaultyUpstream { servers, sockets, _bridge: bridge, _full_socket: full_socket, ca_pem })
    }

    /// The address of this kind of server.
    pub fn address(&self, server_kind: ServerKind) -> SocketAddr {
        address_of(&self.servers, server_kind)
    }

    /// The socket of this kind of server, if it is not at [`FaultyUpstream::address`].
    pub fn socket(&self, server_kind: ServerKind) -> Option<PathBuf> {
        server_kind.uses_socket().then(|| self.sockets.socket(server_kind.upstream_name()))
    }

    /// All kinds of servers as a configuration lists them: `HOST:PORT` or `unix:PATH`.
    pub fn servers(&self) -> impl Iterator<Item = (ServerKind, String)> {
        ServerKind::ALL.iter().map(|kind| match self.socket(*kind) {
            Some(path) => (*kind, format!("unix:{}", path.display())),
            None => (*kind, self.address(*kind).to_string()),
        })
    }

    /// The PEM certificate of the authority to trust; the server name is [`super::tls_servers::SERVER_NAME`].
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Drops the recorded requests of all servers: see [`ScriptedUpstream::clear_recording`].
    pub fn clear_recording(&self) {
        self.recording_upstreams().for_each(ScriptedUpstream::clear_recording);
    }

    /// The upstreams with a recording; the first is that of [`ServerKind::Scripted`].
    pub fn recording_upstreams(&self) -> impl Iterator<Item = &ScriptedUpstream> {
        self.servers.iter().filter_map(|server| match server {
            FaultyServer::Scripted(upstream) => Some(upstream),
            FaultyServer::Refusing(_) | FaultyServer::FullBacklog(_) | FaultyServer::Tls(_) => None,
        })
    }
}

/// Servers at a Unix socket have an address too, which no gateway uses.
fn address_of(servers: &[FaultyServer], server_kind: ServerKind) -> SocketAddr {
    let server = ServerKind::ALL.iter().zip(servers).find(|(kind, _)| **kind == server_kind);
    match server.map(|(_, server)| server) {
        Some(FaultyServer::Scripted(upstream)) => upstream.address(),
        Some(FaultyServer::Refusing(port)) => port.address(),
        Some(FaultyServer::FullBacklog(port)) => port.address(),
        Some(FaultyServer::Tls(server)) => server.address(),
        None => SocketAddr::from(([127, 0, 0, 1], 0)),
    }
}

/// The fault name with which [`ServerKind::Pooled`] always responds with 200 and keeps the connection open.
pub(crate) const KEPT_OPEN: &str = "kept";

/// A 200 that keeps the connection open, or closes it: the first request of a row must be the first of its connection.
fn pooled_response(keep_open: bool) -> Script {
    let (head, close) =
        if keep_open { ("200 OK", None) } else { ("200 OK\nconnection: close", Some(Step::Close)) };
    let steps = [Step::ReadRequestHead, Step::ReadBody, Step::Write(http_response(head, POOLED_BODY))];
    steps.into_iter().chain(close).collect()
}

/// A successful response over HTTP/2.
fn success_frames() -> Script {
    let head = encode_frame(HEADERS, END_HEADERS, STREAM_PLACEHOLDER, [0x88]);
    vec![
        Step::ReadBody,
        write_bytes([head, encode_frame(DATA, END_STREAM, STREAM_PLACEHOLDER, b"fine")].concat()),
    ]
}
