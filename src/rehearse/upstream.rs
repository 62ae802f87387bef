//! A scripted upstream: listens on a loopback port, plays scripts, records what it received.
//!
//! It runs on a thread and a runtime of its own, so that a blocking test and an asynchronous command can both hold one.
//! Which script is played is the [`Plan`]; what the steps do is in [`super::script`]; what came in is in
//! [`super::record`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::play::{After, play};
use super::record::{Record, Request, Seen};
use super::script::{Script, Step};
use super::upstream_h2;
use super::wire::Wire;

/// Which script is played when.
pub enum Plan {
    /// The first script for the first turn, the second for the second, the last for all that follow. A turn begins when
    /// a connection is accepted, and with the first byte of every further request on it.
    InSequence(Vec<Script>),
    /// The head is read first, and the script chosen by it.
    ByRequest(Box<dyn Fn(&Request) -> Script + Send + Sync>),
    /// The same of an upstream that speaks HTTP/2 (without TLS), whose scripts write frames: [`super::upstream_h2`].
    InFrames(Box<dyn Fn(&Request) -> Script + Send + Sync>),
}

/// A scripted upstream. Dropping it closes its port and every connection.
pub struct Upstream {
    address: SocketAddr,
    record: Arc<Record>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Starts on a free port of 127.0.0.1. Fails when the system gives no port or no thread.
    pub fn start(plan: Plan) -> io::Result<Upstream> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let record = Arc::new(Record::default());
        let (stop, stopped) = oneshot::channel();
        let noted = Arc::clone(&record);
        let thread = std::thread::Builder::new()
            .name("upstream".to_owned())
            .spawn(move || serve(&runtime, listener, Arc::new(Turns::new(plan)), noted, stopped))?;
        Ok(Upstream { address, record, stop: Some(stop), thread: Some(thread) })
    }

    /// Plays this script in every turn.
    pub fn script(script: impl IntoIterator<Item = Step>) -> io::Result<Upstream> {
        Upstream::start(Plan::InSequence(vec![script.into_iter().collect()]))
    }

    /// Plays these scripts in sequence, the last one again and again.
    pub fn scripts(scripts: impl IntoIterator<Item = Script>) -> io::Result<Upstream> {
        Upstream::start(Plan::InSequence(scripts.into_iter().collect()))
    }

    /// Plays the script chosen by each request's head.
    pub fn by_request(choose: impl Fn(&Request) -> Script + Send + Sync + 'static) -> io::Result<Upstream> {
        Upstream::start(Plan::ByRequest(Box::new(choose)))
    }

    /// Plays the script chosen by each request's head, in HTTP/2.
    pub fn in_frames(choose: impl Fn(&Request) -> Script + Send + Sync + 'static) -> io::Result<Upstream> {
        Upstream::start(Plan::InFrames(Box::new(choose)))
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A copy of what it received so far.
    pub fn seen(&self) -> Seen {
        self.record.seen()
    }

    /// How many connections it accepted.
    pub fn connections(&self) -> usize {
        self.record.look(|seen| seen.connections.len())
    }

    /// How many request heads it read.
    pub fn requests(&self) -> usize {
        self.record.look(|seen| seen.requests().count())
    }

    /// Forgets the requests so far: for runs so long that their record would fill the memory.
    pub fn forget(&self) {
        self.record.forget();
    }

    /// Blocks the thread until this is true of what was received, at most that long; tells whether it became true.
    pub fn sees_within(&self, limit: Duration, condition: impl FnMut(&Seen) -> bool) -> bool {
        self.record.wait_until(limit, condition)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Hands out scripts by the plan.
struct Turns {
    plan: Plan,
    taken: AtomicUsize,
}

impl Turns {
    fn new(plan: Plan) -> Turns {
        Turns { plan, taken: AtomicUsize::new(0) }
    }
}

fn serve(
    runtime: &Runtime,
    listener: std::net::TcpListener,
    turns: Arc<Turns>,
    record: Arc<Record>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async move {
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        tokio::select! {
            () = accept(listener, turns, record) => {}
            _ = stopped => {}
        }
    });
    // The runtime goes with this thread, and with it every task and connection.
}

async fn accept(listener: TcpListener, turns: Arc<Turns>, record: Arc<Record>) {
    loop {
        // Out of descriptors or the like: a scripted upstream has nobody to tell; the next accept may do.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(connection(stream, Arc::clone(&turns), Arc::clone(&record)));
    }
}

async fn connection(stream: TcpStream, turns: Arc<Turns>, record: Arc<Record>) {
    if let Plan::InFrames(choose) = &turns.plan {
        return upstream_h2::connection(stream, choose.as_ref(), record).await;
    }
    let mut wire = Wire::new(stream, record);
    let mut first = true;
    loop {
        let script = match &turns.plan {
            Plan::ByRequest(choose) => match wire.read_head().await {
                Ok(request) => choose(&request),
                Err(_) => return,
            },
            Plan::InFrames(_) => return,
            Plan::InSequence(scripts) => {
                if !std::mem::take(&mut first) && wire.first_byte().await.is_err() {
                    return;
                }
                let turn = turns.taken.fetch_add(1, Ordering::Relaxed);
                scripts.get(turn).or(scripts.last()).cloned().unwrap_or_default()
            }
        };
        if play(&script, &mut wire).await == After::Over {
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "upstream_tests.rs"]
mod tests;
