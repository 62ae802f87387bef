//! Runs a case of a faulty client against a gateway and compares the result with its expectations.

use super::case::{ClientFault, ClientProtocol};
use super::runner::{RunResult, TestContext};
use super::runner_h1::run_http1_client_fault;
use super::runner_h2::run_h2_client_fault;

/// Runs one case.
pub async fn run_client_fault(case: &ClientFault, context: &TestContext<'_>) -> RunResult {
    match case.protocol {
        ClientProtocol::Http1 | ClientProtocol::Tls => run_http1_client_fault(case, context).await,
        ClientProtocol::Http2 => run_h2_client_fault(case, context).await,
    }
}
