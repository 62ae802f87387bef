//! Checks the section `errors`: the overrides, and the settings of error bodies.
//!
//! An override may apply to routes of several contracts: each of them must document its code.

use std::sync::Arc;

use super::ErrorRules;
use super::contract_problems;
use super::file::errors::{ErrorFormat, ErrorsForm, IncludeWord, OverrideFile, WhenFile};
use super::file::forms::{Either, OneOrMany, Text};
use super::file::syntaxes::ErrorStatus;
use super::problem::{Diagnostic, join_or, quoted};
use super::tree::KeyPath;
use super::validate_contracts::{self, warn_if_reserved};
use super::validator::Validator;
use crate::contract::{Contract, Include, Matcher, Override, conform, types};

/// What a section of `errors` refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorScope<'a> {
    /// The contract of the bodies.
    pub contract: &'a Arc<Contract>,
    /// The contracts of everything that the overrides can apply to, each with the upstream of its route.
    pub targets: &'a [OverrideTarget<'a>],
}

/// A contract that an override can apply to.
#[derive(Clone, Debug)]
pub(crate) struct OverrideTarget<'a> {
    /// The contract.
    pub contract: Arc<Contract>,
    /// The upstream; `None` for requests that reach no route.
    pub upstream: Option<&'a str>,
}

/// One `errors` section, top-level or of a route, with its own overrides.
pub(crate) fn rules(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    form: &ErrorsForm,
    scope: &ErrorScope<'_>,
) -> Option<ErrorRules> {
    // The short form is already resolved.
    let Either::Long(file) = form else { return None };
    let list = at.key("overrides");
    let overrides = file.overrides.iter().enumerate();
    let include = include(&file.include);
    Some(ErrorRules {
        mode: file.mode,
        upstream_messages: file.upstream_messages,
        contract: with_include(validator, at, scope.contract, include),
        include,
        negotiate: match file.format {
            ErrorFormat::Contract => false,
            ErrorFormat::Negotiate => true,
        },
        message_paths: Text::values(&file.message_paths),
        keep_details: file.keep_details.iter().map(|name| name.as_str().into()).collect(),
        upstream_body_limit: usize::try_from(*file.upstream_body.limit).unwrap_or(conform::BODY_LIMIT),
        upstream_body_timeout: *file.upstream_body.timeout,
        retry_after: *file.retry_after,
        overrides: overrides
            .map(|(index, file)| build_override(validator, &list.item(index), file, scope))
            .collect(),
        keep_headers: Text::values(&file.keep_headers),
        route_response: None,
    })
}

/// The contract with the members of `include`, which only a flat body can have.
pub(crate) fn with_include(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    contract: &Arc<Contract>,
    include: Include,
) -> Arc<Contract> {
    if include == Include::default() {
        return Arc::clone(contract);
    }
    if !contract.is_flat() {
        let root = KeyPath::Root;
        let errors = root.key("errors");
        let own = at.key("include");
        let at = if validator.tree.is_written(&own) { own } else { errors.key("include") };
        let message = format!("the bodies of the contract {} are not flat", quoted(contract.name()));
        let help =
            "remove it, and place the members in the template, for example request_id: \"{request_id}\"";
        validator.report_once(&at, Diagnostic::new(message, help));
    }
    Arc::new(contract.with_include(include))
}

