//! Checks the sections `timeouts` and `upstreams`: the servers, and how they are selected, checked and ejected.

use std::time::Duration;

use super::file::forms::{Either, OneOrMany};
use super::file::routing::{
    self, BreakerFile, EjectionFile, HashFile, HealthFile, Http2, Off, ServerFile, TimeoutsFile,
    UpstreamFile, ViaWord,
};
use super::file::syntaxes::{Resolver, Server};
use super::file::{ConfigFile, not_a_name_server};
use super::keys::Keys;
use super::problem::Diagnostic;
use super::tree::{KeyPath, Node};
use super::units::duration_text;
use super::validate_tls;
use super::validator::Validator;
use super::{Timeouts, UpstreamConfig, UpstreamServer};
use crate::upstream::breaker::BreakerSettings;
use crate::upstream::concurrency::ConcurrencyLimits;
use crate::upstream::ejection::EjectionSettings;
use crate::upstream::health::{HealthCheck, HealthSettings};
use crate::upstream::http2::HttpVersionPolicy;
use crate::upstream::settings::{Balance, NameSource};

/// Only within one section: a route may shorten `deadline` and inherit the rest.
pub(super) fn check_timeouts(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &TimeoutsFile) {
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
            let (short, long) = (duration_text(short), duration_text(long));
            let message = format!("{short} is longer than {outer} ({long}), so it would never take effect");
            let help = format!("shorten {inner} or lengthen {outer}");
            validator.report(&at.key(inner), Diagnostic::new(message, help));
        }
    }
}

/// The timeouts of a section that has inherited its outer ones.
pub(super) fn timeouts(file: &TimeoutsFile) -> Timeouts {
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
    let names = name_source(validator, &root.key("resolver"), &file.resolver);
    let section = root.key("upstreams");
    let mut upstreams = Vec::new();
    for (name, file) in file.upstreams.iter().flat_map(|files| &files.0) {
        let at = section.key(name);
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
    let concurrency = file.concurrency.as_ref().map(|file| ConcurrencyLimits {
        max: file.max,
        queue: file.queue,
        queue_timeout: *file.queue_timeout,
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
        retry_budget: *file.retry.budget,
        balance: balance(&file.balance),
        health: file.health.as_ref().and_then(|health| self::health(validator, &at.key("health"), health)),
        ejection: ejection(&file.ejection),
        failure_status: failure_status(&file.ejection),
        breaker: file.breaker.as_ref().map(breaker),
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
    let sni = file.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    let mut servers: Vec<(UpstreamServer, usize)> = Vec::new();
    for (index, form) in file.servers.iter().enumerate() {
        let item = at.item(index);
        let Some(server) = server(validator, &item, form, sni) else { continue };
        if servers.iter().any(|(other, _)| other.label() == server.label()) {
            let message = format!("{} is listed twice", server.label());
            let help =
                format!("keep one and set its weight: {{ address: {:?}, weight: 2 }}", server.address());
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
        Either::Long(file) => (&file.address, file.weight),
    };
    // With `tls.sni`, the host of the server need not be a valid certificate name.
    let sni_name = sni.and_then(|sni| validate_tls::certificate_name(sni).ok());
    let name = match (address.tls, sni_name) {
        (false, _) => None,
        (true, Some(name)) => Some(name),
        (true, None) => Some(validator.check(item, validate_tls::certificate_name(&address.host))?),
    };
    Some(UpstreamServer {
        host: address.host.clone(),
        port: address.port,
        socket: address.socket.clone(),
        base_path: address.base_path.clone(),
        weight,
        tls_name: name,
    })
}

/// Where names are looked up. In a list, each item is the address of a name server.
fn name_source(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &OneOrMany<Resolver>) -> NameSource {
    if let [only] = file.0.as_slice() {
        return only.0.clone();
    }
    let mut servers = Vec::new();
    for (index, source) in file.0.iter().enumerate() {
        match &source.0 {
            NameSource::NameServers(addresses) => servers.extend(addresses),
            NameSource::Dns => validator.report(&at.item(index), not_a_name_server("dns")),
            NameSource::System => validator.report(&at.item(index), not_a_name_server("system")),
        }
    }
    NameSource::NameServers(servers)
}

/// How a server is selected.
fn balance(file: &Either<routing::Balance, HashFile>) -> Balance {
    match file {
        Either::Short(routing::Balance::RoundRobin) => Balance::RoundRobin,
        Either::Short(routing::Balance::Random) => Balance::Random,
        Either::Short(routing::Balance::LeastBusy) => Balance::LeastBusy,
        Either::Long(HashFile { hash }) => Balance::Hash(hash.0.clone()),
    }
}

/// Active health checks.
fn health(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &HealthFile) -> Option<HealthSettings> {
    const HELP: &str = "write a path, for example path: /healthz; or tcp: true to check only the connection";
    let check = match (&file.path, file.tcp) {
        (Some(_), true) => {
            let diagnostic = Diagnostic::new("a connect check has no path", "remove tcp, or remove path");
            validator.report(&at.key("tcp"), diagnostic);
            return None;
        }
        (None, true) => HealthCheck::Connect,
        (Some(path), false) => HealthCheck::Http { path: path.0.clone(), expect: file.expect.clone() },
        (None, false) => {
            // An invalid path is already reported.
            if !validator.tree.is_written(&at.key("path")) {
                validator.report(at, Diagnostic::new("nothing is checked", HELP));
            }
            return None;
        }
    };
    Some(HealthSettings {
        check,
        every: *file.every,
        timeout: *file.timeout,
        fall: file.fall,
        rise: file.rise,
    })
}

/// Passive ejection; `None` is off.
fn ejection(file: &Either<Off, EjectionFile>) -> Option<EjectionSettings> {
    match file {
        Either::Short(Off::Off) => None,
        Either::Long(file) => Some(EjectionSettings {
            consecutive: file.consecutive,
            failure_ratio: *file.failure_ratio,
            window: *file.window,
            min_requests: file.min_requests,
            duration: *file.duration,
            max_ejected: *file.max_ejected,
        }),
    }
}

/// Which statuses count as failures. Without ejection, the breaker uses the default.
fn failure_status(file: &Either<Off, EjectionFile>) -> Vec<u16> {
    match file {
        Either::Short(Off::Off) => {
            let keys = Keys::root().key("upstreams").key("").key("ejection");
            let default = keys.default_of("failure_status");
            default.iter().flat_map(Node::items).filter_map(|status| status.text()?.parse().ok()).collect()
        }
        Either::Long(file) => file.failure_status.clone(),
    }
}

/// The circuit breaker.
fn breaker(file: &BreakerFile) -> BreakerSettings {
    BreakerSettings {
        failure_ratio: *file.failure_ratio,
        window: *file.window,
        min_requests: file.min_requests,
        open_for: *file.open_for,
    }
}
