//! The HTTP proxy: from the first byte of a request to the last byte of its response.
//!
//! Start with [`request`], which takes a request through its steps. In the order of a request:
//!
//! - [`connection`] serves an accepted connection: it completes the TLS handshake and reads requests. [`message`] holds
//!   what was read. [`downstream`] is the client side of one request; [`stream_table`] tracks the streams of an HTTP/2
//!   connection.
//! - [`routing`] finds the route. [`access`] checks what denies a request, [`limits`] applies the rate limits.
//!   [`route_edits`] makes the changes that the route declares: header edits, the path, a redirect.
//! - [`attempt`] waits for the client's pinned connection and for a concurrency permit, forwards the request to an
//!   upstream and retries it. [`upload`] sends the request body; [`upstream_conn`] is the upstream side of one request.
//!   [`pinned`] keeps connections that belong to one client.
//! - [`classify`] decides whether the response is forwarded or replaced; [`error_body`] checks the body of an error.
//! - [`respond`] counts, sends and ends every response of the gateway's listeners: [`relay`] forwards a response, with
//!   the fields of [`forwarded_response`], and [`tunnel`] the bytes after a 101. [`local_reply`] sends the responses
//!   that [`reply_builder`] builds. [`header_mutations`] holds the fields that the gateway adds to forwarded responses
//!   and to local replies.
//! - [`record`] updates the metrics and writes the access log.
//!
//! Shared by the steps: [`context`] has the facts and the state of one request, [`gateway`] the state of the process,
//! [`deadlines`] the time limits; [`wait`] measures how long a request waits for its client and its upstream;
//! [`buffered_stream`] is a connection with buffers; [`buffer_budget`] bounds the error bodies in memory;
//! [`request_id`] generates IDs; [`by_protocol`] calls the HTTP/1 or HTTP/2 side. Beside the steps: [`pages`] serves
//! the telemetry pages, and [`preview`] computes responses for `explain`.
//!
//! Only [`relay`] and [`local_reply`] write responses to clients, and only [`tunnel`] writes the bytes after a 101.
//! This module does the I/O, on pingora's streams and timers; which response a client gets is decided in
//! [`crate::contract`].
#![warn(clippy::too_many_lines)]

mod access;
mod attempt;
mod buffer_budget;
mod buffered_stream;
mod by_protocol;
mod classify;
pub(crate) mod connection;
mod context;
mod deadlines;
mod downstream;
mod error_body;
mod error_retry_after;
mod forwarded_response;
mod gateway;
mod header_mutations;
mod limits;
mod local_reply;
mod message;
mod pages;
mod pinned;
mod preview;
mod record;
mod relay;
mod reply_builder;
mod request;
mod request_id;
mod respond;
mod route_edits;
mod routing;
mod stream_table;
mod tunnel;
mod upload;
mod upstream_conn;
mod wait;

pub(crate) use crate::proxy::connection::tracker::ConnectionTracker;
pub(crate) use connection::{ClientSocket, ListenerRole, ListenerService};
pub(crate) use error_body::BodyChange;
pub(crate) use gateway::Gateway;
pub(crate) use limits::headers::RuleResult;
pub(crate) use local_reply::render_h1;
pub(crate) use pages::{PageHandler, PageRequest};
pub(crate) use preview::{CheckedResponse, PreviewedHeaders, SampleResponse};
pub(crate) use respond::{edit_reply, usually_closes_connection};
