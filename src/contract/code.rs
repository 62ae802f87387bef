//! The documented status codes: a [`Contract`] is the table, a [`DocumentedCode`] is a handle that only a contract
//! issues.
//!
//! Code that sends errors accepts only a [`DocumentedCode`], so an undocumented status cannot be sent. A contract is
//! validated as a whole when it is declared: every default of the policy maps to a code in the table. [`super::policy`]
//! chooses the code, [`super::declaration`] has the checks, and [`super::builtin`] has the built-in tables.

use std::sync::Arc;

use super::builtin;
use super::causes::Cause;
use super::declaration::{self, is_valid_type};

pub use super::declaration::{CodeDeclaration, ContractProblem, Declaration};

/// A status code that a contract documents. Only a [`Contract`] issues one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DocumentedCode {
    status: u16,
    slot: u8,
}

impl DocumentedCode {
    /// The HTTP status code: 400-599, never 408.
    pub const fn status(self) -> u16 {
        self.status
    }

    /// Dense index in the contract's table, for arrays of counters and prepared replies.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// One row of a contract: a code with its reason phrase, message and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeEntry {
    code: DocumentedCode,
    reason: Arc<str>,
    message: Box<str>,
    kind: Option<Box<str>>,
}

impl CodeEntry {
    /// The handle of this code.
    pub const fn code(&self) -> DocumentedCode {
        self.code
    }

    /// The reason phrase of the status line.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The reason phrase, shared so that a reply does not copy it.
    pub(super) fn shared_reason(&self) -> Arc<str> {
        Arc::clone(&self.reason)
    }

    /// The default client message of this code.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The `type` of local replies with this code.
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }
}

/// A validated table of documented codes. It contains the target of every default decision of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    name: String,
    entries: Vec<CodeEntry>,
    /// Slot, indexed by status - 400; [`NO_SLOT`] if the status is not documented.
    slots: [u8; 200],
    /// The code of each cause, by its index.
    cause_codes: Vec<DocumentedCode>,
    cause_messages: Vec<Option<Box<str>>>,
    types: Option<Vec<String>>,
    /// The entry of the internal-error code, used when a handle of another contract has no match here.
    fallback: CodeEntry,
}

impl Contract {
    /// Returns the built-in contract with this name (see [`builtin::CONTRACT_NAMES`]).
    pub fn builtin(name: &str) -> Option<Contract> {
        // The built-in tables are valid: a test declares each of them.
        Contract::declare(builtin::declaration(name)?).ok()
    }

    /// Validates a declaration and builds the contract.
    ///
    /// # Errors
    /// All problems, in the order of the declaration; missing targets come last.
    pub fn declare(declaration: Declaration) -> Result<Contract, Vec<ContractProblem>> {
        let problems = declaration::problems(&declaration);
        if !problems.is_empty() {
            return Err(problems);
        }
        Contract::build(declaration)
            .ok_or_else(|| vec![ContractProblem::missing_for(Cause::ProxyInternalError)])
    }

    /// Builds the lookup tables. `None` if the internal-error code is missing, which the checks have already rejected.
    fn build(declaration: Declaration) -> Option<Contract> {
        let mut codes = declaration.codes;
        codes.sort_by_key(|code| code.status);
        let mut slots = [NO_SLOT; 200];
        let mut entries = Vec::with_capacity(codes.len());
        // At most 199 codes are valid, so every slot fits in a `u8`.
        for (code, slot) in codes.into_iter().zip(0u8..NO_SLOT) {
            if let Some(slot_entry) = slot_index(code.status).and_then(|index| slots.get_mut(index)) {
                *slot_entry = slot;
            }
            entries.push(CodeEntry {
                code: DocumentedCode { status: code.status, slot },
                reason: code.reason.into(),
                message: code.message.into(),
                kind: code.kind.map(Into::into),
            });
        }
        let mut cause_messages = vec![None; Cause::ALL.len()];
        for (cause, text) in declaration.causes {
            if let Some(message_entry) = cause_messages.get_mut(cause.index()) {
                *message_entry = Some(text.into_boxed_str());
            }
        }
        let preferred = |statuses: &[u16]| {
            statuses.iter().find_map(|status| entries.iter().find(|entry| entry.code.status == *status))
        };
        let fallback = preferred(Cause::ProxyInternalError.preferences())?.clone();
        let cause_codes = Cause::ALL
            .iter()
            .map(|cause| Some(preferred(cause.preferences())?.code))
            .collect::<Option<_>>()?;
        Some(Contract {
            name: declaration.name,
            entries,
            slots,
            cause_codes,
            cause_messages,
            types: declaration.types,
            fallback,
        })
    }

    /// The contract's name in pages and logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All codes in ascending order of status; the index is the code's slot.
    pub fn codes(&self) -> &[CodeEntry] {
        &self.entries
    }

    /// Returns the handle of a status code if it is documented.
    pub fn code(&self, status: u16) -> Option<DocumentedCode> {
        let slot = *self.slots.get(slot_index(status)?)?;
        (slot != NO_SLOT).then_some(DocumentedCode { status, slot })
    }

    /// Returns the entry of a code. A handle issued by another contract is mapped to the same status in this one, or to
    /// the internal-error code. The result is always documented in this contract.
    pub fn entry(&self, code: DocumentedCode) -> &CodeEntry {
        match self.entries.get(code.slot()) {
            Some(entry) if entry.code == code => entry,
            _ => self
                .code(code.status)
                .and_then(|local_code| self.entries.get(local_code.slot()))
                .unwrap_or(&self.fallback),
        }
    }

    /// Returns the client message: the cause's message if `code` is the cause's default, else the code's message. (An
    /// override that maps a cause to another code must not keep a message that explains the default code.)
    pub fn message_for(&self, code: DocumentedCode, cause: Option<Cause>) -> &str {
        cause
            .filter(|&cause| self.code_for_cause(cause) == code)
            .and_then(|cause| self.cause_messages.get(cause.index())?.as_deref())
            .unwrap_or_else(|| self.entry(code).message())
    }

    /// Whether a `type` value may be sent: it matches the pattern and is in the closed list, if the contract has one.
    pub fn allows_type(&self, kind: &str) -> bool {
        is_valid_type(kind)
            && self.types.as_ref().is_none_or(|listed| listed.iter().any(|known| known == kind))
    }

    /// The closed list of `type` values, if the contract declares one.
    pub fn types(&self) -> Option<&[String]> {
        self.types.as_deref()
    }

    /// The code of a cause: the first of its preferences that is documented.
    pub fn code_for_cause(&self, cause: Cause) -> DocumentedCode {
        self.cause_codes.get(cause.index()).copied().unwrap_or(self.fallback.code)
    }

    /// The first of these statuses that is documented. There is one: [`Contract::declare`] checks every list.
    pub fn preferred(&self, statuses: &[u16]) -> DocumentedCode {
        statuses.iter().find_map(|status| self.code(*status)).unwrap_or(self.fallback.code)
    }
}

const NO_SLOT: u8 = u8::MAX;

fn slot_index(status: u16) -> Option<usize> {
    status.checked_sub(400).map(usize::from)
}

#[cfg(test)]
#[path = "code_tests.rs"]
mod tests;
