//! Reads the cases from `cases/*.yaml`, and from a file of an operator (`verify --cases`).
//!
//! A file lists cases for `upstream`, `client` (HTTP/1), `client_http2` and `client_tls`, in sections that become the
//! headings of `docs/faults.md`. [`super::step`] has the steps, [`super::payload`] the bytes. Payloads of upstreams are
//! made when a file is read; those of clients for each gateway, whose paths and limits they contain. Cases live as long
//! as the process, so their texts are leaked.

use std::sync::LazyLock;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use crate::contract::{Cause, RequestSent};

use super::case::{
    CONNECTION_ERROR, ClientFault, ClientProtocol, ConnectionOutcome, ExpectedMessage, ExpectedResponse,
    FaultOutcome, FaultRequest, GatewayProfile, ReplyReason, RoutedRequest, STREAM_ERROR, ServerKind,
    UpstreamFault, UpstreamSaw,
};
use super::payload::{Payload, Scope};
use super::step::{RequestKind, Side, Step};

/// The cases of one or more files.
#[derive(Clone, Debug, Default)]
pub struct CaseSet {
    upstream: Vec<UpstreamFault>,
    client: Vec<ClientEntry>,
}

/// What is wrong in a file of cases, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

pub(super) const FILES: &[&str] = &[
    include_str!("cases/upstream.yaml"),
    include_str!("cases/upstream_statuses.yaml"),
    include_str!("cases/upstream_bodies.yaml"),
    include_str!("cases/upstream_http2.yaml"),
    include_str!("cases/client.yaml"),
    include_str!("cases/client_http2.yaml"),
    include_str!("cases/client_tls.yaml"),
];

/// Read once. A test checks that every file is valid.
static BUILTIN: LazyLock<CaseSet> = LazyLock::new(|| {
    let mut cases = CaseSet::default();
    for text in FILES {
        let _ = cases.add(text);
    }
    cases
});

/// All upstream faults in documentation order, from the connection to the end of the body.
pub fn upstream_faults() -> Vec<UpstreamFault> {
    BUILTIN.upstream.clone()
}

/// The client faults of HTTP/1 for this gateway, in documentation order.
pub fn client_faults(profile: &GatewayProfile) -> Vec<ClientFault> {
    BUILTIN.client_faults(ClientProtocol::Http1, profile)
}

/// The client faults of HTTP/2 for this gateway, in documentation order.
pub fn client_faults_h2(profile: &GatewayProfile) -> Vec<ClientFault> {
    BUILTIN.client_faults(ClientProtocol::Http2, profile)
}

/// The client faults of TLS listeners for this gateway, in documentation order.
pub fn client_faults_tls(profile: &GatewayProfile) -> Vec<ClientFault> {
    BUILTIN.client_faults(ClientProtocol::Tls, profile)
}

impl CaseSet {
    /// The cases of the program.
    pub fn builtin() -> CaseSet {
        BUILTIN.clone()
    }

    /// Adds the cases of a file.
    ///
    /// # Errors
    /// The first problem of the file.
    pub fn add(&mut self, text: &str) -> Result<(), CaseError> {
        let file: CaseFile = serde_saphyr::from_str(text).map_err(|error| to_case_error(&error))?;
        for section in file.upstream {
            let title: &'static str = section.section.leak();
            for entry in section.cases {
                check_name(&entry.name, self.upstream.iter().map(|case| case.name))?;
                let case = entry.into_case(title)?;
                self.upstream.push(case);
            }
        }
        for (protocol, sections) in [
            (ClientProtocol::Http1, file.client),
            (ClientProtocol::Http2, file.client_http2),
            (ClientProtocol::Tls, file.client_tls),
        ] {
            for section in sections {
                let title: &'static str = section.section.leak();
                for entry in section.cases {
                    check_name(&entry.name, self.client.iter().map(|entry| &*entry.name.value))?;
                    self.client.push(entry.prepare(title, protocol)?);
                }
            }
        }
        Ok(())
    }

