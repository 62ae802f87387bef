//! Runs programs to completion within a time limit and captures their output.
//!
//! A missing program, or one that does not exit in time, fails the test. The exit status is returned, not checked.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::load::scaled;

/// Captured output and exit status.
#[derive(Debug)]
pub struct ProcessOutput {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

/// Runs the program; kills it and panics after `limit`.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> ProcessOutput {
    let deadline = Instant::now() + scaled(limit);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|e| panic!("{command:?} cannot be run ({e}); see `make setup`"));
    let (out, err) = (read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap()));
    let text = |stream: &Receiver<String>| {
        stream.recv_timeout(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)))
    };
    // A program that has exited has closed both streams.
    let streams = text(&out).and_then(|out| Ok((out, text(&err)?)));
    let Ok((out, err)) = streams else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} did not exit within {limit:?}");
    };
    ProcessOutput { status: child.wait().unwrap(), out, err }
}

/// Runs the program, panics unless it succeeds, and returns its standard output.
#[track_caller]
pub fn succeed(command: &mut Command, limit: Duration) -> String {
    let finished = run(command, limit);
    assert!(finished.status.success(), "{command:?}: {}\n{}{}", finished.status, finished.out, finished.err);
    finished.out
}

/// Installs the npm and PyPI packages of the tests, unless installed.
pub fn install_packages() {
    // The first installation downloads about 60 MB.
    succeed(&mut Command::new(".ci/packages"), Duration::from_secs(300));
}

fn read(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
