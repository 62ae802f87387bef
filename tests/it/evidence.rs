//! What the documentation promises is shown by a test: for every metric family one that moves it, for every cause one that
//! raises it.
//!
//! The tables name tests as `file::function`. Here it is held that such a function exists and speaks of the family or the
//! cause; the function itself asserts what happens.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use statusquo::conformance::client_faults_h2::StreamOutcome;
use statusquo::conformance::{
    ExpectedResponse, GatewayProfile, client_faults, client_faults_h2, upstream_faults,
};
use statusquo::contract::Cause;
use statusquo::telemetry::definitions;

/// For every metric family, the test that moves it.
const METRICS: &[(&str, &str)] = &[
    ("responses_total", "overhead::overhead_counts_every_response_whoever_made_it_and_on_both_protocols"),
    ("errors_total", "connections::a_refusal_keeps_the_clients_connection"),
    ("aborted_total", "truncation::a_broken_chunk_cuts_the_message"),
    ("closed_without_response_total", "attacked::an_empty_line_alone_is_no_request"),
    (
        "client_disconnects_total",
        "connections::a_client_that_leaves_while_it_waits_frees_the_upstream_and_is_counted",
    ),
    (
        "conformance_total",
        "error_bodies::a_conforming_error_passes_byte_for_byte_without_the_names_of_servers",
    ),
    ("would_replace_total", "error_bodies::mode_observe_passes_the_page_and_counts_what_it_would_have_sent"),
    ("grpc_errors_total", "grpc::a_call_that_is_not_understood_is_told_so_in_the_words_of_grpc"),
    ("request_duration_seconds", "overhead::overhead_is_the_whole_time_of_requests_that_wait_for_nobody"),
    ("overhead_seconds", "overhead::overhead_counts_every_response_whoever_made_it_and_on_both_protocols"),
    (
        "requests_in_flight",
        "overload::one_more_than_there_is_room_for_is_a_503_and_the_upstream_sees_nothing_of_it",
    ),
    ("requests_queued", "overload::an_upload_that_waited_arrives_whole"),
    (
        "concurrency_limit",
        "overload::one_more_than_there_is_room_for_is_a_503_and_the_upstream_sees_nothing_of_it",
    ),
    ("shed_total", "overload::one_more_than_there_is_room_for_is_a_503_and_the_upstream_sees_nothing_of_it"),
    ("connections", "accounts::connections_are_counted_while_they_are_open"),
    (
        "upstream_attempts_total",
        "retries::a_refused_connection_is_tried_at_the_next_server_whatever_the_method",
    ),
    (
        "upstream_retries_total",
        "retries::a_refused_connection_is_tried_at_the_next_server_whatever_the_method",
    ),
    (
        "upstream_phase_duration_seconds",
        "tls_upstream::a_server_whose_certificate_is_good_is_asked_over_tls_on_kept_connections",
    ),
    (
        "upstream_connections_total",
        "tls_upstream::a_server_whose_certificate_is_good_is_asked_over_tls_on_kept_connections",
    ),
    ("rate_limit_decisions_total", "limits::a_shadow_rule_counts_and_is_never_seen"),
    (
        "rate_limit_keys",
        "limits::clients_are_told_apart_by_address_ipv6_by_network_and_exempt_ones_are_not_counted",
    ),
    ("rate_limit_evictions_total", "limits::keys_beyond_the_largest_number_evict_others_and_are_counted"),
    ("rate_limit_store_duration_seconds", "stores::two_gateways_allow_together_what_is_allowed_and_say_so"),
    (
        "rate_limit_store_errors_total",
        "stores_ail::a_dead_redis_does_not_stop_the_gateway_and_is_used_when_it_comes",
    ),
    ("config_reloads_total", "reload::routes_change_under_a_connection_and_the_upstreams_connection_stays"),
    (
        "config_last_reload_successful",
        "reload::a_bad_file_is_refused_whole_with_its_problems_and_the_old_one_serves_on",
    ),
    (
        "config_last_reload_timestamp_seconds",
        "reload::routes_change_under_a_connection_and_the_upstreams_connection_stays",
    ),
    ("panics_total", "connections::a_panic_of_our_own_is_a_documented_500_and_the_connection_stays"),
    ("log_lines_dropped_total", "lost_lines::log_lines_that_standard_error_does_not_take_are_counted"),
    ("build_info", "accounts::the_accounts_are_there_at_zero_before_anything_happens"),
];

