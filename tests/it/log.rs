//! Captures the standard error of a gateway and waits for log lines.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Lines of standard error so far.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    /// The process has closed its standard error.
    ended: bool,
}

impl Log {
    pub fn of(stream: impl Read + Send + 'static) -> Log {
        let log = Log::default();
        let written = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                written.0.0.lock().unwrap().lines.push(String::from_utf8_lossy(&line).into_owned());
                written.0.1.notify_all();
            }
            written.0.0.lock().unwrap().ended = true;
            written.0.1.notify_all();
        });
        log
    }

    pub fn text(&self) -> String {
        self.0.0.lock().unwrap().lines.iter().map(|line| format!("{line}\n")).collect()
    }

    pub fn wait<T>(&self, limit: Duration, mut find: impl FnMut(&[String]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut lines = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = find(&lines.lines) {
                return Some(found);
            }
            if lines.ended {
                return None;
            }
            let remaining = deadline.checked_duration_since(Instant::now())?;
            lines = self.0.1.wait_timeout(lines, remaining).unwrap().0;
        }
    }
}
