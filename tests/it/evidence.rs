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
    ("errors_total", "connections::refused_upstream_keeps_the_client_connection_open"),
    ("aborted_total", "truncation::malformed_chunk_truncates_the_response"),
    ("closed_without_response_total", "slow_clients::lone_empty_line_is_not_counted_as_a_request"),
    (
        "client_disconnects_total",
        "connections::client_disconnect_while_waiting_frees_the_upstream_and_is_counted",
    ),
    ("conformance_total", "error_bodies::conforming_error_is_forwarded_byte_for_byte_without_server_names"),
    ("would_replace_total", "error_bodies::observe_mode_forwards_the_page_and_counts_would_replace"),
    ("grpc_errors_total", "grpc::malformed_grpc_call_gets_a_grpc_status"),
    ("request_duration_seconds", "overhead::overhead_is_the_whole_time_of_requests_that_wait_for_nobody"),
    ("overhead_seconds", "overhead::overhead_counts_every_response_whoever_made_it_and_on_both_protocols"),
    ("requests_in_flight", "overload::request_over_a_full_queue_gets_503_and_never_reaches_the_upstream"),
    ("requests_queued", "overload::queued_upload_arrives_complete"),
    ("concurrency_limit", "overload::request_over_a_full_queue_gets_503_and_never_reaches_the_upstream"),
    ("shed_total", "overload::request_over_a_full_queue_gets_503_and_never_reaches_the_upstream"),
    ("connections", "metrics_and_logs::connections_gauge_counts_open_connections"),
    ("upstream_attempts_total", "retries::refused_connection_is_retried_at_the_next_server_for_any_method"),
    ("upstream_retries_total", "retries::refused_connection_is_retried_at_the_next_server_for_any_method"),
    (
        "upstream_phase_duration_seconds",
        "tls_upstream::valid_certificate_is_accepted_and_tls_connections_are_reused",
    ),
    (
        "upstream_connections_total",
        "tls_upstream::valid_certificate_is_accepted_and_tls_connections_are_reused",
    ),
    ("rate_limit_decisions_total", "rate_limits::shadow_rule_is_counted_and_invisible_to_clients"),
    ("rate_limit_keys", "rate_limits::client_ip_key_groups_ipv6_prefixes_and_skips_exempt_networks"),
    (
        "rate_limit_evictions_total",
        "rate_limits::keys_beyond_the_largest_number_evict_others_and_are_counted",
    ),
    ("rate_limit_store_duration_seconds", "redis_backend::two_gateways_share_one_quota_and_report_it"),
    (
        "rate_limit_store_errors_total",
        "redis_failures::gateway_starts_without_redis_and_uses_it_once_available",
    ),
    ("config_reloads_total", "reload::reload_changes_routes_and_keeps_both_connections"),
    (
        "config_last_reload_successful",
        "reload::invalid_file_is_rejected_entirely_and_the_old_config_stays_active",
    ),
    ("config_last_reload_timestamp_seconds", "reload::reload_changes_routes_and_keeps_both_connections"),
    ("panics_total", "connections::panic_becomes_a_documented_500_and_keeps_the_connection"),
    ("log_lines_dropped_total", "lost_lines::log_lines_that_standard_error_does_not_take_are_counted"),
    ("build_info", "metrics_and_logs::counters_are_exported_at_zero_from_the_start"),
];

/// For every cause that no row of the tables of faults raises, the test that does.
const CAUSES: &[(&str, &str)] = &[
    ("http_request_denied", "forwarding::denied_method_and_disallowed_client_get_403"),
    ("rate_limited", "rate_limits::request_over_the_burst_gets_exactly_this_429"),
    ("proxy_internal_error", "connections::panic_becomes_a_documented_500_and_keeps_the_connection"),
    ("proxy_loop_detected", "forwarding::request_with_our_own_via_is_a_proxy_loop"),
    ("connection_limit_reached", "connections::connection_over_max_connections_gets_503_and_is_closed"),
    ("queue_full", "overload::request_over_a_full_queue_gets_503_and_never_reaches_the_upstream"),
    ("queue_timeout", "overload::queue_timeout_gets_503_in_time"),
    ("limiter_unavailable", "redis_failures::lost_redis_is_handled_by_on_failure"),
    ("resource_exhausted", "overload::streams_without_descriptors_get_503_and_listeners_keep_accepting"),
    ("dns_error", "retries::unresolvable_name_gets_504_and_does_not_prevent_start"),
    ("destination_ip_unroutable", "retries::address_without_a_route_to_it_is_a_504"),
    ("deadline_exceeded", "timeouts::deadline_is_exact_regardless_of_attempt_timeouts"),
];

/// Raised where no request leads: the reason, and the unit test that holds what happens then.
const UNREACHABLE: &[(&str, &str, &str)] = &[(
    "proxy_configuration_error",
    "a server with a name always has authorities to trust",
    "src/upstream/transport.rs::server_with_a_name_and_no_trust_is_a_configuration_error_and_gets_no_byte",
)];

/// Where causes are named without being raised for a request to the gateway: the tables of what they mean, the tables of
/// faults, the commands, and the pages of the telemetry address.
const NOT_THE_REQUEST_PATH: [&str; 4] = ["contract", "conformance", "cli", "admin"];

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
    let good = ("build_info", "metrics_and_logs::counters_are_exported_at_zero_from_the_start");
    assert_eq!(found(&[good]), 1, "no row");
    assert_eq!(found(&[good, ("a_total", "metrics_and_logs::no_such_test")]), 1, "no function");
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
