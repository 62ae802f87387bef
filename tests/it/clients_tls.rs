//! The table of client faults before a listener with TLS, row by row, against the executable.

use statusquo::rehearse::talk::upstream_script;
use statusquo::rehearse::{client_faults_tls, run_client_fault};

use super::clients::{self, expect_metrics, expect_passed, run_all, short_timeouts};
use super::tls_listener::tls_gateway;
use super::upstreams::by_request;

#[test]
fn tls_client_faults_all_have_their_expected_outcome() {
    let upstream = by_request(upstream_script);
    let (gateway, _) = tls_gateway(short_timeouts(&upstream));
    let profile = clients::profile();
    let rows = client_faults_tls(&profile);
    let results = run_all(gateway.address(), &upstream, &profile, &rows, run_client_fault);
    expect_passed(rows.iter().map(|row| row.name), &results);
    expect_metrics(&gateway, &rows, &results);
}
