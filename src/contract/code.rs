//! The documented status codes: a [`Contract`] is the table, a [`DocumentedCode`] is a handle that only a contract
//! issues.
//!
//! Code that sends errors accepts only a [`DocumentedCode`], so an undocumented status cannot be sent. A contract is
//! validated as a whole when it is declared: every default of the policy maps to a code in the table. [`super::policy`]
//! chooses the code, [`super::declaration`] and [`super::declaration_check`] have the checks, [`super::builtin`] the
//! built-in tables.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

use super::body::Include;
use super::builtin;
use super::causes::{Cause, UPSTREAM_RESPONSE, preferences_for_upstream};
use super::declaration::{BodyForm, Constants};
use super::declaration_check;
use super::fault::RequestSent;
use super::template::presets::{Preset, UpstreamMembers};
use super::template::render::BodyValues;
use super::template::{Template, TemplateSource};
use super::types::{self, Types};

use super::declaration::CauseDeclaration;
pub use super::declaration::{CodeDeclaration, ContractProblem, Declaration};

/// A status code that a contract documents. Only a [`Contract`] issues one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DocumentedCode {
    status: u16,
    index: u8,
}

impl DocumentedCode {
    /// The HTTP status code: 400-599, never 408.
    pub const fn status(self) -> u16 {
        self.status
    }

    /// Dense index in the contract's table, for arrays of counters and prepared replies.
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

/// One row of a contract: a code with its reason phrase, message and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeEntry {
    code: DocumentedCode,
    reason: Arc<str>,
    message: Box<str>,
    kind: Option<Box<str>>,
    /// The title in snake case: the type where none is declared.
    title_kind: Box<str>,
    /// The constants of declared values, as JSON, by their index.
    values: Vec<Option<Box<str>>>,
}

/// What a contract declares for a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CauseEntry {
    code: DocumentedCode,
    message: Option<Box<str>>,
    kind: Option<Box<str>>,
    values: Vec<Option<Box<str>>>,
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

    /// The `type` that is declared for this code.
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// The `type` of local replies with this code: the declared one, or the title in snake case.
    pub(crate) fn type_or_title(&self) -> &str {
        self.kind.as_deref().unwrap_or(&self.title_kind)
    }
}

