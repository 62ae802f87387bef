//! The documented page as data: the contracts that ship with the product, and the text of each cause answered with 400.
//!
//! Only tables. They pass through [`Contract::declare`](super::code::Contract::declare) like an operator's own, so a bad
//! row here fails a test and not a request. Nothing of a request, an error value or a host ever enters these texts.

use super::code::{CodeDeclaration, Declaration};
use super::fault::Cause;

/// The names that [`Contract::builtin`](super::code::Contract::builtin) knows, the default first.
pub const NAMES: &[&str] = &["appwrite", "appwrite-current"];

/// The contract of a configuration that names none.
pub const DEFAULT: &str = "appwrite";

/// The declaration of a built-in contract, or `None` for a name that is not in [`NAMES`].
pub fn declaration(name: &str) -> Option<Declaration> {
    let rows: Vec<&Row> = match name {
        "appwrite" => PAGE.iter().collect(),
        "appwrite-current" => PAGE.iter().chain(ADDED_SINCE).collect(),
        _ => return None,
    };
    Some(Declaration {
        name: name.to_owned(),
        codes: rows.into_iter().map(Row::declaration).collect(),
        causes: CAUSE_TEXTS.iter().map(|&(cause, text)| (cause, text.to_owned())).collect(),
        types: None,
    })
}

struct Row {
    status: u16,
    reason: &'static str,
    message: &'static str,
    kind: &'static str,
}

impl Row {
    fn declaration(&self) -> CodeDeclaration {
        CodeDeclaration {
            status: self.status,
            reason: self.reason.to_owned(),
            message: self.message.to_owned(),
            kind: Some(self.kind.to_owned()),
        }
    }
}

const fn row(status: u16, reason: &'static str, message: &'static str, kind: &'static str) -> Row {
    Row { status, reason, message, kind }
}

/// The codes of the page that the product makes true.
const PAGE: &[Row] = &[
    row(
        400,
        "Bad Request",
        "The request was invalid or cannot be otherwise served.",
        "general_argument_invalid",
    ),
    row(401, "Unauthorized", "Missing or incorrect authentication credentials.", "general_unauthorized"),
    row(
        403,
        "Forbidden",
        "The request is understood, but it has been refused, or access is not allowed.",
        "general_access_forbidden",
    ),
    row(
        404,
        "Not Found",
        "The URI requested is invalid or the resource requested does not exist.",
        "general_route_not_found",
    ),
    row(409, "Conflict", "The request conflicts with the current state of the server.", "general_conflict"),
    row(429, "Too Many Requests", "Too many requests", "general_rate_limit_exceeded"),
    row(500, "Internal Server Error", "Something is broken.", "general_unknown"),
    row(
        503,
        "Service Unavailable",
        "The servers are up but overloaded with requests. Try again later.",
        "general_service_overloaded",
    ),
    row(
        504,
        "Gateway Timeout",
        "The servers are up, but the request could not be serviced due to some failure within the stack. Try again later.",
        "general_gateway_timeout",
    ),
];

/// The errors that today's page adds. They are only reached by an upstream that answers them, or by an override.
const ADDED_SINCE: &[Row] = &[
    row(
        413,
        "Content Too Large",
        "The content of the request is larger than the server accepts.",
        "general_content_too_large",
    ),
    row(
        416,
        "Range Not Satisfiable",
        "The range requested lies outside of the resource.",
        "general_range_not_satisfiable",
    ),
    row(501, "Not Implemented", "The server does not support this feature.", "general_feature_unsupported"),
];

/// "An accompanying error message will explain further": what each cause answered with 400 tells the client.
const CAUSE_TEXTS: &[(Cause, &str)] = &[
    (Cause::HttpRequestError, "The request is not a valid HTTP request."),
    (Cause::MalformedRequestLine, "The request line is malformed."),
    (Cause::MalformedHeader, "A header field of the request is malformed."),
    (Cause::AmbiguousFraming, "The length of the request body is not stated clearly."),
    (Cause::InvalidHost, "The Host of the request is missing, repeated or malformed."),
    (Cause::AmbiguousPath, "The path of the request is malformed or ambiguous."),
    (Cause::UnsupportedVersion, "The HTTP version of the request is not supported."),
    (Cause::UnsupportedMethod, "The method of the request is not supported."),
    (Cause::UnsupportedExpectation, "The expectation of the request cannot be met."),
    (Cause::MalformedBody, "The request body is malformed or incomplete."),
    (Cause::HeaderTooLarge, "The header fields of the request are too large."),
    (Cause::UriTooLong, "The URI of the request is too long."),
    (Cause::BodyTooLarge, "The request body is too large."),
    (Cause::ClientTooSlow, "The request was not received in time."),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::contract::{Contract, policy};

    #[test]
    fn every_built_in_name_gives_a_valid_contract_of_that_name() {
        for name in NAMES {
            assert_eq!(Contract::builtin(name).unwrap().name(), *name);
        }
        assert!(Contract::builtin("Appwrite").is_none());
        assert!(Contract::builtin("").is_none());
    }

    #[test]
    fn the_two_pages_have_these_codes_and_no_other() {
        let codes = |name| -> Vec<u16> {
            Contract::builtin(name).unwrap().codes().iter().map(|entry| entry.code().status()).collect()
        };
        assert_eq!(codes("appwrite"), [400, 401, 403, 404, 409, 429, 500, 503, 504]);
        assert_eq!(codes("appwrite-current"), [400, 401, 403, 404, 409, 413, 416, 429, 500, 501, 503, 504]);
    }

    #[test]
    fn every_cause_answered_with_400_has_a_text_of_its_own_and_no_other_cause_has() {
        let contract = Contract::builtin("appwrite").unwrap();
        let general = contract.code(400).unwrap();
        let mut seen = std::collections::HashSet::new();
        for &cause in Cause::ALL {
            let code = contract.code(policy::default_status(cause)).unwrap();
            let own = contract.message_for(code, Some(cause));
            if code == general {
                assert_ne!(own, contract.entry(general).message(), "{cause}");
                assert!(seen.insert(own), "{cause} repeats a text");
            } else {
                assert_eq!(own, contract.entry(code).message(), "{cause}");
            }
        }
    }
}
