//! The request path: from a client's first byte to the last byte of its answer.
//!
//! Read [`request`] first: a request as a straight line. Around it: [`connection`], [`connection::tls_handshake`] and [`connection::h2`]
//! (what comes before a request), [`stream_table`] (which streams an HTTP/2 client has opened), [`connection::tracker`] (how many connections there are), [`downstream`] with [`downstream::h1`] and [`downstream::h2`] (the
//! client), [`upstream_conn`] with [`upstream_conn::h1`] and [`upstream_conn::h2`] (the upstream), [`attempt::queue`] (wait for a turn), [`attempt`], [`attempt::retry`] and [`upload`] (forward),
//! [`classify`] (pass or replace), [`relay`] and [`local_reply`] (the two places that write to clients), [`tunnel`] (after a 101), [`limits`] (how much is
//! left to whom), [`wait`] (whose time passes), [`reply_builder`], [`response_headers::cors`], [`response_headers`] and [`record`] (what is said and told). The room speaks pingora's
//! streams and timers;
//! what is decided is decided in the rooms below.

mod attempt;
mod buffered_stream;
mod classify;
mod clock;
pub mod connection;
mod context;
mod downstream;
mod gateway;
mod limits;
mod local_reply;
mod message;
mod pages;
mod record;
mod relay;
mod reply_builder;
#[expect(clippy::module_inception, reason = "the room and its straight line have one name")]
mod request;
mod response_headers;
mod stream_table;
mod tunnel;
mod upload;
mod upstream_conn;
mod wait;

pub use crate::proxy::connection::tracker::ConnectionTracker;
pub use crate::proxy::response_headers::preview::{RuleResult, preview_response_headers};
pub use connection::{ListenerRole, ListenerService};
pub use gateway::Gateway;
pub use local_reply::render_h1;
pub use pages::PageHandler;
pub use request::closes_connection;
