//! The checks of a declared contract: [`problems`] returns everything that is wrong with it.

use std::collections::BTreeMap;

use super::causes::{Cause, preferences_for_upstream};
use super::declaration::{BodyForm, Constants, ContractProblem, Declaration, Owner};
use super::json;
use super::template::conform::{FreeBounds, has_type};
use super::template::presets::{Preset, UpstreamMembers};
use super::template::{DeclaredValue, Template, TemplateSource};
use super::{body, text, types};

/// Returns all problems of a declaration: body, types, codes, causes, statuses, then missing targets.
pub(super) fn problems(declaration: &Declaration) -> Vec<ContractProblem> {
    let mut problems = Vec::new();
    if let Err(found) = template(declaration) {
        problems.extend(found.into_iter().map(ContractProblem::Template));
    }
    if declaration.media_type.as_deref().is_some_and(|media_type| !is_json_media_type(media_type)) {
        problems.push(ContractProblem::BadMediaType);
    }
    check_values(&declaration.values, &mut problems);
    check_types(declaration, &mut problems);
    check_codes(declaration, &mut problems);
    check_causes(declaration, &mut problems);
    check_statuses(declaration, &mut problems);
    check_targets(declaration, &mut problems);
    problems
}

/// The template of a declaration.
///
/// # Errors
/// What is wrong with it.
pub(super) fn template(declaration: &Declaration) -> Result<Template, Vec<super::template::TemplateProblem>> {
    match &declaration.body {
        BodyForm::Preset(preset) => Ok(preset.template()),
        BodyForm::Appwrite => Ok(Template::flat(body::Include::default(), UpstreamMembers::Accepted)),
        BodyForm::Template(source) => Template::parse(source, declaration.values.clone()),
    }
}

/// The media type of a declaration's bodies.
pub(super) fn media_type(declaration: &Declaration) -> &str {
    declaration.media_type.as_deref().unwrap_or(match &declaration.body {
        BodyForm::Preset(preset) => preset.media_type(),
        BodyForm::Appwrite | BodyForm::Template(_) => Preset::Flat.media_type(),
    })
}

fn is_json_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some((main, sub)) = essence.split_once('/') else { return false };
    let is_token = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    is_token(main)
        && is_token(sub)
        && (sub == "json" || sub.ends_with("+json"))
        && text.bytes().all(|octet| (0x20..0x7f).contains(&octet))
}

fn check_values(values: &[DeclaredValue], problems: &mut Vec<ContractProblem>) {
    for DeclaredValue { name, .. } in values {
        let valid = name.len() <= 64
            && name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
            && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
        if Template::is_reserved(name) {
            problems.push(ContractProblem::ReservedValueName(name.clone()));
        } else if !valid {
            problems.push(ContractProblem::BadValueName(name.clone()));
        }
    }
}

fn check_types(declaration: &Declaration, problems: &mut Vec<ContractProblem>) {
    if declaration.types.as_ref().is_some_and(Vec::is_empty) {
        problems.push(ContractProblem::NoTypes);
    }
    let listed = declaration.types.iter().flatten();
    problems.extend(
        listed
            .filter(|kind| !types::is_declarable(kind))
            .map(|kind| ContractProblem::BadListedType(kind.clone())),
    );
}

/// The closed list. An empty one is a problem of its own, not one of every type.
fn closed_types(declaration: &Declaration) -> Option<&[String]> {
    declaration.types.as_deref().filter(|listed| !listed.is_empty())
}

fn check_type(declaration: &Declaration, owner: Owner, kind: &str, problems: &mut Vec<ContractProblem>) {
    if !types::is_declarable(kind) {
        problems.push(ContractProblem::BadType { owner, kind: kind.to_owned() });
    } else if closed_types(declaration).is_some_and(|listed| !listed.iter().any(|known| known == kind)) {
        problems.push(ContractProblem::UnlistedType { owner, kind: kind.to_owned() });
    }
}

fn check_constants(
    declaration: &Declaration,
    owner: Owner,
    constants: &Constants,
    problems: &mut Vec<ContractProblem>,
) {
    for (name, value) in constants {
        let Some(declared) = declaration.values.iter().find(|declared| declared.name == *name) else {
            problems.push(ContractProblem::UndeclaredValue { owner, name: name.clone() });
            continue;
        };
        if !constant_fits(declared, value) {
            let expected = declared.value_type.name();
            problems.push(ContractProblem::BadValue { owner, name: name.clone(), expected });
        }
    }
}

