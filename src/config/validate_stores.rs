//! Checks the section `stores` and references to it.
//!
//! [`crate::limit::redis`] parses addresses. Messages never repeat an address, because it may contain a password.

use ring::digest::{SHA256, digest};

use super::file::forms::Named;
use super::file::limits::{self, StoreFile};
use super::problem::{Diagnostic, closest_match, join_or, quoted};
use super::tree::KeyPath;
use super::validate_tls;
use super::validator::{Validator, metric_name};
use crate::limit::redis::{Address, AddressError, StoreSettings};
use crate::limit::{OnFailure, Secret};

/// A store of the file. An invalid store keeps its name, so that references to it are not reported as unknown.
pub(crate) struct ValidatedStore {
    /// The name in the file.
    pub name: String,
    /// The settings, if valid.
    pub settings: Option<StoreSettings>,
}

/// The metric label of rules that count in process memory.
const MEMORY_STORE: &str = "memory";
/// In characters; a shorter secret can be brute-forced.
const MIN_SECRET_CHARS: usize = 16;

/// Every store, in the order of the file.
pub(crate) fn stores(validator: &mut Validator<'_>, files: Option<&Named<StoreFile>>) -> Vec<ValidatedStore> {
    let root = KeyPath::Root;
    let section = root.key("stores");
    let mut stores = Vec::new();
    for (name, file) in files.into_iter().flat_map(|files| &files.0) {
        let at = section.key(name);
        validator.check(&at, metric_name(name));
        if name == MEMORY_STORE {
            let message = "\"memory\" is reserved: metrics use it for process memory";
            validator.report(&at, Diagnostic::new(message, "choose another name, for example shared"));
        }
        let settings = store(validator, &at, name, file);
        stores.push(ValidatedStore { name: name.clone(), settings });
    }
    stores
}

fn store(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    name: &str,
    file: &StoreFile,
) -> Option<StoreSettings> {
    let redis_at = at.key("redis");
    let to_diagnostic = |AddressError(message, help)| Diagnostic::new(message, help);
    let address = file
        .redis
        .as_ref()
        .and_then(|text| validator.check(&redis_at, Address::parse(text).map_err(to_diagnostic)));
    let tls_at = at.key("tls");
    if let Some(address) = &address
        && file.tls.is_some()
        && !address.tls
    {
        let help = "use rediss://, or remove tls";
        validator.report(&tls_at, Diagnostic::new("the address of this store does not use TLS", help));
    }
    let ca = file.tls.as_ref().and_then(|tls| tls.ca.as_deref());
    let ca_pem = ca.and_then(|path| validate_tls::read_ca(validator, &tls_at.key("ca"), path));
    let prefix = prefix(validator, &at.key("prefix"), &file.prefix);
    let secret = secret(validator, at, file.secret.as_deref(), &prefix);
    Some(StoreSettings {
        name: name.to_owned(),
        address: address?,
        ca_pem,
        prefix,
        secret,
        timeout: *file.timeout,
        on_failure: match file.on_failure {
            limits::OnFailure::Local => OnFailure::Local,
            limits::OnFailure::Allow => OnFailure::Allow,
            limits::OnFailure::Deny => OnFailure::Deny,
        },
    })
}

fn prefix(validator: &mut Validator<'_>, at: &KeyPath<'_>, text: &str) -> String {
    // Braces would form a hash tag of Redis Cluster.
    let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || b":._-".contains(&octet);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(is_allowed) {
        let message = format!("{} is not a valid key prefix", quoted(text));
        validator.report(at, Diagnostic::new(message, "use at most 64 letters, digits, :, ., _ or -"));
    }
    text.to_owned()
}

/// 128 bits derived from the secret, or from the prefix if there is none.
fn secret(validator: &mut Validator<'_>, at: &KeyPath<'_>, text: Option<&str>, prefix: &str) -> Secret {
    match text {
        Some(text) if text.chars().count() < MIN_SECRET_CHARS => {
            let message = "the secret is too short";
            let help = "use at least 16 characters, for example the output of `openssl rand -hex 16`";
            validator.check::<()>(&at.key("secret"), Err(Diagnostic::new(message, help)));
        }
        Some(_) => {}
        None => {
            let message = "keys are hashed without a secret: anyone who can read the store can recover client addresses";
            validator.warn(
                at,
                Diagnostic::new(message, "add secret: \"${LIMITS_SECRET}\", the same on every gateway"),
            );
        }
    }
    let digest = digest(&SHA256, text.unwrap_or(prefix).as_bytes());
    let mut halves = [0_u64; 2];
    for (half, octets) in halves.iter_mut().zip(digest.as_ref().chunks_exact(8)) {
        *half = octets.iter().fold(0, |half, octet| half << 8 | u64::from(*octet));
    }
    Secret::new(halves)
}

/// Checks that the store of a rule exists.
pub(crate) fn resolve_store(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    name: &str,
    stores: &[ValidatedStore],
) -> Option<String> {
    let root = KeyPath::Root;
    // An invalid store is already reported.
    if stores.iter().any(|store| store.name == name)
        || validator.tree.is_written(&root.key("stores").key(name))
    {
        return Some(name.to_owned());
    }
    let message = format!("unknown store {}", quoted(name));
    let names: Vec<&str> = stores.iter().map(|store| store.name.as_str()).collect();
    let help = match closest_match(name, names.iter().copied()) {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None if names.is_empty() => {
            format!("add it: stores: {{ {name}: {{ redis: redis://127.0.0.1:6379 }} }}")
        }
        None => format!("expected {}", join_or(&names)),
    };
    validator.report(at, Diagnostic::new(message, help));
    None
}
