//! The usual circumstances of each cause: its phase, what is known at that point, and how much was sent to the
//! upstream.
//!
//! The request path takes these from the request; `explain` takes them from this table. A test compares `explain` with
//! real responses for every row that can be provoked.

use crate::contract::{Cause, Phase, RequestSent};

/// The usual circumstances of a cause.
#[derive(Clone, Copy, Debug)]
pub(super) struct CauseDefaults {
    /// The phase in which the cause is raised.
    pub(super) phase: Phase,
    /// Whether the request, and so its method, is known at that point.
    pub(super) has_request: bool,
    /// Whether the route is known at that point.
    pub(super) has_route: bool,
    /// How much of the request was sent to the upstream.
    pub(super) request_sent: RequestSent,
    /// A remark for the user.
    pub(super) note: Option<&'static str>,
}

impl CauseDefaults {
    /// For an error response of the upstream.
    pub(super) const FOR_UPSTREAM_RESPONSE: CauseDefaults = CauseDefaults {
        phase: Phase::ResponseHeaders,
        has_request: true,
        has_route: true,
        request_sent: RequestSent::Full,
        note: None,
    };

    /// For this cause. `has_route` selects the phase of causes that are raised both with and without a route.
    pub(super) const fn for_cause(cause: Cause, has_route: bool) -> CauseDefaults {
        let phase = phase(cause, has_route);
        let request_known = !matches!(phase, Phase::RequestHeaders)
            && !matches!(cause, Cause::ConnectionLimitReached | Cause::Draining);
        CauseDefaults {
            phase,
            has_request: request_known,
            has_route: request_known && !matches!(phase, Phase::Route),
            request_sent: default_request_sent(phase),
            note: note(cause, has_route),
        }
    }

    /// Whether the response headers were already sent, so that no error response is possible.
    pub(super) const fn after_headers_sent(&self) -> bool {
        matches!(self.phase, Phase::Relay)
    }
}

const fn phase(cause: Cause, has_route: bool) -> Phase {
    match cause {
        // A request body that is sent too slowly.
        Cause::ClientTooSlow if has_route => Phase::Send,
        _ => cause.usual_phase(),
    }
}

const fn default_request_sent(phase: Phase) -> RequestSent {
    match phase {
        Phase::RequestHeaders | Phase::Route | Phase::Admit | Phase::Connect => RequestSent::None,
        Phase::Send => RequestSent::Partial,
        // How much was sent is not known after a panic.
        Phase::ResponseHeaders | Phase::Relay | Phase::Internal => RequestSent::Full,
    }
}

const fn note(cause: Cause, has_route: bool) -> Option<&'static str> {
    match cause {
        Cause::ClientTooSlow if !has_route => {
            Some("This is for a slow header section; with --route, for a slow body.")
        }
        Cause::AmbiguousPath => Some(
            "This is for a path with dot segments; for other ambiguous paths the connection is also closed.",
        ),
        Cause::HttpProtocolError => {
            Some("After the response headers were sent, the response is truncated instead.")
        }
        _ => None,
    }
}