/// Whether a constant has the declared type, and texts that may be sent.
pub(super) fn constant_fits(declared: &DeclaredValue, value: &TemplateSource) -> bool {
    json::read(&value.to_json())
        .is_ok_and(|value| has_type(&value, declared.value_type) && FreeBounds::default().accepts(&value))
}

fn check_codes(declaration: &Declaration, problems: &mut Vec<ContractProblem>) {
    for (index, code) in declaration.codes.iter().enumerate() {
        let status = code.status;
        if !(400..=599).contains(&status) || status == 408 {
            problems.push(ContractProblem::NotAnErrorCode(status));
        }
        if declaration.codes.iter().take(index).any(|earlier| earlier.status == status) {
            problems.push(ContractProblem::DuplicateCode(status));
        }
        if !is_valid_reason(&code.reason) {
            problems.push(ContractProblem::BadReason(status));
        }
        if let Some(problem) = text::problem(&code.message) {
            problems.push(ContractProblem::BadMessage { status, problem });
        }
        match (&code.kind, closed_types(declaration)) {
            (Some(kind), _) => check_type(declaration, Owner::Code(status), kind, problems),
            (None, Some(listed)) => problems.push(ContractProblem::MissingType {
                status,
                example: listed.first().cloned().unwrap_or_else(|| types::from_title(&code.reason)),
            }),
            (None, None) => {}
        }
        check_constants(declaration, Owner::Code(status), &code.values, problems);
    }
}

fn check_causes(declaration: &Declaration, problems: &mut Vec<ContractProblem>) {
    for (index, (cause, row)) in declaration.causes.iter().enumerate() {
        let cause = *cause;
        if declaration.causes.iter().take(index).any(|(earlier, _)| *earlier == cause) {
            problems.push(ContractProblem::DuplicateCause(cause));
        }
        if let Some(problem) = row.message.as_deref().and_then(text::problem) {
            problems.push(ContractProblem::BadCauseMessage { cause, problem });
        }
        if let Some(status) = row.code.filter(|status| !is_documented(declaration, *status)) {
            problems.push(ContractProblem::UndocumentedCauseCode { cause, status });
        }
        if let Some(kind) = &row.kind {
            check_type(declaration, Owner::Cause(cause), kind, problems);
        }
        check_constants(declaration, Owner::Cause(cause), &row.values, problems);
    }
}

fn check_statuses(declaration: &Declaration, problems: &mut Vec<ContractProblem>) {
    for (status, target) in &declaration.statuses {
        let (status, target) = (*status, *target);
        if is_documented(declaration, status) {
            problems.push(ContractProblem::DocumentedStatusRow(status));
        } else if !is_documented(declaration, target) {
            problems.push(ContractProblem::UndocumentedStatusRow { status, target });
        }
    }
}

fn is_documented(declaration: &Declaration, status: u16) -> bool {
    declaration.codes.iter().any(|code| code.status == status)
}

/// Adds one problem for each code that must be added because a preference list ends in it and none of the list is
/// documented, with all causes and statuses that need it.
fn check_targets(declaration: &Declaration, problems: &mut Vec<ContractProblem>) {
    let missing_target = |preferences: &[u16]| match preferences {
        [.., last] if !preferences.iter().any(|status| is_documented(declaration, *status)) => Some(*last),
        _ => None,
    };
    let has_own_code =
        |cause: Cause| declaration.causes.iter().any(|(known, row)| *known == cause && row.code.is_some());
    let has_row = |status: u16| declaration.statuses.iter().any(|(known, _)| *known == status);
    let mut missing: BTreeMap<u16, (Vec<Cause>, Vec<u16>)> = BTreeMap::new();
    for &cause in Cause::ALL.iter().filter(|cause| !has_own_code(**cause)) {
        if let Some(target) = missing_target(cause.preferences()) {
            missing.entry(target).or_default().0.push(cause);
        }
    }
    for status in (400..=599).filter(|&status| !is_documented(declaration, status) && !has_row(status)) {
        if let Some(target) = missing_target(preferences_for_upstream(status)) {
            missing.entry(target).or_default().1.push(status);
        }
    }
    problems.extend(missing.into_iter().map(|(status, (causes, upstream_statuses))| {
        ContractProblem::MissingTarget { status, causes, upstream_statuses }
    }));
}

fn is_valid_reason(reason: &str) -> bool {
    (1..=64).contains(&reason.len())
        && reason.bytes().all(|b| (0x20..0x7f).contains(&b))
        && text::passes_rule(reason)
}
