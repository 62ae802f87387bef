//! The table of upstream faults: what the upstream does, and exactly what should come of it.
//!
//! One row per fault, told once for tests, `demo`, `rehearse` and the documentation. A row says what is sent on the wire
//! and what the contract demands; it does not know how a gateway gets there. Codes are plain numbers here: this table is
//! the expectation that the policy is held against, so it must not be computed by the policy.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::contract::{Cause, RequestSent};

use super::script::{Script, Step, reply, say};

/// One way in which an upstream breaks.
#[derive(Clone, Debug)]
pub struct UpstreamFault {
    /// Stable name; `/NAME` is the path under which the misbehaving upstream plays it.
    pub name: &'static str,
    /// What happens, in one line.
    pub meaning: &'static str,
    /// Which kind of address it happens at.
    pub place: Place,
    /// What a scripted address plays; empty elsewhere.
    pub script: Script,
    /// What the client gets.
    pub outcome: Outcome,
    /// Which message is in a replaced body.
    pub message: Message,
    /// Fields of the upstream that must reach the client.
    pub keeps: &'static [(&'static str, &'static str)],
    /// The least that may be said about the request having reached the upstream; saying more is true as well.
    pub sent_at_least: RequestSent,
}

/// Which kind of server plays a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One that reads the request and plays the script.
    Scripted,
    /// One that accepts and closes without reading.
    Closing,
    /// A port that refuses.
    Refusing,
    /// A port whose backlog is full.
    FullBacklog,
}

impl Place {
    /// Every place.
    pub const ALL: [Place; 4] = [Place::Scripted, Place::Closing, Place::Refusing, Place::FullBacklog];

    /// The name of its upstream in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Place::Scripted => "misbehaving",
            Place::Closing => "closing",
            Place::Refusing => "refusing",
            Place::FullBacklog => "full",
        }
    }
}

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new body under this code.
    Answered {
        /// The status.
        code: u16,
        /// The reason that is counted and logged.
        why: Why,
    },
    /// The upstream's own response as received.
    Passed {
        /// The status.
        code: u16,
    },
    /// The head has left; the message is visibly cut.
    Aborted {
        /// The status that had left.
        code: u16,
        /// The cause that is counted.
        cause: Cause,
    },
}

impl Outcome {
    /// The status that the client sees.
    pub const fn code(self) -> u16 {
        match self {
            Outcome::Answered { code, .. } | Outcome::Passed { code } | Outcome::Aborted { code, .. } => code,
        }
    }

    /// The value of the label `cause`.
    pub const fn cause_name(self) -> &'static str {
        match self {
            Outcome::Answered { why: Why::Fault(cause), .. } | Outcome::Aborted { cause, .. } => cause.name(),
            Outcome::Answered { why: Why::Status(_), .. } | Outcome::Passed { .. } => "upstream_response",
        }
    }
}

/// Why an answer was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing usable came.
    Fault(Cause),
    /// The upstream answered this status.
    Status(u16),
}

/// Which message stands in a replaced body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The contract's text of the code.
    OfTheCode,
    /// The upstream's own.
    Kept(&'static str),
}

impl UpstreamFault {
    /// The path under which it is played.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    fn keeping(mut self, message: &'static str) -> Self {
        self.message = Message::Kept(message);
        self
    }

    fn with_fields(mut self, keeps: &'static [(&'static str, &'static str)]) -> Self {
        self.keeps = keeps;
        self
    }
}

/// The whole table, in the order in which it is shown: from the connection to the end of the body.
pub fn upstream_faults() -> Vec<UpstreamFault> {
    [connecting(), response_heads(), error_statuses(), error_bodies(), bodies_cut()].concat()
}

fn connecting() -> Vec<UpstreamFault> {
    let at = |name, meaning, place, cause| {
        let outcome = Outcome::Answered { code: 504, why: Why::Fault(cause) };
        UpstreamFault {
            place,
            script: Script::new(),
            sent_at_least: RequestSent::None,
            ..row(name, meaning, outcome)
        }
    };
    vec![
        at("refused", "nothing listens on the port", Place::Refusing, Cause::ConnectionRefused),
        at(
            "connect-timeout",
            "the connection attempt gets no answer",
            Place::FullBacklog,
            Cause::ConnectionTimeout,
        ),
        at(
            "accept-close",
            "the connection is accepted and closed",
            Place::Closing,
            Cause::ConnectionTerminated,
        ),
    ]
}

