//! The table of client faults on a TLS listener, row by row, against the executable.

use statusquo::conformance::runner::upstream_script;
use statusquo::conformance::{client_faults_tls, run_client_fault};

use super::client_faults::{
    self, expect_metrics, expect_passed, run_all, short_timeouts, with_scaled_pauses,
};
use super::scripted_upstreams::by_request;
use super::tls_listener::tls_gateway;

#[test]
fn tls_client_faults_all_have_their_expected_outcome() {
    let upstream = by_request(upstream_script);
    let (gateway, _) = tls_gateway(short_timeouts(&upstream));
    let profile = client_faults::profile();
    let rows = with_scaled_pauses(client_faults_tls(&profile));
    let results = run_all(gateway.address(), &upstream, &profile, &rows, run_client_fault);
    expect_passed(rows.iter().map(|row| row.name), &results);
    expect_metrics(&gateway, &rows, &results);
}
