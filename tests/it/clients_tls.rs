//! The table of client faults before a listener with TLS, row by row, against the executable.

use statusquo::rehearse::talk::upstream_script;
use statusquo::rehearse::{client_faults_tls, run_client_fault};

use super::clients::{self, expect_accounts, expect_kept, impatient, play_all};
use super::tls_listener::house;
use super::upstreams::by_request;

#[test]
fn every_fault_of_a_tls_client_has_exactly_the_outcome_that_stands_there() {
    let upstream = by_request(upstream_script);
    let (gateway, _) = house(impatient(&upstream));
    let setting = clients::setting();
    let rows = client_faults_tls(&setting);
    let played = play_all(gateway.address(), &upstream, &setting, &rows, run_client_fault);
    expect_kept(rows.iter().map(|row| row.name), &played);
    expect_accounts(&gateway, &rows, &played);
}
