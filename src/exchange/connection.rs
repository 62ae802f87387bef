//! One client connection: first byte, head after head, the guard around every request, and a close that can be read.
//!
//! It knows how bytes become a request and what happens between requests. What answers is a [`Role`]: the gateway or
//! the telemetry pages. HTTP/2 is served in [`super::connection_h2`].

use std::fmt;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use rustls::ServerConfig;

use super::client_h1::H1Client;
use super::connection_h2;
use super::downstream::{Downstream, Stage};
use super::dress::Dress;
use super::exchange;
use super::gateway::Gateway;
use super::handshake::{self, Agreed};
use super::head::Ends;
use super::open::{Entered, Open, Served};
use super::pages::{self, Pages};
use super::record::{self, Refused};
use super::request::{Request, refused};
use super::sharing;
use super::wire::{BODY_ROOM, HEAD_ROOM, Wire};
use crate::config::ClientLimits;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::observe::{CloseReason, Gauge};
use crate::protocol::raw_head::{Progress, RequestScanner};
use crate::protocol::{request_head, torn_head};
use crate::tls::trust::is_tls_error;
use crate::upstream::timer::timeout_at;

/// After an answer that closes, so much of what the client still sends is read, so that the answer is not lost to a
/// reset (RFC 9112 9.6).
const LINGER_BYTES: usize = 64 * 1024 * 1024;
/// For so long in all.
const LINGER_TIME: Duration = Duration::from_secs(10);
/// And while the client is not silent for longer.
const LINGER_SILENCE: Duration = Duration::from_secs(2);

/// A connection that there is no place for has so long to ask and, once it was told, to go.
const CROWD_TIME: Duration = Duration::from_secs(1);

/// An idle connection that is closed has so long to take the goodbye of TLS.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// An idle connection is closed so long after draining has begun: a request may be on its way already.
const LAST_CALL: Duration = Duration::from_secs(1);

/// So much of a line that is no request line is logged.
const MAX_LOGGED_LINE: usize = 1024;

/// What answers on a listener.
#[derive(Clone, Debug)]
pub enum Role {
    /// The gateway's routes, for as many connections at once as `client.max_connections` says.
    Gateway,
    /// Pages of our own, for so many connections at once.
    Pages(Arc<dyn Pages>, usize),
}

/// What one listener does with its connections.
pub struct Connections {
    /// Shared by all listeners.
    pub gateway: Arc<Gateway>,
    /// What answers here.
    pub role: Role,
    /// HTTP/2 with prior knowledge is understood here.
    pub h2c: bool,
    /// TLS is spoken here, by the settings of now: a reload may bring other certificates.
    pub tls: Option<Arc<ArcSwap<ServerConfig>>>,
    /// Those that are open, and how many may be.
    pub open: Arc<Open>,
    /// The gauge of this listener.
    pub gauge: Gauge,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("role", &self.role)
            .field("h2c", &self.h2c)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Connections {
    /// What the answer to something that is no request wears, when it names this origin. Our own pages are for no
    /// other page to read.
    pub(super) fn unrouted_dress(&self, origin: Option<&[u8]>) -> Dress {
        match self.role {
            Role::Gateway => sharing::unrouted(&self.gateway, origin),
            Role::Pages(..) => Dress::default(),
        }
    }

    /// Returns when another connection may be accepted.
    pub async fn room(&self) {
        let most = self.most(&self.gateway.snapshot.load().client);
        self.open.room(most).await;
    }

    /// Serves one connection to its end.
    pub async fn serve(
        self: Arc<Self>,
        stream: Stream,
        peer: IpAddr,
        entered: Entered,
        shutdown: ShutdownWatch,
    ) {
        let _entered = entered;
        let _held = self.gauge.guard();
        let rules = Arc::clone(&self.gateway.snapshot.load().client);
        let place = self.open.place(self.most(&rules));
        let mut connection = Connection { app: &self, peer, rules, place, shutdown };
        match &self.tls {
            None => connection.serve(Wire::new(stream)).await,
            Some(settings) => {
                let limit = connection.patience(connection.rules.header_timeout);
                match handshake::shake_hands(stream, &settings.load_full(), limit, peer).await {
                    Ok(Agreed::Http1(stream)) => connection.serve(Wire::new(stream)).await,
                    Ok(Agreed::Http2(stream)) => {
                        connection_h2::serve(&mut connection, stream, BytesMut::new()).await;
                    }
                    Err(silence) => self.gateway.metrics.closed_without_response(silence),
                }
            }
        }
    }

    /// How clients reach this listener, as a URL says it.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// So many connections are served at once.
    fn most(&self, rules: &ClientLimits) -> usize {
        match self.role {
            Role::Gateway => rules.max_connections,
            Role::Pages(_, most) => most,
        }
    }
}

/// One connection, being served.
pub(super) struct Connection<'a> {
    pub(super) app: &'a Arc<Connections>,
    pub(super) peer: IpAddr,
    pub(super) rules: Arc<ClientLimits>,
    /// `None`: there are too many, and this one is let in to be told so.
    place: Option<Served>,
    pub(super) shutdown: ShutdownWatch,
}

