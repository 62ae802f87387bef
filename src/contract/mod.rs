//! What we promise: codes, causes, the policy that joins them, and the replies made of them.
//!
//! This room is pure: it knows no pingora, tokio, tracing, prometheus, clock, file or environment, and a test reads its
//! sources to hold that. Start with [`fault`] (what can go wrong), then [`code`] (what may be answered), [`policy`]
//! (which answer), [`conform`] and [`extract`] (what of an upstream's error may pass) and [`reply`] (the answer itself). Beside them:
//! [`builtin`] is the documented page as data, [`declaration`] what can be wrong with an operator's own, [`text`] the rule for texts that leave, [`header_filter`] the rules for response
//! fields, [`body`] the JSON writer, [`decode`] the bounded decoders of coded error bodies.

pub mod body;
pub mod builtin;
pub mod code;
pub mod conform;
pub mod declaration;
pub mod decode;
pub mod extract;
pub mod fault;
pub mod grpc;
pub mod header_filter;
pub mod page_response;
pub mod policy;
pub mod reply;
pub mod text;

pub use body::{Include, retryable};
pub use code::{CodeDeclaration, CodeEntry, Contract, ContractProblem, Declaration, DocumentedCode};
pub use conform::{Conformance, ErrorBody, ExtractedError, UpstreamMessages};
pub use decode::{ContentCoding, DecodeError};
pub use fault::{Cause, EXCERPT_LIMIT, Evidence, Fault, Phase, RequestSent};
pub use header_filter::HeaderFilterContext;
pub use page_response::PageResponse;
pub use policy::{Decision, Matcher, Override, Overrides, PolicyInput, PolicyRule, Trigger, decide};
pub use reply::{ErrorOrigin, LocalReply, ReplyContext, compose};

#[cfg(test)]
mod golden_tests;
