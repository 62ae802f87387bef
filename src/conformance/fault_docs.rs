//! The tables of faults as documentation: `docs/faults.md`.
//!
//! It is written by a test: `UPDATE_DOCS=1 cargo test faults_page`. Nothing is decided here; the rows are
//! [`super::upstream_faults`]; those of clients are told by [`super::client_fault_docs`].

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::upstream_faults::{
    ExpectedMessage, FaultCategory, FaultOutcome, ReplyReason, UpstreamFault, upstream_faults,
};
use super::{client_fault_docs, client_fault_docs_h2};

/// What the promise cannot cover, and where each is counted: metric and label.
pub const KNOWN_LIMITS: &[(&str, &str, &str)] = &[
    (
        "The client left, or shut down its sending side, while it waited",
        "closed_without_response_total",
        "client_gone",
    ),
    ("A kept connection saw no further request in time", "closed_without_response_total", "idle_timeout"),
    (
        "A connection was made and closed without a byte, as probes do",
        "closed_without_response_total",
        "no_request",
    ),
    ("A connection that draining closed", "closed_without_response_total", "drain"),
    (
        "HTTP/2 itself broke between the client and the gateway: GOAWAY",
        "closed_without_response_total",
        "http2_connection_error",
    ),
    ("A malformed HTTP/2 stream: RST_STREAM", "closed_without_response_total", "http2_stream_error"),
    (
        "An HTTP/2 header list above 256 KiB: the library's own empty 431",
        "closed_without_response_total",
        "http2_header_list",
    ),
    (
        "A TLS handshake failed: the client reads an alert, where TLS has one",
        "closed_without_response_total",
        "tls_handshake_failed",
    ),
    ("A TLS handshake was not over in time", "closed_without_response_total", "tls_handshake_timeout"),
    (
        "Something other than TLS was spoken on a listener with TLS",
        "closed_without_response_total",
        "plaintext_on_tls",
    ),
    (
        "TLS itself broke behind the handshake, outside of a request or inside its head: the client reads an alert",
        "closed_without_response_total",
        "tls_connection_error",
    ),
    ("The client left while it was being answered", "aborted_total", "client_gone"),
    ("The upstream cut a response that had begun", "aborted_total", "http_response_incomplete"),
    ("The upstream fell silent inside a response that had begun", "aborted_total", "connection_read_timeout"),
    ("The upstream broke the framing of a response that had begun", "aborted_total", "http_protocol_error"),
    ("Nothing moved in a tunnel for `timeouts.tunnel_idle`", "aborted_total", "tunnel_idle"),
];

/// The content of `docs/faults.md`.
pub fn render() -> String {
    let faults = upstream_faults();
    let mut page = PAGE_HEADER.replace("{count}", &faults.len().to_string());
    page.push('\n');
    page.push_str(&summary());
    for category in FaultCategory::ALL {
        let rows: Vec<&UpstreamFault> = faults.iter().filter(|fault| fault.category == category).collect();
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {}\n\n{TABLE_HEADER}", category.title());
        for fault in rows.iter().filter(|fault| !is_status_row(fault)) {
            fault_row(&mut page, fault);
        }
        status_rows(&mut page, &rows);
    }
    page.push_str(&client_fault_docs::render());
    page.push_str(&client_fault_docs_h2::render());
    page.push_str(&client_fault_docs::render_tls());
    page.push_str(LIMITS_HEADER);
    for (outcome, metric, cause) in KNOWN_LIMITS {
        let _ = writeln!(page, "| {outcome} | `statusquo_{metric}{{cause=\"{cause}\"}}` |");
    }
    page.push_str(LIMITS_FOOTER);
    page
}

/// One line for each sort of fault.
fn summary() -> String {
    let faults = upstream_faults();
    let mut table = String::from("| what the upstream does | ways | what clients get |\n|---|---|---|\n");
    for category in FaultCategory::ALL {
        let rows: Vec<&UpstreamFault> = faults.iter().filter(|fault| fault.category == category).collect();
        let _ = writeln!(table, "| {} | {} | {} |", category.title(), rows.len(), outcomes(&rows));
    }
    table
}

