//! access: tests.
