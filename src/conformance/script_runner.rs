//! Runs a script on one connection.
//!
//! A step that fails because the peer has closed ends the script and the connection.

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::accepted_connection::AcceptedConnection;
use super::step::Step;

/// The state of the connection after a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptEnd {
    /// It serves the next request.
    Open,
    /// The caller must close it.
    Closed,
}

/// Runs the whole script.
pub(super) async fn run_script(script: &[Step], connection: &mut AcceptedConnection) -> ScriptEnd {
    for step in script {
        match run_step(step, connection).await {
            Ok(ScriptEnd::Open) => {}
            Ok(ScriptEnd::Closed) | Err(_) => return ScriptEnd::Closed,
        }
    }
    match connection.finish_request().await {
        Ok(()) => ScriptEnd::Open,
        Err(_) => ScriptEnd::Closed,
    }
}

async fn run_step(step: &Step, connection: &mut AcceptedConnection) -> io::Result<ScriptEnd> {
    match step {
        Step::ReadRequestHead => connection.take_request_head().await?,
        Step::ReadRequest => {
            connection.take_request_head().await?;
            while connection.next_body_chunk().await?.is_some() {}
        }
        Step::ReadBody => while connection.next_body_chunk().await?.is_some() {},
        Step::ReadBodyBytes(minimum) => read_bytes(connection, *minimum).await?,
        Step::SendContinue => connection.send_continue().await?,
        Step::Write(bytes) => connection.write(bytes).await?,
        Step::WriteSlowly { bytes, interval } => write_slowly(connection, bytes, *interval).await?,
        Step::WriteRepeated { bytes, count, interval } => {
            write_repeated(connection, bytes, *count, *interval).await?
        }
        Step::EchoBody => echo(connection).await?,
        Step::EchoRaw => connection.echo_raw().await?,
        Step::Pause(time) => tokio::time::sleep(*time).await,
        Step::WaitForData => connection.wait_for_data().await?,
        Step::WaitForGate(gate) => gate.wait().await,
        Step::OpenGate(gate) => gate.open(),
        Step::ShutdownWrite => connection.shutdown_write().await?,
        Step::Stall => std::future::pending().await,
        Step::ReadUntilClose => {
            connection.read_to_end().await;
            return Ok(ScriptEnd::Closed);
        }
        Step::Close => {
            connection.close().await;
            return Ok(ScriptEnd::Closed);
        }
        Step::CloseAbruptly => return Ok(ScriptEnd::Closed),
        Step::Reset => {
            connection.reset_on_close();
            return Ok(ScriptEnd::Closed);
        }
        // The steps of HTTP/2 and of clients.
        _ => {}
    }
    Ok(ScriptEnd::Open)
}

async fn read_bytes(connection: &mut AcceptedConnection, minimum: u64) -> io::Result<()> {
    let mut read = 0;
    while read < minimum {
        match connection.next_body_chunk().await? {
            Some(body_chunk) => read += body_chunk.len() as u64,
            None => break,
        }
    }
    Ok(())
}

async fn write_slowly(
    connection: &mut AcceptedConnection,
    bytes: &Bytes,
    interval: Duration,
) -> io::Result<()> {
    for byte in bytes {
        connection.write(&[*byte]).await?;
        tokio::time::sleep(interval).await;
    }
    Ok(())
}

async fn write_repeated(
    connection: &mut AcceptedConnection,
    bytes: &Bytes,
    count: u64,
    interval: Duration,
) -> io::Result<()> {
    for _ in 0..count {
        connection.write(bytes).await?;
        if interval.is_zero() {
            // An endless writer must yield the runtime's only thread to the other connections.
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(interval).await;
        }
    }
    Ok(())
}

async fn echo(connection: &mut AcceptedConnection) -> io::Result<()> {
    connection.send_continue().await?;
    connection.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )
    .await?;
    while let Some(body_chunk) = connection.next_body_chunk().await? {
        if body_chunk.is_empty() {
            continue;
        }
        let mut chunk = format!("{:x}\r\n", body_chunk.len()).into_bytes();
        chunk.extend_from_slice(&body_chunk);
        chunk.extend_from_slice(b"\r\n");
        connection.write(&chunk).await?;
    }
    connection.write(b"0\r\n\r\n").await
}
