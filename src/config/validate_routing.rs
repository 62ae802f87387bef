//! Checks the sections `timeouts`, `upstreams` and `routes`, and the references between them.
//!
//! Timeouts are resolved for each route: from the route, its upstream, the top level, then the default.
//! [`super::route_patterns`] detects conflicting routes.

use std::time::Duration;

use super::file::forms::{DurationText, Either, Named};
use super::file::routing::{
    Balance, ConcurrencyFile, ForwardedWord, Http2, MatchFile, PathsWord, RouteFile, ServerFile,
    TimeoutsFile, UpstreamFile,
};
use super::problem::{Diagnostic, quoted};
use super::route_patterns::{self, RouteTable};
use super::tree::KeyPath;
use super::validate_cors;
use super::validate_errors::{self, ErrorSettings, unknown_upstream};
use super::validate_limits::{self, ValidatedLimit};
use super::validate_tls;
use super::validator::{Validator, metric_name};
use super::{RouteConfig, Timeouts, UpstreamConfig, UpstreamServer, units};
use crate::contract::Contract;
use crate::http::cors::CorsRules;
use crate::http::upgrade;
use crate::upstream::concurrency;
use crate::upstream::http2::HttpVersionPolicy;

/// An upstream and the timeouts that its routes inherit.
pub(crate) struct ValidatedUpstream {
    /// The upstream.
    pub upstream: UpstreamConfig,
    timeouts: TimeoutSettings,
}

/// The sections that routes refer to.
pub(crate) struct RouteContext<'a> {
    /// In the order of the file.
    pub upstreams: &'a [ValidatedUpstream],
    /// The top-level `errors`.
    pub errors: &'a ErrorSettings,
    /// The top-level `cors`.
    pub cors: Option<&'a CorsRules>,
    /// The contract, if valid.
    pub contract: Option<&'a Contract>,
    /// The names under `upstreams`, including invalid ones.
    pub upstream_names: &'a [&'a str],
    /// The rules under `rate_limits`, including invalid ones.
    pub limits: &'a [ValidatedLimit],
    /// `client.max_body` in bytes.
    pub max_body: u64,
}

/// The values of one `timeouts` section.
#[derive(Clone, Debug, Default)]
struct TimeoutSettings {
    connect: Option<Duration>,
    tls: Option<Duration>,
    response_headers: Option<Duration>,
    deadline: Option<Duration>,
    body_idle: Option<Duration>,
    stream_idle: Option<Duration>,
    tunnel_idle: Option<Duration>,
    /// `Some(None)` is off.
    max_duration: Option<Option<Duration>>,
}

impl TimeoutSettings {
    fn or_else(self, fallback: &TimeoutSettings) -> TimeoutSettings {
        TimeoutSettings {
            connect: self.connect.or(fallback.connect),
            tls: self.tls.or(fallback.tls),
            response_headers: self.response_headers.or(fallback.response_headers),
            deadline: self.deadline.or(fallback.deadline),
            body_idle: self.body_idle.or(fallback.body_idle),
            stream_idle: self.stream_idle.or(fallback.stream_idle),
            tunnel_idle: self.tunnel_idle.or(fallback.tunnel_idle),
            max_duration: self.max_duration.or(fallback.max_duration),
        }
    }

    fn with_defaults(&self) -> Timeouts {
        let seconds = Duration::from_secs;
        Timeouts {
            connect: self.connect.unwrap_or(seconds(2)),
            tls: self.tls.unwrap_or(seconds(3)),
            response_headers: self.response_headers.unwrap_or(seconds(15)),
            deadline: self.deadline.unwrap_or(seconds(30)),
            body_idle: self.body_idle.unwrap_or(seconds(60)),
            stream_idle: self.stream_idle.unwrap_or(seconds(300)),
            tunnel_idle: self.tunnel_idle.unwrap_or(seconds(3600)),
            max_duration: self.max_duration.flatten(),
        }
    }
}

fn read_timeouts(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: Option<&TimeoutsFile>,
) -> TimeoutSettings {
    let Some(file) = file else { return TimeoutSettings::default() };
    let timeouts = TimeoutSettings {
        connect: validator.duration(&at.key("connect"), file.connect.as_ref()),
        tls: validator.duration(&at.key("tls"), file.tls.as_ref()),
        response_headers: validator.duration(&at.key("response_headers"), file.response_headers.as_ref()),
        deadline: validator.duration(&at.key("deadline"), file.deadline.as_ref()),
        body_idle: validator.duration(&at.key("body_idle"), file.body_idle.as_ref()),
        stream_idle: validator.duration(&at.key("stream_idle"), file.stream_idle.as_ref()),
        tunnel_idle: validator.duration(&at.key("tunnel_idle"), file.tunnel_idle.as_ref()),
        max_duration: validator.duration_or_off(&at.key("max_duration"), file.max_duration.as_ref()),
    };
    // Only within one section: a route may shorten `deadline` and inherit the rest.
    let max_duration = timeouts.max_duration.flatten();
    let pairs = [
        ("connect", timeouts.connect, &file.connect, "deadline", timeouts.deadline, &file.deadline),
        ("tls", timeouts.tls, &file.tls, "deadline", timeouts.deadline, &file.deadline),
        (
            "response_headers",
            timeouts.response_headers,
            &file.response_headers,
            "deadline",
            timeouts.deadline,
            &file.deadline,
        ),
        ("deadline", timeouts.deadline, &file.deadline, "max_duration", max_duration, &file.max_duration),
    ];
    for (inner, inner_value, short_text, outer, outer_value, long_text) in pairs {
        if inner_value.zip(outer_value).is_some_and(|(short, long)| short > long) {
            let text =
                |text: &Option<DurationText>| text.as_ref().map_or(String::new(), |text| text.0.clone());
            let message = format!(
                "{} is longer than {outer} ({}), so it would never take effect",
                text(short_text),
                text(long_text)
            );
            validator.report(
                &at.key(inner),
                Diagnostic::new(message, format!("shorten {inner} or lengthen {outer}")),
            );
        }
    }
    timeouts
}