/// What came when the next request was awaited.
enum Next {
    /// A head; so many bytes of it are a blank line before.
    Head { length: usize, skip: usize },
    /// Something that no head begins with: the client speaks HTTP/2.
    Http2,
    /// What is not a request.
    Refused(Fault),
    /// Nothing: the connection ends in silence.
    Silent(Option<CloseReason>),
}

impl Connection<'_> {
    async fn serve(&mut self, wire: Wire) {
        let mut client = Downstream::h1(H1Client::new(wire, self.shutdown.clone()), self.app.scheme());
        let mut first = true;
        loop {
            let Some(h1) = client.as_h1() else { return };
            match self.next(&mut h1.wire, first).await {
                Next::Silent(silence) => {
                    if let Some(silence) = silence {
                        self.app.gateway.metrics.closed_without_response(silence);
                    }
                    if matches!(silence, Some(CloseReason::IdleTimeout | CloseReason::Drain)) {
                        // TLS has a word for it, without which the end looks like a cut.
                        let _ = timeout_at(Instant::now() + GOODBYE_TIME, h1.wire.finish_writing()).await;
                    }
                    return;
                }
                Next::Http2 => {
                    if let Some(h1) = client.into_h1() {
                        let (stream, read) = h1.wire.into_parts();
                        connection_h2::serve(self, stream, read).await;
                    }
                    return;
                }
                Next::Refused(fault) => {
                    let refused = self.refused(fault, &h1.wire.input);
                    self.refuse(&mut client, refused).await;
                }
                Next::Head { length, skip } => self.one(&mut client, length, skip).await,
            }
            first = false;
            match client.stage() {
                Stage::Finished if client.as_h1().is_some_and(|h1| h1.keeps_alive()) => {}
                Stage::Finished => return close(client, self.place.is_some()).await,
                Stage::Cut(Ends::Reset) => {
                    if let Some(h1) = client.into_h1() {
                        h1.wire.reset();
                    }
                    return;
                }
                // A cut message ends with the connection, at once.
                Stage::Cut(Ends::Short) => return,
                Stage::Unanswered | Stage::HeadSent | Stage::Lost | Stage::Stuck => {
                    record::client_left(&self.app.gateway, client.stage());
                    // Perhaps only its sending side is closed: what it still reads must not look whole.
                    if let Some(mut h1) = client.into_h1()
                        && h1.cut() == Ends::Reset
                    {
                        h1.wire.reset();
                    }
                    return;
                }
            }
            if let Some(h1) = client.as_h1() {
                h1.wire.rest();
            }
        }
    }

    /// Whether this connection is among those that are served; one that came too early is, once there is room.
    pub(super) fn is_placed(&mut self) -> bool {
        if self.place.is_none() {
            self.place = self.app.open.place(self.app.most(&self.rules));
        }
        self.place.is_some()
    }

    /// A limit on a client that may be let in only to be told that there are too many: it has to be quick.
    pub(super) fn patience(&self, limit: Duration) -> Duration {
        if self.place.is_some() { limit } else { limit.min(CROWD_TIME) }
    }

    /// One request whose head is in the buffer.
    async fn one(&mut self, client: &mut Downstream, length: usize, skip: usize) {
        let Some(h1) = client.as_h1() else { return };
        let mut head = h1.wire.input.split_to(length);
        let head = head.split_off(skip).freeze();
        match request_head::parse(&head) {
            Ok(_) if !self.is_placed() => {
                let refused = self.refused(crowded_out(), &head);
                self.refuse(client, refused).await;
            }
            Ok(facts) => {
                h1.begin(&facts);
                let request = Request::from_h1(head, &facts);
                client.expect_answer();
                serve_guarded(self.app, self.peer, client, &request).await;
            }
            Err(refusal) => {
                let refused = self.refused(refused(refusal), &head);
                self.refuse(client, refused).await;
            }
        }
    }

    /// What is known of a head that is not served: how it begins, and whose page it comes from.
    fn refused(&self, fault: Fault, read: &[u8]) -> Refused {
        Refused {
            fault,
            line: first_line(read),
            dress: self.app.unrouted_dress(torn_head::single_field(read, "origin")),
            grpc: torn_head::is_grpc(read),
        }
    }

    async fn refuse(&mut self, client: &mut Downstream, refused: Refused) {
        if let Some(h1) = client.as_h1() {
            // Whoever asks with HEAD takes no body for an answer, however the rest of its head looks.
            h1.begin_refused(refused.line.starts_with(b"HEAD "));
        }
        client.expect_answer();
        refuse_guarded(self.app, self.peer, client, refused).await;
    }

    /// Waits for a head: the first byte under the idle limit, the whole head under one deadline.
    async fn next(&mut self, wire: &mut Wire, first: bool) -> Next {
        let mut until = Instant::now() + self.patience(self.rules.idle_timeout);
        let mut last_call = false;
        // An empty line before a request is not the beginning of one (RFC 9112 2.2): old clients end a body with it.
        while matches!(wire.input.as_ref(), b"" | b"\r" | b"\r\n") {
            let waited = tokio::select! {
                biased;
                read = timeout_at(until, wire.fill(HEAD_ROOM)) => read,
                _ = self.shutdown.wait_for(|ends| *ends), if !last_call => {
                    last_call = true;
                    until = until.min(Instant::now() + LAST_CALL);
                    continue;
                }
            };
            match waited {
                Some(Ok(1..)) => {}
                Some(Err(error)) if is_tls_error(&error) => {
                    return Next::Silent(Some(CloseReason::TlsConnectionError));
                }
                Some(Ok(0) | Err(_)) if first => return Next::Silent(Some(CloseReason::NoRequest)),
                // A client may close a kept connection whenever it likes.
                Some(Ok(0) | Err(_)) => return Next::Silent(None),
                None if last_call => return Next::Silent(Some(CloseReason::Drain)),
                None => return Next::Silent(Some(CloseReason::IdleTimeout)),
            }
        }
        // The limits of now, not those of when the connection was made: a reload may have changed them.
        let snapshot = self.app.gateway.snapshot.load();
        if !Arc::ptr_eq(&self.rules, &snapshot.client) {
            self.rules = Arc::clone(&snapshot.client);
        }
        drop(snapshot);
        let deadline = Instant::now() + self.patience(self.rules.header_timeout);
        let mut scanner = RequestScanner::new(self.rules.max_header_bytes);
        loop {
            if first && self.app.h2c {
                match connection_h2::preface(&wire.input) {
                    connection_h2::Preface::Whole => return Next::Http2,
                    connection_h2::Preface::Begun => {
                        if let Some(next) = self.more(wire, deadline).await {
                            return next;
                        }
                        continue;
                    }
                    connection_h2::Preface::Other => {
                        let evidence = Evidence::from_static("not HTTP/2, on a listener for HTTP/2 alone");
                        return Next::Refused(
                            Fault::new(Cause::UnsupportedVersion, Phase::RequestHeaders)
                                .with_evidence(evidence),
                        );
                    }
                }
            }
            match scanner.advance(&wire.input) {
                Progress::Complete { length, skip } => return Next::Head { length, skip },
                Progress::Rejected(refusal) => return Next::Refused(refused(refusal)),
                Progress::NeedMore => {
                    if let Some(next) = self.more(wire, deadline).await {
                        return next;
                    }
                }
            }
        }
    }

    /// Reads on inside a head; `Some` when no more will come.
    async fn more(&mut self, wire: &mut Wire, deadline: Instant) -> Option<Next> {
        match timeout_at(deadline, wire.fill(HEAD_ROOM)).await {
            Some(Ok(1..)) => None,
            // The client may still read: it gets an answer to its half of a request.
            Some(Ok(0)) => Some(Next::Refused(
                Fault::new(Cause::HttpRequestError, Phase::RequestHeaders)
                    .with_evidence(Evidence::from_static("the head ends early")),
            )),
            Some(Err(error)) if is_tls_error(&error) => {
                Some(Next::Silent(Some(CloseReason::TlsConnectionError)))
            }
            Some(Err(_)) => Some(Next::Silent(Some(CloseReason::ClientGone))),
            None => Some(Next::Refused(Fault::new(Cause::ClientTooSlow, Phase::RequestHeaders))),
        }
    }
}

