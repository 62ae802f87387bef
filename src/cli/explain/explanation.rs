//! Builds the explanation with the functions that respond to, count and log real requests.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use serde_json::{Map, Value};
use tracing::Level;

use super::ExplainInput;
use crate::config::{Config, ErrorMode};
use crate::contract::{
    Cause, Conformance, Decision, Evidence, ExtractedError, PolicyRule, Trigger, preferences_for_upstream,
};
use crate::http::value_template::Placeholder;
use crate::proxy::{
    BodyChange, CheckedResponse, PreviewedHeaders, edit_reply, render_h1, usually_closes_connection,
};
use crate::snapshot::error_context::{ErrorContext, RequestState};
use crate::telemetry::definitions::NONE;
use crate::telemetry::formatter::LineFormat;
use crate::telemetry::{
    AccessLog, AccessRecord, CodeLabels, LoggedRequests, Metrics, RequestOutcome, ResponseOrigin, log,
};

/// Placeholder for the request id.
pub(super) const REQUEST_ID: &str = "00000000-0000-7000-8000-000000000000";

/// Placeholder for the time of the response: Sun, 06 Nov 1994 08:49:37 GMT, the example date of RFC 9110.
pub(super) const PLACEHOLDER_TIME: Duration = Duration::from_secs(784_111_777);

/// The response, and the rule that decided it.
#[derive(Debug)]
pub(super) struct Explanation {
    pub(super) decision: Decision,
    /// The rule as a path in the configuration file.
    pub(super) rule: String,
    pub(super) response: ExplainedResponse,
    /// The series that are incremented, as in `/metrics`.
    pub(super) metrics: Vec<String>,
    /// The fields of the log line that are the same for every request.
    pub(super) log: Map<String, Value>,
    /// Whether the upstream's body conforms to the contract; `None` if none is given.
    pub(super) conformance: Option<Conformance>,
    /// Conditions that change the response.
    pub(super) notes: Vec<&'static str>,
}

/// What the client receives.
#[derive(Debug)]
pub(super) enum ExplainedResponse {
    /// These bytes: a local reply, or an error of the upstream that conforms to the contract.
    Bytes(Vec<u8>),
    /// The response of the upstream.
    Forwarded,
    /// A truncated response.
    Truncated,
}

impl Explanation {
    pub(super) fn of(config: &Config, input: &ExplainInput<'_>) -> Explanation {
        let rules = input.errors;
        let error_context = ErrorContext {
            contract: &rules.contract,
            overrides: &config.overrides,
            error_config: rules,
            upstream: input.upstream,
            method: input.method,
            grpc: None,
            format: input.format,
        };
        let decision = error_context.decide(input.trigger);
        let id = HeaderValue::from_static(REQUEST_ID);
        let given = input.upstream_body.as_ref();
        let checked = given.map(|given| given.response.check(error_context, &decision, &id, now()));
        let end = request_end(input, rules.mode, &decision, checked.as_ref());
        let sent = Sent { context: &error_context, decision: &decision, checked: checked.as_ref() };
        let (response, bytes) = client_response(input, sent, end);
        Explanation {
            rule: rule_in_words(input, &decision),
            metrics: metric_series(input, sent, end),
            log: log_fields(input, &decision, end, bytes),
            notes: notes(input, end, &decision),
            conformance: checked.map(|checked| checked.conformance()),
            response,
            decision,
        }
    }
}

/// How the request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExplainedEnd {
    LocalReply,
    Replaced,
    /// The upstream's error conforms to the contract.
    Conforming(BodyChange),
    /// In mode `observe` or `pass`. `would_replace`: it is counted that `enforce` would replace the response.
    Forwarded {
        would_replace: bool,
    },
    Truncated,
}

/// What the response is made of.
#[derive(Clone, Copy)]
struct Sent<'a> {
    context: &'a ErrorContext<'a>,
    decision: &'a Decision,
    /// The upstream's response, if its body is given.
    checked: Option<&'a CheckedResponse<'a>>,
}

/// The placeholder for the time.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + PLACEHOLDER_TIME
}

fn request_end(
    input: &ExplainInput<'_>,
    mode: ErrorMode,
    decision: &Decision,
    checked: Option<&CheckedResponse<'_>>,
) -> ExplainedEnd {
    let conforming = checked.and_then(CheckedResponse::forwarded);
    match (decision.trigger(), mode) {
        (Trigger::Fault(_), _) if input.defaults.after_headers_sent() => ExplainedEnd::Truncated,
        (Trigger::Fault(_), _) => ExplainedEnd::LocalReply,
        (Trigger::UpstreamStatus(_), ErrorMode::Enforce) => {
            conforming.map_or(ExplainedEnd::Replaced, ExplainedEnd::Conforming)
        }
        (Trigger::UpstreamStatus(_), ErrorMode::Observe) => {
            ExplainedEnd::Forwarded { would_replace: conforming.is_none() }
        }
        (Trigger::UpstreamStatus(_), ErrorMode::Pass) => ExplainedEnd::Forwarded { would_replace: false },
    }
}

