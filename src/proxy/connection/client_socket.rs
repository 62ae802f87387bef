//! An accepted client connection, TCP or Unix, before anything was read from it.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{MsgFlags, recv};
use pingora::protocols::{Stream, l4};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::{TcpStream, UnixStream};

/// An accepted connection.
#[derive(Debug)]
pub(crate) enum ClientSocket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl ClientSocket {
    /// The connection as the request path reads it. Unbuffered: the request path has its own buffers.
    pub(crate) fn into_stream(self) -> Stream {
        match self {
            ClientSocket::Tcp(socket) => Box::new(l4::stream::Stream::from(socket)),
            ClientSocket::Unix(socket) => Box::new(l4::stream::Stream::from(socket)),
        }
    }

    /// Waits for bytes, and copies them without consuming them; 0 at the end of the stream.
    pub(super) async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            ClientSocket::Tcp(socket) => socket.peek(buffer).await,
            ClientSocket::Unix(socket) => {
                let descriptor = socket.as_raw_fd();
                let peek = || Ok(recv(descriptor, buffer, MsgFlags::MSG_PEEK)?);
                socket.async_io(Interest::READABLE, peek).await
            }
        }
    }

    pub(super) async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            ClientSocket::Tcp(socket) => socket.read_exact(buffer).await,
            ClientSocket::Unix(socket) => socket.read_exact(buffer).await,
        }
    }
}
