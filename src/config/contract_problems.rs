//! Reports the problems of a declared contract at their places, with a help that fits the file.

use super::file::contract::{CodeFile, ContractFile};
use super::problem::{Diagnostic, closest_match, join_or, quoted};
use super::template_help;
use super::tree::KeyPath;
use super::validator::Validator;
use crate::contract::path::Step;
use crate::contract::{ContractProblem, Owner, TemplateProblem, ValueType, text, types};

/// Reports a problem of the contract at the value that causes it.
pub(crate) fn report(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &ContractFile,
    problem: &ContractProblem,
) {
    let text = problem.to_string();
    let (message, usual_help) = text.split_once("; ").unwrap_or((&text, ""));
    let help = help(file, problem).unwrap_or_else(|| usual_help.to_owned());
    let diagnostic = Diagnostic::new(message, help);
    let list = at.key("codes");
    let causes = at.key("causes");
    // If a code is declared twice, the row that matches the problem is reported.
    let row = |status: u16, matches: &dyn Fn(&CodeFile) -> bool| {
        let mut rows = file.codes.iter().flatten().enumerate();
        rows.find(|(_, row)| row.code == status && matches(row)).map_or(0, |(index, _)| index)
    };
    let mut report_row = |index: usize, key: &str, diagnostic: Diagnostic| {
        validator.report(&list.item(index).key(key), diagnostic);
    };
    match problem {
        ContractProblem::Template(problem) => {
            report_template(validator, &at.key("body"), &problem.place, (file, problem));
        }
        ContractProblem::BadMediaType => validator.report(&at.key("media_type"), diagnostic),
        ContractProblem::NotAnErrorCode { status } => report_row(row(*status, &|_| true), "code", diagnostic),
        ContractProblem::DuplicateCode { status } => {
            let rows = file.codes.iter().flatten().enumerate();
            let last = rows.filter(|(_, row)| row.code == *status).last();
            let last = last.map_or(0, |(index, _)| index);
            report_row(last, "code", Diagnostic::new(message, "remove one of them"));
        }
        ContractProblem::BadReason { status } => {
            report_row(row(*status, &|row| row.text.is_some()), "text", diagnostic)
        }
        ContractProblem::BadMessage { status, .. } => {
            let bad =
                |row: &CodeFile| row.message.as_deref().is_some_and(|message| !text::is_allowed(message));
            report_row(row(*status, &bad), "message", diagnostic);
        }
        ContractProblem::BadType { owner: Owner::Code(status), kind }
        | ContractProblem::UnlistedType { owner: Owner::Code(status), kind } => {
            report_row(row(*status, &|row| row.kind.as_ref() == Some(kind)), "type", diagnostic);
        }
        ContractProblem::MissingType { status, .. } => {
            validator.report(&list.item(row(*status, &|row| row.kind.is_none())), diagnostic);
        }
        ContractProblem::NoTypes => validator.report(&at.key("types"), diagnostic),
        ContractProblem::BadListedType { kind } => {
            let index = file.types.iter().flatten().position(|listed| listed == kind).unwrap_or(0);
            validator.report(&at.key("types").item(index), diagnostic);
        }
        ContractProblem::DuplicateCause { cause } | ContractProblem::BadCauseMessage { cause, .. } => {
            validator.report(&causes.key(cause.name()).key("message"), diagnostic);
        }
        ContractProblem::UndocumentedCauseCode { cause, .. } => {
            validator.report(&causes.key(cause.name()).key("code"), diagnostic);
        }
        ContractProblem::BadType { owner: Owner::Cause(cause), .. }
        | ContractProblem::UnlistedType { owner: Owner::Cause(cause), .. } => {
            validator.report(&causes.key(cause.name()).key("type"), diagnostic);
        }
        ContractProblem::BadStatusRow { status, .. } => {
            validator.report(&at.key("statuses").key(&status.to_string()), diagnostic);
        }
        ContractProblem::BadValueName { name, .. } => {
            validator.report_name(&at.key("values").key(name), diagnostic);
        }
        ContractProblem::UndeclaredValue { owner, name } | ContractProblem::BadValue { owner, name, .. } => {
            let is_of_name = matches!(problem, ContractProblem::UndeclaredValue { .. });
            let mut report_value = |values: &KeyPath<'_>| {
                let at = values.key(name);
                if is_of_name {
                    validator.report_name(&at, diagnostic.clone());
                } else {
                    validator.report(&at, diagnostic.clone());
                }
            };
            match owner {
                Owner::Code(status) => {
                    let has_value = |row: &CodeFile| {
                        row.values.iter().flat_map(|named| &named.0).any(|(known, _)| known == name)
                    };
                    report_value(&list.item(row(*status, &has_value)).key("values"));
                }
                Owner::Cause(cause) => report_value(&causes.key(cause.name()).key("values")),
            }
        }
        ContractProblem::MissingTarget { status, .. } => {
            validator.report(&list, Diagnostic::new(text.clone(), format!("declare the code {status}")));
        }
    }
}

