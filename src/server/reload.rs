//! Reload on SIGHUP: reads and validates the configuration, then applies it in one step, or rejects it as a whole.
//!
//! A request uses the snapshot with which it started. Changes that need a restart are rejected by key; nothing is
//! silently ignored. [`crate::snapshot`] carries state over.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use rustls::ServerConfig;
use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

use super::certificates;
use super::drain::ProcessState;
use super::fd_budget;
use super::problem_log;
use super::tasks::{self, UpstreamTasks};
use crate::admin::telemetry::Readiness;
use crate::config::{Config, ListenAddress, Listener, LogFormat, Problem, Problems};
use crate::http::peer::PeerRange;
use crate::proxy::Gateway;
use crate::snapshot::{Snapshot, logging};
use crate::telemetry::log::LevelHandle;
use crate::upstream::UpstreamRuntime;

/// Reads the configuration from its source again.
pub(crate) type ConfigLoader = Arc<dyn Fn() -> Result<Config, Problems> + Send + Sync>;

/// The TLS settings of one listener, which a reload replaces.
pub(super) type SharedTls = Arc<ArcSwap<ServerConfig>>;

/// The state that a reload reads and changes.
pub(super) struct Reload {
    /// `None` if the configuration did not come from a file.
    pub(super) load: Option<ConfigLoader>,
    pub(super) gateway: Arc<Gateway>,
    /// The active configuration.
    pub(super) running: Arc<ArcSwap<Config>>,
    /// When the active configuration was loaded.
    pub(super) loaded_at: SystemTime,
    pub(super) state: Arc<ProcessState>,
    pub(super) upstream_tasks: UpstreamTasks,
    pub(super) verbosity: LevelHandle,
    /// The limit on open descriptors.
    pub(super) descriptors: u64,
    /// The TLS settings of each listener, in the order of the configuration file.
    pub(super) tls: Vec<Option<SharedTls>>,
    /// The bound addresses of the listeners, in the same order.
    pub(super) addresses: Vec<ListenAddress>,
}

impl Reload {
    /// Reloads at every signal.
    pub(super) async fn run(mut self, mut signal: Signal) {
        while signal.recv().await.is_some() {
            self.reload().await;
        }
    }

    async fn reload(&mut self) {
        if self.is_draining() {
            return info!("ignored SIGHUP: shutting down");
        }
        let Some(load) = self.load.clone() else {
            return warn!("ignored SIGHUP: the configuration did not come from a file");
        };
        // Blocking, because the file system may be slow.
        let loaded = match tokio::task::spawn_blocking(move || load()).await {
            Ok(Ok(config)) => self.prepare(config).map_err(|list| Problems::new("", "", list)),
            Ok(Err(problems)) => Err(problems),
            Err(panic) => {
                Err(Problems::new("", "", vec![Problem::for_file(panic.to_string(), "please report it")]))
            }
        };
        let (config, fd_budget, snapshot) = match loaded {
            Ok(prepared) => prepared,
            Err(problems) => return self.log_rejection(&problems),
        };
        let upstreams = upstream_runtimes(&snapshot);
        // Resolves the names of new upstreams before their first request.
        let new = upstreams.iter().filter(|upstream| !self.upstream_tasks.contains(upstream));
        join_all(new.map(|upstream| tasks::resolve_all(upstream))).await;
        tasks::connect_backends(&snapshot.backends).await;
        if self.is_draining() {
            return info!("ignored SIGHUP: shutting down");
        }

        snapshot.apply(&self.gateway.metrics);
        self.gateway.set_max_upstream_connections(fd_budget.upstream_connections);
        let previous = self.gateway.snapshot.swap(Arc::new(snapshot));
        for (listener, current) in config.listeners.iter().zip(&self.tls) {
            if let (Some(tls), Some(current)) = (&listener.tls, current) {
                current.store(Arc::clone(&tls.settings));
            }
        }
        self.upstream_tasks.update(&upstreams);
        self.verbosity.set(logging::level(config.log.level));
        self.loaded_at = SystemTime::now();
        certificates::log_problems(&config, self.loaded_at);
        problem_log::log_warnings(&config.warnings);
        certificates::export_expiry(&config, &self.addresses, &self.gateway.metrics);
        self.gateway.metrics.reload_applied(&config.hash, self.loaded_at);
        info!(
            routes = config.routes.len(),
            upstreams = config.upstreams.len(),
            max_connections = config.client.max_connections,
            contract = config.contract.name(),
            "configuration reloaded"
        );
        self.running.store(Arc::new(config));
        // Requests in progress finish; idle connections to removed upstreams are closed.
        for removed in upstream_runtimes(&previous) {
            if !upstreams.iter().any(|upstream| Arc::ptr_eq(upstream, &removed)) {
                removed.close_gracefully();
            }
        }
    }

