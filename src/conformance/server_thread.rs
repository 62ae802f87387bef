//! A thread with a runtime of its own, so that blocking tests and asynchronous commands can both use its server: on
//! loopback, or on a Unix socket whose bytes go to a server on loopback.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// A running server. Dropping it closes its port and every connection.
#[derive(Debug)]
pub(crate) struct ServerThread {
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

    /// Serves the server at `address` on a Unix socket too.
    ///
    /// # Errors
    /// The socket cannot be created, or the system is out of threads.
    pub(super) fn on_socket(socket: &Path, address: SocketAddr) -> io::Result<ServerThread> {
        let listener = UnixListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        ServerThread::run(address, async move {
            let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
            while let Ok((mut stream, _)) = listener.accept().await {
                drop(tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(address).await else { return };
                    let _ = copy_bidirectional(&mut stream, &mut server).await;
                }));
            }
        })
    }

    /// Serves the server at a Unix socket on a free port too.
    ///
    /// # Errors
    /// The system is out of ports or threads.
    pub(crate) fn of_socket(socket: PathBuf) -> io::Result<ServerThread> {
        ServerThread::start(move |mut stream| {
            let socket = socket.clone();
            async move {
                let Ok(mut server) = UnixStream::connect(socket).await else { return };
                let _ = copy_bidirectional(&mut stream, &mut server).await;
            }
        })
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

    pub(crate) const fn address(&self) -> SocketAddr {
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

/// A folder for Unix sockets, which is removed when it is dropped.
pub(crate) struct SocketFolder(PathBuf);

impl SocketFolder {
    /// # Errors
    /// The temporary folder of the system cannot be written.
    pub(crate) fn create() -> io::Result<SocketFolder> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("statusquo-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(SocketFolder(path))
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
