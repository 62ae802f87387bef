//! Serves one client connection: reads requests, runs each one under a panic guard, and closes the connection cleanly.
//!
//! This file covers HTTP/1 and everything that happens between requests. [`h2`] serves HTTP/2. The [`ListenerRole`]
//! decides whether the gateway or the telemetry pages handle a request.

mod client_socket;
pub(super) mod h2;
mod idle_state;
mod lingering_close;
mod panic_guard;
mod plaintext;
mod proxy_header;
mod send_queue;
pub(super) mod tls_handshake;
pub(crate) mod tracker;

use std::fmt;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use rustls::ServerConfig;

pub(crate) use self::client_socket::ClientSocket;
use self::lingering_close::{LINGER_TIMEOUT, lingering_close};
use self::panic_guard::{reject_guarded, serve_guarded};
use self::tls_handshake::{HandshakeFailure, NegotiatedStream};
use self::tracker::{
    ClientKey, ConnectionGuard, ConnectionLimits, ConnectionSlot, ConnectionTracker, OverLimit,
};
use super::buffered_stream::{BufferedStream, HEADER_BUFFER_SIZE};
use super::downstream::h1::DownstreamH1;
use super::downstream::{Downstream, ResponseState};
use super::gateway::Gateway;
use super::message::CloseMode;
use super::message::request::{Request, rejection_to_fault};
use super::pages::PageHandler;
use super::record::{self, RejectedFacts, RejectedRequest};
use super::request::RequestSource;
use crate::config::ClientSettings;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::partial_request;
use crate::http::peer::{Peer, PeerRange};
use crate::http::reported_origin::ListenerOrigin;
use crate::http::request_head::{self, KnownFraming, RejectedHead};
use crate::http::request_scanner::{RequestScanner, ScanProgress, blank_len};
use crate::telemetry::{CloseReason, Gauge};
use crate::tls::cert_verification::is_tls_error;
use crate::tls::client_certificate::ClientCertificate;
use crate::upstream::timer::timeout_at;

/// Time that a connection over the limit waits for its request or a slot, and again to read the error response and
/// close.
const OVER_LIMIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for sending the TLS close_notify alert on an idle connection.
const CLOSE_NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// An idle connection that has served a request stays open for this long after draining has begun: a request may
/// already be in transit. One that has not sent a request yet stays open: its client cannot know that the gateway
/// drains.
const DRAIN_IDLE_GRACE: Duration = Duration::from_secs(1);

/// Maximum number of bytes of a malformed request line that are logged.
const MAX_LOGGED_LINE: usize = 1024;

/// What handles the requests of a listener.
#[derive(Clone, Debug)]
pub(crate) enum ListenerRole {
    /// The gateway's routes, limited to `client.max_connections` concurrent connections.
    Gateway,
    /// The telemetry pages (metrics, health).
    Pages {
        /// Generates the pages.
        handler: Arc<dyn PageHandler>,
        /// Maximum number of concurrent connections.
        max_connections: usize,
    },
}

/// The settings and shared state of one listener.
pub(crate) struct ListenerService {
    /// The gateway; all listeners share it.
    pub gateway: Arc<Gateway>,
    /// The index of the listener in the configuration file.
    pub index: usize,
    /// What handles the requests.
    pub role: ListenerRole,
    /// The TCP port; for a Unix socket the default port of the scheme.
    pub port: u16,
    /// Whether connections use cleartext HTTP/2 with prior knowledge.
    pub h2c: bool,
    /// The peers whose connections must begin with a PROXY protocol header; `None` expects no header.
    pub proxy_protocol: Option<Arc<[PeerRange]>>,
    /// The TLS configuration; `None` for cleartext. A reload may replace the certificates.
    pub tls: Option<Arc<ArcSwap<ServerConfig>>>,
    /// Counts the open connections.
    pub tracker: Arc<ConnectionTracker>,
    /// The metric of this listener's open connections.
    pub gauge: Gauge,
}

