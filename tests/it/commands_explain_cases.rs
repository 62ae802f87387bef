//! `explain` compared with the cases of the fault suite in which a client's request is rejected.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use statusquo::conformance::{
    ClientFault, ClientProtocol, ExpectedResponse, GatewayProfile, RequestKind, RunResult, ScriptedUpstream,
    client_faults,
};
use statusquo::contract::Cause;

use super::client_faults::run_all;
use super::commands_explain::{assert_explained, explain};
use super::gateway::Gateway;
use super::response_reader::{SentRequest, StrictReader};

/// `client.max_header_bytes` of the gateway.
pub(super) const MAX_HEADER_BYTES: usize = 4096;

/// The first HTTP/1 case for each cause that rejects a request before it is routed, except for `named` ones.
pub(super) fn one_rejection_for_each_cause(named: &BTreeSet<&str>) -> Vec<(Cause, ClientFault)> {
    let mut seen = BTreeSet::new();
    let cases = client_faults(ClientProtocol::Http1).into_iter().filter_map(|case| match case.expected[..] {
        [ExpectedResponse::Rejected(cause)] => Some((cause, case)),
        _ => None,
    });
    cases
        .filter(|(cause, case)| {
            let is_plain = case.reads().all(|read| read == RequestKind::DEFAULT);
            is_plain && !named.contains(cause.name()) && seen.insert(*cause)
        })
        .collect()
}

/// Runs these cases, and compares each response with its explanation. Returns the causes that differ.
pub(super) fn check_rejections(
    gateway: &Gateway,
    upstream: &ScriptedUpstream,
    cases: Vec<(Cause, ClientFault)>,
) -> Vec<&'static str> {
    let profile = GatewayProfile { max_header_bytes: MAX_HEADER_BYTES, ..GatewayProfile::example() };
    let (causes, cases): (Vec<Cause>, Vec<ClientFault>) = cases.into_iter().unzip();
    let results = run_all(gateway.address(), upstream, &profile, &cases);
    let differs = |(cause, result): (&Cause, &RunResult)| {
        let compared = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let response = StrictReader::new(result.raw.as_slice()).read(SentRequest::Http11("GET")).unwrap();
            assert_explained(gateway, &explain(gateway, &format!("--cause {cause}")), &response);
        }));
        compared.is_err().then_some(cause.name())
    };
    causes.iter().zip(&results).filter_map(differs).collect()
}
