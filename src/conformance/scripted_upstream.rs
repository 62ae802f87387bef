//! A scripted upstream: listens on a loopback port, runs scripts, records what it receives.
//!
//! [`ScriptSource`] selects the scripts; the steps are in [`super::step`], the recording in [`super::recorder`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;

use super::accepted_connection::AcceptedConnection;
use super::recorder::{RecordedHead, Recorder, Recording};
use super::script_runner::{ScriptEnd, ScriptedPeer, run_script};
use super::scripted_upstream_h2;
use super::server_thread::ServerThread;
use super::step::{Script, Step};

/// Selects the script to run.
enum ScriptSource {
    /// Runs the scripts in sequence, and the last one for all further turns. A turn begins when a connection is
    /// accepted, and with the first byte of every further request on it.
    InSequence(Vec<Script>),
    /// Reads the request headers first and chooses the script by them.
    ByRequest(Box<dyn Fn(&RecordedHead) -> Script + Send + Sync>),
    /// Like `ByRequest` for HTTP/2 without TLS; the scripts write frames: [`super::scripted_upstream_h2`].
    ByH2Request(Box<dyn Fn(&RecordedHead) -> Script + Send + Sync>),
}

/// A scripted upstream. Dropping it closes its port and every connection.
pub struct ScriptedUpstream {
    thread: ServerThread,
    recorder: Arc<Recorder>,
}

impl ScriptedUpstream {
    /// Starts on a free port of 127.0.0.1. Fails if the system is out of ports or threads.
    fn start(source: ScriptSource) -> io::Result<ScriptedUpstream> {
        let recorder = Arc::new(Recorder::default());
        // The position in the sequence of scripts.
        let (shared_recorder, source) = (Arc::clone(&recorder), Arc::new((source, AtomicUsize::new(0))));
        let serve = move |stream| serve_connection(stream, Arc::clone(&source), Arc::clone(&shared_recorder));
        Ok(ScriptedUpstream { thread: ServerThread::start(serve)?, recorder })
    }

    /// Runs this script in every turn.
    pub fn script(script: impl IntoIterator<Item = Step>) -> io::Result<ScriptedUpstream> {
        ScriptedUpstream::start(ScriptSource::InSequence(vec![script.into_iter().collect()]))
    }

    /// Runs these scripts in sequence, and the last one for all further turns.
    pub fn scripts(scripts: impl IntoIterator<Item = Script>) -> io::Result<ScriptedUpstream> {
        ScriptedUpstream::start(ScriptSource::InSequence(scripts.into_iter().collect()))
    }

    /// Runs the script chosen by the headers of each request.
    pub fn by_request(
        choose: impl Fn(&RecordedHead) -> Script + Send + Sync + 'static,
    ) -> io::Result<ScriptedUpstream> {
        ScriptedUpstream::start(ScriptSource::ByRequest(Box::new(choose)))
    }

    /// Runs the script chosen by the headers of each HTTP/2 request.
    pub(crate) fn by_h2_request(
        choose: impl Fn(&RecordedHead) -> Script + Send + Sync + 'static,
    ) -> io::Result<ScriptedUpstream> {
        ScriptedUpstream::start(ScriptSource::ByH2Request(Box::new(choose)))
    }

    /// The listening address.
    pub const fn address(&self) -> SocketAddr {
        self.thread.address()
    }

    /// A copy of the recording so far.
    pub fn recording(&self) -> Recording {
        self.recorder.with(Recording::clone)
    }

    /// The number of accepted connections.
    pub fn connection_count(&self) -> usize {
        self.recorder.with(|recording| recording.connections.len())
    }

    /// The number of requests whose headers were read.
    pub fn request_count(&self) -> usize {
        self.recorder.with(|recording| recording.requests().count())
    }

    /// Drops the recorded requests, for long runs whose recording would fill the memory.
    pub fn clear_recording(&self) {
        self.recorder.clear();
    }

    /// Blocks the thread until the condition holds for the recording, for at most `limit`. Returns whether it holds.
    pub fn wait_until(&self, limit: Duration, condition: impl FnMut(&Recording) -> bool) -> bool {
        self.recorder.wait_until(limit, condition)
    }
}

async fn serve_connection(
    stream: TcpStream,
    source: Arc<(ScriptSource, AtomicUsize)>,
    recorder: Arc<Recorder>,
) {
    let (source, next) = &*source;
    if let ScriptSource::ByH2Request(choose) = source {
        return scripted_upstream_h2::serve_connection(stream, choose.as_ref(), recorder).await;
    }
    let mut connection = AcceptedConnection::new(stream, recorder);
    let mut first = true;
    loop {
        let script = match source {
            ScriptSource::ByRequest(choose) => match connection.read_request_head().await {
                Ok(request) => choose(&request),
                Err(_) => return,
            },
            ScriptSource::ByH2Request(_) => return,
            ScriptSource::InSequence(scripts) => {
                if !std::mem::take(&mut first) && connection.wait_for_data().await.is_err() {
                    return;
                }
                let index = next.fetch_add(1, Ordering::Relaxed);
                scripts.get(index).or(scripts.last()).cloned().unwrap_or_default()
            }
        };
        if run_script(&script, &mut connection).await == ScriptEnd::Closed
            || connection.finish_request().await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "scripted_upstream_tests.rs"]
mod tests;