/// The response, and the length of its body.
fn client_response(input: &ExplainInput<'_>, sent: Sent<'_>, end: ExplainedEnd) -> (ExplainedResponse, u64) {
    let Sent { context, decision, checked } = sent;
    let id = HeaderValue::from_static(REQUEST_ID);
    let limited = &input.rate_limits;
    let now = now();
    let maintenance = input.route.and_then(|(_, route)| route.maintenance.as_ref());
    let maintenance = maintenance.filter(|_| input.trigger == Trigger::Fault(Cause::Maintenance));
    let facts = RequestState {
        request_id: &id,
        request_sent: input.request_sent,
        retry_after: limited.retry_after.or_else(|| maintenance?.retry_after),
        now,
        message: maintenance.and_then(|maintenance| maintenance.message.as_deref()),
    };
    let origin = input.origin.map(str::as_bytes);
    let results = &limited.rule_results;
    let mut headers = PreviewedHeaders::new(input.cors_policy, origin, input.limit_headers, results, now);
    if let Some(methods) = &input.allow {
        headers.set_allow(methods.clone());
    }
    let edited_by = input.edited_by.filter(|route| !route.response_edits.is_empty());
    let edits = edited_by.map(|route| {
        let shown =
            |placeholder: Placeholder| format!("{{{}}}", placeholder.name(&route.pattern)).into_bytes();
        route.response_edits.render(|placeholder| Some(Cow::Owned(shown(placeholder))))
    });
    let mut reply = match (end, checked) {
        (ExplainedEnd::LocalReply, _) => context.local_reply(decision, &facts, headers.for_local_reply()),
        (ExplainedEnd::Replaced, checked) => {
            let nothing = ExtractedError::default();
            let extracted = checked.map_or(&nothing, CheckedResponse::extracted);
            context.replacement_reply(decision, extracted, (&id, now), headers.for_local_reply())
        }
        (ExplainedEnd::Conforming(_), Some(checked)) => {
            if let Some(edits) = edits {
                headers.set_edits(edits);
            }
            let (bytes, body_length) = checked.render_h1(context, &headers, &id, now);
            return (ExplainedResponse::Bytes(bytes.to_vec()), body_length);
        }
        (ExplainedEnd::Conforming(_), None) | (ExplainedEnd::Forwarded { .. }, _) => {
            return (ExplainedResponse::Forwarded, 0);
        }
        (ExplainedEnd::Truncated, _) => return (ExplainedResponse::Truncated, 0),
    };
    if let Some(edits) = &edits {
        edit_reply(&mut reply, edits);
    }
    let closes = decision.cause().is_some_and(|cause| usually_closes_connection(cause, input.defaults.phase));
    let bytes = render_h1(&reply, input.is_head, closes, now);
    // The reply to a request whose method is not known has a body, which a HEAD request does not get.
    let body_length = if input.is_head { 0 } else { reply.body().len() as u64 };
    (ExplainedResponse::Bytes(bytes.to_vec()), body_length)
}

fn rule_in_words(input: &ExplainInput<'_>, decision: &Decision) -> String {
    match (decision.rule(), input.route) {
        (PolicyRule::Documented, _) => "the contract documents this status".to_owned(),
        (PolicyRule::Default, _) => default_choice(input, decision.code().status()),
        (PolicyRule::RouteResponse, Some((number, _))) => format!("routes[{number}].respond.code"),
        (PolicyRule::RouteResponse, None) => "respond.code of the route".to_owned(),
        (PolicyRule::GlobalOverride(index), _) => format!("errors.overrides[{index}]"),
        (PolicyRule::RouteOverride(index), Some((number, _))) => {
            format!("routes[{number}].errors.overrides[{index}]")
        }
        (PolicyRule::RouteOverride(index), None) => format!("overrides[{index}] of the route"),
    }
}

/// Why the contract sends this status: its own row, or the first documented code of the preference list.
fn default_choice(input: &ExplainInput<'_>, status: u16) -> String {
    let contract = &input.errors.contract;
    let name = contract.name();
    let preferences = match input.trigger {
        Trigger::Fault(cause) => cause.preferences(),
        Trigger::UpstreamStatus(status) => preferences_for_upstream(status),
    };
    if preferences.iter().find(|preferred| contract.code(**preferred).is_some()) != Some(&status) {
        return format!("the contract {name} declares {status} for it");
    }
    let list: Vec<String> = preferences.iter().map(u16::to_string).collect();
    format!("of the preferred codes {}, the contract {name} documents {status} first", list.join(", "))
}

