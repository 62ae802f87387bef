//! Immutable runtime configuration: every request holds one [`Snapshot`], so that a reload never affects a running
//! request.
//!
//! A snapshot is built from a [`Config`]: routes are compiled and metric handles resolved here, so that the request
//! path looks up nothing by name. State that must survive a reload is carried over from the previous snapshot. Building
//! opens no socket: upstreams connect on the first request, rate-limit backends when the server starts them.

mod backends;
pub(crate) mod error_context;
pub(crate) mod logging;
pub(crate) mod rate_limits;
pub mod router;
mod unrouted;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{self, ClientSettings, Config, Timeouts};
use crate::contract::Override;
use crate::http::authority::UpstreamHost;
use crate::limit::redis::RedisBackend;
use crate::telemetry::{
    AccessLog, CodeLabels, Metrics, RouteMetrics, SeriesName, UpstreamMetrics, definitions,
};
use crate::upstream::ServerState;
use crate::upstream::concurrency::{Concurrency, ConcurrencyLimits};
use crate::upstream::endpoint::ServerHealth;
use crate::upstream::http2::HttpVersionPolicy;
use crate::upstream::runtime::UpstreamRuntime;
use crate::upstream::settings::{NameSource, ServerSpec, UpstreamSettings};

use rate_limits::RateLimitRule;
use router::Router;
pub(crate) use unrouted::{ResponseSettings, Unrouted};

/// Everything that the request path reads, behind one pointer.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Overrides for all routes.
    pub(crate) overrides: Vec<Override>,
    /// Limits for clients. Shared, because an idle connection keeps them between requests.
    pub(crate) client: Arc<ClientSettings>,
    /// The access log.
    pub(crate) access: AccessLog,
    /// Maps host, path and method to a route.
    pub(crate) router: Router,
    /// The routes, in the order of the configuration file.
    pub(crate) routes: Vec<Route>,
    /// The settings for requests that match no route.
    pub(crate) unrouted: Unrouted,
    /// The upstreams, in the order of the configuration file.
    pub(crate) upstreams: Vec<UpstreamHandle>,
    /// The rate limits, in the order of the configuration file.
    pub(crate) rate_limits: Vec<Arc<RateLimitRule>>,
    /// The shared rate-limit backends, in the order of the configuration file.
    pub(crate) backends: Vec<Arc<RedisBackend>>,
    /// Which header fields report rate limits to clients.
    pub(crate) limit_headers: config::LimitHeaders,
    /// The names that have metric series.
    series_names: BTreeSet<SeriesName>,
}

/// An upstream: its state that survives reloads, and this snapshot's settings.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamHandle {
    /// Servers and connections.
    pub(crate) runtime: Arc<UpstreamRuntime>,
    /// Metric handles.
    pub(crate) metrics: Arc<UpstreamMetrics>,
    /// The concurrency limit, if configured now or before a reload.
    pub(crate) concurrency: Option<Arc<Concurrency>>,
    concurrency_limits: Option<ConcurrencyLimits>,
}

/// A route with everything it refers to.
#[derive(Debug)]
pub(crate) struct Route {
    /// The route's configuration.
    pub(crate) config: config::RouteConfig,
    /// The upstream that receives its requests.
    pub(crate) upstream: Arc<UpstreamRuntime>,
    /// The upstream's concurrency limit, if any.
    pub(crate) concurrency: Option<Arc<Concurrency>>,
    /// Maximum attempts per request, including the first.
    pub(crate) attempts: u32,
    /// Upstream status codes after which a request may be retried.
    pub(crate) retry_on_status: Vec<u16>,
    /// Retries as a share of the upstream's requests, in percent.
    pub(crate) retry_budget: u32,
    /// Whether the upstream receives `Via`.
    pub(crate) sends_via: bool,
    /// The host that the upstream receives.
    pub(crate) upstream_host: UpstreamHost,
    /// The rate limits that apply to the route.
    pub(crate) rate_limits: Vec<Arc<RateLimitRule>>,
    /// Whether the key of a rate limit has a member of the request body.
    pub(crate) limits_read_body: bool,
    /// Whether a rate limit needs the body or a shared backend, so that a decision takes I/O.
    pub(crate) limits_need_io: bool,
    /// The route's metric handles.
    pub(crate) metrics: Arc<RouteMetrics>,
    /// The upstream's metric handles.
    pub(crate) upstream_metrics: Arc<UpstreamMetrics>,
}

