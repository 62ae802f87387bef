//! Checks the section `errors`: the overrides, and the settings of error bodies.
//!
//! An override may apply to routes of several contracts: each of them must document its code.

use std::sync::Arc;

use super::ErrorSettings;
use super::contract_problems;
use super::file::errors::{ErrorFormat, ErrorsForm, IncludeWord, OverrideFile, WhenFile};
use super::file::forms::{Either, Text};
use super::problem::{Diagnostic, join_or, quoted};
use super::validate_contracts::{self, warn_if_reserved};
use super::validator::Place;
use crate::contract::{Contract, Include, Matcher, Override, conform, types};

/// What a section of `errors` refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorScope<'a> {
    /// The contract of the bodies.
    pub contract: &'a Arc<Contract>,
    /// The contracts of everything that the overrides can apply to, each with the upstream of its route.
    pub targets: &'a [OverrideTarget<'a>],
}

/// A contract that an override can apply to, and the upstream; `None` for requests that reach no route.
pub(crate) type OverrideTarget<'a> = (&'a Contract, Option<&'a str>);

/// One `errors` section, top-level or of a route, with its own overrides.
pub(crate) fn rules(at: &Place<'_>, form: &ErrorsForm, scope: &ErrorScope<'_>) -> Option<ErrorSettings> {
    // The short form is already resolved.
    let Either::Long(file) = form else { return None };
    let overrides = at.key("overrides");
    let include = include(&file.include);
    Some(ErrorSettings {
        mode: file.mode,
        upstream_messages: file.upstream_messages,
        contract: with_include(at, scope.contract, include),
        include,
        negotiate: file.format == ErrorFormat::Negotiate,
        message_paths: Text::values(&file.message_paths),
        keep_details: Text::values(&file.keep_details),
        upstream_body_limit: usize::try_from(*file.upstream_body.limit).unwrap_or(conform::BODY_LIMIT),
        upstream_body_timeout: *file.upstream_body.timeout,
        retry_after: *file.retry_after,
        overrides: overrides
            .items(&file.overrides)
            .map(|(item, file)| build_override(&item, file, scope))
            .collect(),
        keep_headers: Text::values(&file.keep_headers),
        route_response: None,
    })
}

/// The contract with the members of `include`, which only a flat body can have.
pub(crate) fn with_include(at: &Place<'_>, contract: &Arc<Contract>, include: Include) -> Arc<Contract> {
    if include == Include::default() {
        return Arc::clone(contract);
    }
    if !contract.is_flat() {
        let own = at.key("include");
        let inherited = at.validator.root().key("errors").key("include");
        let message = format!("the bodies of the contract {} are not flat", quoted(contract.name()));
        let help =
            "remove it, and place the members in the template, for example request_id: \"{request_id}\"";
        if own.is_written() { own } else { inherited }.report_once(message, help);
    }
    Arc::new(contract.with_include(include))
}

fn include(words: &[IncludeWord]) -> Include {
    let has = |word| words.contains(&word);
    Include {
        kind: has(IncludeWord::Type),
        details: has(IncludeWord::Details),
        request_id: has(IncludeWord::RequestId),
        cause: has(IncludeWord::Cause),
        retryable: has(IncludeWord::Retryable),
        request_sent: has(IncludeWord::RequestSent),
    }
}

