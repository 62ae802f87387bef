//! Compares the names of all cases with a committed list, so that none is lost by accident.
//!
//! Names are stable: `demo` serves them as paths, and operators search for them in the report of `verify`.
//! `UPDATE_DOCS=1 cargo test case_names` writes the list.

use super::case::ClientProtocol;
use super::cases::{client_faults, upstream_faults};
use crate::generated_files::assert_current;

/// Each table with its names in documentation order.
fn case_names() -> String {
    let names = |protocol| client_faults(protocol).iter().map(|case| case.name).collect();
    let tables: [(&str, Vec<&str>); 5] = [
        ("upstream", upstream_faults().iter().map(|case| case.name).collect()),
        ("client, HTTP/1", names(ClientProtocol::Http1)),
        ("client, HTTP/2", names(ClientProtocol::Http2)),
        ("client, TLS", names(ClientProtocol::Tls)),
        ("route", names(ClientProtocol::Route)),
    ];
    let tables = tables.iter().map(|(title, names)| format!("# {title}\n{}\n", names.join("\n")));
    tables.collect::<Vec<_>>().join("\n")
}

#[test]
fn case_names_match_the_committed_list() {
    assert_current("src/conformance/cases/names.txt", &case_names(), "case_names");
}
