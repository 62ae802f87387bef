//! Validates `respond` of a route: an error code of its contract, or a fixed response below 400.

use std::sync::Arc;

use super::RouteAction;
use super::file::actions::RespondFile;
use super::problem::Diagnostic;
use super::tree::KeyPath;
use super::validate_errors;
use super::validator::Validator;
use crate::contract::{Contract, DocumentedCode, FixedResponse};

/// What a route with this section does.
pub(crate) fn action(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &RespondFile) -> RouteAction {
    if validator.tree.is_written(&at.key("code")) {
        for other in ["status", "body", "media_type"] {
            if validator.tree.is_written(&at.key(other)) {
                let message =
                    format!("the contract defines the response with this code: {other} would never apply");
                validator
                    .report(&at.key(other), Diagnostic::new(message, format!("remove {other}, or code")));
            }
        }
        return RouteAction::RespondWithError;
    }
    fixed_response(validator, at, file)
        .map_or(RouteAction::RespondWithError, |response| RouteAction::Respond(Arc::new(response)))
}

/// The error code of a route, which its contract must document.
pub(crate) fn error_code(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: Option<&RespondFile>,
    contract: &Contract,
) -> Option<DocumentedCode> {
    let code = *file?.code?;
    validate_errors::check_code(validator, &at.key("code"), Some(code), &[contract]);
    contract.code(code)
}

fn fixed_response(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &RespondFile,
) -> Option<FixedResponse> {
    let Some(status) = file.status.as_deref().copied() else {
        if !validator.tree.is_written(&at.key("status")) {
            let help = "write code: 404 for an error of the contract, or status: 200 for a fixed response";
            validator.report(at, Diagnostic::new("code and status are missing", help));
        }
        return None;
    };
    let response = FixedResponse::empty(status);
    if !status.allows_body() {
        for key in ["body", "media_type"] {
            if validator.tree.is_written(&at.key(key)) {
                let message = format!("a response with {} has no body", status.code());
                validator.report(
                    &at.key(key),
                    Diagnostic::new(message, format!("remove {key}, or write status: 200")),
                );
            }
        }
        return Some(response);
    }
    match (&file.body, &file.media_type) {
        (None, None) => Some(response),
        (Some(body), Some(media_type)) => Some(response.with_body(body.clone(), (**media_type).clone())),
        (Some(_), None) => {
            let help = "write the media type of body, for example media_type: text/plain";
            validator.missing(&at.key("media_type"), help);
            None
        }
        (None, Some(_)) => {
            validator.missing(&at.key("body"), "write the body, or remove media_type");
            None
        }
    }
}
