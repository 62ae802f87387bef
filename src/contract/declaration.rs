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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContractProblem {
    /// The template of the body.
    Template(TemplateProblem),
    /// The media type is not one of JSON.
    BadMediaType,
    /// A code outside 400-599, or 408.
    NotAnErrorCode {
        /// The status declared.
        status: u16,
    },
    /// A code declared twice.
    DuplicateCode {
        /// The status declared.
        status: u16,
    },
    /// A reason phrase that is not valid in a status line.
    BadReason {
        /// The code it belongs to.
        status: u16,
    },
    /// The message of a code is not allowed.
    BadMessage {
        /// The code it belongs to.
        status: u16,
        /// Why the message is not allowed.
        problem: TextProblem,
    },
    /// The `type` of a code or cause does not match the pattern.
    BadType {
        /// What it belongs to.
        owner: Owner,
        /// The value.
        kind: String,
    },
    /// The `type` of a code or cause is not in the closed list.
    UnlistedType {
        /// What it belongs to.
        owner: Owner,
        /// The value.
        kind: String,
    },
    /// A code without a `type`, although the list of types is closed.
    MissingType {
        /// The code.
        status: u16,
        /// The first type of the list, or an example.
        example: String,
    },
    /// The closed list of types is empty.
    NoTypes,
    /// A value of the closed list does not match the pattern.
    BadListedType {
        /// The value.
        kind: String,
    },
    /// A cause declared twice.
    DuplicateCause {
        /// The cause.
        cause: Cause,
    },
    /// The message of a cause is not allowed.
    BadCauseMessage {
        /// The cause it belongs to.
        cause: Cause,
        /// Why the message is not allowed.
        problem: TextProblem,
    },
    /// The code of a cause is not documented.
    UndocumentedCauseCode {
        /// The cause.
        cause: Cause,
        /// Its code.
        status: u16,
    },
    /// The replacement of an upstream's status is not documented, or the status is documented itself.
    BadStatusRow {
        /// The status of the upstream.
        status: u16,
        /// What replaces it.
        target: u16,
        /// The status is documented, so it is never replaced.
        documented: bool,
    },
    /// The name of a declared value cannot be a placeholder.
    BadValueName {
        /// The name.
        name: String,
        /// Every template has it.
        reserved: bool,
    },
    /// A constant of a value that is not declared.
    UndeclaredValue {
        /// What it belongs to.
        owner: Owner,
        /// The name.
        name: String,
    },
    /// A constant does not have the declared type, or has a text that may not be sent.
    BadValue {
        /// What it belongs to.
        owner: Owner,
        /// The name.
        name: String,
        /// The declared type.
        expected: &'static str,
    },
    /// A code that the default tables map to is missing.
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

impl fmt::Display for ContractProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContractProblem::Template(problem) => write!(f, "{problem}; {}", problem.help),
            ContractProblem::BadMediaType => f.write_str(
                "the media type is not one of JSON; write application/json, or another one that ends in +json",
            ),
            ContractProblem::NotAnErrorCode { status: 408 } => {
                f.write_str("code 408 cannot be documented: clients retry it automatically, even with POST; use 504 or 400")
            }
            ContractProblem::NotAnErrorCode { status } => {
                write!(f, "code {status} is not an error; expected 400 to 599")
            }
            ContractProblem::DuplicateCode { status } => write!(f, "code {status} is declared twice"),
            ContractProblem::BadReason { status } => write!(
                f,
                "the reason phrase of code {status} is invalid; expected 1 to 64 printable ASCII characters"
            ),
            ContractProblem::BadMessage { status, problem } => {
                write!(f, "the message of code {status} {problem}")
            }
            ContractProblem::BadType { owner, kind } => {
                write!(f, "the type {kind:?} of {owner} is invalid; expected {PATTERN_HELP}")
            }
            ContractProblem::UnlistedType { owner, kind } => {
                write!(f, "the type {kind:?} of {owner} is not in the contract's list of types")
            }
            ContractProblem::MissingType { status, example } => {
                write!(f, "code {status} has no type, but the list of types is closed; add type: {example}")
            }
            ContractProblem::NoTypes => {
                f.write_str("the list of types is empty; list the types, or remove it to allow every type")
            }
            ContractProblem::BadListedType { kind } => {
                write!(f, "{kind:?} in the list of types is invalid; expected {PATTERN_HELP}")
            }
            ContractProblem::DuplicateCause { cause } => write!(f, "cause {cause} is declared twice"),
            ContractProblem::BadCauseMessage { cause, problem } => {
                write!(f, "the message of cause {cause} {problem}")
            }
            ContractProblem::UndocumentedCauseCode { cause, status } => write!(
                f,
                "the code {status} of cause {cause} is not documented; add it to the codes, or use one of them"
            ),
            ContractProblem::BadStatusRow { status, documented: true, .. } => write!(
                f,
                "the upstream's {status} is documented, so it is sent as it is; remove this row or the code {status}"
            ),
            ContractProblem::BadStatusRow { target, documented: false, .. } => {
                write!(f, "the code {target} is not documented; add it to the codes, or use one of them")
            }
            ContractProblem::BadValueName { name, reserved: true } => {
                write!(f, "{{{name}}} is a placeholder of every template; choose another name")
            }
            ContractProblem::BadValueName { name, reserved: false } => write!(
                f,
                "{name:?} cannot be a placeholder; use a letter, then up to 63 of A-Z, a-z, 0-9 and _"
            ),
            ContractProblem::UndeclaredValue { owner, name } => write!(
                f,
                "the value {name:?} of {owner} is not declared; add it to the contract's values: {{ {name}: string }}"
            ),
            ContractProblem::BadValue { owner, name, expected } => write!(
                f,
                "the value {name:?} of {owner} does not fit; expected type {expected}, and texts without markup"
            ),
            ContractProblem::MissingTarget { status, causes, upstream_statuses } => {
                write!(f, "code {status} is missing: no other code is documented for")?;
                for (index, cause) in causes.iter().enumerate() {
                    write!(f, "{}{cause}", if index == 0 { " causes " } else { ", " })?;
                }
                write_ranges(f, upstream_statuses, if causes.is_empty() { " " } else { "; " })
            }
        }
    }
}

impl std::error::Error for ContractProblem {}

/// Writes `upstream statuses 402, 405-407`. `statuses` is in ascending order; adjacent statuses become a range.
fn write_ranges(f: &mut fmt::Formatter<'_>, statuses: &[u16], prefix: &str) -> fmt::Result {
    let ranges = statuses.chunk_by(|a, b| a + 1 == *b);
    for (index, range) in ranges.enumerate() {
        if index == 0 {
            write!(f, "{prefix}upstream statuses ")?;
        } else {
            f.write_str(", ")?;
        }
        match range {
            [first, .., last] => write!(f, "{first}-{last}")?,
            [only] => write!(f, "{only}")?,
            [] => {}
        }
    }
    Ok(())
}
