//! The real executable with a generated configuration, on port 0 in its own process, in front of scripted upstreams.
//!
//! It depends only on the command line and the two kinds of startup lines. Dropping a [`Gateway`] kills its process; a
//! watchdog kills the process of a hanging test, which then fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use statusquo::conformance::ScriptedUpstream;

use super::h2_client::H2Client;
use super::http1_client::{Client, StatusTally};
use super::load::{self, limit, scaled};
use super::log::Log;
use super::metrics_parser::{Series, parse_metrics};

/// Configuration and environment of a gateway.
pub struct GatewaySetup {
    upstreams: Vec<(String, Vec<String>)>,
    settings: BTreeMap<String, String>,
    routes: Vec<String>,
    environment: Vec<(String, String)>,
    /// The second listener, as a line of YAML without braces.
    second_listener: Option<String>,
    tls: Option<String>,
    /// The contract of the first listener.
    listener_contract: Option<String>,
    /// Networks that send PROXY protocol headers to the first listener, as a list of YAML.
    proxy_protocol: Option<String>,
    /// Further listeners, as lines of YAML.
    pub further_listeners: String,
    allow_panic: bool,
    limit: Duration,
    descriptors: Option<u32>,
    held_folders: Vec<TestFolder>,
}

impl GatewaySetup {
    /// One upstream `main` with these servers and one route `total`, which [`GatewaySetup::route`] replaces.
    pub fn with_servers(servers: &[SocketAddr]) -> GatewaySetup {
        let settings = load::DEFAULT_SETTINGS
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        GatewaySetup {
            upstreams: vec![("main".to_owned(), servers.iter().map(SocketAddr::to_string).collect())],
            settings,
            routes: Vec::new(),
            environment: Vec::new(),
            second_listener: None,
            tls: None,
            listener_contract: None,
            proxy_protocol: None,
            further_listeners: String::new(),
            allow_panic: false,
            limit: load::WATCHDOG,
            descriptors: None,
            held_folders: Vec::new(),
        }
    }

    /// Keeps a folder until the gateway ends.
    pub fn keep_folder(mut self, folder: TestFolder) -> GatewaySetup {
        self.held_folders.push(folder);
        self
    }

    /// Like [`GatewaySetup::with_servers`], with servers as written in the file.
    pub fn with_named_servers(servers: &[&str]) -> GatewaySetup {
        let mut setup = GatewaySetup::with_servers(&[]);
        setup.upstreams.clear();
        setup.named_upstream("main", servers)
    }

