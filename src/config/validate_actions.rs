//! Validates what a route does besides forwarding: conditions, path rewrites, header edits, redirects, maintenance.
//! [`super::validate_respond`] validates `respond`.

use std::sync::Arc;

use http::HeaderName;

use super::file::actions::{HeaderEditsFile, MaintenanceFile, RedirectFile};
use super::file::forms::{Named, Text};
use super::file::route::{MatchFile, RouteFile, SchemeWord};
use super::problem::{Diagnostic, join_or, quoted, refuse};
use super::suggestions;
use super::tree::Node;
use super::units;
use super::validate_respond;
use super::validator::Place;
use super::{Maintenance, Redirect, RouteAction};
use crate::http::header_edits::HeaderEdits;
use crate::http::path_pattern::PathPattern;
use crate::http::path_rewrite::{self, PathRewrite, RedirectTarget};
use crate::http::route_conditions::{Expected, RouteConditions};
use crate::http::value_template::{PLACEHOLDER_NAMES, Placeholder, TemplateError, ValueTemplate};

/// `match.scheme`, `match.headers` and `match.query`.
pub(crate) fn conditions(at: &Place<'_>, file: &MatchFile) -> RouteConditions {
    let scheme = file.scheme.map(|scheme| match scheme {
        SchemeWord::Http => "http".to_owned(),
        SchemeWord::Https => "https".to_owned(),
    });
    let expected = |at: &Place<'_>, value: &String| match value.as_str() {
        "*" => Expected::Present,
        value => {
            if value.contains('*') || value.starts_with(['~', '^']) {
                let message = format!("{} is compared exactly", quoted(value));
                at.warn(message, "write one value, or \"*\" alone for any");
            }
            Expected::Value(value.to_owned())
        }
    };
    let headers = at.key("headers").sections(file.headers.as_ref());
    let query = at.key("query").sections(file.query.as_ref());
    RouteConditions {
        scheme,
        headers: distinct_fields(headers.filter_map(|(at, name, value)| {
            let name = at.check_name(units::header_name(name))?;
            let value = expected(&at, value);
            Some((at, name, value))
        })),
        query: query.map(|(at, name, value)| (name.clone(), expected(&at, value))).collect(),
    }
}

/// Fields whose names must differ in more than case.
fn distinct_fields<'a, T>(fields: impl Iterator<Item = (Place<'a>, HeaderName, T)>) -> Vec<(HeaderName, T)> {
    let mut distinct: Vec<(HeaderName, T)> = Vec::new();
    for (at, name, value) in fields {
        if distinct.iter().any(|(other, _)| *other == name) {
            at.report(
                format!("{name} is listed twice, because field names are case-insensitive"),
                "remove one of them",
            );
        } else {
            distinct.push((name, value));
        }
    }
    distinct
}

/// `strip_prefix` or `rewrite`.
pub(crate) fn path_rewrite(at: &Place<'_>, file: &RouteFile, pattern: &PathPattern) -> Option<PathRewrite> {
    if file.strip_prefix.is_some() && file.rewrite.is_some() {
        at.key("rewrite").report("strip_prefix and rewrite exclude each other", "remove one of them");
        return None;
    }
    if let Some(prefix) = &file.strip_prefix {
        let count = at.key("strip_prefix").check(prefix_segments(prefix, &file.matches.path))?;
        return Some(PathRewrite::StripSegments(count));
    }
    let text = file.rewrite.as_ref()?;
    let at = at.key("rewrite");
    if !text.starts_with('/') || text.contains(['?', '#']) {
        let help = "begin it with a slash, without a query, for example \"/v2/{rest}\"";
        at.diagnose(Diagnostic::of(text, "is not a path", help));
        return None;
    }
    warn_of_variables(&at, text);
    let template = at.check(template(text, pattern, &[]))?;
    let is_parameter = |placeholder: Placeholder| matches!(placeholder, Placeholder::Parameter(_));
    at.check(check_placeholders(text, &template, (pattern, &[]), is_parameter))?;
    at.check(path_rewrite::check_template(&template).or_else(|rejection| {
        let help = "write a path as it is sent, with %20 for a space and without dot segments";
        refuse(text, format!("would never be accepted: {}", rejection.evidence), help)
    }))?;
    Some(PathRewrite::Replace(pattern.clone(), template))
}

/// The number of segments of a prefix, which must be a prefix of the route's path.
fn prefix_segments(prefix: &str, path: &str) -> Result<usize, Diagnostic> {
    fn segments(text: &str) -> impl Iterator<Item = &str> {
        text.split('/').filter(|segment| !segment.is_empty())
    }
    let stripped: Vec<&str> = segments(prefix).collect();
    let fixed: Vec<&str> = segments(path).take_while(|segment| !segment.starts_with("{*")).collect();
    if prefix.starts_with('/') && !stripped.is_empty() && fixed.starts_with(&stripped) {
        return Ok(stripped.len());
    }
    let help = if fixed.is_empty() {
        "set match.path to the prefix and \"/{*rest}\", for example \"/users/{*rest}\"".to_owned()
    } else {
        format!("write {}", quoted(&format!("/{}", fixed.join("/"))))
    };
    refuse(prefix, format!("is not a prefix of the route's path {}", quoted(path)), help)
}

