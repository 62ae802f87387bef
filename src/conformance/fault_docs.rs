//! Renders `docs/faults.md` from the fault tables.
//!
//! A test writes the page: `UPDATE_DOCS=1 cargo test faults_page`. The upstream faults come from
//! [`super::upstream_faults`]; [`super::client_fault_docs`] and [`super::client_fault_docs_h2`] render the client
//! faults.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::upstream_faults::{
    ExpectedMessage, FaultCategory, FaultOutcome, ReplyReason, UpstreamFault, upstream_faults,
};
use super::{client_fault_docs, client_fault_docs_h2};

/// Events for which no documented response is possible: description, metric and `cause` label.
pub(crate) const KNOWN_LIMITS: &[(&str, &str, &str)] = &[
    (
        "The client closed the connection, or its sending side, before the response",
        "closed_without_response_total",
        "client_gone",
    ),
    (
        "An idle connection received no further request in time",
        "closed_without_response_total",
        "idle_timeout",
    ),
    (
        "The client connected and closed without sending a byte, as health probes do",
        "closed_without_response_total",
        "no_request",
    ),
    ("Draining closed the connection", "closed_without_response_total", "drain"),
    (
        "An HTTP/2 connection error on the client side: GOAWAY",
        "closed_without_response_total",
        "http2_connection_error",
    ),
    (
        "A malformed HTTP/2 stream, or a request target that the HTTP/2 library refuses (raw quotation marks, angle brackets, or bytes that are not UTF-8): RST_STREAM",
        "closed_without_response_total",
        "http2_stream_error",
    ),
    (
        "An HTTP/2 header list above 256 KiB: the HTTP/2 library sends an empty 431",
        "closed_without_response_total",
        "http2_header_list",
    ),
    (
        "A TLS handshake failed: the client receives an alert where TLS defines one",
        "closed_without_response_total",
        "tls_handshake_failed",
    ),
    ("A TLS handshake timed out", "closed_without_response_total", "tls_handshake_timeout"),
    (
        "A client sent something other than TLS to a TLS listener",
        "closed_without_response_total",
        "plaintext_on_tls",
    ),
    (
        "A listener with `proxy_protocol` received no valid PROXY protocol header, or the peer may not send one",
        "closed_without_response_total",
        "proxy_protocol_error",
    ),
    (
        "A TLS error after the handshake, between requests or inside request headers: the client receives an alert",
        "closed_without_response_total",
        "tls_connection_error",
    ),
    ("The client closed the connection during the response", "aborted_total", "client_gone"),
    (
        "The upstream truncated a response after its headers were sent",
        "aborted_total",
        "http_response_incomplete",
    ),
    ("The upstream stalled after the response headers were sent", "aborted_total", "connection_read_timeout"),
    (
        "The upstream sent invalid framing after the response headers were sent",
        "aborted_total",
        "http_protocol_error",
    ),
    ("A tunnel was idle for `timeouts.tunnel_idle`", "aborted_total", "tunnel_idle"),
];

/// The content of `docs/faults.md`.
pub(crate) fn render() -> String {
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

/// One line per category.
fn summary() -> String {
    let faults = upstream_faults();
    let mut table = String::from("| upstream fault | cases | the client receives |\n|---|---|---|\n");
    for category in FaultCategory::ALL {
        let rows: Vec<&UpstreamFault> = faults.iter().filter(|fault| fault.category == category).collect();
        let _ = writeln!(table, "| {} | {} | {} |", category.title(), rows.len(), outcomes(&rows));
    }
    table
}

/// The outcomes of a category: local replies, truncated responses, forwarded errors, forwarded responses.
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
        parts.push("a truncated response if the headers were already sent".to_owned());
    }
    if forwarded_errors > 0 {
        parts.push("the upstream's error if it matches the template".to_owned());
    }
    if forwarded > 0 {
        parts.push("the upstream's response if it is valid".to_owned());
    }
    parts.join("; ")
}

/// Whether the row is one of `status-400` to `status-599`, which share a table.
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
    page.push_str(
        "\n`status-400` to `status-599`, each with an HTML page:\n\n| the client receives | upstream status codes |\n|---|---|\n",
    );
    for (code, statuses) in by_code {
        let _ = writeln!(page, "| {code} | {} |", ranges(&statuses));
    }
}

/// Joins sorted statuses, consecutive ones as a range: `400, 405-407`.
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
        details.push(format!("response to request {} of a connection", fault.request.count));
    }
    // The heading of the upgrade rows already names WebSocket.
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
        (FaultOutcome::Forwarded { code }, _) => format!("{code}, forwarded"),
        (FaultOutcome::Aborted { code, .. }, _) => format!("{code}, truncated, `{cause}`"),
    };
    format!("{interim}{outcome}")
}

fn describe_headers(fault: &UpstreamFault) -> String {
    let with = fault.kept_headers.iter().map(|(name, value)| format!("`{name}: {}`", escape_cell(value)));
    let without = fault.removed_headers.iter().map(|name| format!("no `{name}`"));
    with.chain(without).collect::<Vec<_>>().join(", ")
}

/// Escapes text for a cell of a Markdown table.
pub(super) fn escape_cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

const PAGE_HEADER: &str = "\
<!-- Generated from src/conformance/upstream_faults; regenerate with: UPDATE_DOCS=1 cargo test faults_page -->
# Faults and responses

`statusquo demo` provides {count} upstream faults, each at `/NAME`. The tests run every one of them against the
executable and compare status code, body, header fields, connection and counters with this table.

A status code with a cause is a response of the gateway: the documented body with the default message of the code, or
with the upstream's message if one is quoted. `upstream_response` means that the gateway replaced the upstream's error.
The cause is a label of `statusquo_errors_total`, or of `statusquo_aborted_total` if the response was truncated. The
client connection stays open after every fault except a truncated response. A \"forwarded\" response has the upstream's
status code, body and header fields, without hop-by-hop fields and without a content coding that the client does not
accept. The last column is the minimum value of `request_sent`.
";

const TABLE_HEADER: &str = "\
| name | the upstream | the client receives | header fields | `request_sent` |
|---|---|---|---|---|
";

const LIMITS_HEADER: &str = "
## Known limits

In these cases no documented response is possible. Each is counted by its cause; any other connection without a response
is a defect.

| event | counted as |
|---|---|
";

const LIMITS_FOOTER: &str = "
Every other cause that can truncate a response is also a label of `statusquo_aborted_total`.

On HTTP/2 a truncated response ends with RST_STREAM and the error code CANCEL, after the bytes that were received. The
HTTP/2 library has no other way to end a stream without discarding the data that is queued for it.

A client may reset its HTTP/2 streams immediately after it opens them. The HTTP/2 library ends the connection at 1,000
such resets in a burst (`h2-rapid-reset`); a slower client keeps its connection. Its requests count in the rate limits
like any others, and the gateway cancels their work immediately: it abandons pending connection attempts and keeps no
connection open. A request that is reset immediately costs the gateway half the processor time of a short request with a
response. A request that already reached an HTTP/1 upstream costs twice that of a short request, because its upstream
connection is closed, as for every client that disconnects. All are counted as `client_gone`.
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
