//! The explanation as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Question;
use super::made::{Answer, Explanation};
use crate::contract::{PolicyRule, Trigger};

/// For a terminal: the situation, the bytes, and what is counted and logged.
pub(super) fn text(question: &Question<'_>, made: &Explanation) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}, {} {}", situation(question), question.method, place(question));
    let _ = writeln!(out, "decided by: {}\n", made.rule);
    match &made.answer {
        Answer::Made(bytes) => {
            out.push_str(&String::from_utf8_lossy(bytes).replace("\r\n", "\n"));
            out.push_str("\n\n");
        }
        Answer::Passed => out.push_str("The upstream's own response.\n\n"),
        Answer::Cut => out.push_str("The response that had begun, cut short.\n\n"),
    }
    out.push_str("counted:\n");
    for series in &made.metrics {
        let _ = writeln!(out, "  {series}");
    }
    out.push_str("logged:\n ");
    for name in LOG_ORDER {
        if let Some(value) = made.log.get(*name) {
            match value {
                Value::String(text) if text.contains(' ') => write!(out, " {name}=\"{text}\""),
                Value::String(text) => write!(out, " {name}={text}"),
                other => write!(out, " {name}={other}"),
            }
            .unwrap_or_default();
        }
    }
    out.push_str("\nnotes:\n");
    for note in notes(question, made) {
        let _ = writeln!(out, "  - {note}");
    }
    out
}

/// For programs: one object.
pub(super) fn json(question: &Question<'_>, made: &Explanation) -> String {
    let upstream_status = match question.case {
        Trigger::UpstreamStatus(status) => Some(status),
        Trigger::Fault(_) => None,
    };
    let value = json!({
        "cause": question.case.name(),
        "upstream_status": upstream_status,
        "route": question.route.map(|(_, route)| route.name.as_str()),
        "upstream": question.upstream,
        "method": question.method.as_str(),
        "rule": { "kind": kind(made.ruling.rule()), "where": made.rule },
        "answer": answer(&made.answer),
        "counted": made.metrics,
        "logged": made.log,
        "notes": notes(question, made),
    });
    format!("{value:#}\n")
}

fn notes<'a>(question: &'a Question<'_>, made: &'a Explanation) -> Vec<&'a str> {
    question.notes.iter().map(String::as_str).chain(made.notes.iter().copied()).collect()
}

fn situation(question: &Question<'_>) -> String {
    match question.case {
        Trigger::Fault(cause) => cause.name().to_owned(),
        Trigger::UpstreamStatus(status) => format!("{} {status}", question.case.name()),
    }
}

fn place(question: &Question<'_>) -> String {
    match (question.route, question.upstream) {
        (Some((_, route)), Some(upstream)) => format!("on route {} to upstream {upstream}", route.name),
        (Some((_, route)), None) => format!("on route {}", route.name),
        (None, _) => "on no route".to_owned(),
    }
}

const fn kind(rule: PolicyRule) -> &'static str {
    match rule {
        PolicyRule::Documented => "documented",
        PolicyRule::Default => "default",
        PolicyRule::RouteOverride(_) => "route_override",
        PolicyRule::GlobalOverride(_) => "global_override",
    }
}

/// The answer taken apart, in its order; `null` where we make none.
fn answer(answer: &Answer) -> Value {
    let Answer::Made(bytes) = answer else { return Value::Null };
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.split("\r\n");
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
    "bytes",
    "request_sent",
    "rule",
    "outcome",
];
