//! The misbehaving upstream and the misbehaving client: everything that can go wrong around a gateway, on purpose and byte
//! for byte.
//!
//! The upstream plays [`script`]s on plain sockets and records what it received, so that a test can say "the upstream saw this
//! request once". It knows nothing of the gateway that is in front of it, of its configuration or of pingora; from our
//! own house it takes only the names of causes, so that a fault and its expected outcome stand in one row.
//!
//! Reading order: [`script`] (the language), [`upstream`] (a listener that speaks it), [`upstream_h2`] (the same in HTTP/2),
//! [`record`] (what was received), [`addresses`] (servers that are not there), [`tls`] (certificates that are not good),
//! [`faults`] (the table), [`misbehaving`] (all of it behind a few addresses, for `demo`). `play` and `wire` are the machinery. On the other side: [`clients`] (the table of what clients do), [`talk`]
//! (who does it), [`mod@line`] (the connection, plain or in TLS), [`answers`] (a strict reader of what comes back), [`promise`] (what an error must be); in frames of HTTP/2
//! [`clients_h2`] and [`talk_h2`], on [`frames`] and [`hpack`].

pub mod addresses;
pub mod answers;
pub mod clients;
pub mod clients_h2;
pub mod faults;
pub mod frames;
pub mod good;
pub mod hpack;
pub mod line;
pub mod misbehaving;
pub mod page;
pub mod promise;
pub mod record;
pub mod script;
pub mod talk;
pub mod talk_h2;
pub mod tls;
pub mod upstream;
pub mod upstream_h2;

mod page_clients;
mod page_clients_h2;
mod play;
mod wire;

pub use addresses::{FullBacklog, RefusingPort};
pub use answers::{BodyEnd, ReadError, ReceivedResponse};
pub use clients::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, GatewayProfile, RequestKind, UpstreamSaw,
    client_faults, client_faults_tls,
};
pub use clients_h2::{H2ClientFault, client_faults_h2};
pub use faults::{
    ExpectedMessage, FaultCategory, FaultOutcome, FaultRequest, INTERNAL_HOSTNAME, ReplyReason, ServerKind,
    UpstreamFault, upstream_faults,
};
pub use good::{SuccessRoute, success_routes};
pub use misbehaving::FaultyUpstream;
pub use record::{PeerClose, RecordedConnection, RecordedHead, RecordedRequest, Recording};
pub use script::{Gate, Script, UpstreamStep, http_response, write_bytes};
pub use talk::{GatewayConnector, RunResult, TestContext, run_client_fault};
pub use upstream::{ScriptSource, ScriptedUpstream};
