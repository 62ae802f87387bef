//! A scripted upstream: listens on a loopback port, runs scripts, records what it receives.
//!
//! It has its own thread and runtime, so that blocking tests and asynchronous commands can both use one.
//! [`ScriptSource`] selects the scripts; the steps are in [`super::step`], the recording in [`super::recorder`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::accepted_connection::AcceptedConnection;
use super::recorder::{RecordedHead, Recorder, Recording};
use super::script_runner::{ScriptEnd, run_script};
use super::scripted_upstream_h2;
use super::step::{Script, Step};

/// Selects the script to run.
pub enum ScriptSource {
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
    address: SocketAddr,
    recorder: Arc<Recorder>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedUpstream {
    /// Starts on a free port of 127.0.0.1. Fails if the system is out of ports or threads.
    pub fn start(source: ScriptSource) -> io::Result<ScriptedUpstream> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let recorder = Arc::new(Recorder::default());
        let (stop, stopped) = oneshot::channel();
        let shared_recorder = Arc::clone(&recorder);
        let thread = std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            serve(&runtime, listener, Arc::new(ScriptQueue::new(source)), shared_recorder, stopped)
        })?;
        Ok(ScriptedUpstream { address, recorder, stop: Some(stop), thread: Some(thread) })
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
    pub fn by_h2_request(
        choose: impl Fn(&RecordedHead) -> Script + Send + Sync + 'static,
    ) -> io::Result<ScriptedUpstream> {
        ScriptedUpstream::start(ScriptSource::ByH2Request(Box::new(choose)))
    }

    /// The listening address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A copy of the recording so far.
    pub fn recording(&self) -> Recording {
        self.recorder.snapshot()
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

impl Drop for ScriptedUpstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The script source with the position in its sequence.
struct ScriptQueue {
    source: ScriptSource,
    next: AtomicUsize,
}

impl ScriptQueue {
    fn new(source: ScriptSource) -> ScriptQueue {
        ScriptQueue { source, next: AtomicUsize::new(0) }
    }
}

fn serve(
    runtime: &Runtime,
    listener: std::net::TcpListener,
    queue: Arc<ScriptQueue>,
    recorder: Arc<Recorder>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async move {
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        tokio::select! {
            () = accept(listener, queue, recorder) => {}
            _ = stopped => {}
        }
    });
    // Dropping the runtime ends every task and connection.
}

async fn accept(listener: TcpListener, queue: Arc<ScriptQueue>, recorder: Arc<Recorder>) {
    loop {
        // Accept failed, for example without free file descriptors: retry after a short pause.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(serve_connection(stream, Arc::clone(&queue), Arc::clone(&recorder)));
    }
}

async fn serve_connection(stream: TcpStream, queue: Arc<ScriptQueue>, recorder: Arc<Recorder>) {
    if let ScriptSource::ByH2Request(choose) = &queue.source {
        return scripted_upstream_h2::serve_connection(stream, choose.as_ref(), recorder).await;
    }
    let mut connection = AcceptedConnection::new(stream, recorder);
    let mut first = true;
    loop {
        let script = match &queue.source {
            ScriptSource::ByRequest(choose) => match connection.read_request_head().await {
                Ok(request) => choose(&request),
                Err(_) => return,
            },
            ScriptSource::ByH2Request(_) => return,
            ScriptSource::InSequence(scripts) => {
                if !std::mem::take(&mut first) && connection.wait_for_data().await.is_err() {
                    return;
                }
                let index = queue.next.fetch_add(1, Ordering::Relaxed);
                scripts.get(index).or(scripts.last()).cloned().unwrap_or_default()
            }
        };
        if run_script(&script, &mut connection).await == ScriptEnd::Closed {
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "scripted_upstream_tests.rs"]
mod tests;
