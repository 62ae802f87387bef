//! One rule at run time: its settings, the secret of its keys, the states of everybody it counts.
//!
//! It lives as long as its settings stay the same, from one configuration to the next, and is asked by key. Which rules
//! concern a request, and what becomes of a refusal, is decided on the request path.

use std::net::IpAddr;

use ipnet::IpNet;

use super::backend::TakeRequest;
use super::credential::Credential;
use super::key::{self, Key, KeyPart, KeySource, Secret};
use super::limit_table::{Algorithm, LimitTable};
use super::quota::Quota;
use super::quota_decision::QuotaDecision;
use super::state_table::TableStats;
use super::timestamp::Timestamp;

/// What becomes of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimiterMode {
    /// The request is refused.
    Enforce,
    /// It is only counted.
    Shadow,
}

/// What the operator said about a rule. Two rules with equal settings may share their states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimiterSettings {
    /// What is allowed.
    pub quota: Quota,
    /// How requests are counted.
    pub algorithm: Algorithm,
    /// How much a request takes; at least 1 and at most what is admitted at once.
    pub cost: u32,
    /// What requests are counted by; at least one part.
    pub key: Vec<KeyPart>,
    /// Refuse, or only count.
    pub mode: LimiterMode,
    /// Clients that the rule does not concern.
    pub exempt: Vec<IpNet>,
    /// Values of request fields whose bearers the rule does not concern.
    pub credentials: Vec<Credential>,
    /// Upstream statuses after which the key has taken nothing.
    pub reset_on: Vec<u16>,
    /// Up to so many whole seconds are added to the wait that a refusal tells.
    pub retry_after_jitter: u32,
    /// The name of the store that counts; the process's own memory where there is none.
    pub store: Option<String>,
    /// Keys that are kept at once.
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
    /// Nobody has been counted yet.
    pub fn new(name: &str, settings: LimiterSettings, secret: Secret) -> Self {
        let table = LimitTable::new(settings.algorithm, settings.max_keys);
        Limiter { name: name.to_owned(), table, settings, secret }
    }

    /// The rule's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the operator said. The limiter can stay in use while this is equal.
    pub const fn settings(&self) -> &LimiterSettings {
        &self.settings
    }

    /// Whether the rule does not concern this request: by who sends it, or by what its sender knows.
    pub fn exempts(&self, source: &impl KeySource) -> bool {
        let client: IpAddr = source.client_ip();
        self.settings.exempt.iter().any(|network| network.contains(&client))
            || self.settings.credentials.iter().any(|credential| {
                source.header(&credential.header).is_some_and(|value| credential.matches(value))
            })
    }

    /// Whether it counts by a member of the body.
    pub fn needs_body(&self) -> bool {
        self.settings.key.iter().any(|part| matches!(part, KeyPart::Body(_)))
    }

    /// What the request is counted by.
    pub fn key(&self, source: &impl KeySource) -> Key {
        key::derive_key(self.secret, &self.settings.key, source)
    }

    /// Takes the cost of a request, or refuses and takes nothing.
    pub fn take(&self, key: Key, now: Timestamp) -> QuotaDecision {
        self.table.take(key, &self.settings.quota, now, self.settings.cost)
    }

    /// What [`Limiter::take`] would answer; takes nothing.
    pub fn peek(&self, key: Key, now: Timestamp) -> QuotaDecision {
        self.table.peek(key, &self.settings.quota, now, self.settings.cost)
    }

    /// How the key stands; takes nothing.
    pub fn current_state(&self, key: Key, now: Timestamp) -> QuotaDecision {
        self.table.peek(key, &self.settings.quota, now, 0)
    }

    /// The same question for a store.
    pub fn take_request(&self, key: Key) -> TakeRequest<'_> {
        let LimiterSettings { quota, algorithm, cost, .. } = self.settings;
        TakeRequest { rule: &self.name, key, quota, algorithm, cost }
    }

    /// Undoes a [`Limiter::take`] that was allowed at this moment.
    pub fn refund(&self, key: Key, taken_at: Timestamp) {
        self.table.refund(key, &self.settings.quota, taken_at, self.settings.cost);
    }

    /// The key has taken nothing.
    pub fn reset(&self, key: Key) {
        self.table.reset(key);
    }

    /// What is kept and was let go. For a scrape, not for a request.
    pub fn stats(&self, now: Timestamp) -> TableStats {
        self.table.stats(&self.settings.quota, now)
    }
}
