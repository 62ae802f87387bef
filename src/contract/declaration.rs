//! An unvalidated contract as declared in the configuration, and its validation.
//!
//! [`problems`] returns all problems as messages for the operator, without their location in the file. The validated
//! form is [`Contract`](super::code::Contract).

use std::collections::BTreeMap;
use std::fmt;

use super::causes::{Cause, preferences_for_upstream};
use super::text::{self, TextProblem};

/// A contract as declared, not yet validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declaration {
    /// The contract's name in pages and logs.
    pub name: String,
    /// The codes, in any order.
    pub codes: Vec<CodeDeclaration>,
    /// Client messages of individual causes.
    pub causes: Vec<(Cause, String)>,
    /// The closed list of `type` values; `None` allows every value that matches the pattern.
    pub types: Option<Vec<String>>,
}

/// One code as declared, not yet validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeDeclaration {
    /// The HTTP status code: 400-599, never 408.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The default client message.
    pub message: String,
    /// The `type` of local replies with this code.
    pub kind: Option<String>,
}

/// A problem of a declared contract. Its `Display` is a message for the operator, without the location in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContractProblem {
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
    /// The `type` of a code does not match the pattern.
    BadType {
        /// The code it belongs to.
        status: u16,
        /// The value.
        kind: String,
    },
    /// The `type` of a code is not in the closed list.
    UnlistedType {
        /// The code it belongs to.
        status: u16,
        /// The value.
        kind: String,
    },
    /// A value of the closed list does not match the pattern.
    BadListedType {
        /// The value.
        kind: String,
    },
    /// A cause with two messages.
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
            ContractProblem::BadType { status, kind } => {
                write!(f, "the type {kind:?} of code {status} is invalid; expected {TYPE_PATTERN_HELP}")
            }
            ContractProblem::UnlistedType { status, kind } => {
                write!(f, "the type {kind:?} of code {status} is not in the contract's list of types")
            }
            ContractProblem::BadListedType { kind } => {
                write!(f, "{kind:?} in the list of types is invalid; expected {TYPE_PATTERN_HELP}")
            }
            ContractProblem::DuplicateCause { cause } => write!(f, "cause {cause} has two messages"),
            ContractProblem::BadCauseMessage { cause, problem } => {
                write!(f, "the message of cause {cause} {problem}")
            }
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

const TYPE_PATTERN_HELP: &str = "a lower-case letter, then up to 63 of a-z, 0-9 and _";

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

/// Returns all problems of a declaration: types, codes, causes, then missing targets.
pub(super) fn problems(declaration: &Declaration) -> Vec<ContractProblem> {
    let mut problems = Vec::new();
    check_types(declaration, &mut problems);
    check_codes(declaration, &mut problems);
    check_causes(declaration, &mut problems);
    check_targets(declaration, &mut problems);
    problems
}

fn check_types(declaration: &Declaration, problems: &mut Vec<ContractProblem>) {
    let listed = declaration.types.iter().flatten();
    problems.extend(
        listed
            .filter(|kind| !is_valid_type(kind))
            .map(|kind| ContractProblem::BadListedType { kind: kind.clone() }),
    );
}

fn check_codes(declaration: &Declaration, problems: &mut Vec<ContractProblem>) {
    for (index, code) in declaration.codes.iter().enumerate() {
        let status = code.status;
        if !is_allowed_code(status) {
            problems.push(ContractProblem::NotAnErrorCode { status });
        }
        if declaration.codes.iter().take(index).any(|earlier| earlier.status == status) {
            problems.push(ContractProblem::DuplicateCode { status });
        }
        if !is_valid_reason(&code.reason) {
            problems.push(ContractProblem::BadReason { status });
        }
        if let Some(problem) = text::problem(&code.message) {
            problems.push(ContractProblem::BadMessage { status, problem });
        }
        let Some(kind) = &code.kind else { continue };
        if !is_valid_type(kind) {
            problems.push(ContractProblem::BadType { status, kind: kind.clone() });
        } else if declaration.types.as_ref().is_some_and(|listed| !listed.contains(kind)) {
            problems.push(ContractProblem::UnlistedType { status, kind: kind.clone() });
        }
    }
}

fn check_causes(declaration: &Declaration, problems: &mut Vec<ContractProblem>) {
    for (index, (cause, message)) in declaration.causes.iter().enumerate() {
        if declaration.causes.iter().take(index).any(|(earlier, _)| earlier == cause) {
            problems.push(ContractProblem::DuplicateCause { cause: *cause });
        }
        if let Some(problem) = text::problem(message) {
            problems.push(ContractProblem::BadCauseMessage { cause: *cause, problem });
        }
    }
}

/// Adds one problem for each code that must be added because a preference list ends in it and none of the list is
/// documented, with all causes and statuses that need it.
fn check_targets(declaration: &Declaration, problems: &mut Vec<ContractProblem>) {
    let documented = |status: u16| declaration.codes.iter().any(|code| code.status == status);
    let missing_target = |preferences: &[u16]| match preferences {
        [.., last] if !preferences.iter().any(|status| documented(*status)) => Some(*last),
        _ => None,
    };
    let mut missing: BTreeMap<u16, (Vec<Cause>, Vec<u16>)> = BTreeMap::new();
    for &cause in Cause::ALL {
        if let Some(target) = missing_target(cause.preferences()) {
            missing.entry(target).or_default().0.push(cause);
        }
    }
    for status in (400..=599).filter(|&status| !documented(status)) {
        if let Some(target) = missing_target(preferences_for_upstream(status)) {
            missing.entry(target).or_default().1.push(status);
        }
    }
    problems.extend(missing.into_iter().map(|(status, (causes, upstream_statuses))| {
        ContractProblem::MissingTarget { status, causes, upstream_statuses }
    }));
}

/// 408 is never sent: clients retry the request automatically, even with POST.
fn is_allowed_code(status: u16) -> bool {
    (400..=599).contains(&status) && status != 408
}

fn is_valid_reason(reason: &str) -> bool {
    (1..=64).contains(&reason.len()) && reason.bytes().all(|b| (0x20..0x7f).contains(&b))
}

/// The pattern of `type`: `[a-z][a-z0-9_]{0,63}`.
pub(super) fn is_valid_type(kind: &str) -> bool {
    let bytes = kind.as_bytes();
    bytes.len() <= 64
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_')
}
