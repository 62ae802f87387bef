//! The error contract: documented codes, causes, the policy that maps causes to codes, and local replies.
//!
//! This module is pure: it does not use pingora, tokio, tracing, prometheus, the clock, files or the environment. A
//! test checks its sources for this.
//!
//! Reading order: [`causes`] (the table of what can fail), [`fault`] (one failure), [`code`] (which status codes may be sent), [`policy`] (which code is
//! sent), [`conform`] and [`extract`] (which parts of an upstream error are forwarded), [`reply`] (the response
//! itself). Supporting modules: [`builtin`] has the documented codes as data, [`declaration`] validates an operator's
//! contract, [`text`] validates messages, [`header_filter`] filters response header fields, [`body`] writes JSON,
//! [`decode`] decodes compressed error bodies within a size limit.

pub(crate) mod body;
pub(crate) mod builtin;
pub mod causes;
pub(crate) mod code;
pub mod conform;
pub(crate) mod declaration;
pub(crate) mod decode;
pub mod extract;
pub(crate) mod fault;
pub(crate) mod grpc;
pub(crate) mod grpc_status;
pub(crate) mod header_filter;
pub(crate) mod page_response;
mod phase;
pub(crate) mod policy;
pub(crate) mod reply;
pub mod text;

pub use body::{Include, retryable};
pub use causes::{Cause, RetryRule};
pub use code::{CodeDeclaration, CodeEntry, Contract, ContractProblem, Declaration, DocumentedCode};
pub use conform::{Conformance, ErrorBody, UpstreamMessages};
pub use decode::{ContentCoding, DecodeError};
pub use extract::ExtractedError;
pub use fault::{EXCERPT_LIMIT, Evidence, Fault, RequestSent};
pub use header_filter::HeaderFilterContext;
pub use page_response::PageResponse;
pub use phase::Phase;
pub use policy::{Decision, Matcher, Override, Overrides, PolicyInput, PolicyRule, Trigger, decide};
pub use reply::{ErrorOrigin, LocalReply, ReplyContext, compose};

#[cfg(test)]
mod golden_tests;
