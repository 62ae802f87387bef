//! Checks the sections `contracts` and `contract`, and finds contracts by name.
//!
//! [`Contract::declare`] checks that a contract is complete; its problems get their locations here.

use std::sync::Arc;

use super::contract_problems;
use super::file::ConfigFile;
use super::file::cause;
use super::file::contract::{AnyJson, CodeFile, ContractFile};
use super::file::forms::{Either, Named, Text};
use super::problem::{Diagnostic, did_you_mean, quoted, suggestion};
use super::tree::{Node, NodeKind};
use super::validator::Place;
use crate::contract::{
    BodyForm, Cause, CauseDeclaration, CodeDeclaration, Constants, Contract, ContractProblem, Declaration,
    DeclaredValue, Preset, TemplateSource, builtin,
};
use crate::http::reason_phrase::reason_phrase;

/// The contracts of the file.
pub(crate) struct Contracts {
    /// A contract with problems is `None`: they are recorded.
    declared: Vec<(String, Option<Arc<Contract>>)>,
    /// The contract of routes that name none.
    default: Option<Arc<Contract>>,
    /// Stands for a contract that has problems, so that the checks can go on. What it lacks is not a problem.
    stand_in: Arc<Contract>,
}

impl Contracts {
    /// All contracts, and the default.
    pub(crate) fn read(root: &Place<'_>, file: &ConfigFile) -> Option<Contracts> {
        let mut contracts = Contracts {
            declared: Vec::new(),
            default: None,
            stand_in: Arc::new(Contract::builtin(builtin::DEFAULT_CONTRACT)?),
        };
        let section = root.key("contracts");
        for (at, name, file) in section.sections(file.contracts.as_ref()) {
            if builtin::CONTRACT_NAMES.contains(&name.as_str()) {
                at.report(format!("the contract {} is built in", quoted(name)), "choose another name");
            }
            let contract = declare_contract(&at, name, file);
            contracts.declared.push((name.clone(), contract.map(Arc::new)));
        }
        // Invalid sections have a name, too.
        for name in section.node().into_iter().flat_map(Node::entries).map(|entry| &entry.key) {
            if !contracts.declared.iter().any(|(known, _)| known == name) {
                contracts.declared.push((name.clone(), None));
            }
        }
        let at = root.key("contract");
        contracts.default = match &file.contract {
            None if at.any_invalid() => None,
            None => Some(Arc::new(Contract::builtin(builtin::DEFAULT_CONTRACT)?)),
            Some(Either::Short(name)) => contracts.find(&at, name),
            Some(Either::Long(file)) => declare_contract(&at, CUSTOM, file).map(Arc::new),
        };
        Some(contracts)
    }

    /// The contract of this name; an unknown one is recorded.
    fn find(&self, at: &Place<'_>, name: &str) -> Option<Arc<Contract>> {
        if let Some((_, contract)) = self.declared.iter().find(|(known, _)| known == name) {
            return contract.clone();
        }
        let contract = Contract::builtin(name);
        if contract.is_none() {
            let declared = self.declared.iter().map(|(name, _)| name.as_str());
            let known: Vec<&str> = declared.chain(builtin::CONTRACT_NAMES.iter().copied()).collect();
            at.report(format!("unknown contract {}", quoted(name)), did_you_mean(name, &known));
        }
        contract.map(Arc::new)
    }

    /// The contract that a route or listener names, else the default.
    pub(crate) fn named(&self, item: &Place<'_>, name: Option<&str>) -> Arc<Contract> {
        let contract = match name {
            Some(name) => self.find(&item.key("contract"), name),
            None => self.default.clone(),
        };
        contract.unwrap_or_else(|| Arc::clone(&self.stand_in))
    }

    /// Whether the contract stands for one that has problems.
    pub(crate) fn is_stand_in(&self, contract: &Arc<Contract>) -> bool {
        Arc::ptr_eq(contract, &self.stand_in)
    }
}

/// The name of a contract that is declared under `contract`.
const CUSTOM: &str = "custom";

