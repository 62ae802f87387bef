//! Runs headless Chromium once: opens a URL, waits for the page's scripts, returns the document.
//!
//! Each run has its own profile folder, removed afterwards, and a watchdog.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::load::scaled;

/// Starting takes 2 s on an idle machine.
const TIMEOUT: Duration = Duration::from_secs(90);

/// No network traffic besides the page, no sandbox: the browser opens only the pages of these tests.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    // Virtual time stops while the page waits for the network and bounds a hanging page.
    "--virtual-time-budget=20000",
    "--dump-dom",
];

/// The document at `url` after its scripts have run.
pub fn document(url: &str) -> String {
    let profile = BrowserProfile::new();
    let mut browser = Command::new("chromium")
        .args(FLAGS)
        .arg(format!("--user-data-dir={}", profile.path.join("profile").display()))
        .arg(url)
        .env("HOME", &profile.path)
        .env("XDG_CONFIG_HOME", profile.path.join("config"))
        .env("XDG_CACHE_HOME", profile.path.join("cache"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("chromium is installed; `make setup` does it");
    let (mut out, mut err) = (browser.stdout.take().unwrap(), browser.stderr.take().unwrap());
    let (done, printed) = channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = out.read_to_end(&mut text);
        let _ = done.send(String::from_utf8_lossy(&text).into_owned());
    });
    let complaints = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = err.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let document = printed.recv_timeout(scaled(TIMEOUT));
    if document.is_err() {
        let _ = browser.kill();
    }
    let status = browser.wait().unwrap();
    match document {
        Ok(document) if status.success() => document,
        Ok(_) | Err(_) => {
            let complaints = complaints.join().unwrap_or_default();
            panic!("chromium printed no document in {TIMEOUT:?} ({status}); output:\n{complaints}");
        }
    }
}

/// A profile folder, removed on drop.
struct BrowserProfile {
    path: PathBuf,
}

impl BrowserProfile {
    fn new() -> BrowserProfile {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("browser-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        BrowserProfile { path }
    }
}

impl Drop for BrowserProfile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