/// A validated table of documented codes. It contains the target of every default decision of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    name: String,
    entries: Vec<CodeEntry>,
    /// Slot, indexed by status - 400; [`UNDOCUMENTED`] if the status is not documented.
    indices: [u8; 200],
    /// By the index of the cause.
    causes: Vec<CauseEntry>,
    /// The codes of single statuses of the upstream.
    statuses: Vec<(u16, DocumentedCode)>,
    types: Types,
    template: Template,
    /// The form of the body without `errors.include`.
    body: BodyForm,
    media_type: HeaderValue,
    keep_headers: Vec<String>,
    /// The bodies of faults by the index of their cause, where they do not depend on the request.
    prepared: Vec<Bytes>,
    /// The bodies of replaced errors by the index of their code, likewise.
    prepared_replacements: Vec<Bytes>,
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
        let problems = declaration_check::problems(&declaration);
        if !problems.is_empty() {
            return Err(problems);
        }
        Contract::build(declaration)
            .ok_or_else(|| vec![ContractProblem::missing_for(Cause::ProxyInternalError)])
    }

    /// Builds the lookup tables. `None` if the internal-error code is missing, which the checks have already rejected.
    fn build(declaration: Declaration) -> Option<Contract> {
        let template = declaration_check::template(&declaration).ok()?;
        let media_type = HeaderValue::from_str(declaration_check::media_type(&declaration)).ok()?;
        let constants = |constants: &Constants| -> Vec<Option<Box<str>>> {
            let of = |name: &str| constants.iter().find(|(known, _)| known == name);
            let values = declaration.values.iter();
            values.map(|value| of(&value.name).map(|(_, constant)| constant.to_json().into())).collect()
        };
        let mut codes = declaration.codes;
        codes.sort_by_key(|code| code.status);
        let mut indices = [UNDOCUMENTED; 200];
        let mut entries = Vec::with_capacity(codes.len());
        // At most 199 codes are valid, so every index fits in a `u8`.
        for (code, index) in codes.into_iter().zip(0u8..UNDOCUMENTED) {
            if let Some(entry_index) = status_index(code.status).and_then(|index| indices.get_mut(index)) {
                *entry_index = index;
            }
            entries.push(CodeEntry {
                code: DocumentedCode { status: code.status, index },
                title_kind: types::from_title(&code.reason).into(),
                reason: code.reason.into(),
                message: code.message.into(),
                kind: code.kind.map(Into::into),
                values: constants(&code.values),
            });
        }
        let documented = |status: u16| entries.iter().find(|entry| entry.code.status == status);
        let preferred = |statuses: &[u16]| statuses.iter().find_map(|status| documented(*status));
        let none = CauseDeclaration::default();
        let cause_entry = |cause: &Cause| {
            let row = declaration.causes.iter().find(|(known, _)| known == cause);
            let row = row.map_or(&none, |(_, row)| row);
            let code = row.code.and_then(documented).or_else(|| preferred(cause.preferences()))?.code;
            Some(CauseEntry {
                code,
                message: row.message.as_deref().map(Into::into),
                kind: row.kind.as_deref().map(Into::into),
                values: constants(&row.values),
            })
        };
        let causes: Vec<CauseEntry> = Cause::ALL.iter().map(cause_entry).collect::<Option<_>>()?;
        let statuses = declaration
            .statuses
            .iter()
            .filter_map(|(status, target)| Some((*status, documented(*target)?.code)))
            .collect();
        let fallback = documented(causes.get(Cause::ProxyInternalError.index())?.code.status)?.clone();
        let contract = Contract {
            name: declaration.name,
            entries,
            indices,
            causes,
            statuses,
            types: Types { listed: declaration.types },
            template,
            body: declaration.body,
            media_type,
            keep_headers: declaration.keep_headers,
            prepared: Vec::new(),
            prepared_replacements: Vec::new(),
            fallback,
        };
        Some(contract.with_prepared_bodies())
    }

    /// Renders the bodies of all causes and of replaced errors, if they do not depend on the request.
    fn with_prepared_bodies(mut self) -> Contract {
        if self.template.varies() {
            (self.prepared, self.prepared_replacements) = (Vec::new(), Vec::new());
            return self;
        }
        let of_cause = |cause: &Cause| self.body_with_id(self.code_for_cause(*cause), Some(*cause), None);
        self.prepared = Cause::ALL.iter().map(of_cause).collect();
        self.prepared_replacements =
            self.entries.iter().map(|entry| self.body_with_id(entry.code, None, None)).collect();
        self
    }

    /// The body of an error with this code, for documentation.
    pub(crate) fn example_body(&self, code: DocumentedCode, request_id: &str) -> String {
        String::from_utf8_lossy(&self.body_with_id(code, None, Some(request_id))).into_owned()
    }

    fn body_with_id(&self, code: DocumentedCode, cause: Option<Cause>, request_id: Option<&str>) -> Bytes {
        let declared: Vec<Option<&str>> = self.declared_values(code, cause).collect();
        let values = BodyValues { request_id, declared: &declared, ..self.body_values(code, cause) };
        let mut out = BytesMut::new();
        self.template.render(&values, &mut out);
        out.freeze()
    }

    /// The values of a body, as far as the contract has them.
    pub(super) fn body_values(&self, code: DocumentedCode, cause: Option<Cause>) -> BodyValues<'_> {
        BodyValues {
            code: code.status,
            title: self.entry(code).reason(),
            message: self.message_for(code, cause),
            kind: self.type_for(code, cause),
            kind_of_upstream: false,
            details: None,
            request_id: None,
            cause: cause.map_or(UPSTREAM_RESPONSE, Cause::name),
            retryable: false,
            request_sent: RequestSent::None,
            retry_after: None,
            declared: &[],
        }
    }

    /// This contract with these members of a flat body. Bodies of another form stay as they are.
    #[must_use]
    pub(crate) fn with_include(&self, include: Include) -> Contract {
        let template = match self.body {
            BodyForm::Preset(Preset::Flat) => Template::flat(include, UpstreamMembers::Refused),
            BodyForm::Appwrite => Template::flat(include, UpstreamMembers::Accepted),
            BodyForm::Preset(Preset::ErrorObject | Preset::ErrorsList | Preset::Problem)
            | BodyForm::Template(_) => return self.clone(),
        };
        Contract { template, ..self.clone() }.with_prepared_bodies()
    }

    /// Whether `errors.include` may add members to its bodies.
    pub(crate) fn is_flat(&self) -> bool {
        match self.body {
            BodyForm::Preset(Preset::Flat) | BodyForm::Appwrite => true,
            BodyForm::Preset(Preset::ErrorObject | Preset::ErrorsList | Preset::Problem)
            | BodyForm::Template(_) => false,
        }
    }

    /// The template of its bodies.
    pub(crate) const fn template(&self) -> &Template {
        &self.template
    }

    /// The media type of its bodies.
    pub const fn media_type(&self) -> &HeaderValue {
        &self.media_type
    }

    /// The upstream header fields that replaced 4xx keep; a final `*` stands for any rest.
    pub(crate) fn keep_headers(&self) -> &[String] {
        &self.keep_headers
    }

    /// The body of a fault, or of a replaced error without its cause, if it does not depend on the request: no override
    /// applies and nothing of the upstream is sent.
    pub(super) fn prepared_body(&self, code: DocumentedCode, cause: Option<Cause>) -> Option<Bytes> {
        match cause {
            Some(cause) => self.prepared.get(cause.index()),
            None => self.prepared_replacements.get(code.index()),
        }
        .cloned()
    }

    /// The types that may be sent.
    pub(crate) const fn allowed_types(&self) -> &Types {
        &self.types
    }

    /// The declared value of the cause, else of the code, by index, as JSON. (A cause that is sent with another code
    /// does not keep its values.)
    pub(super) fn declared_values<'a>(
        &'a self,
        code: DocumentedCode,
        cause: Option<Cause>,
    ) -> impl Iterator<Item = Option<&'a str>> {
        let of_cause = self.default_entry(code, cause).map_or(&[][..], |entry| &entry.values);
        let of_code = &self.entry(code).values;
        (0..self.template.values().len()).map(move |index| {
            let constant = |values: &'a [Option<Box<str>>]| values.get(index).and_then(Option::as_deref);
            constant(of_cause).or_else(|| constant(of_code))
        })
    }

    /// What is declared for a cause, if it is sent with its own code.
    fn default_entry(&self, code: DocumentedCode, cause: Option<Cause>) -> Option<&CauseEntry> {
        cause
            .and_then(|cause| self.causes.get(cause.index()))
            .filter(|entry| entry.code == self.entry(code).code)
    }

    /// The contract's name in pages and logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All codes in ascending order of status; the index is the code's index.
    pub fn codes(&self) -> &[CodeEntry] {
        &self.entries
    }

    /// Returns the handle of a status code if it is documented.
    pub fn code(&self, status: u16) -> Option<DocumentedCode> {
        let index = *self.indices.get(status_index(status)?)?;
        (index != UNDOCUMENTED).then_some(DocumentedCode { status, index })
    }

    /// Returns the entry of a code. A handle issued by another contract is mapped to the same status in this one, or to
    /// the internal-error code. The result is always documented in this contract.
    pub fn entry(&self, code: DocumentedCode) -> &CodeEntry {
        match self.entries.get(code.index()) {
            Some(entry) if entry.code == code => entry,
            _ => self
                .code(code.status)
                .and_then(|local_code| self.entries.get(local_code.index()))
                .unwrap_or(&self.fallback),
        }
    }

    /// Returns the client message: the cause's message if `code` is the cause's default, else the code's message. (An
    /// override that maps a cause to another code must not keep a message that explains the default code.)
    pub(crate) fn message_for(&self, code: DocumentedCode, cause: Option<Cause>) -> &str {
        self.default_entry(code, cause)
            .and_then(|entry| entry.message.as_deref())
            .unwrap_or_else(|| self.entry(code).message())
    }

    /// Returns the type: the cause's if `code` is the cause's default, else the code's, else the title in snake case.
    pub(crate) fn type_for(&self, code: DocumentedCode, cause: Option<Cause>) -> &str {
        self.default_entry(code, cause)
            .and_then(|entry| entry.kind.as_deref())
            .unwrap_or_else(|| self.entry(code).type_or_title())
    }

    /// Whether an upstream's `type` may be sent: it is on the closed list, or well-formed if there is none.
    pub(crate) fn allows_type(&self, kind: &str) -> bool {
        self.types.accept(kind)
    }

    /// Whether an operator may declare this type: it is on the closed list, or well-formed, an integer or a URI.
    pub(crate) fn allows_declared_type(&self, kind: &str) -> bool {
        match &self.types.listed {
            Some(_) => self.types.accept(kind),
            None => types::is_declarable(kind),
        }
    }

    /// Checks a constant of a declared value.
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub(crate) fn accepts_value(&self, name: &str, value: &TemplateSource) -> Result<(), String> {
        let Some(declared) = self.template.values().iter().find(|declared| declared.name == name) else {
            return Err(format!("the value {name:?} is not declared"));
        };
        if declaration_check::constant_fits(declared, value) {
            Ok(())
        } else {
            let expected = declared.value_type.name();
            Err(format!("the value {name:?} is not of type {expected}, or has a text with markup,"))
        }
    }

    /// The closed list of `type` values, if the contract declares one.
    pub fn types(&self) -> Option<&[String]> {
        self.types.listed.as_deref()
    }

    /// The code of a cause: its own, else the first of its preferences that is documented.
    pub(crate) fn code_for_cause(&self, cause: Cause) -> DocumentedCode {
        self.causes.get(cause.index()).map_or(self.fallback.code, |entry| entry.code)
    }

    /// The code of a status of the upstream that is not documented: its own row, else the first of its preferences that
    /// is documented. There is one: [`Contract::declare`] checks every list.
    pub(crate) fn code_for_upstream(&self, status: u16) -> DocumentedCode {
        let row = self.statuses.iter().find(|(known, _)| *known == status);
        let preferred = || preferences_for_upstream(status).iter().find_map(|status| self.code(*status));
        row.map(|(_, code)| *code).or_else(preferred).unwrap_or(self.fallback.code)
    }
}

const UNDOCUMENTED: u8 = u8::MAX;

fn status_index(status: u16) -> Option<usize> {
    status.checked_sub(400).map(usize::from)
}

#[cfg(test)]
#[path = "code_tests.rs"]
mod tests;
