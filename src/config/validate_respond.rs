//! Validates `respond` of a route: an error code of its contract, or a fixed response below 400.

use std::sync::Arc;

use super::RouteAction;
use super::file::actions::RespondFile;
use super::validate_errors;
use super::validator::Place;
use crate::contract::{Contract, DocumentedCode, FixedResponse};

/// What a route with this section does.
pub(crate) fn action(at: &Place<'_>, file: &RespondFile) -> RouteAction {
    if at.key("code").is_written() {
        for other in ["status", "body", "media_type"] {
            let message =
                format!("the contract defines the response with this code: {other} would never apply");
            at.key(other).pointless(message, format!("remove {other}, or code"));
        }
        return RouteAction::RespondWithError;
    }
    fixed_response(at, file)
        .map_or(RouteAction::RespondWithError, |response| RouteAction::Respond(Arc::new(response)))
}

/// The error code of a route, which its contract must document; `None` for a contract with problems.
pub(crate) fn error_code(
    at: &Place<'_>,
    file: Option<&RespondFile>,
    contract: Option<&Contract>,
) -> Option<DocumentedCode> {
    let (code, contract) = (*file?.code?, contract?);
    validate_errors::check_code(&at.key("code"), Some(code), &[contract]);
    contract.code(code)
}

fn fixed_response(at: &Place<'_>, file: &RespondFile) -> Option<FixedResponse> {
    let Some(status) = file.status.as_deref().copied() else {
        if !at.key("status").is_written() {
            let help = "write code: 404 for an error of the contract, or status: 200 for a fixed response";
            at.report("code and status are missing", help);
        }
        return None;
    };
    let response = FixedResponse::empty(status);
    if !status.allows_body() {
        for key in ["body", "media_type"] {
            let message = format!("a response with {} has no body", status.code());
            at.key(key).pointless(message, format!("remove {key}, or write status: 200"));
        }
        return Some(response);
    }
    match (&file.body, &file.media_type) {
        (None, None) => Some(response),
        (Some(body), Some(media_type)) => Some(response.with_body(body.clone(), (**media_type).clone())),
        (Some(_), None) => {
            let help = "write the media type of body, for example media_type: text/plain";
            at.key("media_type").missing(help);
            None
        }
        (None, Some(_)) => {
            at.key("body").missing("write the body, or remove media_type");
            None
        }
    }
}
