//! The explanation itself, made by the functions that answer, count and log real requests.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use serde_json::{Map, Value};
use tracing::Level;

use super::Question;
use crate::config::{Config, ErrorMode};
use crate::contract::{Decision, Evidence, ExtractedError, PolicyRule, Trigger};
use crate::exchange::{closes_connection, preview_response_headers, render_h1};
use crate::observe::line::LineFormat;
use crate::observe::{
    AccessLog, AccessRecord, CodeLabels, LoggedRequests, Metrics, Outcome, ResponseOrigin, log,
};
use crate::snapshot::grounds::{ErrorContext, RequestState};

/// Stands for the id of a request; each has one of its own.
pub(super) const REQUEST_ID: &str = "00000000-0000-7000-8000-000000000000";

/// Stands for the moment of the answer: Sun, 06 Nov 1994 08:49:37 GMT, the date that RFC 9110 writes in its examples.
pub(super) const SOME_DAY: Duration = Duration::from_secs(784_111_777);

/// What happens, and who decided it.
#[derive(Debug)]
pub(super) struct Explanation {
    pub(super) ruling: Decision,
    /// The rule in the words of the file.
    pub(super) rule: String,
    pub(super) answer: Answer,
    /// Series that are counted, as `/metrics` writes them.
    pub(super) metrics: Vec<String>,
    /// Fields of the log line that do not differ from request to request.
    pub(super) log: Map<String, Value>,
    /// What holds only sometimes.
    pub(super) notes: Vec<&'static str>,
}

/// What the client gets.
#[derive(Debug)]
pub(super) enum Answer {
    /// These bytes.
    Made(Vec<u8>),
    /// The upstream's own response.
    Passed,
    /// The response that had begun, visibly cut.
    Cut,
}

impl Explanation {
    pub(super) fn of(config: &Config, question: &Question<'_>) -> Explanation {
        let route = question.route.map(|(_, route)| route);
        let rules = route.map_or(&config.errors, |route| &route.errors);
        let grounds = ErrorContext {
            contract: &config.contract,
            overrides: &config.overrides,
            error_config: rules,
            upstream: question.upstream,
            method: question.method,
            grpc: false,
        };
        let ruling = grounds.decide(question.case);
        let happened = happened(question, rules.mode, &ruling);
        let (answer, bytes) = answer(question, &grounds, &ruling, happened);
        Explanation {
            rule: rule_in_words(question, &ruling),
            metrics: counted(config, question, &ruling, happened),
            log: logged(question, &ruling, happened, bytes),
            notes: notes(question, happened, &ruling),
            answer,
            ruling,
        }
    }
}

/// How the request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happened {
    Replied,
    Replaced,
    /// In mode `observe` (true) or `pass`.
    Passed {
        observed: bool,
    },
    Cut,
}

fn happened(question: &Question<'_>, mode: ErrorMode, ruling: &Decision) -> Happened {
    match (ruling.trigger(), mode) {
        (Trigger::Fault(_), _) if question.usual.after_the_head() => Happened::Cut,
        (Trigger::Fault(_), _) => Happened::Replied,
        (Trigger::UpstreamStatus(_), ErrorMode::Enforce) => Happened::Replaced,
        (Trigger::UpstreamStatus(_), ErrorMode::Observe) => Happened::Passed { observed: true },
        (Trigger::UpstreamStatus(_), ErrorMode::Pass) => Happened::Passed { observed: false },
    }
}

/// The answer, and how long its body is.
fn answer(
    question: &Question<'_>,
    grounds: &ErrorContext<'_>,
    ruling: &Decision,
    happened: Happened,
) -> (Answer, u64) {
    let id = HeaderValue::from_static(REQUEST_ID);
    let limited = &question.limited;
    let known =
        RequestState { request_id: &id, request_sent: question.sent, retry_after: limited.retry_after };
    let now = SystemTime::UNIX_EPOCH + SOME_DAY;
    let origin = question.origin.map(str::as_bytes);
    let fields =
        preview_response_headers(question.sharing, origin, (question.limit_headers, &limited.told), now);
    let reply = match happened {
        Happened::Replied => grounds.local_reply(ruling, &known, fields),
        Happened::Replaced => grounds.replacement_reply(ruling, &ExtractedError::default(), &id, fields),
        Happened::Passed { .. } => return (Answer::Passed, 0),
        Happened::Cut => return (Answer::Cut, 0),
    };
    let closes = ruling.cause().is_some_and(|cause| closes_connection(cause, question.usual.phase));
    let bytes = render_h1(&reply, question.is_head, closes, now);
    (Answer::Made(bytes.to_vec()), reply.body().len() as u64)
}

fn rule_in_words(question: &Question<'_>, ruling: &Decision) -> String {
    match (ruling.rule(), question.route) {
        (PolicyRule::Documented, _) => "the contract documents this status".to_owned(),
        (PolicyRule::Default, _) => "the contract's default table".to_owned(),
        (PolicyRule::GlobalOverride(index), _) => format!("errors.overrides[{index}]"),
        (PolicyRule::RouteOverride(index), Some((number, _))) => {
            format!("routes[{number}].errors.overrides[{index}]")
        }
        (PolicyRule::RouteOverride(index), None) => format!("overrides[{index}] of the route"),
    }
}