/// The status code that is sent, if it is known.
fn status(decision: &Decision, end: ExplainedEnd) -> Option<u16> {
    match (end, decision.trigger()) {
        (ExplainedEnd::LocalReply | ExplainedEnd::Replaced | ExplainedEnd::Conforming(_), _) => {
            Some(decision.code().status())
        }
        (ExplainedEnd::Forwarded { .. }, Trigger::UpstreamStatus(status)) => Some(status),
        (ExplainedEnd::Forwarded { .. }, Trigger::Fault(_)) | (ExplainedEnd::Truncated, _) => None,
    }
}

fn upstream_status(trigger: Trigger) -> Option<u16> {
    match trigger {
        Trigger::UpstreamStatus(status) => Some(status),
        Trigger::Fault(_) => None,
    }
}

/// Counts into a separate registry and reads the result.
fn metric_series(input: &ExplainInput<'_>, sent: Sent<'_>, end: ExplainedEnd) -> Vec<String> {
    let Sent { decision, checked, .. } = sent;
    let metrics = Metrics::new();
    let code_labels = CodeLabels::for_contract(&input.errors.contract);
    let route = metrics.route(
        &code_labels,
        input.route.map_or("none", |(_, route)| route.name.as_str()),
        input.upstream,
    );
    if let Some(status) = status(decision, end) {
        let origin = match end {
            ExplainedEnd::LocalReply | ExplainedEnd::Truncated => ResponseOrigin::Proxy,
            ExplainedEnd::Replaced => ResponseOrigin::Replaced,
            ExplainedEnd::Conforming(BodyChange::MembersAdded | BodyChange::Problem) => {
                ResponseOrigin::Completed
            }
            ExplainedEnd::Conforming(
                BodyChange::Unchanged | BodyChange::Decoded | BodyChange::UnknownLength,
            )
            | ExplainedEnd::Forwarded { .. } => ResponseOrigin::Upstream,
        };
        route.response(status, origin);
        route.error(status, input.trigger, upstream_status(input.trigger));
        if end == (ExplainedEnd::Forwarded { would_replace: true }) {
            route.would_replace(status, decision.code().status());
        }
    }
    if let (Some(checked), Some(upstream)) = (checked, input.upstream)
        && input.errors.mode != ErrorMode::Pass
    {
        metrics.upstream(upstream, Vec::new()).conformance(checked.conformance());
    }
    if let (ExplainedEnd::Truncated, Some(cause)) = (end, decision.cause()) {
        metrics.aborted(cause);
    }
    let page = String::from_utf8(metrics.render()).unwrap_or_default();
    let families =
        ["responses_total", "errors_total", "aborted_total", "would_replace_total", "conformance_total"];
    page.lines()
        .filter_map(|line| line.strip_suffix(" 1"))
        .filter(|series| {
            let name = series.split('{').next().unwrap_or_default();
            name.strip_prefix(PREFIX).is_some_and(|name| families.contains(&name))
        })
        .map(str::to_owned)
        .collect()
}

const PREFIX: &str = "statusquo_";

/// Writes the log line to memory and parses it.
fn log_fields(
    input: &ExplainInput<'_>,
    decision: &Decision,
    end: ExplainedEnd,
    bytes: u64,
) -> Map<String, Value> {
    let status = status(decision, end);
    let outcome = match end {
        ExplainedEnd::LocalReply => decision.cause().map_or(RequestOutcome::Replaced, |cause| {
            // Every local reply has a cause.
            RequestOutcome::for_reply(decision.code().status(), cause)
        }),
        ExplainedEnd::Replaced => RequestOutcome::Replaced,
        ExplainedEnd::Conforming(_) | ExplainedEnd::Forwarded { .. } => RequestOutcome::Forwarded,
        ExplainedEnd::Truncated => RequestOutcome::Aborted,
    };
    let no_evidence = Evidence::none();
    let record = AccessRecord {
        request_id: "",
        trace_id: "",
        route: input.route.map_or("", |(_, route)| route.name.as_str()),
        method: if input.defaults.has_request { input.method.as_str() } else { "" },
        host: b"",
        path: b"",
        protocol: "",
        tls: None,
        user_agent: b"",
        client_ip: None,
        upstream: input.upstream.unwrap_or(if input.route.is_some() { NONE } else { "" }),
        server: "",
        cause: decision.cause(),
        phase: decision.cause().map(|_| input.defaults.phase),
        code: status,
        upstream_status: upstream_status(input.trigger),
        bytes_in: 0,
        bytes_out: bytes,
        attempts: None,
        elapsed: Duration::ZERO,
        connect: None,
        response_headers: None,
        queue: None,
        request_sent: input.request_sent,
        evidence: &no_evidence,
        rule: input.rate_limits.denied_by.unwrap_or_default(),
        outcome,
    };
    let buffer = LogBuffer::default();
    let writer = buffer.clone();
    tracing::subscriber::with_default(
        log::subscriber(LineFormat::Json, Level::INFO, move || writer.clone()).0,
        || AccessLog::new(LoggedRequests::All, Level::INFO, 0).emit(&record),
    );
    let mut headers: Map<String, Value> = serde_json::from_slice(&buffer.bytes()).unwrap_or_default();
    // These differ between requests.
    for name in ["time", "path", "bytes_in", "elapsed_ms"] {
        headers.remove(name);
    }
    if matches!(end, ExplainedEnd::Forwarded { .. } | ExplainedEnd::Truncated) {
        headers.remove("bytes_out");
    }
    headers
}