    /// Sets `section.key` or a top-level key. `upstream.KEY` applies to every upstream, `upstream NAME.KEY` to one.
    pub fn set(mut self, key: &str, value: &str) -> GatewaySetup {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds an upstream.
    pub fn upstream(self, name: &str, servers: &[SocketAddr]) -> GatewaySetup {
        let servers: Vec<_> = servers.iter().map(SocketAddr::to_string).collect();
        self.named_upstream(name, &servers.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Adds an upstream whose servers are given as written in the file.
    pub fn named_upstream(mut self, name: &str, servers: &[&str]) -> GatewaySetup {
        self.upstreams.push((name.to_owned(), servers.iter().map(|server| (*server).to_owned()).collect()));
        self
    }

    /// Adds a route, as a line of YAML without braces. The first one replaces the route `total`.
    pub fn route(mut self, inside: &str) -> GatewaySetup {
        self.routes.push(inside.to_owned());
        self
    }

    /// Adds a second listener for HTTP/2 with prior knowledge.
    pub fn with_h2c_listener(mut self) -> GatewaySetup {
        self.second_listener = Some("h2c: true".to_owned());
        self
    }

    /// Adds a second listener with TLS.
    pub fn with_tls_listener(mut self, tls: &str) -> GatewaySetup {
        self.second_listener = Some(format!("tls: {tls}"));
        self
    }

    /// Enables TLS on the first listener.
    pub fn tls(mut self, tls: &str) -> GatewaySetup {
        self.tls = Some(tls.to_owned());
        self
    }

    /// Sets the contract of the first listener.
    pub fn listener_contract(mut self, name: &str) -> GatewaySetup {
        self.listener_contract = Some(name.to_owned());
        self
    }

    /// Requires PROXY protocol headers from these networks on every listener.
    pub fn proxy_protocol(mut self, from: &str) -> GatewaySetup {
        self.proxy_protocol = Some(from.to_owned());
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> GatewaySetup {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Allows panics of the gateway, which otherwise fail the test.
    pub fn may_panic(mut self) -> GatewaySetup {
        self.allow_panic = true;
        self
    }

    /// Sets the time limit of the watchdog.
    pub fn limit(mut self, limit: Duration) -> GatewaySetup {
        self.limit = limit;
        self
    }

    /// Limits the open descriptors of the process.
    pub fn descriptors(mut self, number: u32) -> GatewaySetup {
        self.descriptors = Some(number);
        self
    }

    /// The configuration, its timeouts scaled by the [`load`] factor.
    pub fn yaml(&self) -> String {
        let mut text = String::from("version: 1\nlisten:\n  - address: 127.0.0.1:0\n");
        if let Some(tls) = &self.tls {
            writeln!(text, "    tls: {tls}").unwrap();
        }
        if let Some(name) = &self.listener_contract {
            writeln!(text, "    contract: {name}").unwrap();
        }
        if let Some(from) = &self.proxy_protocol {
            writeln!(text, "    proxy_protocol: {{ from: {from} }}").unwrap();
        }
        if let Some(second) = &self.second_listener {
            let proxy_protocol = self.proxy_protocol.as_ref();
            let proxy_protocol =
                proxy_protocol.map_or(String::new(), |from| format!(", proxy_protocol: {{ from: {from} }}"));
            writeln!(text, "  - {{ address: \"127.0.0.1:0\", {second}{proxy_protocol} }}").unwrap();
        }
        text.push_str(&self.further_listeners);
        text.push_str("telemetry: { address: \"127.0.0.1:0\" }\n");
        let mut settings = self.settings.clone();
        let upstream_tls =
            self.upstreams.iter().flat_map(|(_, servers)| servers).any(|server| server.starts_with("https"));
        load::adjust_to_deadline(&mut settings, upstream_tls);
        let mut sections: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (key, value) in &settings {
            match key.split_once('.') {
                None => writeln!(text, "{key}: {value}").unwrap(),
                Some((section, key)) => sections.entry(section).or_default().push(format!("{key}: {value}")),
            }
        }
        let of_upstreams = sections.remove("upstream").unwrap_or_default();
        let named = self.upstreams.iter().map(|(name, _)| sections.remove(&*format!("upstream {name}")));
        let of_one: Vec<_> = named.map(Option::unwrap_or_default).collect();
        for (section, keys) in sections {
            writeln!(text, "{section}: {{ {} }}", keys.join(", ")).unwrap();
        }
        text.push_str("upstreams:\n");
        for ((name, servers), upstream_keys) in self.upstreams.iter().zip(of_one) {
            let servers: Vec<_> = servers.iter().map(|server| format!("\"{server}\"")).collect();
            let keys =
                [vec![format!("servers: [{}]", servers.join(", "))], of_upstreams.clone(), upstream_keys]
                    .concat();
            writeln!(text, "  {name}: {{ {} }}", keys.join(", ")).unwrap();
        }
        text.push_str("routes:\n");
        let all = ["name: all, match: { path: \"/{*rest}\" }, upstream: main".to_owned()];
        for route in if self.routes.is_empty() { &all[..] } else { &self.routes } {
            writeln!(text, "  - {{ {route} }}").unwrap();
        }
        load::configuration(&text)
    }

    /// Starts the gateway and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Gateway {
        self.launch(|_| {})
    }

    /// Like `start`, with a SIGHUP as soon as the process blocks this signal.
    #[track_caller]
    pub fn start_with_sighup(self) -> Gateway {
        self.launch(|gateway| {
            let status = format!("/proc/{}/status", gateway.child.lock().unwrap().id());
            let deadline = Instant::now() + limit();
            // SIGHUP is signal 1, the lowest bit.
            let holds = |line: &str| line.starts_with("SigBlk:") && line.ends_with(['1', '3', '5', '7', '9']);
            while !std::fs::read_to_string(&status).unwrap().lines().any(holds) {
                assert!(Instant::now() < deadline, "SIGHUP is never blocked");
            }
            gateway.send_sighup();
        })
    }

    #[track_caller]
    fn launch(mut self, meanwhile: impl FnOnce(&Gateway)) -> Gateway {
        let folder = TestFolder::new();
        let file = folder.write("gateway.yaml", &self.yaml());
        let mut command = command(&["run", file.to_str().unwrap()], &self.environment);
        if let Some(number) = self.descriptors {
            command = with_descriptor_limit(number, &command);
        }
        let mut gateway = Gateway::launch(command, scaled(self.limit), folder);
        gateway.panic_allowed = self.allow_panic;
        gateway._held_folders = std::mem::take(&mut self.held_folders);
        meanwhile(&gateway);
        gateway.wait_until_listening(if self.second_listener.is_some() { 2 } else { 1 }, &self.yaml());
        gateway
    }
}

pub struct Gateway {
    addresses: Vec<SocketAddr>,
    telemetry: SocketAddr,
    child: Arc<Mutex<Child>>,
    log: Log,
    tally: StatusTally,
    panic_allowed: bool,
    watchdog: Option<Sender<()>>,
    configuration: PathBuf,
    _folder: TestFolder,
    _held_folders: Vec<TestFolder>,
}

impl Gateway {
    /// Starts another command that serves one listener on a free port.
    pub fn from_command(arguments: &[&str]) -> Gateway {
        Gateway::with_listeners(arguments, 1)
    }

    /// Starts a command that serves this number of listeners.
    #[track_caller]
    pub fn with_listeners(arguments: &[&str], listeners: usize) -> Gateway {
        let mut gateway = Gateway::launch(command(arguments, &[]), limit(), TestFolder::new());
        gateway.wait_until_listening(listeners, &arguments.join(" "));
        gateway
    }

    fn launch(mut command: Command, limit: Duration, folder: TestFolder) -> Gateway {
        let mut child = command.spawn().expect("the executable starts");
        let log = Log::of(child.stderr.take().unwrap());
        let child = Arc::new(Mutex::new(child));
        let watchdog = start_watchdog(Arc::clone(&child), limit);
        Gateway {
            addresses: Vec::new(),
            telemetry: SocketAddr::from(([0; 4], 0)),
            child,
            log,
            tally: StatusTally::default(),
            panic_allowed: false,
            watchdog: Some(watchdog),
            configuration: folder.path("gateway.yaml"),
            _folder: folder,
            _held_folders: Vec::new(),
        }
    }

    #[track_caller]
    fn wait_until_listening(&mut self, listeners: usize, launched_with: &str) {
        let listening = self.log.wait(limit(), |lines| {
            let (addresses, telemetry) = listen_addresses(lines);
            (addresses.len() >= listeners && telemetry.is_some()).then_some((addresses, telemetry))
        });
        let Some((addresses, Some(telemetry))) = listening else {
            panic!("the gateway logged no listen address; log:\n{}\nto\n{launched_with}", self.log.text());
        };
        (self.addresses, self.telemetry) = (addresses, telemetry);
    }

    /// A setup with one upstream.
    pub fn with_upstream(upstream: &ScriptedUpstream) -> GatewaySetup {
        GatewaySetup::with_servers(&[upstream.address()])
    }

    /// The addresses of the listeners, in the order of the file.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The address of the second listener, HTTP/2 or TLS.
    pub fn h2_address(&self) -> SocketAddr {
        self.addresses[1]
    }

    pub fn telemetry(&self) -> SocketAddr {
        self.telemetry
    }

    /// Path of the configuration file.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Opens a new connection.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.addresses[0], Arc::clone(&self.tally))
    }

    /// Opens a new connection to the HTTP/2 listener.
    #[track_caller]
    pub fn h2_client(&self) -> H2Client {
        H2Client::connect(self.h2_address(), Arc::clone(&self.tally))
    }

    /// GET on a new connection to the telemetry listener.
    #[track_caller]
    pub fn get_telemetry(&self, path: &str) -> super::response_reader::HttpResponse {
        Client::connect(self.telemetry, StatusTally::default()).get(path)
    }

    /// All exported series.
    #[track_caller]
    pub fn metrics(&self) -> Vec<Series> {
        let response = self.get_telemetry("/metrics");
        assert_eq!(response.status, 200, "{response:#?}");
        parse_metrics(&response.text())
    }

    /// Sum of the series of this metric with all these labels; the name has no prefix.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().iter().filter(|series| series.matches(name, labels)).map(|series| series.value).sum()
    }

    /// Waits until the sum has this value; a response may be counted just after it was sent.
    #[track_caller]
    pub fn expect_metric(&self, name: &str, labels: &[(&str, &str)], expected: f64) {
        self.wait_for_metric(limit(), name, labels, expected);
    }

    /// Like `expect_metric`, with a custom time limit.
    #[track_caller]
    pub fn wait_for_metric(&self, limit: Duration, name: &str, labels: &[(&str, &str)], expected: f64) {
        let deadline = Instant::now() + limit;
        loop {
            let found = self.metric(name, labels);
            if found == expected {
                return;
            }
            if Instant::now() > deadline {
                let all: Vec<_> = self
                    .metrics()
                    .into_iter()
                    .filter(|series| series.matches(name, &[]) && series.value != 0.0)
                    .collect();
                panic!("{name} {labels:?} is {found}, expected {expected}; all series: {all:#?}");
            }
            std::thread::yield_now();
        }
    }

    /// Waits until the sum is at least this value.
    #[track_caller]
    pub fn expect_metric_of_at_least(&self, name: &str, labels: &[(&str, &str)], minimum: f64) {
        let deadline = Instant::now() + limit();
        while self.metric(name, labels) < minimum {
            assert!(Instant::now() < deadline, "{name} {labels:?} stays below {minimum}");
            std::thread::yield_now();
        }
    }

    /// Asserts that `responses_total` equals the responses seen by clients, for every status code.
    #[track_caller]
    pub fn expect_metrics_match_responses(&self) {
        let seen = self.tally.lock().unwrap().clone();
        let mut all = 0;
        for (code, count) in &seen {
            all += count;
            self.expect_metric("responses_total", &[("code", &code.to_string())], *count as f64);
        }
        self.expect_metric("responses_total", &[], all as f64);
        let errors: u64 = seen.range(400..).map(|(_, count)| count).sum();
        self.expect_metric("errors_total", &[], errors as f64);
    }

    /// Waits for a matching JSON log line.
    #[track_caller]
    pub fn log_line(&self, matches: impl Fn(&Value) -> bool) -> Value {
        let found = self.log.wait(limit(), |lines| {
            lines.iter().filter_map(|line| serde_json::from_str(line).ok()).find(|line| matches(line))
        });
        found.unwrap_or_else(|| panic!("no matching line in the log:\n{}", self.log.text()))
    }

    /// Standard error so far.
    pub fn log_text(&self) -> String {
        self.log.text()
    }

    /// Reloads this configuration and waits for the result: `applied` or `rejected`.
    #[track_caller]
    pub fn reload(&self, setup: GatewaySetup) -> &'static str {
        self.reload_text(&setup.yaml())
    }

    /// Like `reload`, with the text of a file.
    #[track_caller]
    pub fn reload_text(&self, text: &str) -> &'static str {
        let count = |result| self.metric("config_reloads_total", &[("result", result)]);
        let before = (count("applied"), count("rejected"));
        std::fs::write(&self.configuration, text).unwrap();
        self.send_sighup();
        let deadline = Instant::now() + limit();
        loop {
            let (applied, rejected) = (count("applied") - before.0, count("rejected") - before.1);
            match (applied == 1.0, rejected == 1.0) {
                (true, false) => return "applied",
                (false, true) => return "rejected",
                _ => assert!(Instant::now() < deadline, "no reload result; log:\n{}", self.log.text()),
            }
        }
    }

