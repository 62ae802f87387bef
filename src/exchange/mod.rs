//! The request path: from a client's first byte to the last byte of its answer.
//!
//! Read [`exchange`] first: a request as a straight line. Around it: [`connection`], [`handshake`] and [`connection_h2`]
//! (what comes before a request), [`stream_table`] (which streams an HTTP/2 client has opened), [`open`] (how many connections there are), [`downstream`] with [`client_h1`] and [`client_h2`] (the
//! client), [`peer`] with [`peer_h1`] and [`peer_h2`] (the upstream), [`queue`] (wait for a turn), [`attempt`], [`retry`] and [`upload`] (forward),
//! [`judge`] (pass or replace), [`relay`] and [`door`] (the two places that write to clients), [`tunnel`] (after a 101), [`limits`] (how much is
//! left to whom), [`wait`] (whose time passes), [`replies`], [`sharing`], [`dress`] and [`record`] (what is said and told). The room speaks pingora's
//! streams and timers;
//! what is decided is decided in the rooms below.

mod attempt;
mod client_h1;
mod client_h2;
mod clock;
pub mod connection;
mod connection_h2;
mod door;
mod downstream;
mod dress;
#[expect(clippy::module_inception, reason = "the room and its straight line have one name")]
mod exchange;
mod fields;
mod flow;
mod frames;
mod gateway;
mod handshake;
mod head;
mod inbound;
mod judge;
mod limits;
pub mod open;
mod pages;
mod peer;
mod peer_h1;
mod peer_h2;
mod preview;
mod queue;
mod record;
mod relay;
mod replies;
mod request;
mod request_h2;
mod retry;
mod sharing;
mod stream_table;
mod tunnel;
mod upload;
mod wait;
mod wire;

pub use connection::{ListenerRole, ListenerService};
pub use door::render_h1;
pub use exchange::closes_connection;
pub use gateway::Gateway;
pub use open::ConnectionTracker;
pub use pages::PageHandler;
pub use preview::{RuleResult, preview_response_headers};
