//! Descriptors: the soft limit is raised to the hard one, and what needs descriptors is held to what it allows, so that
//! accepting a connection never fails for want of one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Descriptors for everything but the connections of clients and upstreams: listeners, log, runtime, name lookups, the
/// configuration's file, and the first readers of our own pages.
const RESERVED: u64 = 64;
/// So many of them.
const FIRST_READERS: usize = 16;

/// Raises the soft limit on open descriptors as far as it goes, and says what it is then.
pub fn raise_descriptors() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}

/// What is left beside the connections that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Connections beyond `max_connections` that are let in at once, to be told so.
    pub crowd: usize,
    /// Connections to upstreams in use at once.
    pub upstream: usize,
    /// Connections to the telemetry address.
    pub readers: usize,
}

/// Holds a configuration to the descriptors: `client.max_connections` to half of what is left, for each request may
/// need a second one towards an upstream, and idle connections to upstreams to a quarter.
pub fn fit(config: &mut Config, descriptors: u64) -> Share {
    let budget = usize::try_from(descriptors.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
    let crowd = (budget / 8).clamp(1, 256);
    let readers = (budget / 16).min(240);
    let wanted: usize = config.upstreams.iter().map(|upstream| upstream.keepalive_max).sum();
    let idle = wanted.min(budget / 4);
    if wanted > idle {
        for upstream in &mut config.upstreams {
            upstream.keepalive_max = upstream.keepalive_max.saturating_mul(idle) / wanted;
        }
    }
    let rest = budget.saturating_sub(crowd).saturating_sub(idle).saturating_sub(readers);
    let clients = config.client.max_connections.min(rest / 2).max(1);
    config.client.max_connections = clients;
    Share { crowd, upstream: rest.saturating_sub(clients).max(1), readers: FIRST_READERS + readers }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const TEXT: &str = "listen: [{ address: 127.0.0.1:0 }]\nroutes: [{ name: r, upstream: a }]\n\
        upstreams: { a: { servers: [a:1], keepalive: { max: 96 } }, b: { servers: [b:1], keepalive: { max: 32 } } }\n";

    fn fitted(descriptors: u64) -> (Share, usize, Vec<usize>) {
        let mut config = crate::config::load_str("test.yaml", TEXT, &|_| None, 1).unwrap();
        let share = fit(&mut config, descriptors);
        let idle = config.upstreams.iter().map(|upstream| upstream.keepalive_max).collect();
        (share, config.client.max_connections, idle)
    }

    #[test]
    fn enough_descriptors_change_nothing() {
        let (share, clients, idle) = fitted(1_048_576);
        assert_eq!((share.crowd, clients, idle), (256, 20_000, vec![96, 32]));
    }

    #[test]
    fn few_descriptors_are_shared_and_never_promised_twice() {
        assert_eq!(fitted(1024), (Share { crowd: 120, upstream: 326, readers: 76 }, 326, vec![96, 32]));
        assert_eq!(fitted(128), (Share { crowd: 8, upstream: 18, readers: 20 }, 18, vec![12, 4]));
        for descriptors in 68..3000 {
            let (share, clients, idle) = fitted(descriptors);
            let further = share.readers - FIRST_READERS;
            let all = share.crowd + share.upstream + clients + further + idle.iter().sum::<usize>();
            assert!(all as u64 + RESERVED <= descriptors, "{descriptors}: {share:?} {clients} {idle:?}");
        }
        let (share, clients, _) = fitted(10);
        assert_eq!((share.crowd, share.upstream, clients), (1, 1, 1), "and there is always something");
    }
}
