//! Checks the section `stores`.

use ring::digest::{SHA256, digest};

use super::file::limits::StoreFile;
use super::validate_tls;
use super::validator::Place;
use crate::limit::Secret;
use crate::limit::redis::BackendSettings;

/// The metric label of rules that count in process memory.
const MEMORY_STORE: &str = "memory";

/// The store with this name.
pub(crate) fn store((at, name, file): (Place<'_>, &String, &StoreFile)) -> BackendSettings {
    if name == MEMORY_STORE {
        let message = "\"memory\" is reserved: metrics use it for process memory";
        at.report(message, "choose another name, for example shared");
    }
    let tls_at = at.key("tls");
    if file.tls.is_some() && !file.redis.tls {
        tls_at.report("the address of this store does not use TLS", "use rediss://, or remove tls");
    }
    let ca = file.tls.as_ref().and_then(|tls| tls.ca.as_deref());
    let ca_pem = ca.and_then(|path| validate_tls::read_ca(&tls_at.key("ca"), path));
    if file.secret.is_none() {
        let message =
            "keys are hashed without a secret: anyone who can read the store can recover client addresses";
        at.warn(message, "add secret: \"${LIMITS_SECRET}\", the same on every gateway");
    }
    let secret = file.secret.as_ref().map_or(&*file.prefix, |text| text);
    BackendSettings {
        name: name.clone(),
        address: file.redis.0.clone(),
        ca_pem: ca_pem.map(|(contents, _)| contents),
        prefix: file.prefix.0.clone(),
        secret: secret_bits(secret),
        timeout: *file.timeout,
        on_failure: file.on_failure,
    }
}

/// 128 bits derived from a text.
fn secret_bits(text: &str) -> Secret {
    let digest = digest(&SHA256, text.as_bytes());
    let mut halves = [0_u64; 2];
    for (half, octets) in halves.iter_mut().zip(digest.as_ref().chunks_exact(8)) {
        *half = octets.iter().fold(0, |half, octet| half << 8 | u64::from(*octet));
    }
    Secret::new(halves)
}
