//! What runs beside the requests: names are looked up and stores of rate limits connected in the background, so that no
//! request ever waits for either.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::store::RedisBackend;
use crate::upstream::timer::{sleep, timeout_at};
use crate::upstream::{UpstreamRuntime, names::Addresses};

/// A name without an address is tried again so soon.
const RETRY: Duration = Duration::from_secs(1);
/// A lookup that takes longer counts as failed.
const LOOKUP: Duration = Duration::from_secs(5);
/// So often free memory is given back.
const GIVE_BACK: Duration = Duration::from_secs(2);
/// A start and a reload wait so long for stores.
const CONNECT: Duration = Duration::from_secs(1);

/// The lookups that run: one task for each upstream that has names.
#[derive(Debug, Default)]
pub struct Lookups(Vec<(Arc<UpstreamRuntime>, AbortHandle)>);

impl Lookups {
    /// From now on for these upstreams: new ones begin, gone ones end, the others go on.
    pub fn follow(&mut self, upstreams: &[Arc<UpstreamRuntime>]) {
        self.0.retain(|(running, task)| {
            let stays = upstreams.iter().any(|upstream| Arc::ptr_eq(upstream, running));
            if !stays {
                task.abort();
            }
            stays
        });
        for upstream in upstreams.iter().filter(|upstream| has_names(upstream)) {
            if !self.has(upstream) {
                let task = tokio::spawn(resolve(Arc::clone(upstream))).abort_handle();
                self.0.push((Arc::clone(upstream), task));
            }
        }
    }

    /// Whether the names of this upstream are looked up.
    pub fn has(&self, upstream: &Arc<UpstreamRuntime>) -> bool {
        self.0.iter().any(|(running, _)| Arc::ptr_eq(upstream, running))
    }
}

fn has_names(upstream: &UpstreamRuntime) -> bool {
    upstream.servers().iter().any(|server| server.addresses.is_name())
}

/// Begins to keep the connections of these stores, and waits until each has been tried once, so that the first request
/// counts where it should; not for long, for requests can be served without.
pub async fn connect(stores: &[Arc<RedisBackend>]) {
    for store in stores {
        store.start_reconnecting();
    }
    timeout_at(Instant::now() + CONNECT, join_all(stores.iter().map(|store| store.wait_for_first_attempt())))
        .await;
}

/// Looks up the names of an upstream's servers once, all at the same time; says whether all have an address now.
pub async fn look_up_all(upstream: &UpstreamRuntime) -> bool {
    let names = upstream.servers().iter().filter(|server| server.addresses.is_name());
    let found = join_all(names.map(|server| look_up(upstream.name(), &server.addresses))).await;
    found.into_iter().all(|found| found)
}

/// Looks up the names of an upstream's servers, again and again, until the task is dropped.
async fn resolve(upstream: Arc<UpstreamRuntime>) {
    loop {
        let missing = !look_up_all(&upstream).await;
        let pause = if missing { RETRY.min(upstream.dns_refresh()) } else { upstream.dns_refresh() };
        sleep(pause).await;
    }
}

/// Gives memory that nobody uses any more back to the system, again and again, until the task is dropped.
///
/// The allocator does so while it is asked for much, or when a thread ends: after a crowd has left, an idle gateway would
/// keep all that the crowd took.
pub async fn give_back_memory() {
    loop {
        sleep(GIVE_BACK).await;
        // One that cannot be made now is made next time.
        let _ = std::thread::Builder::new().name("memory".to_owned()).spawn(|| ());
    }
}

/// Looks up one name; says whether it has an address now.
async fn look_up(upstream: &str, addresses: &Addresses) -> bool {
    let (host, port) = addresses.host_and_port();
    let had = !addresses.current().is_empty();
    let found = timeout_at(Instant::now() + LOOKUP, tokio::net::lookup_host((host, port))).await;
    let found: Vec<SocketAddr> = match found {
        Some(Ok(found)) => found.collect(),
        Some(Err(error)) => {
            if had {
                warn!(upstream, host, evidence = %error, "kept the addresses of a name that was not found again");
            }
            Vec::new()
        }
        None => Vec::new(),
    };
    let any = !found.is_empty();
    addresses.update(found);
    if any && !had {
        info!(upstream, host, "found the address of a server");
    }
    any || had
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::http2::HttpVersionPolicy;
    use crate::upstream::runtime::{ServerSpec, UpstreamSettings};

    fn upstream(host: &str) -> Arc<UpstreamRuntime> {
        let server = ServerSpec { host: host.into(), port: 1, weight: 1, label: host.into(), tls_name: None };
        Arc::new(UpstreamRuntime::new(UpstreamSettings {
            name: "shop".into(),
            servers: vec![server],
            keepalive_max: 1,
            keepalive_idle: RETRY,
            dns_refresh: RETRY,
            trust: None,
            http2: HttpVersionPolicy::Http1,
        }))
    }

    #[tokio::test]
    async fn new_names_are_looked_up_gone_ones_are_not_and_the_others_go_on() {
        let (one, two, address) = (upstream("one.invalid"), upstream("two.invalid"), upstream("127.0.0.1"));
        let mut lookups = Lookups::default();
        lookups.follow(&[Arc::clone(&one), Arc::clone(&address)]);
        assert!(lookups.has(&one) && !lookups.has(&address));
        let first: Vec<_> = lookups.0.iter().map(|(_, task)| task.id()).collect();
        lookups.follow(&[Arc::clone(&one), Arc::clone(&two)]);
        assert!(lookups.has(&one) && lookups.has(&two));
        assert!(lookups.0.iter().any(|(_, task)| first.contains(&task.id())));
        lookups.follow(&[]);
        assert!(!lookups.has(&one));
        while Arc::strong_count(&one) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