/// The status on the wire, where we know it.
fn status(ruling: &Decision, happened: Happened) -> Option<u16> {
    match (happened, ruling.trigger()) {
        (Happened::Replied | Happened::Replaced, _) => Some(ruling.code().status()),
        (Happened::Passed { .. }, Trigger::UpstreamStatus(status)) => Some(status),
        (Happened::Passed { .. }, Trigger::Fault(_)) | (Happened::Cut, _) => None,
    }
}

fn upstream_status(case: Trigger) -> Option<u16> {
    match case {
        Trigger::UpstreamStatus(status) => Some(status),
        Trigger::Fault(_) => None,
    }
}

/// Counts into a registry of its own and reads what was counted.
fn counted(config: &Config, question: &Question<'_>, ruling: &Decision, happened: Happened) -> Vec<String> {
    let metrics = Metrics::new();
    let promised = CodeLabels::for_contract(&config.contract);
    let route = metrics.route(
        &promised,
        question.route.map_or("none", |(_, route)| route.name.as_str()),
        question.upstream,
    );
    if let Some(status) = status(ruling, happened) {
        let origin = match happened {
            Happened::Replied | Happened::Cut => ResponseOrigin::Proxy,
            Happened::Replaced => ResponseOrigin::Replaced,
            Happened::Passed { .. } => ResponseOrigin::Upstream,
        };
        route.response(status, origin);
        route.error(status, question.case, upstream_status(question.case));
        if happened == (Happened::Passed { observed: true }) {
            route.would_replace(status, ruling.code().status());
        }
    }
    if let (Happened::Cut, Some(cause)) = (happened, ruling.cause()) {
        metrics.aborted(cause);
    }
    let page = String::from_utf8(metrics.render()).unwrap_or_default();
    let told = ["responses_total", "errors_total", "aborted_total", "would_replace_total"];
    page.lines()
        .filter_map(|line| line.strip_suffix(" 1"))
        .filter(|series| {
            let name = series.split('{').next().unwrap_or_default();
            name.strip_prefix(PREFIX).is_some_and(|name| told.contains(&name))
        })
        .map(str::to_owned)
        .collect()
}

const PREFIX: &str = "statusquo_";

/// Writes the line into memory and reads it back.
fn logged(question: &Question<'_>, ruling: &Decision, happened: Happened, bytes: u64) -> Map<String, Value> {
    let status = status(ruling, happened);
    let outcome = match happened {
        Happened::Replied => ruling.cause().map_or(Outcome::Replaced, |cause| {
            // What is answered without an upstream has a cause.
            Outcome::for_reply(ruling.code().status(), cause)
        }),
        Happened::Replaced => Outcome::Replaced,
        Happened::Passed { .. } => Outcome::Forwarded,
        Happened::Cut => Outcome::Aborted,
    };
    let none = Evidence::none();
    let record = AccessRecord {
        request_id: "",
        route: question.route.map_or("", |(_, route)| route.name.as_str()),
        method: if question.usual.has_request { question.method.as_str() } else { "" },
        path: b"",
        client_ip: None,
        upstream: question.upstream.unwrap_or_default(),
        server: "",
        cause: ruling.cause(),
        phase: ruling.cause().map(|_| question.usual.phase),
        code: status,
        upstream_status: upstream_status(question.case),
        bytes,
        attempts: 0,
        elapsed: Duration::ZERO,
        connect: None,
        response_headers: None,
        request_sent: question.sent,
        evidence: &none,
        rule: question.limited.rule.unwrap_or_default(),
        outcome,
    };
    let lines = Lines::default();
    let writer = lines.clone();
    tracing::subscriber::with_default(
        log::subscriber(LineFormat::Json, Level::INFO, move || writer.clone()).0,
        || AccessLog::new(LoggedRequests::All, Level::INFO).emit(&record),
    );
    let mut fields: Map<String, Value> = serde_json::from_slice(&lines.bytes()).unwrap_or_default();
    // These belong to one request.
    for name in ["time", "path", "attempts", "elapsed_ms"] {
        fields.remove(name);
    }
    if matches!(happened, Happened::Passed { .. } | Happened::Cut) {
        fields.remove("bytes");
    }
    fields
}

/// Lines of the log, in memory.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn notes(question: &Question<'_>, happened: Happened, ruling: &Decision) -> Vec<&'static str> {
    let mut notes = Vec::new();
    match happened {
        Happened::Replied => {}
        Happened::Replaced => {
            if ruling.allows_upstream_body() {
                notes.push("A body that keeps the contract passes as it is: this is the answer to any other.");
            }
            notes.push(
                "A plain message in the upstream's JSON may take the place of this one, and some of its fields stay \
                 (errors.upstream_messages, errors.keep_headers).",
            );
        }
        Happened::Passed { observed: true } => {
            notes.push("errors.mode is observe: the upstream's response passes, and what enforce would do is counted.");
        }
        Happened::Passed { observed: false } => {
            notes.push("errors.mode is pass: the upstream's response passes as it comes.");
        }
        Happened::Cut => notes.push(
            "It is raised when the response has begun: the message is visibly cut, and nothing can be answered.",
        ),
    }
    if matches!(happened, Happened::Replied | Happened::Replaced) {
        notes.push("X-Request-Id and Date are placeholders.");
        if question.limited.rule.is_some() {
            notes.push("The first rule of the route refuses, and the client comes again at once.");
        } else if !question.limited.told.is_empty() {
            notes.push("X-RateLimit-* are those of a client's first request, counted from that Date.");
        }
        if question.usual.has_request {
            notes.push("With a large unread request body, Connection: close comes on top.");
        }
    }
    notes
}
