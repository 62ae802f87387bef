//! Coverage of the documentation: every metric family has a test that changes it, every cause has a test that raises
//! it.
//!
//! The tables name tests as `file::function`. The checks here assert that the function exists and contains the name of
//! the family or cause; the function itself asserts the behaviour.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use statusquo::conformance::{ClientProtocol, client_faults, upstream_faults};
use statusquo::contract::Cause;
use statusquo::telemetry::definitions;

/// For every metric family, a test that changes it.
const METRICS: &[(&str, &str)] = &[
    ("responses_total", "overhead::overhead_counts_local_and_upstream_responses_on_both_protocols"),
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
    ("request_duration_seconds", "overhead::overhead_equals_the_duration_of_requests_that_never_wait"),
    ("overhead_seconds", "overhead::overhead_counts_local_and_upstream_responses_on_both_protocols"),
    ("requests_in_flight", "overload::request_over_a_full_queue_gets_503_and_never_reaches_the_upstream"),
    ("requests_queued", "overload::queued_upload_arrives_complete"),
    ("concurrency_limit", "overload::request_over_a_full_queue_gets_503_and_never_reaches_the_upstream"),
    ("upstream_server_up", "servers::server_that_accepts_no_connection_costs_no_request_and_is_ejected"),
    ("upstream_server_state", "servers::server_that_accepts_no_connection_costs_no_request_and_is_ejected"),
    ("breaker_state", "servers::open_breaker_refuses_with_503_and_closes_after_a_trial"),
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
    ("rate_limit_evictions_total", "rate_limits::evictions_are_counted_when_keys_exceed_the_maximum"),
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
    ("config_hash_info", "reload::config_hash_changes_with_the_values_of_the_file"),
    (
        "tls_certificate_expiry_timestamp_seconds",
        "tls_listener::expiry_of_every_certificate_name_is_exported_and_follows_a_reload",
    ),
    (
        "details_dropped_total",
        "contracts::details_and_oauth_types_of_the_upstream_are_kept_and_dropped_texts_are_counted",
    ),
    ("panics_total", "connections::panic_becomes_a_documented_500_and_keeps_the_connection"),
    ("log_lines_dropped_total", "log_output::log_lines_are_counted_when_standard_error_is_not_writable"),
    ("build_info", "metrics_and_logs::counters_are_exported_at_zero_from_the_start"),
];

/// For every cause that no row of the fault tables raises, a test that raises it.
const CAUSES: &[(&str, &str)] = &[
    ("method_not_allowed", "forwarding::method_of_no_matching_route_gets_an_allow_header"),
    ("http_request_denied", "forwarding::denied_method_and_disallowed_client_get_403"),
    ("maintenance", "route_actions::maintenance_is_a_documented_503_and_no_upstream_failure"),
    ("route_response", "route_respond::declared_error_is_the_documented_one_with_cause_route_response"),
    ("rate_limited", "rate_limits::request_over_the_burst_gets_the_documented_429"),
    ("proxy_internal_error", "connections::panic_becomes_a_documented_500_and_keeps_the_connection"),
    ("proxy_loop_detected", "forwarding::request_with_our_own_via_is_a_proxy_loop"),
    ("connection_limit_reached", "connections::connection_over_max_connections_gets_503_and_is_closed"),
    ("breaker_open", "servers::open_breaker_refuses_with_503_and_closes_after_a_trial"),
    (
        "destination_unavailable",
        "servers::upstream_without_a_healthy_server_gets_503_destination_unavailable_with_retry_after",
    ),
    ("queue_full", "overload::request_over_a_full_queue_gets_503_and_never_reaches_the_upstream"),
    ("queue_timeout", "overload::queue_timeout_gets_503_in_time"),
    ("limiter_unavailable", "redis_failures::lost_redis_is_handled_by_on_failure"),
    ("resource_exhausted", "overload::streams_without_descriptors_get_503_and_listeners_keep_accepting"),
    ("dns_error", "retries::unresolvable_name_gets_504_and_does_not_prevent_start"),
    ("dns_timeout", "name_resolution::silent_name_server_gets_504_dns_timeout_and_recovers"),
    ("destination_ip_unroutable", "retries::unroutable_address_gets_504"),
    ("deadline_exceeded", "timeouts::deadline_is_exact_regardless_of_attempt_timeouts"),
];

/// Causes that no request can raise: the reason, and the unit test that covers the code path.
const UNREACHABLE: &[(&str, &str, &str)] = &[(
    "proxy_configuration_error",
    "a server with a name always has trusted authorities",
    "src/upstream/transport.rs::tls_server_without_verification_is_an_error_and_receives_no_byte",
)];

/// Source directories that name causes without raising them for a request: the contract tables, the fault tables, the
/// commands and the pages of the telemetry listener.
const OFF_REQUEST_PATH: [&str; 4] = ["contract", "conformance", "cli", "admin"];

fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The source of the test `name`, from its name to the end of its body.
fn test_source<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    // Other attributes may follow `#[test]`.
    let start = source.find(&format!("fn {name}("))?;
    let attributes = source[..start].rsplit("\n\n").next()?;
    if !attributes.contains("test]\n") {
        return None;
    }
    let body = &source[start..];
    Some(body.split_once("\n}\n").map_or(body, |(body, _)| body))
}

/// The source of the test that a row names.
fn row_source(row: &str) -> Result<String, String> {
    let (file, name) = row.split_once("::").ok_or("not file::function")?;
    let path = if file.ends_with(".rs") { file.to_owned() } else { format!("tests/it/{file}.rs") };
    let source =
        std::fs::read_to_string(repository_root().join(&path)).map_err(|error| format!("{path}: {error}"))?;
    test_source(&source, name).map(str::to_owned).ok_or_else(|| format!("{path} has no test {name}"))
}