fn build_override(at: &Place<'_>, file: &OverrideFile, scope: &ErrorScope<'_>) -> Override {
    let message = file.message.as_deref().filter(|text| at.key("message").message(text));
    let matcher = build_matcher(&at.key("when"), file.when.as_ref());
    let upstream = matcher.upstream.as_deref();
    let targets = scope.targets.iter().filter(|(_, of)| upstream.is_none() || *of == upstream);
    let targets: Vec<&Contract> = targets.map(|(contract, _)| *contract).collect();
    check_code(&at.key("code"), file.code, &targets);
    check_type(&at.key("type"), file.kind.as_deref(), &targets);
    let section = at.key("values");
    let values = validate_contracts::constants(&section, file.values.as_ref());
    for (name, value) in &values {
        for contract in &targets {
            if let Err(problem) = contract.accepts_value(name, value) {
                let message = format!("{problem} in the contract {}", quoted(contract.name()));
                let help = "declare it in the contract's values, or correct it";
                section.key(name).report_once(message, help);
            }
        }
    }
    let has_change = ["code", "message", "type", "values", "retry_after"];
    if !has_change.iter().any(|key| at.key(key).is_written()) {
        at.report("the override changes nothing", "add code, message or retry_after");
    }
    Override {
        matcher,
        code: file.code,
        message: message.map(Arc::from),
        kind: file.kind.as_deref().map(Arc::from),
        values: values.iter().map(|(name, value)| (name.as_str().into(), value.to_json().into())).collect(),
        retry_after: file.retry_after.map(|seconds| *seconds),
    }
}

/// Every contract must document the code.
pub(crate) fn check_code(at: &Place<'_>, code: Option<u16>, targets: &[&Contract]) {
    let Some(code) = code else { return };
    let lacking = targets.iter().filter(|contract| contract.code(code).is_none());
    let mut without: Vec<&str> = lacking.map(|contract| contract.name()).collect();
    without.sort_unstable();
    without.dedup();
    let [first, rest @ ..] = without.as_slice() else { return };
    let names = rest.iter().fold(quoted(first), |names, name| format!("{names} and {}", quoted(name)));
    let noun = if rest.is_empty() { "contract" } else { "contracts" };
    let common = |code: &u16| targets.iter().all(|contract| contract.code(*code).is_some());
    let codes: Vec<String> = (400..=599).filter(common).map(|code| code.to_string()).collect();
    at.report(format!("{code} is not in the {noun} {names}"), format!("expected {}", join_or(&codes)));
}

/// Every contract must allow the type.
fn check_type(at: &Place<'_>, kind: Option<&str>, targets: &[&Contract]) {
    let Some(kind) = kind else { return };
    let refusing = targets.iter().find(|contract| !contract.allows_declared_type(kind));
    let Some(contract) = refusing else { return };
    at.diagnose(match contract.types() {
        Some(listed) => Diagnostic::of(
            kind,
            format!("is not a type of the contract {}", quoted(contract.name())),
            contract_problems::listed_type_help(kind, listed),
        ),
        None => Diagnostic::of(
            kind,
            "is not a type",
            contract_problems::type_help(kind).unwrap_or_else(|| format!("expected {}", types::PATTERN_HELP)),
        ),
    });
}

fn build_matcher(at: &Place<'_>, file: Option<&WhenFile>) -> Matcher {
    let Some(file) = file else { return Matcher::default() };
    let conditions = ["cause", "upstream_status", "upstream", "method"];
    if !conditions.iter().any(|key| at.key(key).is_written()) && !at.any_invalid() {
        at.report(
            "the override would apply to every error",
            "add cause, upstream_status, upstream or method",
        );
    }
    let mut causes = Vec::new();
    let mut upstream_response = false;
    for (item, cause) in at.key("cause").items(file.cause.iter().flat_map(|names| &names.0)) {
        match cause.0 {
            None => upstream_response = true,
            Some(cause) => {
                warn_if_reserved(&item, cause);
                causes.push(cause);
            }
        }
    }
    let upstream_status = file.upstream_status.as_ref().map(|list| Text::values(&list.0)).unwrap_or_default();
    if !causes.is_empty() && !upstream_response && !upstream_status.is_empty() {
        let message = "the override would never apply: an error of the gateway has no upstream status";
        at.report(message, "keep either cause or upstream_status, or use cause: upstream_response");
    }
    Matcher {
        causes,
        upstream_response,
        upstream_status,
        upstream: file.upstream.as_deref().map(Box::from),
        methods: file.method.as_ref().map(|list| Text::values(&list.0)).unwrap_or_default(),
    }
}
