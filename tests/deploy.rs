//! Deployment files: the systemd unit, the image, the compose file, Prometheus rules and alerts.
//!
//! Each file is checked by the program that reads it (systemd, hadolint, docker-compose, promtool) and compared with
//! the gateway's defaults, metrics and causes. A real Prometheus scrapes a running gateway with the shipped file. No
//! test is skipped: `make setup` installs the programs.

#![allow(unreachable_pub)] // a test crate exports nothing
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]
#![allow(clippy::print_stderr)] // prints program output when a test fails
#![allow(clippy::disallowed_methods)] // tests wait for other programs and read the environment

#[path = "real_traffic/curl.rs"]
#[allow(dead_code, reason = "shared with tests/real_traffic.rs, which uses all of it")]
mod curl;
#[path = "real_traffic/folder.rs"]
#[allow(dead_code, reason = "shared with tests/real_traffic.rs, which uses all of it")]
mod folder;
#[path = "real_traffic/gateway.rs"]
#[allow(dead_code, reason = "shared with tests/real_traffic.rs, which uses all of it")]
mod gateway;

#[path = "deploy/image.rs"]
mod image;
#[path = "it/load.rs"]
#[allow(dead_code)] // each test program uses a different part of it
mod load;
#[path = "deploy/processes.rs"]
mod processes;
#[path = "deploy/prometheus.rs"]
mod prometheus;
#[path = "deploy/rules.rs"]
mod rules;
#[path = "deploy/scraping.rs"]
mod scraping;
#[path = "deploy/service.rs"]
mod service;

use std::path::Path;
use std::time::Duration;

/// Time limit of a program that checks a file.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a file of the repository.
#[track_caller]
fn read_file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Parses and validates a configuration file.
#[track_caller]
fn load_config(path: &str) -> statusquo::config::Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    statusquo::config::load_file(&path, &|_| None, 2, statusquo::config::Purpose::Use)
        .unwrap_or_else(|problems| panic!("{problems}"))
}
