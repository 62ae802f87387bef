//! The phases of request processing, for the log and the table of causes.

/// The phase of request processing in which a fault occurred. For the log only; the status code does not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reading the request headers.
    RequestHeaders,
    /// Choosing the route.
    Route,
    /// Admission: rate limits, concurrency limits, circuit breaker.
    Admit,
    /// Selecting a server and connecting to it.
    Connect,
    /// Sending the request.
    Send,
    /// Waiting for the response headers.
    ResponseHeaders,
    /// Relaying the body after the response headers were sent.
    Relay,
    /// Anywhere in the gateway: a panic was caught.
    Internal,
}

impl Phase {
    /// The name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::RequestHeaders => "request_headers",
            Phase::Route => "route",
            Phase::Admit => "admit",
            Phase::Connect => "connect",
            Phase::Send => "send",
            Phase::ResponseHeaders => "response_headers",
            Phase::Relay => "relay",
            Phase::Internal => "internal",
        }
    }
}
