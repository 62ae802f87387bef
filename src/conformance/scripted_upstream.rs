//! A scripted upstream: listens on a loopback port, plays scripts, records what it received.
//!
//! It runs on a thread and a runtime of its own, so that a blocking test and an asynchronous command can both hold one.
//! Which script is played is the [`ScriptSource`]; what the steps do is in [`super::script`]; what came in is in
//! [`super::recorder`].

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
use super::script::{Script, UpstreamStep};
use super::script_runner::{ScriptEnd, run_script};
use super::scripted_upstream_h2;

/// Which script is played when.
pub enum ScriptSource {
    /// The first script for the first turn, the second for the second, the last for all that follow. A turn begins when
    /// a connection is accepted, and with the first byte of every further request on it.
    InSequence(Vec<Script>),
    /// The head is read first, and the script chosen by it.
    ByRequest(Box<dyn Fn(&RecordedHead) -> Script + Send + Sync>),
    /// The same of an upstream that speaks HTTP/2 (without TLS), whose scripts write frames: [`super::scripted_upstream_h2`].
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
    /// Starts on a free port of 127.0.0.1. Fails when the system gives no port or no thread.
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

    /// Plays this script in every turn.
    pub fn script(script: impl IntoIterator<Item = UpstreamStep>) -> io::Result<ScriptedUpstream> {
        ScriptedUpstream::start(ScriptSource::InSequence(vec![script.into_iter().collect()]))
    }

    /// Plays these scripts in sequence, the last one again and again.
    pub fn scripts(scripts: impl IntoIterator<Item = Script>) -> io::Result<ScriptedUpstream> {
        ScriptedUpstream::start(ScriptSource::InSequence(scripts.into_iter().collect()))
    }

    /// Plays the script chosen by each request's head.
    pub fn by_request(
        choose: impl Fn(&RecordedHead) -> Script + Send + Sync + 'static,
    ) -> io::Result<ScriptedUpstream> {
        ScriptedUpstream::start(ScriptSource::ByRequest(Box::new(choose)))
    }

    /// Plays the script chosen by each request's head, in HTTP/2.
    pub fn by_h2_request(
        choose: impl Fn(&RecordedHead) -> Script + Send + Sync + 'static,
    ) -> io::Result<ScriptedUpstream> {
        ScriptedUpstream::start(ScriptSource::ByH2Request(Box::new(choose)))
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A copy of what it received so far.
    pub fn recording(&self) -> Recording {
        self.recorder.snapshot()
    }

    /// How many connections it accepted.
    pub fn connection_count(&self) -> usize {
        self.recorder.with(|recording| recording.connections.len())
    }

    /// How many request heads it read.
    pub fn request_count(&self) -> usize {
        self.recorder.with(|recording| recording.requests().count())
    }

    /// Forgets the requests so far: for runs so long that their record would fill the memory.
    pub fn clear_recording(&self) {
        self.recorder.clear();
    }

    /// Blocks the thread until this is true of what was received, at most that long; tells whether it became true.
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

/// Hands out scripts by the plan.
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
    // The runtime goes with this thread, and with it every task and connection.
}

async fn accept(listener: TcpListener, queue: Arc<ScriptQueue>, recorder: Arc<Recorder>) {
    loop {
        // Out of descriptors or the like: a scripted upstream has nobody to tell; the next accept may do.
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