impl fmt::Debug for ListenerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerService")
            .field("role", &self.role)
            .field("h2c", &self.h2c)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl ListenerService {
    /// Waits until another connection may be accepted.
    pub(crate) async fn wait_for_capacity(&self) {
        let max_connections = self.max_connections(&self.gateway.snapshot.load().client);
        self.tracker.wait_for_capacity(max_connections).await;
    }

    /// Reads the PROXY protocol header of a connection, then serves it until it closes.
    pub(crate) async fn serve_with_proxy_protocol(
        self: Arc<Self>,
        mut socket: ClientSocket,
        peer: Peer,
        guard: ConnectionGuard,
        shutdown: ShutdownWatch,
    ) {
        let timeout = self.gateway.snapshot.load().client.header_timeout;
        let allowed_peers = self.proxy_protocol.as_deref().unwrap_or_default();
        match proxy_header::proxied_peer(&mut socket, peer, allowed_peers, timeout).await {
            Ok(client) => Box::pin(self.serve(socket.into_stream(), client, guard, shutdown)).await,
            Err(close_reason) => self.gateway.metrics.closed_without_response(close_reason),
        }
    }

    /// Serves one connection until it closes.
    pub(crate) async fn serve(
        self: Arc<Self>,
        stream: Stream,
        peer: Peer,
        guard: ConnectionGuard,
        shutdown: ShutdownWatch,
    ) {
        let _guard = guard;
        let client_config = Arc::clone(&self.gateway.snapshot.load().client);
        let slot = self.tracker.acquire_slot(self.limits(&client_config, peer));
        let _gauge_guard = self.gauge.guard();
        let listener_origin = self.listener_origin();
        let mut connection = Connection {
            listener: &self,
            peer,
            certificate: None,
            listener_origin,
            client_config,
            slot,
            shutdown,
        };
        match &self.tls {
            None => connection.serve(BufferedStream::new(stream)).await,
            Some(tls_config) => {
                let started = Instant::now();
                let tls_config = tls_config.load_full();
                let handshake = tls_handshake::accept_tls(stream, &tls_config, peer);
                let accepted =
                    connection.within_header_timeout(CloseReason::TlsHandshakeTimeout, handshake).await;
                match accepted.unwrap_or_else(|reason| Err(HandshakeFailure::Closed(reason))) {
                    Ok(NegotiatedStream { stream, http2, version, certificate }) => {
                        connection.listener_origin.tls_version = Some(version);
                        connection.certificate = certificate;
                        if http2 {
                            h2::serve(&mut connection, stream, BytesMut::new()).await;
                        } else {
                            connection.serve(BufferedStream::new(stream)).await;
                        }
                    }
                    Err(HandshakeFailure::Plaintext(stream, read)) => {
                        Box::pin(plaintext::reject(&mut connection, stream, read, started)).await;
                    }
                    Err(HandshakeFailure::Rejected(stream)) => {
                        self.gateway.metrics.closed_without_response(CloseReason::TlsHandshakeFailed);
                        Box::pin(lingering_close(BufferedStream::new(stream), OVER_LIMIT_TIMEOUT, None))
                            .await;
                    }
                    Err(HandshakeFailure::Closed(close_reason)) => {
                        self.gateway.metrics.closed_without_response(close_reason);
                    }
                }
            }
        }
    }

    /// The scheme and port of this listener; the TLS version is still unknown.
    fn listener_origin(&self) -> ListenerOrigin {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        ListenerOrigin { scheme, port: self.port, tls_version: None }
    }

    /// The connection limits for a peer.
    fn limits(&self, client_config: &ClientSettings, peer: Peer) -> ConnectionLimits {
        let client = match self.role {
            // A trusted proxy connects for many clients.
            ListenerRole::Gateway if !client_config.trusts(peer) => Some((
                ClientKey::new(peer, client_config.ipv6_prefix),
                client_config.max_connections_per_client,
            )),
            ListenerRole::Gateway | ListenerRole::Pages { .. } => None,
        };
        ConnectionLimits { total: self.max_connections(client_config), client }
    }

    /// Maximum number of connections served at once.
    fn max_connections(&self, client_config: &ClientSettings) -> usize {
        match self.role {
            ListenerRole::Gateway => client_config.max_connections,
            ListenerRole::Pages { max_connections, .. } => max_connections,
        }
    }
}

