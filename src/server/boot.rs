//! Runs the process, from a validated configuration to a graceful exit: bind, build, spawn, announce, drain.
//!
//! [`serve`] has one line for each step, in an order that matters.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tracing::{error, info};

use super::accept::accept;
use super::certificates;
use super::drain::{self, DrainedListeners, ProcessState, Signals};
use super::fd_budget::{self, FdBudget};
use super::listen::{self, BoundListener};
use super::problem_log;
use super::reload::{self, ConfigLoader, Reload, SharedTls};
use super::signals;
use super::tasks::{self, UpstreamTasks};
use crate::admin::telemetry::{self, PageCoding, TelemetryState};
use crate::config::{Config, ListenAddress, Listener};
use crate::contract::{Fault, PageResponse};
use crate::proxy::{ConnectionTracker, Gateway, ListenerRole, ListenerService, PageHandler, PageRequest};
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use crate::telemetry::log::LevelHandle;

/// Inputs of [`serve`] beside the configuration.
pub(crate) struct ServeOptions {
    /// The metrics, created before, because the log reports to them.
    pub metrics: Arc<Metrics>,
    /// Reads the configuration again for a reload, if it came from a file.
    pub load: Option<ConfigLoader>,
    /// The log level, which a reload may change.
    pub verbosity: LevelHandle,
    /// A path that panics, in debug builds: see [`Gateway::set_panic_path`].
    pub panic_path: Option<&'static str>,
    /// Called with the addresses once all listeners are open.
    pub on_listening: Box<dyn FnOnce(&Listening)>,
}

/// The addresses of the listeners.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Addresses for clients, in the order of the configuration file.
    pub gateway: Vec<ListenAddress>,
    /// Address of the telemetry endpoints.
    pub telemetry: ListenAddress,
}

/// Serves until a signal shuts the process down.
///
/// # Errors
/// A message for the operator: a port in use, or threads or signal handlers that could not be created.
pub(crate) fn serve(mut config: Config, options: ServeOptions) -> Result<(), String> {
    let ServeOptions { metrics, load, verbosity, panic_path, on_listening } = options;
    // First, because the budget caps the limits of everything that is built from the configuration.
    let descriptors = fd_budget::raise_fd_limit();
    let fd_budget = fd_budget::apply_budget(&mut config, descriptors);
    // Before the threads start, so that a port in use is reported at once.
    let sockets = Sockets::bind(&config)?;
    let listening = sockets.addresses();
    let runtime = runtime(config.workers)?;
    let process = Process::build(config, metrics, fd_budget, panic_path)?;
    log_panics();
    runtime.block_on(async {
        let signals = Signals::install().map_err(signal_error)?;
        let sighup = signals::sighup().map_err(signal_error)?;
        signals::ignore_unsupported().map_err(signal_error)?;
        let upstream_tasks = process.connect_upstreams_and_backends().await;
        let reload = process.reload(load, verbosity, (upstream_tasks, &listening), descriptors);
        // Before the listeners are spawned: a reload replaces the certificates that they share.
        let tls = reload.tls.clone();
        tokio::spawn(reload.run(sighup));
        tokio::spawn(tasks::trim_memory());
        tokio::spawn(tasks::summarize_omitted_lines(Arc::clone(&process.gateway)));
        let (listeners, stop_telemetry) = process.spawn_listeners(sockets, tls);
        process.announce(&listening, on_listening, descriptors);
        drain::wait_and_drain(signals, &process.state, listeners, &process.running).await;
        process.gateway.log_sampler.write_summaries();
        info!("stopped");
        // The telemetry endpoints respond until the end of the drain.
        let _ = stop_telemetry.send(true);
        Ok::<(), String>(())
    })?;
    // Connections that are still open exceeded the drain timeout.
    runtime.shutdown_background();
    Ok(())
}

/// The bound sockets.
struct Sockets {
    /// In the order of the configuration file.
    gateway: Vec<BoundListener>,
    telemetry: BoundListener,
}

