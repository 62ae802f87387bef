//! Renders the HTTP/2 client faults of `docs/faults.md`.
//!
//! The rows come from [`super::client_faults_h2`]; the status codes are the default codes of their causes.

use std::fmt::Write as _;

use super::client_fault_docs::{builtin_status, describe_response, describe_upstream_saw};
use super::client_faults::GatewayProfile;
use super::client_faults_h2::{CloseOutcome, H2ClientFault, StreamOutcome, client_faults_h2_by_section};
use super::fault_docs::escape_cell;

/// The section on HTTP/2 clients.
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
            format!("{}, `{}`, headers only", builtin_status(cause), cause.name())
        }
        StreamOutcome::NoResponse => "nothing".to_owned(),
    }
}

const fn describe_close(close: CloseOutcome) -> &'static str {
    match close {
        CloseOutcome::KeptOpen => "stays open",
        CloseOutcome::ErrorGoaway => "GOAWAY with an error",
        CloseOutcome::GracefulGoaway => "GOAWAY",
        CloseOutcome::ClientClosed => "closed by the client",
    }
}

/// The distinct close reasons, each with its count.
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
## HTTP/2 client faults

{count} faults, sent frame by frame. The HTTP/2 library handles violations of HTTP/2 itself: it resets the stream or
closes the connection. These are known limits (see below), each counted in `statusquo_closed_without_response_total`
under the cause in the fifth column. If the connection stays open, a concurrent upload on it completes, and the next
request is served.
";

const TABLE_HEADER: &str = "\
| name | the client | it receives | the connection | counted as | the upstream receives |
|---|---|---|---|---|---|
";
