//! The codes that may be answered: a [`Contract`] is the table, a [`DocumentedCode`] a handle that only a contract issues.
//!
//! A status that is not in the table has no handle, and nothing that answers clients takes anything else. A contract is
//! checked as a whole when it is declared: whatever the policy may decide has somewhere to go. Which code answers what is
//! [`super::policy`]'s decision, the checks are in [`super::declaration`], the shipped tables in [`super::builtin`].

use std::sync::Arc;

use super::builtin;
use super::declaration::{self, is_valid_type};
use super::fault::Cause;
use super::policy::default_status;

pub use super::declaration::{CodeDeclaration, ContractProblem, Declaration};

/// A status that a contract documents. Only a [`Contract`] issues one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DocumentedCode {
    status: u16,
    slot: u8,
}

impl DocumentedCode {
    /// The status: 400-599, never 408.
    pub const fn status(self) -> u16 {
        self.status
    }

    /// Dense index in its contract, for tables of counters and of prepared replies.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeEntry {
    code: DocumentedCode,
    reason: Arc<str>,
    message: Box<str>,
    kind: Option<Box<str>>,
}

impl CodeEntry {
    /// The handle.
    pub const fn code(&self) -> DocumentedCode {
        self.code
    }

    /// The reason phrase of the status line.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The reason phrase, shared: a reply keeps it without a copy.
    pub(super) fn shared_reason(&self) -> Arc<str> {
        Arc::clone(&self.reason)
    }

    /// The text a client reads where nothing better is known.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The `type` of errors that we make ourselves.
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }
}

/// A checked table of documented codes. Every default decision of the policy has its target in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    name: String,
    entries: Vec<CodeEntry>,
    /// Slot by status - 400; [`NO_SLOT`] where the status is not documented.
    slots: [u8; 200],
    cause_messages: Vec<Option<Box<str>>>,
    types: Option<Vec<String>>,
    /// The code of a bug of ours: the answer where a handle of another contract is shown.
    fallback: CodeEntry,
}

impl Contract {
    /// The built-in contract of this name ([`builtin::CONTRACT_NAMES`]).
    pub fn builtin(name: &str) -> Option<Contract> {
        // The shipped tables are valid: a test declares each of them.
        Contract::declare(builtin::declaration(name)?).ok()
    }

    /// Checks a declaration and makes the contract of it.
    ///
    /// # Errors
    /// Every problem at once, in the order of the declaration; missing targets come last.
    pub fn declare(declaration: Declaration) -> Result<Contract, Vec<ContractProblem>> {
        let problems = declaration::problems(&declaration);
        if !problems.is_empty() {
            return Err(problems);
        }
        Contract::build(declaration).ok_or_else(|| {
            vec![ContractProblem::MissingTarget {
                status: default_status(Cause::ProxyInternalError),
                causes: vec![Cause::ProxyInternalError],
                upstream_statuses: Vec::new(),
            }]
        })
    }

    /// Lays the tables out; `None` only without the code of our own bugs, which the checks have refused before.
    fn build(declaration: Declaration) -> Option<Contract> {
        let mut codes = declaration.codes;
        codes.sort_by_key(|code| code.status);
        let mut slots = [NO_SLOT; 200];
        let mut entries = Vec::with_capacity(codes.len());
        // Fewer than 200 codes exist, so every slot fits.
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
        let fallback_status = default_status(Cause::ProxyInternalError);
        let fallback = entries.iter().find(|entry| entry.code.status == fallback_status)?.clone();
        Some(Contract {
            name: declaration.name,
            entries,
            slots,
            cause_messages,
            types: declaration.types,
            fallback,
        })
    }

    /// What pages and logs call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every code, by rising status; the index is the code's slot.
    pub fn codes(&self) -> &[CodeEntry] {
        &self.entries
    }

    /// The handle of a status, if it is documented.
    pub fn code(&self, status: u16) -> Option<DocumentedCode> {
        let slot = *self.slots.get(slot_index(status)?)?;
        (slot != NO_SLOT).then_some(DocumentedCode { status, slot })
    }

    /// The row of a code. A handle issued by another contract gives the row of its status here, or else that of our own
    /// bugs: what comes out is always documented in this contract.
    pub fn entry(&self, code: DocumentedCode) -> &CodeEntry {
        match self.entries.get(code.slot()) {
            Some(entry) if entry.code == code => entry,
            _ => self
                .code(code.status)
                .and_then(|local_code| self.entries.get(local_code.slot()))
                .unwrap_or(&self.fallback),
        }
    }

    /// The text for a code: the cause's own where it has one and the code is the cause's default, else the code's. (An
    /// override that moves a cause to another code must not keep a text that explains the old one.)
    pub fn message_for(&self, code: DocumentedCode, cause: Option<Cause>) -> &str {
        cause
            .filter(|&cause| default_status(cause) == code.status)
            .and_then(|cause| self.cause_messages.get(cause.index())?.as_deref())
            .unwrap_or_else(|| self.entry(code).message())
    }

    /// Whether a value of `type` may leave: it fits the pattern and, where the contract closes the list, is on it.
    pub fn allows_type(&self, kind: &str) -> bool {
        is_valid_type(kind)
            && self.types.as_ref().is_none_or(|listed| listed.iter().any(|known| known == kind))
    }

    /// The closed list of `type` values, if the contract has one.
    pub fn types(&self) -> Option<&[String]> {
        self.types.as_deref()
    }

    /// The code of a status that the policy chose by default. It is documented: declaring checked every row.
    pub(super) fn default_code(&self, status: u16) -> DocumentedCode {
        self.code(status).unwrap_or(self.fallback.code)
    }
}

const NO_SLOT: u8 = u8::MAX;

fn slot_index(status: u16) -> Option<usize> {
    status.checked_sub(400).map(usize::from)
}

#[cfg(test)]
#[path = "code_tests.rs"]
mod tests;
