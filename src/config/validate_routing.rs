//! Checks the sections `timeouts`, `upstreams` and `routes`, and everything that binds them together.
//!
//! Time limits are resolved here, for each route: its own, then its upstream's, then the top level's, then the default.
//! Whether two routes can be told apart is judged in [`super::patterns`].

use std::time::Duration;

use super::checker::{Checker, label};
use super::error::{Refusal, quoted};
use super::file::forms::{DurationText, Either, Named};
use super::file::routing::{
    ConcurrencyFile, ForwardedWord, Http2, MatchFile, PathsWord, RouteFile, ServerFile, TimeoutsFile,
    UpstreamFile,
};
use super::patterns::{self, Table};
use super::tree::Place;
use super::validate_cors;
use super::validate_errors::{self, Settings, no_upstream};
use super::validate_limits::{self, CheckedLimit};
use super::validate_tls;
use super::{Route, Server, Timeouts, Upstream, units};
use crate::contract::Contract;
use crate::protocol::cors::CorsRules;
use crate::protocol::upgrade;
use crate::upstream::concurrency;
use crate::upstream::http2::HttpVersionPolicy;

/// An upstream and the time limits that its routes inherit.
pub struct CheckedUpstream {
    /// The upstream.
    pub checked: Upstream,
    limits: Limits,
}

/// What routes are checked against.
pub struct Scope<'a> {
    /// In the order of the file.
    pub upstreams: &'a [CheckedUpstream],
    /// The top-level `errors`.
    pub errors: &'a Settings,
    /// The top-level `cors`.
    pub cors: Option<&'a CorsRules>,
    /// The contract, if it is good.
    pub contract: Option<&'a Contract>,
    /// The names under `upstreams`, those with problems included.
    pub names: &'a [&'a str],
    /// The rules under `rate_limits`, those with problems included.
    pub limits: &'a [CheckedLimit],
    /// The client's limit, bytes.
    pub max_body: u64,
}

/// What one `timeouts` section says.
#[derive(Clone, Debug, Default)]
struct Limits {
    connect: Option<Duration>,
    tls: Option<Duration>,
    response_head: Option<Duration>,
    total: Option<Duration>,
    between_bytes: Option<Duration>,
    stream_idle: Option<Duration>,
    tunnel_idle: Option<Duration>,
    /// `Some(None)` is off.
    whole: Option<Option<Duration>>,
}

impl Limits {
    fn over(self, below: &Limits) -> Limits {
        Limits {
            connect: self.connect.or(below.connect),
            tls: self.tls.or(below.tls),
            response_head: self.response_head.or(below.response_head),
            total: self.total.or(below.total),
            between_bytes: self.between_bytes.or(below.between_bytes),
            stream_idle: self.stream_idle.or(below.stream_idle),
            tunnel_idle: self.tunnel_idle.or(below.tunnel_idle),
            whole: self.whole.or(below.whole),
        }
    }

    fn resolved(&self) -> Timeouts {
        let seconds = Duration::from_secs;
        Timeouts {
            connect: self.connect.unwrap_or(seconds(2)),
            tls: self.tls.unwrap_or(seconds(3)),
            response_head: self.response_head.unwrap_or(seconds(15)),
            total: self.total.unwrap_or(seconds(30)),
            between_bytes: self.between_bytes.unwrap_or(seconds(60)),
            stream_idle: self.stream_idle.unwrap_or(seconds(300)),
            tunnel_idle: self.tunnel_idle.unwrap_or(seconds(3600)),
            whole: self.whole.flatten(),
        }
    }
}

