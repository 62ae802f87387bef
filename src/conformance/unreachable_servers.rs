//! Unreachable servers: a port that refuses connections, and one whose backlog is full.
//!
//! Both hold a loopback port until they are dropped, so that no other process can use it. The expected responses of a
//! gateway are in [`super::case`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// A port that is bound but not listening: every connection is refused.
#[derive(Debug)]
pub struct RefusingPort {
    address: SocketAddr,
    _socket: Socket,
}

impl RefusingPort {
    /// Binds a port. Fails if the system is out of ports.
    pub fn start() -> io::Result<RefusingPort> {
        let (socket, address) = bind_loopback()?;
        Ok(RefusingPort { address, _socket: socket })
    }

    /// The address that refuses connections.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A port whose accept queue is full: further connection attempts get no reply.
#[derive(Debug)]
pub struct FullBacklog {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl FullBacklog {
    /// Binds a port and fills its accept queue. Fails if the system is out of ports, or if the queue does not fill up.
    pub fn start() -> io::Result<FullBacklog> {
        let (listener, address) = bind_loopback()?;
        FullBacklog::fill(listener, &SockAddr::from(address), address)
    }

    /// The same at a Unix socket: further connection attempts fail at once, or wait.
    pub(super) fn on_socket(path: &Path) -> io::Result<FullBacklog> {
        let (listener, target) = (Socket::new(Domain::UNIX, Type::STREAM, None)?, SockAddr::unix(path)?);
        listener.bind(&target)?;
        FullBacklog::fill(listener, &target, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    fn fill(listener: Socket, target: &SockAddr, address: SocketAddr) -> io::Result<FullBacklog> {
        // The kernel makes this a queue of one.
        listener.listen(0)?;
        let mut waiting = Vec::new();
        for _ in 0..MAX_PENDING {
            let socket = Socket::new(target.domain(), Type::STREAM, None)?;
            let connected = socket.connect_timeout(target, CONNECT_TIMEOUT);
            // Keep the socket even without a reply: its SYN retries keep the queue full.
            waiting.push(socket);
            if connected.is_err() {
                return Ok(FullBacklog { address, _listener: listener, _waiting: waiting });
            }
        }
        Err(io::Error::other("the queue of a listening socket cannot be filled on this system"))
    }

    /// The address that does not reply to connection attempts.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

fn bind_loopback() -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address =
        socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("a TCP socket has an address"))?;
    Ok((socket, address))
}

/// A connect on loopback takes microseconds; a timeout means that the queue is full.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(150);

/// More connections than a queue of one accepts.
const MAX_PENDING: usize = 16;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn refusing_port_refuses_connections() {
        let refusing = RefusingPort::start().unwrap();
        let error = TcpStream::connect(refusing.address()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn full_backlog_never_accepts_a_connection() {
        let full = FullBacklog::start().unwrap();
        let error = TcpStream::connect_timeout(&full.address(), Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
