//! `codes`: prints the contract as documentation, as a table, JSON, Markdown or HTML.
//!
//! [`CodesPage`] is built from the decisions of the error policy, so it always matches what the gateway does; the four
//! formats only lay it out. Overrides are not included: `explain` covers them for one route.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use http::Method;
use serde::Serialize;

use super::check::ReportFormat;
use super::load_or_exit;
use super::run::print_message;
use crate::contract::builtin;
use crate::contract::policy::decide;
use crate::contract::{Cause, Contract, Overrides, PolicyInput, Trigger};
use crate::telemetry::status_label::LABELLED_STATUSES;

/// The output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CodesFormat {
    /// Columns for a terminal.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// Markdown, as in `docs/codes.md`.
    Markdown,
    /// One HTML page without external resources.
    Html,
}

/// Prints the contract of this name: one that `file` uses, by default its default contract, or a built-in one, which
/// needs no file. The exit status is 78 if the file is missing or invalid, and 2 if no contract has the name.
pub(crate) fn run(file: &Path, name: Option<&str>, format: CodesFormat) -> ExitCode {
    let builtin = name.and_then(Contract::builtin);
    let of_file =
        if builtin.is_some() && !file.exists() { Ok(Vec::new()) } else { contracts_of(file, format) };
    let contracts = match of_file {
        Ok(contracts) => contracts,
        Err(exit_code) => {
            if !file.exists() {
                print_message("a built-in contract needs no file: statusquo codes --contract appwrite");
            }
            return exit_code;
        }
    };
    let chosen = contracts.iter().find(|contract| name.is_none_or(|name| contract.name() == name));
    let Some(contract) = chosen.map(|contract| &**contract).or(builtin.as_ref()) else {
        let of_file = contracts.iter().map(|contract| contract.name());
        let builtin = builtin::CONTRACT_NAMES.iter().copied();
        let builtin = builtin.filter(|name| contracts.iter().all(|contract| contract.name() != *name));
        let names: Vec<&str> = of_file.chain(builtin).collect();
        let name = name.unwrap_or_default();
        print_message(&format!("--contract {name}: no such contract; expected {}", names.join(", ")));
        return ExitCode::from(2);
    };
    let text = render(contract, format);
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The contracts that the file uses; its default comes first.
fn contracts_of(file: &Path, format: CodesFormat) -> Result<Vec<Arc<Contract>>, ExitCode> {
    let format = if format == CodesFormat::Json { ReportFormat::Json } else { ReportFormat::Text };
    Ok(load_or_exit(file, format)?.contracts().into_iter().map(Arc::clone).collect())
}

/// Renders the documentation of a contract.
pub(crate) fn render(contract: &Contract, format: CodesFormat) -> String {
    let page = CodesPage::of(contract);
    match format {
        CodesFormat::Table => page.table(),
        CodesFormat::Json => page.json(),
        CodesFormat::Markdown => page.markdown(),
        CodesFormat::Html => page.html(),
    }
}

/// The contents of the page, in its order.
#[derive(Serialize)]
struct CodesPage<'a> {
    contract: &'a str,
    media_type: &'a str,
    /// The body of the first code.
    example: String,
    codes: Vec<CodeRow<'a>>,
    causes: Vec<CauseRow<'a>>,
    upstream_statuses: Vec<StatusRow>,
}

#[derive(Serialize)]
struct CodeRow<'a> {
    code: u16,
    text: &'a str,
    message: &'a str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
}

#[derive(Serialize)]
struct CauseRow<'a> {
    cause: &'static str,
    code: u16,
    message: &'a str,
    meaning: &'static str,
    reserved: bool,
}

/// Upstream status codes that are replaced with `code`.
#[derive(Serialize)]
struct StatusRow {
    code: u16,
    upstream_status: Vec<StatusLabel>,
}

#[derive(Clone, Serialize)]
#[serde(untagged)]
enum StatusLabel {
    Status(u16),
    Other(&'static str),
}

impl fmt::Display for StatusLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatusLabel::Status(status) => write!(f, "{status}"),
            StatusLabel::Other(text) => f.write_str(text),
        }
    }
}

