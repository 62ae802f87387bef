//! log: tests.
