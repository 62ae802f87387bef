//! Property tests: seeded random cases on real sockets, from the upstream's and the client's side; request smuggling,
//! checked with several readers; and a soak test with continuous faults.
//!
//! Reading order: [`random`] (seeded random numbers), [`request_reader`] (a strict request parser that stands for every
//! upstream), [`lenient_readers`] (two lenient request parsers), [`strict_upstream`] (an upstream that reads strictly
//! and replays bytes), [`generators`] (inputs), [`observed`] (client-side counts), [`upstream_bytes`] and
//! [`client_bytes`] (execution and checks of one case). The tests are in [`contract`], [`smuggling`],
//! [`smuggling_upgrades`] and [`soak`].

mod client_bytes;
mod generators;
mod lenient_readers;
mod observed;
pub mod random;
mod request_reader;
mod runner;
mod strict_upstream;
mod upstream_bytes;

mod contract;
mod smuggling;
mod smuggling_upgrades;
mod soak;
mod soak_tls;
