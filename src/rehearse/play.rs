//! Plays a script on one connection, step by step.
//!
//! It does what it is told and judges nothing. A step that the other side makes impossible (it left) ends the script
//! and the connection.

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::script::Step;
use super::wire::Wire;

/// What becomes of the connection after a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It serves the next request.
    Open,
    /// It is over.
    Over,
}

/// Plays the whole script.
pub(super) async fn play(script: &[Step], wire: &mut Wire) -> After {
    for step in script {
        match take(step, wire).await {
            Ok(After::Open) => {}
            Ok(After::Over) | Err(_) => return After::Over,
        }
    }
    match wire.finish_request().await {
        Ok(()) => After::Open,
        Err(_) => After::Over,
    }
}

async fn take(step: &Step, wire: &mut Wire) -> io::Result<After> {
    match step {
        Step::ReadHead => wire.take_head().await?,
        Step::ReadBody => while wire.next_piece().await?.is_some() {},
        Step::ReadBytes(wanted) => read_bytes(wire, *wanted).await?,
        Step::Continue => wire.say_continue().await?,
        Step::Write(bytes) => wire.write(bytes).await?,
        Step::Drip { bytes, every } => drip(wire, bytes, *every).await?,
        Step::Repeat { bytes, times, every } => repeat(wire, bytes, *times, *every).await?,
        Step::Echo => echo(wire).await?,
        Step::Mirror => wire.mirror().await?,
        Step::Pause(time) => tokio::time::sleep(*time).await,
        Step::Wait(gate) => gate.opened().await,
        Step::Open(gate) => gate.open(),
        Step::Mute => {}
        Step::HalfClose => wire.half_close().await?,
        Step::Freeze => std::future::pending().await,
        Step::Hang => {
            wire.read_to_end().await;
            return Ok(After::Over);
        }
        Step::Close => {
            wire.close().await;
            return Ok(After::Over);
        }
        Step::Abandon => return Ok(After::Over),
        Step::Reset => {
            wire.reset_on_close();
            return Ok(After::Over);
        }
    }
    Ok(After::Open)
}

async fn read_bytes(wire: &mut Wire, wanted: u64) -> io::Result<()> {
    let mut read = 0;
    while read < wanted {
        match wire.next_piece().await? {
            Some(piece) => read += piece.len() as u64,
            None => break,
        }
    }
    Ok(())
}

async fn drip(wire: &mut Wire, bytes: &Bytes, every: Duration) -> io::Result<()> {
    for byte in bytes {
        wire.write(&[*byte]).await?;
        tokio::time::sleep(every).await;
    }
    Ok(())
}

async fn repeat(wire: &mut Wire, bytes: &Bytes, times: u64, every: Duration) -> io::Result<()> {
    for _ in 0..times {
        wire.write(bytes).await?;
        if every.is_zero() {
            // An endless writer must leave the runtime's only thread to the other connections.
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(every).await;
        }
    }
    Ok(())
}

async fn echo(wire: &mut Wire) -> io::Result<()> {
    wire.say_continue().await?;
    wire.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )
    .await?;
    while let Some(piece) = wire.next_piece().await? {
        if piece.is_empty() {
            continue;
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(&piece);
        chunk.extend_from_slice(b"\r\n");
        wire.write(&chunk).await?;
    }
    wire.write(b"0\r\n\r\n").await
}
