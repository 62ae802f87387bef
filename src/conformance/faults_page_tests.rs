//! Renders `docs/faults.md` from the cases, and checks the cases.
//!
//! `UPDATE_DOCS=1 cargo test faults_page` writes the page. The status codes of client cases are the default codes of
//! their causes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::case::{
    ClientFault, ClientProtocol, ConnectionOutcome, ExpectedResponse, STREAM_ERROR, UpstreamSaw,
};
use super::cases::{CaseSet, client_faults, upstream_faults};
use super::gateway_stream::HandshakeOutcome;
use super::payload::GatewayProfile;
use super::step::ClientStep;
use super::upstream_case::{FaultOutcome, UpstreamFault};
use crate::contract::builtin::DEFAULT_CONTRACT;
use crate::contract::{Cause, Contract, Trigger};
use crate::generated_files::assert_current;
use crate::telemetry::CloseReason;

/// The page without the tables that are made from the cases.
const TEMPLATE: &str = include_str!("cases/page.md");

/// The known limits in the page: metric and `cause` label.
fn known_limits() -> impl Iterator<Item = (&'static str, &'static str)> {
    let counters = TEMPLATE.split("| `statusquo_").skip(1);
    counters.filter_map(|text| text.split_once("\"}` |")?.0.split_once("{cause=\""))
}

const PROTOCOLS: [ClientProtocol; 4] =
    [ClientProtocol::Http1, ClientProtocol::Http2, ClientProtocol::Tls, ClientProtocol::Route];

/// The content of `docs/faults.md`.
fn render() -> String {
    let faults = upstream_faults();
    let mut upstream = String::new();
    for section in sections(&faults) {
        // Writing to a String cannot fail.
        let _ = write!(upstream, "\n## {}\n\n{TABLE_HEADER}", section[0].section);
        for fault in section.iter().filter(|fault| !is_status_row(fault)) {
            fault_row(&mut upstream, fault);
        }
        status_rows(&mut upstream, section);
    }
    let count = |number: usize| number.to_string();
    let mut page = TEMPLATE
        .replace("{upstream_count}", &count(faults.len()))
        .replace("{summary}", &summary(&faults))
        .replace("{upstream}", &upstream);
    for (name, protocol) in ["http1", "http2", "tls", "route"].into_iter().zip(PROTOCOLS) {
        page = page
            .replace(&format!("{{{name}_count}}"), &count(client_faults(protocol).len()))
            .replace(&format!("{{{name}}}"), &client_table(protocol));
    }
    page
}

fn sections(faults: &[UpstreamFault]) -> impl Iterator<Item = &[UpstreamFault]> {
    faults.chunk_by(|fault, next| fault.section == next.section)
}

/// One line per section.
fn summary(faults: &[UpstreamFault]) -> String {
    let mut table = String::from("| upstream fault | cases | the client receives |\n|---|---|---|\n");
    for section in sections(faults) {
        let _ = writeln!(table, "| {} | {} | {} |", section[0].section, section.len(), outcomes(section));
    }
    table
}

