//! The cases of clients: what a faulty client does, and the exact expected outcome.
//!
//! They are data: [`super::cases`] reads them from `cases/*.yaml` and from files of an operator. `demo`, `verify`, the
//! tests and the documentation use the same cases. Cases live as long as the process, so their names are leaked.

use std::fmt;
use std::marker::PhantomData;
use std::net::Ipv4Addr;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::contract::Cause;

use super::payload::{GatewayProfile, Payload, Scope};
use super::step::{ClientStep, RequestKind};

/// A text of a file that lives as long as the process. (serde would borrow a plain reference from its input.)
pub(crate) type Leaked = &'static str;

/// A faulty client, or an unusual but valid request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientFault {
    /// Stable name.
    #[serde(deserialize_with = "name")]
    pub name: Leaked,
    /// What the client does, in one line.
    #[serde(rename = "shows", deserialize_with = "leaked")]
    pub description: Leaked,
    /// The protocol of the client.
    #[serde(skip)]
    pub protocol: ClientProtocol,
    /// Heading in the documentation.
    #[serde(skip)]
    pub section: &'static str,
    /// The steps of the client.
    #[serde(default)]
    pub(crate) steps: Vec<ClientStep>,
    /// Instead of `steps`: these bytes, and for HTTP/1 one read for each expected response.
    send: Option<Payload>,
    /// HTTP/1: the responses in order, one for each read. HTTP/2: the outcomes of the streams from `first_stream` on.
    #[serde(rename = "expect", default, deserialize_with = "one_or_many")]
    pub expected: Vec<ExpectedResponse>,
    /// How often the expected responses repeat.
    #[serde(default = "once")]
    times: usize,
    /// HTTP/2: the stream of the first outcome; the next ones are on the next streams of a client.
    #[serde(rename = "stream", default = "first_stream")]
    first_stream: u32,
    connection: Option<ConnectionOutcome>,
    upstream: Option<UpstreamSaw>,
    /// Close reasons, each as `name` or `name xN`.
    #[serde(default, deserialize_with = "one_or_many")]
    counted: Vec<String>,
    /// The request that must match the profile's route, if it differs from the profile's method and path.
    routed: Option<RoutedRequest>,
    /// Use the smallest receive buffer that the system allows.
    #[serde(default)]
    pub(crate) small_receive_buffer: bool,
    /// HTTP/2: send the preface and these SETTINGS first; otherwise only the steps are sent, which may contain the
    /// preface.
    #[serde(default = "yes")]
    pub(crate) preface: bool,
    #[serde(default)]
    pub(crate) settings: Vec<(u16, u32)>,
    background: Option<bool>,
    /// The routes on which the case of a route runs.
    pub(crate) on: Option<RouteFeature>,
    /// The gateway of the case of a route.
    #[serde(default)]
    pub(crate) gateway: GatewayKind,
    /// The client's address, if it is not the one that every route allows.
    pub(crate) from: Option<Ipv4Addr>,
    /// Connections that the client opens before.
    #[serde(default)]
    pub(crate) others: OtherConnections,
    /// The response to the next request on a connection that stays open; by default that of the upstream or, on a
    /// route, the last expected one.
    next: Option<ExpectedResponse>,
    /// The names of header fields that the last response must have.
    #[serde(default)]
    pub(crate) fields: Vec<String>,
    /// More events may be counted: how many streams become requests depends on how the bytes arrive.
    #[serde(default)]
    pub nondeterministic: bool,
}

const fn once() -> usize {
    1
}

/// The stream of frames that name none; stream 1 is the background upload.
const fn first_stream() -> u32 {
    3
}

const fn yes() -> bool {
    true
}

/// The protocol of a faulty client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientProtocol {
    /// HTTP/1 without TLS.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS listener.
    Tls,
    /// HTTP/1 without TLS, to the routes of a configuration that have a feature.
    Route,
}