/// There are more connections than `client.max_connections`.
pub(super) fn crowded_out() -> Fault {
    Fault::new(Cause::ConnectionLimitReached, Phase::Admit)
}

/// The beginning of what was read, for the log: a request line where there is one.
pub(super) fn first_line(read: &[u8]) -> Bytes {
    let start = read.trim_ascii_start();
    let end = start.iter().position(|octet| matches!(octet, b'\r' | b'\n')).unwrap_or(start.len());
    Bytes::copy_from_slice(start.get(..end.min(MAX_LOGGED_LINE)).unwrap_or_default())
}

/// What is done under the guard.
enum Attempt<'a> {
    Serve(&'a Request),
    Refuse(Refused),
}

/// Serves a request that was understood, under the guard.
pub(super) async fn serve_guarded(
    app: &Connections,
    peer: IpAddr,
    client: &mut Downstream,
    request: &Request,
) {
    guarded(app, peer, client, Attempt::Serve(request)).await;
}

/// Refuses what is not a request, under the guard.
pub(super) async fn refuse_guarded(
    app: &Connections,
    peer: IpAddr,
    client: &mut Downstream,
    refused: Refused,
) {
    guarded(app, peer, client, Attempt::Refuse(refused)).await;
}

/// The panic guard: a bug of ours becomes a documented 500, or a visible abort, and a number.
async fn guarded(app: &Connections, peer: IpAddr, client: &mut Downstream, attempt: Attempt<'_>) {
    let (request, line) = match &attempt {
        Attempt::Serve(request) => (Some(*request), Bytes::new()),
        Attempt::Refuse(refused) => (None, refused.line.clone()),
    };
    // Boxed once: the future is large, and an idle connection should not carry its room.
    let served = Box::pin(async {
        match (&app.role, attempt) {
            (Role::Gateway, Attempt::Serve(request)) => {
                exchange::serve(&app.gateway, peer, client, request).await
            }
            (Role::Gateway, Attempt::Refuse(refused)) => {
                exchange::refuse(&app.gateway, peer, client, refused).await
            }
            (Role::Pages(pages, _), Attempt::Serve(request)) => {
                pages::serve(&app.gateway, pages.as_ref(), client, request).await;
            }
            (Role::Pages(..), Attempt::Refuse(refused)) => {
                pages::refuse(&app.gateway, client, refused.fault).await
            }
        }
    });
    if AssertUnwindSafe(served).catch_unwind().await.is_ok() {
        return;
    }
    app.gateway.metrics.panics.inc();
    match client.stage() {
        Stage::Unanswered => {
            let fault = Fault::new(Cause::ProxyInternalError, Phase::Internal);
            let dress = match (&app.role, request) {
                // The rules of the route, if finding it was not what went wrong.
                (Role::Gateway, Some(request)) => {
                    catch_unwind(AssertUnwindSafe(|| exchange::dress(&app.gateway, peer, request)))
                }
                (Role::Gateway, None) | (Role::Pages(..), _) => Ok(Dress::default()),
            };
            let dress = dress.unwrap_or_default();
            let grpc = request.is_some_and(Request::is_grpc);
            let refused = Refused { fault, line: request.map_or(line, Request::line), dress, grpc };
            let answer = Box::pin(exchange::refuse(&app.gateway, peer, client, refused));
            if AssertUnwindSafe(answer).catch_unwind().await.is_err() {
                client.cut();
            }
        }
        Stage::HeadSent => {
            app.gateway.metrics.aborted(Cause::ProxyInternalError);
            client.cut();
        }
        Stage::Finished | Stage::Cut(_) | Stage::Lost | Stage::Stuck => {}
    }
}