/// The outcomes of a section: local replies, truncated responses, forwarded errors, forwarded responses.
fn outcomes(rows: &[UpstreamFault]) -> String {
    let mut codes: BTreeMap<u16, usize> = BTreeMap::new();
    let (mut forwarded, mut forwarded_errors, mut truncated) = (0, 0, 0);
    for fault in rows {
        match fault.expect.outcome {
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
    let replaced =
        matches!(fault.expect.outcome, FaultOutcome::LocalReply { reason: Trigger::UpstreamStatus(_), .. });
    replaced && fault.name.starts_with("status-")
}

fn status_rows(page: &mut String, rows: &[UpstreamFault]) {
    let mut by_code: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
    for fault in rows.iter().filter(|fault| is_status_row(fault)) {
        if let FaultOutcome::LocalReply { code, reason: Trigger::UpstreamStatus(status) } =
            fault.expect.outcome
        {
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
        fault.expect.request_sent.name()
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
    if !fault.request.fields.is_empty() && !fault.is_upgrade() {
        details.push(format!("`{}`", fault.request.header_lines().trim()));
    }
    if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) }
}

fn describe_outcome(fault: &UpstreamFault) -> String {
    let interim = match &*fault.expect.interim {
        [] => String::new(),
        [one] => format!("{one}, then "),
        [one, rest @ ..] => format!("{one} ({} times), then ", rest.len() + 1),
    };
    let cause = fault.expect.outcome.cause_name();
    let outcome = match (fault.expect.outcome, &fault.expect.message) {
        (FaultOutcome::LocalReply { code, .. }, None) => {
            format!("{code}, `{cause}`")
        }
        (FaultOutcome::LocalReply { code, .. }, Some(message)) => {
            let short: String = message.chars().take(40).collect();
            format!("{code}, `{cause}`, \"{}\"", escape_cell(&short))
        }
        (FaultOutcome::Forwarded { code }, _) => format!("{code}, forwarded"),
        (FaultOutcome::Aborted { code, .. }, _) => format!("{code}, truncated, `{cause}`"),
    };
    format!("{interim}{outcome}")
}

fn describe_headers(fault: &UpstreamFault) -> String {
    let with = fault.expect.kept().map(|(name, value)| format!("`{name}: {}`", escape_cell(value)));
    let without = fault.expect.removed.iter().map(|name| format!("no `{name}`"));
    with.chain(without).collect::<Vec<_>>().join(", ")
}

/// Escapes text for a cell of a Markdown table.
fn escape_cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

/// A table of client cases for each section.
fn client_table(protocol: ClientProtocol) -> String {
    let mut page = String::new();
    let rows = client_faults(protocol);
    for rows in rows.chunk_by(|row, next| row.section == next.section) {
        let _ = write!(page, "\n### {}\n\n{CLIENT_TABLE_HEADER}", rows[0].section);
        for row in rows {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {} | {} |",
                row.name,
                escape_cell(row.description),
                expected_responses(row),
                describe_connection(row.connection()),
                describe_counted(row),
                describe_upstream_saw(row.upstream_saw())
            );
        }
    }
    page
}

/// The outcomes in order; equal consecutive ones are merged with a count.
fn expected_responses(row: &ClientFault) -> String {
    let outcomes: Vec<String> = row.expected.iter().map(|expected| describe_response(*expected)).collect();
    let outcomes = outcomes.chunk_by(|one, next| one == next).map(|equal| match equal {
        [one] => one.clone(),
        _ => format!("{} ({} times)", equal[0], equal.len()),
    });
    let alerts = row.steps.iter().filter_map(|step| match step {
        ClientStep::ExpectAlert(alert) => Some(alert),
        ClientStep::TlsHandshake(hello) => match &hello.expect {
            HandshakeOutcome::Alert(alert) => Some(alert),
            HandshakeOutcome::Protocol(_) | HandshakeOutcome::CertificateRejected => None,
        },
        _ => None,
    });
    let alerts = alerts.map(|alert| format!("the alert `{}`", alert.name()));
    let all = outcomes.chain(alerts).collect::<Vec<_>>().join(", then ");
    if all.is_empty() { "nothing".to_owned() } else { all }
}

/// The status code of a cause in the default contract.
fn builtin_status(cause: Cause) -> u16 {
    Contract::builtin(DEFAULT_CONTRACT).map_or(0, |contract| contract.code_for_cause(cause).status())
}

fn describe_response(expected: ExpectedResponse) -> String {
    match expected {
        ExpectedResponse::Rejected(cause) | ExpectedResponse::RejectedOnRoute(cause) => {
            format!("{}, `{cause}`", builtin_status(cause))
        }
        ExpectedResponse::Served | ExpectedResponse::ServedBytes(_) => "the upstream's response".to_owned(),
        ExpectedResponse::Ordinary => "what the route declares".to_owned(),
        ExpectedResponse::OrdinaryOrRejected(cause) => {
            format!("what the route declares, or {}, `{cause}`", builtin_status(cause))
        }
        ExpectedResponse::Truncated(cause) => format!("a truncated response, `{cause}`"),
        ExpectedResponse::Prefix => "the first part of the response".to_owned(),
        ExpectedResponse::Reset => "RST_STREAM".to_owned(),
        ExpectedResponse::Empty431 => "an empty 431".to_owned(),
        ExpectedResponse::HeadersOnly(cause) => format!("{}, `{cause}`, headers only", builtin_status(cause)),
        ExpectedResponse::NoResponse => "nothing".to_owned(),
    }
}

const fn describe_connection(outcome: ConnectionOutcome) -> &'static str {
    match outcome {
        ConnectionOutcome::KeptOpen => "stays open",
        ConnectionOutcome::AnnouncedClose => "closed with `Connection: close`",
        ConnectionOutcome::Closed | ConnectionOutcome::Dropped => "closed",
        ConnectionOutcome::Truncated => "closed inside the response",
        ConnectionOutcome::ClientClosed => "closed by the client",
        ConnectionOutcome::ErrorGoaway => "GOAWAY with an error",
        ConnectionOutcome::Goaway => "GOAWAY",
    }
}