    /// Requests a reload.
    pub fn send_sighup(&self) {
        self.send_signal("HUP");
    }

    /// Requests a graceful shutdown.
    pub fn send_sigterm(&self) {
        self.send_signal("TERM");
    }

    /// Sends a signal by name.
    pub fn send_signal(&self, name: &str) {
        let pid = self.child.lock().unwrap().id();
        // Uses the shell's built-in `kill`: a minimal system has no `kill` program, and this crate forbids unsafe code.
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().unwrap();
        assert!(status.success());
    }

    /// Waits until the process exits.
    #[track_caller]
    pub fn wait_for_exit(&self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.lock().unwrap().try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the gateway does not exit; log:\n{}", self.log.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The watchdog drops its receiver when the time is up, so a failing send means a timeout.
        let timed_out = self.watchdog.take().is_some_and(|watchdog| watchdog.send(()).is_err());
        let mut child = self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let _ = child.kill();
        let _ = child.wait();
        let log = self.log.text();
        if std::thread::panicking() {
            eprintln!("--- the gateway's log ---\n{log}-------------------------");
            return;
        }
        assert!(!timed_out, "the watchdog ended this test; log:\n{log}");
        assert!(self.panic_allowed || !log.contains("panicked"), "the gateway panicked:\n{log}");
    }
}

