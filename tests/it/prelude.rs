//! What most tests use: the gateway, scripted upstreams, responses, and scaled times.

pub use statusquo::conformance::{Gate, ScriptedUpstream, Step, http_response, write_bytes};

pub use super::gateway::{Gateway, GatewaySetup, TestFolder};
pub use super::http1_client::Client;
pub use super::load::{limit, millis, scaled};
pub use super::response_reader::{HttpResponse, NoResponse, ResponseEnd, SentRequest};
pub use super::scripted_upstreams::{
    by_request, gated_upstream, html_upstream, ok_upstream, refusing_port, script, scripts, static_response,
};
