//! Binds the listening sockets before anything else starts, so that a port in use is reported at once and port 0 works.
//!
//! pingora would retry for 30 seconds and then log the failure. [`super::accept`] accepts the connections.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::unix_socket::UnixSocket;
use crate::config::ListenAddress;

/// Connections that may wait in the backlog; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Unsent bytes that the kernel buffers per connection (`TCP_NOTSENT_LOWAT`). Without a bound it buffers megabytes for
/// a client that does not read, and reports the socket writable only after a third is sent: a slow client would then
/// run into `client.write_timeout`.
const NOTSENT_LOWAT: u32 = 128 * 1024;

/// A bound listener.
#[derive(Debug)]
pub(crate) struct BoundListener {
    /// The socket.
    pub socket: ListenSocket,
    /// The bound address, with the port that the system chose for port 0.
    pub address: ListenAddress,
}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum ListenSocket {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixSocket),
}

/// A listener that could not be bound. Its message has the address, the reason and a suggestion.
#[derive(Debug)]
pub(crate) struct BindError {
    address: SocketAddr,
    error: io::Error,
}

/// Binds the address of a listener; see [`bind`] and [`UnixSocket::bind`].
///
/// # Errors
/// A message for the operator.
pub(crate) fn bind_listener(address: &ListenAddress, all: &[SocketAddr]) -> Result<BoundListener, String> {
    match address {
        ListenAddress::Tcp(address) => bind(*address, all).map_err(|error| error.to_string()),
        ListenAddress::Unix(path, mode) => {
            let socket = UnixSocket::bind(path, *mode)
                .map_err(|error| format!("cannot listen on unix:{}: {error}", path.display()))?;
            Ok(BoundListener { socket: ListenSocket::Unix(socket), address: address.clone() })
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.address)?;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "port is in use; help: stop the process that uses it (ss -ltnp 'sport = :{}' shows it) or choose another port",
                self.address.port()
            ),
            io::ErrorKind::PermissionDenied => {
                f.write_str("permission denied; help: use a port above 1023, or grant CAP_NET_BIND_SERVICE")
            }
            io::ErrorKind::AddrNotAvailable => f.write_str(
                "address is not assigned to this host; help: use one of its addresses (ip address lists them) or 0.0.0.0 for all",
            ),
            _ => write!(f, "{}; help: check the address", self.error),
        }
    }
}

impl std::error::Error for BindError {}

/// Binds one address. `[::]` also accepts IPv4, unless `all`, the addresses of this process, contains `0.0.0.0` with
/// the same port.
///
/// # Errors
/// A message for the operator.
pub(crate) fn bind(address: SocketAddr, all: &[SocketAddr]) -> Result<BoundListener, BindError> {
    let try_bind = || -> io::Result<BoundListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Allows a restart while connections of the previous process are in TIME_WAIT.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            socket.set_only_v6(address.port() != 0 && all.contains(&any_v4))?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        // Inherited by accepted connections.
        socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from(socket);
        let address = socket.local_addr()?;
        Ok(BoundListener { socket: ListenSocket::Tcp(socket), address: ListenAddress::Tcp(address) })
    };
    try_bind().map_err(|error| BindError { address, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(bound: &BoundListener) -> SocketAddr {
        match bound.address {
            ListenAddress::Tcp(address) => address,
            ListenAddress::Unix(..) => panic!("a socket"),
        }
    }

    #[test]
    fn any_v6_address_leaves_ipv4_to_its_own_listener() {
        let any_v4 = bind("0.0.0.0:0".parse().unwrap(), &[]).unwrap();
        let any_v4_address = tcp(&any_v4);
        let any_v6: SocketAddr = format!("[::]:{}", any_v4_address.port()).parse().unwrap();
        assert!(bind(any_v6, &[]).is_err());
        assert!(bind(any_v6, &[any_v4_address, any_v6]).is_ok());
    }

    #[test]
    fn bind_errors_name_the_address_and_suggest_a_fix() {
        let first = bind("127.0.0.1:0".parse().unwrap(), &[]).unwrap();
        let error = bind(tcp(&first), &[]).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {}: port is in use; help: ", first.address)),
            "{error}"
        );
        let error = bind("192.0.2.1:0".parse().unwrap(), &[]).unwrap_err().to_string();
        assert!(error.contains("address is not assigned to this host"), "{error}");
    }
}
