//! Deployments as operators build them: real web servers behind the gateway, real load balancers in front of it.
//!
//! Applications of Flask and Express, gunicorn, uvicorn, Node, Apache with PHP and nginx are upstreams; nginx and
//! HAProxy are in front. `.ci/packages` installs the packages, `make proof` the Debian programs.
//! `tests/real_traffic.rs` compares pages with and without the gateway.

#![allow(unreachable_pub)] // a test crate exports nothing
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]
#![allow(clippy::print_stderr, clippy::print_stdout)] // prints figures, and program output when a test fails
#![allow(clippy::disallowed_methods)] // tests wait for other programs and read the environment

#[path = "deployments/balancers.rs"]
mod balancers;
#[path = "real_traffic/curl.rs"]
#[allow(dead_code, reason = "shared with tests/real_traffic.rs, which uses all of it")]
mod curl;
#[path = "real_traffic/folder.rs"]
#[allow(dead_code, reason = "shared with tests/real_traffic.rs, which uses all of it")]
mod folder;
#[path = "real_traffic/gateway.rs"]
#[allow(dead_code, reason = "shared with tests/real_traffic.rs, which uses all of it")]
mod gateway;
#[path = "deployments/idle_connections.rs"]
mod idle_connections;
#[path = "it/load.rs"]
#[allow(dead_code)] // each test program uses a different part of it
mod load;
#[path = "deploy/processes.rs"]
mod program;
#[path = "deployments/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "deployments/redirects.rs"]
mod redirects;
#[path = "deployments/servers.rs"]
mod servers;
#[path = "deployments/trace_context.rs"]
mod trace_context;
#[path = "deployments/transcripts.rs"]
mod transcripts;
#[path = "deployments/unix_sockets.rs"]
mod unix_sockets;
