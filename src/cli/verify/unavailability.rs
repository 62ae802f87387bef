//! The ways in which an upstream becomes unavailable to requests, for the rows of [`super::unavailable`].
//!
//! Each needs a gateway of its own, because earlier requests or checks cause the state. Its servers refuse connections.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::UpstreamConfig;
use crate::contract::Cause;
use crate::upstream::breaker::BreakerSettings;
use crate::upstream::health::{HealthCheck, HealthSettings};
use crate::upstream::settings::NameSource;

/// How the upstreams of a gateway become unavailable.
pub(super) struct Unavailability {
    /// The name of the row, and what happens.
    pub(super) fault: (&'static str, &'static str),
    /// The cause of the response.
    pub(super) cause: Cause,
    /// Configures an upstream, with the address of a name server that never answers.
    pub(super) set_up: fn(&mut UpstreamConfig, SocketAddr),
    /// The cause of the request that makes an upstream unavailable, if a request does.
    pub(super) provoked_by: Option<Cause>,
    /// Both are in the series that is 1 for an unavailable upstream.
    pub(super) state: (&'static str, &'static str),
}

/// All ways.
pub(super) const ALL: [Unavailability; 4] = [
    Unavailability {
        fault: ("no-healthy-server", "arrives while every server of the upstream fails its health checks"),
        cause: Cause::DestinationUnavailable,
        set_up: |upstream, _| {
            upstream.health = Some(HealthSettings {
                check: HealthCheck::Connect,
                every: Duration::from_secs(60),
                timeout: Duration::from_secs(10),
                fall: 1,
                rise: 1,
            });
        },
        provoked_by: None,
        state: UNHEALTHY,
    },
    Unavailability {
        fault: ("breaker-open", "arrives while the circuit breaker of the upstream is open"),
        cause: Cause::BreakerOpen,
        set_up: |upstream, _| {
            upstream.breaker = Some(BreakerSettings {
                failure_ratio: 1,
                window: Duration::from_secs(60),
                min_requests: 1,
                open_for: Duration::from_secs(3600),
            });
        },
        provoked_by: Some(Cause::ConnectionRefused),
        state: ("breaker_state{", "state=\"open\""),
    },
    Unavailability {
        fault: ("name-without-address", "arrives while no name of the upstream's servers has an address"),
        cause: Cause::DnsError,
        set_up: |upstream, _| {
            upstream.names = NameSource::Dns;
            set_host(upstream, "verify.invalid");
        },
        provoked_by: None,
        state: UNHEALTHY,
    },
    Unavailability {
        fault: ("silent-name-server", "arrives before a name server has answered"),
        cause: Cause::DnsTimeout,
        set_up: |upstream, silent| {
            upstream.names = NameSource::NameServers(vec![silent]);
            set_host(upstream, "verify.example");
        },
        provoked_by: None,
        state: UNHEALTHY,
    },
];

/// The series of a server that gets no requests. A name without an address has none either.
const UNHEALTHY: (&str, &str) = ("upstream_server_state{", "state=\"unhealthy\"");

fn set_host(upstream: &mut UpstreamConfig, host: &str) {
    for server in &mut upstream.servers {
        server.host = host.to_owned();
    }
}