fn response_heads() -> Vec<UpstreamFault> {
    const HALF_A_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-le";
    let fault = |name, meaning, cause, steps: Vec<Step>| UpstreamFault {
        script: after_the_head(steps),
        ..row(name, meaning, Outcome::Answered { code: 504, why: Why::Fault(cause) })
    };
    let drip = |bytes: String| Step::Drip { bytes: bytes.into(), every: Duration::from_millis(40) };
    let padding = "x-padding: 0123456789\r\n";
    vec![
        fault(
            "close-before-head",
            "reads the request and closes",
            Cause::ConnectionTerminated,
            vec![Step::Close],
        ),
        fault(
            "reset-before-head",
            "reads the request and resets",
            Cause::ConnectionTerminated,
            vec![Step::Reset],
        ),
        fault(
            "close-in-head",
            "closes inside its response head",
            Cause::ConnectionTerminated,
            vec![say(HALF_A_HEAD), Step::Close],
        ),
        fault(
            "reset-in-head",
            "resets inside its response head",
            Cause::ConnectionTerminated,
            vec![say(HALF_A_HEAD), Step::Reset],
        ),
        fault("hang", "reads the request and never answers", Cause::HttpResponseTimeout, vec![Step::Hang]),
        fault(
            "hang-in-head",
            "falls silent inside its response head",
            Cause::HttpResponseTimeout,
            vec![say(HALF_A_HEAD), Step::Hang],
        ),
        fault(
            "dripped-head",
            "sends its response head one byte at a time",
            Cause::HttpResponseTimeout,
            vec![drip(format!("HTTP/1.1 200 OK\r\n{}\r\n", padding.repeat(200)))],
        ),
        fault(
            "garbage",
            "answers with something that is not HTTP",
            Cause::HttpProtocolError,
            vec![say("220 mail.internal ESMTP ready\r\n250 at your service\r\n\r\n"), Step::Close],
        ),
        fault(
            "status-999",
            "answers with an impossible status",
            Cause::HttpProtocolError,
            vec![say("HTTP/1.1 999 Ready\r\ncontent-length: 0\r\n\r\n")],
        ),
        fault(
            "unsolicited-101",
            "switches protocols unasked",
            Cause::HttpProtocolError,
            vec![
                say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
                Step::Hang,
            ],
        ),
        fault(
            "two-lengths",
            "gives two different Content-Lengths",
            Cause::HttpProtocolError,
            vec![
                say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\nhello, "),
                Step::Close,
            ],
        ),
        fault(
            "folded-field",
            "folds a field over two lines",
            Cause::HttpProtocolError,
            vec![say("HTTP/1.1 200 OK\r\nx-note: one\r\n two\r\ncontent-length: 0\r\n\r\n"), Step::Close],
        ),
        fault(
            "oversized-head",
            "sends a response head of two megabytes",
            Cause::HttpResponseHeaderSectionSize,
            vec![
                say("HTTP/1.1 200 OK\r\n"),
                Step::Repeat { bytes: padding.repeat(1000).into(), times: 100, every: Duration::ZERO },
                say("\r\n"),
                Step::Hang,
            ],
        ),
    ]
}

fn error_statuses() -> Vec<UpstreamFault> {
    const HTML: &str = "<html><body><h1>It broke</h1><hr>apache/2.4 on db-7.internal</body></html>";
    let status = |name, meaning, line: &str, code| {
        let head = format!("{line}\ncontent-type: text/html\nserver: apache/2.4\nx-powered-by: PHP/8.3");
        answered(name, meaning, status_of(line), code, vec![Step::Write(reply(&head, HTML))])
    };
    let with = |name, meaning, line: &str, field: &str, code| {
        let head = format!("{line}\ncontent-type: text/html\n{field}");
        answered(name, meaning, status_of(line), code, vec![Step::Write(reply(&head, HTML))])
    };
    vec![
        status("html-500", "an HTML error page, 500", "500 Internal Server Error", 500),
        status("html-502", "an HTML error page, 502", "502 Bad Gateway", 504),
        status("html-503", "an HTML error page, 503", "503 Service Unavailable", 503),
        status("html-404", "an HTML error page, 404", "404 Not Found", 404),
        status("payment-required", "402, which is not documented", "402 Payment Required", 403),
        status("method-not-allowed", "405, which is not documented", "405 Method Not Allowed", 400),
        status("request-timeout", "408, which clients would repeat", "408 Request Timeout", 504),
        status("gone", "410, which is not documented", "410 Gone", 404),
        status("precondition-failed", "412, which is not documented", "412 Precondition Failed", 409),
        status("teapot", "418, which is not documented", "418 I'm a teapot", 400),
        status("not-implemented", "501, which is not documented", "501 Not Implemented", 500),
        status("bandwidth", "509, which is nobody's standard", "509 Bandwidth Limit Exceeded", 503),
        status(
            "cdn-520",
            "520, from a content delivery network",
            "520 Web Server Returned an Unknown Error",
            504,
        ),
        with(
            "login-page",
            "401 with a challenge",
            "401 Unauthorized",
            "www-authenticate: Bearer realm=\"shop\"",
            401,
        )
        .with_fields(&[("www-authenticate", "Bearer realm=\"shop\"")]),
        with("slow-down", "429 with a Retry-After", "429 Too Many Requests", "retry-after: 7", 429)
            .with_fields(&[("retry-after", "7")]),
        with(
            "maintenance",
            "503 with a senseless Retry-After",
            "503 Service Unavailable",
            "retry-after: soon",
            503,
        ),
    ]
}

