//! metrics: tests.