/// For every cause that no row of the tables of faults raises, the test that does.
const CAUSES: &[(&str, &str)] = &[
    ("http_request_denied", "forwarding::a_denied_method_and_a_foreign_client_are_403"),
    ("rate_limited", "limits::one_more_than_the_burst_is_refused_and_this_is_all_that_is_said"),
    ("proxy_internal_error", "connections::a_panic_of_our_own_is_a_documented_500_and_the_connection_stays"),
    ("proxy_loop_detected", "forwarding::a_request_that_has_passed_here_before_is_a_loop"),
    (
        "connection_limit_reached",
        "connections::beyond_the_largest_number_of_connections_one_is_answered_503_and_closed",
    ),
    ("queue_full", "overload::one_more_than_there_is_room_for_is_a_503_and_the_upstream_sees_nothing_of_it"),
    ("queue_timeout", "overload::who_waits_longer_than_the_limit_is_a_503_in_time"),
    ("limiter_unavailable", "stores_ail::what_a_lost_redis_means_for_requests_is_the_operators_choice"),
    ("resource_exhausted", "overload::streams_beyond_the_descriptors_are_503_and_the_listeners_go_on"),
    ("dns_error", "retries::a_name_without_an_address_is_a_504_and_no_reason_not_to_start"),
    ("destination_ip_unroutable", "retries::address_without_a_route_to_it_is_a_504"),
    ("deadline_exceeded", "timeouts::the_total_limit_is_exact_whatever_the_attempts_would_still_have"),
];

/// Raised where no request leads: the reason, and the unit test that holds what happens then.
const UNREACHABLE: &[(&str, &str, &str)] = &[(
    "proxy_configuration_error",
    "a server with a name always has authorities to trust",
    "src/upstream/transport.rs::server_with_a_name_and_no_trust_is_a_configuration_error_and_gets_no_byte",
)];

/// Where causes are named without being raised for a request to the gateway: the tables of what they mean, the tables of
/// faults, the commands, and the pages of the telemetry address.
const NOT_THE_REQUEST_PATH: [&str; 4] = ["contract", "rehearse", "cli", "admin"];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// From the name of a test to the end of its body.
fn function<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    // Directly below, or with one more attribute between.
    let start = source.find(&format!("fn {name}("))?;
    let attributes = source[..start].rsplit("\n\n").next()?;
    if !attributes.contains("test]\n") {
        return None;
    }
    let body = &source[start..];
    Some(body.split_once("\n}\n").map_or(body, |(body, _)| body))
}

/// The function of a row, unless there is none.
fn of_row(row: &str) -> Result<String, String> {
    let (file, name) = row.split_once("::").ok_or("no file::function")?;
    let path = if file.ends_with(".rs") { file.to_owned() } else { format!("tests/it/{file}.rs") };
    let source = std::fs::read_to_string(top().join(&path)).map_err(|error| format!("{path}: {error}"))?;
    function(&source, name).map(str::to_owned).ok_or_else(|| format!("{path} has no test {name}"))
}

/// What is wrong with the rows of a table: one for each of `total`, each with a function that speaks of it.
fn wrong(all: &BTreeSet<String>, rows: &[(&str, &str)], speaks: fn(&str, &str) -> bool) -> Vec<String> {
    let named: BTreeSet<String> = rows.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing = all.difference(&named).map(|name| format!("{name}: no test shows it"));
    let unknown = named.difference(all).map(|name| format!("{name}: there is no such thing"));
    let bad = rows.iter().filter_map(|(name, row)| match of_row(row) {
        Ok(body) => (!speaks(&body, name)).then(|| format!("{name}: {row} does not speak of it")),
        Err(error) => Some(format!("{name}: {error}")),
    });
    missing.chain(unknown).chain(bad).collect()
}

fn speaks_of_family(body: &str, family: &str) -> bool {
    ["", "_count", "_sum", "_bucket"].iter().any(|end| body.contains(&format!("\"{family}{end}\"")))
}

fn speaks_of_cause(body: &str, cause: &str) -> bool {
    body.contains(&format!("\"{cause}\""))
}

#[test]
fn every_documented_metric_family_is_moved_by_a_test() {
    let families = definitions::ALL.iter().map(|row| row.name.to_owned()).collect();
    assert_eq!(wrong(&families, METRICS, speaks_of_family), Vec::<String>::new());
}

#[test]
fn a_missing_row_and_a_row_without_a_test_are_found() {
    let all = ["a_total", "build_info"].map(str::to_owned).into();
    let found = |rows: &[(&str, &str)]| wrong(&all, rows, speaks_of_family).len();
    let good = ("build_info", "accounts::the_accounts_are_there_at_zero_before_anything_happens");
    assert_eq!(found(&[good]), 1, "no row");
    assert_eq!(found(&[good, ("a_total", "accounts::no_such_test")]), 1, "no function");
    assert_eq!(found(&[good, ("a_total", "no_such_file::test")]), 1, "no file");
    assert_eq!(found(&[good, ("a_total", good.1)]), 1, "a function that does not speak of it");
    assert_eq!(found(&[good, ("a_total", good.1), ("b_total", good.1)]), 3, "no such family");
}