/// Log lines in memory.
#[derive(Clone, Default)]
struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl LogBuffer {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn notes(input: &ExplainInput<'_>, end: ExplainedEnd, decision: &Decision) -> Vec<&'static str> {
    let mut notes = Vec::new();
    match end {
        ExplainedEnd::LocalReply => {}
        ExplainedEnd::Conforming(change) => {
            notes.push(conforming_note(change));
            notes.push("The other header fields of the upstream are forwarded, without Server, X-Powered-By and X-Debug-*.");
        }
        ExplainedEnd::Replaced => replacement_notes(&mut notes, input, decision),
        ExplainedEnd::Forwarded { would_replace: true } => {
            notes.push("errors.mode is observe: the upstream's response is forwarded, and what enforce would do is counted.");
        }
        ExplainedEnd::Forwarded { would_replace: false } if input.errors.mode == ErrorMode::Observe => {
            notes.push("errors.mode is observe: the upstream's response is forwarded. It conforms, so enforce would forward it too.");
        }
        ExplainedEnd::Forwarded { would_replace: false } => {
            notes.push("errors.mode is pass: the upstream's response is forwarded unchanged.");
        }
        ExplainedEnd::Truncated => notes.push(
            "It is raised after the response has started: the response is truncated, and no error response can be sent.",
        ),
    }
    if !matches!(end, ExplainedEnd::Forwarded { .. } | ExplainedEnd::Truncated) {
        notes.push("X-Request-Id and Date are placeholders.");
        if input.edited_by.is_some_and(|route| route.response_edits.depends_on_request()) {
            notes.push("Names in braces in response_headers stand for values of the request.");
        }
        if input.rate_limits.denied_by.is_some() {
            notes.push("The first rule of the route denies the request, and the client retries immediately.");
        } else if !input.rate_limits.rule_results.is_empty() {
            notes.push("X-RateLimit-* are the values for a client's first request at that Date.");
        }
        if input.defaults.has_request {
            notes.push("With a large unread request body, Connection: close is added.");
        }
    }
    notes
}

const fn conforming_note(change: BodyChange) -> &'static str {
    match change {
        BodyChange::Unchanged | BodyChange::Decoded => {
            "The upstream's body conforms to the contract: the client receives its bytes."
        }
        BodyChange::MembersAdded => {
            "The upstream's body conforms to the contract; the gateway adds the members that only it knows."
        }
        BodyChange::Problem => {
            "The upstream's body conforms to the contract; the client prefers a problem document, with the same message and type."
        }
        BodyChange::UnknownLength => {
            "The response to HEAD has no Content-Length: the gateway would change the body of the same response to GET."
        }
    }
}

fn replacement_notes(notes: &mut Vec<&'static str>, input: &ExplainInput<'_>, decision: &Decision) {
    let may_keep_message = match decision.trigger() {
        Trigger::UpstreamStatus(from) => {
            input.errors.upstream_messages.allowed(from, decision.code().status())
        }
        Trigger::Fault(_) => false,
    };
    let is_given = input.upstream_body.is_some();
    if decision.allows_upstream_body() && !(is_given && may_keep_message) {
        notes.push(if may_keep_message {
            "An upstream body that conforms to the contract is forwarded unchanged; this is the response for any other body \
             (--upstream-body FILE shows that of yours)."
        } else {
            "A body of the documented form is replaced too, because of errors.upstream_messages."
        });
    }
    notes.push(if may_keep_message && !is_given {
        "A plain message in the upstream's JSON may replace this one, and some of its header fields are kept \
         (errors.upstream_messages, errors.keep_headers)."
    } else {
        "Some of the upstream's header fields are kept (errors.keep_headers)."
    });
}
