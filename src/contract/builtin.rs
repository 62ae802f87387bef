//! The built-in contracts as data: documented codes, without the causes, which are in [`super::causes`].
//!
//! [`Contract::declare`](super::code::Contract::declare) validates these tables like an operator's contract, so an
//! invalid row fails a test. The messages are constants: they never contain request data, error values or host names.

use super::causes::Cause;
use super::declaration::{BodyForm, CauseDeclaration, CodeDeclaration, Declaration};
use super::template::presets::Preset;

/// The names that [`Contract::builtin`](super::code::Contract::builtin) accepts, the default first.
pub(crate) const CONTRACT_NAMES: &[&str] = &["appwrite", "appwrite-current", "problem"];

/// The contract used when the configuration names none.
pub(crate) const DEFAULT_CONTRACT: &str = "appwrite";

/// Returns the declaration of a built-in contract, or `None` if `name` is not in [`CONTRACT_NAMES`].
pub(crate) fn declaration(name: &str) -> Option<Declaration> {
    let added: &[BuiltinCode] = match name {
        "appwrite" => &[],
        "appwrite-current" => CODES_ADDED_LATER,
        "problem" => return Some(problem_declaration()),
        _ => return None,
    };
    let code = |(status, kind, message): &BuiltinCode| {
        let registered = registered_codes().find(|code| code.status == *status)?;
        Some(CodeDeclaration { kind: Some((*kind).to_owned()), message: (*message).to_owned(), ..registered })
    };
    let cause = |cause: &Cause| {
        let message = cause.builtin_message()?.to_owned();
        Some((*cause, CauseDeclaration { message: Some(message), ..CauseDeclaration::default() }))
    };
    Some(Declaration {
        name: name.to_owned(),
        body: BodyForm::Appwrite,
        codes: DOCUMENTED_CODES.iter().chain(added).filter_map(code).collect(),
        causes: Cause::ALL.iter().filter_map(cause).collect(),
        keep_headers: vec!["x-appwrite-*".to_owned()],
        ..Declaration::default()
    })
}

/// Every registered error code except 408, each with its phrase as the message, as problem documents (RFC 9457).
fn problem_declaration() -> Declaration {
    Declaration {
        name: "problem".to_owned(),
        body: BodyForm::Preset(Preset::Problem),
        codes: registered_codes().collect(),
        ..Declaration::default()
    }
}

/// Each registered code, with its phrase as the message.
fn registered_codes() -> impl Iterator<Item = CodeDeclaration> {
    REGISTERED_CODES.iter().map(|(status, phrase)| CodeDeclaration {
        status: *status,
        reason: (*phrase).to_owned(),
        message: (*phrase).to_owned(),
        ..CodeDeclaration::default()
    })
}

/// The codes of the IANA registry with the phrases of RFC 9110.
const REGISTERED_CODES: &[(u16, &str)] = &[
    (400, "Bad Request"),
    (401, "Unauthorized"),
    (402, "Payment Required"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (406, "Not Acceptable"),
    (407, "Proxy Authentication Required"),
    (409, "Conflict"),
    (410, "Gone"),
    (411, "Length Required"),
    (412, "Precondition Failed"),
    (413, "Content Too Large"),
    (414, "URI Too Long"),
    (415, "Unsupported Media Type"),
    (416, "Range Not Satisfiable"),
    (417, "Expectation Failed"),
    (421, "Misdirected Request"),
    (422, "Unprocessable Content"),
    (423, "Locked"),
    (424, "Failed Dependency"),
    (425, "Too Early"),
    (426, "Upgrade Required"),
    (428, "Precondition Required"),
    (429, "Too Many Requests"),
    (431, "Request Header Fields Too Large"),
    (451, "Unavailable For Legal Reasons"),
    (500, "Internal Server Error"),
    (501, "Not Implemented"),
    (502, "Bad Gateway"),
    (503, "Service Unavailable"),
    (504, "Gateway Timeout"),
    (505, "HTTP Version Not Supported"),
    (506, "Variant Also Negotiates"),
    (507, "Insufficient Storage"),
    (508, "Loop Detected"),
    (511, "Network Authentication Required"),
];

/// A registered code, its type and its message.
type BuiltinCode = (u16, &'static str, &'static str);

/// The codes of the documented page that the `appwrite` contract implements.
const DOCUMENTED_CODES: &[BuiltinCode] = &[
    (400, "general_argument_invalid", "The request was invalid or cannot be otherwise served."),
    (401, "general_unauthorized", "Missing or incorrect authentication credentials."),
    (
        403,
        "general_access_forbidden",
        "The request is understood, but it has been refused, or access is not allowed.",
    ),
    (
        404,
        "general_route_not_found",
        "The URI requested is invalid or the resource requested does not exist.",
    ),
    (409, "general_conflict", "The request conflicts with the current state of the server."),
    (429, "general_rate_limit_exceeded", "Too many requests"),
    (500, "general_unknown", "Something is broken."),
    (503, "general_service_overloaded", "The servers are up but overloaded with requests. Try again later."),
    (
        504,
        "general_gateway_timeout",
        "The servers are up, but the request could not be serviced due to some failure within the stack. Try again later.",
    ),
];

/// The codes that the current page adds.
const CODES_ADDED_LATER: &[BuiltinCode] = &[
    (413, "general_content_too_large", "The content of the request is larger than the server accepts."),
    (416, "general_range_not_satisfiable", "The range requested lies outside of the resource."),
    (501, "general_feature_unsupported", "The server does not support this feature."),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::contract::Contract;

    #[test]
    fn builtin_contracts_are_valid_and_keep_their_name() {
        for name in CONTRACT_NAMES {
            assert_eq!(Contract::builtin(name).unwrap().name(), *name);
        }
        assert!(Contract::builtin("Appwrite").is_none());
        assert!(Contract::builtin("").is_none());
    }

    #[test]
    fn builtin_contracts_have_the_documented_codes() {
        let codes = |name| -> Vec<u16> {
            Contract::builtin(name).unwrap().codes().iter().map(|entry| entry.code().status()).collect()
        };
        assert_eq!(codes("appwrite"), [400, 401, 403, 404, 409, 429, 500, 503, 504]);
        assert_eq!(codes("appwrite-current"), [400, 401, 403, 404, 409, 413, 416, 429, 500, 501, 503, 504]);
    }

    #[test]
    fn only_causes_mapped_to_400_have_their_own_message() {
        let contract = Contract::builtin("appwrite").unwrap();
        let bad_request = contract.code(400).unwrap();
        let mut seen = std::collections::HashSet::new();
        for &cause in Cause::ALL {
            let code = contract.code_for_cause(cause);
            let cause_message = contract.message_for(code, Some(cause));
            if code == bad_request {
                assert_ne!(cause_message, contract.entry(bad_request).message(), "{cause}");
                assert!(seen.insert(cause_message), "{cause} repeats a text");
            } else {
                assert_eq!(cause_message, contract.entry(code).message(), "{cause}");
            }
        }
    }
}