/// What happens to a request that is admitted.
pub(crate) fn action(
    at: &Place<'_>,
    file: &RouteFile,
    host: Option<&str>,
    pattern: &PathPattern,
) -> RouteAction {
    let (key, action) = if let Some(file) = &file.redirect {
        let redirect = redirect(&at.key("redirect"), file, host, pattern);
        let action = redirect.map(|redirect| RouteAction::Redirect(Arc::new(redirect)));
        ("redirect", action.unwrap_or(RouteAction::Forward))
    } else if let Some(file) = &file.respond {
        ("respond", validate_respond::action(&at.key("respond"), file))
    } else {
        return RouteAction::Forward;
    };
    let pointless =
        ["upstream", "strip_prefix", "rewrite", "request_headers", "upgrades", "forwarded", "respond"];
    for other in pointless.into_iter().filter(|other| *other != key) {
        let message = format!("a route with {key} forwards nothing: {other} would never apply");
        at.key(other).pointless(message, format!("remove {other}, or {key}"));
    }
    warn_of_upstream_settings(at, key);
    action
}

/// The keys of `errors` that apply to error responses of an upstream only.
const UPSTREAM_ERRORS: [&str; 6] =
    ["mode", "upstream_messages", "message_paths", "keep_details", "upstream_body", "keep_headers"];

/// Warns of what is written for the upstream of a route that has none, because of its key `key`.
fn warn_of_upstream_settings(at: &Place<'_>, key: &str) {
    let (timeouts, errors) = (at.key("timeouts"), at.key("errors"));
    let entries = timeouts.node().into_iter().flat_map(Node::entries).map(|entry| &*entry.key);
    // A body that a rate limit reads is subject to `max_duration`.
    let pointless = entries.filter(|name| *name != "max_duration").map(|name| timeouts.key(name));
    let pointless = pointless.chain(UPSTREAM_ERRORS.map(|name| errors.key(name)));
    // The short form is the mode.
    let short = errors.node().and_then(Node::text).map(|_| errors.clone());
    for place in pointless.chain(short).filter(Place::is_written) {
        place.warn(format!("it has no effect: a route with {key} has no upstream"), "remove it");
    }
}

fn redirect(
    at: &Place<'_>,
    file: &RedirectFile,
    host: Option<&str>,
    pattern: &PathPattern,
) -> Option<Redirect> {
    let (at, text) = (at.key("to"), &file.to);
    let names: &[&str] = if host.is_some() { &["host"] } else { &[] };
    warn_of_variables(&at, text);
    let template = at.check(template(text, pattern, names))?;
    if let Some((problem, help)) = target_problem(text, host.is_some()) {
        at.diagnose(Diagnostic::of(text, problem, help));
        return None;
    }
    let is_allowed =
        |placeholder: Placeholder| matches!(placeholder, Placeholder::Parameter(_) | Placeholder::Host);
    at.check(check_placeholders(text, &template, (pattern, names), is_allowed))?;
    let target = RedirectTarget::new(pattern.clone(), template, text.contains('?'));
    Some(Redirect { status: *file.code, target })
}

/// What is wrong with a redirect target, and what would be right. A client must not be able to choose the host.
fn target_problem(text: &str, route_has_host: bool) -> Option<(&'static str, &'static str)> {
    const FORMS: &str = "write /PATH, or https://HOST/PATH, for example \"https://www.example.com/{rest}\"";
    if text.starts_with('/') {
        let names_host = text.starts_with("//") || text.starts_with("/\\");
        return names_host.then_some(("would name another host", FORMS));
    }
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return Some(("is neither a path nor an http URL", FORMS));
    };
    let (authority, path) =
        rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    if path.is_none() {
        return Some((
            "has no path, so that a parameter could continue the host",
            "end the host with a slash, for example \"https://www.example.com/\"",
        ));
    }
    let literal = authority.replace("{host}", "");
    if literal.contains(['{', '}', '@', '\\', '?', '#']) || authority.is_empty() {
        return Some(("has a host that a client could choose", FORMS));
    }
    if authority.contains("{host}") && !route_has_host {
        return Some(("uses {host} on a route for every host", "set match.host, or write the host"));
    }
    None
}

/// Whether a listener asks clients for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificates {
    Asked,
    NotAsked,
}