impl Sockets {
    fn bind(config: &Config) -> Result<Self, String> {
        let telemetry = ListenAddress::Tcp(config.telemetry.address);
        let addresses = config.listeners.iter().map(|listener| &listener.address);
        let tcp = addresses.clone().chain([&telemetry]).filter_map(ListenAddress::tcp);
        let all: Vec<std::net::SocketAddr> = tcp.collect();
        let gateway = addresses.map(|address| listen::bind_listener(address, &all));
        Ok(Sockets {
            gateway: gateway.collect::<Result<_, _>>()?,
            telemetry: listen::bind_listener(&telemetry, &all)?,
        })
    }

    fn addresses(&self) -> Listening {
        let gateway = self.gateway.iter().map(|bound| bound.address.clone()).collect();
        Listening { gateway, telemetry: self.telemetry.address.clone() }
    }
}

/// What the tasks of the process share.
struct Process {
    metrics: Arc<Metrics>,
    gateway: Arc<Gateway>,
    /// The active configuration.
    running: Arc<ArcSwap<Config>>,
    state: Arc<ProcessState>,
    tracker: Arc<ConnectionTracker>,
    fd_budget: FdBudget,
}

impl Process {
    fn build(
        config: Config,
        metrics: Arc<Metrics>,
        fd_budget: FdBudget,
        panic_path: Option<&'static str>,
    ) -> Result<Self, String> {
        let snapshot = Snapshot::build(&config, &metrics, None)?;
        snapshot.apply(&metrics);
        let upstream_connections = fd_budget.upstream_connections;
        let mut gateway =
            Gateway::new(snapshot, Arc::clone(&metrics), &new_pseudonym(), upstream_connections);
        if let Some(path) = panic_path {
            gateway.set_panic_path(path);
        }
        Ok(Process {
            metrics,
            gateway: Arc::new(gateway),
            running: Arc::new(ArcSwap::from_pointee(config)),
            state: Arc::default(),
            tracker: ConnectionTracker::new(fd_budget.over_limit_connections),
            fd_budget,
        })
    }

    /// Waits for the first DNS lookups, at most 2 s, and for the rate-limit backends, so that the first requests reach
    /// their servers and are counted.
    async fn connect_upstreams_and_backends(&self) -> UpstreamTasks {
        let snapshot = self.gateway.snapshot.load_full();
        let upstreams = reload::upstream_runtimes(&snapshot);
        let lookups = join_all(upstreams.iter().map(|upstream| tasks::resolve_all(upstream)));
        tokio::join!(lookups, tasks::connect_backends(&snapshot.backends));
        let mut upstream_tasks = UpstreamTasks::default();
        upstream_tasks.update(&upstreams);
        upstream_tasks
    }

    /// What a reload needs. Logs the warnings of the first configuration, and problems with its certificates.
    fn reload(
        &self,
        load: Option<ConfigLoader>,
        verbosity: LevelHandle,
        (upstream_tasks, listening): (UpstreamTasks, &Listening),
        descriptors: u64,
    ) -> Reload {
        let config = self.running.load();
        let loaded_at = SystemTime::now();
        certificates::log_problems(&config, loaded_at);
        problem_log::log_warnings(&config.warnings);
        certificates::export_expiry(&config, &listening.gateway, &self.metrics);
        self.metrics.config_loaded(&config.hash, loaded_at);
        let shared_tls =
            |listener: &Listener| Some(Arc::new(ArcSwap::new(Arc::clone(&listener.tls.as_ref()?.settings))));
        Reload {
            tls: config.listeners.iter().map(shared_tls).collect(),
            addresses: listening.gateway.clone(),
            load,
            gateway: Arc::clone(&self.gateway),
            running: Arc::clone(&self.running),
            loaded_at,
            state: Arc::clone(&self.state),
            upstream_tasks,
            verbosity,
            descriptors,
        }
    }

