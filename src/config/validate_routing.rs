//! Checks the sections `timeouts`, `upstreams` and `routes`, and the references between them.
//!
//! Timeouts are resolved for each route: from the route, its upstream, the top level, then the default.
//! [`super::route_patterns`] detects conflicting routes.

use std::sync::Arc;
use std::time::Duration;

use super::file::ConfigFile;
use super::file::forms::{Either, Server};
use super::file::route::{ForwardedWord, MatchFile, PathsWord, RouteFile};
use super::file::routing::{Http2, ServerFile, TimeoutsFile, UpstreamFile, ViaWord};
use super::problem::{Diagnostic, quoted};
use super::route_patterns::{self, RoutePattern, RouteTable};
use super::tree::KeyPath;
use super::validate_actions;
use super::validate_cors;
use super::validate_errors::{self, ErrorScope, OverrideTarget, unknown_upstream};
use super::validate_limits::{self, ValidatedLimit};
use super::validator::{Validator, metric_name};
use super::{ErrorRules, RouteConfig, Timeouts, UpstreamConfig, UpstreamServer};
use super::{validate_servers, validate_tls};
use crate::contract::Contract;
use crate::http::cors::CorsRules;
use crate::http::path_pattern::PathPattern;
use crate::http::route_conditions::RouteConditions;
use crate::http::upgrade;
use crate::upstream::concurrency::ConcurrencyLimits;
use crate::upstream::http2::HttpVersionPolicy;
use crate::upstream::settings::NameSource;

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
    /// The names under `upstreams`, including invalid ones.
    pub upstream_names: &'a [&'a str],
    /// The rules under `rate_limits`, including invalid ones.
    pub limits: &'a [ValidatedLimit],
    /// `client.max_body` in bytes.
    pub max_body: u64,
}

/// Only within one section: a route may shorten `deadline` and inherit the rest.
fn check_timeouts(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &TimeoutsFile) {
    let deadline = ("deadline", *file.deadline);
    let pairs = [
        (("connect", *file.connect), deadline),
        (("tls", *file.tls), deadline),
        (("response_headers", *file.response_headers), deadline),
        (deadline, ("max_duration", file.max_duration.unwrap_or(Duration::MAX))),
    ];
    for ((inner, short), (outer, long)) in pairs {
        let both_written =
            validator.tree.is_written(&at.key(inner)) && validator.tree.is_written(&at.key(outer));
        if both_written && short > long {
            let text = |time| humantime::format_duration(time).to_string().replace(' ', "");
            let message = format!(
                "{} is longer than {outer} ({}), so it would never take effect",
                text(short),
                text(long)
            );
            let help = format!("shorten {inner} or lengthen {outer}");
            validator.report(&at.key(inner), Diagnostic::new(message, help));
        }
    }
}

fn timeouts(file: &TimeoutsFile) -> Timeouts {
    Timeouts {
        connect: *file.connect,
        tls: *file.tls,
        response_headers: *file.response_headers,
        deadline: *file.deadline,
        body_idle: *file.body_idle,
        stream_idle: *file.stream_idle,
        tunnel_idle: *file.tunnel_idle,
        max_duration: *file.max_duration,
    }
}

/// Every upstream, in the order of the file.
pub(crate) fn upstreams(validator: &mut Validator<'_>, file: &ConfigFile) -> Vec<UpstreamConfig> {
    let root = KeyPath::Root;
    check_timeouts(validator, &root.key("timeouts"), &file.timeouts);
    let names = validate_servers::name_source(validator, &root.key("resolver"), &file.resolver);
    let section = root.key("upstreams");
    let mut upstreams = Vec::new();
    for (name, file) in file.upstreams.iter().flat_map(|files| &files.0) {
        let at = section.key(name);
        validator.check(&at, metric_name(name));
        check_timeouts(validator, &at.key("timeouts"), &file.timeouts);
        upstreams.push(UpstreamConfig { names: names.clone(), ..upstream(validator, &at, name, file) });
    }
    upstreams
}