/// `request_headers` or `response_headers`. `protected`: why a key (`set`, `add`, `remove`) cannot have a field.
pub(crate) fn edits<'f>(
    at: &Place<'f>,
    file: Option<&'f HeaderEditsFile>,
    pattern: &PathPattern,
    certificates: ClientCertificates,
    protected: impl Fn(&str, &HeaderName) -> Option<&'static str>,
) -> HeaderEdits {
    let Some(file) = file else { return HeaderEdits::default() };
    let editable = |key: &str, name: HeaderName| match protected(key, &name) {
        None => Ok(name),
        Some(reason) => refuse(
            name.as_str(),
            format!("cannot be changed: {reason}"),
            if name == "vary" { "remove it, or use add" } else { "remove it" },
        ),
    };
    let fields = |key: &'static str, fields: &'f Option<Named<String>>| {
        let fields = at.key(key).sections(fields.as_ref());
        fields.filter_map(|(field, name, value)| {
            let name = field.check_name(units::header_name(name).and_then(|name| editable(key, name)))?;
            warn_of_variables(&field, value);
            let value = field.check(field_value(value, pattern))?;
            if value.placeholders().any(Placeholder::is_of_certificate) {
                warn_of_certificate_value(&field, key, certificates);
            }
            Some((field, name, value))
        })
    };
    let set = distinct_fields(fields("set", &file.set));
    let mut remove: Vec<HeaderName> = Vec::new();
    for (item, name) in at.key("remove").items(&file.remove) {
        let Some(name) = item.check(editable("remove", name.0.clone())) else { continue };
        if set.iter().any(|(other, _)| *other == name) || remove.contains(&name) {
            item.report(format!("{name} is set or removed already"), "remove it");
        }
        remove.push(name);
    }
    HeaderEdits { set, add: fields("add", &file.add).map(|(_, name, value)| (name, value)).collect(), remove }
}

/// Warns of a value that is always absent, or that a client could forge.
fn warn_of_certificate_value(field: &Place<'_>, key: &str, certificates: ClientCertificates) {
    match (certificates, key) {
        (ClientCertificates::NotAsked, _) => field.warn(
            "no listener asks clients for certificates, so the value is always absent",
            "set client_ca and client_auth in listen[].tls, or remove it",
        ),
        (ClientCertificates::Asked, "add") => field.warn(
            "add keeps the fields of this name that the client sends, so that it can name any certificate",
            "move it to set",
        ),
        (ClientCertificates::Asked, _) => {}
    }
}

/// Variables of other tools are text here.
fn warn_of_variables(at: &Place<'_>, text: &str) {
    if suggestions::has_variable(text) {
        let message = format!("{} is sent as it is written", quoted(text));
        at.warn(message, "write placeholders in braces, for example {rest} for a parameter of the path");
    }
}

fn field_value(text: &str, pattern: &PathPattern) -> Result<ValueTemplate, Diagnostic> {
    if text.chars().any(|letter| letter.is_control() && letter != '\t') {
        return refuse(text, "has a control character", "write one line of text");
    }
    template(text.trim(), pattern, &PLACEHOLDER_NAMES)
}

/// The placeholders are the parameters of the path and those `names`.
fn template(text: &str, pattern: &PathPattern, names: &[&str]) -> Result<ValueTemplate, Diagnostic> {
    ValueTemplate::parse(text, pattern).map_err(|error| {
        let help = match &error {
            TemplateError::UnbalancedBrace => {
                "close each brace, or write {{ or }} for a literal brace".to_owned()
            }
            TemplateError::UnknownPlaceholder(name) => match name.strip_prefix('*') {
                Some(rest) if pattern.position(rest).is_some() => {
                    let meant = text.replace(&format!("{{{name}}}"), &format!("{{{rest}}}"));
                    format!("write {}", quoted(&meant))
                }
                Some(_) | None => parameter_help(pattern, names),
            },
        };
        Diagnostic::new(format!("{}: {error}", quoted(text)), help)
    })
}

/// Refuses placeholders that are not possible here.
fn check_placeholders(
    text: &str,
    template: &ValueTemplate,
    (pattern, names): (&PathPattern, &[&str]),
    is_allowed: fn(Placeholder) -> bool,
) -> Result<(), Diagnostic> {
    if template.placeholders().all(is_allowed) {
        return Ok(());
    }
    let help = parameter_help(pattern, names);
    refuse(text, "uses a value that is no parameter of the path", help)
}

fn parameter_help(pattern: &PathPattern, names: &[&str]) -> String {
    let names = pattern.names().iter().map(String::as_str).chain(names.iter().copied());
    let names: Vec<String> = names.map(|name| format!("{{{name}}}")).collect();
    if names.is_empty() {
        return "write the text without braces: the route's path has no parameters".to_owned();
    }
    format!("use one of {}", join_or(&names))
}

/// `maintenance`; `None` while it is not enabled.
pub(crate) fn maintenance(at: &Place<'_>, file: Option<&MaintenanceFile>) -> Option<Maintenance> {
    let file = file?;
    let message = file.message.as_deref().filter(|text| at.key("message").message(text));
    file.enabled.then(|| Maintenance {
        message: message.map(Arc::from),
        retry_after: file.retry_after.as_ref().map(|seconds| **seconds),
        allow_from: Text::values(&file.allow_from),
    })
}