/// What a route must have so that a case of routes runs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RouteFeature {
    /// Nothing: the case is about a listener, and runs on the first route that every client may use.
    Listener,
    /// An upstream.
    Upstream,
    /// Methods: the request has another one.
    Methods,
    /// `deny.methods`: the request has each of them.
    DenyMethods,
    /// `allow_from`.
    AllowFrom,
    /// `deny_from`.
    DenyFrom,
    /// `maintenance`.
    Maintenance,
    /// `redirect`.
    Redirect,
    /// `respond`.
    Respond,
    /// `rate_limits` that are enforced.
    RateLimits,
    /// A rate limit with a `body:` part, which rejects bodies that it cannot read.
    BodyKey,
}

/// The gateway of a case of routes: what differs from the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GatewayKind {
    /// Nothing.
    #[default]
    Ordinary,
    /// The second request exceeds every rate limit.
    LowLimits,
    /// `client.max_connections` is 3.
    FewConnections,
    /// `client.max_connections_per_client` is 3.
    FewConnectionsPerClient,
    /// It listens on a Unix socket.
    UnixSocket,
    /// Its listener requires the PROXY protocol.
    ProxyProtocol,
    /// No server of any upstream passes its health checks.
    NoHealthyServer,
    /// The circuit breakers of the upstreams are open.
    BreakerOpen,
    /// No name of the upstreams' servers has an address.
    NameWithoutAddress,
    /// The name server does not answer.
    SilentNameServer,
}

/// Connections of the client beside that of the case.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OtherConnections {
    /// How many.
    pub(crate) count: usize,
    /// Each waits for a response; otherwise each is idle after one.
    #[serde(default)]
    pub(crate) busy: bool,
}

/// The part of a request that selects its route.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoutedRequest {
    /// The method.
    pub(crate) method: String,
    /// The path, as sent.
    pub(crate) path: String,
    /// The request has no Host field: only a route without a host matches.
    #[serde(default)]
    pub(crate) without_host: bool,
}

/// The expected response to one request, or the outcome of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpectedResponse {
    /// A documented error for a malformed request, or for one that matches no route.
    Rejected(Cause),
    /// A documented error for a request that matched its route.
    RejectedOnRoute(Cause),
    /// The upstream's response: 200 with [`SERVED_BODY`].
    Served,
    /// What the route declares: its redirect, its `respond`, or the upstream's response.
    Ordinary,
    /// [`ExpectedResponse::Ordinary`], or a documented error for this cause.
    OrdinaryOrRejected(Cause),
    /// The upstream's long response: 200 with this many bytes.
    ServedBytes(u64),
    /// The upstream's endless response, truncated for this cause.
    Truncated(Cause),
    /// The first part of the upstream's endless response; the client reads no further.
    Prefix,
    /// HTTP/2: RST_STREAM without a response.
    Reset,
    /// HTTP/2: an empty 431, which the HTTP/2 library sends.
    #[serde(rename = "empty_431")]
    Empty431,
    /// HTTP/2: the headers of a documented error for this cause, then RST_STREAM: the client's window takes no body.
    HeadersOnly(Cause),
    /// HTTP/2: no response: the client reset the stream, or the connection ends.
    NoResponse,
}

/// The state of a connection after the last response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionOutcome {
    /// It serves another request.
    KeptOpen,
    /// The last response has `Connection: close`, and the gateway closes it.
    AnnouncedClose,
    /// The gateway closes it after a response without `Connection: close`: it was idle, or the upload could still have
    /// completed when the headers were sent.
    Closed,
    /// The gateway closes it without a response, or resets it.
    Dropped,
    /// It closed inside a truncated response.
    Truncated,
    /// The client closed it.
    ClientClosed,
    /// HTTP/2: GOAWAY with an error code, then close.
    ErrorGoaway,
    /// HTTP/2: GOAWAY with NO_ERROR, then close.
    Goaway,
}

/// What the upstream receives of a client's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UpstreamSaw {
    /// Exactly this many complete requests.
    Complete(usize),
    /// At most one incomplete request.
    AtMostPartial,
    /// Anything: it depends on when the client closes or stops reading.
    Any,
}

/// The body of the upstream's default response.
pub(crate) const SERVED_BODY: &str = "served\n";

/// The header field of a request that selects the fault of the upstream.
pub const FAULT_HEADER: &str = "x-test-case";

/// The close reason of a stream that the HTTP/2 library resets.
pub(crate) const STREAM_ERROR: &str = "http2_stream_error";
/// The close reason of a connection that the HTTP/2 library closes with an error.
pub(crate) const CONNECTION_ERROR: &str = "http2_connection_error";

