//! Checks the section `routes`, and the references to other sections.
//!
//! [`super::route_patterns`] detects conflicting routes, [`super::validate_actions`] checks what routes do besides
//! forwarding.

use std::sync::Arc;

use http::Method;

use super::file::forms::Text;
use super::file::route::{ForwardedWord, PathsWord, RouteFile};
use super::problem::{Diagnostic, quoted};
use super::route_patterns::{self, RoutePattern, RouteTable};
use super::structure::metric_name;
use super::tree::KeyPath;
use super::validate_actions;
use super::validate_cors;
use super::validate_errors::{self, ErrorScope, OverrideTarget};
use super::validate_limits::{self, ValidatedLimit};
use super::validate_respond;
use super::validate_upstreams::{check_timeouts, timeouts};
use super::validator::{Validator, distinct};
use super::{ErrorRules, RouteConfig, UpstreamConfig};
use crate::contract::Contract;
use crate::http::cors::CorsRules;
use crate::http::path_pattern::PathPattern;
use crate::http::route_conditions::RouteConditions;

/// The sections that routes refer to.
pub(crate) struct RouteContext<'a> {
    /// In the order of the file.
    pub upstreams: &'a [UpstreamConfig],
    /// The top-level `errors`.
    pub errors: &'a ErrorRules,
    /// The top-level `cors`.
    pub cors: Option<&'a CorsRules>,
    /// The contract of every route, in the order of the file.
    pub contracts: &'a [Arc<Contract>],
    /// The rules under `rate_limits`, including invalid ones.
    pub limits: &'a [ValidatedLimit],
    /// `client.max_body` in bytes.
    pub max_body: u64,
}

/// One route of the file.
struct Route<'a> {
    at: KeyPath<'a>,
    name: String,
    file: &'a RouteFile,
    contract: &'a Arc<Contract>,
}

/// Every route, in the order of the file.
pub(crate) fn routes(
    validator: &mut Validator<'_>,
    files: Option<&Vec<RouteFile>>,
    context: &RouteContext<'_>,
) -> Vec<RouteConfig> {
    let root = KeyPath::Root;
    let list = root.key("routes");
    let mut table = RouteTable::default();
    let mut routes: Vec<RouteConfig> = Vec::new();
    for (index, (file, contract)) in files.into_iter().flatten().zip(context.contracts).enumerate() {
        let at = list.item(index);
        let name = route_name(validator, &at.key("name"), file, &routes);
        routes.push(check(validator, &Route { at, name, file, contract }, context, &mut table));
    }
    routes
}

fn route_name(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &RouteFile,
    earlier: &[RouteConfig],
) -> String {
    let Some(name) = &file.name else { return String::new() };
    let same_name = earlier.iter().position(|route| route.name == *name);
    if let (Some(_), Some(index)) = (validator.check(at, metric_name(name)), same_name) {
        let root = KeyPath::Root;
        let list = root.key("routes");
        let place = validator.other_file(at, &list.item(index).key("name"));
        let message = format!("another route is already named {}{place}", quoted(name));
        validator.report(at, Diagnostic::new(message, "choose another name"));
    }
    name.clone()
}

