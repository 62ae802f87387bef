//! Checks the sections `contract` and `errors`: the codes, the overrides, and the settings of error bodies.
//!
//! [`Contract::declare`] checks that a contract is complete; its problems get their locations here.

use std::sync::Arc;

use super::ErrorRules;
use super::deserialize::did_you_mean;
use super::file::errors::{
    CodeFile, ContractFile, ContractForm, ErrorFormat, ErrorsForm, IncludeWord, OverrideFile,
    UpstreamMessagesWord, WhenFile,
};
use super::file::forms::{Either, StringOrList};
use super::problem::{Diagnostic, closest_match, quoted};
use super::tree::KeyPath;
use super::units::is_digits;
use super::units::method;
use super::validator::Validator;
use crate::contract::policy::UPSTREAM_RESPONSE;
use crate::contract::{
    Cause, CodeDeclaration, Contract, ContractProblem, Declaration, DocumentedCode, Include, Matcher,
    Override, UpstreamMessages, builtin, conform, text,
};
use crate::http::reason_phrase::reason_phrase;

/// The contract, or `None` if it has problems, which are recorded.
pub(crate) fn contract(validator: &mut Validator<'_>, form: Option<&ContractForm>) -> Option<Contract> {
    let root = KeyPath::Root;
    let at = root.key("contract");
    match form {
        None if validator.tree.any_invalid(&at) => None,
        None => Contract::builtin("appwrite"),
        Some(Either::Short(name)) => {
            let contract = Contract::builtin(name);
            if contract.is_none() {
                let message = format!("unknown built-in contract {}", quoted(name));
                validator.report(&at, Diagnostic::new(message, did_you_mean(name, builtin::CONTRACT_NAMES)));
            }
            contract
        }
        Some(Either::Long(file)) => declare_contract(validator, &at, file),
    }
}

fn declare_contract(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &ContractFile,
) -> Option<Contract> {
    let problem_count = validator.problems.len();
    let list = at.key("codes");
    let mut codes = Vec::new();
    for (index, file) in file.codes.iter().flatten().enumerate() {
        let item = list.item(index);
        let status = file.code;
        let registered = status.and_then(reason_phrase);
        let reason = file.text.as_deref().or(registered);
        if let (Some(status), None) = (status, reason) {
            validator.missing(
                &item.key("text"),
                format!("write a reason phrase, because {status} has no registered one"),
            );
        }
        let (Some(status), Some(reason), Some(message)) = (status, reason, &file.message) else { continue };
        let (reason, message) = (reason.to_owned(), message.clone());
        codes.push(CodeDeclaration { status, reason, message, kind: file.kind.clone() });
    }
    if file.codes.as_ref().is_some_and(Vec::is_empty) && !validator.tree.any_invalid(&list) {
        validator.report(
            &list,
            Diagnostic::new("no codes are declared", "list the codes that clients may receive"),
        );
    }
    let causes = causes(validator, &at.key("causes"), file);
    // An incomplete contract would cause follow-up problems.
    if validator.problems.len() > problem_count || validator.tree.any_invalid(at) {
        return None;
    }
    let declaration = Declaration { name: "custom".to_owned(), codes, causes, types: file.types.clone() };
    match Contract::declare(declaration) {
        Ok(contract) => Some(contract),
        Err(problems) => {
            problems.iter().for_each(|problem| report_contract_problem(validator, at, file, problem));
            None
        }
    }
}

fn causes(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &ContractFile) -> Vec<(Cause, String)> {
    let mut causes = Vec::new();
    for (name, file) in file.causes.iter().flat_map(|named| &named.0) {
        let at = at.key(name);
        let cause = validator.check(&at, parse_cause(name));
        warn_if_reserved(validator, &at, cause);
        causes.extend(cause.zip(file.message.clone()));
    }
    causes
}

