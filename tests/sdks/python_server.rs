//! A server of a published Python package, run by the same script as the client (`SCRIPT serve`).

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::program::install_packages;

/// Python with the packages that `.ci/packages` installs.
pub const PYTHON: &str = "target/packages/python/bin/python";

/// The server process; ended on drop.
pub struct PythonServer {
    child: Child,
    pub port: u16,
}

impl PythonServer {
    /// Starts the server; the first output line is its port.
    pub fn start(script: &str) -> PythonServer {
        PythonServer::start_with(script, &[])
    }

    /// Like `start`, with further arguments.
    pub fn start_with(script: &str, extra_arguments: &[&str]) -> PythonServer {
        install_packages();
        let mut child = Command::new(PYTHON)
            .args([script, "serve"])
            .args(extra_arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        PythonServer { port: port.trim().parse().unwrap(), child }
    }
}

impl Drop for PythonServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
