//! The ways in which an upstream becomes unavailable to requests, for the rows of [`super::unavailable`].
//!
//! Each needs a gateway of its own, because earlier requests or checks cause the state. Its servers refuse connections.

use std::time::Duration;

use crate::config::UpstreamConfig;
use crate::contract::Cause;
use crate::upstream::breaker::BreakerSettings;
use crate::upstream::health::{HealthCheck, HealthSettings};

/// How the upstreams of a gateway become unavailable.
pub(super) struct Unavailability {
    /// The name of the row, and what happens.
    pub(super) fault: (&'static str, &'static str),
    /// The cause of the response.
    pub(super) cause: Cause,
    /// Configures an upstream.
    pub(super) set_up: fn(&mut UpstreamConfig),
    /// The cause of the request that makes an upstream unavailable, if a request does.
    pub(super) provoked_by: Option<Cause>,
    /// Both are in the series that is 1 for an unavailable upstream.
    pub(super) state: (&'static str, &'static str),
}

/// All ways.
pub(super) const ALL: [Unavailability; 2] = [
    Unavailability {
        fault: ("no-healthy-server", "arrives while every server of the upstream fails its health checks"),
        cause: Cause::DestinationUnavailable,
        set_up: |upstream| {
            upstream.health = Some(HealthSettings {
                check: HealthCheck::Connect,
                every: Duration::from_secs(60),
                timeout: Duration::from_secs(10),
                fall: 1,
                rise: 1,
            });
        },
        provoked_by: None,
        state: ("upstream_server_state{", "state=\"unhealthy\""),
    },
    Unavailability {
        fault: ("breaker-open", "arrives while the circuit breaker of the upstream is open"),
        cause: Cause::BreakerOpen,
        set_up: |upstream| {
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
];