    /// Performs everything that can fail, before anything changes.
    fn prepare(&self, mut config: Config) -> Result<(Config, fd_budget::FdBudget, Snapshot), Vec<Problem>> {
        let running = self.running.load();
        let problems = needs_restart(&running, &config);
        if !problems.is_empty() {
            return Err(problems);
        }
        // Sockets, certificates and contracts are found by the position of the listener.
        let order = pair_listeners(&running.listeners, &config.listeners);
        config.listeners = order.iter().filter_map(|index| config.listeners.get(*index).cloned()).collect();
        let fd_budget = fd_budget::apply_budget(&mut config, self.descriptors);
        let current = self.gateway.snapshot.load_full();
        match Snapshot::build(&config, &self.gateway.metrics, Some(&current)) {
            Ok(snapshot) => Ok((config, fd_budget, snapshot)),
            Err(message) => Err(vec![Problem::for_file(message, "please report it")]),
        }
    }

    fn log_rejection(&self, problems: &Problems) {
        self.gateway.metrics.reload_rejected();
        let noun = if problems.len() == 1 { "problem" } else { "problems" };
        let (number, since) = (problems.len(), time_of_day(self.loaded_at));
        error!(
            problems = number,
            "reload rejected, keeping the configuration loaded at {since}: {number} {noun}"
        );
        problem_log::log_errors(problems);
    }

    fn is_draining(&self) -> bool {
        self.state.readiness() == Readiness::Draining
    }
}

/// The upstreams of a snapshot.
pub(super) fn upstream_runtimes(snapshot: &Snapshot) -> Vec<Arc<UpstreamRuntime>> {
    snapshot.upstreams.iter().map(|upstream| Arc::clone(&upstream.runtime)).collect()
}

/// Returns the changed keys that need a restart.
fn needs_restart(running: &Config, candidate: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut compare = |key: String, current: String, new_value: String| {
        if current != new_value {
            problems.push(Problem {
                path: key,
                location: None,
                message: format!("{current} cannot be changed to {new_value} by a reload"),
                help: "restart the process, or revert this change".to_owned(),
            });
        }
    };
    compare("workers".to_owned(), running.workers.to_string(), candidate.workers.to_string());
    compare(
        "telemetry.address".to_owned(),
        running.telemetry.address.to_string(),
        candidate.telemetry.address.to_string(),
    );
    compare("log.format".to_owned(), format_name(running.log.format), format_name(candidate.log.format));
    if running.listeners.len() == candidate.listeners.len() {
        let pairs = pair_listeners(&running.listeners, &candidate.listeners);
        for (current, index) in running.listeners.iter().zip(pairs) {
            let Some(new_value) = candidate.listeners.get(index) else { continue };
            for (key, current, new_value) in listener_changes(current, new_value) {
                compare(format!("listen[{index}].{key}"), current, new_value);
            }
        }
    } else {
        let count_text = |number: usize| format!("{number} addresses");
        compare(
            "listen".to_owned(),
            count_text(running.listeners.len()),
            count_text(candidate.listeners.len()),
        );
    }
    problems
}

/// For each running listener the index of the candidate with its address; of several with port 0, the one whose other
/// settings are equal too. Those that are left, whose address has changed, are paired in the order of the file.
fn pair_listeners(running: &[Listener], candidate: &[Listener]) -> Vec<usize> {
    let address = |listener: &Listener| listener.address.to_string();
    let is_unchanged = |current: &Listener, other: &Listener| listener_changes(current, other).is_empty();
    let has_address = |current: &Listener, other: &Listener| address(current) == address(other);
    let mut pairs: Vec<Option<usize>> = vec![None; running.len()];
    for is_pair in [
        &is_unchanged as &dyn Fn(&Listener, &Listener) -> bool,
        &has_address,
        &|_: &Listener, _: &Listener| true,
    ] {
        for (position, current) in running.iter().enumerate() {
            let mut rest = candidate.iter().enumerate().filter(|(index, _)| !pairs.contains(&Some(*index)));
            let found = rest.find(|(_, other)| is_pair(current, other)).map(|(index, _)| index);
            if let Some(pair) = pairs.get_mut(position).filter(|pair| pair.is_none()) {
                *pair = found;
            }
        }
    }
    pairs.into_iter().flatten().collect()
}

