//! Sockets are bound by us, before anything else starts: a port in use is one sentence and not a log line after thirty
//! seconds of retries, and port 0 works. What is accepted on them is [`super::accept`]'s business.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Bytes that the kernel may hold for a connection beyond what is on the wire. Without a bound it takes megabytes from us
/// for a client that reads nothing, and it calls the connection writable again only when a third of them have gone, so
/// that a client that reads slowly would look like one that reads nothing (`client.write_timeout`).
const NOTSENT_LOWAT: u32 = 128 * 1024;

/// A listener that is bound.
#[derive(Debug)]
pub struct BoundListener {
    /// The socket.
    pub socket: TcpListener,
    /// Where it is: with the port that the system chose, if that was left open.
    pub address: SocketAddr,
}

/// Why a listener could not be bound: a sentence with what, where, and what would be right.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.address)?;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "the port is in use; stop the process that has it (ss -ltnp 'sport = :{}' names it) or choose another port",
                self.address.port()
            ),
            io::ErrorKind::PermissionDenied => {
                f.write_str("permission denied; use a port above 1023 or grant CAP_NET_BIND_SERVICE")
            }
            io::ErrorKind::AddrNotAvailable => f.write_str(
                "this machine has no such address; use one of its own (ip address lists them) or 0.0.0.0 for all",
            ),
            _ => write!(f, "{}; check the address", self.error),
        }
    }
}

impl std::error::Error for BindError {}

/// Binds one address.
///
/// # Errors
/// A sentence for the operator.
pub fn bind(address: SocketAddr) -> Result<BoundListener, BindError> {
    let try_bind = || -> io::Result<BoundListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the old connections' last packets.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        // Accepted connections inherit it.
        socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from(socket);
        let address = socket.local_addr()?;
        Ok(BoundListener { socket, address })
    };
    try_bind().map_err(|error| BindError { address, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_errors_name_the_address_and_suggest_a_fix() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind(first.address).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {}: the port is in use; ", first.address)),
            "{error}"
        );
        let error = bind("192.0.2.1:0".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("this machine has no such address"), "{error}");
    }
}
