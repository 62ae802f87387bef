//! What runs beside the requests: names are looked up in the background, so that no request ever waits for DNS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::upstream::{Runtime, names::Addresses};

/// A name without an address is tried again so soon.
const RETRY: Duration = Duration::from_secs(1);
/// A lookup that takes longer counts as failed.
const LOOKUP: Duration = Duration::from_secs(5);

/// Looks up the names of an upstream's servers, again and again, until the task is dropped.
pub async fn resolve(upstream: Arc<Runtime>) {
    if !upstream.servers().iter().any(|server| server.addresses.is_name()) {
        return;
    }
    loop {
        let mut missing = false;
        for server in upstream.servers().iter().filter(|server| server.addresses.is_name()) {
            missing |= !look_up(upstream.name(), &server.addresses).await;
        }
        let pause = if missing { RETRY.min(upstream.dns_refresh()) } else { upstream.dns_refresh() };
        pingora::time::sleep(pause).await;
    }
}

/// Looks up one name; says whether it has an address now.
async fn look_up(upstream: &str, addresses: &Addresses) -> bool {
    let (host, port) = addresses.host_and_port();
    let had = !addresses.current().is_empty();
    let found = pingora::time::timeout(LOOKUP, tokio::net::lookup_host((host, port))).await;
    let found: Vec<SocketAddr> = match found {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => {
            if had {
                warn!(upstream, host, evidence = %error, "kept the addresses of a name that was not found again");
            }
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    let any = !found.is_empty();
    addresses.found(found);
    if any && !had {
        info!(upstream, host, "found the address of a server");
    }
    any || had
}
