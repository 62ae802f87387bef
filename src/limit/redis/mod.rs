//! The shared rate-limit backend: a Redis or Valkey server that counts for several gateways
//! ([`crate::limit::backend`]).
//!
//! One script on the server decides ([`script`], `decide.lua`), by the server's clock. Replies are validated
//! ([`reply`]): a server that is unreachable, slow or sends invalid replies results in a [`crate::limit::BackendError`]
//! within the timeout, and opens the circuit [`breaker`] after repeated failures. [`deny_cache`] repeats denials
//! without a call. [`late_debit`] undoes debits that the server made after the timeout. [`address`] parses the
//! configured address, [`connection`] holds the connections, and [`redis_backend`] implements the backend.

pub(crate) mod address;
pub(crate) mod breaker;
pub mod connection;
pub(crate) mod deny_cache;
mod late_debit;
pub(crate) mod redis_backend;
pub mod reply;
pub mod script;
mod timeout;

pub use address::{Address, AddressError, Topology};
pub use redis_backend::{BackendObserver, BackendSettings, RedisBackend};