/// A help that names what this contract has; `None` where that of the problem itself is enough.
fn help(file: &ContractFile, problem: &ContractProblem) -> Option<String> {
    match problem {
        ContractProblem::UnlistedType { kind, .. } => Some(listed_type_help(kind, file.types.as_deref()?)),
        ContractProblem::BadType { kind, .. } | ContractProblem::BadListedType { kind } => type_help(kind),
        ContractProblem::UndocumentedCauseCode { status, .. }
        | ContractProblem::BadStatusRow { target: status, documented: false, .. } => {
            Some(format!("expected {}; or add {status} to the codes", join_or(&codes_of(file))))
        }
        ContractProblem::BadValueName { name, reserved: false } => {
            let rule = "use a letter, then up to 63 of A-Z, a-z, 0-9 and _";
            Some(
                name_near(name, "_")
                    .map_or_else(|| rule.to_owned(), |near| format!("{rule}, for example {near}")),
            )
        }
        ContractProblem::UndeclaredValue { name, .. } => {
            let declared: Vec<&str> =
                file.values.iter().flat_map(|named| &named.0).map(|(name, _)| name.as_str()).collect();
            let near = closest_match(name, declared.iter().copied())?;
            Some(format!("did you mean {}?", quoted(near)))
        }
        ContractProblem::BadValue { expected, .. } => {
            Some(value_help(ValueType::from_name(expected)?).to_owned())
        }
        ContractProblem::Template(_)
        | ContractProblem::BadMediaType
        | ContractProblem::NotAnErrorCode { .. }
        | ContractProblem::DuplicateCode { .. }
        | ContractProblem::BadReason { .. }
        | ContractProblem::BadMessage { .. }
        | ContractProblem::MissingType { .. }
        | ContractProblem::NoTypes
        | ContractProblem::DuplicateCause { .. }
        | ContractProblem::BadCauseMessage { .. }
        | ContractProblem::BadStatusRow { documented: true, .. }
        | ContractProblem::BadValueName { reserved: true, .. }
        | ContractProblem::MissingTarget { .. } => None,
    }
}

/// The help for a type that is not on the closed list.
pub(crate) fn listed_type_help(kind: &str, listed: &[String]) -> String {
    match closest_match(kind, listed.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None => format!("expected {}; or add it to the contract's types", join_or(listed)),
    }
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

fn codes_of(file: &ContractFile) -> Vec<String> {
    file.codes.iter().flatten().map(|row| row.code.to_string()).collect()
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
fn report_template(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    place: &[Step],
    (file, problem): (&ContractFile, &TemplateProblem),
) {
    match place.split_first() {
        Some((Step::Member(name), rest)) => {
            report_template(validator, &at.key(name), rest, (file, problem));
        }
        Some((Step::Item(index), rest)) => {
            report_template(validator, &at.item(*index), rest, (file, problem));
        }
        None => {
            let message = if problem.place.is_empty() {
                format!("the body {}", problem.message)
            } else {
                problem.message.clone()
            };
            if problem.at_name {
                validator.report_name(at, Diagnostic::new(message, problem.help.clone()));
                return;
            }
            let declared = file.values.iter().flat_map(|named| &named.0).map(|(name, _)| name.as_str());
            let written = validator.tree.node(at).and_then(|node| node.text());
            let corrected = written.and_then(|text| template_help::corrected(text, declared));
            let help =
                corrected.map_or_else(|| problem.help.clone(), |text| format!("write {}", quoted(&text)));
            validator.report(at, Diagnostic::new(message, help));
        }
    }
}
