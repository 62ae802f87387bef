//! The tables of faults as documentation: `docs/faults.md`.
//!
//! It is written by a test: `UPDATE_DOCS=1 cargo test faults_page`. Nothing is decided here; the rows are
//! [`super::faults`]; those of clients are told by [`super::page_clients`].

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::faults::{Kind, Message, Outcome, UpstreamFault, Why, upstream_faults};
use super::{page_clients, page_clients_h2};

/// What the promise cannot cover, and where each is counted: metric and label.
pub const LIMITS: &[(&str, &str, &str)] = &[
    (
        "The client left, or shut down its sending side, while it waited",
        "closed_without_response_total",
        "client_gone",
    ),
    ("A kept connection saw no further request in time", "closed_without_response_total", "idle_timeout"),
    (
        "A connection was made and closed without a byte, as probes do",
        "closed_without_response_total",
        "connect_and_close",
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
        "tls_not_spoken",
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
pub fn document() -> String {
    let faults = upstream_faults();
    let mut page = HEAD.replace("{count}", &faults.len().to_string());
    page.push('\n');
    page.push_str(&summary());
    for kind in Kind::ALL {
        let rows: Vec<&UpstreamFault> = faults.iter().filter(|fault| fault.kind == kind).collect();
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {}\n\n{COLUMNS}", kind.title());
        for fault in rows.iter().filter(|fault| !is_numbered(fault)) {
            line(&mut page, fault);
        }
        numbered(&mut page, &rows);
    }
    page.push_str(&page_clients::document());
    page.push_str(&page_clients_h2::document());
    page.push_str(&page_clients::document_tls());
    page.push_str(LIMITS_HEAD);
    for (what, metric, cause) in LIMITS {
        let _ = writeln!(page, "| {what} | `statusquo_{metric}{{cause=\"{cause}\"}}` |");
    }
    page.push_str(LIMITS_TAIL);
    page
}

/// One line for each sort of fault.
fn summary() -> String {
    let faults = upstream_faults();
    let mut table = String::from("| what the upstream does | ways | what clients get |\n|---|---|---|\n");
    for kind in Kind::ALL {
        let rows: Vec<&UpstreamFault> = faults.iter().filter(|fault| fault.kind == kind).collect();
        let _ = writeln!(table, "| {} | {} | {} |", kind.title(), rows.len(), outcomes(&rows));
    }
    table
}

/// Which outcomes a sort has, the usual one first.
fn outcomes(rows: &[&UpstreamFault]) -> String {
    let mut codes: BTreeMap<u16, usize> = BTreeMap::new();
    let (mut passed, mut passed_errors, mut cut) = (0, 0, 0);
    for fault in rows {
        match fault.outcome {
            Outcome::Answered { code, .. } => *codes.entry(code).or_default() += 1,
            Outcome::Passed { code } if code >= 400 => passed_errors += 1,
            Outcome::Passed { .. } => passed += 1,
            Outcome::Aborted { .. } => cut += 1,
        }
    }
    let mut parts = Vec::new();
    if !codes.is_empty() {
        let codes: Vec<String> = codes.keys().map(u16::to_string).collect();
        parts.push(format!("{} with the documented body", codes.join(", ")));
    }
    if cut > 0 {
        parts.push("the beginning, visibly cut, where it had left".to_owned());
    }
    if passed_errors > 0 {
        parts.push("the upstream's own error where it is a documented one".to_owned());
    }
    if passed > 0 {
        parts.push("the upstream's response where it is no fault".to_owned());
    }
    parts.join("; ")
}

/// One of the rows for every status from 400 to 599.
fn is_numbered(fault: &UpstreamFault) -> bool {
    fault.kind == Kind::Status && fault.name.starts_with("status-")
}

fn numbered(page: &mut String, rows: &[&UpstreamFault]) {
    let mut by_code: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
    for fault in rows.iter().filter(|fault| is_numbered(fault)) {
        if let Outcome::Answered { code, why: Why::Status(status) } = fault.outcome {
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

fn line(page: &mut String, fault: &UpstreamFault) {
    let _ = writeln!(
        page,
        "| `{}` | {}{} | {} | {} | `{}` |",
        fault.name,
        cell(fault.meaning),
        asked(fault),
        gets(fault),
        fields(fault),
        fault.sent_at_least.name()
    );
}

fn asked(fault: &UpstreamFault) -> String {
    let mut asked = Vec::new();
    if fault.ask.method != "GET" {
        asked.push(fault.ask.method.to_owned());
    }
    if fault.ask.times > 1 {
        asked.push(format!("the answer to request {} of a connection", fault.ask.times));
    }
    // That they ask for WebSocket stands in the heading of those rows.
    if !fault.ask.fields.is_empty() && fault.kind != Kind::Upgrade {
        asked.push(format!("`{}`", fault.ask.fields.trim()));
    }
    if asked.is_empty() { String::new() } else { format!(" ({})", asked.join(", ")) }
}

fn gets(fault: &UpstreamFault) -> String {
    let interim = match fault.interim {
        [] => String::new(),
        [one] => format!("{one}, then "),
        [one, rest @ ..] => format!("{one} ({} times), then ", rest.len() + 1),
    };
    let cause = fault.outcome.cause_name();
    let what = match (fault.outcome, fault.message) {
        (Outcome::Answered { code, .. }, Message::OfTheCode) => format!("{code}, `{cause}`"),
        (Outcome::Answered { code, .. }, Message::Kept(message)) => {
            let short: String = message.chars().take(40).collect();
            format!("{code}, `{cause}`, \"{}\"", cell(&short))
        }
        (Outcome::Passed { code }, _) => format!("{code} as it is"),
        (Outcome::Aborted { code, .. }, _) => format!("{code}, cut, `{cause}`"),
    };
    format!("{interim}{what}")
}

fn fields(fault: &UpstreamFault) -> String {
    let with = fault.keeps.iter().map(|(name, value)| format!("`{name}: {}`", cell(value)));
    let without = fault.lacks.iter().map(|name| format!("no `{name}`"));
    with.chain(without).collect::<Vec<_>>().join(", ")
}

/// Text in a Markdown table.
pub(super) fn cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

const HEAD: &str = "\
<!-- Generated from src/rehearse/faults; write it again with: UPDATE_DOCS=1 cargo test faults_page -->
# What upstreams and clients do wrong, and what clients get

The {count} ways in which the misbehaving upstream of `statusquo demo` breaks, each under `/NAME`. The tests play every one
of them against the executable and compare status, body, fields, connection and counters with this table.

A code with a cause is an answer of the gateway: the documented body with the text of the code, or with the upstream's
message where one is quoted; `upstream_response` means that the upstream's error was replaced. The cause is the label of
`statusquo_errors_total`, or of `statusquo_aborted_total` where a response was cut. The client's connection serves further
requests after everything but a cut. A response that passes \"as it is\" has the upstream's status, its fields but those of
the connection, and its body, without a content coding that the client has not asked for. The last column is the least that `request_sent` says.
";

const COLUMNS: &str = "\
| name | what the upstream does | the client gets | fields | sent |
|---|---|---|---|---|
";

const LIMITS_HEAD: &str = "
## Known limits

Where no documented answer is possible, the end is counted by its cause; any other silence is a defect.

| what happens | counted as |
|---|---|
";

const LIMITS_TAIL: &str = "
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
    use crate::observe::CloseReason;

    #[test]
    fn faults_page_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let made = document();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, made).unwrap();
        } else {
            assert!(
                committed == made,
                "docs/faults.md is out of date; run: UPDATE_DOCS=1 cargo test faults_page"
            );
        }
    }

    #[test]
    fn every_silence_is_a_known_limit_and_every_limit_has_a_counter() {
        let named = |metric: &str| {
            LIMITS.iter().filter(|limit| limit.1 == metric).map(|limit| limit.2).collect::<Vec<_>>()
        };
        let mut silences: Vec<_> = CloseReason::ALL.iter().map(|silence| silence.name()).collect();
        let mut limits = named("closed_without_response_total");
        silences.sort_unstable();
        limits.sort_unstable();
        assert_eq!(limits, silences);
        for cause in named("aborted_total") {
            let known = [CloseReason::ClientGone.name(), "tunnel_idle"].contains(&cause);
            assert!(known || Cause::from_name(cause).is_some(), "{cause}");
        }
    }

    #[test]
    fn neighbours_become_ranges() {
        assert_eq!(ranges(&[400, 405, 406, 407, 410]), "400, 405-407, 410");
        assert_eq!(ranges(&[]), "");
    }
}
