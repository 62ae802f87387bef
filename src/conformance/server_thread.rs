//! A thread with a runtime of its own, so that blocking tests and asynchronous commands can both use its server.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// A running server. Dropping it closes its port and every connection.
#[derive(Debug)]
pub(super) struct ServerThread {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ServerThread {
    /// Serves connections on a free port of 127.0.0.1. Fails if the system is out of ports or threads.
    pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> io::Result<ServerThread> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        ServerThread::run(listener.local_addr()?, accept(listener, serve))
    }

    /// Runs a server of this address until it ends or is dropped. Fails if the system is out of threads.
    pub(super) fn run(
        address: SocketAddr,
        server: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<ServerThread> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            // Dropping the runtime ends every task and connection.
            runtime.block_on(async move {
                tokio::select! {
                    () = server => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("upstream".to_owned()).spawn(run)?;
        Ok(ServerThread { address, stop: Some(stop), thread: Some(thread) })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves every connection of this listener in a task of its own.
pub(super) async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) {
    let _ = listener.set_nonblocking(true);
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
            // For example without free file descriptors: retry after a short pause.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