impl Route {
    /// The route's timeouts.
    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.config.timeouts
    }

    /// The settings of its responses.
    pub(crate) fn response_settings(&self) -> ResponseSettings<'_> {
        ResponseSettings { errors: &self.config.errors, cors: self.config.cors.as_ref() }
    }
}

impl Snapshot {
    /// Compiles a validated configuration. Carries over from `previous` what has equal settings: upstreams with their
    /// connections and addresses, rate-limit backends, and the counts of rate limits. Concurrency state is carried over
    /// by the name of the upstream. Shared state is not modified before [`Snapshot::apply`].
    ///
    /// # Errors
    /// A path pattern that the router rejects. [`crate::config`] validates patterns, so this is a bug of ours.
    pub(crate) fn build(
        config: &Config,
        metrics: &Metrics,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, String> {
        let series_names = series_names(config);
        metrics.keep_series(&series_names);
        let upstreams: Vec<UpstreamHandle> = config
            .upstreams
            .iter()
            .map(|upstream| UpstreamHandle::build(upstream, metrics, previous))
            .collect();
        let previous_rules = previous.map_or(&[][..], |previous| &previous.rate_limits);
        let previous_backends = previous.map_or(&[][..], |previous| &previous.backends);
        let backends = backends::carry_over(&config.stores, previous_backends, metrics);
        let rate_limits = rate_limits::rules(&config.rate_limits, &backends, previous_rules, metrics);
        let mut routes = Vec::with_capacity(config.routes.len());
        let mut local = None;
        for route in &config.routes {
            let missing_upstream = || format!("route {} refers to a missing upstream", route.name);
            let (upstream, upstream_config) = match route.upstream {
                Some(index) => (
                    upstreams.get(index).ok_or_else(missing_upstream)?,
                    Some(config.upstreams.get(index).ok_or_else(missing_upstream)?),
                ),
                None => (&*local.get_or_insert_with(|| UpstreamHandle::without_servers(metrics)), None),
            };
            let route_rules: Vec<Arc<RateLimitRule>> =
                route.rate_limits.iter().filter_map(|rule| rate_limits.get(*rule)).cloned().collect();
            let limits_read_body = route_rules.iter().any(|rule| rule.limiter.needs_body());
            routes.push(Route {
                config: route.clone(),
                upstream: Arc::clone(&upstream.runtime),
                concurrency: upstream.concurrency.clone(),
                attempts: upstream_config.map_or(1, |upstream| upstream.attempts.max(1)),
                retry_budget: upstream_config.map_or(0, |upstream| upstream.retry_budget),
                retry_on_status: upstream_config
                    .map_or(Vec::new(), |upstream| upstream.retry_on_status.clone()),
                sends_via: upstream_config.is_some_and(|upstream| upstream.sends_via),
                upstream_host: upstream_config.map_or(UpstreamHost::Client, |upstream| upstream.host.clone()),
                limits_read_body,
                limits_need_io: limits_read_body || route_rules.iter().any(|rule| rule.backend.is_some()),
                rate_limits: route_rules,
                metrics: metrics.route(
                    &CodeLabels::for_contract(&route.errors.contract),
                    &route.name,
                    route.upstream.map(|_| upstream.runtime.name()),
                ),
                upstream_metrics: Arc::clone(&upstream.metrics),
            });
        }
        Ok(Snapshot {
            overrides: config.overrides.clone(),
            client: Arc::new(config.client.clone()),
            access: AccessLog::new(
                logging::requests(config.log.requests),
                logging::level(config.log.level),
                config.log.evidence,
            ),
            router: Router::build(&config.routes)?,
            routes,
            unrouted: Unrouted::of(config, metrics),
            upstreams,
            rate_limits,
            backends,
            limit_headers: config.rate_limit_headers,
            series_names,
        })
    }

    /// Applies this snapshot's settings to the state that it shares with the previous one. Call it when it becomes
    /// current.
    pub(crate) fn apply(&self, metrics: &Metrics) {
        for upstream in &self.upstreams {
            if let Some(concurrency) = &upstream.concurrency {
                concurrency.set_limits(upstream.concurrency_limits.unwrap_or(ConcurrencyLimits::UNLIMITED));
            }
        }
        metrics.activate_series(&self.series_names, Instant::now());
        let limited =
            self.upstreams.iter().filter_map(|upstream| Some((upstream, upstream.concurrency_limits?)));
        metrics.concurrency_limits(limited.map(|(upstream, limits)| (upstream.runtime.name(), limits.max)));
    }

    /// Exports the states of servers and breakers as they are now.
    pub(crate) fn report_states(&self, metrics: &Metrics) {
        let now = Instant::now();
        let servers = self.upstreams.iter().flat_map(|upstream| {
            let state = move |server: &ServerState| {
                // A name without an address gets no requests.
                server.health(now).unwrap_or(ServerHealth::Unhealthy)
            };
            let name = upstream.runtime.name();
            upstream.runtime.servers().iter().map(move |server| (name, &*server.label, state(server).name()))
        });
        let breakers = self.upstreams.iter().filter_map(|upstream| {
            let breaker = upstream.runtime.breaker()?;
            Some((upstream.runtime.name(), breaker.state(now).name()))
        });
        metrics.upstream_states(servers, breakers);
    }

    /// The number of idle connections to upstreams.
    pub(crate) fn idle_upstream_connections(&self) -> usize {
        self.upstreams.iter().map(|upstream| upstream.runtime.transport().idle_count()).sum()
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
            previous_runtime => {
                Arc::new(UpstreamRuntime::new(settings, previous_runtime.map(|runtime| &**runtime)))
            }
        };
        // Requests in progress count under the upstream's name, even if its servers changed. Counting continues without
        // a limit, because a later reload may add one; queued requests are admitted when the limit is removed.
        let carried_over = previous_upstream.and_then(|known| known.concurrency.clone());
        let concurrency =
            carried_over.or_else(|| config.concurrency.map(|limits| Arc::new(Concurrency::new(limits))));
        UpstreamHandle {
            metrics: metrics.upstream(
                runtime.name(),
                runtime.servers().iter().map(|server| server.label.to_string()).collect(),
            ),
            runtime,
            concurrency,
            concurrency_limits: config.concurrency,
        }
    }
}

