//! What a request needs, immutable: one [`Snapshot`] is pinned per request, so no request sees half a reload.
//!
//! Built from a [`Config`]; metric handles are resolved and routes compiled here so that nothing is looked up by name on
//! the request path. What must outlive a reload is carried from the snapshot before. It opens no socket: an upstream
//! connects when a request asks it to, a store when the server says so.

pub mod error_context;
pub mod logging;
pub mod rate_limits;
pub mod router;
mod stores;

use std::sync::Arc;

use crate::config::{self, ClientLimits, Config, ErrorRules, Timeouts};
use crate::contract::{Contract, Override};
use crate::http::cors;
use crate::limit::redis::RedisBackend;
use crate::telemetry::{AccessLog, CodeLabels, Metrics, RouteMetrics, UpstreamMetrics, definitions};
use crate::upstream::concurrency::{Concurrency, ConcurrencyLimits};
use crate::upstream::runtime::{ServerSpec, UpstreamRuntime, UpstreamSettings};

use rate_limits::RateLimitRule;
use router::Router;

/// Everything a request needs, under one pointer.
#[derive(Debug)]
pub struct Snapshot {
    /// What is promised.
    pub contract: Arc<Contract>,
    /// Overrides of every route.
    pub overrides: Vec<Override>,
    /// Limits towards clients. A connection holds on to them from one request to the next.
    pub client: Arc<ClientLimits>,
    /// Which requests are logged.
    pub access: AccessLog,
    /// Host, path and method to a route.
    pub router: Router,
    /// The routes, in the order of the file.
    pub routes: Vec<Route>,
    /// What holds for requests that reach no route.
    pub unrouted: Unrouted,
    /// The upstreams, in the order of the file.
    pub upstreams: Vec<UpstreamHandle>,
    /// The rate limits, in the order of the file.
    pub rate_limits: Vec<Arc<RateLimitRule>>,
    /// Where some of them count, in the order of the file.
    pub stores: Vec<Arc<RedisBackend>>,
    /// In which fields clients are told of them.
    pub limit_headers: config::LimitHeaders,
}

/// An upstream: what outlives a snapshot, and what this one says of it.
#[derive(Clone, Debug)]
pub struct UpstreamHandle {
    /// Its servers and connections.
    pub runtime: Arc<UpstreamRuntime>,
    /// Its counters.
    pub metrics: Arc<UpstreamMetrics>,
    /// How many requests it may have at once, where that is limited.
    pub concurrency: Option<Arc<Concurrency>>,
    concurrency_limits: Option<ConcurrencyLimits>,
}

/// A route with all that it refers to.
#[derive(Debug)]
pub struct Route {
    /// As configured.
    pub config: config::RouteConfig,
    /// Who answers.
    pub upstream: Arc<UpstreamRuntime>,
    /// How many requests may be there at once, where that is limited.
    pub concurrency: Option<Arc<Concurrency>>,
    /// Attempts per request, the first included.
    pub attempts: u32,
    /// Upstream statuses that may be tried again.
    pub retry_on_status: Vec<u16>,
    /// The rate limits that hold here.
    pub rate_limits: Vec<Arc<RateLimitRule>>,
    /// One of them counts by a member of the body.
    pub limits_read_body: bool,
    /// One of them cannot decide at once.
    pub limits_need_io: bool,
    /// Its counters.
    pub metrics: Arc<RouteMetrics>,
    /// Its upstream's counters.
    pub upstream_metrics: Arc<UpstreamMetrics>,
}

/// The rules of a request without a route.
#[derive(Debug)]
pub struct Unrouted {
    /// How its errors are made.
    pub errors: ErrorRules,
    /// Whose pages may read its answers.
    pub cors: Option<Arc<cors::CorsPolicy>>,
    /// Its counters: `route="none"`.
    pub metrics: Arc<RouteMetrics>,
}

impl Route {
    /// Its time limits.
    pub fn timeouts(&self) -> &Timeouts {
        &self.config.timeouts
    }
}