/// Becomes ready once: when draining begins.
type DrainSignal<'a> = Pin<&'a mut (dyn FusedFuture<Output = ()> + Send + 'a)>;

/// One open client connection.
pub(super) struct Connection<'a> {
    pub(super) listener: &'a Arc<ListenerService>,
    /// The peer of the connection, or the client that its PROXY protocol header names.
    pub(super) peer: Peer,
    /// The verified certificate of the client, if it has presented one to this listener.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// Where the requests arrive; the TLS version is known after the handshake.
    pub(super) listener_origin: ListenerOrigin,
    pub(super) client_config: Arc<ClientSettings>,
    /// The connection's slot; an error while it is over a limit: its next request is rejected, unless a slot is free by
    /// then.
    slot: Result<ConnectionSlot, OverLimit>,
    pub(super) shutdown: ShutdownWatch,
}

/// The result of waiting for the next request.
enum NextInput {
    /// A request line and header section. `length` includes `skip` bytes of empty lines before the request line.
    RequestHead { length: usize, skip: usize },
    /// The connection preface of HTTP/2.
    Http2Preface,
    /// A malformed or incomplete request.
    Rejected(Fault),
    /// No request: the connection closes without a response, for a counted reason. `None` for a normal close by the
    /// client, which is not counted.
    Closed(Option<CloseReason>),
}

