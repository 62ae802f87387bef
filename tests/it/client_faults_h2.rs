//! The table of HTTP/2 client faults, row by row, against the executable: streams, connections, upstream recording and
//! metrics.

use std::collections::BTreeMap;

use statusquo::conformance::client_faults_h2::{CloseOutcome, FrameStep, StreamOutcome};
use statusquo::conformance::runner::upstream_script;
use statusquo::conformance::{
    ExpectedResponse, GatewayProfile, H2ClientFault, RunResult, ScriptedUpstream, client_faults_h2, runner_h2,
};

use super::client_faults::{self, expect_passed, short_timeouts};
use super::gateway::Gateway;
use super::load::scaled;
use super::scripted_upstreams::by_request;

#[test]
fn h2_client_faults_all_have_their_expected_outcome() {
    let upstream = by_request(upstream_script);
    let gateway = gateway_for(&upstream);
    let profile = client_faults::profile();
    let mut rows: Vec<_> =
        client_faults_h2(&profile).into_iter().filter(|row| !row.nondeterministic).collect();
    // Scaled like the timeouts: the `h2` library counts empty frames.
    for step in rows.iter_mut().flat_map(|row| &mut row.steps) {
        if let FrameStep::SendSlowly(_, every) = step {
            *every = scaled(*every);
        }
    }
    let results = run_all(&gateway, &upstream, &profile, &rows);
    expect_passed(rows.iter().map(|row| row.name), &results);
    expect_metrics(&gateway, &rows);
    assert_eq!(upstream.recording().requests_for("/smuggled"), 0);
}

/// The idle timeout is longer than the others: a busy machine may pause between two requests of a row.
fn gateway_for(upstream: &ScriptedUpstream) -> Gateway {
    short_timeouts(upstream).set("client.idle_timeout", "5s").with_h2c_listener().start()
}

/// The number of streams that become requests depends on timing; the connection is closed in every case.
#[test]
fn stream_flood_closes_only_its_own_connection() {
    let upstream = by_request(upstream_script);
    let gateway = gateway_for(&upstream);
    let profile = client_faults::profile();
    let mut other_client = gateway.h2_client();
    other_client.get("/").assert_response(200, "served\n");
    for row in client_faults_h2(&profile).iter().filter(|row| row.nondeterministic) {
        let results = run_all(&gateway, &upstream, &profile, std::slice::from_ref(row));
        assert_eq!(results[0].violation, None, "{}", row.name);
        other_client.get("/").assert_response(200, "served\n");
    }
    let labels = [("cause", "http2_connection_error")];
    gateway.expect_metric("closed_without_response_total", &labels, 2.0);
    gateway.expect_metric("requests_in_flight", &[], 0.0);
}

pub fn run_all(
    gateway: &Gateway,
    upstream: &ScriptedUpstream,
    profile: &GatewayProfile,
    rows: &[H2ClientFault],
) -> Vec<RunResult> {
    client_faults::run_all(gateway.h2_address(), upstream, profile, rows, runner_h2::run_h2_client_fault)
}

/// Compares the counters by cause and close reason with the outcomes in the table.
fn expect_metrics(gateway: &Gateway, rows: &[H2ClientFault]) {
    let mut causes = BTreeMap::<&str, f64>::new();
    let mut truncations = BTreeMap::<&str, f64>::new();
    let mut close_reasons = BTreeMap::<&str, f64>::new();
    for (_, outcome) in rows.iter().flat_map(|row| &row.stream_outcomes) {
        match outcome {
            StreamOutcome::Response(
                ExpectedResponse::Rejected(cause) | ExpectedResponse::RejectedOnRoute(cause),
            ) => {
                *causes.entry(cause.name()).or_default() += 1.0;
            }
            StreamOutcome::Response(ExpectedResponse::Truncated(cause)) => {
                *truncations.entry(cause.name()).or_default() += 1.0
            }
            StreamOutcome::HeadersOnly(cause) => {
                *causes.entry(cause.name()).or_default() += 1.0;
                *truncations.entry("client_too_slow").or_default() += 1.0;
            }
            StreamOutcome::Response(_)
            | StreamOutcome::Reset
            | StreamOutcome::Empty431
            | StreamOutcome::NoResponse => {}
        }
    }
    for row in rows {
        for reason in &row.close_reasons {
            *close_reasons.entry(reason).or_default() += 1.0;
        }
    }
    for (metric, counts) in [
        ("errors_total", causes),
        ("aborted_total", truncations),
        ("closed_without_response_total", close_reasons),
    ] {
        for (name, count) in &counts {
            gateway.expect_metric(metric, &[("cause", name)], *count);
        }
        gateway.expect_metric(metric, &[], counts.values().sum());
    }
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("panics_total", &[], 0.0);
    assert!(rows.iter().any(|row| row.close_outcome == CloseOutcome::KeptOpen && row.background_stream));
}

/// A row that fails on a busy machine is retried under the same name.
#[test]
fn row_can_run_twice_against_the_same_upstream() {
    let upstream = by_request(upstream_script);
    let gateway = gateway_for(&upstream);
    let profile = client_faults::profile();
    let rows = client_faults_h2(&profile);
    let named = |name: &str| rows.iter().find(|row| row.name == name).cloned().unwrap();
    for name in ["h2-host-alone", "h2-longer-body", "h2-reset-while-waiting"] {
        let row = [named(name)];
        for _ in 0..2 {
            assert_eq!(run_all(&gateway, &upstream, &profile, &row)[0].violation, None, "{name}");
        }
    }
}
