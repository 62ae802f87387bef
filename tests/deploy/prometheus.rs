//! A real Prometheus with the shipped files, on a free port with its own folder; queried over its API.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::curl::Curl;
use crate::folder::Folder;
use crate::load::scaled;
use crate::read_file;

/// A running Prometheus; ended on drop.
pub struct Prometheus {
    child: Arc<Mutex<Child>>,
    log: Arc<Mutex<String>>,
    address: SocketAddr,
    _folder: Folder,
}

impl Prometheus {
    /// Scrapes `target` and evaluates the rules 4 times per second.
    pub fn scraping(target: SocketAddr) -> Prometheus {
        let folder = Folder::new("prometheus");
        for name in ["rules.yml", "alerts.yml"] {
            std::fs::write(folder.path.join(name), read_file(&format!("deploy/prometheus/{name}"))).unwrap();
        }
        let shipped = read_file("deploy/prometheus/prometheus.yml");
        let config = shipped.replace("gateway:9464", &target.to_string()).replace("15s", "250ms");
        assert!(
            config.contains(&target.to_string()) && config.contains("scrape_interval: 250ms"),
            "{config}"
        );
        std::fs::write(folder.path.join("prometheus.yml"), config).unwrap();
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path.join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("prometheus cannot be run ({e}); `make setup` installs it"));
        let log = Arc::new(Mutex::new(String::new()));
        let lines = read_log_lines(&mut child, Arc::clone(&log));
        let child = Arc::new(Mutex::new(child));
        // Ends Prometheus in a hanging test, which then fails.
        let watched = Arc::downgrade(&child);
        std::thread::spawn(move || {
            std::thread::sleep(scaled(MAX_LIFETIME));
            if let Some(child) = watched.upgrade() {
                let _ = child.lock().unwrap().kill();
            }
        });
        let deadline = Instant::now() + scaled(Duration::from_secs(60));
        let address = loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = lines.recv_timeout(remaining) else {
                let _ = child.lock().unwrap().kill();
                panic!("Prometheus logged no listen address; log:\n{}", log.lock().unwrap());
            };
            if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
                break address.trim().parse().unwrap();
            }
        };
        Prometheus { child, log, address, _folder: folder }
    }

    /// The member `data` of the API response for this path; `None` while Prometheus is not ready.
    pub fn api(&self, path: &str) -> Option<Value> {
        let response = Curl::http1().get(self.address, path);
        if response.status == 503 {
            return None;
        }
        let mut body: Value = serde_json::from_str(&response.text()).unwrap();
        assert_eq!((response.status, &body["status"]), (200, &"success".into()), "{path}: {body}");
        Some(body["data"].take())
    }

    /// Queries the API until `found` accepts the response; fails with the last response at the time limit.
    #[track_caller]
    pub fn wait_for<T>(&self, path: &str, found: impl Fn(&Value) -> Option<T>) -> T {
        let deadline = Instant::now() + scaled(Duration::from_secs(60));
        loop {
            let data = self.api(path);
            if let Some(found) = data.as_ref().and_then(&found) {
                return found;
            }
            assert!(Instant::now() < deadline, "last response of {path}: {data:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- Prometheus wrote:\n{}", self.log.lock().unwrap());
        }
        let mut child = self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Longer than all waits of a test together.
const MAX_LIFETIME: Duration = Duration::from_secs(300);

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
