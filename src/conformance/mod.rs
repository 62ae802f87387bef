//! The fault-injection conformance suite: faulty upstreams and faulty clients that send exact bytes.
//!
//! The upstream runs [`script`]s on plain sockets and records what it received, so that a test can assert "the upstream
//! saw this request once". It is independent of the gateway, its configuration and pingora. It uses only the names of
//! causes from [`crate::contract`], so that a row holds a fault and its expected outcome.
//!
//! Reading order, upstream side: [`script`] (the language), [`scripted_upstream`] (a listener that runs scripts),
//! [`scripted_upstream_h2`] (the same over HTTP/2), [`recorder`] (what was received), [`unreachable_servers`] (refusing
//! and unresponsive ports), [`tls_servers`] (invalid certificates), [`mod@upstream_faults`] (the table),
//! [`faulty_upstream`] (all faults behind a few addresses, for `demo`). `script_runner` and `accepted_connection`
//! execute the scripts.
//!
//! Client side: [`mod@client_faults`] (the table), [`runner`] (runs a row), [`mod@gateway_stream`] (the connection, plain
//! or TLS), [`response_reader`] (a strict response parser), [`contract_check`] (checks error responses). Over HTTP/2:
//! [`mod@client_faults_h2`] and [`runner_h2`], on [`frames`] and [`hpack`].

pub mod client_faults;
pub mod client_faults_h2;
pub mod contract_check;
#[cfg(test)]
mod fault_docs;
pub(crate) mod faulty_upstream;
pub mod frames;
pub(crate) mod gateway_stream;
pub mod hpack;
pub(crate) mod recorder;
pub(crate) mod response_reader;
pub mod runner;
pub mod runner_h2;
pub(crate) mod script;
pub(crate) mod scripted_upstream;
pub(crate) mod scripted_upstream_h2;
pub mod success_routes;
pub mod tls_servers;
pub(crate) mod unreachable_servers;
pub(crate) mod upstream_faults;

mod accepted_connection;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod case_names_tests;
#[cfg(test)]
mod client_fault_docs;
#[cfg(test)]
mod client_fault_docs_h2;
mod script_runner;

pub use client_faults::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, GatewayProfile, RequestKind, UpstreamSaw,
    client_faults, client_faults_tls,
};
pub use client_faults_h2::{H2ClientFault, client_faults_h2};
pub use faulty_upstream::FaultyUpstream;
pub use recorder::{PeerClose, RecordedConnection, RecordedHead, RecordedRequest, Recording};
pub use response_reader::{BodyEnd, ReadError, ReceivedResponse};
pub use runner::{GatewayConnector, RunResult, TestContext, run_client_fault};
pub use script::{Gate, Script, UpstreamStep, http_response, write_bytes};
pub use scripted_upstream::{ScriptSource, ScriptedUpstream};
pub use success_routes::{SuccessRoute, success_routes};
pub use unreachable_servers::{FullBacklog, RefusingPort};
pub use upstream_faults::{
    ExpectedMessage, FaultCategory, FaultOutcome, FaultRequest, INTERNAL_HOSTNAME, ReplyReason, ServerKind,
    UpstreamFault, upstream_faults,
};