fn error_bodies() -> Vec<UpstreamFault> {
    const JSON: &str = "content-type: application/json";
    let body = |name, meaning, line: &str, body: &[u8]| {
        let steps = vec![Step::Write(reply(&format!("{line}\n{JSON}"), body))];
        answered(name, meaning, status_of(line), status_of(line), steps)
    };
    let steps = |name, meaning, steps| answered(name, meaning, 500, 500, steps);
    let gzipped = format!("404 Not Found\n{JSON}\ncontent-encoding: gzip");
    let conforming = r#"{"message":"Order 7 does not exist.","code":404}"#;
    vec![
        UpstreamFault {
            outcome: Outcome::Passed { code: 404 },
            ..body(
                "conforming-404",
                "a documented error in the documented shape",
                "404 Not Found",
                conforming.as_bytes(),
            )
        },
        body(
            "other-json",
            "JSON of another shape, with a message",
            "404 Not Found",
            br#"{"error":{"message":"No order has this number.","trace":"orders.rb:17"},"ok":false}"#,
        )
        .keeping("No order has this number."),
        body(
            "stack-trace",
            "JSON with a stack trace in it",
            "500 Internal Server Error",
            br#"{"message":"NullPointerException at com.shop.Orders.find(Orders.java:42)","sql":"SELECT 1"}"#,
        ),
        body(
            "wrong-code",
            "JSON whose code is not its status",
            "409 Conflict",
            br#"{"message":"The order has been paid.","code":1062}"#,
        )
        .keeping("The order has been paid."),
        body("not-json", "claims JSON and is not", "400 Bad Request", b"{'message': 'single quotes'}"),
        body("empty-error", "an error without a body", "500 Internal Server Error", b""),
        answered(
            "gzip-error",
            "a compressed error of another shape",
            404,
            404,
            vec![Step::Write(reply(&gzipped, gzip(br#"{"detail":"This page is in the archive."}"#)))],
        )
        .keeping("This page is in the archive."),
        steps(
            "endless-error",
            "an error body that never ends",
            vec![
                say(
                    "HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n",
                ),
                Step::Repeat {
                    bytes: "10\r\n0123456789abcde\n\r\n".into(),
                    times: u64::MAX,
                    every: Duration::ZERO,
                },
            ],
        ),
        steps(
            "stalled-error",
            "an error body that falls silent",
            vec![
                say(
                    "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{\"mess",
                ),
                Step::Hang,
            ],
        ),
        steps(
            "cut-error",
            "an error body cut short",
            vec![
                say(
                    "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{\"mess",
                ),
                Step::Close,
            ],
        ),
    ]
}

fn bodies_cut() -> Vec<UpstreamFault> {
    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n9\r\nfirst and\r\n";
    const LENGTH: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\nfirst and";
    let cut = |name, meaning, cause, steps: Vec<Step>| {
        let outcome = Outcome::Aborted { code: 200, cause };
        UpstreamFault { script: after_the_head(steps), ..row(name, meaning, outcome) }
    };
    let incomplete = Cause::HttpResponseIncomplete;
    vec![
        cut("cut-body", "closes before its Content-Length", incomplete, vec![say(LENGTH), Step::Close]),
        cut("cut-chunked", "closes before its last chunk", incomplete, vec![say(CHUNKED), Step::Close]),
        cut("reset-in-body", "resets inside its body", incomplete, vec![say(LENGTH), Step::Reset]),
        cut(
            "stalled-body",
            "falls silent inside its body",
            Cause::ConnectionReadTimeout,
            vec![say(LENGTH), Step::Hang],
        ),
    ]
}

/// A row with the usual rest: played by the scripted upstream, which reads the whole request.
fn row(name: &'static str, meaning: &'static str, outcome: Outcome) -> UpstreamFault {
    UpstreamFault {
        name,
        meaning,
        place: Place::Scripted,
        script: Script::new(),
        outcome,
        message: Message::OfTheCode,
        keeps: &[],
        sent_at_least: RequestSent::Full,
    }
}

fn answered(
    name: &'static str,
    meaning: &'static str,
    status: u16,
    code: u16,
    steps: Vec<Step>,
) -> UpstreamFault {
    let outcome = Outcome::Answered { code, why: Why::Status(status) };
    UpstreamFault { script: after_the_head(steps), ..row(name, meaning, outcome) }
}

fn after_the_head(steps: Vec<Step>) -> Script {
    std::iter::once(Step::ReadHead).chain(std::iter::once(Step::ReadBody)).chain(steps).collect()
}

fn status_of(line: &str) -> u16 {
    line.split(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing into memory does not fail; should it ever, the row's test says so: the message is missing.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_has_its_own_name_and_something_to_play() {
        let faults = upstream_faults();
        let names: BTreeSet<_> = faults.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), faults.len());
        for fault in &faults {
            assert_eq!(fault.script.is_empty(), fault.place != Place::Scripted, "{}", fault.name);
        }
    }

    #[test]
    fn every_expected_code_of_an_error_is_one_of_the_documented_page() {
        for fault in upstream_faults() {
            if !matches!(fault.outcome, Outcome::Aborted { .. }) {
                assert!(
                    [400, 401, 403, 404, 409, 429, 500, 503, 504].contains(&fault.outcome.code()),
                    "{}",
                    fault.name
                );
            }
        }
    }
}
