//! Validates what a route does besides forwarding: conditions, path rewrites, header edits, redirects, maintenance.
//! [`super::validate_respond`] validates `respond`.

use std::sync::Arc;

use http::HeaderName;

use super::file::actions::{HeaderEditsFile, RedirectFile};
use super::file::forms::{Named, Text};
use super::file::route::{MatchFile, RouteFile, SchemeWord};
use super::problem::{Diagnostic, quoted};
use super::tree::KeyPath;
use super::units;
use super::validate_respond;
use super::validator::Validator;
use super::{Maintenance, Redirect, RouteAction};
use crate::http::header_edits::{HeaderEdits, protected_request_field, protected_response_field};
use crate::http::path_pattern::PathPattern;
use crate::http::path_rewrite::{PathRewrite, RedirectTarget};
use crate::http::route_conditions::{Expected, RouteConditions};
use crate::http::value_template::{PLACEHOLDER_NAMES, Placeholder, TemplateError, ValueTemplate};

/// `match.scheme`, `match.headers` and `match.query`.
pub(crate) fn conditions(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &MatchFile,
) -> RouteConditions {
    let scheme = file.scheme.map(|scheme| match scheme {
        SchemeWord::Http => "http".to_owned(),
        SchemeWord::Https => "https".to_owned(),
    });
    let mut conditions = RouteConditions { scheme, ..RouteConditions::default() };
    let headers = at.key("headers");
    for (name, value) in written(file.headers.as_ref()) {
        let parsed = units::header_name(name);
        if let Some(name) = validator.check(&headers.key(name), parsed) {
            conditions.headers.push((name, expected(value)));
        }
    }
    for (name, value) in written(file.query.as_ref()) {
        conditions.query.push((name.clone(), expected(value)));
    }
    conditions
}

/// `strip_prefix` or `rewrite`.
pub(crate) fn path_rewrite(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &RouteFile,
    path: &str,
) -> Option<PathRewrite> {
    if file.strip_prefix.is_some() && file.rewrite.is_some() {
        let diagnostic = Diagnostic::new("strip_prefix and rewrite exclude each other", "remove one of them");
        validator.report(&at.key("rewrite"), diagnostic);
        return None;
    }
    if let Some(prefix) = &file.strip_prefix {
        let count = validator.check(&at.key("strip_prefix"), prefix_segments(prefix, path))?;
        return Some(PathRewrite::StripSegments(count));
    }
    let text = file.rewrite.as_ref()?;
    let at = at.key("rewrite");
    if !text.starts_with('/') || text.contains(['?', '#']) {
        let message = format!("{} is not a path", quoted(text));
        validator.report(
            &at,
            Diagnostic::new(message, "begin it with a slash, without a query, for example \"/v2/{rest}\""),
        );
        return None;
    }
    let pattern = PathPattern::parse(path);
    let template = validator.check(&at, template(text, &pattern))?;
    let others = template.placeholders().any(|placeholder| !matches!(placeholder, Placeholder::Parameter(_)));
    if others {
        let message = format!("{} uses a value that is no parameter of the path", quoted(text));
        validator.report(&at, Diagnostic::new(message, parameter_help(&pattern)));
        return None;
    }
    Some(PathRewrite::Replace(pattern, template))
}

/// The number of segments of a prefix, which must be a prefix of the route's pattern.
fn prefix_segments(prefix: &str, pattern: &str) -> Result<usize, Diagnostic> {
    let segments = |text: &str| -> Vec<String> {
        text.split('/').filter(|segment| !segment.is_empty()).map(ToOwned::to_owned).collect()
    };
    let (stripped, whole) = (segments(prefix), segments(pattern));
    let fixed: Vec<String> = whole.iter().take_while(|segment| !segment.starts_with("{*")).cloned().collect();
    if prefix.starts_with('/') && !stripped.is_empty() && fixed.starts_with(&stripped) {
        return Ok(stripped.len());
    }
    let message = format!("{} is not a prefix of the route's path {}", quoted(prefix), quoted(pattern));
    let help = match fixed.is_empty() {
        true => "set match.path to the prefix and \"/{*rest}\", for example \"/users/{*rest}\"".to_owned(),
        false => format!("write {}", quoted(&format!("/{}", fixed.join("/")))),
    };
    Err(Diagnostic::new(message, help))
}

/// What happens to a request that is admitted.
pub(crate) fn action(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &RouteFile,
    host: Option<&str>,
    path: &str,
) -> RouteAction {
    let key = match (&file.redirect, &file.respond) {
        (None, None) => return RouteAction::Forward,
        (Some(_), _) => "redirect",
        (None, Some(_)) => "respond",
    };
    let pointless =
        ["upstream", "strip_prefix", "rewrite", "request_headers", "upgrades", "forwarded", "respond"];
    for other in pointless.into_iter().filter(|other| *other != key) {
        if validator.tree.is_written(&at.key(other)) {
            let message = format!("a route with {key} forwards nothing: {other} would never apply");
            validator.report(&at.key(other), Diagnostic::new(message, format!("remove {other}, or {key}")));
        }
    }
    let section = at.key(key);
    match (&file.redirect, &file.respond) {
        (Some(file), _) => redirect(validator, &section, file, host, path)
            .map_or(RouteAction::Forward, |redirect| RouteAction::Redirect(Arc::new(redirect))),
        (None, Some(file)) => validate_respond::action(validator, &section, file),
        (None, None) => RouteAction::Forward,
    }
}

