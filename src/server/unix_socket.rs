//! Unix sockets of listeners: binds a path, replaces a socket that no process answers on, and removes its own at the
//! end.
//!
//! Only sockets with a path: an abstract one can be taken by any user of the machine.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::{Diagnostic, check_socket};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long another process may hold the lock of the directory.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A listening Unix socket. Its file is removed on drop, unless another process has replaced it.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    /// The socket.
    pub listener: UnixListener,
    /// Removes the file.
    pub file: SocketFile,
}

/// The file of a bound socket; removed on drop.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: Arc<Path>,
    identity: FileIdentity,
}

/// Device and inode.
type FileIdentity = (u64, u64);

/// Why a path cannot be bound.
#[derive(Debug)]
pub(crate) enum UnixBindError {
    /// A process accepts connections on it.
    InUse,
    /// The path is something other than a socket, or its directory is missing.
    Unusable(Diagnostic),
    /// The system refused it.
    System(io::Error),
}

impl fmt::Display for UnixBindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixBindError::InUse => f.write_str(
                "another process accepts connections on it; help: stop that process (ss -lxp shows it) or use another path",
            ),
            UnixBindError::Unusable(Diagnostic { message, help }) => write!(f, "{message}; help: {help}"),
            UnixBindError::System(error) => match error.kind() {
                io::ErrorKind::PermissionDenied => f.write_str(
                    "permission denied; help: use a directory in which this user may create files, such as its own in /run",
                ),
                _ => write!(f, "{error}; help: check the path"),
            },
        }
    }
}

impl UnixSocket {
    /// Binds the path with these permissions. A socket that no process answers on is replaced.
    ///
    /// # Errors
    /// A process answers on it, the path is something else, or the system refuses it.
    pub(crate) fn bind(path: &Arc<Path>, mode: u32) -> Result<Self, UnixBindError> {
        let _lock = lock_directory(path);
        check_socket(path).map_err(UnixBindError::Unusable)?;
        remove_stale(path)?;
        let bind = || -> io::Result<UnixSocket> {
            let socket = socket()?;
            socket.bind(&SockAddr::unix(&**path)?)?;
            let file = SocketFile { path: Arc::clone(path), identity: identity(path)? };
            // Before it listens: until then nobody can connect, whatever the umask.
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            socket.listen(BACKLOG)?;
            Ok(UnixSocket { listener: UnixListener::from(OwnedFd::from(socket)), file })
        };
        bind().map_err(UnixBindError::System)
    }
}

/// Keeps other starting gateways from the directory of the socket: until a socket listens, they would take it for a
/// stale one. Without the lock this process still starts.
#[expect(clippy::disallowed_methods, reason = "sockets are bound before anything is served")]
fn lock_directory(path: &Path) -> Option<File> {
    let directory = File::open(path.parent()?).ok()?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    while directory.try_lock().is_err() {
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Some(directory)
}

/// Removes a socket that no process accepts connections on.
fn remove_stale(path: &Path) -> Result<(), UnixBindError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(UnixBindError::System(error)),
        Ok(_) => {}
    }
    let connected = socket().and_then(|socket| socket.connect(&SockAddr::unix(path)?));
    match connected {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(UnixBindError::System)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(()) => Err(UnixBindError::InUse),
        // A full backlog belongs to a process too.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(UnixBindError::InUse),
        Err(error) => Err(UnixBindError::System(error)),
    }
}

/// A socket that never blocks.
fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn identity(path: &Path) -> io::Result<FileIdentity> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // If this fails, the next start replaces the socket.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    struct SocketFolder(std::path::PathBuf);

    impl SocketFolder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("statusquo-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            SocketFolder(path)
        }

        fn path(&self, name: &str) -> Arc<Path> {
            Arc::from(self.0.join(name))
        }
    }

    impl Drop for SocketFolder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn socket_has_its_mode_and_is_removed_on_drop() {
        let folder = SocketFolder::new("mode");
        let path = folder.path("a.sock");
        let bound = UnixSocket::bind(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn stale_socket_is_replaced_and_a_live_one_or_a_file_is_not() {
        let folder = SocketFolder::new("stale");
        let path = folder.path("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let bound = UnixSocket::bind(&path, 0o660).unwrap();
        let error = UnixSocket::bind(&path, 0o660).unwrap_err().to_string();
        assert!(error.starts_with("another process accepts connections on it; help: "), "{error}");
        assert!(UnixStream::connect(&path).is_ok(), "still there");
        // Another process has replaced it: its file stays.
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
        drop(other);
        let file = folder.path("file");
        fs::write(&file, "text").unwrap();
        let error = UnixSocket::bind(&file, 0o660).unwrap_err().to_string();
        let expected = format!("{} exists and is not a socket; help: remove that file, or ", file.display());
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        let error = UnixSocket::bind(&folder.path("missing/a.sock"), 0o660).unwrap_err().to_string();
        let missing = folder.path("missing");
        let expected = format!("the directory {} does not exist; help: create it", missing.display());
        assert!(error.starts_with(&expected), "{error}");
    }
    #[test]
    fn live_socket_with_a_full_backlog_is_in_use() {
        let folder = SocketFolder::new("full");
        let path = folder.path("a.sock");
        let listener = socket().unwrap();
        listener.bind(&SockAddr::unix(&*path).unwrap()).unwrap();
        listener.listen(1).unwrap();
        let connect = || {
            let client = socket()?;
            client.connect(&SockAddr::unix(&*path)?)?;
            io::Result::Ok(client)
        };
        let waiting: Vec<Socket> = std::iter::from_fn(|| connect().ok()).collect();
        assert!(!waiting.is_empty());
        assert!(matches!(UnixSocket::bind(&path, 0o660), Err(UnixBindError::InUse)));
        assert!(path.exists());
    }

    #[test]
    fn symbolic_link_and_datagram_socket_are_left_alone() {
        let folder = SocketFolder::new("link");
        let (target, link) = (folder.path("target"), folder.path("link"));
        drop(UnixListener::bind(&target).unwrap());
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(matches!(UnixSocket::bind(&link, 0o660), Err(UnixBindError::Unusable(_))));
        let datagram = folder.path("datagram");
        let _open = UnixDatagram::bind(&datagram).unwrap();
        assert!(matches!(UnixSocket::bind(&datagram, 0o660), Err(UnixBindError::System(_))));
        assert!(target.exists() && link.is_symlink() && datagram.exists());
    }

    #[test]
    fn one_of_several_starting_at_once_gets_the_socket() {
        let folder = SocketFolder::new("race");
        for _ in 0..20 {
            let path = folder.path("a.sock");
            drop(UnixListener::bind(&path).unwrap());
            let starting: Vec<_> = (0..4)
                .map(|_| {
                    let path = Arc::clone(&path);
                    std::thread::spawn(move || UnixSocket::bind(&path, 0o660))
                })
                .collect();
            let bound: Vec<_> =
                starting.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect();
            assert_eq!(bound.len(), 1);
            assert!(UnixStream::connect(&path).is_ok());
        }
    }
}
