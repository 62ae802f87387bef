//! Reports the problems of a declared contract at their places, with a help that fits the file.

use super::file::contract::{CodeFile, ContractFile};
use super::problem::{Diagnostic, join_or, quoted, suggestion};
use super::template_help;
use super::tree::Node;
use super::validator::Place;
use crate::contract::path::Step;
use crate::contract::{Cause, ContractProblem, Owner, TemplateProblem, ValueType, text, types};

/// Reports a problem of the contract at the value that causes it.
pub(crate) fn report(at: &Place<'_>, file: &ContractFile, problem: &ContractProblem) {
    let (codes, causes) = (at.key("codes"), at.key("causes"));
    let rows = || file.codes.iter().flatten();
    // If a code is declared twice, the row that matches the problem is reported.
    let row = |status: u16, matches: &dyn Fn(&CodeFile) -> bool| {
        codes.item(rows().position(|row| row.code == status && matches(row)).unwrap_or(0))
    };
    let cause_key = |cause: Cause, key: &str| causes.key(cause.name()).key(key);
    let place = match problem {
        ContractProblem::Template(problem) => return report_template(at, file, problem),
        ContractProblem::MissingTarget { .. } => codes.clone(),
        ContractProblem::BadMediaType => at.key("media_type"),
        ContractProblem::NotAnErrorCode(status) => row(*status, &|_| true).key("code"),
        ContractProblem::DuplicateCode(status) => {
            let last = rows().enumerate().filter(|(_, row)| row.code == *status).last();
            codes.item(last.map_or(0, |(index, _)| index)).key("code")
        }
        ContractProblem::BadReason(status) => row(*status, &|row| row.text.is_some()).key("text"),
        ContractProblem::BadMessage { status, .. } => {
            let is_bad = |message: &String| !text::is_allowed(message);
            row(*status, &|row| row.message.as_ref().is_some_and(is_bad)).key("message")
        }
        ContractProblem::BadType { owner, kind } | ContractProblem::UnlistedType { owner, kind } => {
            match owner {
                Owner::Code(status) => row(*status, &|row| row.kind.as_ref() == Some(kind)).key("type"),
                Owner::Cause(cause) => cause_key(*cause, "type"),
            }
        }
        ContractProblem::MissingType { status, .. } => row(*status, &|row| row.kind.is_none()),
        ContractProblem::NoTypes => at.key("types"),
        ContractProblem::BadListedType(kind) => {
            let index = file.types.iter().flatten().position(|listed| listed == kind);
            at.key("types").item(index.unwrap_or(0))
        }
        ContractProblem::DuplicateCause(cause) | ContractProblem::BadCauseMessage { cause, .. } => {
            cause_key(*cause, "message")
        }
        ContractProblem::UndocumentedCauseCode { cause, .. } => cause_key(*cause, "code"),
        ContractProblem::DocumentedStatusRow(status)
        | ContractProblem::UndocumentedStatusRow { status, .. } => {
            at.key("statuses").key(&status.to_string())
        }
        ContractProblem::ReservedValueName(name) | ContractProblem::BadValueName(name) => {
            at.key("values").key(name)
        }
        ContractProblem::UndeclaredValue { owner, name } | ContractProblem::BadValue { owner, name, .. } => {
            let has_value =
                |row: &CodeFile| row.values.iter().flat_map(|named| &named.0).any(|(known, _)| known == name);
            match owner {
                Owner::Code(status) => row(*status, &has_value).key("values").key(name),
                Owner::Cause(cause) => cause_key(*cause, "values").key(name),
            }
        }
    };
    let text = problem.to_string();
    let (message, usual_help) = text.split_once("; ").unwrap_or((&text, ""));
    let help = help(file, problem).unwrap_or_else(|| usual_help.to_owned());
    if matches!(problem, ContractProblem::MissingTarget { .. }) {
        // The message itself has semicolons.
        place.report(text, help);
    } else if matches!(
        problem,
        ContractProblem::ReservedValueName(_)
            | ContractProblem::BadValueName(_)
            | ContractProblem::UndeclaredValue { .. }
    ) {
        place.diagnose_name(Diagnostic::new(message, help));
    } else {
        place.report(message, help);
    }
}

/// The keys of a contract without whose problems this one might not exist.
pub(crate) fn depends_on(problem: &ContractProblem) -> &'static [&'static str] {
    match problem {
        ContractProblem::MissingTarget { .. } => &["codes", "causes", "statuses"],
        ContractProblem::UndocumentedCauseCode { .. } | ContractProblem::UndocumentedStatusRow { .. } => {
            &["codes"]
        }
        ContractProblem::MissingType { .. } => &["codes", "types"],
        ContractProblem::UnlistedType { .. } | ContractProblem::NoTypes => &["types"],
        ContractProblem::UndeclaredValue { .. } | ContractProblem::BadValue { .. } => &["values"],
        ContractProblem::Template(_) => &["body", "values"],
        ContractProblem::BadMediaType
        | ContractProblem::NotAnErrorCode(_)
        | ContractProblem::DuplicateCode(_)
        | ContractProblem::BadReason(_)
        | ContractProblem::BadMessage { .. }
        | ContractProblem::BadType { .. }
        | ContractProblem::BadListedType(_)
        | ContractProblem::DuplicateCause(_)
        | ContractProblem::BadCauseMessage { .. }
        | ContractProblem::DocumentedStatusRow(_)
        | ContractProblem::ReservedValueName(_)
        | ContractProblem::BadValueName(_) => &[],
    }
}