/// The reasons of connections and streams without a response, and the causes of truncated responses.
fn describe_counted(row: &ClientFault) -> String {
    let counted = row.counted();
    let reasons = counted.iter().map(|(name, times)| match times {
        1 => format!("`{name}`"),
        _ => format!("`{name}` ({times} times)"),
    });
    let truncated = |expected: &ExpectedResponse| match expected {
        ExpectedResponse::Truncated(_) => None,
        other => other.aborted_cause().map(|cause| format!("`{cause}` in `statusquo_aborted_total`")),
    };
    reasons.chain(row.expected.iter().filter_map(truncated)).collect::<Vec<_>>().join(", ")
}

fn describe_upstream_saw(upstream_saw: UpstreamSaw) -> String {
    match upstream_saw {
        UpstreamSaw::Complete(0) => "nothing".to_owned(),
        UpstreamSaw::Complete(1) => "the request".to_owned(),
        UpstreamSaw::Complete(count) => format!("{count} requests"),
        UpstreamSaw::AtMostPartial => "at most part of the request".to_owned(),
        UpstreamSaw::Any => "any part of the request".to_owned(),
    }
}

const TABLE_HEADER: &str = "\
| name | the upstream | the client receives | header fields | `request_sent` |
|---|---|---|---|---|
";

const CLIENT_TABLE_HEADER: &str = "\
| name | the client | it receives | the connection | counted as | the upstream receives |
|---|---|---|---|---|---|
";

#[test]
fn faults_page_matches_the_tables() {
    assert_current("docs/faults.md", &render(), "faults_page");
}

