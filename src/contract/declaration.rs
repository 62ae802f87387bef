//! An unvalidated contract as declared in the configuration.
//!
//! [`problems`](super::declaration_check::problems) has the checks. The validated form is
//! [`Contract`](super::code::Contract).

use std::fmt;

use super::causes::Cause;
use super::template::presets::Preset;
use super::template::{DeclaredValue, TemplateProblem, TemplateSource};
use super::text::TextProblem;
use super::types::PATTERN_HELP;

/// A contract as declared, not yet validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declaration {
    /// The contract's name in pages and logs.
    pub name: String,
    /// The form of a body.
    pub body: BodyForm,
    /// The media type of a body; by default the preset's, or `application/json`.
    pub media_type: Option<String>,
    /// The codes, in any order.
    pub codes: Vec<CodeDeclaration>,
    /// What is declared for single causes.
    pub causes: Vec<(Cause, CauseDeclaration)>,
    /// The codes that replace single statuses of the upstream which are not documented.
    pub statuses: Vec<(u16, u16)>,
    /// The closed list of `type` values; `None` allows every value that matches the pattern.
    pub types: Option<Vec<String>>,
    /// The declared placeholders.
    pub values: Vec<DeclaredValue>,
    /// Upstream header fields that are kept on replaced 4xx, in lower case; a final `*` stands for any rest.
    pub keep_headers: Vec<String>,
}

/// The form of an error body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyForm {
    /// A built-in form.
    Preset(Preset),
    /// `flat`, and a body of the upstream may have the members `type` and `version`.
    Appwrite,
    /// A template.
    Template(TemplateSource),
}

impl Default for BodyForm {
    fn default() -> Self {
        BodyForm::Preset(Preset::Flat)
    }
}

/// Constants of declared values, by name.
pub type Constants = Vec<(String, TemplateSource)>;

/// One code as declared, not yet validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeDeclaration {
    /// The HTTP status code: 400-599, never 408.
    pub status: u16,
    /// The reason phrase, which is also the title.
    pub reason: String,
    /// The default client message.
    pub message: String,
    /// The `type` of local replies with this code.
    pub kind: Option<String>,
    /// The declared values of local replies with this code.
    pub values: Constants,
}

/// What is declared for a cause, not yet validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CauseDeclaration {
    /// The code that is sent instead of the first documented one of the preference list.
    pub code: Option<u16>,
    /// The client message.
    pub message: Option<String>,
    /// The `type`.
    pub kind: Option<String>,
    /// The declared values.
    pub values: Constants,
}

/// What a problem belongs to: a code or a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The code with this status.
    Code(u16),
    /// The cause.
    Cause(Cause),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Code(status) => write!(f, "code {status}"),
            Owner::Cause(cause) => write!(f, "cause {cause}"),
        }
    }
}

