//! Prints the explanation as text or JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::ExplainInput;
use super::explanation::{ExplainedResponse, Explanation};
use crate::contract::{Conformance, PolicyRule, Trigger};

/// As text: the input, the response, and what is counted and logged.
pub(super) fn text(input: &ExplainInput<'_>, explanation: &Explanation) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}, {} {}", describe_trigger(input), input.method, describe_route(input));
    let _ = writeln!(out, "decided by: {}\n", explanation.rule);
    match &explanation.response {
        ExplainedResponse::Bytes(bytes) => {
            out.push_str(&String::from_utf8_lossy(bytes).replace("\r\n", "\n"));
            out.push_str("\n\n");
        }
        ExplainedResponse::Forwarded => out.push_str("The response of the upstream, unchanged.\n\n"),
        ExplainedResponse::Truncated => out.push_str("A truncated response.\n\n"),
    }
    if let Some(conformance) = explanation.conformance {
        let _ = writeln!(out, "upstream's body: {}", conformance.label());
    }
    out.push_str("counted:\n");
    for series in &explanation.metrics {
        let _ = writeln!(out, "  {series}");
    }
    out.push_str("logged:\n ");
    for name in LOG_ORDER {
        if let Some(value) = explanation.log.get(*name) {
            match value {
                Value::String(text) if text.contains(' ') => write!(out, " {name}=\"{text}\""),
                Value::String(text) => write!(out, " {name}={text}"),
                other => write!(out, " {name}={other}"),
            }
            .unwrap_or_default();
        }
    }
    out.push_str("\nnotes:\n");
    for note in notes(input, explanation) {
        let _ = writeln!(out, "  - {note}");
    }
    out
}

/// As one JSON object.
pub(super) fn json(input: &ExplainInput<'_>, explanation: &Explanation) -> String {
    let upstream_status = match input.trigger {
        Trigger::UpstreamStatus(status) => Some(status),
        Trigger::Fault(_) => None,
    };
    let value = json!({
        "cause": input.trigger.name(),
        "upstream_status": upstream_status,
        "route": input.route.map(|(_, route)| route.name.as_str()),
        "upstream": input.upstream,
        "method": input.method.as_str(),
        "rule": { "kind": rule_kind(explanation.decision.rule()), "where": explanation.rule },
        "response": response_json(&explanation.response),
        "conformance": explanation.conformance.map(Conformance::label),
        "metrics": explanation.metrics,
        "log": explanation.log,
        "notes": notes(input, explanation),
    });
    format!("{value:#}\n")
}

fn notes<'a>(input: &'a ExplainInput<'_>, explanation: &'a Explanation) -> Vec<&'a str> {
    input.notes.iter().map(String::as_str).chain(explanation.notes.iter().copied()).collect()
}

fn describe_trigger(input: &ExplainInput<'_>) -> String {
    match input.trigger {
        Trigger::Fault(cause) => cause.name().to_owned(),
        Trigger::UpstreamStatus(status) => format!("{} {status}", input.trigger.name()),
    }
}

fn describe_route(input: &ExplainInput<'_>) -> String {
    match (input.route, input.upstream) {
        (Some((_, route)), Some(upstream)) => format!("on route {} to upstream {upstream}", route.name),
        (Some((_, route)), None) => format!("on route {}", route.name),
        (None, _) => "without a route".to_owned(),
    }
}

const fn rule_kind(rule: PolicyRule) -> &'static str {
    match rule {
        PolicyRule::Documented => "documented",
        PolicyRule::Default => "default",
        PolicyRule::RouteResponse => "route_response",
        PolicyRule::RouteOverride(_) => "route_override",
        PolicyRule::GlobalOverride(_) => "global_override",
    }
}

/// The parsed response; `null` if its bytes are not known.
fn response_json(response: &ExplainedResponse) -> Value {
    let ExplainedResponse::Bytes(bytes) = response else { return Value::Null };
    let text = String::from_utf8_lossy(bytes);
    let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = headers.split("\r\n");
    let mut status = lines.next().unwrap_or_default().splitn(3, ' ').skip(1);
    let fields: Vec<[&str; 2]> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| [name, value]).collect();
    json!({
        "status": status.next().and_then(|digits| digits.parse::<u16>().ok()),
        "reason": status.next(),
        "fields": fields,
        "body": body,
    })
}

const LOG_ORDER: &[&str] = &[
    "level",
    "message",
    "route",
    "method",
    "upstream",
    "cause",
    "phase",
    "code",
    "upstream_status",
    "bytes_out",
    "request_sent",
    "rule",
    "outcome",
];
