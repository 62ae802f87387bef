//! The timeout for frames and header blocks that an HTTP/2 client does not complete.
//!
//! The `h2` crate waits for the rest of a frame without a timeout. DATA frames are exempt: the timeouts of the request
//! body cover them. [`super::read_frames`] reports which frame is incomplete.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::upstream::timer::sleep;

/// No frame or header block is incomplete.
pub(super) const NONE_PENDING: u32 = 0;
/// No byte was received.
pub(super) const NOTHING_READ: u32 = u32::MAX;
/// Flag: the incomplete frame may be DATA; its type has not been received yet.
pub(super) const MAYBE_DATA: u32 = 1;
/// Increment of the sequence number, which keeps the flag bit free.
pub(super) const SEQUENCE_STEP: u32 = 2;

/// The incomplete frame or header block of a connection, as one number:
///
/// - [`NOTHING_READ`]: no byte was received;
/// - [`NONE_PENDING`]: all frames and header blocks received are complete;
/// - otherwise the sequence number of the incomplete one: even, and another one for each frame or header block. The
///   lowest bit is the flag [`MAYBE_DATA`].
///
/// [`super::read_frames::ReadFrameObserver`] stores it, [`FrameReadTimeout`] reads it.
#[derive(Clone, Debug)]
pub(super) struct FrameProgress(Arc<AtomicU32>);

impl Default for FrameProgress {
    fn default() -> Self {
        FrameProgress(Arc::new(AtomicU32::new(NOTHING_READ)))
    }
}

impl FrameProgress {
    /// Whether the client has sent any byte.
    pub(super) fn has_begun(&self) -> bool {
        self.load() != NOTHING_READ
    }

    /// Whether a frame or a header block is incomplete.
    pub(super) fn is_within_frame(&self) -> bool {
        is_pending(self.load())
    }

    /// Whether a header block, or a frame other than DATA, is incomplete.
    pub(super) fn is_within_non_data_frame(&self) -> bool {
        let pending = self.load();
        is_pending(pending) && pending & MAYBE_DATA == 0
    }

    pub(super) fn store(&self, pending: u32) {
        self.0.store(pending, Ordering::Relaxed);
    }

    pub(super) fn load(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

const fn is_pending(progress: u32) -> bool {
    !matches!(progress, NOTHING_READ | NONE_PENDING)
}

/// The timer for an incomplete frame or header block.
pub(super) struct FrameReadTimeout {
    progress: FrameProgress,
    timeout: Duration,
    /// The sequence number that the timer runs for.
    watched: u32,
    timer: Option<BoxFuture<'static, ()>>,
}

impl FrameReadTimeout {
    pub(super) fn new(progress: FrameProgress, timeout: Duration) -> Self {
        FrameReadTimeout { progress, timeout, watched: NONE_PENDING, timer: None }
    }

    /// Sets the timeout of the frames and header blocks that begin from now on.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Starts the timeout of the incomplete frame or header block again.
    pub(super) fn restart(&mut self, timeout: Duration) {
        self.timeout = timeout;
        self.watched = NONE_PENDING;
    }

    /// Which frame or header block is incomplete.
    pub(super) fn progress(&self) -> &FrameProgress {
        &self.progress
    }

    /// Ready when the same frame or header block has been incomplete for the timeout. Must be polled after each read. A
    /// frame that may be DATA times out only when the connection has no open stream (`connection_idle`).
    pub(super) fn poll_timeout(&mut self, cx: &mut Context<'_>, connection_idle: bool) -> Poll<()> {
        let pending = self.progress.load();
        if !is_pending(pending) || (pending & MAYBE_DATA != 0 && !connection_idle) {
            self.watched = NONE_PENDING;
            self.timer = None;
            return Poll::Pending;
        }
        let sequence = pending & !MAYBE_DATA;
        if sequence != self.watched {
            self.watched = sequence;
            self.timer = Some(Box::pin(sleep(self.timeout)));
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        let polled = timer.as_mut().poll(cx);
        if polled.is_ready() {
            // Fires once for each frame or header block.
            self.timer = None;
        }
        polled
    }
}