/// Runs a command to completion: exit status, standard output, standard error.
#[track_caller]
pub fn run(arguments: &[&str], environment: &[(String, String)]) -> (Option<i32>, String, String) {
    let mut child =
        command(arguments, environment).stdout(Stdio::piped()).spawn().expect("the executable starts");
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let child = Arc::new(Mutex::new(child));
    let watchdog = start_watchdog(Arc::clone(&child), limit());
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).unwrap();
        text
    });
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    let errors = errors.join().unwrap();
    let in_time = watchdog.send(()).is_ok();
    let status = child.lock().unwrap().wait().unwrap();
    assert!(in_time, "{arguments:?} does not exit; output:\n{text}{errors}");
    (status.code(), text, errors)
}

/// A temporary folder for configuration files; removed on drop.
pub struct TestFolder(PathBuf);

impl TestFolder {
    pub fn new() -> TestFolder {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("it-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        TestFolder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn command(arguments: &[&str], environment: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_statusquo"));
    command.args(arguments).envs(environment.iter().cloned());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Runs a command with a descriptor limit. The shell replaces itself with the gateway, so the process id is the
/// gateway's.
fn with_descriptor_limit(number: u32, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -n {number} && exec \"$@\"")).arg("sh");
    shell.arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    shell
}

/// Kills the process unless a message arrives in time, and then closes the channel.
fn start_watchdog(child: Arc<Mutex<Child>>, limit: Duration) -> Sender<()> {
    let (cancel, cancelled) = mpsc::channel();
    std::thread::spawn(move || {
        if cancelled.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            drop(cancelled);
            let _ = child.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).kill();
        }
    });
    cancel
}

/// Parses `listening on ADDRESS` per listener, in the order of the file, and `telemetry on ADDRESS`.
fn listen_addresses(lines: &[String]) -> (Vec<SocketAddr>, Option<SocketAddr>) {
    let after = |prefix: &str| -> Vec<SocketAddr> {
        lines.iter().filter_map(|line| line.strip_prefix(prefix)?.trim().parse().ok()).collect()
    };
    (after("listening on "), after("telemetry on ").first().copied())
}