fn upstream(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    name: &str,
    file: &UpstreamFile,
) -> UpstreamConfig {
    let mut servers = servers(validator, &at.key("servers"), file);
    let cert_verification = validate_tls::upstream(validator, at, file.tls.as_ref(), &mut servers);
    let concurrency = file.concurrency.as_ref().and_then(|file| {
        let (queue, queue_timeout) = (file.queue, *file.queue_timeout);
        Some(ConcurrencyLimits { max: file.max?, queue, queue_timeout })
    });
    UpstreamConfig {
        name: name.to_owned(),
        servers: servers.into_iter().map(|(server, _)| server).collect(),
        cert_verification,
        dns_refresh: *file.dns_refresh,
        names: NameSource::default(),
        keepalive_max: file.keepalive.max,
        keepalive_idle: *file.keepalive.idle,
        attempts: file.retry.attempts,
        sends_via: match file.via {
            ViaWord::On => true,
            ViaWord::Off => false,
        },
        host: file.host.0.clone(),
        retry_on_status: file.retry.on_status.clone(),
        retry_budget: validate_servers::percent(file.retry.budget),
        balance: validate_servers::balance(validator, at, &file.balance),
        health: file.health.as_ref().and_then(|health| validate_servers::health(validator, at, health)),
        ejection: validate_servers::ejection(&file.ejection),
        failure_status: validate_servers::failure_status(&file.ejection),
        breaker: file.breaker.as_ref().map(validate_servers::breaker),
        concurrency,
        http2: match file.http2 {
            Http2::Off => HttpVersionPolicy::Http1,
            Http2::Auto => HttpVersionPolicy::Auto,
            Http2::Always => HttpVersionPolicy::Http2,
        },
    }
}

/// Every valid server and its index in the file.
fn servers(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &UpstreamFile,
) -> Vec<(UpstreamServer, usize)> {
    const HELP: &str = "list at least one, for example servers: [\"127.0.0.1:8000\"]";
    match &file.servers {
        None => {}
        Some(servers) if servers.is_empty() && !validator.tree.any_invalid(at) => {
            validator.report(at, Diagnostic::new("no server is listed", HELP));
        }
        Some(_) => {}
    }
    let sni = file.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    let mut servers: Vec<(UpstreamServer, usize)> = Vec::new();
    for (index, form) in file.servers.iter().flatten().enumerate() {
        let item = at.item(index);
        let Some(server) = server(validator, &item, form, sni) else { continue };
        if servers.iter().any(|(other, _)| other.host == server.host && other.port == server.port) {
            let message = format!("{} is listed twice", server.label());
            let help = format!("keep one and set its weight: {{ address: {:?}, weight: 2 }}", server.label());
            validator.report(&item, Diagnostic::new(message, help));
        }
        servers.push((server, index));
    }
    servers
}

fn server(
    validator: &mut Validator<'_>,
    item: &KeyPath<'_>,
    form: &Either<Server, ServerFile>,
    sni: Option<&str>,
) -> Option<UpstreamServer> {
    let (address, weight) = match form {
        Either::Short(address) => (address, 1),
        Either::Long(file) => (file.address.as_ref()?, file.weight),
    };
    // With `tls.sni`, the host of the server need not be a valid certificate name.
    let sni_name = sni.and_then(|sni| validate_tls::certificate_name(sni).ok());
    let name = match (address.tls, sni_name) {
        (false, _) => None,
        (true, Some(name)) => Some(name),
        (true, None) => Some(validator.check(item, validate_tls::certificate_name(&address.host))?),
    };
    Some(UpstreamServer { host: address.host.clone(), port: address.port, weight, tls_name: name })
}

