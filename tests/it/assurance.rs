//! What holds for any bytes, shown with very many: seeded cases on real sockets, from the upstream's side and from the
//! client's; one request read by many readers; and faults for minutes on end.
//!
//! Reading order: [`random`] (numbers from a seed), [`request_reader`] (the strict reading of a request, which stands for
//! every upstream), [`lenient`] (two readings that forgive), [`peer`] (an upstream that reads strictly and plays bytes),
//! [`generate`] (what is sent), [`ledger`] (what clients counted), [`upstream_side`] and [`client_side`] (one case, judged).
//! The tests are in [`properties`], [`smuggling`] and [`soak`].

mod client_side;
mod generate;
mod ledger;
mod lenient;
mod peer;
pub mod random;
mod request_reader;
mod run;
mod upstream_side;

mod properties;
mod smuggling;
mod soak;
mod soak_tls;
