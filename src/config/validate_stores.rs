//! Checks the section `stores`, and the names by which rules refer to it.
//!
//! What an address is, is for [`crate::store`] to say. What was written of it is never repeated: a password may be part of it.

use std::time::Duration;

use ring::digest::{SHA256, digest};

use super::checker::{Checker, label};
use super::error::{Refusal, either, nearest, quoted};
use super::file::forms::Named;
use super::file::limits::{self, StoreFile};
use super::tree::Place;
use super::validate_tls;
use crate::limit::{OnFailure, Secret};
use crate::store::{Address, AddressError, StoreSettings};

/// A store of the file. One with a problem keeps its name, so that rules are not told that it does not exist.
pub struct CheckedStore {
    /// What rules call it.
    pub name: String,
    /// Where and how, if that is good.
    pub settings: Option<StoreSettings>,
}

/// The label of rules that count in the process.
const MEMORY: &str = "memory";
const PREFIX: &str = "statusquo:";
const TIMEOUT: Duration = Duration::from_millis(20);
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(5);
/// Characters; fewer can be found out by trying.
const SHORTEST_SECRET: usize = 16;

/// Every store, in the order of the file.
pub fn stores(checker: &mut Checker<'_>, files: Option<&Named<StoreFile>>) -> Vec<CheckedStore> {
    let root = Place::Root;
    let section = root.key("stores");
    let mut stores = Vec::new();
    for (name, file) in files.into_iter().flat_map(|files| &files.0) {
        let at = section.key(name);
        checker.accept(&at, label(name));
        if name == MEMORY {
            let what = "\"memory\" is what metrics call the memory of the process";
            checker.refuse(&at, Refusal::new(what, "give it another name, for example shared"));
        }
        let settings = store(checker, &at, name, file);
        stores.push(CheckedStore { name: name.clone(), settings });
    }
    stores
}

fn store(checker: &mut Checker<'_>, at: &Place<'_>, name: &str, file: &StoreFile) -> Option<StoreSettings> {
    let redis_at = at.key("redis");
    if file.redis.is_none() {
        checker.missing(&redis_at, "say where it is, for example redis: redis://127.0.0.1:6379");
    }
    let wrong = |AddressError(what, remedy)| Refusal::new(what, remedy);
    let address =
        file.redis.as_ref().and_then(|text| checker.accept(&redis_at, Address::parse(text).map_err(wrong)));
    let tls_at = at.key("tls");
    if let Some(address) = &address
        && file.tls.is_some()
        && !address.tls
    {
        let remedy = "write the address as rediss://, or remove tls";
        checker.refuse(&tls_at, Refusal::new("no TLS is spoken to this store", remedy));
    }
    let ca = file.tls.as_ref().and_then(|tls| tls.ca.as_deref());
    let authorities = ca.and_then(|path| validate_tls::authorities(checker, &tls_at.key("ca"), path));
    let prefix = prefix(checker, &at.key("prefix"), file.prefix.as_deref());
    let secret = secret(checker, at, file.secret.as_deref(), &prefix);
    let timeout_at = at.key("timeout");
    let timeout = checker.time(&timeout_at, file.timeout.as_ref());
    if timeout.is_some_and(|timeout| !(SHORTEST..=LONGEST).contains(&timeout)) {
        let written = file.timeout.as_ref().map_or("", |text| text.0.as_str());
        let what = format!("{} is no time for a decision", quoted(written));
        checker.refuse(&timeout_at, Refusal::new(what, "expected 1ms to 5s"));
    }
    Some(StoreSettings {
        name: name.to_owned(),
        address: address?,
        ca_pem: authorities,
        prefix,
        secret,
        timeout: timeout.unwrap_or(TIMEOUT),
        on_failure: match file.on_failure.unwrap_or_default() {
            limits::OnFailure::UseMemory => OnFailure::Local,
            limits::OnFailure::Allow => OnFailure::Allow,
            limits::OnFailure::Refuse => OnFailure::Deny,
        },
    })
}

fn prefix(checker: &mut Checker<'_>, at: &Place<'_>, text: Option<&str>) -> String {
    let text = text.unwrap_or(PREFIX);
    // Braces would be a cluster's hash tag.
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b":._-".contains(&octet);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        let what = format!("{} cannot begin the names of keys", quoted(text));
        checker.refuse(at, Refusal::new(what, "write at most 64 letters, digits, :, ., _ or -"));
    }
    text.to_owned()
}

/// 128 bits of the operator's text, or of what everybody can know.
fn secret(checker: &mut Checker<'_>, at: &Place<'_>, text: Option<&str>, prefix: &str) -> Secret {
    match text {
        Some(text) if text.chars().count() < SHORTEST_SECRET => {
            let what = "this is too short for a secret";
            let remedy = "write 16 characters or more, for example what `openssl rand -hex 16` prints";
            checker.accept::<()>(&at.key("secret"), Err(Refusal::new(what, remedy)));
        }
        Some(_) => {}
        None => {
            let what =
                "keys are hashed without a secret: who reads the store can find out addresses by trying";
            checker
                .warn(at, Refusal::new(what, "add secret: \"${LIMITS_SECRET}\", the same on every gateway"));
        }
    }
    let digest = digest(&SHA256, text.unwrap_or(prefix).as_bytes());
    let mut halves = [0_u64; 2];
    for (half, octets) in halves.iter_mut().zip(digest.as_ref().chunks_exact(8)) {
        *half = octets.iter().fold(0, |half, octet| half << 8 | u64::from(*octet));
    }
    Secret::new(halves)
}

/// The store that a rule names.
pub fn named(
    checker: &mut Checker<'_>,
    at: &Place<'_>,
    name: &str,
    stores: &[CheckedStore],
) -> Option<String> {
    let root = Place::Root;
    // Written, but refused for another reason already: nothing more to say.
    if stores.iter().any(|store| store.name == name) || checker.tree.is_written(&root.key("stores").key(name))
    {
        return Some(name.to_owned());
    }
    let what = format!("there is no store {}", quoted(name));
    let names: Vec<&str> = stores.iter().map(|store| store.name.as_str()).collect();
    let remedy = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None if names.is_empty() => {
            format!("add it: stores: {{ {name}: {{ redis: redis://127.0.0.1:6379 }} }}")
        }
        None => format!("expected {}", either(&names)),
    };
    checker.refuse(at, Refusal::new(what, remedy));
    None
}