/// Which outcomes a sort has, the usual one first.
fn outcomes(rows: &[&UpstreamFault]) -> String {
    let mut codes: BTreeMap<u16, usize> = BTreeMap::new();
    let (mut forwarded, mut forwarded_errors, mut truncated) = (0, 0, 0);
    for fault in rows {
        match fault.outcome {
            FaultOutcome::LocalReply { code, .. } => *codes.entry(code).or_default() += 1,
            FaultOutcome::Forwarded { code } if code >= 400 => forwarded_errors += 1,
            FaultOutcome::Forwarded { .. } => forwarded += 1,
            FaultOutcome::Aborted { .. } => truncated += 1,
        }
    }
    let mut parts = Vec::new();
    if !codes.is_empty() {
        let codes: Vec<String> = codes.keys().map(u16::to_string).collect();
        parts.push(format!("{} with the documented body", codes.join(", ")));
    }
    if truncated > 0 {
        parts.push("the beginning, visibly cut, where it had left".to_owned());
    }
    if forwarded_errors > 0 {
        parts.push("the upstream's own error where it is a documented one".to_owned());
    }
    if forwarded > 0 {
        parts.push("the upstream's response where it is no fault".to_owned());
    }
    parts.join("; ")
}

/// One of the rows for every status from 400 to 599.
fn is_status_row(fault: &UpstreamFault) -> bool {
    fault.category == FaultCategory::Status && fault.name.starts_with("status-")
}

fn status_rows(page: &mut String, rows: &[&UpstreamFault]) {
    let mut by_code: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
    for fault in rows.iter().filter(|fault| is_status_row(fault)) {
        if let FaultOutcome::LocalReply { code, reason: ReplyReason::Status(status) } = fault.outcome {
            by_code.entry(code).or_default().push(status);
        }
    }
    if by_code.is_empty() {
        return;
    }
    page.push_str("\nAnd `status-400` to `status-599`, each with an HTML page:\n\n| the client gets | for |\n|---|---|\n");
    for (code, statuses) in by_code {
        let _ = writeln!(page, "| {code} | {} |", ranges(&statuses));
    }
}

/// `400, 405-407`.
fn ranges(statuses: &[u16]) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for status in statuses {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *status => *last = *status,
            Some(_) | None => ranges.push((*status, *status)),
        }
    }
    let text = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn fault_row(page: &mut String, fault: &UpstreamFault) {
    let _ = writeln!(
        page,
        "| `{}` | {}{} | {} | {} | `{}` |",
        fault.name,
        escape_cell(fault.description),
        describe_request(fault),
        describe_outcome(fault),
        describe_headers(fault),
        fault.min_request_sent.name()
    );
}

fn describe_request(fault: &UpstreamFault) -> String {
    let mut details = Vec::new();
    if fault.request.method != "GET" {
        details.push(fault.request.method.to_owned());
    }
    if fault.request.count > 1 {
        details.push(format!("the answer to request {} of a connection", fault.request.count));
    }
    // That they ask for WebSocket stands in the heading of those rows.
    if !fault.request.header_lines.is_empty() && fault.category != FaultCategory::Upgrade {
        details.push(format!("`{}`", fault.request.header_lines.trim()));
    }
    if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) }
}

fn describe_outcome(fault: &UpstreamFault) -> String {
    let interim = match fault.interim_statuses {
        [] => String::new(),
        [one] => format!("{one}, then "),
        [one, rest @ ..] => format!("{one} ({} times), then ", rest.len() + 1),
    };
    let cause = fault.outcome.cause_name();
    let outcome = match (fault.outcome, fault.expected_message) {
        (FaultOutcome::LocalReply { code, .. }, ExpectedMessage::ContractDefault) => {
            format!("{code}, `{cause}`")
        }
        (FaultOutcome::LocalReply { code, .. }, ExpectedMessage::FromUpstream(message)) => {
            let short: String = message.chars().take(40).collect();
            format!("{code}, `{cause}`, \"{}\"", escape_cell(&short))
        }
        (FaultOutcome::Forwarded { code }, _) => format!("{code} as it is"),
        (FaultOutcome::Aborted { code, .. }, _) => format!("{code}, cut, `{cause}`"),
    };
    format!("{interim}{outcome}")
}

