//! One rule at run time: its settings, the secret of its keys, and its states in memory.
//!
//! A limiter survives reloads while its settings are equal. The request path selects the rules of a request and handles
//! denials.

use schemars::JsonSchema;
use serde::Deserialize;
use std::net::IpAddr;

use ipnet::IpNet;

use super::backend::DebitRequest;
use super::credential::Credential;
use super::key::{self, Key, KeyPart, KeySource, Secret};
use super::limit_table::{Algorithm, LimitTable};
use super::quota::Quota;
use super::quota_decision::QuotaDecision;
use super::state_table::TableStats;
use super::timestamp::Timestamp;

/// What happens to requests over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimiterMode {
    /// They get 429.
    Enforce,
    /// They are forwarded and counted as `shadow_denied`; clients do not see the rule.
    Shadow,
}

/// What happens to a request whose body cannot be read for a `body` key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnreadableBody {
    // Otherwise a client could choose the key by a body that only the upstream can read.
    /// They get 400 (cause `malformed_body`).
    Reject,
    /// `client_ip` replaces the part, as if the member were missing.
    ClientIp,
}

/// The configured settings of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimiterSettings {
    /// The quota.
    pub quota: Quota,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The cost of a request, from 1 to [`Algorithm::capacity`].
    pub cost: u32,
    /// The parts of the key; at least one.
    pub key: Vec<KeyPart>,
    /// What happens if the body cannot be read for a `body` part of the key.
    pub unreadable: UnreadableBody,
    /// Whether denials are enforced.
    pub mode: LimiterMode,
    /// Networks whose clients are exempt.
    pub exempt: Vec<IpNet>,
    /// Credentials whose holders are exempt.
    pub credentials: Vec<Credential>,
    /// Upstream status codes that reset the key's count.
    pub reset_on: Vec<u16>,
    /// Maximum random addition to the Retry-After of a denial, in seconds.
    pub retry_after_jitter: u32,
    /// The name of the backend that counts; memory if `None`.
    pub store: Option<String>,
    /// Maximum number of keys in memory.
    pub max_keys: usize,
}

/// A rule at run time.
#[derive(Debug)]
pub struct Limiter {
    name: String,
    settings: LimiterSettings,
    secret: Secret,
    table: LimitTable,
}

impl Limiter {
    /// Creates a limiter without any counts.
    pub fn new(name: &str, settings: LimiterSettings, secret: Secret) -> Self {
        let table = LimitTable::new(settings.algorithm, settings.max_keys);
        Limiter { name: name.to_owned(), table, settings, secret }
    }

    /// The rule's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The configured settings.
    pub const fn settings(&self) -> &LimiterSettings {
        &self.settings
    }

    /// Whether the client is exempt, by its address or a credential.
    pub(crate) fn exempts(&self, source: &impl KeySource) -> bool {
        let client: Option<IpAddr> = source.client_ip();
        client.is_some_and(|client| self.settings.exempt.iter().any(|network| network.contains(&client)))
            || self.settings.credentials.iter().any(|credential| {
                source.header(&credential.header).is_some_and(|value| credential.matches(value))
            })
    }

    /// Whether the key has a member of the request body.
    pub(crate) fn needs_body(&self) -> bool {
        self.body_members().next().is_some()
    }

    /// The members of the request body that the key has.
    pub(crate) fn body_members(&self) -> impl Iterator<Item = &str> {
        self.settings.key.iter().filter_map(|part| match part {
            KeyPart::Body(name) => Some(&**name),
            KeyPart::ClientIp
            | KeyPart::Header(_)
            | KeyPart::Host
            | KeyPart::Method
            | KeyPart::Route
            | KeyPart::Path(_)
            | KeyPart::Cookie(_)
            | KeyPart::Query(_) => None,
        })
    }

    /// Whether the rule rejects requests whose body cannot be read. Rules in shadow mode reject nothing.
    pub(crate) fn rejects_unreadable(&self) -> bool {
        match (self.settings.mode, self.settings.unreadable) {
            (LimiterMode::Enforce, UnreadableBody::Reject) => true,
            (LimiterMode::Shadow, _) | (_, UnreadableBody::ClientIp) => false,
        }
    }

    /// Derives the key of a request.
    pub fn key(&self, source: &impl KeySource) -> Key {
        key::derive_key(self.secret, &self.settings.key, source)
    }

    /// Debits the cost of a request, or denies it and debits nothing.
    pub fn debit(&self, key: Key, now: Timestamp) -> QuotaDecision {
        self.table.debit(key, &self.settings.quota, now, self.settings.cost)
    }

    /// The decision that [`Limiter::debit`] would return; debits nothing.
    pub fn peek(&self, key: Key, now: Timestamp) -> QuotaDecision {
        self.table.peek(key, &self.settings.quota, now, self.settings.cost)
    }

    /// The current quota of the key; debits nothing.
    pub(crate) fn current_state(&self, key: Key, now: Timestamp) -> QuotaDecision {
        self.table.peek(key, &self.settings.quota, now, 0)
    }

    /// The request to a backend that corresponds to [`Limiter::debit`].
    pub fn debit_request(&self, key: Key) -> DebitRequest<'_> {
        let LimiterSettings { quota, algorithm, cost, .. } = self.settings;
        DebitRequest { rule: &self.name, key, quota, algorithm, cost }
    }

    /// Undoes a [`Limiter::debit`] that was allowed at `debited_at`.
    pub fn refund(&self, key: Key, debited_at: Timestamp) {
        self.table.refund(key, &self.settings.quota, debited_at, self.settings.cost);
    }

    /// Resets the count of the key.
    pub fn reset(&self, key: Key) {
        self.table.reset(key);
    }

    /// Statistics of the table. Slow: call it for a scrape, not on the request path.
    pub fn stats(&self, now: Timestamp) -> TableStats {
        self.table.stats(&self.settings.quota, now)
    }
}
