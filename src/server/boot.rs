//! From a checked configuration to a serving process, and to its orderly end.

use std::os::fd::IntoRawFd;
use std::sync::Arc;

use parking_lot::Mutex;
use pingora::listeners::ListenerConfig;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::server::Fds;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tracing::{error, info};

use super::drain::{self, Signals, Stage};
use super::limits;
use super::listen::{self, Bound};
use super::tasks;
use crate::admin::telemetry::{self, TelemetryState};
use crate::config::Config;
use crate::contract::{Fault, Page};
use crate::exchange::{Connections, Gateway, Open, Pages, Role};
use crate::observe::{Access, Metrics};
use crate::snapshot::Snapshot;

/// What the process is told beside its configuration.
pub struct Options {
    /// Already built, because the log reports to them.
    pub metrics: Arc<Metrics>,
    /// Which requests are logged.
    pub access: Access,
    /// A path that panics, in debug builds: see [`Gateway::panic_at`].
    pub panic_path: Option<&'static str>,
    /// Told of every address that is listened on, once all are.
    pub listening: Box<dyn FnOnce(&Listening)>,
}

/// Where the process listens.
#[derive(Debug)]
pub struct Listening {
    /// The gateway's addresses, in the order of the file.
    pub gateway: Vec<std::net::SocketAddr>,
    /// The telemetry address.
    pub telemetry: std::net::SocketAddr,
}

/// Serves until a signal ends it.
///
/// # Errors
/// A sentence for the operator: a port in use, no threads, no signals.
pub fn serve(mut config: Config, options: Options) -> Result<(), String> {
    let descriptors = limits::raise_descriptors();
    config.client.max_connections = limits::connections_within(descriptors, config.client.max_connections);
    let bound: Vec<Bound> = config
        .listen
        .iter()
        .map(|listener| listen::bind(listener.address).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    let telemetry = listen::bind(config.telemetry.address).map_err(|error| error.to_string())?;

    let runtime = runtime(config.workers)?;
    let snapshot = Snapshot::build(&config, &options.metrics)?;
    let upstreams = snapshot.upstreams.clone();
    let mut gateway = Gateway::new(snapshot, Arc::clone(&options.metrics), options.access, &pseudonym());
    if let Some(path) = options.panic_path {
        gateway.panic_at(path);
    }
    let gateway = Arc::new(gateway);
    log_panics();

    let stage = Arc::new(Stage::default());
    let open = Arc::new(Open::default());
    let (stop_gateway, stopped_gateway) = watch::channel(false);
    let (stop_telemetry, stopped_telemetry) = watch::channel(false);
    let listening = Listening {
        gateway: bound.iter().map(|bound| bound.address).collect(),
        telemetry: telemetry.address,
    };
    runtime.block_on(async {
        let signals = Signals::take().map_err(|error| format!("cannot take over signals: {error}"))?;
        for upstream in upstreams {
            tokio::spawn(tasks::resolve(upstream));
        }
        for (listener, bound) in config.listen.iter().zip(bound) {
            let connections = Connections {
                gateway: Arc::clone(&gateway),
                role: Role::Gateway,
                h2c: listener.h2c,
                open: Arc::clone(&open),
                gauge: options.metrics.connections(&bound.address.to_string()),
            };
            start(bound, connections, stopped_gateway.clone());
        }
        let pages = Role::Pages(Arc::new(TelemetryPages {
            stage: Arc::clone(&stage),
            metrics: Arc::clone(&options.metrics),
        }));
        let connections = Connections {
            gateway: Arc::clone(&gateway),
            role: pages,
            h2c: false,
            open: Arc::default(),
            gauge: options.metrics.connections(&telemetry.address.to_string()),
        };
        start(telemetry, connections, stopped_telemetry);
        stage.serving();
        (options.listening)(&listening);
        info!(
            workers = config.workers,
            max_connections = config.client.max_connections,
            contract = config.contract.name(),
            "serving"
        );
        drain::until_drained(signals, stage, stop_gateway, open, config.drain_delay, config.drain).await;
        let _ = stop_telemetry.send(true);
        Ok::<(), String>(())
    })?;
    // What is still open has had its time.
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

/// Hands a bound socket to pingora, which accepts on it from now on.
fn start(bound: Bound, connections: Connections, stopped: watch::Receiver<bool>) {
    let name = bound.address.to_string();
    let mut fds = Fds::new();
    fds.add(name.clone(), bound.socket.into_raw_fd());
    let mut service = Service::new(name.clone(), connections);
    // Both sides of the exchange have buffers of their own; pingora's would cost 64 KiB a connection.
    service.add_listener(ListenerConfig::tcp(name).l4_buffer(L4BufferSettings::unbuffered()));
    tokio::spawn(async move {
        service.start_service(Some(Arc::new(Mutex::new(fds))), stopped, 1).await;
    });
}

/// Our name in Via: the same for the life of the process, different for each instance.
fn pseudonym() -> String {
    format!("statusquo-{:08x}", uuid::Uuid::new_v4().as_u64_pair().0 >> 32)
}

/// A panic is logged as what it is: somebody has to act. What is answered is the guard's.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
        error!(place, evidence = text, "panicked: a bug; please report it");
    }));
}

/// The telemetry endpoints over the process's own state.
#[derive(Debug)]
struct TelemetryPages {
    stage: Arc<Stage>,
    metrics: Arc<Metrics>,
}

impl Pages for TelemetryPages {
    fn answer(&self, method: &http::Method, path: &str) -> Result<Page, Fault> {
        telemetry::answer(
            method,
            path,
            &TelemetryState { ready: self.stage.readiness(), metrics: &self.metrics },
        )
    }
}