impl Snapshot {
    /// Compiles a checked configuration. What the `previous` snapshot has of the same making lives on in this one:
    /// upstreams with their connections and addresses, who is at them or waits for them, stores, and what rate limits have
    /// counted.
    /// Nothing of it is changed before [`Snapshot::apply`].
    ///
    /// # Errors
    /// A path pattern that the router does not take; [`crate::config`] has refused it before, so this is a bug of ours
    /// and says so.
    pub fn build(
        config: &Config,
        metrics: &Metrics,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, String> {
        let code_labels = CodeLabels::for_contract(&config.contract);
        let upstreams: Vec<UpstreamHandle> = config
            .upstreams
            .iter()
            .map(|upstream| UpstreamHandle::build(upstream, metrics, previous))
            .collect();
        let previous_rules = previous.map_or(&[][..], |previous| &previous.rate_limits);
        let previous_stores = previous.map_or(&[][..], |previous| &previous.stores);
        let stores = stores::carry_over(&config.stores, previous_stores, metrics);
        let rate_limits = rate_limits::rules(&config.rate_limits, &stores, previous_rules, metrics);
        let mut routes = Vec::with_capacity(config.routes.len());
        for route in &config.routes {
            let missing_upstream = || format!("route {} names an upstream that is not there", route.name);
            let upstream = upstreams.get(route.upstream).ok_or_else(missing_upstream)?;
            let upstream_config = config.upstreams.get(route.upstream).ok_or_else(missing_upstream)?;
            let route_rules: Vec<Arc<RateLimitRule>> =
                route.rate_limits.iter().filter_map(|rule| rate_limits.get(*rule)).cloned().collect();
            let limits_read_body = route_rules.iter().any(|rule| rule.limiter.needs_body());
            routes.push(Route {
                config: route.clone(),
                upstream: Arc::clone(&upstream.runtime),
                concurrency: upstream.concurrency.clone(),
                attempts: upstream_config.attempts.max(1),
                retry_on_status: upstream_config.retry_on_status.clone(),
                limits_read_body,
                limits_need_io: limits_read_body || route_rules.iter().any(|rule| rule.store.is_some()),
                rate_limits: route_rules,
                metrics: metrics.route(&code_labels, &route.name, Some(upstream.runtime.name())),
                upstream_metrics: Arc::clone(&upstream.metrics),
            });
        }
        Ok(Snapshot {
            contract: Arc::clone(&config.contract),
            overrides: config.overrides.clone(),
            client: Arc::new(config.client.clone()),
            access: AccessLog::new(logging::requests(config.log.requests), logging::level(config.log.level)),
            router: Router::build(&config.routes)?,
            routes,
            unrouted: Unrouted {
                errors: config.errors.clone(),
                cors: config.cors.clone(),
                metrics: metrics.route(&code_labels, definitions::NONE, None),
            },
            upstreams,
            rate_limits,
            stores,
            limit_headers: config.rate_limit_headers,
        })
    }

    /// This snapshot becomes the current one: what it shares with the one before follows its settings from now on.
    pub fn apply(&self, metrics: &Metrics) {
        for upstream in &self.upstreams {
            if let Some(concurrency) = &upstream.concurrency {
                concurrency.set_limits(upstream.concurrency_limits.unwrap_or(ConcurrencyLimits::UNLIMITED));
            }
        }
        let limited =
            self.upstreams.iter().filter_map(|upstream| Some((upstream, upstream.concurrency_limits?)));
        metrics.concurrency_limits(limited.map(|(upstream, limits)| (upstream.runtime.name(), limits.max)));
    }

    /// Requests that are at upstreams now.
    pub fn in_flight(&self) -> i64 {
        self.upstreams.iter().map(|upstream| upstream.metrics.in_flight_count()).sum()
    }
}

impl UpstreamHandle {
    fn build(
        config: &config::UpstreamConfig,
        metrics: &Metrics,
        previous: Option<&Snapshot>,
    ) -> UpstreamHandle {
        let settings = upstream_settings(config);
        let previous_upstream = previous
            .into_iter()
            .flat_map(|previous| &previous.upstreams)
            .find(|candidate| candidate.runtime.name() == settings.name);
        let previous_runtime = previous_upstream.map(|known| &known.runtime);
        let runtime = match previous_runtime {
            Some(runtime) if *runtime.settings() == settings => Arc::clone(runtime),
            Some(previous_runtime) => {
                Arc::new(UpstreamRuntime::new(settings).with_known_addresses(previous_runtime))
            }
            None => Arc::new(UpstreamRuntime::new(settings)),
        };
        // Who is at the upstream counts under its name, whatever its servers are now. Counting goes on without a limit: there
        // may be one again, and who waits for one that is gone is let in.
        let carried_over = previous_upstream.and_then(|known| known.concurrency.clone());
        let concurrency =
            carried_over.or_else(|| config.concurrency.map(|limits| Arc::new(Concurrency::new(limits))));
        UpstreamHandle {
            metrics: metrics.upstream(runtime.name()),
            runtime,
            concurrency,
            concurrency_limits: config.concurrency,
        }
    }
}

fn upstream_settings(upstream: &config::UpstreamConfig) -> UpstreamSettings {
    let server = |server: &config::UpstreamServer| ServerSpec {
        host: server.host.clone(),
        port: server.port,
        weight: server.weight,
        label: server.label(),
        tls_name: server.tls_name.clone(),
    };
    UpstreamSettings {
        name: upstream.name.clone(),
        servers: upstream.servers.iter().map(server).collect(),
        keepalive_max: upstream.keepalive_max,
        keepalive_idle: upstream.keepalive_idle,
        dns_refresh: upstream.dns_refresh,
        trust: upstream.cert_verification.clone(),
        http2: upstream.http2,
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
