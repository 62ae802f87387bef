//! Black-box tests: the real executable on port 0, raw bytes on real sockets, scripted upstreams.
//!
//! A test takes about ten lines: a [`scripted_upstreams`] script, a [`gateway::Gateway`] in front of it, a
//! [`http1_client::Client`] and assertions. Every response is read by the strict [`response_reader`], and every error
//! is checked by [`contract_check`]. The tests do not depend on the gateway's internals.
#![allow(unreachable_pub)] // a test crate exports nothing
#![allow(clippy::disallowed_methods)] // the lints of the request path do not apply to tests
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::print_stderr
)]

mod admission;
mod certificates;
mod chaos_load;
mod contract_check;
mod contracts;
mod gateway;
mod h2_client;
mod h2_upstream;
mod http1_client;
mod load;
mod log;
mod metrics_parser;
mod name_resolution;
mod ntlm_server;
mod prelude;
mod raw_h2_client;
mod redis_relay;
mod redis_server;
mod response_reader;
mod scripted_upstreams;
mod server_chaos;
mod servers;
mod tls_client;
mod tls_server;

mod access_log;
mod base_paths;
mod client_certificates;
mod client_faults;
mod commands;
mod commands_explain;
mod commands_explain_bodies;
mod commands_explain_cases;
mod commands_explain_load;
mod commands_files;
mod connection_authentication;
mod connection_limits;
mod connections;
mod contract_samples;
mod contracts_unrouted;
mod cors;
mod coverage;
mod early_responses;
mod error_bodies;
mod flaky_server;
mod forwarded_fields;
mod forwarding;
mod grpc;
mod http2;
mod http2_flow_control;
mod http2_header_timeouts;
mod http2_health_probes;
mod http2_lingering_close;
mod http2_resets;
mod http2_stream_isolation;
mod http2_upstream;
mod http2_upstream_retries;
mod lifecycle;
mod load_tests;
mod log_output;
mod malformed_requests;
mod memory_limits;
mod metrics_and_logs;
mod no_leaks;
mod overhead;
mod overload;
mod property;
mod proxy_protocol;
mod rate_limit_keys;
mod rate_limits;
mod redis_backend;
mod redis_equivalence;
mod redis_failures;
mod reload;
mod request_sent;
mod request_syntax;
mod resilience;
mod retries;
mod retry_after;
mod route_actions;
mod route_attacks;
mod route_respond;
mod routing_page;
mod slow_clients;
mod slow_clients_h2;
mod streaming;
mod timeouts;
mod tls_files;
mod tls_listener;
mod tls_quality;
mod tls_trust;
mod tls_upstream;
mod truncation;
mod tunnel;
mod unix_sockets;
mod upgrades;
mod uploads;
mod upstream_alpn;
mod upstream_errors;
mod upstream_faults;
mod verify;
