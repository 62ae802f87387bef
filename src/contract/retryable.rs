//! Whether a client may repeat a request after an error: the member `retryable`.

use http::Method;

use super::causes::Cause;
use super::fault::RequestSent;
use super::policy::Trigger;

/// Whether a client may repeat the unchanged request: the error is temporary, and the request was not sent or its
/// method is idempotent (RFC 9110 9.2.2). For other errors a retry gets the same response.
pub(crate) fn retryable_after(trigger: Trigger, code: u16, sent: RequestSent, method: &Method) -> bool {
    match trigger {
        Trigger::Fault(cause) => {
            (cause.is_upstream_fault() || cause.is_overload() || cause == Cause::RateLimited)
                && (sent == RequestSent::None || method.is_idempotent())
        }
        Trigger::UpstreamStatus(_) => retryable(code, sent, method),
    }
}

/// The same for an upstream's own response, by the code that is sent.
pub fn retryable(code_status: u16, request_sent: RequestSent, method: &Method) -> bool {
    match code_status {
        429 | 502..=504 => request_sent == RequestSent::None || method.is_idempotent(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_is_retryable_by_its_cause() {
        let after = |cause, sent, method: &Method| retryable_after(Trigger::Fault(cause), 500, sent, method);
        assert!(after(Cause::ConnectionRefused, RequestSent::None, &Method::POST));
        assert!(!after(Cause::ConnectionTerminated, RequestSent::Partial, &Method::POST));
        assert!(after(Cause::ConnectionTerminated, RequestSent::Full, &Method::PUT));
        assert!(after(Cause::RateLimited, RequestSent::None, &Method::POST));
        assert!(after(Cause::QueueFull, RequestSent::None, &Method::POST));
        assert!(!after(Cause::DestinationNotFound, RequestSent::None, &Method::GET));
        assert!(!after(Cause::ProxyInternalError, RequestSent::None, &Method::GET));
    }

    #[test]
    fn retryable_depends_on_status_request_sent_and_method() {
        let cases = [
            (429, RequestSent::None, Method::POST, true),
            (429, RequestSent::Full, Method::POST, false),
            (429, RequestSent::Full, Method::PUT, true),
            (503, RequestSent::None, Method::POST, true),
            (503, RequestSent::Partial, Method::POST, false),
            (503, RequestSent::Full, Method::DELETE, true),
            (504, RequestSent::None, Method::PATCH, true),
            (504, RequestSent::Full, Method::PATCH, false),
            (504, RequestSent::Full, Method::GET, true),
            (500, RequestSent::None, Method::GET, false),
            (400, RequestSent::None, Method::GET, false),
            (404, RequestSent::None, Method::GET, false),
        ];
        for (status, sent, method, expected) in cases {
            assert_eq!(retryable(status, sent, &method), expected, "{status} {sent:?} {method}");
        }
    }
}
