//! The fault-injection conformance suite: faulty upstreams and faulty clients that send exact bytes.
//!
//! The upstream runs scripts of [`step`]s on plain sockets and records what it received, so that a test can assert "the
//! upstream saw this request once". It is independent of the gateway, its configuration and pingora. It uses only the
//! names of causes from [`crate::contract`], so that a row holds a fault and its expected outcome.
//!
//! The cases are data: [`mod@cases`] reads `cases/*.yaml` into the types of [`mod@case`] and [`upstream_case`], in the
//! language of [`step`] and [`payload`].
//!
//! Reading order, upstream side: [`scripted_upstream`] (a listener that runs scripts), [`scripted_upstream_h2`] (the
//! same over HTTP/2), [`recorder`] (what was received), [`unreachable_servers`] (refusing and unresponsive ports),
//! [`scripted_name_server`] (DNS), [`tls_servers`] (invalid certificates), [`faulty_upstream`] (all faults behind a few
//! addresses, for `demo`), [`demo_page`] (what to try with them). `script_runner` and `accepted_connection` execute the
//! scripts.
//!
//! Client side: [`runner`] (runs a case), [`mod@gateway_stream`] (the connection, plain or TLS), [`response_reader`] (a
//! strict response parser), [`contract_check`] (checks error responses), [`frames`] and [`hpack`].

pub(crate) mod case;
pub(crate) mod cases;
pub mod contract_check;
pub(crate) mod demo_page;
pub(crate) mod faulty_upstream;
pub mod frames;
pub(crate) mod gateway_stream;
pub mod hpack;
pub(crate) mod payload;
pub(crate) mod recorder;
pub(crate) mod response_reader;
pub mod runner;
pub(crate) mod scripted_name_server;
pub(crate) mod scripted_upstream;
pub(crate) mod scripted_upstream_h2;
pub(crate) mod server_thread;
pub(crate) mod step;
pub mod success_routes;
mod tally;
pub mod tls_servers;
pub(crate) mod unreachable_servers;
pub(crate) mod upstream_case;

mod accepted_connection;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod case_names_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod faults_page_tests;
mod script_runner;

pub use case::{ClientFault, ClientProtocol, ConnectionOutcome, ExpectedResponse, FAULT_HEADER};
pub use cases::{client_faults, upstream_faults};
pub use faulty_upstream::FaultyUpstream;
pub use hickory_resolver::proto::rr::RecordType;
pub use payload::{GatewayProfile, http_response};
pub use recorder::{PeerClose, RecordedConnection, RecordedHead, RecordedRequest, Recording};
pub use response_reader::{BodyEnd, ReadError, ReceivedResponse};
pub use runner::{GatewayConnector, RunResult, TestContext, run_client_fault};
pub use scripted_name_server::{NameQuestion, NameRecord, NameReply, ScriptedNameServer};
pub use scripted_upstream::ScriptedUpstream;
pub use step::{Gate, RequestKind, Script, Step, write_bytes};
pub use success_routes::{SuccessRoute, success_routes};
pub use tally::{CheckedMetric, Tally};
pub use unreachable_servers::{FullBacklog, RefusingPort};
pub use upstream_case::{FaultOutcome, FaultRequest, INTERNAL_HOSTNAME, ServerKind, UpstreamFault};