impl UpstreamHandle {
    /// For routes that respond themselves, and never use it.
    fn without_servers(metrics: &Metrics) -> UpstreamHandle {
        let settings = UpstreamSettings {
            name: definitions::NONE.to_owned(),
            servers: Vec::new(),
            keepalive_max: 0,
            keepalive_idle: Duration::ZERO,
            dns_refresh: Duration::MAX,
            names: NameSource::Dns,
            trust: None,
            http2: HttpVersionPolicy::Http1,
            balance: crate::upstream::settings::Balance::RoundRobin,
            ejection: None,
            failure_status: Vec::new(),
            health: None,
            breaker: None,
        };
        UpstreamHandle {
            metrics: metrics.upstream(definitions::NONE, Vec::new()),
            runtime: Arc::new(UpstreamRuntime::new(settings, None)),
            concurrency: None,
            concurrency_limits: None,
        }
    }
}

/// The names of a configuration that are label values of metrics.
fn series_names(config: &Config) -> BTreeSet<SeriesName> {
    let routes = config.routes.iter().map(|route| SeriesName::Route(route.name.clone()));
    let upstreams = config.upstreams.iter().map(|upstream| SeriesName::Upstream(upstream.name.clone()));
    let servers = config.upstreams.iter().flat_map(|upstream| {
        upstream.servers.iter().map(|server| SeriesName::Server(upstream.name.clone(), server.label()))
    });
    let rules = config.rate_limits.iter().map(|rule| SeriesName::Rule(rule.name.clone()));
    let stores = config.stores.iter().map(|store| SeriesName::Store(store.name.clone()));
    routes.chain(upstreams).chain(servers).chain(rules).chain(stores).collect()
}

fn upstream_settings(upstream: &config::UpstreamConfig) -> UpstreamSettings {
    let server = |server: &config::UpstreamServer| ServerSpec {
        host: server.host.clone(),
        port: server.port,
        socket: server.socket.clone(),
        base_path: server.base_path.clone(),
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
        names: upstream.names.clone(),
        trust: upstream.cert_verification.clone(),
        http2: upstream.http2,
        balance: upstream.balance.clone(),
        ejection: upstream.ejection.clone(),
        failure_status: upstream.failure_status.clone(),
        health: upstream.health.clone(),
        breaker: upstream.breaker.clone(),
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
