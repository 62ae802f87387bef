//! Clients that half-close, close or reset, and clients that read slowly or not at all.
//!
//! A client that has closed receives no response: these rows check the close reason that is counted.

use std::time::Duration;

use bytes::Bytes;

use crate::contract::Cause;

use super::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, FAULT_HEADER, GatewayProfile, PAUSE,
    RequestKind, UpstreamSaw, send, steps_row,
};

/// Size of the response to slow readers, and of the upload to an upstream that has already responded.
const LARGE_BODY: u64 = 8 * 1024 * 1024;
const CHUNK_SIZE: usize = 64 * 1024;

const CLIENT_GONE: &str = "client_gone";

/// Clients that disconnect.
pub(super) fn disconnects() -> Vec<ClientFault> {
    let half = |name, description, bytes: &str, expected| {
        steps_row(
            name,
            description,
            vec![
                send(bytes.to_owned()),
                ClientStep::ShutdownWrite,
                ClientStep::ReadResponse(RequestKind::DEFAULT),
            ],
            vec![expected],
            ConnectionOutcome::AnnouncedClose,
            UpstreamSaw::AtMostPartial,
        )
    };
    let client_closed = |name, description, steps: Vec<ClientStep>, close_reason| {
        steps_row(
            name,
            description,
            steps,
            Vec::new(),
            ConnectionOutcome::ClientClosed(close_reason),
            UpstreamSaw::Any,
        )
    };
    let idle = |name, description, steps: Vec<ClientStep>, close_reason| {
        steps_row(
            name,
            description,
            steps,
            Vec::new(),
            ConnectionOutcome::ClosedWithoutResponse(close_reason),
            UpstreamSaw::Complete(0),
        )
    };
    let hang = format!("<get> HTTP/1.1\r\nhost: <host>\r\n{FAULT_HEADER}: hang\r\n\r\n");
    let no_request = ExpectedResponse::Rejected(Cause::HttpRequestError);
    let no_body = ExpectedResponse::RejectedOnRoute(Cause::MalformedBody);
    let short = "<post> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 10\r\n\r\nabc";
    vec![
        half("half-a-line", "half-closes inside the request line", "<GET> <path>?<row> HT", no_request),
        half("half-a-head", "half-closes inside the header fields", "<get> HTTP/1.1\r\nhost: <h", no_request),
        half("short-body", "half-closes before Content-Length bytes are sent", short, no_body),
        steps_row(
            "half-close-while-waiting",
            "half-closes while it waits for the response",
            vec![send(hang.clone()), ClientStep::WaitForUpstreamRequest, ClientStep::ShutdownWrite],
            Vec::new(),
            ConnectionOutcome::ClosedWithoutResponse(CLIENT_GONE),
            UpstreamSaw::Any,
        ),
        client_closed(
            "reset-while-waiting",
            "resets while it waits for the response",
            vec![send(hang.clone()), ClientStep::WaitForUpstreamRequest, ClientStep::Reset],
            CLIENT_GONE,
        ),
        client_closed(
            "close-while-waiting",
            "closes while it waits for the response",
            vec![send(hang), ClientStep::WaitForUpstreamRequest, ClientStep::Close],
            CLIENT_GONE,
        ),
        client_closed(
            "reset-in-head",
            "resets inside the header section",
            vec![send("<get> HTTP/1.1\r\nhost"), ClientStep::Pause(PAUSE), ClientStep::Reset],
            CLIENT_GONE,
        ),
        client_closed(
            "reset-in-body",
            "resets inside the body",
            vec![send(short), ClientStep::WaitForUpstreamRequest, ClientStep::Reset],
            CLIENT_GONE,
        ),
        client_closed(
            "connect-and-reset",
            "connects and resets",
            vec![ClientStep::Pause(PAUSE), ClientStep::Reset],
            "no_request",
        ),
        client_closed(
            "connect-and-close",
            "connects and closes, as health probes do",
            vec![ClientStep::Close],
            "no_request",
        ),
        idle("half-close-at-once", "connects and half-closes", vec![ClientStep::ShutdownWrite], "no_request"),
        idle("idle", "connects and sends nothing", Vec::new(), "idle_timeout"),
        idle("empty-line-alone", "sends an empty line and nothing else", vec![send("\r\n")], "idle_timeout"),
        steps_row(
            "idle-after-answer",
            "sends nothing more after the first response",
            vec![
                send("<get> HTTP/1.1\r\nhost: <host>\r\n\r\n"),
                ClientStep::ReadResponse(RequestKind::DEFAULT),
            ],
            vec![ExpectedResponse::Served],
            ConnectionOutcome::IdleTimeout,
            UpstreamSaw::Complete(1),
        ),
    ]
}

