//! Runs a script on one connection of an upstream.
//!
//! A step that fails because the peer has closed ends the script and the connection.

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::step::Step;

/// What the steps do: on a connection of HTTP/1, or on a stream of HTTP/2. The steps of HTTP/1 alone do nothing on a
/// stream.
pub(super) trait ScriptedPeer {
    /// Consumes the request headers; a stream has none to read.
    async fn take_request_head(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The next part of the body without its framing; `None` at the end.
    async fn next_body_chunk(&mut self) -> io::Result<Option<Bytes>>;

    /// What the scripted bytes are on the wire.
    fn on_wire(&self, bytes: &Bytes) -> Bytes {
        bytes.clone()
    }

    /// Writes the bytes of the wire at once.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Sends `100 Continue` once, if the request expects it.
    async fn send_continue(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Waits until data is available.
    async fn wait_for_data(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Echoes all bytes until the peer closes its sending side.
    async fn echo_raw(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Stops the acknowledgements of HTTP/2.
    fn suppress_acks(&self) {}

    /// Closes the sending side.
    async fn shutdown_write(&mut self) -> io::Result<()>;

    /// Discards what arrives until the peer closes.
    async fn read_to_end(&mut self);

    /// Makes the close of the socket a reset (SO_LINGER 0).
    async fn reset_on_close(&mut self);
}

/// The state of the connection after a step or a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptEnd {
    /// It serves the next request.
    Open,
    /// The caller must close it.
    Closed,
}

/// Runs the whole script.
pub(super) async fn run_script(script: &[Step], peer: &mut impl ScriptedPeer) -> ScriptEnd {
    for step in script {
        match run_step(step, peer).await {
            Ok(ScriptEnd::Open) => {}
            Ok(ScriptEnd::Closed) | Err(_) => return ScriptEnd::Closed,
        }
    }
    ScriptEnd::Open
}

async fn run_step(step: &Step, peer: &mut impl ScriptedPeer) -> io::Result<ScriptEnd> {
    match step {
        Step::ReadRequestHead => peer.take_request_head().await?,
        Step::ReadRequest => {
            peer.take_request_head().await?;
            read_body(peer, u64::MAX).await?;
        }
        Step::ReadBody => read_body(peer, u64::MAX).await?,
        Step::ReadBodyBytes(minimum) => read_body(peer, *minimum).await?,
        Step::SendContinue => peer.send_continue().await?,
        Step::Write(bytes) => peer.write(&peer.on_wire(bytes)).await?,
        Step::WriteSlowly { bytes, interval } => {
            for byte in peer.on_wire(bytes) {
                peer.write(&[byte]).await?;
                tokio::time::sleep(*interval).await;
            }
        }
        Step::WriteRepeated { bytes, count, interval } => {
            let bytes = peer.on_wire(bytes);
            for _ in 0..*count {
                peer.write(&bytes).await?;
                if interval.is_zero() {
                    // An endless writer must yield the runtime's only thread to the other connections.
                    tokio::task::yield_now().await;
                } else {
                    tokio::time::sleep(*interval).await;
                }
            }
        }
        Step::EchoBody => echo(peer).await?,
        Step::EchoRaw => peer.echo_raw().await?,
        Step::Pause(time) => tokio::time::sleep(*time).await,
        Step::WaitForData => peer.wait_for_data().await?,
        Step::WaitForGate(gate) => gate.wait().await,
        Step::OpenGate(gate) => gate.open(),
        Step::SuppressAcks => peer.suppress_acks(),
        Step::ShutdownWrite => peer.shutdown_write().await?,
        Step::Stall => std::future::pending().await,
        Step::ReadUntilClose => {
            peer.read_to_end().await;
            return Ok(ScriptEnd::Closed);
        }
        Step::Close => {
            peer.shutdown_write().await?;
            // Closing with unread bytes would reset the connection.
            #[expect(clippy::disallowed_methods, reason = "not the request path")]
            let _ = tokio::time::timeout(Duration::from_secs(1), peer.read_to_end()).await;
            return Ok(ScriptEnd::Closed);
        }
        Step::CloseAbruptly => return Ok(ScriptEnd::Closed),
        Step::Reset => {
            peer.reset_on_close().await;
            return Ok(ScriptEnd::Closed);
        }
    }
    Ok(ScriptEnd::Open)
}

/// Reads at least this many bytes of the body, or all of it if it is shorter.
async fn read_body(peer: &mut impl ScriptedPeer, minimum: u64) -> io::Result<()> {
    let mut read = 0;
    while read < minimum
        && let Some(chunk) = peer.next_body_chunk().await?
    {
        read += chunk.len() as u64;
    }
    Ok(())
}

async fn echo(peer: &mut impl ScriptedPeer) -> io::Result<()> {
    peer.send_continue().await?;
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    peer.write(head.as_bytes()).await?;
    while let Some(chunk) = peer.next_body_chunk().await? {
        if !chunk.is_empty() {
            let size = format!("{:x}\r\n", chunk.len());
            peer.write(&[size.as_bytes(), &chunk, b"\r\n"].concat()).await?;
        }
    }
    peer.write(b"0\r\n\r\n").await
}