fn check(
    validator: &mut Validator<'_>,
    route: &Route<'_>,
    context: &RouteContext<'_>,
    table: &mut RouteTable,
) -> RouteConfig {
    let Route { at, file, .. } = route;
    check_timeouts(validator, &at.key("timeouts"), &file.timeouts);
    let methods = distinct(file.matches.methods.as_deref());
    let conditions = check_match(validator, route, &methods, table);
    let (host, path) =
        (file.matches.host.as_ref().and_then(|host| host.0.clone()), file.matches.path.clone());
    let action = validate_actions::action(validator, at, file, host.as_deref(), &path);
    let edits = [("request_headers", &file.request_headers), ("response_headers", &file.response_headers)];
    let [request_edits, response_edits] =
        edits.map(|(key, file)| validate_actions::edits(validator, at, (key, file.as_ref()), &path));
    let respond = file.respond.as_ref();
    let route_response = validate_respond::error_code(validator, &at.key("respond"), respond, route.contract);
    let errors = errors(validator, &at.key("errors"), route, context);
    RouteConfig {
        name: route.name.clone(),
        upstream: upstream(validator, at, file, context),
        errors: ErrorRules { route_response, ..errors },
        cors: validate_cors::route(validator, &at.key("cors"), file.cors.as_ref(), context.cors, &methods),
        action,
        path_rewrite: validate_actions::path_rewrite(validator, at, file, &path),
        request_edits,
        response_edits,
        maintenance: validate_actions::maintenance(validator, &at.key("maintenance"), file),
        conditions,
        host,
        pattern: PathPattern::parse(&path),
        path,
        methods,
        timeouts: timeouts(&file.timeouts),
        max_body: file.max_body.map_or(context.max_body, |size| *size),
        rate_limits: validate_limits::route_rules(
            validator,
            &at.key("rate_limits"),
            &file.rate_limits,
            context.limits,
        ),
        deny_methods: distinct(file.deny.as_ref().map(|deny| &*deny.methods)),
        allow_from: file.allow_from.as_deref().map(Text::values).unwrap_or_default(),
        deny_from: Text::values(&file.deny_from),
        lenient_paths: file.paths == PathsWord::Lenient,
        upgrades: upgrades(validator, &at.key("upgrades"), file),
        append_forwarded: file.forwarded == ForwardedWord::Append,
    }
}

/// The allowed upgrade protocols, in lower case.
fn upgrades(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &RouteFile) -> Vec<String> {
    let mut upgrades: Vec<String> = Vec::new();
    for (index, name) in file.upgrades.iter().enumerate() {
        if upgrades.contains(name) {
            validator.report_duplicate(&at.item(index));
        }
        upgrades.push(name.0.clone());
    }
    upgrades
}

fn upstream(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &RouteFile,
    context: &RouteContext<'_>,
) -> Option<usize> {
    let responds = ["redirect", "respond"].iter().any(|key| validator.tree.is_written(&at.key(key)));
    if file.upstream.is_none() && !responds {
        validator.missing(&at.key("upstream"), "write the name of an upstream, for example upstream: shop");
    }
    let name = file.upstream.as_ref()?;
    context.upstreams.iter().position(|upstream| upstream.name == *name)
}

fn errors(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    route: &Route<'_>,
    context: &RouteContext<'_>,
) -> ErrorRules {
    let Route { file, contract, .. } = route;
    // An override with another upstream is reported below, and only there.
    let targets = [OverrideTarget { contract: Arc::clone(contract), upstream: file.upstream.as_deref() }];
    let scope = ErrorScope { contract, targets: &targets };
    let rules = validate_errors::rules(validator, at, &file.errors, &scope);
    for (index, route_override) in rules.iter().flat_map(|rules| &rules.overrides).enumerate() {
        if let (Some(override_upstream), Some(route_upstream_name)) =
            (&route_override.matcher.upstream, &file.upstream)
            && **override_upstream != **route_upstream_name
            && validator.tree.is_written(&KeyPath::Root.key("upstreams").key(override_upstream))
        {
            let list = at.key("overrides");
            let item = list.item(index);
            let message = format!(
                "the override would never apply: this route uses upstream {}",
                quoted(route_upstream_name)
            );
            validator.report(&item.key("when").key("upstream"), Diagnostic::new(message, "remove this key"));
        }
    }
    rules.unwrap_or_else(|| context.errors.clone())
}

/// Checks `match`, also against earlier routes.
fn check_match(
    validator: &mut Validator<'_>,
    route: &Route<'_>,
    methods: &[Method],
    table: &mut RouteTable,
) -> RouteConditions {
    let section = route.at.key("match");
    let file = &route.file.matches;
    let lenient = route.file.paths == PathsWord::Lenient;
    let shape = validator.check(&section.key("path"), route_patterns::path_shape(&file.path, lenient));
    let conditions = validate_actions::conditions(validator, &section, file);
    let name = if route.name.is_empty() { "without a name" } else { &route.name };
    let host = file.host.as_ref().and_then(|host| host.0.clone());
    // A route with an invalid `match` is not compared with others.
    if let (false, Some(shape)) = (validator.tree.any_invalid(&section), shape)
        && let Err(diagnostic) = table.add(&host, RoutePattern::new(shape, methods, &conditions, name))
    {
        validator.report(&section, diagnostic);
    }
    conditions
}