    /// The upstream faults in the order of the files.
    pub fn upstream_faults(&self) -> &[UpstreamFault] {
        &self.upstream
    }

    /// The client faults of this protocol, in the order of the files.
    pub fn client_faults(&self, protocol: ClientProtocol, profile: &GatewayProfile) -> Vec<ClientFault> {
        let entries = self.client.iter().filter(|entry| entry.protocol == protocol);
        entries.map(|entry| entry.case(profile)).collect()
    }

    /// The heading of a client case.
    #[cfg(test)]
    pub(super) fn client_section(&self, name: &str) -> Option<&'static str> {
        self.client.iter().find(|entry| entry.name.value == name).map(|entry| entry.section)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    #[serde(default)]
    upstream: Vec<Section<UpstreamEntry>>,
    #[serde(default)]
    client: Vec<Section<ClientEntry>>,
    #[serde(default)]
    client_http2: Vec<Section<ClientEntry>>,
    #[serde(default)]
    client_tls: Vec<Section<ClientEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section<T> {
    section: String,
    cases: Vec<T>,
}

type FileStep = Spanned<Step<Payload>>;

/// An upstream case as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpstreamEntry {
    name: Spanned<String>,
    shows: String,
    #[serde(default = "scripted", deserialize_with = "server_kind")]
    server: ServerKind,
    #[serde(default)]
    request: RequestEntry,
    #[serde(default)]
    steps: Vec<FileStep>,
    expect: Spanned<UpstreamExpectation>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RequestEntry {
    method: String,
    fields: Vec<String>,
    body: Payload,
    count: u32,
}

impl Default for RequestEntry {
    fn default() -> RequestEntry {
        RequestEntry { method: "GET".to_owned(), fields: Vec::new(), body: Payload::default(), count: 1 }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UpstreamExpectation {
    /// The code of a local reply.
    reply: Option<u16>,
    /// The code of a forwarded response.
    forwarded: Option<u16>,
    /// The code of a truncated response.
    truncated: Option<u16>,
    /// The cause of a local reply or of a truncation.
    #[serde(deserialize_with = "optional_cause")]
    cause: Option<Cause>,
    /// The upstream's status that a local reply replaces.
    status: Option<u16>,
    /// The upstream's message that a local reply keeps.
    message: Option<String>,
    body: Payload,
    /// `body` without its content coding.
    decoded: Option<Payload>,
    kept: Vec<String>,
    removed: Vec<String>,
    interim: Vec<u16>,
    #[serde(deserialize_with = "optional_request_sent")]
    request_sent: Option<RequestSent>,
}

const fn scripted() -> ServerKind {
    ServerKind::Scripted
}

impl UpstreamEntry {
    fn into_case(self, section: &'static str) -> Result<UpstreamFault, CaseError> {
        check_steps(&self.steps, Side::Upstream)?;
        if self.steps.is_empty() == self.server.runs_scripts() {
            let message = format!("the server {:?} does not fit the steps", self.server.upstream_name());
            let help = "give steps to the servers scripted, pooled and h2-scripted, and to no other";
            return Err(error_at(&self.name.referenced, message, help));
        }
        let scope = Scope::of_upstream(&self.name.value);
        let expect = &self.expect.value;
        let outcome = expect.outcome().ok_or_else(|| {
            error_at(
                &self.expect.referenced,
                "the expectation is not complete".to_owned(),
                "write reply with cause or status, forwarded, or truncated with cause",
            )
        })?;
        let pair = |field: &String| -> (&'static str, &'static str) {
            let (name, value) = field.split_once(": ").unwrap_or((field, ""));
            (name.to_owned().leak(), value.to_owned().leak())
        };
        let script =
            self.steps.iter().map(|step| step.value.map(|bytes| bytes.bytes(scope).into(), |time| time));
        let lines: String = self.request.fields.iter().map(|field| format!("{field}\r\n")).collect();
        Ok(UpstreamFault {
            section,
            request: FaultRequest {
                method: self.request.method.leak(),
                header_lines: lines.leak(),
                body: self.request.body.bytes(scope).into(),
                count: self.request.count,
            },
            server_kind: self.server,
            script: script.collect(),
            outcome,
            expected_message: match &expect.message {
                None => ExpectedMessage::ContractDefault,
                Some(message) => ExpectedMessage::FromUpstream(message.clone().leak()),
            },
            kept_headers: expect.kept.iter().map(pair).collect(),
            removed_headers: expect.removed.iter().map(|name| &*name.clone().leak()).collect(),
            interim_statuses: expect.interim.clone(),
            body: expect.body.bytes(scope).into(),
            decoded_body: expect.decoded.as_ref().map(|body| body.bytes(scope).into()),
            min_request_sent: expect.request_sent.unwrap_or(RequestSent::Full),
            name: self.name.value.leak(),
            description: self.shows.leak(),
        })
    }
}

impl UpstreamExpectation {
    /// `None` if it is incomplete or contradictory.
    fn outcome(&self) -> Option<FaultOutcome> {
        match (self.reply, self.forwarded, self.truncated, self.cause, self.status) {
            (Some(code), None, None, Some(cause), None) => {
                Some(FaultOutcome::LocalReply { code, reason: ReplyReason::Fault(cause) })
            }
            (Some(code), None, None, None, Some(status)) => {
                Some(FaultOutcome::LocalReply { code, reason: ReplyReason::Status(status) })
            }
            (None, Some(code), None, None, None) => Some(FaultOutcome::Forwarded { code }),
            (None, None, Some(code), Some(cause), None) => Some(FaultOutcome::Aborted { code, cause }),
            _ => None,
        }
    }
}

/// A client case as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientEntry {
    name: Spanned<String>,
    shows: String,
    /// Instead of `steps`: these bytes, and for HTTP/1 one read for each expected response.
    send: Option<Payload>,
    #[serde(default)]
    steps: Vec<FileStep>,
    #[serde(default)]
    expect: OneOrMany<ExpectedResponse>,
    /// How often the expected responses repeat.
    #[serde(default = "once")]
    times: usize,
    /// HTTP/2: the stream of the first expected outcome.
    #[serde(default = "first_stream")]
    stream: u32,
    connection: Option<ConnectionOutcome>,
    upstream: Option<UpstreamSaw>,
    counted: Option<OneOrMany<String>>,
    routed: Option<RoutedEntry>,
    #[serde(default)]
    small_receive_buffer: bool,
    /// HTTP/2: send the preface and SETTINGS first.
    #[serde(default = "yes")]
    preface: bool,
    #[serde(default)]
    settings: Vec<(u16, u32)>,
    background: Option<bool>,
    #[serde(default)]
    nondeterministic: bool,
    #[serde(skip)]
    section: &'static str,
    #[serde(skip, default = "http1")]
    protocol: ClientProtocol,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoutedEntry {
    method: String,
    path: String,
    #[serde(default)]
    without_host: bool,
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

const fn http1() -> ClientProtocol {
    ClientProtocol::Http1
}

impl ClientEntry {
    /// Checks the entry and completes its steps.
    fn prepare(mut self, section: &'static str, protocol: ClientProtocol) -> Result<ClientEntry, CaseError> {
        self.section = section;
        self.protocol = protocol;
        check_steps(&self.steps, Side::Client)?;
        if let Some(bytes) = self.send.take() {
            if !self.steps.is_empty() {
                let message = "both send and steps".to_owned();
                return Err(error_at(&self.name.referenced, message, "keep one of them"));
            }
            let step =
                |step| Spanned { value: step, referenced: self.name.referenced, defined: self.name.defined };
            self.steps.push(step(Step::Write(bytes)));
            if protocol != ClientProtocol::Http2 {
                let reads = self.expect.0.len() * self.times;
                self.steps.extend((0..reads).map(|_| step(Step::ReadResponse(RequestKind::DEFAULT))));
            }
        }
        let is_read =
            |step: &&FileStep| matches!(step.value, Step::ReadResponse(_) | Step::ReadResponseSlowly { .. });
        let reads = self.steps.iter().filter(is_read).count();
        let expected = self.expect.0.len() * self.times;
        if protocol != ClientProtocol::Http2 && reads != expected {
            let message = format!("{reads} responses are read, but {expected} are expected");
            return Err(error_at(
                &self.name.referenced,
                message,
                "expect one response for each read_response",
            ));
        }
        Ok(self)
    }

    /// The case for a gateway.
    fn case(&self, profile: &GatewayProfile) -> ClientFault {
        let scope = Scope { profile: Some(profile), name: &self.name.value, stream: first_stream() };
        let scale = |time: std::time::Duration| time.saturating_mul(profile.pause_tenths) / 10;
        let step = |step: &FileStep| step.value.map(|bytes| bytes.bytes(scope).into(), scale);
        let steps: Vec<Step> = self.steps.iter().map(step).collect();
        let expected = self.expect.0.repeat(self.times);
        let is_http2 = self.protocol == ClientProtocol::Http2;
        let connection = self.connection.unwrap_or(match expected.last() {
            Some(ExpectedResponse::Rejected(_)) if !is_http2 => ConnectionOutcome::AnnouncedClose,
            _ => ConnectionOutcome::KeptOpen,
        });
        let routed = self.routed.as_ref().map(|routed| RoutedRequest {
            method: scope.substitute(&routed.method),
            path: scope.substitute(&routed.path),
            without_host: routed.without_host,
        });
        ClientFault {
            name: self.name.value.clone().leak(),
            description: self.shows.clone().leak(),
            protocol: self.protocol,
            steps,
            first_stream: self.stream,
            connection,
            upstream_saw: self.upstream.unwrap_or_else(|| usual_upstream_saw(&expected)),
            counted: self.counted(&expected, connection),
            routed_request: routed,
            small_rcvbuf: self.small_receive_buffer,
            settings: self.preface.then(|| self.settings.clone()),
            background_stream: self
                .background
                .unwrap_or(is_http2 && connection == ConnectionOutcome::KeptOpen),
            nondeterministic: self.nondeterministic,
            expected,
        }
    }

    /// The written reasons, or those of the HTTP/2 library.
    fn counted(
        &self,
        expected: &[ExpectedResponse],
        connection: ConnectionOutcome,
    ) -> Vec<(&'static str, usize)> {
        let mut counted: Vec<(&'static str, usize)> = Vec::new();
        if let Some(written) = &self.counted {
            for text in &written.0 {
                let (name, times) = text.split_once(" x").unwrap_or((text, "1"));
                counted.push((name.to_owned().leak(), times.parse().unwrap_or(1)));
            }
            return counted;
        }
        let count_of = |outcome| expected.iter().filter(|found| **found == outcome).count();
        counted.push((STREAM_ERROR, count_of(ExpectedResponse::Reset)));
        counted.push(("http2_header_list", count_of(ExpectedResponse::Empty431)));
        counted.push((CONNECTION_ERROR, usize::from(connection == ConnectionOutcome::ErrorGoaway)));
        counted.retain(|(_, times)| *times > 0);
        counted
    }
}

fn usual_upstream_saw(expected: &[ExpectedResponse]) -> UpstreamSaw {
    let endless = |outcome: &ExpectedResponse| {
        matches!(outcome, ExpectedResponse::Truncated(_) | ExpectedResponse::Prefix)
    };
    let served = |outcome: &&ExpectedResponse| {
        matches!(outcome, ExpectedResponse::Served | ExpectedResponse::ServedBytes(_))
    };
    if expected.iter().any(endless) {
        return UpstreamSaw::Any;
    }
    UpstreamSaw::Complete(expected.iter().filter(served).count())
}

/// One value, or a list of values.
#[derive(Clone, Debug)]
struct OneOrMany<T>(Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> OneOrMany<T> {
        OneOrMany(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OneOrMany<T>, D::Error> {
        struct OneOrManyVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value or a list")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMany<T>, E> {
                T::deserialize(text.into_deserializer()).map(|one| OneOrMany(vec![one]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMany<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<OneOrMany<T>, A::Error> {
                let mut many = Vec::new();
                while let Some(part) = parts.next_element()? {
                    many.push(part);
                }
                Ok(OneOrMany(many))
            }
        }
        deserializer.deserialize_any(OneOrManyVisitor(std::marker::PhantomData))
    }
}

/// Names are unique on each side of the gateway.
fn check_name<'a>(
    name: &Spanned<String>,
    mut existing: impl Iterator<Item = &'a str>,
) -> Result<(), CaseError> {
    let text = name.value.as_str();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if text.is_empty() || !text.bytes().all(allowed) {
        let help = "use lower-case letters, digits, hyphens and dots";
        return Err(error_at(&name.referenced, format!("{text:?} is not a name"), help));
    }
    if existing.any(|other| other == text) {
        let message = format!("there is a case with the name {text:?} already");
        return Err(error_at(&name.referenced, message, "choose another name"));
    }
    Ok(())
}

fn check_steps(steps: &[FileStep], side: Side) -> Result<(), CaseError> {
    let Some(step) = steps.iter().find(|step| step.value.side().is_some_and(|other| other != side)) else {
        return Ok(());
    };
    let (whose, other) = match side {
        Side::Client => ("an upstream", "a client"),
        Side::Upstream => ("a client", "an upstream"),
    };
    let message = format!("only {whose} can run this step");
    Err(error_at(&step.referenced, message, &format!("use a step of {other}: docs/operations.md lists them")))
}

/// Reads the name of a cause.
pub(super) fn cause<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cause, D::Error> {
    let name = String::deserialize(deserializer)?;
    Cause::from_name(&name).ok_or_else(|| D::Error::custom(format!("{name:?} is not a cause")))
}

fn optional_cause<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cause>, D::Error> {
    cause(deserializer).map(Some)
}

fn optional_request_sent<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<RequestSent>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let all = [RequestSent::None, RequestSent::Partial, RequestSent::Full];
    let found = all.into_iter().find(|sent| sent.name() == name);
    found.map(Some).ok_or_else(|| D::Error::custom(format!("{name:?} is not none, partial or full")))
}

fn server_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ServerKind, D::Error> {
    let name = String::deserialize(deserializer)?;
    let found = ServerKind::ALL.iter().copied().find(|kind| kind.upstream_name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = ServerKind::ALL.iter().map(|kind| kind.upstream_name()).collect();
        D::Error::custom(format!("{name:?} is not a server, expected one of {}", names.join(", ")))
    })
}

fn error_at(location: &Location, message: String, help: &str) -> CaseError {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    CaseError {
        line: number(location.line()),
        column: number(location.column()),
        message,
        help: help.to_owned(),
    }
}

/// Splits the message of the parser into what is wrong and what would be right.
fn to_case_error(error: &serde_saphyr::Error) -> CaseError {
    let text = error.without_snippet().to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let (message, help) = match text.split_once(", expected ") {
        Some((message, expected)) => (message.to_owned(), format!("expected {expected}")),
        None if text.ends_with("is not a cause") => {
            (text.to_owned(), "docs/codes.md lists the causes".to_owned())
        }
        None => (text.to_owned(), "see the example in docs/operations.md".to_owned()),
    };
    error_at(&error.location().unwrap_or(Location::UNKNOWN), message, &help)
}
