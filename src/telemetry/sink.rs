//! The consumer of the log queue: buffers lines, writes them together, and counts the lines that could not be written.
//!
//! It runs on the log writer's thread, where errors cannot be returned to a caller; the count is exported as a metric.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buffers lines until they are flushed or the buffer is full. Write errors are counted, not returned.
#[derive(Debug)]
pub(super) struct Sink<W> {
    /// Unbuffered.
    output: W,
    buffer: Vec<u8>,
    /// The number of lines that could not be written.
    failed: Arc<AtomicU64>,
    /// Whether the last byte written was not a line break.
    inside_line: bool,
}

impl<W> Sink<W> {
    pub(super) fn new(output: W) -> Self {
        let buffer = Vec::with_capacity(BUFFER_SIZE);
        Sink { output, buffer, failed: Arc::default(), inside_line: false }
    }

    /// The counter of lines lost here.
    pub(super) fn failed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.failed)
    }

    /// Discards the buffered lines and counts them.
    fn discard(&mut self) {
        // Lines are never empty: a line break at the beginning ends a line that was partly written.
        let lines = self.buffer.strip_prefix(b"\n").unwrap_or(&self.buffer);
        let lost = lines.iter().filter(|octet| **octet == b'\n').count();
        self.failed.fetch_add(lost as u64, Ordering::Relaxed);
        self.buffer.clear();
        if self.inside_line {
            self.buffer.push(b'\n');
        }
    }
}

impl<W: Write> Sink<W> {
    fn write_buffer(&mut self) {
        let mut written = 0;
        let error = loop {
            let Some(rest @ [_, ..]) = self.buffer.get(written..) else { break None };
            match self.output.write(rest) {
                Ok(0) => break Some(io::ErrorKind::WriteZero),
                Ok(length) => {
                    self.inside_line = rest.get(length - 1).is_some_and(|octet| *octet != b'\n');
                    written += length;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error.kind()),
            }
        };
        self.buffer.drain(..written);
        match error {
            None => {}
            // Retried at the next flush, while the buffer has room.
            Some(io::ErrorKind::WouldBlock) if self.buffer.len() < BUFFER_SIZE => {}
            Some(_) => self.discard(),
        }
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + line.len() > BUFFER_SIZE {
            self.write_buffer();
        }
        self.buffer.extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_buffer();
        Ok(())
    }
}

/// About 80 lines.
pub(super) const BUFFER_SIZE: usize = 64 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A writer that follows a script: accepts a number of bytes or fails; accepts everything after the script.
    #[derive(Default)]
    struct Target {
        script: VecDeque<Result<usize, io::ErrorKind>>,
        received: Vec<u8>,
    }

    impl Write for Target {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = self.script.pop_front().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            self.received.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes batches of lines. Returns the bytes received and the number of lines counted as lost.
    fn written(
        script: impl IntoIterator<Item = Result<usize, io::ErrorKind>>,
        batches: &[&[&str]],
    ) -> (String, u64) {
        let target = Target { script: script.into_iter().collect(), ..Target::default() };
        let mut sink = Sink::new(target);
        for batch in batches {
            for line in *batch {
                sink.write_all(line.as_bytes()).unwrap();
            }
            sink.flush().unwrap();
        }
        (String::from_utf8(sink.output.received.clone()).unwrap(), sink.failed().load(Ordering::Relaxed))
    }

    #[test]
    fn lines_of_a_batch_are_written_together_or_in_pieces() {
        let batches: [&[&str]; 2] = [&["one\n", "two\n"], &["three\n"]];
        assert_eq!(written([], &batches), ("one\ntwo\nthree\n".to_owned(), 0));
        let pieces = [Ok(1), Err(io::ErrorKind::Interrupted), Ok(5)];
        assert_eq!(written(pieces, &batches), ("one\ntwo\nthree\n".to_owned(), 0));
    }

    #[test]
    fn lines_are_counted_when_writing_fails_and_later_ones_are_written() {
        let batches: [&[&str]; 3] = [&["one\n", "two\n"], &["three\n"], &["four\n"]];
        let full = || Err(io::ErrorKind::StorageFull);
        assert_eq!(written([full()], &batches), ("three\nfour\n".to_owned(), 2));
        assert_eq!(written([full(), full()], &batches), ("four\n".to_owned(), 3));
        assert_eq!(written([Ok(4), full()], &batches), ("one\nthree\nfour\n".to_owned(), 1));
        assert_eq!(written([Ok(0)], &batches), ("three\nfour\n".to_owned(), 2));
    }

    #[test]
    fn truncated_line_is_counted_once_and_the_next_starts_a_new_line() {
        let batches: [&[&str]; 3] = [&["one\n"], &["two\n"], &["three\n"]];
        let full = || Err(io::ErrorKind::StorageFull);
        assert_eq!(written([Ok(2), full()], &batches), ("on\ntwo\nthree\n".to_owned(), 1));
        assert_eq!(written([Ok(2), full(), full()], &batches), ("on\nthree\n".to_owned(), 2));
        assert_eq!(written([Ok(3), full(), full()], &batches), ("one\nthree\n".to_owned(), 1));
    }

    #[test]
    fn lines_that_would_block_wait_for_the_next_flush_within_bounds() {
        let blocked = || Err(io::ErrorKind::WouldBlock);
        let batches: [&[&str]; 2] = [&["one\n"], &["two\n"]];
        assert_eq!(written([Ok(2), blocked()], &batches), ("one\ntwo\n".to_owned(), 0));
        let long = format!("{}\n", "x".repeat(BUFFER_SIZE - 5));
        let batches: [&[&str]; 3] = [&[&long], &["second\n"], &["third\n"]];
        let script = [blocked(), blocked(), blocked()];
        assert_eq!(written(script, &batches), ("third\n".to_owned(), 2));
    }
}