fn limits(checker: &mut Checker<'_>, at: &Place<'_>, file: Option<&TimeoutsFile>) -> Limits {
    let Some(file) = file else { return Limits::default() };
    let limits = Limits {
        connect: checker.time(&at.key("connect"), file.connect.as_ref()),
        tls: checker.time(&at.key("tls"), file.tls.as_ref()),
        response_head: checker.time(&at.key("response_head"), file.response_head.as_ref()),
        total: checker.time(&at.key("total"), file.total.as_ref()),
        between_bytes: checker.time(&at.key("between_bytes"), file.between_bytes.as_ref()),
        stream_idle: checker.time(&at.key("stream_idle"), file.stream_idle.as_ref()),
        tunnel_idle: checker.time(&at.key("tunnel_idle"), file.tunnel_idle.as_ref()),
        whole: checker.time_or_off(&at.key("whole"), file.whole.as_ref()),
    };
    // Only limits written side by side: a route may shorten `total` and leave the rest to the levels below.
    let whole = limits.whole.flatten();
    let pairs = [
        ("connect", limits.connect, &file.connect, "total", limits.total, &file.total),
        ("tls", limits.tls, &file.tls, "total", limits.total, &file.total),
        ("response_head", limits.response_head, &file.response_head, "total", limits.total, &file.total),
        ("total", limits.total, &file.total, "whole", whole, &file.whole),
    ];
    for (inner, short, short_text, outer, long, long_text) in pairs {
        if short.zip(long).is_some_and(|(short, long)| short > long) {
            let text =
                |text: &Option<DurationText>| text.as_ref().map_or(String::new(), |text| text.0.clone());
            let what = format!(
                "{} is longer than {outer} ({}), so it would never pass",
                text(short_text),
                text(long_text)
            );
            checker
                .refuse(&at.key(inner), Refusal::new(what, format!("shorten {inner} or lengthen {outer}")));
        }
    }
    limits
}

/// Every upstream, in the order of the file.
pub fn upstreams(
    checker: &mut Checker<'_>,
    files: Option<&Named<UpstreamFile>>,
    timeouts: Option<&TimeoutsFile>,
) -> Vec<CheckedUpstream> {
    let root = Place::Root;
    let top = limits(checker, &root.key("timeouts"), timeouts);
    let section = root.key("upstreams");
    let mut upstreams = Vec::new();
    for (name, file) in files.into_iter().flat_map(|files| &files.0) {
        let at = section.key(name);
        let checked_name = label(name);
        checker.accept(&at, checked_name);
        let own = limits(checker, &at.key("timeouts"), file.timeouts.as_ref());
        upstreams
            .push(CheckedUpstream { checked: upstream(checker, &at, name, file), limits: own.over(&top) });
    }
    upstreams
}

fn upstream(checker: &mut Checker<'_>, at: &Place<'_>, name: &str, file: &UpstreamFile) -> Upstream {
    let keepalive_at = at.key("keepalive");
    let keepalive = file.keepalive.as_ref();
    let max =
        checker.number(&keepalive_at.key("max"), keepalive.and_then(|keepalive| keepalive.max), 0..=65_536);
    let idle =
        checker.time(&keepalive_at.key("idle"), keepalive.and_then(|keepalive| keepalive.idle.as_ref()));
    let retry_at = at.key("retry");
    let retry = file.retry.as_ref();
    let attempts = checker.number(&retry_at.key("attempts"), retry.and_then(|retry| retry.attempts), 1..=10);
    let mut retry_on_status = Vec::new();
    for (index, status) in retry.and_then(|retry| retry.on_status.as_ref()).into_iter().flatten().enumerate()
    {
        let status = checker.number(&retry_at.key("on_status").item(index), Some(*status), 400..=599);
        retry_on_status.extend(status.and_then(|status| u16::try_from(status).ok()));
    }
    let mut servers = servers(checker, &at.key("servers"), file);
    let trust = validate_tls::upstream(checker, at, file.tls.as_ref(), &mut servers);
    Upstream {
        name: name.to_owned(),
        servers: servers.into_iter().map(|(server, _)| server).collect(),
        trust,
        dns_refresh: checker
            .time(&at.key("dns_refresh"), file.dns_refresh.as_ref())
            .unwrap_or(Duration::from_secs(30)),
        keepalive_max: max.and_then(|max| usize::try_from(max).ok()).unwrap_or(128),
        keepalive_idle: idle.unwrap_or(Duration::from_secs(4)),
        attempts: attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(2),
        retry_on_status,
        concurrency: file.concurrency.as_ref().and_then(|file| concurrency(checker, at, file)),
        http2: match file.http2.unwrap_or_default() {
            Http2::Off => HttpVersionPolicy::Http1,
            Http2::Auto => HttpVersionPolicy::Auto,
            Http2::Always => HttpVersionPolicy::Http2,
        },
    }
}

