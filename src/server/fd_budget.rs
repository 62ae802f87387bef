//! Descriptors: the soft limit is raised to the hard one, and what needs descriptors is held to what it allows, so that
//! accepting a connection never fails for want of one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Descriptors for everything but the connections of clients and upstreams: listeners, log, runtime, name lookups, the
/// configuration's file, and the first readers of our own pages.
const RESERVED: u64 = 64;
/// So many of them.
const MIN_TELEMETRY_CONNECTIONS: usize = 16;

/// Raises the soft limit on open descriptors as far as it goes, and says what it is then.
pub fn raise_fd_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}

/// What is left beside the connections that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdBudget {
    /// Connections beyond `max_connections` that are let in at once, to be told so.
    pub overflow: usize,
    /// Connections to upstreams in use at once.
    pub upstream_connections: usize,
    /// Connections to the telemetry address.
    pub telemetry_connections: usize,
}

/// Holds a configuration to the descriptors: `client.max_connections` to half of what is left, for each request may
/// need a second one towards an upstream, and idle connections to upstreams to a quarter.
pub fn apply_budget(config: &mut Config, descriptors: u64) -> FdBudget {
    let budget = usize::try_from(descriptors.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
    let overflow = (budget / 8).clamp(1, 256);
    let telemetry = (budget / 16).min(240);
    let requested_idle: usize = config.upstreams.iter().map(|upstream| upstream.keepalive_max).sum();
    let idle = requested_idle.min(budget / 4);
    if requested_idle > idle {
        for upstream in &mut config.upstreams {
            upstream.keepalive_max = upstream.keepalive_max.saturating_mul(idle) / requested_idle;
        }
    }
    let remaining = budget.saturating_sub(overflow).saturating_sub(idle).saturating_sub(telemetry);
    let clients = config.client.max_connections.min(remaining / 2).max(1);
    config.client.max_connections = clients;
    FdBudget {
        overflow,
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
        assert_eq!((fd_budget.overflow, clients, idle), (256, 20_000, vec![96, 32]));
    }

    #[test]
    fn small_fd_limit_is_shared_without_overcommitting() {
        assert_eq!(
            budget_for(1024),
            (
                FdBudget { overflow: 120, upstream_connections: 326, telemetry_connections: 76 },
                326,
                vec![96, 32]
            )
        );
        assert_eq!(
            budget_for(128),
            (FdBudget { overflow: 8, upstream_connections: 18, telemetry_connections: 20 }, 18, vec![12, 4])
        );
        for descriptors in 68..3000 {
            let (fd_budget, clients, idle) = budget_for(descriptors);
            let telemetry = fd_budget.telemetry_connections - MIN_TELEMETRY_CONNECTIONS;
            let total = fd_budget.overflow
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
            (fd_budget.overflow, fd_budget.upstream_connections, clients),
            (1, 1, 1),
            "and there is always something"
        );
    }
}