fn declare_contract(at: &Place<'_>, name: &str, file: &ContractFile) -> Option<Contract> {
    let codes = at.key("codes").items(file.codes.iter().flatten());
    let values = file.values.iter().flat_map(|named| &named.0);
    let declaration = Declaration {
        name: name.to_owned(),
        codes: codes.filter_map(|(item, file)| code(&item, file)).collect(),
        body: body(&at.key("body"), file.body),
        media_type: file.media_type.clone(),
        causes: causes(&at.key("causes"), file),
        statuses: statuses(&at.key("statuses"), file),
        types: file.types.clone(),
        values: values
            .map(|(name, value_type)| DeclaredValue { name: name.clone(), value_type: *value_type })
            .collect(),
        keep_headers: Text::values(&file.keep_headers),
    };
    let faulty = ["codes", "body", "causes", "statuses", "types", "values"]
        .map(|key| at.key(key).is_faulty().then_some(key));
    let faulty: Vec<&str> = faulty.into_iter().flatten().collect();
    // What follows from a problem that is already reported is not another one.
    let follows = |problem: &&ContractProblem| {
        contract_problems::depends_on(problem).iter().any(|key| faulty.contains(key))
    };
    match Contract::declare(declaration) {
        Ok(contract) => Some(contract).filter(|_| !at.is_faulty()),
        Err(problems) => {
            let own = problems.iter().filter(|problem| !follows(problem));
            own.for_each(|problem| contract_problems::report(at, file, problem));
            None
        }
    }
}

fn code(at: &Place<'_>, file: &CodeFile) -> Option<CodeDeclaration> {
    let status = file.code;
    let reason = file.text.as_deref().or_else(|| reason_phrase(status));
    if reason.is_none() {
        let help = format!("write a reason phrase, because {status} has no registered one");
        at.key("text").missing(help);
    }
    let values = constants(&at.key("values"), file.values.as_ref());
    Some(CodeDeclaration {
        status,
        reason: reason?.to_owned(),
        message: file.message.as_deref().or(reason)?.to_owned(),
        kind: file.kind.clone(),
        values,
    })
}

fn causes(at: &Place<'_>, file: &ContractFile) -> Vec<(Cause, CauseDeclaration)> {
    let mut causes = Vec::new();
    for (at, name, file) in at.sections(file.causes.as_ref()) {
        let cause = at.check(cause(name));
        if let Some(cause) = cause {
            warn_if_reserved(&at, cause);
        }
        let row = CauseDeclaration {
            code: file.code,
            message: file.message.clone(),
            kind: file.kind.clone(),
            values: constants(&at.key("values"), file.values.as_ref()),
        };
        if row == CauseDeclaration::default() && !at.any_invalid() {
            at.report("the cause declares nothing", "write the message that clients receive");
        }
        causes.extend(cause.map(|cause| (cause, row)));
    }
    causes
}

fn statuses(at: &Place<'_>, file: &ContractFile) -> Vec<(u16, u16)> {
    let mut statuses = Vec::new();
    for (at, status, code) in at.sections(file.statuses.as_ref()) {
        match status.parse::<u16>().ok().filter(|status| (400..=599).contains(status)) {
            Some(status) => statuses.push((status, *code)),
            None => at.diagnose(Diagnostic::of(status, "is not an error status", "expected 400 to 599")),
        }
    }
    statuses
}

/// The form of the body: a preset's name, or a template.
fn body(at: &Place<'_>, file: Option<AnyJson>) -> BodyForm {
    match file.and(at.node()).map(source) {
        None | Some(TemplateSource::Null | TemplateSource::Empty) => BodyForm::default(),
        Some(TemplateSource::Text(name)) => match Preset::from_name(&name) {
            Some(preset) => BodyForm::Preset(preset),
            None => {
                let help = suggestion(&name, Preset::ALL.iter().map(|(word, _)| *word));
                let help = help.unwrap_or_else(|| {
                    "write flat, error_object, errors_list or problem; or an object such as \
                     { error: \"{message}\" }"
                        .to_owned()
                });
                at.report(format!("unknown form of the body {}", quoted(&name)), help);
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

/// The constants of declared values in the section at `at`.
pub(crate) fn constants(at: &Place<'_>, values: Option<&Named<AnyJson>>) -> Constants {
    let values = at.sections(values).filter_map(|(at, name, _)| Some((name.clone(), source(at.node()?))));
    values.collect()
}

/// Warns about a cause that nothing raises yet.
pub(crate) fn warn_if_reserved(at: &Place<'_>, cause: Cause) {
    if cause.is_reserved() {
        let message = format!("the cause {} is reserved for a later version: it never occurs", cause.name());
        at.warn(message, "remove it");
    }
}
