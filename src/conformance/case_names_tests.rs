//! Compares the names of all cases with a committed list, so that none is lost by accident.
//!
//! Names are stable: `demo` serves them as paths, and operators search for them in the report of `verify`.
//! `UPDATE_DOCS=1 cargo test case_names` writes the list.

use super::case::GatewayProfile;
use super::cases::{client_faults, client_faults_h2, client_faults_tls, upstream_faults};

/// Each table with its names in documentation order.
fn case_names() -> String {
    let profile = GatewayProfile::example();
    let tables: [(&str, Vec<&str>); 4] = [
        ("upstream", upstream_faults().iter().map(|case| case.name).collect()),
        ("client, HTTP/1", client_faults(&profile).iter().map(|case| case.name).collect()),
        ("client, HTTP/2", client_faults_h2(&profile).iter().map(|case| case.name).collect()),
        ("client, TLS", client_faults_tls(&profile).iter().map(|case| case.name).collect()),
    ];
    let tables = tables.iter().map(|(title, names)| format!("# {title}\n{}\n", names.join("\n")));
    tables.collect::<Vec<_>>().join("\n")
}

#[test]
fn case_names_match_the_committed_list() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/conformance/cases/names.txt");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let found = case_names();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, found).unwrap();
    } else {
        assert!(committed == found, "the names of cases changed; run: UPDATE_DOCS=1 cargo test case_names");
    }
}