#[test]
fn close_reasons_are_known_limits_and_every_limit_has_a_counter() {
    let named = |metric: &str| {
        known_limits().filter(|limit| limit.0 == metric).map(|limit| limit.1).collect::<Vec<_>>()
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

#[test]
fn cases_name_known_causes_and_consistent_counts() {
    let reasons: BTreeSet<&str> = CloseReason::ALL.iter().map(|reason| reason.name()).collect();
    for protocol in PROTOCOLS {
        for case in client_faults(protocol) {
            let counted = case.counted();
            let unknown: Vec<_> = counted.iter().filter(|(name, _)| !reasons.contains(name)).collect();
            assert!(unknown.is_empty(), "{}: {unknown:?}", case.name);
            if protocol == ClientProtocol::Http2 {
                let resets = case.expected.iter().filter(|e| **e == ExpectedResponse::Reset).count();
                let counted = counted.iter().find(|(name, _)| *name == STREAM_ERROR);
                assert_eq!(counted.map_or(0, |(_, times)| *times), resets, "{}", case.name);
            }
        }
    }
    let documented = [400, 401, 403, 404, 409, 429, 500, 503, 504];
    for case in upstream_faults() {
        let status = case.expect.outcome.status();
        assert!(status < 400 || documented.contains(&status), "{}: {status}", case.name);
    }
}

#[test]
fn status_cases_list_every_error_status_once() {
    let statuses: Vec<u16> = upstream_faults()
        .iter()
        .filter(|case| is_status_row(case))
        .filter_map(|case| case.name.strip_prefix("status-")?.parse().ok())
        .collect();
    assert_eq!(statuses, (400..=599).collect::<Vec<_>>());
}

#[test]
fn request_targets_carry_the_name_of_their_case() {
    let profile = GatewayProfile::example();
    let mut smuggling = 0;
    for protocol in PROTOCOLS {
        for case in client_faults(protocol) {
            let bytes: Vec<u8> = case
                .steps
                .iter()
                .flat_map(|step| match step {
                    ClientStep::Write(bytes) | ClientStep::WriteUntilResponse { bytes, .. } => {
                        bytes.bytes(case.scope(&profile))
                    }
                    _ => Vec::new(),
                })
                .collect();
            let text = String::from_utf8_lossy(&bytes);
            for marker in text.split("row=").skip(1) {
                assert!(marker.starts_with(case.name), "{}: {marker:.40}", case.name);
            }
            for placeholder in ["<get>", "<post>", "<GET>", "<POST>", "<path>", "<row>", "<host>"] {
                assert!(!text.contains(placeholder), "{}: {placeholder}", case.name);
            }
            smuggling += usize::from(text.contains("/smuggled"));
        }
    }
    assert!(smuggling >= 60, "{smuggling}");
}

#[test]
fn invalid_files_of_cases_are_refused_with_position_and_help() {
    let case = |rest: &str| {
        format!("upstream:\n  - section: S\n    cases:\n      - name: mine\n        shows: x\n{rest}")
    };
    for (text, line, message, help) in [
        ("upstreams: []".to_owned(), 1, "unknown field `upstreams`", "upstream, client"),
        (
            case("        expect: { reply: 504, cause: shouting }\n"),
            6,
            "\"shouting\" is not a cause",
            "docs/codes.md",
        ),
        (case("        expect: { forwarded: 200 }\n"), 4, "does not fit the steps", "give steps"),
        (
            case("        steps: [close]\n        expect: { reply: 504 }\n"),
            7,
            "not complete",
            "expected reply with cause",
        ),
        (
            case("        steps: [wait_for_data]\n        expect: { forwarded: 200 }\n"),
            6,
            "unknown variant `wait_for_data`",
            "read_request",
        ),
        (case("        steps: [write]\n        expect: { forwarded: 200 }\n"), 6, "", ""),
        (case("        steps: [jump]\n        expect: { forwarded: 200 }\n"), 6, "jump", "read_request"),
        ("upstream: [".to_owned(), 1, "", ""),
    ] {
        let error = CaseSet::default().add(&text).unwrap_err().remove(0);
        assert_eq!(error.line, line, "{text}: {error:?}");
        assert!(error.message.contains(message) && error.help.contains(help), "{text}: {error:?}");
        assert!(!error.help.is_empty(), "{error:?}");
    }
    let twice =
        case("        steps: [close]\n        expect: { reply: 504, cause: connection_terminated }\n");
    let mut cases = CaseSet::builtin();
    cases.add(&twice).unwrap();
    assert!(cases.add(&twice).unwrap_err()[0].message.contains("already"));
    let third = "      - { name: third, shows: x, steps: [fly], expect: { forwarded: 200 } }\n";
    let several = case("        steps: [jump]\n        # hidden\n        expect: {}\n") + third;
    let errors = CaseSet::default().add(&several).unwrap_err();
    let found: Vec<_> = errors.iter().map(|error| (error.line, error.message.as_str())).collect();
    assert!(
        matches!(&*found, [(6, first), (9, second)] if first.contains("jump") && second.contains("fly")),
        "{found:?}"
    );
}

#[test]
fn builtin_files_are_valid() {
    let mut cases = CaseSet::default();
    for (number, text) in super::cases::FILES.iter().enumerate() {
        assert_eq!(cases.add(text), Ok(()), "file {number}");
    }
}