/// Problems of a table: it must have a row for each of `all`, and each row must name a test that contains its name.
fn table_problems(
    all: &BTreeSet<String>,
    rows: &[(&str, &str)],
    mentions: fn(&str, &str) -> bool,
) -> Vec<String> {
    let named: BTreeSet<String> = rows.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing = all.difference(&named).map(|name| format!("{name}: no test covers it"));
    let unknown = named.difference(all).map(|name| format!("{name}: does not exist"));
    let invalid = rows.iter().filter_map(|(name, row)| match row_source(row) {
        Ok(body) => (!mentions(&body, name)).then(|| format!("{name}: {row} does not mention it")),
        Err(error) => Some(format!("{name}: {error}")),
    });
    missing.chain(unknown).chain(invalid).collect()
}

fn mentions_family(body: &str, family: &str) -> bool {
    ["", "_count", "_sum", "_bucket"].iter().any(|suffix| body.contains(&format!("\"{family}{suffix}\"")))
}

fn mentions_cause(body: &str, cause: &str) -> bool {
    body.contains(&format!("\"{cause}\""))
}

#[test]
fn metric_families_all_have_a_test_that_changes_them() {
    let families = definitions::ALL.iter().map(|row| row.name.to_owned()).collect();
    assert_eq!(table_problems(&families, METRICS, mentions_family), Vec::<String>::new());
}

#[test]
fn coverage_check_reports_missing_rows_and_missing_tests() {
    let all = ["a_total", "build_info"].map(str::to_owned).into();
    let problem_count = |rows: &[(&str, &str)]| table_problems(&all, rows, mentions_family).len();
    let valid = ("build_info", "metrics_and_logs::counters_are_exported_at_zero_from_the_start");
    assert_eq!(problem_count(&[valid]), 1, "missing row");
    assert_eq!(problem_count(&[valid, ("a_total", "metrics_and_logs::no_such_test")]), 1, "missing test");
    assert_eq!(problem_count(&[valid, ("a_total", "no_such_file::test")]), 1, "missing file");
    assert_eq!(problem_count(&[valid, ("a_total", valid.1)]), 1, "a test that does not mention it");
    assert_eq!(problem_count(&[valid, ("a_total", valid.1), ("b_total", valid.1)]), 3, "unknown family");
}

/// Every cause that a case of the conformance suite raises.
fn raised_by_rows() -> BTreeSet<String> {
    let mut raised: BTreeSet<String> =
        upstream_faults().iter().map(|fault| fault.expect.outcome.cause_name().to_owned()).collect();
    let client_faults = [ClientProtocol::Http1, ClientProtocol::Http2].map(client_faults).concat();
    for fault in &client_faults {
        for expected in &fault.expected {
            raised.extend(expected.error_cause().map(|cause| cause.name().to_owned()));
            raised.extend(expected.aborted_cause().map(str::to_owned));
        }
    }
    raised
}

#[test]
fn unreserved_causes_are_all_raised_by_a_fault_row_or_a_test() {
    let by_rows = raised_by_rows();
    let unreachable: BTreeSet<&str> = UNREACHABLE.iter().map(|(cause, ..)| *cause).collect();
    let others = Cause::ALL
        .iter()
        .filter(|cause| !cause.is_reserved() && !by_rows.contains(cause.name()))
        .map(|cause| cause.name().to_owned())
        .filter(|name| !unreachable.contains(&**name))
        .collect();
    assert_eq!(table_problems(&others, CAUSES, mentions_cause), Vec::<String>::new());
    for (cause, why, row) in UNREACHABLE {
        assert!(!by_rows.contains(*cause) && !why.is_empty(), "{cause}");
        let name = Cause::from_name(cause).unwrap();
        assert!(row_source(row).unwrap().contains(&format!("Cause::{name:?}")), "{cause}: {row}");
    }
    for cause in Cause::ALL.iter().filter(|cause| cause.is_reserved()) {
        assert!(!by_rows.contains(cause.name()), "{cause} is reserved but a row raises it");
    }
}

/// The sources of the request path, without code that is compiled for tests only.
fn sources() -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    let mut open: Vec<PathBuf> = std::fs::read_dir(repository_root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !OFF_REQUEST_PATH.iter().any(|folder| path.ends_with(folder)))
        .collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.to_string_lossy().ends_with("_tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let product = text.split("\n#[cfg(test)]\n").next().unwrap_or_default().to_owned();
            sources.push((path, product));
        }
    }
    sources
}

/// Whether this source raises the cause: it names it outside of a pattern and a comparison.
fn raises(text: &str, cause: Cause) -> bool {
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
fn cause_is_reserved_only_if_the_request_path_never_raises_it() {
    for folder in OFF_REQUEST_PATH {
        assert!(repository_root().join("src").join(folder).is_dir(), "src/{folder} does not exist");
    }
    let sources = sources();
    for cause in Cause::ALL.iter().copied() {
        let raised_in: Vec<_> =
            sources.iter().filter(|(_, text)| raises(text, cause)).map(|(path, _)| path).collect();
        assert_eq!(cause.is_reserved(), raised_in.is_empty(), "{cause} is raised by {raised_in:?}");
    }
    assert!(raises("Fault::new(Cause::DnsError, Phase::Connect)", Cause::DnsError));
    let matched = "match cause {\n Cause::DnsError\n | Cause::DnsTimeout => 1, Cause::Draining if x => 2 }";
    for cause in [Cause::DnsError, Cause::DnsTimeout, Cause::Draining] {
        assert!(!raises(matched, cause));
    }
    assert!(!raises("cause == Cause::DnsError && Cause::DnsErrors", Cause::DnsError));
}
