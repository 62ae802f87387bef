//! The end of the log queue: lines are gathered, written together, and counted where writing them failed.
//!
//! It runs on the writer's own thread, which has nobody to report an error to: the count is what remains of it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines that could not be written.
#[derive(Clone, Debug, Default)]
pub(super) struct Failed(Arc<AtomicU64>);

impl Failed {
    /// How many so far.
    pub(super) fn lines(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Gathers lines until they are flushed, or until there are many of them. It reports no error: it counts.
#[derive(Debug)]
pub(super) struct Sink<W> {
    /// Without a buffer of its own.
    to: W,
    gathered: Vec<u8>,
    failed: Failed,
    /// The last byte that was written is inside a line.
    inside_line: bool,
}

impl<W> Sink<W> {
    pub(super) fn new(to: W) -> Self {
        let gathered = Vec::with_capacity(GATHERED);
        Sink { to, gathered, failed: Failed::default(), inside_line: false }
    }

    /// The counter of the lines that are lost here.
    pub(super) fn failed(&self) -> Failed {
        self.failed.clone()
    }

    /// Drops what was gathered, so that the next lines have a chance.
    fn lose(&mut self) {
        // Lines are never empty: a line break at the beginning only ends what was written before.
        let lines = self.gathered.strip_prefix(b"\n").unwrap_or(&self.gathered);
        let lost = lines.iter().filter(|octet| **octet == b'\n').count();
        self.failed.0.fetch_add(lost as u64, Ordering::Relaxed);
        self.gathered.clear();
        if self.inside_line {
            self.gathered.push(b'\n');
        }
    }
}

impl<W: Write> Sink<W> {
    fn write_gathered(&mut self) {
        let mut written = 0;
        let error = loop {
            let Some(rest @ [_, ..]) = self.gathered.get(written..) else { break None };
            match self.to.write(rest) {
                Ok(0) => break Some(io::ErrorKind::WriteZero),
                Ok(length) => {
                    self.inside_line = rest.get(length - 1).is_some_and(|octet| *octet != b'\n');
                    written += length;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error.kind()),
            }
        };
        self.gathered.drain(..written);
        match error {
            None => {}
            // It may take them the next time, and there is room for a few more until then.
            Some(io::ErrorKind::WouldBlock) if self.gathered.len() < GATHERED => {}
            Some(_) => self.lose(),
        }
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.gathered.len() + line.len() > GATHERED {
            self.write_gathered();
        }
        self.gathered.extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_gathered();
        Ok(())
    }
}

/// About 80 lines.
pub(super) const GATHERED: usize = 64 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Takes so many bytes at a time, or fails so; everything when the script is over.
    #[derive(Default)]
    struct Target {
        script: VecDeque<Result<usize, io::ErrorKind>>,
        taken: Vec<u8>,
    }

    impl Write for Target {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = self.script.pop_front().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            self.taken.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes batches of lines; what arrived, and how many lines were counted as lost.
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
        (String::from_utf8(sink.to.taken.clone()).unwrap(), sink.failed().lines())
    }

    #[test]
    fn lines_of_a_batch_are_written_together_and_in_pieces_where_it_must_be() {
        let batches: [&[&str]; 2] = [&["one\n", "two\n"], &["three\n"]];
        assert_eq!(written([], &batches), ("one\ntwo\nthree\n".to_owned(), 0));
        let pieces = [Ok(1), Err(io::ErrorKind::Interrupted), Ok(5)];
        assert_eq!(written(pieces, &batches), ("one\ntwo\nthree\n".to_owned(), 0));
    }

    #[test]
    fn lines_whose_write_failed_are_counted_and_later_ones_are_written() {
        let batches: [&[&str]; 3] = [&["one\n", "two\n"], &["three\n"], &["four\n"]];
        let full = || Err(io::ErrorKind::StorageFull);
        assert_eq!(written([full()], &batches), ("three\nfour\n".to_owned(), 2));
        assert_eq!(written([full(), full()], &batches), ("four\n".to_owned(), 3));
        assert_eq!(written([Ok(4), full()], &batches), ("one\nthree\nfour\n".to_owned(), 1));
        assert_eq!(written([Ok(0)], &batches), ("three\nfour\n".to_owned(), 2));
    }

    #[test]
    fn line_that_was_cut_is_counted_once_and_the_next_one_begins_anew() {
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
        let long = format!("{}\n", "x".repeat(GATHERED - 5));
        let batches: [&[&str]; 3] = [&[&long], &["second\n"], &["third\n"]];
        let script = [blocked(), blocked(), blocked()];
        assert_eq!(written(script, &batches), ("third\n".to_owned(), 2));
    }
}