impl<'a> CodesPage<'a> {
    fn of(contract: &'a Contract) -> Self {
        // Without a declared type, the title in snake case is sent.
        let sends_type = !contract.template().type_places().is_empty();
        let entry = |entry: &'a crate::contract::CodeEntry| CodeRow {
            code: entry.code().status(),
            text: entry.reason(),
            message: entry.message(),
            kind: entry.kind().or_else(|| sends_type.then(|| entry.type_or_title())),
        };
        let cause = |&cause: &Cause| {
            let code = decide_code(contract, Trigger::Fault(cause));
            let documented = contract.code(code);
            CauseRow {
                cause: cause.name(),
                code,
                message: documented.map_or("", |code| contract.message_for(code, Some(cause))),
                meaning: cause.description(),
                reserved: cause.is_reserved(),
            }
        };
        CodesPage {
            contract: contract.name(),
            media_type: contract.media_type().to_str().unwrap_or_default(),
            example: example(contract),
            codes: contract.codes().iter().map(entry).collect(),
            causes: Cause::ALL.iter().map(cause).collect(),
            upstream_statuses: contract
                .codes()
                .iter()
                .filter_map(|code_entry| upstream_statuses_for(contract, code_entry.code().status()))
                .collect(),
        }
    }

    fn table(&self) -> String {
        let mut out = format!("contract: {}\n\n", self.contract);
        aligned_columns(
            &mut out,
            &["CODE", "TEXT", "TYPE", "MESSAGE"],
            self.codes.iter().map(|row| {
                vec![
                    row.code.to_string(),
                    row.text.into(),
                    row.kind.unwrap_or("-").into(),
                    row.message.into(),
                ]
            }),
        );
        out.push('\n');
        aligned_columns(
            &mut out,
            &["CAUSE", "CODE", "RAISED WHEN"],
            self.causes.iter().map(|row| vec![row.cause.into(), row.code.to_string(), row.raised_when()]),
        );
        out.push('\n');
        aligned_columns(
            &mut out,
            &["CODE", "UPSTREAM STATUS"],
            self.upstream_statuses.iter().map(|row| vec![row.code.to_string(), row.status_list()]),
        );
        out
    }

    fn json(&self) -> String {
        // Strings and numbers only, which always serialise.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    fn markdown(&self) -> String {
        let mut out = format!("# The error codes of the contract `{}`\n\n{INTRODUCTION}\n\n", self.contract);
        let _ = writeln!(out, "```json\n{}\n```\n\n## Codes\n", self.example);
        out.push_str("| code | text | message | type |\n|---|---|---|---|\n");
        for row in &self.codes {
            let kind = row.kind.map(|kind| format!("`{kind}`")).unwrap_or_default();
            let _ = writeln!(
                out,
                "| {} | {} | {} | {kind} |",
                row.code,
                escape_cell(row.text),
                escape_cell(row.message)
            );
        }
        let _ = writeln!(out, "\n## Causes\n\n{CAUSES_INTRODUCTION}\n");
        out.push_str("| cause | code | raised when | message |\n|---|---|---|---|\n");
        for row in &self.causes {
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {} |",
                row.cause,
                row.code,
                escape_cell(&row.raised_when()),
                escape_cell(row.message)
            );
        }
        let _ = writeln!(out, "\n## Errors of the upstream\n\n{UPSTREAM_INTRODUCTION}\n");
        out.push_str("| upstream status | code sent |\n|---|---|\n");
        for row in &self.upstream_statuses {
            let _ = writeln!(out, "| {} | {} |", row.status_list(), row.code);
        }
        out
    }

    fn html(&self) -> String {
        let name = escape_html(self.contract);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>Error codes: {name}</title>\n<style>{STYLESHEET}</style>\n\
             <h1>The error codes of the contract <code>{name}</code></h1>\n<p>{}</p>\n<pre>{}</pre>\n\
             <h2>Codes</h2>\n",
            escape_html(INTRODUCTION),
            escape_literal(&self.example),
        );
        html_table(
            &mut out,
            &["code", "text", "message", "type"],
            self.codes.iter().map(|row| {
                let kind =
                    row.kind.map(|kind| format!("<code>{}</code>", escape_html(kind))).unwrap_or_default();
                vec![row.code.to_string(), escape_html(row.text), escape_html(row.message), kind]
            }),
        );
        let _ = write!(out, "<h2>Causes</h2>\n<p>{}</p>\n", escape_html(CAUSES_INTRODUCTION));
        html_table(
            &mut out,
            &["cause", "code", "raised when", "message"],
            self.causes.iter().map(|row| {
                let cause = format!("<code>{}</code>", row.cause);
                vec![cause, row.code.to_string(), escape_html(&row.raised_when()), escape_html(row.message)]
            }),
        );
        let _ =
            write!(out, "<h2>Errors of the upstream</h2>\n<p>{}</p>\n", escape_html(UPSTREAM_INTRODUCTION));
        html_table(
            &mut out,
            &["upstream status", "code sent"],
            self.upstream_statuses.iter().map(|row| vec![row.status_list(), row.code.to_string()]),
        );
        out.push_str("</html>\n");
        out
    }
}