/// A problem of a declared contract. Its `Display` is a message for the operator, without the location in the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContractProblem {
    /// The template of the body.
    #[error("{0}; {help}", help = .0.help)]
    Template(TemplateProblem),
    /// The media type is not one of JSON.
    #[error("the media type is not one of JSON; write application/json, or another one that ends in +json")]
    BadMediaType,
    /// A code outside 400-599, or 408.
    #[error("code {0} {reason}", reason = if *.0 == 408 { RETRIED } else { "is not an error; expected 400 to 599" })]
    NotAnErrorCode(u16),
    /// A code declared twice.
    #[error("code {0} is declared twice")]
    DuplicateCode(u16),
    /// The reason phrase of a code is not valid in a status line.
    #[error("the reason phrase of code {0} is invalid; expected 1 to 64 printable ASCII characters")]
    BadReason(u16),
    /// The message of a code is not allowed.
    #[error("the message of code {status} {problem}")]
    BadMessage {
        /// The code it belongs to.
        status: u16,
        /// Why the message is not allowed.
        problem: TextProblem,
    },
    /// The `type` of a code or cause does not match the pattern.
    #[error("the type {kind:?} of {owner} is invalid; expected {PATTERN_HELP}")]
    BadType {
        /// What it belongs to.
        owner: Owner,
        /// The value.
        kind: String,
    },
    /// The `type` of a code or cause is not in the closed list.
    #[error("the type {kind:?} of {owner} is not in the contract's list of types")]
    UnlistedType {
        /// What it belongs to.
        owner: Owner,
        /// The value.
        kind: String,
    },
    /// A code without a `type`, although the list of types is closed.
    #[error("code {status} has no type, but the list of types is closed; add type: {example}")]
    MissingType {
        /// The code.
        status: u16,
        /// The first type of the list, or an example.
        example: String,
    },
    /// The closed list of types is empty.
    #[error("the list of types is empty; list the types, or remove it to allow every type")]
    NoTypes,
    /// A value of the closed list does not match the pattern.
    #[error("{0:?} in the list of types is invalid; expected {PATTERN_HELP}")]
    BadListedType(String),
    /// A cause declared twice.
    #[error("cause {0} is declared twice")]
    DuplicateCause(Cause),
    /// The message of a cause is not allowed.
    #[error("the message of cause {cause} {problem}")]
    BadCauseMessage {
        /// The cause it belongs to.
        cause: Cause,
        /// Why the message is not allowed.
        problem: TextProblem,
    },
    /// The code of a cause is not documented.
    #[error("the code {status} of cause {cause} is not documented; add it to the codes, or use one of them")]
    UndocumentedCauseCode {
        /// The cause.
        cause: Cause,
        /// Its code.
        status: u16,
    },
    /// A status of the upstream that is documented, so it is never replaced.
    #[error("the upstream's {0} is documented, so it is sent as it is; remove this row or the code {0}")]
    DocumentedStatusRow(u16),
    /// The replacement of a status of the upstream is not documented.
    #[error("the code {target} is not documented; add it to the codes, or use one of them")]
    UndocumentedStatusRow {
        /// The status of the upstream.
        status: u16,
        /// What replaces it.
        target: u16,
    },
    /// Every template has a placeholder of this name.
    #[error("{{{0}}} is a placeholder of every template; choose another name")]
    ReservedValueName(String),
    /// The name of a declared value cannot be a placeholder.
    #[error("{0:?} cannot be a placeholder; use a letter, then up to 63 of A-Z, a-z, 0-9 and _")]
    BadValueName(String),
    /// A constant of a value that is not declared.
    #[error(
        "the value {name:?} of {owner} is not declared; add it to the contract's values: {{ {name}: string }}"
    )]
    UndeclaredValue {
        /// What it belongs to.
        owner: Owner,
        /// The name.
        name: String,
    },
    /// A constant does not have the declared type, or has a text that may not be sent.
    #[error("the value {name:?} of {owner} does not fit; expected type {expected}, and texts without markup")]
    BadValue {
        /// What it belongs to.
        owner: Owner,
        /// The name.
        name: String,
        /// The declared type.
        expected: &'static str,
    },
    /// A code that the default tables map to is missing.
    #[error("code {status} is missing: no other code is documented for{}", needed_for(.causes, .upstream_statuses))]
    MissingTarget {
        /// The missing code.
        status: u16,
        /// The causes that map to it.
        causes: Vec<Cause>,
        /// The undocumented upstream statuses that map to it, in ascending order.
        upstream_statuses: Vec<u16>,
    },
}

impl ContractProblem {
    /// The problem of a contract without any code for this cause.
    pub(super) fn missing_for(cause: Cause) -> Self {
        let status = cause.preferences().last().copied().unwrap_or_default();
        ContractProblem::MissingTarget { status, causes: vec![cause], upstream_statuses: Vec::new() }
    }
}

/// Why 408 is no code of a contract.
const RETRIED: &str = "cannot be documented: clients retry it automatically, even with POST; use 504 or 400";

/// ` causes a, b; upstream statuses 402, 405-407`. `statuses` is in ascending order; adjacent statuses become a range.
fn needed_for(causes: &[Cause], statuses: &[u16]) -> String {
    let causes: Vec<&str> = causes.iter().map(|cause| cause.name()).collect();
    let range = |range: &[u16]| match range {
        [first, .., last] => format!("{first}-{last}"),
        [..] => range.iter().map(u16::to_string).collect(),
    };
    let ranges: Vec<String> = statuses.chunk_by(|a, b| a + 1 == *b).map(range).collect();
    let lists = [(" causes ", causes.join(", ")), (" upstream statuses ", ranges.join(", "))];
    let lists = lists.iter().filter(|(_, list)| !list.is_empty());
    lists.map(|(title, list)| format!("{title}{list}")).collect::<Vec<_>>().join(";")
}
