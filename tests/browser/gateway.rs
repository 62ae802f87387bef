//! The real executable with a configuration; ended on drop.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use crate::load::limit;

pub struct BrowserGateway {
    child: Child,
    log: Arc<Mutex<String>>,
    file: PathBuf,
    address: SocketAddr,
}

impl BrowserGateway {
    /// Starts a gateway with these configuration sections; a listener is added.
    pub fn start(sections: &str) -> BrowserGateway {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("browser-{}-{}.yaml", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let listen =
            "version: 1\nlisten: [{ address: \"127.0.0.1:0\" }]\ntelemetry: { address: \"127.0.0.1:0\" }";
        std::fs::write(&file, format!("{listen}\n{sections}")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_statusquo"))
            .arg("run")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let shared_log = Arc::clone(&log);
        let stderr = child.stderr.take().unwrap();
        let (sender, addresses) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("listening on ") {
                    let _ = sender.send(address.parse::<SocketAddr>());
                }
                let mut shared_log = shared_log.lock().unwrap();
                shared_log.push_str(&line);
                shared_log.push('\n');
            }
        });
        let address = addresses.recv_timeout(limit());
        let Ok(Ok(address)) = address else {
            let _ = child.kill();
            panic!("the gateway logged no listen address; log:\n{}", log.lock().unwrap());
        };
        BrowserGateway { child, log, file, address }
    }

    /// URL of a path at the gateway.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for BrowserGateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- the gateway wrote:\n{}", self.log.lock().unwrap());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}