impl ExpectedResponse {
    /// The cause of the error, and the cause in `aborted_total`.
    const fn causes(self) -> (Option<Cause>, Option<&'static str>) {
        match self {
            ExpectedResponse::Rejected(cause) | ExpectedResponse::RejectedOnRoute(cause) => {
                (Some(cause), None)
            }
            ExpectedResponse::HeadersOnly(cause) => (Some(cause), Some(Cause::ClientTooSlow.name())),
            ExpectedResponse::Truncated(cause) => (None, Some(cause.name())),
            // The client closes inside the response.
            ExpectedResponse::Prefix => (None, Some("client_gone")),
            ExpectedResponse::Served
            | ExpectedResponse::ServedBytes(_)
            | ExpectedResponse::Ordinary
            | ExpectedResponse::OrdinaryOrRejected(_)
            | ExpectedResponse::Reset
            | ExpectedResponse::Empty431
            | ExpectedResponse::NoResponse => (None, None),
        }
    }

    /// The cause of the error.
    pub const fn error_cause(self) -> Option<Cause> {
        self.causes().0
    }

    /// The cause in `aborted_total`.
    pub const fn aborted_cause(self) -> Option<&'static str> {
        self.causes().1
    }

    /// Whether the client receives a response that is checked.
    pub(crate) const fn is_response(self) -> bool {
        !matches!(self, ExpectedResponse::Reset | ExpectedResponse::Empty431 | ExpectedResponse::NoResponse)
    }
}

impl ClientFault {
    /// Completes a case that was read from a file.
    ///
    /// # Errors
    /// What is wrong in the case, and what would be right.
    pub(super) fn complete(
        mut self,
        protocol: ClientProtocol,
        section: &'static str,
    ) -> Result<ClientFault, (String, &'static str)> {
        (self.protocol, self.section) = (protocol, section);
        if self.on.is_some() != (protocol == ClientProtocol::Route) {
            let message = "a case of `route` has the key `on`, others do not";
            return Err((message.to_owned(), "write on: listener, for example, below `route`"));
        }
        self.expected = self.expected.repeat(self.times);
        let is_http2 = protocol == ClientProtocol::Http2;
        if let Some(bytes) = self.send.take() {
            if !self.steps.is_empty() {
                return Err(("both send and steps".to_owned(), "keep one of them"));
            }
            self.steps.push(ClientStep::Write(bytes));
            let reads = if is_http2 { 0 } else { self.expected.len() };
            self.steps.extend((0..reads).map(|_| ClientStep::ReadResponse(RequestKind::DEFAULT)));
        }
        let (reads, expected) = (self.reads().count(), self.expected.len());
        if !is_http2 && reads != expected {
            let message = format!("{reads} responses are read, but {expected} are expected");
            return Err((message, "expect one response for each read_response"));
        }
        Ok(self)
    }

    /// The query parameter that identifies the requests of this case in the upstream's recording.
    pub(crate) fn marker(&self) -> String {
        format!("row={}", self.name)
    }

