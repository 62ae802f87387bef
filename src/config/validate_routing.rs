//! Checks the section `routes`, and the references to other sections.
//!
//! [`super::route_patterns`] detects conflicting routes, [`super::validate_actions`] checks what routes do besides
//! forwarding.

use std::sync::Arc;

use http::{HeaderName, Method};

use super::file::forms::Text;
use super::file::route::{ForwardedWord, PathsWord, RouteFile};
use super::file::syntaxes::MethodName;
use super::problem::quoted;
use super::route_patterns::{self, RoutePattern, RouteTable};
use super::structure::metric_name;
use super::validate_actions::{self, ClientCertificates};
use super::validate_contracts::Contracts;
use super::validate_cors;
use super::validate_errors::{self, ErrorScope, OverrideTarget};
use super::validate_limits::{self, ValidatedLimit};
use super::validate_respond;
use super::validate_timeouts;
use super::validator::Place;
use super::{ErrorSettings, RouteConfig, UpstreamConfig};
use crate::contract::Contract;
use crate::http::cors::CorsRules;
use crate::http::header_edits::{protected_request_field, protected_response_field};
use crate::http::path_pattern::PathPattern;
use crate::http::route_conditions::RouteConditions;

/// The sections that routes refer to.
pub(crate) struct RouteContext<'a> {
    /// In the order of the file.
    pub upstreams: &'a [UpstreamConfig],
    /// The top-level `errors`.
    pub errors: &'a ErrorSettings,
    /// The top-level `cors`.
    pub cors: Option<&'a CorsRules>,
    /// The contract of every route, in the order of the file.
    pub contracts: &'a [Arc<Contract>],
    /// All contracts.
    pub declared: &'a Contracts,
    /// The rules under `rate_limits`, including invalid ones.
    pub limits: &'a [ValidatedLimit],
    /// `client.max_body` in bytes.
    pub max_body: u64,
    pub client_certificates: ClientCertificates,
}

/// One route of the file.
struct Route<'a> {
    at: Place<'a>,
    name: String,
    file: &'a RouteFile,
    contract: &'a Arc<Contract>,
}

/// Every route, in the order of the file.
pub(crate) fn routes(
    list: &Place<'_>,
    files: Option<&Vec<RouteFile>>,
    context: &RouteContext<'_>,
) -> Vec<RouteConfig> {
    let mut table = RouteTable::default();
    let mut routes: Vec<RouteConfig> = Vec::new();
    for ((at, file), contract) in list.items(files.into_iter().flatten()).zip(context.contracts) {
        let name = route_name(&at.key("name"), file, (list, &routes));
        routes.push(check(&Route { at, name, file, contract }, context, &mut table));
    }
    routes
}

fn route_name(at: &Place<'_>, file: &RouteFile, (list, earlier): (&Place<'_>, &[RouteConfig])) -> String {
    let Some(name) = &file.name else { return String::new() };
    let same_name = earlier.iter().position(|route| route.name == *name);
    if let (Some(()), Some(index)) = (at.check(metric_name(name)), same_name) {
        let place = at.other_file(&list.item(index).key("name"));
        at.report(format!("another route is already named {}{place}", quoted(name)), "choose another name");
    }
    name.clone()
}