/// Clients that read late, slowly or never, and clients whose response arrives before their upload is complete.
pub(super) fn slow_readers(profile: &GatewayProfile) -> Vec<ClientFault> {
    let get = |play: &str| send(format!("<get> HTTP/1.1\r\nhost: <host>\r\n{FAULT_HEADER}: {play}\r\n\r\n"));
    let post = |play: &str, length: u64| {
        send(format!(
            "<post> HTTP/1.1\r\nhost: <host>\r\n{FAULT_HEADER}: {play}\r\ncontent-length: {length}\r\n\r\n"
        ))
    };
    let chunk = Bytes::from(vec![b'x'; CHUNK_SIZE]);
    // Within max_body, and more than the gateway drains to keep the connection open.
    let pieces = (LARGE_BODY.min(profile.max_body) / CHUNK_SIZE as u64).max(2);
    let upload = pieces * CHUNK_SIZE as u64;
    vec![
        ClientFault {
            small_rcvbuf: true,
            ..steps_row(
                "never-reads",
                "requests an endless response and reads nothing",
                vec![
                    get("endless"),
                    ClientStep::Pause(profile.write_timeout.saturating_mul(2)),
                    ClientStep::ReadResponse(RequestKind::DEFAULT),
                ],
                vec![ExpectedResponse::Truncated(Cause::ClientTooSlow)],
                ConnectionOutcome::Truncated,
                UpstreamSaw::Any,
            )
        },
        ClientFault {
            small_rcvbuf: true,
            ..steps_row(
                "reads-slowly",
                "reads 1 MiB slowly",
                vec![
                    get("megabyte"),
                    ClientStep::ReadResponseSlowly(RequestKind::DEFAULT, 32 * 1024, Duration::from_millis(3)),
                ],
                vec![ExpectedResponse::ServedBytes(MEGABYTE)],
                ConnectionOutcome::KeptOpen,
                UpstreamSaw::Complete(1),
            )
        },
        steps_row(
            "close-inside-answer",
            "closes inside an endless response",
            vec![get("endless"), ClientStep::ReadResponse(RequestKind::DEFAULT), ClientStep::Close],
            vec![ExpectedResponse::Prefix],
            ConnectionOutcome::ClientClosedDuringResponse,
            UpstreamSaw::Any,
        ),
        steps_row(
            "answer-before-upload",
            "sends 8 MiB although the response is known after the headers, then reads",
            vec![
                post("early", upload),
                ClientStep::WaitForData,
                ClientStep::SendRepeated(chunk, pieces),
                ClientStep::ReadResponse(RequestKind::DEFAULT),
            ],
            vec![ExpectedResponse::Served],
            ConnectionOutcome::UnannouncedClose,
            UpstreamSaw::Any,
        ),
        steps_row(
            "small-rest-of-upload",
            "sends the last bytes of the body after the response",
            vec![post("early", 3), ClientStep::ReadResponse(RequestKind::DEFAULT), send("abc")],
            vec![ExpectedResponse::Served],
            ConnectionOutcome::KeptOpen,
            UpstreamSaw::Any,
        ),
    ]
}

/// The response size that [`slow_readers`] requests.
pub(super) const MEGABYTE: u64 = 1024 * 1024;
