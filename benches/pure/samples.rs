//! Inputs of the pure benchmarks: typical header sections, bodies and routes, and one function per measured step.
//!
//! Each step returns its result, so that a test can assert it. Nothing is timed here.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use statusquo::config;
use statusquo::contract::{
    BodyFormat, Cause, Conformance, Contract, Decision, ErrorBody, ExtractedError, LocalReply, Overrides,
    PolicyInput, ReplyContext, RequestSent, Trigger, UpstreamMessages, compose, conform, decide, extract,
};
use statusquo::http::request_head::{self, RequestHead};
use statusquo::http::request_scanner::{RequestScanner, ScanProgress};
use statusquo::http::response_framer::{FramerProgress, ResponseFramer};
use statusquo::http::response_head::{self, ResponseHead};
use statusquo::http::route_conditions::BareRequest;
use statusquo::limit::gcra::{self, GcraState};
use statusquo::limit::{
    Algorithm, KeyPart, KeySource, Limiter, LimiterMode, LimiterSettings, Quota, QuotaDecision, Secret,
    Timestamp, UnreadableBody,
};
use statusquo::snapshot::router::Router;

/// A browser request with 9 header fields.
pub const REQUEST: &[u8] = b"GET /v1/databases/main/collections/orders?limit=25 HTTP/1.1\r\n\
    Host: api.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: application/json\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://app.example.com/orders\r\n\
    Origin: https://app.example.com\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl\r\n\r\n";

/// Response headers of a server with 8 header fields.
pub const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: app/3.1\r\n\
    Date: Sun, 22 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Content-Length: 1024\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: private, max-age=0\r\n\
    ETag: \"5f2b-1c9\"\r\n\
    Vary: Accept-Encoding\r\n\r\n";

/// An error body that conforms to the contract.
pub const CONFORMING: &[u8] =
    br#"{"message":"Document with the requested ID could not be found.","code":404,"type":"document_not_found"}"#;

/// A non-conforming error body with a message worth keeping.
pub const NON_CONFORMING: &[u8] = br#"{"errors":[{"status":"422","title":"Invalid attribute",
    "detail":"The name must not be longer than 128 characters.","source":{"pointer":"/data/attributes/name"}}],
    "meta":{"request":"9f2c","took":12}}"#;

/// Prepared inputs of all steps.
pub struct Samples {
    contract: Contract,
    router: Router,
    request_id: HeaderValue,
    by_bucket: Limiter,
    by_window: Limiter,
    by_sliding_window: Limiter,
}

impl Samples {
    /// Uses the built-in contract and 100 routes.
    pub fn new() -> Samples {
        let config = config::load_str("routes.yaml", &routes(), &|_| None, 1)
            .unwrap_or_else(|problems| panic!("the sample configuration is invalid:\n{problems}"));
        Samples {
            contract: Contract::builtin("appwrite").expect("the documented contract is built in"),
            router: Router::build(&config.routes).expect("the sample routes compile"),
            request_id: HeaderValue::from_static("019ab0c5-8f4e-7c3a-9d21-5b6e7f8a9b0c"),
            by_bucket: limiter(Algorithm::Gcra),
            by_window: limiter(Algorithm::FixedWindow),
            by_sliding_window: limiter(Algorithm::SlidingWindow),
        }
    }

    /// Error policy: refused upstream connection.
    pub fn decide_fault(&self) -> Decision {
        self.decide(Trigger::Fault(Cause::ConnectionRefused))
    }

    /// Error policy: undocumented status code.
    pub fn decide_status(&self) -> Decision {
        self.decide(Trigger::UpstreamStatus(502))
    }

    fn decide(&self, case: Trigger) -> Decision {
        let situation = PolicyInput {
            trigger: case,
            upstream: Some("orders"),
            method: &Method::GET,
            route_response: None,
        };
        decide(&self.contract, &situation, &Overrides::default())
    }

    /// Composes the local reply of a decision.
    pub fn compose(&self, decision: &Decision) -> LocalReply {
        let facts = ReplyContext {
            is_head_request: false,
            grpc: None,
            message: None,
            kind: None,
            details: None,
            declared: &[],
            format: BodyFormat::Contract,
            request_id: Some(&self.request_id),
            retryable: true,
            request_sent: RequestSent::None,
            retry_after: 5,
            now: std::time::SystemTime::UNIX_EPOCH,
            headers: Vec::new(),
        };
        compose(&self.contract, decision, facts)
    }

    /// Checks whether an error body conforms to the contract.
    pub fn examine(&self, status: u16, body: &[u8]) -> Conformance {
        let error = ErrorBody { status, media_type: Some(b"application/json"), body };
        conform::check_conformance(&self.contract, &error, UpstreamMessages::ClientErrors)
    }

    /// Extracts message and type from a non-conforming error body.
    pub fn extract(&self, body: &[u8]) -> ExtractedError {
        extract::extract(&self.contract, body)
    }

