//! Reads the cases from `cases/*.yaml`, and from a file of an operator (`verify --cases`).
//!
//! A file lists cases for `upstream`, `client` (HTTP/1), `client_http2`, `client_tls` and `route`, in sections that
//! become the headings of `docs/faults.md`. [`super::case`] has their keys, [`super::step`] the steps,
//! [`super::payload`] the bytes. Payloads of upstreams are made when a file is read; those of clients when they run,
//! because they contain the paths and limits of a gateway.

use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::{Location, Spanned};

use super::case::{ClientFault, ClientProtocol};
use super::upstream_case::UpstreamFault;

/// The cases of one or more files.
#[derive(Clone, Debug, Default)]
pub(crate) struct CaseSet {
    upstream: Vec<UpstreamFault>,
    client: Vec<ClientFault>,
}

/// What is wrong in a file of cases, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CaseError {
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
    /// What is wrong.
    pub(crate) message: String,
    /// What would be right.
    pub(crate) help: String,
}

pub(super) const FILES: &[&str] = &[
    include_str!("cases/upstream.yaml"),
    include_str!("cases/upstream_statuses.yaml"),
    include_str!("cases/upstream_bodies.yaml"),
    include_str!("cases/upstream_http2.yaml"),
    include_str!("cases/client.yaml"),
    include_str!("cases/client_http2.yaml"),
    include_str!("cases/client_tls.yaml"),
    include_str!("cases/routes.yaml"),
];

/// Read once. A test checks that every file is valid.
static BUILTIN: LazyLock<CaseSet> = LazyLock::new(|| {
    let mut cases = CaseSet::default();
    for text in FILES {
        let _ = cases.add(text);
    }
    cases
});

/// All upstream faults in documentation order, from the connection to the end of the body.
pub fn upstream_faults() -> Vec<UpstreamFault> {
    BUILTIN.upstream.clone()
}

/// The client faults of this protocol in documentation order.
pub fn client_faults(protocol: ClientProtocol) -> Vec<ClientFault> {
    BUILTIN.client_faults(protocol).cloned().collect()
}

impl CaseSet {
    /// The cases of the program.
    pub(crate) fn builtin() -> CaseSet {
        BUILTIN.clone()
    }

    /// Adds the cases of a file.
    ///
    /// # Errors
    /// The problems of the file, at most one for each case.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), Vec<CaseError>> {
        let file: CaseFile<UpstreamFault, ClientFault> =
            serde_saphyr::from_str(text).map_err(|error| all_errors(text, &error))?;
        let mut errors = Vec::new();
        let mut refuse = |location, message: String, help| errors.push(error_at(location, message, help));
        let taken = |name: &str| format!("there is a case with the name {name:?} already");
        for (section, case, location) in in_sections(file.upstream) {
            if self.upstream.iter().any(|other| other.name == case.name) {
                refuse(location, taken(case.name), "choose another name");
            } else if case.script.is_empty() == case.server_kind.runs_scripts() {
                let server = case.server_kind.upstream_name();
                let help =
                    "give steps to the servers scripted, pooled, unix and h2-scripted, and to no other";
                refuse(location, format!("the server {server:?} does not fit the steps"), help);
            } else {
                self.upstream.push(UpstreamFault { section, ..case });
            }
        }
        for (protocol, sections) in [
            (ClientProtocol::Http1, file.client),
            (ClientProtocol::Http2, file.client_http2),
            (ClientProtocol::Tls, file.client_tls),
            (ClientProtocol::Route, file.route),
        ] {
            for (section, case, location) in in_sections(sections) {
                if self.client.iter().any(|other| other.name == case.name) {
                    refuse(location, taken(case.name), "choose another name");
                    continue;
                }
                match case.complete(protocol, section) {
                    Ok(case) => self.client.push(case),
                    Err((message, help)) => refuse(location, message, help),
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The upstream faults in the order of the files.
    pub(crate) fn upstream_faults(&self) -> &[UpstreamFault] {
        &self.upstream
    }

    /// The client faults of this protocol, in the order of the files.
    pub(crate) fn client_faults(&self, protocol: ClientProtocol) -> impl Iterator<Item = &ClientFault> {
        self.client.iter().filter(move |case| case.protocol == protocol)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "U: Deserialize<'de>, C: Deserialize<'de>"))]
struct CaseFile<U, C> {
    #[serde(default = "Vec::new")]
    upstream: Vec<Section<U>>,
    #[serde(default = "Vec::new")]
    client: Vec<Section<C>>,
    #[serde(default = "Vec::new")]
    client_http2: Vec<Section<C>>,
    #[serde(default = "Vec::new")]
    client_tls: Vec<Section<C>>,
    #[serde(default = "Vec::new")]
    route: Vec<Section<C>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section<T> {
    section: String,
    cases: Vec<Spanned<T>>,
}

/// The cases, each with its heading and location.
fn in_sections<T>(sections: Vec<Section<T>>) -> impl Iterator<Item = (&'static str, T, Location)> {
    sections.into_iter().flat_map(|section| {
        let title: &'static str = section.section.leak();
        section.cases.into_iter().map(move |case| (title, case.value, case.referenced))
    })
}

/// The error that ended reading a file, and the first error of every other case.
fn all_errors(text: &str, first: &serde_saphyr::Error) -> Vec<CaseError> {
    let mut errors = vec![to_case_error(first)];
    // An error outside the cases hides theirs.
    if let Ok(outline) = serde_saphyr::from_str::<CaseFile<IgnoredAny, IgnoredAny>>(text) {
        let upstream = in_sections(outline.upstream);
        errors.extend(upstream.filter_map(|(.., location)| error_in_case::<UpstreamFault>(text, location)));
        let clients = [outline.client, outline.client_http2, outline.client_tls, outline.route];
        let clients = clients.into_iter().flat_map(in_sections);
        errors.extend(clients.filter_map(|(.., location)| error_in_case::<ClientFault>(text, location)));
    }
    errors.sort_by_key(|error| (error.line, error.column));
    errors.dedup();
    errors
}

/// Reads one case alone, at its place: the lines before it are empty.
fn error_in_case<T: DeserializeOwned>(text: &str, location: Location) -> Option<CaseError> {
    let CaseError { line, column, .. } = error_at(location, String::new(), "");
    let indent = column.checked_sub(1)?;
    let mut lines = text.lines().skip(line.checked_sub(1)?);
    let mut document = "\n".repeat(line - 1) + &" ".repeat(indent) + lines.next()?.get(indent..)?;
    let is_inside = |line: &&str| line.trim().is_empty() || line.starts_with(&" ".repeat(indent));
    lines.take_while(is_inside).for_each(|line| document.extend(["\n", line]));
    let error = to_case_error(&serde_saphyr::from_str::<T>(&document).err()?);
    // What the file defines elsewhere is not known here.
    (!error.message.contains("anchor") && !error.message.contains("alias")).then_some(error)
}

fn error_at(location: Location, message: String, help: &str) -> CaseError {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    CaseError {
        line: number(location.line()),
        column: number(location.column()),
        message,
        help: help.to_owned(),
    }
}

/// Splits the message of the parser into what is wrong and what would be right.
fn to_case_error(error: &serde_saphyr::Error) -> CaseError {
    let text = error.without_snippet().to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let (message, help) = match text.split_once(", expected ") {
        Some((message, expected)) => (message, format!("expected {expected}")),
        None => (text, "see the example in docs/operations.md".to_owned()),
    };
    error_at(error.location().unwrap_or(Location::UNKNOWN), message.to_owned(), &help)
}
