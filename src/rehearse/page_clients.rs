//! The table of client faults as documentation: the second part of `docs/faults.md`.
//!
//! Nothing is decided here: the rows are [`super::clients`], the codes of causes the default table's.

use std::fmt::Write as _;

use super::clients::{
    Act, Alert, ClientFault, Ending, Expected, Hello, Reaches, Setting, Shaken, client_faults_by_sort,
    client_faults_tls_by_sort,
};
use super::page::cell;
use crate::contract::policy::default_status;

/// The part of the page.
pub(super) fn document() -> String {
    table(HEAD, client_faults_by_sort(&Setting::any()))
}

/// The part about listeners with TLS.
pub(super) fn document_tls() -> String {
    table(HEAD_TLS, client_faults_tls_by_sort(&Setting::any()))
}

fn table(head: &str, sorts: Vec<(&'static str, Vec<ClientFault>)>) -> String {
    let count: usize = sorts.iter().map(|(_, rows)| rows.len()).sum();
    let mut page = head.replace("{count}", &count.to_string());
    for (title, rows) in sorts {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n### {title}\n\n{COLUMNS}");
        for row in rows {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {} |",
                row.name,
                cell(row.meaning),
                gets(&row),
                connection(row.ending),
                reaches(row.reaches)
            );
        }
    }
    page
}

/// Its answers in order, equal neighbours once.
fn gets(row: &ClientFault) -> String {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for expected in &row.answers {
        let answer = one(*expected);
        match kinds.last_mut() {
            Some((kind, times)) if *kind == answer => *times += 1,
            Some(_) | None => kinds.push((answer, 1)),
        }
    }
    let told = kinds.into_iter().map(|(kind, times)| match times {
        1 => kind,
        _ => format!("{kind} ({times} times)"),
    });
    let told = told.chain(alerts(row)).collect::<Vec<_>>().join(", then ");
    if told.is_empty() { "nothing".to_owned() } else { told }
}

/// The alerts that it gets.
fn alerts(row: &ClientFault) -> impl Iterator<Item = String> {
    let alerts = row.acts.iter().filter_map(|act| match act {
        Act::Alert(alert) | Act::Handshake(Hello { gets: Shaken::Alert(alert), .. }) => Some(alert),
        Act::Handshake(Hello { gets: Shaken::Agrees(_) | Shaken::Distrusts, .. }) => None,
        Act::Send(_) | Act::Repeat(..) | Act::Drip(..) | Act::Beneath(_) | Act::Pause(_) => None,
        Act::Interim(_) | Act::Answer(_) | Act::AnswerSlowly(..) | Act::Arrived | Act::Answered => None,
        Act::HalfClose | Act::Close | Act::Reset | Act::Forget => None,
    });
    alerts.map(|Alert { name, .. }| format!("the alert `{name}`"))
}

pub(super) fn one(expected: Expected) -> String {
    match expected {
        Expected::Refused(cause) | Expected::RefusedOnRoute(cause) => {
            format!("{}, `{}`", default_status(cause), cause.name())
        }
        Expected::Served | Expected::ServedBytes(_) => "the upstream's answer".to_owned(),
        Expected::Cut(cause) => format!("the beginning, cut, `{}`", cause.name()),
        Expected::Begun => "the beginning".to_owned(),
    }
}

fn connection(ending: Ending) -> String {
    match ending {
        Ending::Stays => "serves on".to_owned(),
        Ending::Closes => "closes, as announced".to_owned(),
        Ending::Unsaid => "closes".to_owned(),
        Ending::Cut => "is cut".to_owned(),
        Ending::Silence(name) => format!("closes, counted as `{name}`"),
        Ending::Idle => "closes later, counted as `idle_timeout`".to_owned(),
        Ending::Left(name) => format!("left by the client, counted as `{name}`"),
        Ending::LeftInside => {
            "left by the client, counted as `client_gone` in `statusquo_aborted_total`".to_owned()
        }
    }
}

pub(super) fn reaches(reaches: Reaches) -> String {
    match reaches {
        Reaches::Whole(0) => "nothing".to_owned(),
        Reaches::Whole(1) => "the request".to_owned(),
        Reaches::Whole(several) => format!("{several} requests"),
        Reaches::NeverWhole => "at most a part".to_owned(),
        Reaches::Anything => "as much as came".to_owned(),
    }
}

const HEAD: &str = "
## What clients do wrong, and what they get

{count} ways on HTTP/1, which `statusquo rehearse` and the tests play against a gateway, byte for byte. A code with a cause is
the documented body, under the gateway's default rules. Silences are counted in
`statusquo_closed_without_response_total` under their names.
";

const HEAD_TLS: &str = "
## What clients of a listener with TLS do wrong, and what they get

{count} ways. Before a handshake has ended nothing can be answered but with an alert of TLS; behind it everything above holds
inside TLS as it does without. A goodbye (`close_notify`) inside a request is the same as a sending side that was shut
down; a connection that ends without one was cut, and nothing of it is taken for whole.
";

const COLUMNS: &str = "\
| name | what the client does | it gets | the connection | the upstream receives |
|---|---|---|---|---|
";