    /// What the bytes of this case are made for.
    pub(crate) const fn scope<'a>(&self, profile: &'a GatewayProfile) -> Scope<'a> {
        Scope { profile: Some(profile), name: self.name, stream: first_stream() }
    }

    /// The request that must match the profile's route, if it differs from the profile's method and path.
    pub(crate) fn routed_request(&self, profile: &GatewayProfile) -> Option<RoutedRequest> {
        let (scope, routed) = (self.scope(profile), self.routed.as_ref()?);
        let (method, path) = (scope.substitute(&routed.method), scope.substitute(&routed.path));
        Some(RoutedRequest { method, path, without_host: routed.without_host })
    }

    /// The targets of the requests that the case writes, and of the next one on its connection.
    pub(crate) fn request_targets(&self, profile: &GatewayProfile) -> Vec<String> {
        let written = self.steps.iter().filter_map(|step| match step {
            ClientStep::Write(bytes) => Some(bytes.bytes(self.scope(profile))),
            _ => None,
        });
        let text = String::from_utf8_lossy(&written.collect::<Vec<_>>().concat()).into_owned();
        let lines = text.lines().filter_map(|line| line.strip_suffix(" HTTP/1.1")?.split_once(' '));
        let next = format!("{}?row=follow-up", profile.path);
        lines.map(|(_, target)| target.to_owned()).chain([next]).collect()
    }

    /// The expected outcomes with their streams.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (u32, ExpectedResponse)> {
        (self.first_stream..).step_by(2).zip(self.expected.iter().copied())
    }

    /// The kinds of the requests whose responses are read, which determine how these are parsed.
    pub fn reads(&self) -> impl DoubleEndedIterator<Item = RequestKind> {
        self.steps.iter().filter_map(|step| match step {
            ClientStep::ReadResponse(request_kind) => Some(*request_kind),
            ClientStep::ReadResponseSlowly { .. } => Some(RequestKind::DEFAULT),
            _ => None,
        })
    }

    /// The state of the connection after the last response.
    pub fn connection(&self) -> ConnectionOutcome {
        self.connection.unwrap_or(match self.expected.last() {
            Some(ExpectedResponse::Rejected(_)) if self.protocol != ClientProtocol::Http2 => {
                ConnectionOutcome::AnnouncedClose
            }
            _ => ConnectionOutcome::KeptOpen,
        })
    }

    /// The response to the next request on the connection.
    pub(super) fn next(&self) -> ExpectedResponse {
        let last = self.expected.last().filter(|_| self.protocol == ClientProtocol::Route).copied();
        self.next.or(last).unwrap_or(ExpectedResponse::Served)
    }

    /// HTTP/2: run an upload on another stream of the connection, which must be served.
    pub fn has_background_stream(&self) -> bool {
        let kept_open = self.connection() == ConnectionOutcome::KeptOpen;
        self.background.unwrap_or(self.protocol == ClientProtocol::Http2 && kept_open)
    }

    /// What the upstream receives.
    pub(crate) fn upstream_saw(&self) -> UpstreamSaw {
        let may_vary = |expected: &ExpectedResponse| {
            use ExpectedResponse::{Ordinary, OrdinaryOrRejected, Prefix, Truncated};
            matches!(expected, Truncated(_) | Prefix | Ordinary | OrdinaryOrRejected(_))
        };
        let is_served = |expected: &&ExpectedResponse| {
            matches!(expected, ExpectedResponse::Served | ExpectedResponse::ServedBytes(_))
        };
        self.upstream.unwrap_or_else(|| match self.expected.iter().any(may_vary) {
            true => UpstreamSaw::Any,
            false => UpstreamSaw::Complete(self.expected.iter().filter(is_served).count()),
        })
    }

    /// How often each cause is counted in `closed_without_response_total`: as written, or as the HTTP/2 library does.
    pub fn counted(&self) -> Vec<(&str, usize)> {
        if !self.counted.is_empty() {
            let parts = self.counted.iter().map(|text| text.split_once(" x").unwrap_or((text, "1")));
            return parts.map(|(name, times)| (name, times.parse().unwrap_or(1))).collect();
        }
        let count_of = |outcome| self.expected.iter().filter(|found| **found == outcome).count();
        let has_error = self.connection() == ConnectionOutcome::ErrorGoaway;
        let mut counted = vec![
            (STREAM_ERROR, count_of(ExpectedResponse::Reset)),
            ("http2_header_list", count_of(ExpectedResponse::Empty431)),
            (CONNECTION_ERROR, usize::from(has_error)),
        ];
        counted.retain(|(_, times)| *times > 0);
        counted
    }
}

/// Reads a text that lives as long as the process.
pub(super) fn leaked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    Ok(String::deserialize(deserializer)?.leak())
}

/// Reads the name of a case.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    let text = leaked(deserializer)?;
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if !text.is_empty() && text.bytes().all(allowed) {
        return Ok(text);
    }
    Err(D::Error::custom(format!(
        "{text:?} is not a name, expected lower-case letters, digits, hyphens and dots"
    )))
}

/// Reads one value, or a list of values.
fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct OneOrMany<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value or a list")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
            T::deserialize(text.into_deserializer()).map(|one| vec![one])
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(|one| vec![one])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(parts))
        }
    }
    deserializer.deserialize_any(OneOrMany(PhantomData))
}