    /// Accepts connections on all sockets. Returns the listeners to drain, and the switch that stops the telemetry
    /// endpoints.
    fn spawn_listeners(
        &self,
        sockets: Sockets,
        tls: Vec<Option<SharedTls>>,
    ) -> (DrainedListeners, watch::Sender<bool>) {
        let config = self.running.load();
        let (stop, stopped) = watch::channel(false);
        let mut acceptors = Vec::new();
        for (index, ((listener, tls), bound)) in
            config.listeners.iter().zip(tls).zip(sockets.gateway).enumerate()
        {
            let service = ListenerService {
                gateway: Arc::clone(&self.gateway),
                index,
                role: ListenerRole::Gateway,
                port: bound.address.port_or(if listener.tls.is_some() { 443 } else { 80 }),
                h2c: listener.h2c,
                proxy_protocol: listener.proxy_protocol.clone(),
                tls,
                tracker: Arc::clone(&self.tracker),
                gauge: self.metrics.connections(&bound.address.to_string()),
            };
            acceptors.push(tokio::spawn(accept(bound, service, stopped.clone())));
        }
        let pages = TelemetryPages {
            state: Arc::clone(&self.state),
            metrics: Arc::clone(&self.metrics),
            gateway: Arc::clone(&self.gateway),
        };
        let service = ListenerService {
            gateway: Arc::clone(&self.gateway),
            index: 0,
            role: ListenerRole::Pages {
                handler: Arc::new(pages),
                max_connections: self.fd_budget.telemetry_connections,
            },
            port: sockets.telemetry.address.port_or(80),
            h2c: false,
            proxy_protocol: None,
            tls: None,
            tracker: ConnectionTracker::new(1),
            gauge: self.metrics.connections(&sockets.telemetry.address.to_string()),
        };
        let (stop_telemetry, telemetry_stopped) = watch::channel(false);
        tokio::spawn(accept(sockets.telemetry, service, telemetry_stopped));
        (DrainedListeners { stop, acceptors, tracker: Arc::clone(&self.tracker) }, stop_telemetry)
    }

    /// Reports that the process serves: to `/readyz`, the caller and the log.
    fn announce(&self, listening: &Listening, on_listening: impl FnOnce(&Listening), descriptors: u64) {
        self.state.set_serving();
        on_listening(listening);
        let config = self.running.load();
        info!(
            workers = config.workers,
            descriptors,
            max_connections = config.client.max_connections,
            contract = config.contract.name(),
            "serving"
        );
    }
}

fn signal_error(error: std::io::Error) -> String {
    format!("cannot install signal handlers: {error}")
}

/// Polls of tasks between two checks for I/O events: as many as one check can wake (tokio's `max_io_events_per_tick`).
///
/// With tokio's 61, new events of busy connections keep coming before the tasks of the last check have run; the others
/// wait in tokio's overflow queue. Measured with 1,000 connections on one core: p99 225 ms with 61, 75 ms with 1,024.
const EVENT_INTERVAL: u32 = 1024;

fn runtime(workers: usize) -> Result<Runtime, String> {
    Builder::new_multi_thread()
        .worker_threads(workers.max(1))
        .event_interval(EVENT_INTERVAL)
        .thread_name("worker")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start {workers} worker threads: {error}"))
}

/// The pseudonym in the Via field: constant for the process, different for each instance.
fn new_pseudonym() -> String {
    format!("statusquo-{:08x}", uuid::Uuid::new_v4().as_u64_pair().0 >> 32)
}

/// Logs panics as errors. The guard around the request sends the response.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
        error!(location, evidence = text, "panicked; this is a bug, please report it");
    }));
}

/// Serves the telemetry endpoints from the state of this process.
#[derive(Debug)]
struct TelemetryPages {
    state: Arc<ProcessState>,
    metrics: Arc<Metrics>,
    gateway: Arc<Gateway>,
}

impl PageHandler for TelemetryPages {
    fn respond(&self, request: &PageRequest<'_>) -> Result<PageResponse, Fault> {
        if request.path == "/metrics" {
            self.gateway.snapshot.load().report_states(&self.metrics);
        }
        let coding = if request.prefers_gzip { PageCoding::Gzip } else { PageCoding::Identity };
        telemetry::respond(
            request.method,
            request.path,
            coding,
            &TelemetryState { readiness: self.state.readiness(), metrics: &self.metrics },
        )
    }

    fn allowed_methods(&self) -> http::HeaderValue {
        telemetry::allowed_methods()
    }
}