fn concurrency(
    checker: &mut Checker<'_>,
    upstream: &Place<'_>,
    file: &ConcurrencyFile,
) -> Option<concurrency::ConcurrencyLimits> {
    const MOST: u64 = 1_000_000;
    let at = upstream.key("concurrency");
    if file.max.is_none() && !checker.tree.any_refused(&at) {
        checker.missing(&at.key("max"), "say how many requests at once, for example max: 512");
    }
    let max = checker.number(&at.key("max"), file.max, 1..=MOST);
    let queue = checker.number(&at.key("queue"), file.queue, 0..=MOST);
    let queue_timeout = checker.time(&at.key("queue_timeout"), file.queue_timeout.as_ref());
    Some(concurrency::ConcurrencyLimits {
        max: u32::try_from(max?).ok()?,
        queue: queue.and_then(|queue| u32::try_from(queue).ok()).unwrap_or(64),
        queue_timeout: queue_timeout.unwrap_or(Duration::from_millis(100)),
    })
}

/// Every good server, and its index in the file.
fn servers(checker: &mut Checker<'_>, at: &Place<'_>, file: &UpstreamFile) -> Vec<(Server, usize)> {
    const REMEDY: &str = "list at least one, for example servers: [\"127.0.0.1:8000\"]";
    match &file.servers {
        None => checker.missing(at, REMEDY),
        Some(servers) if servers.is_empty() && !checker.tree.any_refused(at) => {
            checker.refuse(at, Refusal::new("no server is listed", REMEDY));
        }
        Some(_) => {}
    }
    let sni = file.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    let mut servers: Vec<(Server, usize)> = Vec::new();
    for (index, form) in file.servers.iter().flatten().enumerate() {
        let item = at.item(index);
        let Some(server) = server(checker, &item, form, sni) else { continue };
        if servers.iter().any(|(other, _)| other.host == server.host && other.port == server.port) {
            let what = format!("{} is listed twice", server.label());
            checker.refuse(
                &item,
                Refusal::new(what, "keep one, and give it a weight: { address: ..., weight: 2 }"),
            );
        }
        servers.push((server, index));
    }
    servers
}

fn server(
    checker: &mut Checker<'_>,
    item: &Place<'_>,
    form: &Either<String, ServerFile>,
    sni: Option<&str>,
) -> Option<Server> {
    let (address, weight) = match form {
        Either::Short(text) => (checker.accept(item, units::server(text))?, None),
        Either::Long(file) => {
            let weight = checker.number(&item.key("weight"), file.weight, 1..=1000);
            let at = item.key("address");
            let Some(text) = &file.address else {
                checker.missing(&at, "write host:port, for example \"api.internal:80\"");
                return None;
            };
            (checker.accept(&at, units::server(text))?, weight)
        }
    };
    // What a server is called does not matter where it is asked by another name.
    let named = sni.and_then(|sni| validate_tls::name(sni).ok());
    let name = match (address.tls, named) {
        (false, _) => None,
        (true, Some(name)) => Some(name),
        (true, None) => Some(checker.accept(item, validate_tls::name(&address.host))?),
    };
    let weight = weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1);
    Some(Server { host: address.host, port: address.port, weight, name })
}