/// Every route, in the order of the file.
pub(crate) fn routes(
    validator: &mut Validator<'_>,
    files: Option<&Vec<RouteFile>>,
    context: &RouteContext<'_>,
) -> Vec<RouteConfig> {
    const HELP: &str = "add a route, for example routes: [{ name: all, upstream: shop }]";
    let root = KeyPath::Root;
    let list = root.key("routes");
    match files {
        None => {}
        Some(files) if files.is_empty() && !validator.tree.any_invalid(&list) => {
            validator
                .report(&list, Diagnostic::new("the list is empty, so every request would get 404", HELP));
        }
        Some(_) => {}
    }
    let mut table = RouteTable::default();
    let mut routes: Vec<RouteConfig> = Vec::new();
    for (index, file) in files.into_iter().flatten().enumerate() {
        let at = list.item(index);
        let name = route_name(validator, &at.key("name"), file, &routes);
        let Some(contract) = context.contracts.get(index) else { break };
        routes.push(route(validator, &at, (name, contract), file, context, &mut table));
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

fn route(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    (name, contract): (String, &Arc<Contract>),
    file: &RouteFile,
    context: &RouteContext<'_>,
    table: &mut RouteTable,
) -> RouteConfig {
    let upstream = route_upstream(validator, &at.key("upstream"), file, context);
    check_timeouts(validator, &at.key("timeouts"), &file.timeouts);
    let errors = route_errors(validator, &at.key("errors"), contract, file, context);
    let lenient_paths = matches!(file.paths, Some(PathsWord::Lenient));
    let display_name = if name.is_empty() { "without a name" } else { &name };
    let RouteMatch { host, path, methods, conditions } =
        route_match(validator, at, display_name, file.matches.as_ref(), lenient_paths, table);
    let max_body = validator.size(&at.key("max_body"), file.max_body.as_ref(), 0..=u64::MAX, "");
    let cors = validate_cors::route(validator, &at.key("cors"), file.cors.as_ref(), context.cors, &methods);
    let deny = file.deny.as_ref();
    let action = validate_actions::action(validator, at, file, host.as_deref(), &path);
    RouteConfig {
        action,
        path_rewrite: validate_actions::path_rewrite(validator, at, file, &path),
        request_edits: validate_actions::request_edits(
            validator,
            &at.key("request_headers"),
            file.request_headers.as_ref(),
            &path,
        ),
        response_edits: validate_actions::response_edits(
            validator,
            &at.key("response_headers"),
            file.response_headers.as_ref(),
            &path,
        ),
        maintenance: validate_actions::maintenance(
            validator,
            &at.key("maintenance"),
            file.maintenance.as_ref(),
        ),
        conditions,
        deny_from: validator.networks(&at.key("deny_from"), file.deny_from.as_ref()),
        name,
        host,
        pattern: PathPattern::parse(&path),
        path,
        methods,
        upstream,
        errors,
        cors,
        timeouts: timeouts(&file.timeouts),
        max_body: max_body.unwrap_or(context.max_body),
        rate_limits: validate_limits::route_rules(
            validator,
            &at.key("rate_limits"),
            file.rate_limits.as_ref(),
            context.limits,
        ),
        deny_methods: validator
            .methods(&at.key("deny").key("methods"), deny.and_then(|deny| deny.methods.as_ref())),
        allow_from: allow_from(validator, &at.key("allow_from"), file),
        lenient_paths,
        upgrades: upgrades(validator, &at.key("upgrades"), file),
        append_forwarded: matches!(file.forwarded, Some(ForwardedWord::Append)),
    }
}

/// The allowed upgrade protocols, in lower case.
fn upgrades(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &RouteFile) -> Vec<String> {
    let Some(names) = &file.upgrades else { return vec![upgrade::WEBSOCKET.to_owned()] };
    let mut upgrades = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        let problem = match upgrade::forbidden_reason(&lower) {
            Some(reason) => Some((format!("{} cannot be tunnelled: {reason}", quoted(name)), "remove it")),
            None if upgrades.contains(&lower) => {
                Some((format!("{} is listed twice", quoted(name)), "keep one"))
            }
            None => None,
        };
        match problem {
            Some((message, help)) => validator.report(&at.item(index), Diagnostic::new(message, help)),
            None => upgrades.push(lower),
        }
    }
    upgrades
}

fn route_upstream(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &RouteFile,
    context: &RouteContext<'_>,
) -> Option<usize> {
    let Some(name) = &file.upstream else {
        if file.redirect.is_none() {
            validator.missing(at, "write the name of an upstream, for example upstream: shop");
        }
        return None;
    };
    let index = context.upstreams.iter().position(|upstream| upstream.name == *name);
    let root = KeyPath::Root;
    if index.is_none()
        && !validator.tree.is_written(&root.key("upstreams").key(name))
        && !context.upstream_names.contains(&name.as_str())
    {
        validator.report(at, unknown_upstream(name, context.upstream_names));
    }
    index
}

fn route_errors(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    contract: &Arc<Contract>,
    file: &RouteFile,
    context: &RouteContext<'_>,
) -> ErrorRules {
    // An override with another upstream is reported below, and only there.
    let targets = [OverrideTarget { contract: Arc::clone(contract), upstream: file.upstream.as_deref() }];
    let scope = ErrorScope { contract, targets: &targets, upstreams: context.upstream_names };
    let rules = validate_errors::rules(validator, at, &file.errors, &scope);
    for (index, route_override) in rules.iter().flat_map(|rules| &rules.overrides).enumerate() {
        if let (Some(override_upstream), Some(route_upstream_name)) =
            (&route_override.matcher.upstream, &file.upstream)
            && **override_upstream != **route_upstream_name
            && context.upstream_names.contains(&&**override_upstream)
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

/// A valid `match`.
struct RouteMatch {
    host: Option<String>,
    path: String,
    methods: Vec<http::Method>,
    conditions: RouteConditions,
}

/// Checks `match`, also against earlier routes.
fn route_match(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    name: &str,
    file: Option<&MatchFile>,
    lenient: bool,
    table: &mut RouteTable,
) -> RouteMatch {
    const CATCH_ALL: &str = "/{*rest}";
    let section = at.key("match");
    let host = file.and_then(|file| file.host.as_deref());
    let host = host.map(|text| validator.check(&section.key("host"), route_patterns::host(text)));
    let path = file.and_then(|file| file.path.as_deref()).unwrap_or(CATCH_ALL);
    let shape = validator.check(&section.key("path"), route_patterns::path_shape(path, lenient));
    let methods = match file.and_then(|file| file.methods.as_ref()) {
        Some(list) if list.is_empty() && !validator.tree.any_invalid(&section.key("methods")) => {
            let diagnostic = Diagnostic::new(
                "the list is empty, so the route would match no request",
                "remove the key to match all methods",
            );
            validator.report(&section.key("methods"), diagnostic);
            Vec::new()
        }
        list => validator.methods(&section.key("methods"), list),
    };
    let conditions = validate_actions::conditions(validator, &section, file);
    // A route with an invalid `match` is not compared with others.
    let valid = !matches!(host, Some(None)) && !validator.tree.any_invalid(&section);
    let host = host.flatten().flatten();
    if let (true, Some(shape)) = (valid, shape)
        && let Err(diagnostic) = table.add(&host, RoutePattern::new(shape, &methods, &conditions, name))
    {
        validator.report(&section, diagnostic);
    }
    RouteMatch { host, path: path.to_owned(), methods, conditions }
}

fn allow_from(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &RouteFile) -> Vec<ipnet::IpNet> {
    // An empty list in the configuration means all clients.
    if file.allow_from.as_ref().is_some_and(Vec::is_empty) && !validator.tree.any_invalid(at) {
        let diagnostic = Diagnostic::new(
            "the list is empty, so no client could use the route",
            "list networks, or remove the key",
        );
        validator.report(at, diagnostic);
    }
    validator.networks(at, file.allow_from.as_ref())
}
