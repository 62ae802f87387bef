//! A real redis-server from Debian's package on its own port: start, kill, pause and commands.
//!
//! Dropping a [`RedisServer`] ends its process. Without redis-server the tests fail and name the package to install.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::prelude::*;

/// A running server, or a killed one that can be restarted.
pub struct RedisServer {
    child: Option<Child>,
    program: &'static str,
    port: u16,
    arguments: Vec<String>,
    folder: TestFolder,
    /// The URL for commands of the tests, independent of the gateway's credentials.
    admin_url: String,
}

impl RedisServer {
    /// Starts a server without persistence.
    #[track_caller]
    pub fn start() -> RedisServer {
        RedisServer::start_with(&[])
    }

    /// Starts a server with these arguments.
    #[track_caller]
    pub fn start_with(arguments: &[&str]) -> RedisServer {
        let port = free_port();
        let number = port.to_string();
        let arguments = [&["--port", &number], arguments].concat();
        RedisServer::launch(
            "redis-server",
            port,
            &arguments,
            &format!("redis://127.0.0.1:{port}"),
            TestFolder::new(),
        )
    }

    /// Starts any program of the package and waits until `url` responds to PING.
    #[track_caller]
    pub fn launch(
        program: &'static str,
        port: u16,
        arguments: &[&str],
        url: &str,
        folder: TestFolder,
    ) -> RedisServer {
        let mut redis = RedisServer {
            child: None,
            program,
            port,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            folder,
            admin_url: url.to_owned(),
        };
        redis.restart();
        redis
    }

    /// Restarts the server on the same port, empty, and waits until it replies.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "a running server");
        let log = std::fs::File::create(self.folder.path("redis.log")).unwrap();
        let mut command = Command::new(self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        if self.program == "redis-server" {
            command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
        }
        command.arg("--dir").arg(self.folder.path("."));
        let missing = format!("{} is missing; `make setup` installs it", self.program);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{missing}: {error}")));
        let deadline = Instant::now() + limit();
        // The process id must match: another server may have taken the port.
        let cluster_options = format!("process_id:{}", self.child.as_ref().unwrap().id());
        while !self
            .try_command(&["INFO", "server"])
            .is_some_and(|info| info.lines().any(|line| line == cluster_options))
        {
            let log = std::fs::read_to_string(self.folder.path("redis.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{} does not respond; log:\n{log}", self.program);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL as written in a configuration.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs a command; returns the whole reply as text.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap_or_else(|| panic!("no reply to {words:?}"))
    }

    fn try_command(&self, words: &[&str]) -> Option<String> {
        let client = redis::Client::open(self.admin_url.as_str()).unwrap();
        let mut connection = client.get_connection_with_timeout(millis(500)).ok()?;
        connection.set_read_timeout(Some(limit())).unwrap();
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.query::<redis::Value>(&mut connection).ok().map(|value| value_text(&value))
    }

    /// Names of all keys.
    pub fn keys(&self) -> Vec<String> {
        let client = redis::Client::open(self.admin_url.as_str()).unwrap();
        redis::cmd("KEYS").arg("*").query(&mut client.get_connection().unwrap()).unwrap()
    }

    /// Kills the process, like a crash.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops the process until [`RedisServer::resume`], without closing its connections.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("a running server").id();
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three nodes that share all slots evenly.
#[track_caller]
pub fn cluster() -> Vec<RedisServer> {
    let cluster_options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
    let nodes: Vec<RedisServer> = (0..3).map(|_| RedisServer::start_with(&cluster_options)).collect();
    let mut first_slot = 0;
    for (number, node) in nodes.iter().enumerate() {
        let last = if number == 2 { 16_383 } else { 5_461 * (number + 1) };
        node.command(&["CLUSTER", "ADDSLOTSRANGE", &first_slot.to_string(), &last.to_string()]);
        first_slot = last + 1;
        node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
    }
    for node in &nodes[1..] {
        nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]);
    }
    wait_until_cluster_ready(&nodes);
    nodes
}

/// Waits until all nodes of a cluster report a complete cluster.
#[track_caller]
pub fn wait_until_cluster_ready(nodes: &[RedisServer]) {
    let deadline = Instant::now() + limit();
    while !nodes.iter().all(|node| {
        let info = node.command(&["CLUSTER", "INFO"]);
        info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
    }) {
        assert!(Instant::now() < deadline, "{}", nodes[0].command(&["CLUSTER", "INFO"]));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A free port below the ephemeral range, so that the system does not assign it meanwhile, with room for the cluster
/// bus port, 10000 above.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let _ = NEXT.compare_exchange(
        0,
        12_000 + (std::process::id() % 1_000) as u16 * 7,
        Ordering::Relaxed,
        Ordering::Relaxed,
    );
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port > 1_024, "no free port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn value_text(value: &redis::Value) -> String {
    match value {
        redis::Value::Array(values) => values.iter().map(value_text).collect::<Vec<_>>().join(" "),
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::SimpleString(text) => text.clone(),
        redis::Value::Int(number) => number.to_string(),
        redis::Value::Okay => "OK".to_owned(),
        other => format!("{other:?}"),
    }
}