/// Every route, in the order of the file.
pub fn routes(checker: &mut Checker<'_>, files: Option<&Vec<RouteFile>>, scope: &Scope<'_>) -> Vec<Route> {
    const REMEDY: &str = "say where requests go, for example routes: [{ name: all, upstream: shop }]";
    let root = Place::Root;
    let list = root.key("routes");
    match files {
        None => checker.missing(&list, REMEDY),
        Some(files) if files.is_empty() && !checker.tree.any_refused(&list) => {
            checker.refuse(
                &list,
                Refusal::new("the list is empty, so every request would be answered 404", REMEDY),
            );
        }
        Some(_) => {}
    }
    let mut table = Table::default();
    let mut routes: Vec<Route> = Vec::new();
    for (index, file) in files.into_iter().flatten().enumerate() {
        let at = list.item(index);
        let name = route_name(checker, &at.key("name"), file, &routes);
        routes.push(route(checker, &at, name, file, scope, &mut table));
    }
    routes
}

fn route_name(checker: &mut Checker<'_>, at: &Place<'_>, file: &RouteFile, earlier: &[Route]) -> String {
    let Some(name) = &file.name else {
        checker.missing(at, "give the route a name: metrics and the log call it by that");
        return String::new();
    };
    if checker.accept(at, label(name)).is_some() && earlier.iter().any(|route| route.name == *name) {
        let what = format!("another route is called {} already", quoted(name));
        checker.refuse(at, Refusal::new(what, "choose another name"));
    }
    name.clone()
}

fn route(
    checker: &mut Checker<'_>,
    at: &Place<'_>,
    name: String,
    file: &RouteFile,
    scope: &Scope<'_>,
    table: &mut Table,
) -> Route {
    let upstream = route_upstream(checker, &at.key("upstream"), file, scope);
    let own = limits(checker, &at.key("timeouts"), file.timeouts.as_ref());
    let below = upstream.and_then(|index| scope.upstreams.get(index)).map(|upstream| &upstream.limits);
    let errors = route_errors(checker, &at.key("errors"), file, scope);
    let lenient_paths = matches!(file.paths, Some(PathsWord::Lenient));
    let called = if name.is_empty() { "without a name" } else { &name };
    let (host, path, methods) = matching(checker, at, called, file.matches.as_ref(), lenient_paths, table);
    let max_body = checker.size(&at.key("max_body"), file.max_body.as_ref(), 0..=u64::MAX, "");
    let cors = validate_cors::route(checker, &at.key("cors"), file.cors.as_ref(), scope.cors, &methods);
    let deny = file.deny.as_ref();
    Route {
        name,
        host,
        path,
        methods,
        upstream: upstream.unwrap_or(0),
        errors,
        cors,
        timeouts: own.over(below.unwrap_or(&Limits::default())).resolved(),
        max_body: max_body.unwrap_or(scope.max_body),
        rate_limits: validate_limits::of_route(
            checker,
            &at.key("rate_limits"),
            file.rate_limits.as_ref(),
            scope.limits,
        ),
        deny_methods: checker
            .methods(&at.key("deny").key("methods"), deny.and_then(|deny| deny.methods.as_ref())),
        allow_from: allow_from(checker, &at.key("allow_from"), file),
        lenient_paths,
        upgrades: upgrades(checker, &at.key("upgrades"), file),
        forwarded_append: matches!(file.forwarded, Some(ForwardedWord::Append)),
    }
}

/// The protocols a client may change to, in lower case.
fn upgrades(checker: &mut Checker<'_>, at: &Place<'_>, file: &RouteFile) -> Vec<String> {
    let Some(names) = &file.upgrades else { return vec![upgrade::WEBSOCKET.to_owned()] };
    let mut upgrades = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        let wrong = match upgrade::forbidden_reason(&lower) {
            Some(why) => Some((format!("{} cannot be tunnelled: {why}", quoted(name)), "remove it")),
            None if upgrades.contains(&lower) => {
                Some((format!("{} is listed twice", quoted(name)), "keep one"))
            }
            None => None,
        };
        match wrong {
            Some((what, remedy)) => checker.refuse(&at.item(index), Refusal::new(what, remedy)),
            None => upgrades.push(lower),
        }
    }
    upgrades
}