/// The keys of a listener that need a restart and differ, with both values.
fn listener_changes(current: &Listener, new_value: &Listener) -> Vec<(&'static str, String, String)> {
    let values = |listener: &Listener| {
        let tls = if listener.tls.is_some() { "a listener with TLS" } else { "a listener without TLS" };
        [
            ("address", listener.address.to_string()),
            ("mode", mode_text(&listener.address)),
            ("h2c", listener.h2c.to_string()),
            ("proxy_protocol.from", peers_text(listener.proxy_protocol.as_deref())),
            ("tls", tls.to_owned()),
        ]
    };
    let pairs = values(current).into_iter().zip(values(new_value));
    let changes = pairs.filter(|((_, current), (_, new_value))| current != new_value);
    changes.map(|((key, current), (_, new_value))| (key, current, new_value)).collect()
}

/// The permissions of a Unix socket as written in the configuration file, or `absent`.
fn mode_text(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(_) => "absent".to_owned(),
        ListenAddress::Unix(_, mode) => format!("{mode:04o}"),
    }
}

/// The peers as written in the configuration file, or `absent`.
fn peers_text(peers: Option<&[PeerRange]>) -> String {
    let Some(peers) = peers else { return "absent".to_owned() };
    let names: Vec<String> = peers.iter().map(ToString::to_string).collect();
    format!("[{}]", names.join(", "))
}

/// The value as written in the configuration file.
fn format_name(format: LogFormat) -> String {
    match format {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
    .to_owned()
}

/// `HH:MM:SS` in UTC, like the times in the log.
fn time_of_day(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config(top: &str) -> Config {
        let text = format!(
            "{top}\nroutes: [{{ name: r, upstream: a }}]\nupstreams: {{ a: {{ servers: [a:1] }} }}\n"
        );
        crate::config::load_str("test.yaml", &text, &|_| None, 1)
            .unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn settings_that_need_a_restart_are_named_by_key() {
        let running = config("listen: [{ address: 127.0.0.1:1 }, { address: 127.0.0.1:2, h2c: true }]");
        let problem_lines = |top: &str| -> Vec<String> {
            let problems = needs_restart(&running, &config(top));
            problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
        };
        let same = "listen: [{ address: 127.0.0.1:1 }, { address: 127.0.0.1:2, h2c: true }]";
        let changes = "client: { max_body: 1KiB }\ndrain: 1s\nlog: { level: debug, requests: all }";
        assert_eq!(problem_lines(&format!("{same}\n{changes}")), [""; 0]);
        assert_eq!(
            problem_lines("listen: [{ address: 127.0.0.1:3 }, { address: 127.0.0.1:2 }]\nworkers: 7"),
            [
                "workers: 1 cannot be changed to 7 by a reload",
                "listen[0].address: 127.0.0.1:1 cannot be changed to 127.0.0.1:3 by a reload",
                "listen[1].h2c: true cannot be changed to false by a reload",
            ]
        );
        assert_eq!(
            problem_lines(
                "listen: [{ address: 127.0.0.1:1 }]\ntelemetry: { address: 127.0.0.1:9 }\nlog: { format: json }"
            ),
            [
                "telemetry.address: 127.0.0.1:9464 cannot be changed to 127.0.0.1:9 by a reload",
                "log.format: auto cannot be changed to json by a reload",
                "listen: 2 addresses cannot be changed to 1 addresses by a reload",
            ]
        );
    }

    #[test]
    fn listeners_are_compared_by_address_in_any_order() {
        let running = config(
            "listen: [{ address: 127.0.0.1:1 }, { address: 127.0.0.1:2, h2c: true }, { address: 127.0.0.1:3 }]",
        );
        let compared = |top: &str| {
            let candidate = config(top);
            let problems = needs_restart(&running, &candidate);
            let lines: Vec<String> =
                problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
            (pair_listeners(&running.listeners, &candidate.listeners), lines)
        };
        let swapped = "listen: [{ address: 127.0.0.1:3 }, { address: 127.0.0.1:1 }, { address: 127.0.0.1:2, h2c: true }]";
        assert_eq!(compared(swapped), (vec![1, 2, 0], vec![]));
        let changed =
            "listen: [{ address: 127.0.0.1:2 }, { address: 127.0.0.1:9 }, { address: 127.0.0.1:1 }]";
        let lines = [
            "listen[0].h2c: true cannot be changed to false by a reload",
            "listen[1].address: 127.0.0.1:3 cannot be changed to 127.0.0.1:9 by a reload",
        ];
        assert_eq!(compared(changed), (vec![2, 0, 1], lines.map(str::to_owned).to_vec()));
    }

    #[test]
    fn time_of_day_is_utc() {
        assert_eq!(
            time_of_day(UNIX_EPOCH + Duration::from_secs(86_400 + 10 * 3600 + 42 * 60 + 7)),
            "10:42:07"
        );
    }
}