impl Connection<'_> {
    async fn serve(&mut self, io: BufferedStream) {
        let mut client = Downstream::h1(DownstreamH1::new(io, self.shutdown.clone()), self.listener_origin);
        // One registration for the whole connection: to register takes a lock that all connections share.
        let mut shutdown = self.shutdown.clone();
        let drain = async move { drop(shutdown.wait_for(|shutting_down| *shutting_down).await) };
        let mut drain: DrainSignal<'_> = pin!(drain.fuse());
        let mut is_first = true;
        loop {
            let Some(h1) = client.as_h1() else { return };
            match self.read_request_head(&mut h1.io, is_first, &mut drain).await {
                NextInput::RequestHead { length, skip } => {
                    self.serve_request(&mut client, length, skip).await
                }
                NextInput::Rejected(fault) => {
                    let rejected = Self::rejected_request(fault, &h1.io.input);
                    self.reject(&mut client, rejected, None).await;
                }
                NextInput::Http2Preface => {
                    let Some(h1) = client.into_h1() else { return };
                    let (stream, read) = h1.io.into_parts();
                    return h2::serve(self, stream, read).await;
                }
                NextInput::Closed(close_reason) => return self.close_without_request(h1, close_reason).await,
            }
            is_first = false;
            let is_complete = client.state() == ResponseState::Complete;
            match client.as_h1() {
                Some(h1) if is_complete && h1.is_keep_alive() => h1.io.free_buffers(),
                Some(_) | None => return self.close_after_response(client).await,
            }
        }
    }

    /// Closes a connection on which no request follows.
    async fn close_without_request(&self, h1: &mut DownstreamH1, close_reason: Option<CloseReason>) {
        let Some(close_reason) = close_reason else { return };
        self.listener.gateway.metrics.closed_without_response(close_reason);
        if matches!(
            close_reason,
            CloseReason::IdleTimeout
                | CloseReason::Evicted
                | CloseReason::ConnectionLimitReached
                | CloseReason::Drain
        ) {
            // Without a TLS close_notify alert the close looks like a truncation attack.
            let _ = timeout_at(Instant::now() + CLOSE_NOTIFY_TIMEOUT, h1.io.shutdown_write()).await;
        }
    }

    /// Closes the connection after its last response, so that the client can tell whether it is complete.
    async fn close_after_response(&self, client: Downstream) {
        let state = client.state();
        let Some(mut h1) = client.into_h1() else { return };
        match state {
            ResponseState::Complete => {
                let timeout = if self.slot.is_ok() { LINGER_TIMEOUT } else { OVER_LIMIT_TIMEOUT };
                lingering_close(h1.io, timeout, None).await;
            }
            ResponseState::Aborted(CloseMode::Reset) => h1.io.reset(),
            // The close itself marks the response as truncated, so there is no lingering close.
            ResponseState::Aborted(CloseMode::Fin) => {}
            ResponseState::NotStarted
            | ResponseState::Started
            | ResponseState::Disconnected
            | ResponseState::WriteTimeout => {
                record::count_disconnect(&self.listener.gateway, state);
                // The client may have closed only its sending side: a truncated response must not look complete.
                if h1.abort() == CloseMode::Reset {
                    h1.io.reset();
                }
            }
        }
    }

    /// Returns the slot of a connection within the connection limits. A connection over a limit tries again to get one.
    pub(super) fn acquire_slot(&mut self) -> Result<&ConnectionSlot, OverLimit> {
        if self.slot.is_err() {
            let limits = self.listener.limits(&self.client_config, self.peer);
            self.slot = self.listener.tracker.acquire_slot(limits);
        }
        self.slot.as_ref().map_err(|over_limit| *over_limit)
    }

    /// Waits for `work` for `client.header_timeout`, on a connection over the limit only until it needs a slot to go
    /// on.
    ///
    /// # Errors
    /// `timeout_reason`, or that the connection is over the limit.
    pub(super) async fn within_header_timeout<T>(
        &mut self,
        timeout_reason: CloseReason,
        work: impl Future<Output = T>,
    ) -> Result<T, CloseReason> {
        let started = Instant::now();
        let mut work = pin!(work);
        loop {
            let deadline = started + self.clamp_timeout(self.client_config.header_timeout);
            if let Some(done) = timeout_at(deadline, work.as_mut()).await {
                return Ok(done);
            }
            if self.slot.is_ok() {
                return Err(timeout_reason);
            }
            self.acquire_slot().map_err(|_| CloseReason::ConnectionLimitReached)?;
        }
    }

    /// Shortens a timeout for a connection over the limit, which waits for a request to reject, or for a slot.
    pub(super) fn clamp_timeout(&self, timeout: Duration) -> Duration {
        if self.slot.is_ok() { timeout } else { timeout.min(OVER_LIMIT_TIMEOUT) }
    }

    /// Serves the request whose header section is the first `length` bytes of the input buffer.
    async fn serve_request(&mut self, client: &mut Downstream, length: usize, skip: usize) {
        let Some(h1) = client.as_h1() else { return };
        let mut request_head = h1.io.input.split_to(length);
        let request_head = request_head.split_off(skip).freeze();
        match request_head::parse_with_framing(&request_head) {
            Ok(parsed) => {
                if let Err(over_limit) = self.acquire_slot() {
                    let rejected = Self::rejected_request(over_connection_limit(over_limit), &request_head);
                    return self.reject(client, rejected, None).await;
                }
                h1.begin_request(&parsed);
                let request = Request::from_h1(request_head, &parsed);
                client.begin_request();
                serve_guarded(self.listener, self.source(), client, &request).await;
            }
            Err(RejectedHead { rejection, framing }) => {
                let rejected = Self::rejected_request(rejection_to_fault(rejection), &request_head);
                // A connection over the limit closes after its first request, whatever that is.
                let framing = framing.filter(|_| self.acquire_slot().is_ok());
                self.reject(client, rejected, framing).await;
            }
        }
    }

    /// Where the requests come from.
    fn source(&self) -> RequestSource<'_> {
        let certificate = self.certificate.as_deref();
        RequestSource { listener: self.listener.index, peer: self.peer, certificate }
    }

    /// The facts of a rejected request, for its error response and the log. `read` is the part that was received.
    /// Empty lines before the request line (RFC 9112 2.2) are not part of it.
    fn rejected_request(fault: Fault, read: &[u8]) -> RejectedRequest {
        let read = read.get(blank_len(read)..).unwrap_or_default();
        RejectedRequest { fault, request_line: first_line(read), facts: RejectedFacts::parse(read) }
    }

    /// Sends the error response of a rejected request. Without `framing` the connection closes.
    async fn reject(
        &mut self,
        client: &mut Downstream,
        rejected: RejectedRequest,
        framing: Option<KnownFraming>,
    ) {
        if let Some(h1) = client.as_h1() {
            // A response to HEAD has no body, even when the rest of the request is malformed.
            h1.begin_rejected(partial_request::is_head(&rejected.request_line), framing);
        }
        client.begin_request();
        reject_guarded(self.listener, self.source(), client, rejected).await;
    }

    /// Waits for the first byte of a request, within the idle timeout. Between requests the connection may be evicted.
    /// Returns `None` if bytes arrived, otherwise why the connection closes.
    async fn wait_for_request(
        &mut self,
        io: &mut BufferedStream,
        is_first: bool,
        drain: &mut DrainSignal<'_>,
    ) -> Option<NextInput> {
        let started = Instant::now();
        let mut idle_deadline = started + self.clamp_timeout(self.client_config.idle_timeout);
        let (mut idle, mut draining) = (false, drain.is_terminated());
        if draining {
            idle_deadline = idle_deadline.min(started + DRAIN_IDLE_GRACE);
        }
        // Empty lines (RFC 9112 2.2) do not end the idle time. They stay in the buffer: they count towards the size
        // limit.
        let mut blank = 0;
        loop {
            blank += blank_len(io.input.get(blank..).unwrap_or_default());
            if blank < io.input.len() || blank >= self.client_config.max_header_bytes {
                break;
            }
            if !is_first
                && !idle
                && let Ok(slot) = &self.slot
            {
                slot.set_idle(started);
                idle = true;
            }
            let read_result = tokio::select! {
                biased;
                read = timeout_at(idle_deadline, io.fill(HEADER_BUFFER_SIZE)) => read,
                () = drain.as_mut(), if !draining => {
                    draining = true;
                    if !is_first {
                        idle_deadline = idle_deadline.min(Instant::now() + DRAIN_IDLE_GRACE);
                    }
                    continue;
                }
                () = wait_for_eviction(self.slot.as_ref().ok()), if idle => {
                    return Some(NextInput::Closed(Some(CloseReason::Evicted)));
                }
            };
            let close_reason = match read_result {
                Some(Ok(1..)) => continue,
                Some(Err(error)) if is_tls_error(&error) => Some(CloseReason::TlsConnectionError),
                Some(Ok(0) | Err(_)) if is_first => Some(CloseReason::NoRequest),
                // A client may close a keep-alive connection at any time.
                Some(Ok(0) | Err(_)) => None,
                None if self.slot.is_err() => {
                    if self.acquire_slot().is_ok() {
                        idle_deadline = started + self.client_config.idle_timeout;
                        continue;
                    }
                    Some(CloseReason::ConnectionLimitReached)
                }
                None if draining && !is_first => Some(CloseReason::Drain),
                None => Some(CloseReason::IdleTimeout),
            };
            return Some(NextInput::Closed(close_reason));
        }
        if idle && !self.slot.as_ref().is_ok_and(ConnectionSlot::set_busy) {
            // Evicted just before the request arrived: another slot may be free, and `acquire_slot` looks for one.
            self.slot = Err(OverLimit::Total);
        }
        None
    }

    /// Reads a request header section. The idle timeout limits the wait for the first byte; one deadline limits the
    /// time for all other bytes.
    async fn read_request_head(
        &mut self,
        io: &mut BufferedStream,
        is_first: bool,
        drain: &mut DrainSignal<'_>,
    ) -> NextInput {
        if let Some(closed) = self.wait_for_request(io, is_first, drain).await {
            return closed;
        }
        // A reload may have changed the limits since the connection was opened.
        let snapshot = self.listener.gateway.snapshot.load();
        if !Arc::ptr_eq(&self.client_config, &snapshot.client) {
            self.client_config = Arc::clone(&snapshot.client);
        }
        drop(snapshot);
        let started = Instant::now();
        let mut scanner = RequestScanner::new(self.client_config.max_header_bytes);
        loop {
            if is_first && self.listener.h2c {
                match h2::match_preface(&io.input) {
                    h2::Preface::Complete => return NextInput::Http2Preface,
                    h2::Preface::Partial => {
                        if let Some(next) = self.read_more(io, self.header_deadline(started)).await {
                            return next;
                        }
                        continue;
                    }
                    h2::Preface::Other => {
                        let evidence =
                            Evidence::from_static("expected an HTTP/2 connection preface on an h2c listener");
                        return NextInput::Rejected(
                            Fault::new(Cause::UnsupportedVersion, Phase::RequestHeaders)
                                .with_evidence(evidence),
                        );
                    }
                }
            }
            match scanner.advance(&io.input) {
                ScanProgress::Complete { length, skip } => return NextInput::RequestHead { length, skip },
                ScanProgress::Rejected(rejection) => {
                    return NextInput::Rejected(rejection_to_fault(rejection));
                }
                ScanProgress::NeedMore => {
                    if let Some(next) = self.read_more(io, self.header_deadline(started)).await {
                        return next;
                    }
                }
            }
        }
    }

    /// When a header section must be complete whose first byte was there at `started`.
    fn header_deadline(&self, started: Instant) -> Instant {
        started + self.clamp_timeout(self.client_config.header_timeout)
    }

    /// Reads more of a header section until `deadline`. Returns `None` if bytes arrived, or if a connection over the
    /// limit now has a slot; otherwise how the incomplete request ends.
    async fn read_more(&mut self, io: &mut BufferedStream, deadline: Instant) -> Option<NextInput> {
        match timeout_at(deadline, io.fill(HEADER_BUFFER_SIZE)).await {
            Some(Ok(1..)) => None,
            // The client may have closed only its sending side, so it can still read an error response.
            Some(Ok(0)) => Some(NextInput::Rejected(
                Fault::new(Cause::HttpRequestError, Phase::RequestHeaders).with_evidence(
                    Evidence::from_static("connection closed before the end of the request headers"),
                ),
            )),
            Some(Err(error)) if is_tls_error(&error) => {
                Some(NextInput::Closed(Some(CloseReason::TlsConnectionError)))
            }
            Some(Err(_)) => Some(NextInput::Closed(Some(CloseReason::ClientGone))),
            None if self.slot.is_err() => {
                let over_limit = self.acquire_slot().err()?;
                Some(NextInput::Rejected(over_connection_limit(over_limit)))
            }
            None => Some(NextInput::Rejected(Fault::new(Cause::ClientTooSlow, Phase::RequestHeaders))),
        }
    }
}

/// Becomes ready when the connection is evicted.
async fn wait_for_eviction(slot: Option<&ConnectionSlot>) {
    match slot {
        Some(slot) => poll_fn(|cx| slot.poll_evicted(cx)).await,
        None => pending().await,
    }
}

/// The error for a connection over a connection limit.
pub(super) fn over_connection_limit(over_limit: OverLimit) -> Fault {
    let evidence = match over_limit {
        OverLimit::Total => "client.max_connections is reached, and no idle connection was found",
        OverLimit::Client => "client.max_connections_per_client is reached",
    };
    Fault::new(Cause::ConnectionLimitReached, Phase::Admit).with_evidence(Evidence::from_static(evidence))
}

/// The first line of the input, at most 1 KiB, for the log.
pub(super) fn first_line(read: &[u8]) -> Bytes {
    let start = read.trim_ascii_start();
    let end = start.iter().position(|octet| matches!(octet, b'\r' | b'\n')).unwrap_or(start.len());
    Bytes::copy_from_slice(start.get(..end.min(MAX_LOGGED_LINE)).unwrap_or_default())
}