/// Reports a problem of the contract at the value that causes it.
fn report_contract_problem(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &ContractFile,
    problem: &ContractProblem,
) {
    let text = problem.to_string();
    let (message, help) = text.split_once("; ").unwrap_or((&text, ""));
    let diagnostic = Diagnostic::new(message, help);
    let list = at.key("codes");
    // If a code is declared twice, the row that matches the problem is reported.
    let row = |status: u16, matches: &dyn Fn(&CodeFile) -> bool| {
        let mut rows = file.codes.iter().flatten().enumerate();
        rows.find(|(_, row)| row.code == Some(status) && matches(row)).map_or(0, |(index, _)| index)
    };
    let mut report_row = |index: usize, key: &str, diagnostic: Diagnostic| {
        validator.report(&list.item(index).key(key), diagnostic);
    };
    match problem {
        ContractProblem::NotAnErrorCode { status } => report_row(row(*status, &|_| true), "code", diagnostic),
        ContractProblem::DuplicateCode { status } => {
            let rows = file.codes.iter().flatten().enumerate();
            let last = rows.filter(|(_, row)| row.code == Some(*status)).last();
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
        ContractProblem::BadType { status, kind } => {
            report_row(row(*status, &|row| row.kind.as_ref() == Some(kind)), "type", diagnostic);
        }
        ContractProblem::UnlistedType { status, kind } => {
            let diagnostic = Diagnostic::new(message, "add it to contract.types");
            report_row(row(*status, &|row| row.kind.as_ref() == Some(kind)), "type", diagnostic);
        }
        ContractProblem::BadListedType { kind } => {
            let index = file.types.iter().flatten().position(|listed| listed == kind).unwrap_or(0);
            validator.report(&at.key("types").item(index), diagnostic);
        }
        ContractProblem::DuplicateCause { cause } | ContractProblem::BadCauseMessage { cause, .. } => {
            validator.report(&at.key("causes").key(cause.name()).key("message"), diagnostic);
        }
        ContractProblem::MissingTarget { status, .. } => {
            validator.report(&list, Diagnostic::new(text.clone(), format!("declare the code {status}")));
        }
    }
}

/// One `errors` section, top-level or of a route, with its own overrides. `upstreams` are the names that overrides may
/// refer to.
pub(crate) fn rules(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    form: &ErrorsForm,
    contract: Option<&Contract>,
    upstreams: &[&str],
) -> Option<ErrorRules> {
    // The short form is already resolved.
    let Either::Long(file) = form else { return None };
    match file.format {
        ErrorFormat::Contract => {}
    }
    let list = at.key("overrides");
    let overrides = file.overrides.iter().enumerate();
    Some(ErrorRules {
        mode: file.mode,
        upstream_messages: match file.upstream_messages {
            UpstreamMessagesWord::ClientErrors => UpstreamMessages::ClientErrors,
            UpstreamMessagesWord::All => UpstreamMessages::All,
            UpstreamMessagesWord::None => UpstreamMessages::None,
        },
        include: include(&file.include),
        upstream_body_limit: usize::try_from(*file.upstream_body.limit).unwrap_or(conform::BODY_LIMIT),
        upstream_body_timeout: *file.upstream_body.timeout,
        retry_after: *file.retry_after,
        overrides: overrides
            .map(|(index, file)| build_override(validator, &list.item(index), file, contract, upstreams))
            .collect(),
        keep_headers: file.keep_headers.iter().map(|name| name.0.clone()).collect(),
    })
}

fn include(words: &[IncludeWord]) -> Include {
    let mut include = Include::default();
    for word in words {
        match word {
            IncludeWord::Type => include.kind = true,
            IncludeWord::RequestId => include.request_id = true,
            IncludeWord::Retryable => include.retryable = true,
            IncludeWord::RequestSent => include.request_sent = true,
        }
    }
    include
}

fn build_override(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &OverrideFile,
    contract: Option<&Contract>,
    upstreams: &[&str],
) -> Override {
    let message = file.message.as_deref().filter(|text| validator.message(&at.key("message"), text));
    let result = Override {
        matcher: build_matcher(validator, &at.key("when"), file.when.as_ref(), upstreams),
        code: override_code(validator, &at.key("code"), file.code, contract),
        message: message.map(Arc::from),
        retry_after: file.retry_after.map(|seconds| *seconds),
    };
    let has_change =
        ["code", "message", "retry_after"].iter().any(|key| validator.tree.is_written(&at.key(key)));
    if !has_change {
        validator
            .report(at, Diagnostic::new("the override changes nothing", "add code, message or retry_after"));
    }
    result
}

fn override_code(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    code: Option<u16>,
    contract: Option<&Contract>,
) -> Option<DocumentedCode> {
    let (code, contract) = (code?, contract?);
    let documented = contract.code(code);
    if documented.is_none() {
        let codes: Vec<String> =
            contract.codes().iter().map(|entry| entry.code().status().to_string()).collect();
        let message = format!("{code} is not in the contract {}", quoted(contract.name()));
        validator
            .report(at, Diagnostic::new(message, format!("expected {}", super::problem::join_or(&codes))));
    }
    documented
}

fn build_matcher(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: Option<&WhenFile>,
    upstreams: &[&str],
) -> Matcher {
    let Some(file) = file else { return Matcher::default() };
    let condition_keys = ["cause", "upstream_status", "upstream", "method"];
    if !condition_keys.iter().any(|key| validator.tree.is_written(&at.key(key)))
        && !validator.tree.any_invalid(at)
    {
        validator.report(
            at,
            Diagnostic::new(
                "the override would apply to every error",
                "add cause, upstream_status, upstream or method",
            ),
        );
    }
    let words = |words: &Option<StringOrList>| words.as_ref().map(|words| words.0.clone());
    let mut causes = Vec::new();
    let mut upstream_response = false;
    for (index, name) in words(&file.cause).into_iter().flatten().enumerate() {
        if name == UPSTREAM_RESPONSE {
            upstream_response = true;
        } else {
            let list = at.key("cause");
            let item = list.item(index);
            let cause = validator.check(&item, parse_cause(&name));
            warn_if_reserved(validator, &item, cause);
            causes.extend(cause);
        }
    }
    let upstream_status =
        validator.list(&at.key("upstream_status"), words(&file.upstream_status).as_ref(), parse_status);
    if !causes.is_empty() && !upstream_response && !upstream_status.is_empty() {
        let message = "the override would never apply: an error of the gateway has no upstream status";
        validator.report(
            at,
            Diagnostic::new(message, "keep either cause or upstream_status, or use cause: upstream_response"),
        );
    }
    if let Some(name) = &file.upstream {
        let root = KeyPath::Root;
        let section = root.key("upstreams");
        if !validator.tree.is_written(&section.key(name)) {
            validator.report(&at.key("upstream"), unknown_upstream(name, upstreams));
        }
    }
    let methods = validator.list(&at.key("method"), words(&file.method).as_ref(), method);
    Matcher {
        causes,
        upstream_response,
        upstream_status,
        upstream: file.upstream.as_deref().map(Box::from),
        methods,
    }
}

/// The diagnostic for an unknown upstream.
pub(crate) fn unknown_upstream(name: &str, upstreams: &[&str]) -> Diagnostic {
    let message = format!("unknown upstream {}", quoted(name));
    match closest_match(name, upstreams.iter().copied()) {
        Some(near) => Diagnostic::new(message, format!("did you mean {}?", quoted(near))),
        None if upstreams.is_empty() => Diagnostic::new(
            message,
            format!("add it: upstreams: {{ {name}: {{ servers: [\"127.0.0.1:8000\"] }} }}"),
        ),
        None => Diagnostic::new(message, format!("expected {}", super::problem::join_or(upstreams))),
    }
}

fn warn_if_reserved(validator: &mut Validator<'_>, at: &KeyPath<'_>, cause: Option<Cause>) {
    if let Some(cause) = cause.filter(|cause| cause.is_reserved()) {
        let message = format!("the cause {} is reserved for a later version: it never occurs", cause.name());
        validator.warn(at, Diagnostic::new(message, "remove it"));
    }
}

fn parse_cause(name: &str) -> Result<Cause, Diagnostic> {
    Cause::from_name(name).ok_or_else(|| {
        let known = Cause::ALL.iter().map(|cause| cause.name()).chain([UPSTREAM_RESPONSE]);
        let help = match closest_match(name, known) {
            Some(near) => format!("did you mean {}?", quoted(near)),
            None => "expected the name of a cause, for example connection_refused".to_owned(),
        };
        Diagnostic::new(format!("unknown cause {}", quoted(name)), help)
    })
}

fn parse_status(text: &str) -> Result<u16, Diagnostic> {
    let number = if is_digits(text) { text.parse().ok() } else { None };
    number.filter(|status| (400..=599).contains(status)).ok_or_else(|| {
        Diagnostic::new(format!("{} is not an error status code", quoted(text)), "expected 400 to 599")
    })
}
