//! Renders the HTTP/1 and TLS client faults of `docs/faults.md`.
//!
//! The rows come from [`super::client_faults`]; the status codes are the default codes of their causes.

use std::fmt::Write as _;

use super::client_faults::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, GatewayProfile, HandshakeOutcome, TlsAlert,
    TlsClientHello, UpstreamSaw, client_faults_by_section, client_faults_tls_by_section,
};
use super::fault_docs::escape_cell;
use crate::contract::builtin::DEFAULT_CONTRACT;
use crate::contract::{Cause, Contract};

/// The section on HTTP/1 clients.
pub(super) fn render() -> String {
    render_table(SECTION_HEADER, client_faults_by_section(&GatewayProfile::example()))
}

/// The section on clients of TLS listeners.
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

/// The responses in order; equal consecutive ones are merged with a count.
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

/// The TLS alerts that the client receives.
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

/// The status code of a cause in the default contract.
pub(super) fn builtin_status(cause: Cause) -> u16 {
    Contract::builtin(DEFAULT_CONTRACT).map_or(0, |contract| contract.code_for_cause(cause).status())
}

pub(super) fn describe_response(expected: ExpectedResponse) -> String {
    match expected {
        ExpectedResponse::Rejected(cause) | ExpectedResponse::RejectedOnRoute(cause) => {
            format!("{}, `{}`", builtin_status(cause), cause.name())
        }
        ExpectedResponse::Served | ExpectedResponse::ServedBytes(_) => "the upstream's response".to_owned(),
        ExpectedResponse::Truncated(cause) => format!("a truncated response, `{}`", cause.name()),
        ExpectedResponse::Prefix => "the first part of the response".to_owned(),
    }
}

fn describe_connection(outcome: ConnectionOutcome) -> String {
    match outcome {
        ConnectionOutcome::KeptOpen => "stays open".to_owned(),
        ConnectionOutcome::AnnouncedClose => "closed with `Connection: close`".to_owned(),
        ConnectionOutcome::UnannouncedClose => "closed".to_owned(),
        ConnectionOutcome::Truncated => "closed inside the response".to_owned(),
        ConnectionOutcome::ClosedWithoutResponse(name) => format!("closed, counted as `{name}`"),
        ConnectionOutcome::IdleTimeout => "closed when idle, counted as `idle_timeout`".to_owned(),
        ConnectionOutcome::ClientClosed(name) => format!("closed by the client, counted as `{name}`"),
        ConnectionOutcome::ClientClosedDuringResponse => {
            "closed by the client, counted as `client_gone` in `statusquo_aborted_total`".to_owned()
        }
    }
}

pub(super) fn describe_upstream_saw(upstream_saw: UpstreamSaw) -> String {
    match upstream_saw {
        UpstreamSaw::Complete(0) => "nothing".to_owned(),
        UpstreamSaw::Complete(1) => "the request".to_owned(),
        UpstreamSaw::Complete(count) => format!("{count} requests"),
        UpstreamSaw::AtMostPartial => "at most part of the request".to_owned(),
        UpstreamSaw::Any => "any part of the request".to_owned(),
    }
}

const SECTION_HEADER: &str = "
## HTTP/1 client faults

`statusquo verify` and the tests send {count} client faults on HTTP/1 to a gateway, byte for byte. A status code with a
cause is the documented error under the default rules. A connection that closes without a response is counted in
`statusquo_closed_without_response_total` under the named cause.
";

const TLS_SECTION_HEADER: &str = "
## TLS client faults

{count} faults. Before the handshake is complete, the only possible response is a TLS alert. After it, everything above
applies inside TLS too. `close_notify` inside a request is treated like a half-closed connection. A connection that
closes without `close_notify` is truncated: the gateway treats no unfinished message on it as complete.
";

const TABLE_HEADER: &str = "\
| name | the client | it receives | the connection | the upstream receives |
|---|---|---|---|---|
";
