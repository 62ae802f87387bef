//! Where counts are shared: a Redis or Valkey that several gateways ask, behind the seam of [`crate::limit::store`].
//!
//! What is decided is decided in one script on the server ([`script`], `decide.lua`), by the server's clock; here it is asked,
//! read ([`answer`]) and not trusted: a server that is gone, slow or talks nonsense is a [`crate::limit::BackendError`] within the
//! time limit, and is left alone for a while ([`breaker`]). Whom it has refused is refused here until the wait ends
//! ([`refused`]). [`address`] is what an operator may write, [`link`] the connections, [`shared`] the store itself. What a
//! failure means for a request is for others to say.

pub mod address;
pub mod answer;
pub mod breaker;
pub mod link;
pub mod refused;
pub mod script;
pub mod shared;

pub use address::{Address, AddressError, Topology};
pub use shared::{BackendObserver, RedisBackend, StoreSettings};