fn describe_headers(fault: &UpstreamFault) -> String {
    let with = fault.kept_headers.iter().map(|(name, value)| format!("`{name}: {}`", escape_cell(value)));
    let without = fault.removed_headers.iter().map(|name| format!("no `{name}`"));
    with.chain(without).collect::<Vec<_>>().join(", ")
}

/// Text in a Markdown table.
pub(super) fn escape_cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

const PAGE_HEADER: &str = "\
<!-- Generated from src/conformance/upstream_faults; write it again with: UPDATE_DOCS=1 cargo test faults_page -->
# What upstreams and clients do wrong, and what clients get

The {count} ways in which the misbehaving upstream of `statusquo demo` breaks, each under `/NAME`. The tests play every one
of them against the executable and compare status, body, fields, connection and counters with this table.

A code with a cause is an answer of the gateway: the documented body with the text of the code, or with the upstream's
message where one is quoted; `upstream_response` means that the upstream's error was replaced. The cause is the label of
`statusquo_errors_total`, or of `statusquo_aborted_total` where a response was cut. The client's connection serves further
requests after everything but a cut. A response that passes \"as it is\" has the upstream's status, its fields but those of
the connection, and its body, without a content coding that the client has not asked for. The last column is the least that `request_sent` says.
";

const TABLE_HEADER: &str = "\
| name | what the upstream does | the client gets | fields | sent |
|---|---|---|---|---|
";

const LIMITS_HEADER: &str = "
## Known limits

Where no documented answer is possible, the end is counted by its cause; any other silence is a defect.

| what happens | counted as |
|---|---|
";

const LIMITS_FOOTER: &str = "
Every other cause that can cut a response that had
begun is a label of `statusquo_aborted_total` too.

On HTTP/2 a response that is cut ends with RST_STREAM and the code CANCEL, behind the bytes that had come: the library has
no other way to end a stream without dropping what is queued for it.

A client that resets its HTTP/2 streams as it makes them, slowly enough for the bounds of the library (a thousand at once:
`h2-rapid-reset`), is not ended for it. Its requests count in rate limits as any others, and what was begun for them ends at
once: no connection is waited for, none is left. One that is reset at once costs the gateway half the processor time of a short
request that is answered; one that an HTTP/1 upstream has already costs twice, because its connection is closed, as it is for
every client that leaves. All are counted as `client_gone`.
";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::contract::Cause;
    use crate::telemetry::CloseReason;

    #[test]
    fn faults_page_matches_the_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let render = render();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, render).unwrap();
        } else {
            assert!(
                committed == render,
                "docs/faults.md is out of date; run: UPDATE_DOCS=1 cargo test faults_page"
            );
        }
    }

    #[test]
    fn close_reasons_are_known_limits_and_every_limit_has_a_counter() {
        let named = |metric: &str| {
            KNOWN_LIMITS.iter().filter(|limit| limit.1 == metric).map(|limit| limit.2).collect::<Vec<_>>()
        };
        let mut reasons: Vec<_> = CloseReason::ALL.iter().map(|reason| reason.name()).collect();
        let mut limits = named("closed_without_response_total");
        reasons.sort_unstable();
        limits.sort_unstable();
        assert_eq!(limits, reasons);
        for cause in named("aborted_total") {
            let known = [CloseReason::ClientGone.name(), "tunnel_idle"].contains(&cause);
            assert!(known || Cause::from_name(cause).is_some(), "{cause}");
        }
    }

    #[test]
    fn adjacent_statuses_become_ranges() {
        assert_eq!(ranges(&[400, 405, 406, 407, 410]), "400, 405-407, 410");
        assert_eq!(ranges(&[]), "");
    }
}
