//! The table of client faults as documentation: the second part of `docs/faults.md`.
//!
//! Nothing is decided here: the rows are [`super::client_faults`], the codes of causes the default table's.

use std::fmt::Write as _;

use super::client_faults::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, GatewayProfile, HandshakeOutcome, TlsAlert,
    TlsClientHello, UpstreamSaw, client_faults_by_section, client_faults_tls_by_section,
};
use super::fault_docs::escape_cell;
use crate::contract::policy::default_status;

/// The part of the page.
pub(super) fn render() -> String {
    render_table(SECTION_HEADER, client_faults_by_section(&GatewayProfile::example()))
}

/// The part about listeners with TLS.
pub(super) fn render_tls() -> String {
    render_table(TLS_SECTION_HEADER, client_faults_tls_by_section(&GatewayProfile::example()))
}

fn render_table(section_header: &str, sections: Vec<(&'static str, Vec<ClientFault>)>) -> String {
    let count: usize = sections.iter().map(|(_, rows)| rows.len()).sum();
    let mut page = section_header.replace("{count}", &count.to_string());
    for (title, rows) in sections {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n### {title}\n\n{TABLE_HEADER}");
        for row in rows {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {} |",
                row.name,
                escape_cell(row.description),
                expected_responses(&row),
                describe_connection(row.connection_outcome),
                describe_upstream_saw(row.upstream_saw)
            );
        }
    }
    page
}

/// Its answers in order, equal neighbours once.
fn expected_responses(row: &ClientFault) -> String {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for expected in &row.expected_responses {
        let response = describe_response(*expected);
        match kinds.last_mut() {
            Some((kind, times)) if *kind == response => *times += 1,
            Some(_) | None => kinds.push((response, 1)),
        }
    }
    let descriptions = kinds.into_iter().map(|(kind, times)| match times {
        1 => kind,
        _ => format!("{kind} ({times} times)"),
    });
    let descriptions = descriptions.chain(expected_alerts(row)).collect::<Vec<_>>().join(", then ");
    if descriptions.is_empty() { "nothing".to_owned() } else { descriptions }
}

/// The alerts that it gets.
fn expected_alerts(row: &ClientFault) -> impl Iterator<Item = String> {
    let alerts = row.steps.iter().filter_map(|step| match step {
        ClientStep::ExpectTlsAlert(alert)
        | ClientStep::TlsHandshake(TlsClientHello { expected: HandshakeOutcome::Alert(alert), .. }) => {
            Some(alert)
        }
        ClientStep::TlsHandshake(TlsClientHello {
            expected: HandshakeOutcome::Completed(_) | HandshakeOutcome::CertificateRejected,
            ..
        }) => None,
        ClientStep::Send(_)
        | ClientStep::SendRepeated(..)
        | ClientStep::SendSlowly(..)
        | ClientStep::SendBelowTls(_)
        | ClientStep::Pause(_) => None,
        ClientStep::ReadInterim(_)
        | ClientStep::ReadResponse(_)
        | ClientStep::ReadResponseSlowly(..)
        | ClientStep::WaitForUpstreamRequest
        | ClientStep::WaitForData => None,
        ClientStep::ShutdownWrite | ClientStep::Close | ClientStep::Reset | ClientStep::DiscardUntilClose => {
            None
        }
    });
    alerts.map(|TlsAlert { name, .. }| format!("the alert `{name}`"))
}

pub(super) fn describe_response(expected: ExpectedResponse) -> String {
    match expected {
        ExpectedResponse::Rejected(cause) | ExpectedResponse::RejectedOnRoute(cause) => {
            format!("{}, `{}`", default_status(cause), cause.name())
        }
        ExpectedResponse::Served | ExpectedResponse::ServedBytes(_) => "the upstream's answer".to_owned(),
        ExpectedResponse::Truncated(cause) => format!("the beginning, cut, `{}`", cause.name()),
        ExpectedResponse::Prefix => "the beginning".to_owned(),
    }
}

fn describe_connection(outcome: ConnectionOutcome) -> String {
    match outcome {
        ConnectionOutcome::KeptOpen => "serves on".to_owned(),
        ConnectionOutcome::AnnouncedClose => "closes, as announced".to_owned(),
        ConnectionOutcome::UnannouncedClose => "closes".to_owned(),
        ConnectionOutcome::Truncated => "is cut".to_owned(),
        ConnectionOutcome::ClosedWithoutResponse(name) => format!("closes, counted as `{name}`"),
        ConnectionOutcome::IdleTimeout => "closes later, counted as `idle_timeout`".to_owned(),
        ConnectionOutcome::ClientClosed(name) => format!("left by the client, counted as `{name}`"),
        ConnectionOutcome::ClientClosedDuringResponse => {
            "left by the client, counted as `client_gone` in `statusquo_aborted_total`".to_owned()
        }
    }
}

pub(super) fn describe_upstream_saw(reaches: UpstreamSaw) -> String {
    match reaches {
        UpstreamSaw::Complete(0) => "nothing".to_owned(),
        UpstreamSaw::Complete(1) => "the request".to_owned(),
        UpstreamSaw::Complete(several) => format!("{several} requests"),
        UpstreamSaw::AtMostPartial => "at most a part".to_owned(),
        UpstreamSaw::Any => "as much as came".to_owned(),
    }
}

const SECTION_HEADER: &str = "
## What clients do wrong, and what they get

{count} ways on HTTP/1, which `statusquo rehearse` and the tests play against a gateway, byte for byte. A code with a cause is
the documented body, under the gateway's default rules. Silences are counted in
`statusquo_closed_without_response_total` under their names.
";

const TLS_SECTION_HEADER: &str = "
## What clients of a listener with TLS do wrong, and what they get

{count} ways. Before a handshake has ended nothing can be answered but with an alert of TLS; behind it everything above holds
inside TLS as it does without. A goodbye (`close_notify`) inside a request is the same as a sending side that was shut
down; a connection that ends without one was cut, and nothing of it is taken for whole.
";

const TABLE_HEADER: &str = "\
| name | what the client does | it gets | the connection | the upstream receives |
|---|---|---|---|---|
";
