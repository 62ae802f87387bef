//! The table of HTTP/2 client faults as documentation: the third part of `docs/faults.md`.
//!
//! Nothing is decided here: the rows are [`super::client_faults_h2`], the codes of causes the default table's.

use std::fmt::Write as _;

use super::client_fault_docs::{describe_response, describe_upstream_saw};
use super::client_faults::GatewayProfile;
use super::client_faults_h2::{CloseOutcome, H2ClientFault, StreamOutcome, client_faults_h2_by_section};
use super::fault_docs::escape_cell;
use crate::contract::policy::default_status;

/// The part of the page.
pub(super) fn render() -> String {
    let sections = client_faults_h2_by_section(&GatewayProfile::example());
    let count: usize = sections.iter().map(|(_, rows)| rows.len()).sum();
    let mut page = SECTION_HEADER.replace("{count}", &count.to_string());
    for (title, rows) in sections {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n### {title}\n\n{TABLE_HEADER}");
        for row in rows {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {} | {} |",
                row.name,
                escape_cell(row.description),
                expected_outcomes(&row),
                describe_close(row.close_outcome),
                describe_close_reasons(&row),
                describe_upstream_saw(row.upstream_saw)
            );
        }
    }
    page
}

fn expected_outcomes(row: &H2ClientFault) -> String {
    let mut descriptions: Vec<String> =
        row.stream_outcomes.iter().map(|(_, outcome)| describe_outcome(*outcome)).collect();
    descriptions.dedup();
    if descriptions.is_empty() { "nothing".to_owned() } else { descriptions.join(", ") }
}

fn describe_outcome(outcome: StreamOutcome) -> String {
    match outcome {
        StreamOutcome::Response(expected) => describe_response(expected),
        StreamOutcome::Reset => "RST_STREAM".to_owned(),
        StreamOutcome::Empty431 => "an empty 431".to_owned(),
        StreamOutcome::HeadersOnly(cause) => {
            format!("{}, `{}`, its head alone", default_status(cause), cause.name())
        }
        StreamOutcome::NoResponse => "nothing".to_owned(),
    }
}

const fn describe_close(close: CloseOutcome) -> &'static str {
    match close {
        CloseOutcome::KeptOpen => "serves on",
        CloseOutcome::ErrorGoaway => "GOAWAY with an error",
        CloseOutcome::GracefulGoaway => "GOAWAY",
        CloseOutcome::ClientClosed => "left by the client",
    }
}

/// Each silence once, with its number.
fn describe_close_reasons(row: &H2ClientFault) -> String {
    let mut names: Vec<(&str, usize)> = Vec::new();
    for reason in &row.close_reasons {
        match names.iter_mut().find(|(name, _)| name == reason) {
            Some((_, times)) => *times += 1,
            None => names.push((reason, 1)),
        }
    }
    let descriptions = names.iter().map(|(name, times)| match times {
        1 => format!("`{name}`"),
        _ => format!("`{name}` ({times} times)"),
    });
    descriptions.collect::<Vec<_>>().join(", ")
}

const SECTION_HEADER: &str = "
## What HTTP/2 clients do wrong, and what they get

{count} ways, played frame by frame. What is malformed by the rules of HTTP/2 itself is answered by the protocol's library:
its stream is reset, or its connection ended; those are known limits (see below), each counted in
`statusquo_closed_without_response_total` under the name in the fifth column. Where the connection serves on, an upload
that goes on beside it is served, and so is the next request.
";

const TABLE_HEADER: &str = "\
| name | what the client does | it gets | the connection | counted as | the upstream receives |
|---|---|---|---|---|---|
";
