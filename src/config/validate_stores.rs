//! Checks the section `stores`.

use ring::digest::{SHA256, digest};

use super::file::forms::Named;
use super::file::limits::StoreFile;
use super::problem::Diagnostic;
use super::tree::KeyPath;
use super::validate_tls;
use super::validator::Validator;
use crate::limit::Secret;
use crate::limit::redis::StoreSettings;

/// The metric label of rules that count in process memory.
const MEMORY_STORE: &str = "memory";

/// Every store, in the order of the file.
pub(crate) fn stores(validator: &mut Validator<'_>, files: Option<&Named<StoreFile>>) -> Vec<StoreSettings> {
    let root = KeyPath::Root;
    let section = root.key("stores");
    let mut stores = Vec::new();
    for (name, file) in files.into_iter().flat_map(|files| &files.0) {
        let at = section.key(name);
        if name == MEMORY_STORE {
            let message = "\"memory\" is reserved: metrics use it for process memory";
            validator.report(&at, Diagnostic::new(message, "choose another name, for example shared"));
        }
        let tls_at = at.key("tls");
        if file.tls.is_some() && !file.redis.tls {
            let help = "use rediss://, or remove tls";
            validator.report(&tls_at, Diagnostic::new("the address of this store does not use TLS", help));
        }
        let ca = file.tls.as_ref().and_then(|tls| tls.ca.as_deref());
        let ca_pem = ca.and_then(|path| validate_tls::read_ca(validator, &tls_at.key("ca"), path));
        if file.secret.is_none() {
            let message = "keys are hashed without a secret: anyone who can read the store can recover client addresses";
            let help = "add secret: \"${LIMITS_SECRET}\", the same on every gateway";
            validator.warn(&at, Diagnostic::new(message, help));
        }
        let secret = file.secret.as_ref().map_or(&*file.prefix, |text| text);
        stores.push(StoreSettings {
            name: name.clone(),
            address: file.redis.0.clone(),
            ca_pem,
            prefix: file.prefix.0.clone(),
            secret: secret_bits(secret),
            timeout: *file.timeout,
            on_failure: file.on_failure,
        });
    }
    stores
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