/// The body for the first code, as the contract's template renders it.
fn example(contract: &Contract) -> String {
    const REQUEST_ID: &str = "0190aaaa-0000-7000-8000-000000000000";
    let first = contract.codes().first();
    first.map_or_else(String::new, |entry| contract.example_body(entry.code(), REQUEST_ID))
}

impl CauseRow<'_> {
    fn raised_when(&self) -> String {
        if self.reserved { format!("Reserved: {}", self.meaning) } else { self.meaning.to_owned() }
    }
}

impl StatusRow {
    fn status_list(&self) -> String {
        self.upstream_status.iter().map(StatusLabel::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// The code that the policy selects without overrides.
fn decide_code(contract: &Contract, trigger: Trigger) -> u16 {
    let input = PolicyInput { trigger, upstream: None, method: &Method::GET, route_response: None };
    decide(contract, &input, &Overrides::default()).code().status()
}

/// The upstream status codes that clients receive as `code`; `None` if there are none.
fn upstream_statuses_for(contract: &Contract, code: u16) -> Option<StatusRow> {
    let named = |status: &u16| LABELLED_STATUSES.contains(status) || contract.code(*status).is_some();
    let maps_to_code = |status: u16| decide_code(contract, Trigger::UpstreamStatus(status)) == code;
    let mut upstream_status: Vec<StatusLabel> =
        (400..600).filter(|status| named(status) && maps_to_code(*status)).map(StatusLabel::Status).collect();
    for (text, mut class) in [("any other 4xx", 400..500), ("any other 5xx", 500..600)] {
        // The policy treats all unlisted status codes of a class alike; a test checks that.
        if class.find(|status| !named(status)).is_some_and(maps_to_code) {
            upstream_status.push(StatusLabel::Other(text));
        }
    }
    (!upstream_status.is_empty()).then_some(StatusRow { code, upstream_status })
}

/// Left-aligned columns; the last is not padded.
fn aligned_columns(out: &mut String, headers: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> =
        std::iter::once(headers.iter().map(ToString::to_string).collect()).chain(rows).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..headers.len()).map(|column| width(column).unwrap_or(0)).collect();
    for row in &rows {
        let padded =
            row.iter().zip(&widths).map(|(text, &width)| format!("{text:<width$}")).collect::<Vec<_>>();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    }
}

fn html_table(out: &mut String, headers: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let headers = headers.iter().map(|header| format!("<th>{header}")).collect::<String>();
    let _ = write!(out, "<div><table>\n<tr>{headers}\n");
    for row in rows {
        let cells = row.iter().map(|cell| format!("<td>{cell}")).collect::<String>();
        let _ = writeln!(out, "<tr>{cells}");
    }
    out.push_str("</table></div>\n");
}

/// Escapes text for HTML.
fn escape_literal(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}

/// Escapes text for HTML; text between backticks becomes `<code>`.
fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut code = false;
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '`' => {
                out.push_str(if code { "</code>" } else { "<code>" });
                code = !code;
            }
            other => out.push(other),
        }
    }
    if code {
        out.push_str("</code>");
    }
    out
}

/// Escapes text for a Markdown table cell.
fn escape_cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

const INTRODUCTION: &str = "Every error response that the gateway makes has one of these codes and a JSON body of this form (gRPC calls get a \
     `grpc-status` instead):";
const CAUSES_INTRODUCTION: &str = "Why the gateway generated an error response, and with which code. Metrics, logs and the overrides in the \
     configuration use the same names. Each cause has a list of preferred codes; the first that the contract documents is \
     sent. Reserved causes are names for later: clients do not get them yet.";
const UPSTREAM_INTRODUCTION: &str = "The status code of the upstream and the code that the client receives, unless an override applies. A code \
     that the contract documents is kept. Of a 4xx a body of the documented form is forwarded; any other body, and by \
     default that of every 5xx, is replaced (`errors.upstream_messages`).";
const STYLESHEET: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}\
     div{overflow-x:auto}table{border-collapse:collapse}th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;\
     border-bottom:1px solid #8885}pre{overflow-x:auto}";

#[cfg(test)]
#[path = "codes_tests.rs"]
mod tests;
