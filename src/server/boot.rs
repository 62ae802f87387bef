//! Runs the process: from a validated configuration, through serving, to a graceful exit.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tracing::{error, info};

use super::accept::accept;
use super::certificates;
use super::drain::{self, ProcessState, Signals};
use super::fd_budget;
use super::listen::{self, BoundListener};
use super::reload::{self, ConfigLoader, Reload};
use super::tasks::{self, DnsTasks};
use crate::admin::telemetry::{self, TelemetryState};
use crate::config::Config;
use crate::contract::{Fault, PageResponse};
use crate::proxy::{ConnectionTracker, Gateway, ListenerRole, ListenerService, PageHandler};
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
    pub gateway: Vec<std::net::SocketAddr>,
    /// Address of the telemetry endpoints.
    pub telemetry: std::net::SocketAddr,
}

/// Serves until a signal shuts the process down.
///
/// # Errors
/// A message for the operator: a port in use, or threads or signal handlers that could not be created.
pub(crate) fn serve(mut config: Config, options: ServeOptions) -> Result<(), String> {
    let descriptors = fd_budget::raise_fd_limit();
    let fd_budget = fd_budget::apply_budget(&mut config, descriptors);
    let bound: Vec<BoundListener> = config
        .listeners
        .iter()
        .map(|listener| listen::bind(listener.address).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    let telemetry = listen::bind(config.telemetry.address).map_err(|error| error.to_string())?;

    let runtime = runtime(config.workers)?;
    let snapshot = Snapshot::build(&config, &options.metrics, None)?;
    snapshot.apply(&options.metrics);
    let upstreams = reload::upstream_runtimes(&snapshot);
    let stores = snapshot.stores.clone();
    let mut gateway = Gateway::new(
        snapshot,
        Arc::clone(&options.metrics),
        &new_pseudonym(),
        fd_budget.upstream_connections,
    );
    if let Some(path) = options.panic_path {
        gateway.set_panic_path(path);
    }
    let gateway = Arc::new(gateway);
    log_panics();

    let state = Arc::new(ProcessState::default());
    let tracker = ConnectionTracker::new(fd_budget.overflow);
    let (stop_gateway, stopped_gateway) = watch::channel(false);
    let (stop_telemetry, stopped_telemetry) = watch::channel(false);
    let listening = Listening {
        gateway: bound.iter().map(|bound| bound.address).collect(),
        telemetry: telemetry.address,
    };
    let running = Arc::new(ArcSwap::from_pointee(config));
    runtime.block_on(async {
        let config = running.load_full();
        let signal_error = |error| format!("cannot install signal handlers: {error}");
        let signals = Signals::install().map_err(signal_error)?;
        let sighup = drain::sighup().map_err(signal_error)?;
        let mut dns_tasks = DnsTasks::default();
        dns_tasks.update(&upstreams);
        tasks::connect_stores(&stores).await;
        drop(stores);
        let tls: Vec<Option<Arc<ArcSwap<_>>>> = config
            .listeners
            .iter()
            .map(|listener| Some(Arc::new(ArcSwap::new(Arc::clone(&listener.tls.as_ref()?.settings)))))
            .collect();
        let reload = Reload {
            tls: tls.clone(),
            load: options.load,
            gateway: Arc::clone(&gateway),
            running: Arc::clone(&running),
            loaded_at: SystemTime::now(),
            state: Arc::clone(&state),
            dns_tasks,
            verbosity: options.verbosity,
            descriptors,
        };
        certificates::log_problems(&config, reload.loaded_at);
        options.metrics.config_loaded(reload.loaded_at);
        tokio::spawn(reload.run(sighup));
        let mut acceptors = Vec::new();
        for ((listener, tls), bound) in config.listeners.iter().zip(tls).zip(bound) {
            let connections = ListenerService {
                gateway: Arc::clone(&gateway),
                role: ListenerRole::Gateway,
                h2c: listener.h2c,
                tls: tls.clone(),
                tracker: Arc::clone(&tracker),
                gauge: options.metrics.connections(&bound.address.to_string()),
            };
            acceptors.push(tokio::spawn(accept(bound, connections, stopped_gateway.clone())));
        }
        let handler = TelemetryPages { state: Arc::clone(&state), metrics: Arc::clone(&options.metrics) };
        let connections = ListenerService {
            gateway: Arc::clone(&gateway),
            role: ListenerRole::Pages(Arc::new(handler), fd_budget.telemetry_connections),
            h2c: false,
            tls: None,
            tracker: ConnectionTracker::new(1),
            gauge: options.metrics.connections(&telemetry.address.to_string()),
        };
        tokio::spawn(accept(telemetry, connections, stopped_telemetry));
        tokio::spawn(tasks::trim_memory());
        state.set_serving();
        (options.on_listening)(&listening);
        info!(
            workers = config.workers,
            descriptors,
            max_connections = config.client.max_connections,
            contract = config.contract.name(),
            "serving"
        );
        drain::wait_and_drain(signals, state, stop_gateway, acceptors, tracker, &running).await;
        let _ = stop_telemetry.send(true);
        Ok::<(), String>(())
    })?;
    // Connections that are still open exceeded the drain timeout.
    runtime.shutdown_background();
    Ok(())
}

fn runtime(workers: usize) -> Result<Runtime, String> {
    Builder::new_multi_thread()
        .worker_threads(workers.max(1))
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
}

impl PageHandler for TelemetryPages {
    fn respond(&self, method: &http::Method, path: &str) -> Result<PageResponse, Fault> {
        telemetry::respond(
            method,
            path,
            &TelemetryState { readiness: self.state.readiness(), metrics: &self.metrics },
        )
    }
}