    /// Selects the route of a request among 100.
    pub fn route(&self, host: &str, path: &str) -> Option<usize> {
        self.router.find(host, path, &Method::GET, &BareRequest)
    }

    /// GCRA alone: the second request of a client, one second after its first.
    pub fn gcra(&self) -> QuotaDecision {
        let quota = &self.by_bucket.settings().quota;
        let (_, state) = gcra::decide(quota, GcraState::default(), Timestamp::default(), 1);
        gcra::decide(quota, state, Timestamp::after_epoch(Duration::from_secs(1)), 1).0
    }

    /// A whole rule, as the request path evaluates it: the client key and its state in the table.
    pub fn limit(&self, algorithm: Algorithm, now: Duration) -> QuotaDecision {
        let limiter = match algorithm {
            Algorithm::Gcra => &self.by_bucket,
            Algorithm::FixedWindow => &self.by_window,
            Algorithm::SlidingWindow => &self.by_sliding_window,
        };
        limiter.debit(limiter.key(&VISITOR), Timestamp::after_epoch(now))
    }
}

/// 100 requests per minute and client address; the token bucket has a burst of 20.
pub fn limiter(algorithm: Algorithm) -> Limiter {
    let settings = LimiterSettings {
        quota: Quota::new(100, Duration::from_secs(60), 20).expect("a valid quota"),
        algorithm,
        cost: 1,
        key: vec![KeyPart::ClientIp],
        unreadable: UnreadableBody::Reject,
        mode: LimiterMode::Enforce,
        exempt: Vec::new(),
        credentials: Vec::new(),
        reset_on: Vec::new(),
        retry_after_jitter: 0,
        store: None,
        max_keys: 200_000,
    };
    Limiter::new("per_ip", settings, Secret::new([7, 11]))
}

/// A client address.
pub struct ClientAddress(pub IpAddr);

const VISITOR: ClientAddress = ClientAddress(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)));

impl KeySource for ClientAddress {
    fn client_ip(&self) -> Option<IpAddr> {
        Some(self.0)
    }

    fn path(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        None
    }

    fn cookie(&self, _: &str) -> Option<&[u8]> {
        None
    }

    fn query(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        None
    }

    fn body(&self, _: &str) -> Option<String> {
        None
    }

    fn ipv6_prefix(&self) -> u8 {
        64
    }

    fn header(&self, _: &HeaderName) -> Option<&[u8]> {
        None
    }

    fn host(&self) -> Option<Cow<'_, str>> {
        Some("api.example.com".into())
    }

    fn method(&self) -> &str {
        "GET"
    }

    fn route(&self) -> &str {
        "orders"
    }
}

/// The strict scan of a request header section that arrived in one read.
pub fn scan_request(head: &[u8]) -> ScanProgress {
    RequestScanner::new(32 * 1024).advance(head)
}

/// Parses a complete request header section.
pub fn parse_request(head: &[u8]) -> RequestHead {
    request_head::parse(head).unwrap_or_else(|error| panic!("the sample request is rejected: {error:?}"))
}

/// Finds the end of a response header section.
pub fn scan_response(head: &[u8]) -> FramerProgress {
    ResponseFramer::default().advance(head)
}

/// Parses and checks a complete response header section.
pub fn check_response(head: &[u8]) -> ResponseHead {
    response_head::parse(head, &Method::GET)
        .unwrap_or_else(|evidence| panic!("the sample response: {evidence}"))
}

/// 100 routes: 11 hosts (one of them a wildcard) with 9 paths each, and a fallback route.
fn routes() -> String {
    let mut text = String::from(
        "version: 1\nlisten: [{ address: \"127.0.0.1:0\" }]\nupstreams: { u: { servers: [\"127.0.0.1:1\"] } }\nroutes:\n",
    );
    let mut route = |number: usize, host: &str, path: &str| {
        let host = if host.is_empty() { String::new() } else { format!("host: \"{host}\", ") };
        writeln!(text, "  - {{ name: r{number}, match: {{ {host}path: \"{path}\" }}, upstream: u }}")
            .unwrap();
    };
    let paths = [
        "/v1/account",
        "/v1/account/sessions/{session}",
        "/v1/databases/{database}",
        "/v1/databases/{database}/collections/{collection}",
        "/v1/databases/{database}/collections/{collection}/documents/{document}",
        "/v1/storage/buckets/{bucket}/files/{*file}",
        "/v1/functions/{function}/executions",
        "/v1/health",
        "/{*rest}",
    ];
    for host in 0..11 {
        for (index, path) in paths.iter().enumerate() {
            let name = if host == 10 { "*.example.com".to_owned() } else { format!("api{host}.example.com") };
            route(host * paths.len() + index, &name, path);
        }
    }
    route(99, "", "/{*rest}");
    text
}
