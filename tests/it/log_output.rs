//! Log output: lines that cannot be written are counted, and removed upstreams cause no lines of level `error`.

use std::collections::BTreeSet;
use std::fs::{File, read_dir, read_link, read_to_string};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::http1_client::StatusTally;
use super::metrics_parser::parse_metrics;
use super::prelude::*;

/// A gateway whose standard error is not writable: its listen addresses are not logged.
struct UnloggedGateway {
    child: Child,
    _folder: TestFolder,
}

impl UnloggedGateway {
    fn start(setup: &GatewaySetup) -> UnloggedGateway {
        let folder = TestFolder::new();
        let file = folder.write("gateway.yaml", &setup.yaml());
        let mut command = Command::new(env!("CARGO_BIN_EXE_statusquo"));
        command.arg("run").arg(file).stdin(Stdio::null()).stdout(Stdio::null());
        let full = File::options().write(true).open("/dev/full").unwrap();
        UnloggedGateway { child: command.stderr(full).spawn().unwrap(), _folder: folder }
    }

    /// Listen addresses of the process, from its sockets in the kernel's TCP table.
    fn listen_addresses(&self) -> Vec<SocketAddr> {
        let folder = format!("/proc/{}", self.child.id());
        let Ok(descriptors) = read_dir(format!("{folder}/fd")) else { return Vec::new() };
        let inodes: BTreeSet<String> = descriptors
            .filter_map(|entry| read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok())
            .filter_map(|target| Some(target.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
            .collect();
        let table = read_to_string(format!("{folder}/net/tcp")).unwrap_or_default();
        let address = |line: &str| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            // Local address, state (0A: LISTEN) and inode.
            let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
            let port = u16::from_str_radix(local.split_once(':')?.1, 16).ok()?;
            (*state == "0A" && inodes.contains(*inode)).then(|| SocketAddr::from(([127, 0, 0, 1], port)))
        };
        table.lines().filter_map(address).collect()
    }

    /// The client listener and the telemetry listener.
    #[track_caller]
    fn addresses(&self) -> (SocketAddr, SocketAddr) {
        let deadline = Instant::now() + limit();
        loop {
            if let [one, other] = self.listen_addresses()[..] {
                let page = Client::connect(one, StatusTally::default()).get("/metrics").text();
                let is_telemetry = page.contains("statusquo_build_info");
                return if is_telemetry { (other, one) } else { (one, other) };
            }
            assert!(Instant::now() < deadline, "the gateway does not listen");
            std::thread::yield_now();
        }
    }
}

impl Drop for UnloggedGateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn metric(telemetry: SocketAddr, name: &str, labels: &[(&str, &str)]) -> f64 {
    let page = Client::connect(telemetry, StatusTally::default()).get("/metrics").text();
    parse_metrics(&page).iter().find(|series| series.matches(name, labels)).unwrap().value
}

#[test]
fn log_lines_are_counted_when_standard_error_is_not_writable() {
    let upstream = ok_upstream("fine");
    let gateway = UnloggedGateway::start(&Gateway::with_upstream(&upstream).set("log.requests", "all"));
    let (address, telemetry) = gateway.addresses();
    let dropped_lines = |reason| metric(telemetry, "log_lines_dropped_total", &[("reason", reason)]);
    let before = dropped_lines("write_failed");
    let mut client = Client::connect(address, StatusTally::default());
    for _ in 0..3 {
        client.get("/").assert_response(200, "fine");
    }
    let deadline = Instant::now() + limit();
    while dropped_lines("write_failed") < before + 3.0 {
        assert!(Instant::now() < deadline, "{} lines, {before} before", dropped_lines("write_failed"));
        std::thread::yield_now();
    }
    assert_eq!(dropped_lines("queue_full"), 0.0);
}

#[test]
fn upstream_removed_by_reload_with_idle_connections_logs_no_error() {
    const CONNECTIONS: usize = 64;
    let other = ok_upstream("other");
    let gateway = Gateway::with_upstream(&other).start();
    for round in 0..5 {
        let gate = Gate::new();
        let steps = [
            Step::ReadRequestHead,
            Step::WaitForGate(gate.clone()),
            Step::Write(http_response("200 OK", "fine")),
        ];
        let upstream = script(steps);
        let dropped = GatewaySetup::with_servers(&[other.address()])
            .upstream("dropped", &[upstream.address()])
            .route("name: all, upstream: dropped")
            .route("name: kept, match: { path: /kept }, upstream: main");
        assert_eq!(gateway.reload(dropped), "applied", "round {round}");
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| gateway.client()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        }
        assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == CONNECTIONS));
        gate.open();
        for client in &mut clients {
            client.read(SentRequest::Http11("GET")).assert_response(200, "fine");
        }
        gateway.expect_metric("requests_in_flight", &[], 0.0);
        assert_eq!(gateway.reload(Gateway::with_upstream(&other)), "applied", "round {round}");
    }
    gateway.send_sigterm();
    gateway.log_line(|line| line["message"] == "stopped");
    let log = gateway.log_text();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("\"level\":\"error\"")).collect();
    assert_eq!(errors, Vec::<&str>::new());
}