/// A help that names what this contract has; `None` where that of the problem itself is enough.
fn help(file: &ContractFile, problem: &ContractProblem) -> Option<String> {
    match problem {
        ContractProblem::UnlistedType { kind, .. } => Some(listed_type_help(kind, file.types.as_deref()?)),
        ContractProblem::BadType { kind, .. } | ContractProblem::BadListedType(kind) => type_help(kind),
        ContractProblem::UndocumentedCauseCode { status, .. }
        | ContractProblem::UndocumentedStatusRow { target: status, .. } => {
            let codes: Vec<String> = file.codes.iter().flatten().map(|row| row.code.to_string()).collect();
            Some(format!("expected {}; or add {status} to the codes", join_or(&codes)))
        }
        ContractProblem::BadValueName(name) => {
            let rule = "use a letter, then up to 63 of A-Z, a-z, 0-9 and _";
            let example = name_near(name, "_").map(|near| format!(", for example {near}"));
            Some(format!("{rule}{}", example.unwrap_or_default()))
        }
        ContractProblem::UndeclaredValue { name, .. } => {
            suggestion(name, file.values.iter().flat_map(|named| &named.0).map(|(name, _)| name.as_str()))
        }
        ContractProblem::BadValue { expected, .. } => {
            Some(value_help(ValueType::from_name(expected)?).to_owned())
        }
        ContractProblem::DuplicateCode(_) => Some("remove one of them".to_owned()),
        ContractProblem::MissingTarget { status, .. } => Some(format!("declare the code {status}")),
        ContractProblem::Template(_)
        | ContractProblem::BadMediaType
        | ContractProblem::NotAnErrorCode(_)
        | ContractProblem::BadReason(_)
        | ContractProblem::BadMessage { .. }
        | ContractProblem::MissingType { .. }
        | ContractProblem::NoTypes
        | ContractProblem::DuplicateCause(_)
        | ContractProblem::BadCauseMessage { .. }
        | ContractProblem::DocumentedStatusRow(_)
        | ContractProblem::ReservedValueName(_) => None,
    }
}

/// The help for a type that is not on the closed list.
pub(crate) fn listed_type_help(kind: &str, listed: &[String]) -> String {
    suggestion(kind, listed.iter().map(String::as_str))
        .unwrap_or_else(|| format!("expected {}; or add it to the contract's types", join_or(listed)))
}

/// The help for a text that cannot be a type; `None` where no type is close to it.
pub(crate) fn type_help(kind: &str) -> Option<String> {
    // Not of a URI, which may have a password.
    let near = if kind.contains([':', '@']) { None } else { name_near(kind, "_.-") };
    near.map(|near| format!("expected {}, for example {near}", types::PATTERN_HELP))
}

/// The text with `_` for what a name cannot have. `marks` are allowed beside letters and digits, but not first.
fn name_near(text: &str, marks: &str) -> Option<String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || marks.contains(letter);
    let from = text.trim_start_matches(|letter: char| !letter.is_ascii_alphabetic());
    let near: String = from.chars().map(|letter| if allowed(letter) { letter } else { '_' }).collect();
    let near = near.trim_end_matches('_');
    (1..=64).contains(&near.len()).then(|| near.to_owned())
}

const fn value_help(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::String => "expected a text without markup, for example \"none\"",
        ValueType::Integer => "expected an integer, for example 1",
        ValueType::Boolean => "expected true or false",
        ValueType::Object => "expected an object whose texts have no markup, for example { reason: none }",
        ValueType::List => "expected a list whose texts have no markup, for example [none]",
        ValueType::Any => "expected texts without markup",
    }
}

/// Reports a problem of a template at its place.
fn report_template(at: &Place<'_>, file: &ContractFile, problem: &TemplateProblem) {
    let place = problem.place.iter().fold(at.key("body"), |at, step| match step {
        Step::Member(name) => at.key(name),
        Step::Item(index) => at.item(*index),
    });
    let whole = if problem.place.is_empty() { "the body " } else { "" };
    let message = format!("{whole}{}", problem.message);
    if problem.at_name {
        place.diagnose_name(Diagnostic::new(message, &*problem.help));
        return;
    }
    let declared = file.values.iter().flat_map(|named| &named.0).map(|(name, _)| name.as_str());
    let written = place.node().and_then(Node::text);
    let corrected = written.and_then(|text| template_help::corrected(text, declared));
    place.report(message, corrected.map_or(problem.help.clone(), |text| format!("write {}", quoted(&text))));
}
