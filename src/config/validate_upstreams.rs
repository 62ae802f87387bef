//! Checks the section `upstreams`: the servers, and how they are selected, checked and ejected.

use super::file::forms::{Either, OneOrMany};
use super::file::routing::{EjectionFile, HealthFile, Off, ServerFile, UpstreamFile, ViaWord};
use super::file::syntaxes::{Resolver, Server};
use super::file::{ConfigFile, not_a_name_server};
use super::keys::Keys;
use super::tree::Node;
use super::validate_timeouts;
use super::validate_tls;
use super::validator::Place;
use super::{UpstreamConfig, UpstreamServer};
use crate::upstream::breaker::BreakerSettings;
use crate::upstream::concurrency::ConcurrencyLimits;
use crate::upstream::ejection::EjectionSettings;
use crate::upstream::health::{HealthCheck, HealthSettings};
use crate::upstream::settings::{Balance, NameSource};

/// Every upstream, in the order of the file.
pub(crate) fn upstreams(root: &Place<'_>, file: &ConfigFile) -> Vec<UpstreamConfig> {
    validate_timeouts::check(&root.key("timeouts"), &file.timeouts);
    let names = name_source(&root.key("resolver"), &file.resolver);
    let upstreams = root.key("upstreams").sections(file.upstreams.as_ref());
    upstreams
        .map(|(at, name, file)| UpstreamConfig { names: names.clone(), ..upstream(&at, name, file) })
        .collect()
}

fn upstream(at: &Place<'_>, name: &str, file: &UpstreamFile) -> UpstreamConfig {
    validate_timeouts::check(&at.key("timeouts"), &file.timeouts);
    let mut servers = servers(&at.key("servers"), file);
    let cert_verification = validate_tls::upstream(at, file.tls.as_ref(), &mut servers);
    let concurrency = file.concurrency.as_ref().map(|file| ConcurrencyLimits {
        max: file.max,
        queue: file.queue,
        queue_timeout: *file.queue_timeout,
    });
    UpstreamConfig {
        name: name.to_owned(),
        servers: servers.into_iter().map(|(_, server)| server).collect(),
        cert_verification,
        dns_refresh: *file.dns_refresh,
        names: NameSource::default(),
        keepalive_max: file.keepalive.max,
        keepalive_idle: *file.keepalive.idle,
        attempts: file.retry.attempts,
        sends_via: file.via == ViaWord::On,
        host: file.host.0.clone(),
        retry_on_status: file.retry.on_status.clone(),
        retry_budget: *file.retry.budget,
        balance: match &file.balance {
            Either::Short(word) => word.clone(),
            Either::Long(file) => Balance::Hash(file.hash.0.clone()),
        },
        health: file.health.as_ref().and_then(|file| health(&at.key("health"), file)),
        ejection: ejection(&file.ejection),
        failure_status: failure_status(&file.ejection),
        breaker: file.breaker.as_ref().map(|file| BreakerSettings {
            failure_ratio: *file.failure_ratio,
            window: *file.window,
            min_requests: file.min_requests,
            open_for: *file.open_for,
        }),
        concurrency,
        http2: file.http2,
    }
}

/// Every valid server and its place in the file.
fn servers<'v>(at: &Place<'v>, file: &UpstreamFile) -> Vec<(Place<'v>, UpstreamServer)> {
    let sni = file.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    let mut servers: Vec<(Place<'_>, UpstreamServer)> = Vec::new();
    for (item, form) in at.items(&file.servers) {
        let Some(server) = server(&item, form, sni) else { continue };
        if servers.iter().any(|(_, other)| other.label() == server.label()) {
            let address = server.address();
            let help = format!("keep one and set its weight: {{ address: {address:?}, weight: 2 }}");
            item.report(format!("{} is listed twice", server.label()), help);
        }
        servers.push((item, server));
    }
    servers
}

fn server(item: &Place<'_>, form: &Either<Server, ServerFile>, sni: Option<&str>) -> Option<UpstreamServer> {
    let (address, weight) = match form {
        Either::Short(address) => (address, 1),
        Either::Long(file) => (&file.address, file.weight),
    };
    // With `tls.sni`, the host of the server need not be a valid certificate name.
    let sni_name = sni.and_then(|sni| validate_tls::certificate_name(sni).ok());
    let name = match (address.tls, sni_name) {
        (false, _) => None,
        (true, Some(name)) => Some(name),
        (true, None) => Some(item.check(validate_tls::certificate_name(&address.host))?),
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
fn name_source(at: &Place<'_>, file: &OneOrMany<Resolver>) -> NameSource {
    if let [only] = file.0.as_slice() {
        return only.0.clone();
    }
    let mut servers = Vec::new();
    for (item, source) in at.items(&file.0) {
        match &source.0 {
            NameSource::NameServers(addresses) => servers.extend(addresses),
            NameSource::Dns => item.diagnose(not_a_name_server("dns")),
            NameSource::System => item.diagnose(not_a_name_server("system")),
        }
    }
    NameSource::NameServers(servers)
}

/// Active health checks.
fn health(at: &Place<'_>, file: &HealthFile) -> Option<HealthSettings> {
    let check = match (&file.path, file.tcp) {
        (Some(_), true) => {
            at.key("tcp").report("a connect check has no path", "remove tcp, or remove path");
            return None;
        }
        (None, true) => {
            at.key("expect")
                .pointless("a connect check has no status", "remove it, or write path in place of tcp");
            HealthCheck::Connect
        }
        (Some(path), false) => HealthCheck::Http { path: path.0.clone(), expect: file.expect.clone() },
        (None, false) => {
            // An invalid path is already reported.
            if !at.key("path").is_written() {
                let help =
                    "write a path, for example path: /healthz; or tcp: true to check only the connection";
                at.report("nothing is checked", help);
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
