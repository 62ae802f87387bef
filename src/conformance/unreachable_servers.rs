//! Servers that are not there: an address that refuses, and one that never accepts.
//!
//! Both hold a real loopback port for as long as they live, so that nobody else can get it in the meantime. What a
//! gateway should answer for them is in [`super::upstream_faults`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// A port that is taken but not listened on: every connection is refused.
#[derive(Debug)]
pub struct RefusingPort {
    address: SocketAddr,
    _socket: Socket,
}

impl RefusingPort {
    /// Takes a port. Fails when the system gives none.
    pub fn start() -> io::Result<RefusingPort> {
        let (socket, address) = bind_loopback()?;
        Ok(RefusingPort { address, _socket: socket })
    }

    /// Where connections are refused.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A port whose queue of unaccepted connections is full: a further connection attempt gets no answer at all.
#[derive(Debug)]
pub struct FullBacklog {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl FullBacklog {
    /// Takes a port and fills its queue. Fails when the system gives no port, or takes connections without end.
    pub fn start() -> io::Result<FullBacklog> {
        let (listener, address) = bind_loopback()?;
        // The kernel makes this a queue of one.
        listener.listen(0)?;
        let target = SockAddr::from(address);
        let mut waiting = Vec::new();
        for _ in 0..MAX_PENDING {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            let connected = socket.connect_timeout(&target, CONNECT_TIMEOUT);
            // Kept even when it got no answer: its own repeated attempts keep the queue full.
            waiting.push(socket);
            if connected.is_err() {
                return Ok(FullBacklog { address, _listener: listener, _waiting: waiting });
            }
        }
        Err(io::Error::other("the queue of a listening socket cannot be filled on this system"))
    }

    /// Where connections get no answer.
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

/// On loopback an answer takes microseconds; this long without one means that the queue is full.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(150);

/// More than a queue of one can take.
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
