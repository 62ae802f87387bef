//! Checks the sections `contracts` and `contract`, and finds contracts by name.
//!
//! [`Contract::declare`] checks that a contract is complete; its problems get their locations here.

use std::sync::Arc;

use super::contract_problems;
use super::file::ConfigFile;
use super::file::cause;
use super::file::contract::{AnyJson, CodeFile, ContractFile, ContractForm};
use super::file::forms::{Either, Named, Text};
use super::problem::{Diagnostic, closest_match, did_you_mean, quoted};
use super::tree::{KeyPath, Node, NodeKind};

use super::validator::Validator;
use crate::contract::{
    BodyForm, Cause, CauseDeclaration, CodeDeclaration, Constants, Contract, Declaration, DeclaredValue,
    Preset, TemplateSource, builtin,
};
use crate::http::reason_phrase::reason_phrase;

/// The contracts of the file.
pub(crate) struct Contracts {
    /// A contract with problems is `None`: they are recorded.
    declared: Vec<(String, Option<Arc<Contract>>)>,
    /// The contract of routes that name none.
    pub default: Option<Arc<Contract>>,
    /// Stands for a contract that has problems, so that the checks can go on.
    stand_in: Arc<Contract>,
}

impl Contracts {
    /// All contracts, and the default.
    pub(crate) fn read(validator: &mut Validator<'_>, file: &ConfigFile) -> Option<Contracts> {
        let root = KeyPath::Root;
        let section = root.key("contracts");
        let mut contracts = Contracts {
            declared: Vec::new(),
            default: None,
            stand_in: Arc::new(Contract::builtin(builtin::DEFAULT_CONTRACT)?),
        };
        for (name, file) in file.contracts.iter().flat_map(|named| &named.0) {
            let at = section.key(name);
            if builtin::CONTRACT_NAMES.contains(&name.as_str()) {
                let message = format!("the contract {} is built in", quoted(name));
                validator.report(&at, Diagnostic::new(message, "choose another name"));
            }
            let contract = declare_contract(validator, &at, name, file);
            contracts.declared.push((name.clone(), contract.map(Arc::new)));
        }
        // Invalid sections have a name, too.
        for name in validator.tree.keys(&section) {
            if !contracts.declared.iter().any(|(known, _)| known == name) {
                contracts.declared.push((name.to_owned(), None));
            }
        }
        contracts.default =
            contracts.default_contract(validator, &root.key("contract"), file.contract.as_ref());
        Some(contracts)
    }

    fn default_contract(
        &self,
        validator: &mut Validator<'_>,
        at: &KeyPath<'_>,
        form: Option<&ContractForm>,
    ) -> Option<Arc<Contract>> {
        match form {
            None if validator.tree.any_invalid(at) => None,
            None => Some(Arc::clone(&self.stand_in)),
            Some(Either::Short(name)) => self.find(validator, at, name),
            Some(Either::Long(file)) => declare_contract(validator, at, CUSTOM, file).map(Arc::new),
        }
    }

    /// The contract of this name; an unknown one is recorded.
    fn find(&self, validator: &mut Validator<'_>, at: &KeyPath<'_>, name: &str) -> Option<Arc<Contract>> {
        if let Some((_, contract)) = self.declared.iter().find(|(known, _)| known == name) {
            return contract.clone();
        }
        if name == self.stand_in.name() {
            return Some(Arc::clone(&self.stand_in));
        }
        let contract = Contract::builtin(name);
        if contract.is_none() {
            let declared = self.declared.iter().map(|(name, _)| name.as_str());
            let known: Vec<&str> = declared.chain(builtin::CONTRACT_NAMES.iter().copied()).collect();
            let message = format!("unknown contract {}", quoted(name));
            validator.report(at, Diagnostic::new(message, did_you_mean(name, &known)));
        }
        contract.map(Arc::new)
    }

    /// The contract that a route or listener names, else the default.
    pub(crate) fn named(
        &self,
        validator: &mut Validator<'_>,
        at: &KeyPath<'_>,
        name: Option<&str>,
    ) -> Arc<Contract> {
        let named = name.and_then(|name| self.find(validator, at, name));
        named.or_else(|| self.default.clone()).unwrap_or_else(|| Arc::clone(&self.stand_in))
    }
}

/// The name of a contract that is declared under `contract`.
const CUSTOM: &str = "custom";

fn declare_contract(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    name: &str,
    file: &ContractFile,
) -> Option<Contract> {
    let problem_count = validator.problems.len();
    let list = at.key("codes");
    let mut codes = Vec::new();
    for (index, file) in file.codes.iter().flatten().enumerate() {
        codes.extend(code(validator, &list.item(index), file));
    }
    let declaration = Declaration {
        name: name.to_owned(),
        body: body(validator, &at.key("body"), file.body),
        media_type: file.media_type.clone(),
        codes,
        causes: causes(validator, &at.key("causes"), file),
        statuses: statuses(validator, &at.key("statuses"), file),
        types: file.types.clone(),
        values: file
            .values
            .iter()
            .flat_map(|named| &named.0)
            .map(|(name, value_type)| DeclaredValue { name: name.clone(), value_type: *value_type })
            .collect(),
        keep_headers: Text::values(&file.keep_headers),
    };
    // An incomplete contract would cause follow-up problems.
    let has_codes = file.codes.as_ref().is_some_and(|codes| !codes.is_empty());
    if !has_codes || validator.problems.len() > problem_count || validator.tree.any_invalid(at) {
        return None;
    }
    match Contract::declare(declaration) {
        Ok(contract) => Some(contract),
        Err(problems) => {
            problems.iter().for_each(|problem| contract_problems::report(validator, at, file, problem));
            None
        }
    }
}