/// Ends a connection after a whole answer: FIN, then a bounded look at what the client still sends, so that no reset
/// overtakes the answer.
async fn close(client: Downstream, served: bool) {
    let Some(mut h1) = client.into_h1() else { return };
    // In TLS even this has to be written, and a client that does not read has no room for it.
    if !matches!(timeout_at(Instant::now() + LINGER_SILENCE, h1.wire.finish_writing()).await, Some(Ok(()))) {
        return;
    }
    let end = Instant::now() + if served { LINGER_TIME } else { CROWD_TIME };
    let mut read = 0;
    while read < LINGER_BYTES {
        h1.wire.input.clear();
        let at = end.min(Instant::now() + LINGER_SILENCE);
        match timeout_at(at, h1.wire.fill(BODY_ROOM)).await {
            Some(Ok(more @ 1..)) => read += more,
            Some(Ok(0) | Err(_)) | None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::ServerName;
    use tokio::io::AsyncWriteExt;
    use tokio::sync::watch;

    use super::super::client_h1::H1Client;
    use super::super::wire::Wire;
    use super::*;
    use crate::tls::identity::Identity;
    use crate::tls::served;
    use crate::tls::stream::TlsConnection;
    use crate::tls::trust::{Alpn, CertVerification};

    /// A connection in TLS whose client reads nothing more, and which takes nothing more.
    async fn stuck() -> (TlsConnection, TlsConnection) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["test".to_owned()]).unwrap().self_signed(&key).unwrap();
        let identity = Identity::new(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let (ours, theirs) = tokio::io::duplex(1024);
        let trust = CertVerification::from_pem(certificate.pem().as_bytes()).unwrap();
        let name = ServerName::try_from("test").unwrap();
        let (server, client) = tokio::join!(
            TlsConnection::accept(Box::new(ours), served::build(&[identity]).unwrap()),
            TlsConnection::connect(Box::new(theirs), &trust, name, Alpn::Http1),
        );
        let (mut server, client) = (server.unwrap(), client.unwrap());
        let full = async {
            server.write_all(&[b'x'; 4096]).await.unwrap();
            server.flush().await.unwrap();
            pending::<()>().await;
        };
        assert_eq!(timeout_at(Instant::now() + Duration::from_millis(50), full).await, None);
        (server, client)
    }

    #[tokio::test]
    async fn a_client_that_does_not_take_the_goodbye_of_tls_is_not_waited_for_beyond_its_time() {
        let (server, _client) = stuck().await;
        let (_shutdown, watched) = watch::channel(false);
        let h1 = H1Client::new(Wire::new(Box::new(server)), watched);
        let begun = Instant::now();
        let closed = close(Downstream::h1(h1, "https"), true);
        assert_eq!(timeout_at(begun + Duration::from_secs(10), closed).await, Some(()));
        assert!(begun.elapsed() >= LINGER_SILENCE);
    }
}
