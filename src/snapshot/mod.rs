//! What a request needs, immutable: one [`Snapshot`] is pinned per request, so no request sees half a reload.
//!
//! Built from a [`Config`] once; metric handles are resolved and routes compiled here so that nothing is looked up by
//! name on the request path. It opens no socket: an upstream connects when a request asks it to.

pub mod grounds;
pub mod limits;
pub mod router;

use std::sync::Arc;

use crate::config::{self, Client, Config, ErrorRules, Timeouts};
use crate::contract::{Contract, Override};
use crate::observe::{Metrics, RouteMetrics, UpstreamMetrics};
use crate::protocol::cors;
use crate::upstream::{Runtime, runtime::ServerSpec};

use limits::Rule;
use router::Router;

/// Everything a request needs, under one pointer.
#[derive(Debug)]
pub struct Snapshot {
    /// What is promised.
    pub contract: Arc<Contract>,
    /// Overrides of every route.
    pub overrides: Vec<Override>,
    /// Limits towards clients.
    pub client: Client,
    /// Host, path and method to a route.
    pub router: Router,
    /// The routes, in the order of the file.
    pub routes: Vec<Route>,
    /// What holds for requests that reach no route.
    pub unrouted: Unrouted,
    /// The upstreams, in the order of the file.
    pub upstreams: Vec<Arc<Runtime>>,
    /// The rate limits, in the order of the file.
    pub limits: Vec<Arc<Rule>>,
}

/// A route with all that it refers to.
#[derive(Debug)]
pub struct Route {
    /// As configured.
    pub config: config::Route,
    /// Who answers.
    pub upstream: Arc<Runtime>,
    /// Attempts per request, the first included.
    pub attempts: u32,
    /// Upstream statuses that may be tried again.
    pub retry_on_status: Vec<u16>,
    /// The rate limits that hold here.
    pub limits: Vec<Arc<Rule>>,
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
    pub cors: Option<Arc<cors::Policy>>,
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
    /// Compiles a checked configuration.
    ///
    /// # Errors
    /// A path pattern that the router does not take; [`crate::config`] has refused it before, so this is a bug of ours
    /// and says so.
    pub fn build(config: &Config, metrics: &Metrics) -> Result<Snapshot, String> {
        let upstreams: Vec<Arc<Runtime>> =
            config.upstreams.iter().map(|upstream| Arc::new(runtime(upstream))).collect();
        let limits = limits::rules(&config.rate_limits, &[], metrics);
        let mut routes = Vec::with_capacity(config.routes.len());
        for route in &config.routes {
            let missing = || format!("route {} names an upstream that is not there", route.name);
            let upstream = upstreams.get(route.upstream).ok_or_else(missing)?;
            let rules = config.upstreams.get(route.upstream).ok_or_else(missing)?;
            routes.push(Route {
                config: route.clone(),
                upstream: Arc::clone(upstream),
                attempts: rules.attempts.max(1),
                retry_on_status: rules.retry_on_status.clone(),
                limits: route.rate_limits.iter().filter_map(|rule| limits.get(*rule)).cloned().collect(),
                metrics: metrics.route(&route.name, Some(upstream.name())),
                upstream_metrics: metrics.upstream(upstream.name()),
            });
        }
        Ok(Snapshot {
            contract: Arc::clone(&config.contract),
            overrides: config.overrides.clone(),
            client: config.client.clone(),
            router: Router::build(&config.routes)?,
            routes,
            unrouted: Unrouted {
                errors: config.errors.clone(),
                cors: config.cors.clone(),
                metrics: metrics.route("none", None),
            },
            upstreams,
            limits,
        })
    }
}

fn runtime(upstream: &config::Upstream) -> Runtime {
    let servers: Vec<ServerSpec> = upstream
        .servers
        .iter()
        .map(|server| ServerSpec {
            host: server.host.clone(),
            port: server.port,
            weight: server.weight,
            label: server.label(),
        })
        .collect();
    Runtime::new(
        &upstream.name,
        &servers,
        upstream.keepalive_max,
        upstream.keepalive_idle,
        upstream.dns_refresh,
    )
}
