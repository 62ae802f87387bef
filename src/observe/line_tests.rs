//! line: tests.