fn include(words: &[IncludeWord]) -> Include {
    let mut include = Include::default();
    for word in words {
        match word {
            IncludeWord::Type => include.kind = true,
            IncludeWord::Details => include.details = true,
            IncludeWord::RequestId => include.request_id = true,
            IncludeWord::Cause => include.cause = true,
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
    scope: &ErrorScope<'_>,
) -> Override {
    let message = file.message.as_deref().filter(|text| validator.message(&at.key("message"), text));
    let matcher = build_matcher(validator, &at.key("when"), file.when.as_ref());
    let upstream = matcher.upstream.as_deref();
    let targets: Vec<&Contract> = scope
        .targets
        .iter()
        .filter(|target| upstream.is_none() || target.upstream == upstream)
        .map(|target| &*target.contract)
        .collect();
    check_code(validator, &at.key("code"), file.code, &targets);
    check_type(validator, &at.key("type"), file.kind.as_deref(), &targets);
    let names = file.values.iter().flat_map(|named| &named.0).map(|(name, _)| name.as_str());
    let values = validate_contracts::constants(validator, &at.key("values"), names);
    for (name, value) in &values {
        let section = at.key("values");
        for contract in &targets {
            if let Err(problem) = contract.accepts_value(name, value) {
                let message = format!("{problem} in the contract {}", quoted(contract.name()));
                let help = "declare it in the contract's values, or correct it";
                validator.report_once(&section.key(name), Diagnostic::new(message, help));
            }
        }
    }
    let result = Override {
        matcher,
        code: file.code,
        message: message.map(Arc::from),
        kind: file.kind.as_deref().map(Arc::from),
        values: values.iter().map(|(name, value)| (name.as_str().into(), value.to_json().into())).collect(),
        retry_after: file.retry_after.map(|seconds| *seconds),
    };
    let has_change = ["code", "message", "type", "values", "retry_after"]
        .iter()
        .any(|key| validator.tree.is_written(&at.key(key)));
    if !has_change {
        validator
            .report(at, Diagnostic::new("the override changes nothing", "add code, message or retry_after"));
    }
    result
}

/// Every contract must document the code.
pub(crate) fn check_code(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    code: Option<u16>,
    targets: &[&Contract],
) {
    let Some(code) = code else { return };
    let mut without: Vec<&str> = targets
        .iter()
        .filter(|contract| contract.code(code).is_none())
        .map(|contract| contract.name())
        .collect();
    without.sort_unstable();
    without.dedup();
    let [first, rest @ ..] = without.as_slice() else { return };
    let names = rest.iter().fold(quoted(first), |names, name| format!("{names} and {}", quoted(name)));
    let noun = if rest.is_empty() { "contract" } else { "contracts" };
    let common = |code: &u16| targets.iter().all(|contract| contract.code(*code).is_some());
    let codes: Vec<String> = (400..=599).filter(common).map(|code| code.to_string()).collect();
    let message = format!("{code} is not in the {noun} {names}");
    validator.report(at, Diagnostic::new(message, format!("expected {}", join_or(&codes))));
}

/// Every contract must allow the type.
fn check_type(validator: &mut Validator<'_>, at: &KeyPath<'_>, kind: Option<&str>, targets: &[&Contract]) {
    let Some(kind) = kind else { return };
    let refusing = targets.iter().find(|contract| !contract.allows_declared_type(kind));
    let Some(contract) = refusing else { return };
    let diagnostic = match contract.types() {
        Some(listed) => Diagnostic::new(
            format!("{} is not a type of the contract {}", quoted(kind), quoted(contract.name())),
            contract_problems::listed_type_help(kind, listed),
        ),
        None => Diagnostic::new(
            format!("{} is not a type", quoted(kind)),
            contract_problems::type_help(kind).unwrap_or_else(|| format!("expected {}", types::PATTERN_HELP)),
        ),
    };
    validator.report(at, diagnostic);
}

fn build_matcher(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: Option<&WhenFile>) -> Matcher {
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
    let mut causes = Vec::new();
    let mut upstream_response = false;
    for (index, cause) in file.cause.iter().flat_map(|names| &names.0).enumerate() {
        match cause.0 {
            None => upstream_response = true,
            Some(cause) => {
                warn_if_reserved(validator, &at.key("cause").item(index), cause);
                causes.push(cause);
            }
        }
    }
    let values = |list: &OneOrMany<ErrorStatus>| Text::values(&list.0);
    let upstream_status = file.upstream_status.as_ref().map(values).unwrap_or_default();
    if !causes.is_empty() && !upstream_response && !upstream_status.is_empty() {
        let message = "the override would never apply: an error of the gateway has no upstream status";
        let help = "keep either cause or upstream_status, or use cause: upstream_response";
        validator.report(at, Diagnostic::new(message, help));
    }
    Matcher {
        causes,
        upstream_response,
        upstream_status,
        upstream: file.upstream.as_deref().map(Box::from),
        methods: file.method.as_ref().map(|list| Text::values(&list.0)).unwrap_or_default(),
    }
}
