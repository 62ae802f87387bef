//! The real executable in front of an upstream; ended on drop.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::curl::Curl;
use crate::folder::Folder;
use crate::load::limit;

pub struct RealGateway {
    child: Child,
    log: Arc<Mutex<String>>,
    _folder: Folder,
    /// The HTTP/1 listener.
    pub http1: SocketAddr,
    /// The listener for HTTP/2 with prior knowledge.
    pub h2c: SocketAddr,
    pub telemetry: SocketAddr,
    /// Further listeners.
    pub further_listeners: Vec<SocketAddr>,
}

impl RealGateway {
    /// Starts a gateway for `upstream`.
    pub fn with_upstream(upstream: SocketAddr) -> RealGateway {
        RealGateway::with(&format!(
            "client: {{ max_body: 128MiB }}\n\
             upstreams: {{ web: {{ servers: [\"{upstream}\"] }} }}\n\
             routes: [{{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: web }}]\n"
        ))
    }

    /// Starts a gateway with these configuration sections and waits until it listens.
    pub fn with(sections: &str) -> RealGateway {
        RealGateway::listening(&[], sections)
    }

    /// Like `with`, with further listeners.
    pub fn listening(further_listeners: &[String], sections: &str) -> RealGateway {
        let listeners: String = further_listeners.iter().map(|listener| format!(", {listener}")).collect();
        let folder = Folder::new("gateway");
        let file = folder.path.join("statusquo.yaml");
        let config = format!(
            "version: 1\n\
             listen: [{{ address: 127.0.0.1:0 }}, {{ address: 127.0.0.1:0, h2c: true }}{listeners}]\n\
             telemetry: {{ address: 127.0.0.1:0 }}\n\
             {sections}"
        );
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_statusquo"))
            .arg("run")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = read_log_lines(&mut child, Arc::clone(&log));
        let (addresses, telemetry) = addresses(&lines, 2 + further_listeners.len());
        let (Some(([http1, h2c], rest)), Some(telemetry)) = (addresses.split_first_chunk::<2>(), telemetry)
        else {
            let _ = child.kill();
            panic!("the gateway logged no listen address; log:\n{}", log.lock().unwrap());
        };
        let (http1, h2c, further_listeners) = (*http1, *h2c, rest.to_vec());
        RealGateway { child, log, _folder: folder, http1, h2c, telemetry, further_listeners }
    }

    /// Final responses by status code, summed over all other labels of `/metrics`.
    pub fn responses_by_code(&self) -> BTreeMap<u16, u64> {
        self.sums("statusquo_responses_total")
    }

    /// Errors by status code, summed likewise.
    pub fn errors_by_code(&self) -> BTreeMap<u16, u64> {
        self.sums("statusquo_errors_total")
    }

    fn sums(&self, metric: &str) -> BTreeMap<u16, u64> {
        let page = Curl::http1().get(self.telemetry, "/metrics");
        assert_eq!(page.status, 200);
        let text = page.text();
        let mut sums = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{')) {
            let (labels, value) = line.rsplit_once("} ").unwrap_or_else(|| panic!("not a sample: {line}"));
            let code = labels.split(',').find_map(|label| label.strip_prefix("code=\"")?.strip_suffix('"'));
            let code = code.unwrap_or_else(|| panic!("no code label: {line}"));
            let value: f64 = value.parse().unwrap();
            if value > 0.0 {
                let code = code.parse().unwrap_or_else(|_| panic!("unexpected code: {line}"));
                *sums.entry(code).or_default() += value as u64;
            }
        }
        sums
    }

    /// Waits until `read` returns `expected`: a response may be counted just after the client has read it.
    pub fn wait_for_counts(
        &self,
        expected: &BTreeMap<u16, u64>,
        read: fn(&RealGateway) -> BTreeMap<u16, u64>,
    ) {
        let deadline = Instant::now() + limit();
        loop {
            let found = read(self);
            if found == *expected || Instant::now() > deadline {
                assert_eq!(found, *expected, "metrics and client counts");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for RealGateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- the gateway wrote:\n{}", self.log.lock().unwrap());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Stores standard error in `log` and passes its lines on.
fn read_log_lines(child: &mut Child, log: Arc<Mutex<String>>) -> Receiver<String> {
    let (sender, lines) = channel();
    let stderr = child.stderr.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
            drop(log);
            let _ = sender.send(line);
        }
    });
    lines
}

/// The addresses of this number of listeners, in the order of the file, and of the telemetry listener.
fn addresses(lines: &Receiver<String>, number: usize) -> (Vec<SocketAddr>, Option<SocketAddr>) {
    let (mut listeners, mut telemetry) = (Vec::new(), None);
    let mut announced = 0;
    let deadline = Instant::now() + limit();
    while announced < number || telemetry.is_none() {
        let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        };
        if let Some(address) = line.strip_prefix("listening on ") {
            announced += 1;
            // A Unix socket has none.
            listeners.extend(address.parse::<SocketAddr>());
        } else if let Some(address) = line.strip_prefix("telemetry on ") {
            telemetry = address.parse().ok();
        }
    }
    (listeners, telemetry)
}
