//! The table of client faults before a listener with TLS, row by row, against the executable.

use statusquo::rehearse::talk::upstream_script;
use statusquo::rehearse::{Setting, client_faults_tls, play};

use super::clients::{expect_accounts, impatient, play_all};
use super::tls_listener::house;
use super::upstreams::by_request;

#[test]
fn every_fault_of_a_tls_client_has_exactly_the_outcome_that_stands_there() {
    let upstream = by_request(upstream_script);
    let (gateway, _) = house(impatient(&upstream));
    let setting = Setting::any();
    let rows = client_faults_tls(&setting);
    let played = play_all(gateway.address(), &upstream, &setting, &rows, play);

    let broken: Vec<String> = rows
        .iter()
        .zip(&played)
        .filter_map(|(row, played)| Some(format!("{}: {}", row.name, played.breach.as_ref()?)))
        .collect();
    assert!(broken.is_empty(), "{} rows are broken:\n{}", broken.len(), broken.join("\n"));
    expect_accounts(&gateway, &rows, &played);
}
