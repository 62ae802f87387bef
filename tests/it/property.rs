//! What holds for any bytes, shown with very many: seeded cases on real sockets, from the upstream's side and from the
//! client's; one request read by many readers; and faults for minutes on end.
//!
//! Reading order: [`random`] (numbers from a seed), [`request_reader`] (the strict reading of a request, which stands for
//! every upstream), [`lenient_readers`] (two readings that forgive), [`strict_upstream`] (an upstream that reads strictly and plays bytes),
//! [`generators`] (what is sent), [`observed`] (what clients counted), [`upstream_bytes`] and [`client_bytes`] (one case, judged).
//! The tests are in [`contract`], [`smuggling`] and [`soak`].

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
mod soak;
mod soak_tls;