fn code(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &CodeFile) -> Option<CodeDeclaration> {
    let status = file.code;
    let reason = file.text.as_deref().or_else(|| reason_phrase(status));
    if reason.is_none() {
        validator.missing(
            &at.key("text"),
            format!("write a reason phrase, because {status} has no registered one"),
        );
    }
    let values = named_constants(validator, &at.key("values"), file.values.as_ref());
    Some(CodeDeclaration {
        status,
        reason: reason?.to_owned(),
        message: file.message.as_deref().or(reason)?.to_owned(),
        kind: file.kind.clone(),
        values,
    })
}

fn causes(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &ContractFile,
) -> Vec<(Cause, CauseDeclaration)> {
    let mut causes = Vec::new();
    for (name, file) in file.causes.iter().flat_map(|named| &named.0) {
        let at = at.key(name);
        let cause = validator.check(&at, cause(name));
        if let Some(cause) = cause {
            warn_if_reserved(validator, &at, cause);
        }
        let values = named_constants(validator, &at.key("values"), file.values.as_ref());
        let row = CauseDeclaration {
            code: file.code,
            message: file.message.clone(),
            kind: file.kind.clone(),
            values,
        };
        if row == CauseDeclaration::default() && !validator.tree.any_invalid(&at) {
            validator.report(
                &at,
                Diagnostic::new("the cause declares nothing", "write the message that clients receive"),
            );
        }
        causes.extend(cause.map(|cause| (cause, row)));
    }
    causes
}

fn statuses(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &ContractFile) -> Vec<(u16, u16)> {
    let mut statuses = Vec::new();
    for (status, code) in file.statuses.iter().flat_map(|named| &named.0) {
        match status.parse::<u16>().ok().filter(|status| (400..=599).contains(status)) {
            Some(status) => statuses.push((status, *code)),
            None => validator.report(
                &at.key(status),
                Diagnostic::new(format!("{} is not an error status", quoted(status)), "expected 400 to 599"),
            ),
        }
    }
    statuses
}

/// The form of the body: a preset's name, or a template.
fn body(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: Option<AnyJson>) -> BodyForm {
    if file.is_none() {
        return BodyForm::default();
    }
    match validator.tree.node(at).map(source) {
        None | Some(TemplateSource::Null | TemplateSource::Empty) => BodyForm::default(),
        Some(TemplateSource::Text(name)) => match Preset::from_name(&name) {
            Some(preset) => BodyForm::Preset(preset),
            None => {
                let known: Vec<&str> = Preset::ALL.iter().map(|(word, _)| *word).collect();
                let message = format!("unknown form of the body {}", quoted(&name));
                let help = match closest_match(&name, known.iter().copied()) {
                    Some(near) => format!("did you mean {}?", quoted(near)),
                    None => "write flat, error_object, errors_list or problem; or an object such as \
                             { error: \"{message}\" }"
                        .to_owned(),
                };
                validator.report(at, Diagnostic::new(message, help));
                BodyForm::default()
            }
        },
        Some(template) => BodyForm::Template(template),
    }
}

/// A value of the file as JSON: what is not quoted is null, a boolean or a number where JSON has such a word.
fn source(node: &Node) -> TemplateSource {
    match &node.kind {
        // The parser reads a name without a value as `~`.
        NodeKind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~") => TemplateSource::Empty,
        NodeKind::Scalar { .. } if node.is_null() => TemplateSource::Null,
        NodeKind::Scalar { text, plain: false } => TemplateSource::Text(text.clone()),
        NodeKind::Scalar { text, plain: true } => match text.as_str() {
            "true" | "True" | "TRUE" => TemplateSource::Bool(true),
            "false" | "False" | "FALSE" => TemplateSource::Bool(false),
            _ => match TemplateSource::from_json(text) {
                Some(TemplateSource::Number(number)) => TemplateSource::Number(number),
                Some(_) | None => TemplateSource::Text(text.clone()),
            },
        },
        NodeKind::Sequence(items) => TemplateSource::List(items.iter().map(source).collect()),
        NodeKind::Mapping(entries) => TemplateSource::Object(
            entries.iter().map(|entry| (entry.key.clone(), source(&entry.value))).collect(),
        ),
        NodeKind::Invalid => TemplateSource::Null,
    }
}

fn named_constants(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    values: Option<&Named<AnyJson>>,
) -> Constants {
    constants(validator, at, values.iter().flat_map(|named| &named.0).map(|(name, _)| name.as_str()))
}

/// The constants of declared values in the section at `at`.
pub(crate) fn constants<'n>(
    validator: &Validator<'_>,
    at: &KeyPath<'_>,
    names: impl Iterator<Item = &'n str>,
) -> Constants {
    names.filter_map(|name| Some((name.to_owned(), source(validator.tree.node(&at.key(name))?)))).collect()
}

/// Warns about a cause that nothing raises yet.
pub(crate) fn warn_if_reserved(validator: &mut Validator<'_>, at: &KeyPath<'_>, cause: Cause) {
    if cause.is_reserved() {
        let message = format!("the cause {} is reserved for a later version: it never occurs", cause.name());
        validator.warn(at, Diagnostic::new(message, "remove it"));
    }
}
