//! Where counts are shared: a Redis or Valkey that several gateways ask, behind the seam of [`crate::limit::backend`].
//!
//! What is decided is decided in one script on the server ([`script`], `decide.lua`), by the server's clock; here it is asked,
//! read ([`reply`]) and not trusted: a server that is gone, slow or talks nonsense is a [`crate::limit::BackendError`] within the
//! time limit, and is left alone for a while ([`breaker`]). Whom it has refused is refused here until the wait ends
//! ([`deny_cache`]). [`address`] is what an operator may write, [`connection`] the connections, [`redis_backend`] the store itself. What a
//! failure means for a request is for others to say.

pub mod address;
pub mod breaker;
pub mod connection;
pub mod deny_cache;
pub mod redis_backend;
pub mod reply;
pub mod script;

pub use address::{Address, AddressError, Topology};
pub use redis_backend::{BackendObserver, RedisBackend, StoreSettings};
