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

pub use addresses::{FullBacklog, Refusing};
pub use answers::{Answer, Ended, Unanswered};
pub use clients::{
    Act, Asked, ClientFault, Ending, Expected, Reaches, Setting, client_faults, client_faults_tls,
};
pub use clients_h2::{FrameFault, client_faults_h2};
pub use faults::{Ask, Kind, Message, Outcome, Place, SECRET, UpstreamFault, Why, upstream_faults};
pub use good::{GoodPath, good_paths};
pub use misbehaving::Misbehaving;
pub use record::{Left, Request, Seen, SeenConnection, SeenRequest};
pub use script::{Gate, Script, Step, reply, say};
pub use talk::{Connect, Played, Scene, play};
pub use upstream::{Plan, Upstream};