fn check(route: &Route<'_>, context: &RouteContext<'_>, table: &mut RouteTable) -> RouteConfig {
    let Route { at, file, .. } = route;
    validate_timeouts::check(&at.key("timeouts"), &file.timeouts);
    let methods = distinct(file.matches.methods.as_deref());
    let conditions = check_match(route, &methods, table);
    let (host, path) =
        (file.matches.host.as_ref().and_then(|host| host.0.clone()), file.matches.path.clone());
    let pattern = PathPattern::parse(&path);
    let respond = file.respond.as_ref();
    let contract = Some(&**route.contract).filter(|_| !context.declared.is_stand_in(route.contract));
    let route_response = validate_respond::error_code(&at.key("respond"), respond, contract);
    let errors = ErrorSettings { route_response, ..errors(&at.key("errors"), route, context) };
    let has_cors = file.cors.is_some();
    let owned_field = |key: &str, name: &HeaderName| match name.as_str() {
        text if text.starts_with("access-control-") => {
            has_cors.then_some("the key cors of the route decides it")
        }
        "vary" if key != "add" && (has_cors || errors.negotiate) => Some("the gateway adds members to it"),
        _ => None,
    };
    RouteConfig {
        name: route.name.clone(),
        upstream: upstream(at, file, context),
        cors: validate_cors::route(&at.key("cors"), file.cors.as_ref(), context.cors, &methods),
        action: validate_actions::action(at, file, host.as_deref(), &pattern),
        path_rewrite: validate_actions::path_rewrite(at, file, &pattern),
        request_edits: validate_actions::edits(
            &at.key("request_headers"),
            file.request_headers.as_ref(),
            &pattern,
            context.client_certificates,
            |_, name| protected_request_field(name),
        ),
        response_edits: validate_actions::edits(
            &at.key("response_headers"),
            file.response_headers.as_ref(),
            &pattern,
            context.client_certificates,
            |key, name| protected_response_field(name).or_else(|| owned_field(key, name)),
        ),
        maintenance: validate_actions::maintenance(&at.key("maintenance"), file.maintenance.as_ref()),
        errors,
        conditions,
        host,
        pattern,
        path,
        methods,
        timeouts: file.timeouts.clone(),
        max_body: file.max_body.map_or(context.max_body, |size| *size),
        rate_limits: validate_limits::route_rules(&at.key("rate_limits"), &file.rate_limits, context.limits),
        deny_methods: distinct(file.deny.as_ref().map(|deny| &*deny.methods)),
        allow_from: file.allow_from.as_deref().map(Text::values).unwrap_or_default(),
        deny_from: Text::values(&file.deny_from),
        lenient_paths: file.paths == PathsWord::Lenient,
        upgrades: at.key("upgrades").distinct(Text::values(&file.upgrades)),
        append_forwarded: file.forwarded == ForwardedWord::Append,
    }
}

/// The methods of a list, each once.
fn distinct(list: Option<&[MethodName]>) -> Vec<Method> {
    let mut methods: Vec<Method> = Vec::new();
    for method in list.into_iter().flatten() {
        if !methods.contains(method) {
            methods.push(method.0.clone());
        }
    }
    methods
}

fn upstream(at: &Place<'_>, file: &RouteFile, context: &RouteContext<'_>) -> Option<usize> {
    let responds = ["redirect", "respond"].iter().any(|key| at.key(key).is_written());
    if file.upstream.is_none() && !responds {
        at.key("upstream").missing("write the name of an upstream, for example upstream: shop");
    }
    let name = file.upstream.as_ref()?;
    context.upstreams.iter().position(|upstream| upstream.name == *name)
}

fn errors(at: &Place<'_>, route: &Route<'_>, context: &RouteContext<'_>) -> ErrorSettings {
    let Route { file, contract, .. } = route;
    // An override with another upstream is reported below, and only there.
    let target: OverrideTarget<'_> = (contract, file.upstream.as_deref());
    let targets = if context.declared.is_stand_in(contract) { &[][..] } else { &[target][..] };
    let rules = validate_errors::rules(at, &file.errors, &ErrorScope { contract, targets });
    let upstreams = at.validator.root().key("upstreams");
    for (item, rule) in at.key("overrides").items(rules.iter().flat_map(|rules| &rules.overrides)) {
        if let (Some(named), Some(used)) = (&rule.matcher.upstream, &file.upstream)
            && **named != **used
            && upstreams.key(named).is_written()
        {
            let message =
                format!("the override would never apply: this route uses upstream {}", quoted(used));
            item.key("when").key("upstream").report(message, "remove this key");
        }
    }
    rules.unwrap_or_else(|| context.errors.clone())
}

/// Checks `match`, also against earlier routes.
fn check_match(route: &Route<'_>, methods: &[Method], table: &mut RouteTable) -> RouteConditions {
    let section = route.at.key("match");
    let file = &route.file.matches;
    let lenient = route.file.paths == PathsWord::Lenient;
    let shape = section.key("path").check(route_patterns::path_shape(&file.path, lenient));
    let conditions = validate_actions::conditions(&section, file);
    let name = if route.name.is_empty() { "without a name" } else { &route.name };
    let host = file.host.as_ref().and_then(|host| host.0.clone());
    // A route with an invalid `match` is not compared with others.
    if let (false, Some(shape)) = (section.any_invalid(), shape) {
        section.check(table.add(&host, RoutePattern::new(shape, methods, &conditions, name)));
    }
    conditions
}