/// Every cause that a row of the tables of faults raises.
fn raised_by_rows() -> BTreeSet<String> {
    let mut raised: BTreeSet<String> =
        upstream_faults().iter().map(|fault| fault.outcome.cause_name().to_owned()).collect();
    let expected = |expected: &ExpectedResponse| match expected {
        ExpectedResponse::Rejected(cause)
        | ExpectedResponse::RejectedOnRoute(cause)
        | ExpectedResponse::Truncated(cause) => Some(cause.name().to_owned()),
        ExpectedResponse::Served | ExpectedResponse::ServedBytes(_) | ExpectedResponse::Prefix => None,
    };
    let setting = GatewayProfile::example();
    for fault in client_faults_h2(&setting) {
        raised.extend(fault.stream_outcomes.iter().filter_map(|(_, outcome)| match outcome {
            StreamOutcome::Response(answer) => expected(answer),
            StreamOutcome::HeadersOnly(cause) => Some(cause.name().to_owned()),
            StreamOutcome::Reset | StreamOutcome::Empty431 | StreamOutcome::NoResponse => None,
        }));
    }
    let faults = client_faults(&setting);
    raised.extend(faults.iter().flat_map(|fault| fault.expected_responses.iter().filter_map(expected)));
    raised
}

#[test]
fn every_cause_that_is_not_reserved_is_raised_by_a_row_or_a_test() {
    let by_rows = raised_by_rows();
    let unreachable: BTreeSet<&str> = UNREACHABLE.iter().map(|(cause, ..)| *cause).collect();
    let others = Cause::ALL
        .iter()
        .filter(|cause| !cause.is_reserved() && !by_rows.contains(cause.name()))
        .map(|cause| cause.name().to_owned())
        .filter(|name| !unreachable.contains(&**name))
        .collect();
    assert_eq!(wrong(&others, CAUSES, speaks_of_cause), Vec::<String>::new());
    for (cause, why, row) in UNREACHABLE {
        assert!(!by_rows.contains(*cause) && !why.is_empty(), "{cause}");
        let name = Cause::from_name(cause).unwrap();
        assert!(of_row(row).unwrap().contains(&format!("Cause::{name:?}")), "{cause}: {row}");
    }
    for cause in Cause::ALL.iter().filter(|cause| cause.is_reserved()) {
        assert!(!by_rows.contains(cause.name()), "{cause} is reserved, and a row raises it");
    }
}

/// The product's sources on the request path, without what is compiled for tests only.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = std::fs::read_dir(top().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !NOT_THE_REQUEST_PATH.iter().any(|room| path.ends_with(room)))
        .collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.to_string_lossy().ends_with("_tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let product = text.split("\n#[cfg(test)]\n").next().unwrap_or_default().to_owned();
            found.push((path, product));
        }
    }
    found
}

/// Whether this text makes the cause: it names it, and neither compares with it nor matches it.
fn makes(text: &str, cause: Cause) -> bool {
    let name = format!("Cause::{cause:?}");
    text.match_indices(&name).any(|(at, _)| {
        let (before, after) = (text[..at].trim_end(), text[at + name.len()..].trim_start());
        let is_longer = text[at + name.len()..].starts_with(|next: char| next.is_alphanumeric());
        let is_pattern = after.starts_with('|') || after.starts_with("=>") || after.starts_with("if ");
        let is_compared = before.ends_with('|') || before.ends_with("==") || before.ends_with("!=");
        !(is_longer || is_pattern || is_compared)
    })
}

#[test]
fn cause_is_reserved_exactly_when_nothing_on_the_request_path_makes_it() {
    for room in NOT_THE_REQUEST_PATH {
        assert!(top().join("src").join(room).is_dir(), "{room} has another name");
    }
    let sources = sources();
    for cause in Cause::ALL.iter().copied() {
        let by: Vec<_> =
            sources.iter().filter(|(_, text)| makes(text, cause)).map(|(path, _)| path).collect();
        assert_eq!(cause.is_reserved(), by.is_empty(), "{cause} is made by {by:?}");
    }
    assert!(makes("Fault::new(Cause::DnsError, Phase::Connect)", Cause::DnsError));
    let matched = "match cause {\n Cause::DnsError\n | Cause::DnsTimeout => 1, Cause::Draining if x => 2 }";
    for cause in [Cause::DnsError, Cause::DnsTimeout, Cause::Draining] {
        assert!(!makes(matched, cause));
    }
    assert!(!makes("cause == Cause::DnsError && Cause::DnsErrors", Cause::DnsError));
}
