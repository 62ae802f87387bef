//! The gateways of the cases of routes that differ from the ordinary one. [`super::gateway_states`] prepares them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use crate::config::{Config, ListenAddress, UpstreamConfig};
use crate::conformance::case::GatewayKind;
use crate::contract::Cause;
use crate::http::peer::PeerRange;
use crate::limit::{LimiterSettings, Quota};
use crate::upstream::breaker::BreakerSettings;
use crate::upstream::health::{HealthCheck, HealthSettings};
use crate::upstream::settings::NameSource;

/// A gateway that differs from the ordinary one.
pub(super) struct SpecialGateway {
    pub(super) kind: GatewayKind,
    /// Changes the configuration.
    pub(super) set_up: fn(&mut Config, &Means<'_>),
    /// How its upstreams become unavailable. Its servers refuse connections then.
    pub(super) unavailable: Option<Unavailable>,
}

/// How the upstreams of a gateway become unavailable, before its cases run.
pub(super) struct Unavailable {
    /// The cause of the request that makes an upstream unavailable, if a request does.
    pub(super) provoked_by: Option<Cause>,
    /// Both are in the series that is 1 for an unavailable upstream.
    pub(super) state: (&'static str, &'static str),
}

/// What the gateways need.
pub(super) struct Means<'a> {
    /// The configuration of the file.
    pub(super) original: &'a Config,
    /// The address of the clients.
    pub(super) client: Ipv4Addr,
    /// A name server that never answers.
    pub(super) silent_name_server: SocketAddr,
    /// Where a socket can be created.
    pub(super) socket: PathBuf,
}

/// All of them.
pub(super) const ALL: [SpecialGateway; 9] = [
    special(GatewayKind::LowLimits, None, lower_limits),
    special(GatewayKind::FewConnections, None, |config, _| {
        config.client.max_connections = FEW_CONNECTIONS;
    }),
    special(GatewayKind::FewConnectionsPerClient, None, |config, _| {
        config.client.max_connections_per_client = FEW_CONNECTIONS;
    }),
    special(GatewayKind::UnixSocket, None, |config, means| {
        let address = ListenAddress::Unix(Arc::from(&*means.socket), 0o600);
        config.listeners.iter_mut().for_each(|listener| listener.address = address.clone());
    }),
    special(GatewayKind::ProxyProtocol, None, |config, means| {
        let sender = PeerRange::Network(IpNet::V4(Ipv4Net::from(means.client)));
        config.listeners.iter_mut().for_each(|listener| listener.proxy_protocol = Some([sender].into()));
    }),
    special(GatewayKind::NoHealthyServer, Some(UNHEALTHY), |config, _| {
        for_each_upstream(config, |upstream| {
            upstream.health = Some(HealthSettings {
                check: HealthCheck::Connect,
                every: Duration::from_secs(60),
                timeout: Duration::from_secs(10),
                fall: 1,
                rise: 1,
            });
        });
    }),
    special(GatewayKind::BreakerOpen, Some(OPEN_BREAKER), |config, _| {
        for_each_upstream(config, |upstream| {
            upstream.breaker = Some(BreakerSettings {
                failure_ratio: 1,
                window: Duration::from_secs(60),
                min_requests: 1,
                open_for: Duration::from_secs(3600),
            });
        });
    }),
    special(GatewayKind::NameWithoutAddress, Some(UNHEALTHY), |config, _| {
        set_names(config, "verify.invalid", &NameSource::Dns);
    }),
    special(GatewayKind::SilentNameServer, Some(UNHEALTHY), |config, means| {
        set_names(config, "verify.example", &NameSource::NameServers(vec![means.silent_name_server]));
    }),
];

const fn special(
    kind: GatewayKind,
    unavailable: Option<Unavailable>,
    set_up: fn(&mut Config, &Means<'_>),
) -> SpecialGateway {
    SpecialGateway { kind, set_up, unavailable }
}

/// The cases open so many connections, and one more.
const FEW_CONNECTIONS: usize = 3;

/// The series of a server that gets no requests. A name without an address has none either.
const UNHEALTHY: Unavailable =
    Unavailable { provoked_by: None, state: ("upstream_server_state{", "state=\"unhealthy\"") };

const OPEN_BREAKER: Unavailable =
    Unavailable { provoked_by: Some(Cause::ConnectionRefused), state: ("breaker_state{", "state=\"open\"") };

fn for_each_upstream(config: &mut Config, change: impl Fn(&mut UpstreamConfig)) {
    config.upstreams.iter_mut().for_each(change);
}

fn set_names(config: &mut Config, host: &str, names: &NameSource) {
    for_each_upstream(config, |upstream| {
        upstream.names = names.clone();
        upstream.servers.iter_mut().for_each(|server| server.host = host.to_owned());
    });
}

/// Lowers every rate limit so that the second request exceeds it, and removes exemptions.
fn lower_limits(config: &mut Config, means: &Means<'_>) {
    for (limit, configured) in config.rate_limits.iter_mut().zip(&means.original.rate_limits) {
        let period = configured.settings.quota.period().max(Duration::from_secs(60));
        set_quota(&mut limit.settings, (1, period, 1));
        limit.settings.exempt.clear();
    }
}

/// Sets requests, period and burst.
pub(super) fn set_quota(settings: &mut LimiterSettings, (allowed, period, burst): (u32, Duration, u32)) {
    if let Ok(quota) = Quota::new(allowed, period, burst) {
        settings.quota = quota;
    }
}