/// Every upstream, in the order of the file.
pub(crate) fn upstreams(
    validator: &mut Validator<'_>,
    files: Option<&Named<UpstreamFile>>,
    timeouts: Option<&TimeoutsFile>,
) -> Vec<ValidatedUpstream> {
    let root = KeyPath::Root;
    let top_level = read_timeouts(validator, &root.key("timeouts"), timeouts);
    let section = root.key("upstreams");
    let mut upstreams = Vec::new();
    for (name, file) in files.into_iter().flat_map(|files| &files.0) {
        let at = section.key(name);
        let name_check = metric_name(name);
        validator.check(&at, name_check);
        let own_timeouts = read_timeouts(validator, &at.key("timeouts"), file.timeouts.as_ref());
        upstreams.push(ValidatedUpstream {
            upstream: upstream(validator, &at, name, file),
            timeouts: own_timeouts.or_else(&top_level),
        });
    }
    upstreams
}

fn upstream(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    name: &str,
    file: &UpstreamFile,
) -> UpstreamConfig {
    match file.balance {
        Some(Balance::RoundRobin) | None => {}
    }
    let keepalive_at = at.key("keepalive");
    let keepalive = file.keepalive.as_ref();
    let max =
        validator.number(&keepalive_at.key("max"), keepalive.and_then(|keepalive| keepalive.max), 0..=65_536);
    let idle = validator
        .duration(&keepalive_at.key("idle"), keepalive.and_then(|keepalive| keepalive.idle.as_ref()));
    let retry_at = at.key("retry");
    let retry = file.retry.as_ref();
    let attempts =
        validator.number(&retry_at.key("attempts"), retry.and_then(|retry| retry.attempts), 1..=10);
    let mut retry_on_status = Vec::new();
    for (index, status) in retry.and_then(|retry| retry.on_status.as_ref()).into_iter().flatten().enumerate()
    {
        let status = validator.number(&retry_at.key("on_status").item(index), Some(*status), 400..=599);
        retry_on_status.extend(status.and_then(|status| u16::try_from(status).ok()));
    }
    let mut servers = servers(validator, &at.key("servers"), file);
    let cert_verification = validate_tls::upstream(validator, at, file.tls.as_ref(), &mut servers);
    UpstreamConfig {
        name: name.to_owned(),
        servers: servers.into_iter().map(|(server, _)| server).collect(),
        cert_verification,
        dns_refresh: validator
            .duration(&at.key("dns_refresh"), file.dns_refresh.as_ref())
            .unwrap_or(Duration::from_secs(30)),
        keepalive_max: max.and_then(|max| usize::try_from(max).ok()).unwrap_or(128),
        keepalive_idle: idle.unwrap_or(Duration::from_secs(4)),
        attempts: attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(2),
        retry_on_status,
        concurrency: file.concurrency.as_ref().and_then(|file| concurrency(validator, at, file)),
        http2: match file.http2.unwrap_or_default() {
            Http2::Off => HttpVersionPolicy::Http1,
            Http2::Auto => HttpVersionPolicy::Auto,
            Http2::Always => HttpVersionPolicy::Http2,
        },
    }
}

fn concurrency(
    validator: &mut Validator<'_>,
    upstream: &KeyPath<'_>,
    file: &ConcurrencyFile,
) -> Option<concurrency::ConcurrencyLimits> {
    const MAX_CONCURRENCY: u64 = 1_000_000;
    let at = upstream.key("concurrency");
    if file.max.is_none() && !validator.tree.any_invalid(&at) {
        validator
            .missing(&at.key("max"), "write the maximum number of concurrent requests, for example max: 512");
    }
    let max = validator.number(&at.key("max"), file.max, 1..=MAX_CONCURRENCY);
    let queue = validator.number(&at.key("queue"), file.queue, 0..=MAX_CONCURRENCY);
    let queue_timeout = validator.duration(&at.key("queue_timeout"), file.queue_timeout.as_ref());
    Some(concurrency::ConcurrencyLimits {
        max: u32::try_from(max?).ok()?,
        queue: queue.and_then(|queue| u32::try_from(queue).ok()).unwrap_or(64),
        queue_timeout: queue_timeout.unwrap_or(Duration::from_millis(100)),
    })
}

