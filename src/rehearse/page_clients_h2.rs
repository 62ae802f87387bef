//! The table of HTTP/2 client faults as documentation: the third part of `docs/faults.md`.
//!
//! Nothing is decided here: the rows are [`super::clients_h2`], the codes of causes the default table's.

use std::fmt::Write as _;

use super::clients::Setting;
use super::clients_h2::{Fate, FrameFault, LastWord, client_faults_h2_by_sort};
use super::page::cell;
use super::page_clients::{one, reaches};
use crate::contract::policy::default_status;

/// The part of the page.
pub(super) fn document() -> String {
    let sorts = client_faults_h2_by_sort(&Setting::any());
    let count: usize = sorts.iter().map(|(_, rows)| rows.len()).sum();
    let mut page = HEAD.replace("{count}", &count.to_string());
    for (title, rows) in sorts {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n### {title}\n\n{COLUMNS}");
        for row in rows {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {} | {} |",
                row.name,
                cell(row.meaning),
                gets(&row),
                connection(row.ending),
                counted(&row),
                reaches(row.reaches)
            );
        }
    }
    page
}

fn gets(row: &FrameFault) -> String {
    let mut told: Vec<String> = row.fates.iter().map(|(_, fate)| fate_of(*fate)).collect();
    told.dedup();
    if told.is_empty() { "nothing".to_owned() } else { told.join(", ") }
}

fn fate_of(fate: Fate) -> String {
    match fate {
        Fate::Answer(expected) => one(expected),
        Fate::Reset => "RST_STREAM".to_owned(),
        Fate::Empty431 => "an empty 431".to_owned(),
        Fate::HeadOnly(cause) => format!("{}, `{}`, its head alone", default_status(cause), cause.name()),
        Fate::Silence => "nothing".to_owned(),
    }
}

const fn connection(ending: LastWord) -> &'static str {
    match ending {
        LastWord::Stays => "serves on",
        LastWord::Error => "GOAWAY with an error",
        LastWord::Farewell => "GOAWAY",
        LastWord::Left => "left by the client",
    }
}

/// Each silence once, with its number.
fn counted(row: &FrameFault) -> String {
    let mut names: Vec<(&str, usize)> = Vec::new();
    for silence in &row.silences {
        match names.iter_mut().find(|(name, _)| name == silence) {
            Some((_, times)) => *times += 1,
            None => names.push((silence, 1)),
        }
    }
    let told = names.iter().map(|(name, times)| match times {
        1 => format!("`{name}`"),
        _ => format!("`{name}` ({times} times)"),
    });
    told.collect::<Vec<_>>().join(", ")
}

const HEAD: &str = "
## What HTTP/2 clients do wrong, and what they get

{count} ways, played frame by frame. What is malformed by the rules of HTTP/2 itself is answered by the protocol's library:
its stream is reset, or its connection ended; those are known limits (see below), each counted in
`statusquo_closed_without_response_total` under the name in the fifth column. Where the connection serves on, an upload
that goes on beside it is served, and so is the next request.
";

const COLUMNS: &str = "\
| name | what the client does | it gets | the connection | counted as | the upstream receives |
|---|---|---|---|---|---|
";
