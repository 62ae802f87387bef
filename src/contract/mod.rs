//! The error contract: documented codes, causes, the policy that maps causes to codes, and local replies.
//!
//! This module is pure: it does not use pingora, tokio, tracing, prometheus, the clock, files or the environment. A
//! test checks its sources for this.
//!
//! Reading order: [`causes`] (the table of what can fail), [`fault`] (one failure), [`code`] (which status codes may be
//! sent), [`policy`] (which code is sent), [`conform`] and [`extract`] (which parts of an upstream error are
//! forwarded), [`reply`] (the response itself). [`template`] is the form of a body: it renders and checks bodies, and
//! adds members. Supporting modules: [`builtin`] has the documented codes as data, [`declaration`] is an operator's
//! contract, [`text`] and [`types`] say what may be sent, [`header_filter`] filters response header fields, [`json`]
//! reads and [`body`] writes JSON, [`decode`] decodes compressed error bodies within a size limit.

pub(crate) mod body;
pub(crate) mod builtin;
pub mod causes;
pub(crate) mod code;
pub mod conform;
pub(crate) mod declaration;
mod declaration_check;
pub(crate) mod decode;
pub mod extract;
pub(crate) mod fault;
pub(crate) mod forwarded_error;
pub(crate) mod grpc;
pub(crate) mod grpc_status;
pub(crate) mod header_filter;
pub(crate) mod json;
pub(crate) mod page_response;
pub(crate) mod path;
mod phase;
pub(crate) mod policy;
pub(crate) mod reply;
pub(crate) mod retryable;
pub(crate) mod route_response;
pub(crate) mod template;
pub mod text;
pub(crate) mod types;

pub use body::Include;
pub(crate) use causes::preferences_for_upstream;
pub use causes::{Cause, RetryRule};
pub use code::{CodeDeclaration, CodeEntry, Contract, ContractProblem, Declaration, DocumentedCode};
pub use conform::{Conformance, ErrorBody, UpstreamMessages};
pub use declaration::{BodyForm, CauseDeclaration, Constants, Owner};
pub use decode::{ContentCoding, DecodeError};
pub use extract::{ExtractedError, Extraction};
pub(crate) use fault::EXCERPT_LIMIT;
pub use fault::{Evidence, Fault, RequestSent};
pub use header_filter::HeaderFilterContext;
pub use page_response::PageResponse;
pub use path::JsonPath;
pub use phase::Phase;
pub use policy::{Decision, Matcher, Override, Overrides, PolicyInput, PolicyRule, Trigger, decide};
pub use reply::{BodyFormat, LocalReply, ReplyContext, compose};
pub use retryable::retryable;
pub use route_response::{FixedResponse, FixedStatus, RedirectStatus};
pub(crate) use template::placeholder_names;
pub use template::presets::Preset;
pub use template::{DeclaredValue, TemplateProblem, TemplateSource, ValueType};

#[cfg(test)]
mod golden_tests;