fn redirect(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &RedirectFile,
    host: Option<&str>,
    path: &str,
) -> Option<Redirect> {
    let text = &file.to;
    let at = at.key("to");
    let pattern = PathPattern::parse(path);
    let template = validator.check(&at, template(text, &pattern))?;
    let problem = target_problem(text, host.is_some());
    if let Some((message, help)) = problem {
        validator.report(&at, Diagnostic::new(format!("{} {message}", quoted(text)), help));
        return None;
    }
    let others =
        |placeholder: Placeholder| !matches!(placeholder, Placeholder::Parameter(_) | Placeholder::Host);
    if template.placeholders().any(others) {
        let message = format!("{} uses a value that is no parameter of the path", quoted(text));
        validator.report(&at, Diagnostic::new(message, parameter_help(&pattern)));
        return None;
    }
    let target = RedirectTarget::new(pattern, template, text.contains('?'));
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

/// `request_headers` or `response_headers`.
pub(crate) fn edits(
    validator: &mut Validator<'_>,
    route: &KeyPath<'_>,
    (key, file): (&str, Option<&HeaderEditsFile>),
    path: &str,
) -> HeaderEdits {
    let at = route.key(key);
    let protected = if key == "request_headers" { protected_request_field } else { protected_response_field };
    let mut edits = HeaderEdits::default();
    let Some(file) = file else { return edits };
    let pattern = PathPattern::parse(path);
    for (key, fields) in [("set", &file.set), ("add", &file.add)] {
        let section = at.key(key);
        for (name, value) in written(fields.as_ref()) {
            let field = section.key(name);
            let parsed = units::header_name(name).and_then(|name| editable(name, protected));
            let Some(name) = validator.check(&field, parsed) else { continue };
            let Some(template) = validator.check(&field, field_value(value, &pattern)) else { continue };
            if key == "set" { edits.set.push((name, template)) } else { edits.add.push((name, template)) }
        }
    }
    for (index, name) in file.remove.iter().enumerate() {
        let name = validator.check(&at.key("remove").item(index), editable((**name).clone(), protected));
        edits.remove.extend(name);
    }
    edits
}

fn editable(
    name: HeaderName,
    protected: fn(&HeaderName) -> Option<&'static str>,
) -> Result<HeaderName, Diagnostic> {
    match protected(&name) {
        None => Ok(name),
        Some(reason) => Err(Diagnostic::new(
            format!("{} cannot be changed: {reason}", quoted(name.as_str())),
            "remove it",
        )),
    }
}

fn field_value(text: &str, pattern: &PathPattern) -> Result<ValueTemplate, Diagnostic> {
    if text.chars().any(|letter| letter.is_control() && letter != '\t') {
        let message = format!("{} has a control character", quoted(text));
        return Err(Diagnostic::new(message, "write one line of text"));
    }
    template(text.trim(), pattern)
}

fn template(text: &str, pattern: &PathPattern) -> Result<ValueTemplate, Diagnostic> {
    for name in ["client_cert_subject", "client_cert_fingerprint"] {
        if text.contains(&format!("{{{name}}}")) {
            let message = format!("{{{name}}} is not supported yet");
            return Err(Diagnostic::new(message, "remove it"));
        }
    }
    ValueTemplate::parse(text, pattern).map_err(|error| {
        let help = match &error {
            TemplateError::UnbalancedBrace => {
                "close each brace, or write {{ or }} for a literal brace".to_owned()
            }
            TemplateError::UnknownPlaceholder(_) => parameter_help(pattern),
        };
        Diagnostic::new(format!("{}: {error}", quoted(text)), help)
    })
}

fn parameter_help(pattern: &PathPattern) -> String {
    let names = pattern.names().iter().map(String::as_str).chain(PLACEHOLDER_NAMES);
    let names: Vec<String> = names.map(|name| format!("{{{name}}}")).collect();
    format!("expected {}", super::problem::join_or(&names))
}

/// `maintenance`; `None` while it is not enabled.
pub(crate) fn maintenance(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &RouteFile,
) -> Option<Maintenance> {
    let file = file.maintenance.as_ref()?;
    let message = file.message.as_deref().filter(|text| validator.message(&at.key("message"), text));
    file.enabled.then(|| Maintenance {
        message: message.map(Arc::from),
        retry_after: file.retry_after.as_ref().map(|seconds| **seconds),
        allow_from: Text::values(&file.allow_from),
    })
}

fn expected(value: &str) -> Expected {
    if value == "*" { Expected::Present } else { Expected::Value(value.to_owned()) }
}

fn written(fields: Option<&Named<String>>) -> impl Iterator<Item = &(String, String)> {
    fields.into_iter().flat_map(|fields| &fields.0)
}