/// Every valid server and its index in the file.
fn servers(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &UpstreamFile,
) -> Vec<(UpstreamServer, usize)> {
    const HELP: &str = "list at least one, for example servers: [\"127.0.0.1:8000\"]";
    match &file.servers {
        None => validator.missing(at, HELP),
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
            let address = match form {
                Either::Short(text) => text,
                Either::Long(file) => file.address.as_deref().unwrap_or_default(),
            };
            let help = format!("keep one and set its weight: {{ address: {}, weight: 2 }}", quoted(address));
            validator.report(&item, Diagnostic::new(message, help));
        }
        servers.push((server, index));
    }
    servers
}

fn server(
    validator: &mut Validator<'_>,
    item: &KeyPath<'_>,
    form: &Either<String, ServerFile>,
    sni: Option<&str>,
) -> Option<UpstreamServer> {
    let (address, weight) = match form {
        Either::Short(text) => (validator.check(item, units::server(text))?, None),
        Either::Long(file) => {
            let weight = validator.number(&item.key("weight"), file.weight, 1..=1000);
            let at = item.key("address");
            let Some(text) = &file.address else {
                validator.missing(&at, "write host:port, for example \"api.internal:80\"");
                return None;
            };
            (validator.check(&at, units::server(text))?, weight)
        }
    };
    // With `tls.sni`, the host of the server need not be a valid certificate name.
    let sni_name = sni.and_then(|sni| validate_tls::certificate_name(sni).ok());
    let name = match (address.tls, sni_name) {
        (false, _) => None,
        (true, Some(name)) => Some(name),
        (true, None) => Some(validator.check(item, validate_tls::certificate_name(&address.host))?),
    };
    let weight = weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1);
    Some(UpstreamServer { host: address.host, port: address.port, weight, tls_name: name })
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
        None => validator.missing(&list, HELP),
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
        routes.push(route(validator, &at, name, file, context, &mut table));
    }
    routes
}

fn route_name(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &RouteFile,
    earlier: &[RouteConfig],
) -> String {
    let Some(name) = &file.name else {
        validator.missing(at, "write a name for metrics and logs, for example name: api");
        return String::new();
    };
    if validator.check(at, metric_name(name)).is_some() && earlier.iter().any(|route| route.name == *name) {
        let message = format!("another route is already named {}", quoted(name));
        validator.report(at, Diagnostic::new(message, "choose another name"));
    }
    name.clone()
}

fn route(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    name: String,
    file: &RouteFile,
    context: &RouteContext<'_>,
    table: &mut RouteTable,
) -> RouteConfig {
    let upstream = route_upstream(validator, &at.key("upstream"), file, context);
    let own_timeouts = read_timeouts(validator, &at.key("timeouts"), file.timeouts.as_ref());
    let inherited =
        upstream.and_then(|index| context.upstreams.get(index)).map(|upstream| &upstream.timeouts);
    let errors = route_errors(validator, &at.key("errors"), file, context);
    let lenient_paths = matches!(file.paths, Some(PathsWord::Lenient));
    let display_name = if name.is_empty() { "without a name" } else { &name };
    let (host, path, methods) =
        route_match(validator, at, display_name, file.matches.as_ref(), lenient_paths, table);
    let max_body = validator.size(&at.key("max_body"), file.max_body.as_ref(), 0..=u64::MAX, "");
    let cors = validate_cors::route(validator, &at.key("cors"), file.cors.as_ref(), context.cors, &methods);
    let deny = file.deny.as_ref();
    RouteConfig {
        name,
        host,
        path,
        methods,
        upstream: upstream.unwrap_or(0),
        errors,
        cors,
        timeouts: own_timeouts.or_else(inherited.unwrap_or(&TimeoutSettings::default())).with_defaults(),
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
        validator.missing(at, "write the name of an upstream, for example upstream: shop");
        return None;
    };
    let index = context.upstreams.iter().position(|upstream| upstream.upstream.name == *name);
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
    file: &RouteFile,
    context: &RouteContext<'_>,
) -> super::ErrorRules {
    let settings = validate_errors::settings(
        validator,
        at,
        file.errors.as_ref(),
        context.contract,
        context.upstream_names,
    );
    for (index, route_override) in settings.overrides.iter().enumerate() {
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
    let mut settings = settings.or_else(context.errors);
    let overrides = std::mem::take(&mut settings.overrides);
    settings.rules(overrides)
}

/// Host, path and methods; also checks the route against earlier ones.
fn route_match(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    name: &str,
    file: Option<&MatchFile>,
    lenient: bool,
    table: &mut RouteTable,
) -> (Option<String>, String, Vec<http::Method>) {
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
    // A route with an invalid `match` is not compared with others.
    let valid = !matches!(host, Some(None)) && !validator.tree.any_invalid(&section);
    let host = host.flatten().flatten();
    if let (true, Some(shape)) = (valid, shape)
        && let Err(diagnostic) = table.add(&host, &shape, &methods, name)
    {
        validator.report(&section, diagnostic);
    }
    (host, path.to_owned(), methods)
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
