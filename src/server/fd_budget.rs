//! File descriptors: raises the soft limit to the hard limit, and caps connection limits so that descriptors never run
//! out.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Descriptors reserved for everything except client and upstream connections: listeners, log, runtime, DNS lookups,
/// the configuration file, and the minimum of telemetry connections.
const RESERVED: u64 = 64;
/// Telemetry connections that are always possible.
const MIN_TELEMETRY_CONNECTIONS: usize = 16;

/// Raises the soft limit on open descriptors to the hard limit. Returns the resulting limit.
pub(crate) fn raise_fd_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}

/// Limits derived from the number of descriptors, except `client.max_connections`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FdBudget {
    /// Connections above `max_connections` that are accepted to receive an error response.
    pub over_limit_connections: usize,
    /// Upstream connections in use at once.
    pub upstream_connections: usize,
    /// Connections to the telemetry address.
    pub telemetry_connections: usize,
}

/// Caps the limits of a configuration by the number of descriptors: idle upstream connections to a quarter, and
/// `client.max_connections` to half of the remainder, because each request may need an upstream connection too.
pub(crate) fn apply_budget(config: &mut Config, descriptors: u64) -> FdBudget {
    let budget = usize::try_from(descriptors.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
    let over_limit_connections = (budget / 8).clamp(1, 256);
    let telemetry = (budget / 16).min(240);
    let requested_idle: usize = config.upstreams.iter().map(|upstream| upstream.keepalive_max).sum();
    let idle = requested_idle.min(budget / 4);
    if requested_idle > idle {
        for upstream in &mut config.upstreams {
            upstream.keepalive_max = upstream.keepalive_max.saturating_mul(idle) / requested_idle;
        }
    }
    let remaining =
        budget.saturating_sub(over_limit_connections).saturating_sub(idle).saturating_sub(telemetry);
    let clients = config.client.max_connections.min(remaining / 2).max(1);
    config.client.max_connections = clients;
    FdBudget {
        over_limit_connections,
        upstream_connections: remaining.saturating_sub(clients).max(1),
        telemetry_connections: MIN_TELEMETRY_CONNECTIONS + telemetry,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const TEXT: &str = "listen: [{ address: 127.0.0.1:0 }]\nroutes: [{ name: r, upstream: a }]\n\
        upstreams: { a: { servers: [a:1], keepalive: { max: 96 } }, b: { servers: [b:1], keepalive: { max: 32 } } }\n";

    fn budget_for(descriptors: u64) -> (FdBudget, usize, Vec<usize>) {
        let mut config = crate::config::load_str("test.yaml", TEXT, &|_| None, 1).unwrap();
        let fd_budget = apply_budget(&mut config, descriptors);
        let idle = config.upstreams.iter().map(|upstream| upstream.keepalive_max).collect();
        (fd_budget, config.client.max_connections, idle)
    }

    #[test]
    fn large_fd_limit_changes_nothing() {
        let (fd_budget, clients, idle) = budget_for(1_048_576);
        assert_eq!((fd_budget.over_limit_connections, clients, idle), (256, 20_000, vec![96, 32]));
    }

    #[test]
    fn small_fd_limit_is_shared_without_overcommitting() {
        assert_eq!(
            budget_for(1024),
            (
                FdBudget {
                    over_limit_connections: 120,
                    upstream_connections: 326,
                    telemetry_connections: 76
                },
                326,
                vec![96, 32]
            )
        );
        assert_eq!(
            budget_for(128),
            (
                FdBudget { over_limit_connections: 8, upstream_connections: 18, telemetry_connections: 20 },
                18,
                vec![12, 4]
            )
        );
        for descriptors in 68..3000 {
            let (fd_budget, clients, idle) = budget_for(descriptors);
            let telemetry = fd_budget.telemetry_connections - MIN_TELEMETRY_CONNECTIONS;
            let total = fd_budget.over_limit_connections
                + fd_budget.upstream_connections
                + clients
                + telemetry
                + idle.iter().sum::<usize>();
            assert!(
                total as u64 + RESERVED <= descriptors,
                "{descriptors}: {fd_budget:?} {clients} {idle:?}"
            );
        }
        let (fd_budget, clients, _) = budget_for(10);
        assert_eq!(
            (fd_budget.over_limit_connections, fd_budget.upstream_connections, clients),
            (1, 1, 1),
            "limits never drop to 0"
        );
    }
}