fn route_upstream(
    checker: &mut Checker<'_>,
    at: &Place<'_>,
    file: &RouteFile,
    scope: &Scope<'_>,
) -> Option<usize> {
    let Some(name) = &file.upstream else {
        checker.missing(at, "say who answers: a name of upstreams");
        return None;
    };
    let index = scope.upstreams.iter().position(|upstream| upstream.checked.name == *name);
    let root = Place::Root;
    if index.is_none()
        && !checker.tree.is_written(&root.key("upstreams").key(name))
        && !scope.names.contains(&name.as_str())
    {
        checker.refuse(at, no_upstream(name, scope.names));
    }
    index
}

fn route_errors(
    checker: &mut Checker<'_>,
    at: &Place<'_>,
    file: &RouteFile,
    scope: &Scope<'_>,
) -> super::ErrorRules {
    let settings = validate_errors::settings(checker, at, file.errors.as_ref(), scope.contract, scope.names);
    for (index, made) in settings.overrides.iter().enumerate() {
        if let (Some(named), Some(own)) = (&made.matcher.upstream, &file.upstream)
            && **named != **own
            && scope.names.contains(&&**named)
        {
            let list = at.key("overrides");
            let item = list.item(index);
            let what = format!("it would never apply: this route goes to {}", quoted(own));
            checker.refuse(&item.key("when").key("upstream"), Refusal::new(what, "remove upstream here"));
        }
    }
    let mut settings = settings.over(scope.errors);
    let overrides = std::mem::take(&mut settings.overrides);
    settings.rules(overrides)
}

/// Host, path and methods, and whether the route can be told apart from those before.
fn matching(
    checker: &mut Checker<'_>,
    at: &Place<'_>,
    name: &str,
    file: Option<&MatchFile>,
    lenient: bool,
    table: &mut Table,
) -> (Option<String>, String, Vec<http::Method>) {
    const EVERYTHING: &str = "/{*rest}";
    let section = at.key("match");
    let host = file.and_then(|file| file.host.as_deref());
    let host = host.map(|text| checker.accept(&section.key("host"), patterns::host(text)));
    let path = file.and_then(|file| file.path.as_deref()).unwrap_or(EVERYTHING);
    let shape = checker.accept(&section.key("path"), patterns::path_shape(path, lenient));
    let methods = match file.and_then(|file| file.methods.as_ref()) {
        Some(list) if list.is_empty() && !checker.tree.any_refused(&section.key("methods")) => {
            let refusal = Refusal::new(
                "no method is listed, so the route would take nothing",
                "remove it to take all methods",
            );
            checker.refuse(&section.key("methods"), refusal);
            Vec::new()
        }
        list => checker.methods(&section.key("methods"), list),
    };
    // A route whose `match` is in doubt is not held against the others.
    let sound = !matches!(host, Some(None)) && !checker.tree.any_refused(&section);
    let host = host.flatten().flatten();
    if let (true, Some(shape)) = (sound, shape)
        && let Err(refusal) = table.add(&host, &shape, &methods, name)
    {
        checker.refuse(&section, refusal);
    }
    (host, path.to_owned(), methods)
}

fn allow_from(checker: &mut Checker<'_>, at: &Place<'_>, file: &RouteFile) -> Vec<ipnet::IpNet> {
    // An empty list must not turn "nobody" into "everyone".
    if file.allow_from.as_ref().is_some_and(Vec::is_empty) && !checker.tree.any_refused(at) {
        let refusal = Refusal::new(
            "the list is empty, so nobody could use the route",
            "list networks, or remove the key",
        );
        checker.refuse(at, refusal);
    }
    checker.networks(at, file.allow_from.as_ref())
}
