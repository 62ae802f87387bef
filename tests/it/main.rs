//! Black-box tests: the real executable on port 0, raw bytes on real sockets, scripted upstreams.
//!
//! A scenario is ten lines: an [`upstreams`] script, a [`gateway::Gateway`] before it, a [`client::Client`] that asks, and
//! what must be true. Every response goes through the one strict [`reader`], every error is held to the [`promise`]. What
//! the gateway looks like inside is not known here.
#![allow(clippy::disallowed_methods)] // the rules of the request path are not those of its tests
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::print_stderr
)]

mod certificates;
mod client;
mod gateway;
mod h2_client;
mod h2_upstream;
mod load;
mod log;
mod promise;
mod reader;
mod redis_relay;
mod redis_server;
mod telemetry;
mod tls_client;
mod tls_server;
mod upstreams;

mod accounts;
mod alpn;
mod assurance;
mod attacked;
mod attacked_h2;
mod clients;
mod clients_h2;
mod clients_tls;
mod commands;
mod commands_explain;
mod commands_explain_load;
mod commands_files;
mod connection_authentication;
mod connections;
mod cors;
mod early_answers;
mod error_bodies;
mod evidence;
mod forwarding;
mod grpc;
mod hostile;
mod http2;
mod http2_faults;
mod http2_flow;
mod http2_keeping;
mod http2_resets;
mod http2_stalled;
mod http2_upstream;
mod lifecycle;
mod limit_keys;
mod limits;
mod load_tests;
mod lost_lines;
mod malformed;
mod matrix;
mod overhead;
mod overload;
mod rehearsal;
mod reload;
mod retries;
mod secrets;
mod sent;
mod store_agrees;
mod stores;
mod stores_ail;
mod streaming;
mod timeouts;
mod tls_files;
mod tls_listener;
mod tls_quality;
mod tls_upstream;
mod truncation;
mod tunnel;
mod uploads;
