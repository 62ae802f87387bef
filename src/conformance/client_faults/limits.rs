//! Clients that exceed size limits, send too slowly, or send Expect.
//!
//! Disconnects are in [`super::disconnects`].

use std::time::Duration;

use bytes::Bytes;

use crate::contract::Cause;

use super::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, FAULT_HEADER, GatewayProfile, RequestKind,
    UpstreamSaw, rejected, row, send, served, steps_row,
};

/// Requests above the size limits.
pub(super) fn sizes(profile: &GatewayProfile) -> Vec<ClientFault> {
    let max_header_bytes = profile.max_header_bytes;
    let extra = profile.max_body.saturating_add(1);
    let too_large = ExpectedResponse::RejectedOnRoute(Cause::BodyTooLarge);
    let declared = |name, description, steps: Vec<ClientStep>| {
        steps_row(
            name,
            description,
            steps,
            vec![too_large],
            ConnectionOutcome::AnnouncedClose,
            UpstreamSaw::Complete(0),
        )
    };
    let head = format!("<post> HTTP/1.1\r\nhost: <host>\r\ncontent-length: {extra}\r\n\r\n");
    let data_chunk = Bytes::from(vec![b'x'; CHUNK_SIZE]);
    let pieces = profile.max_body / CHUNK_SIZE as u64 + 1;
    let mut chunk = format!("{CHUNK_SIZE:x}\r\n").into_bytes();
    chunk.extend_from_slice(&data_chunk);
    chunk.extend_from_slice(b"\r\n");
    vec![
        rejected(
            "uri-too-long",
            "a request target larger than client.max_header_bytes",
            Cause::UriTooLong,
            format!("<get>&a={} HTTP/1.1\r\nhost: <host>\r\n\r\n", "x".repeat(max_header_bytes)),
        ),
        rejected(
            "uri-without-end",
            "a request target without end",
            Cause::UriTooLong,
            format!("<get>&a={}", "x".repeat(max_header_bytes)),
        ),
        rejected(
            "field-too-large",
            "one field larger than client.max_header_bytes",
            Cause::HeaderTooLarge,
            format!("<get> HTTP/1.1\r\nhost: <host>\r\ncookie: {}\r\n\r\n", "x".repeat(max_header_bytes)),
        ),
        rejected(
            "field-name-too-large",
            "one field name larger than client.max_header_bytes",
            Cause::HeaderTooLarge,
            format!("<get> HTTP/1.1\r\nhost: <host>\r\n{}: a\r\n\r\n", "x".repeat(max_header_bytes)),
        ),
        rejected(
            "head-too-large",
            "many fields, together larger than client.max_header_bytes",
            Cause::HeaderTooLarge,
            format!(
                "<get> HTTP/1.1\r\nhost: <host>\r\n{}\r\n",
                long_header_field().repeat(max_header_bytes / 500 + 1)
            ),
        ),
        rejected(
            "too-many-fields",
            "257 fields",
            Cause::HeaderTooLarge,
            format!("<get> HTTP/1.1\r\nhost: <host>\r\n{}\r\n", "a: b\r\n".repeat(256)),
        ),
        declared(
            "body-too-large",
            "a Content-Length above max_body; the client sends no body",
            vec![send(head.clone()), ClientStep::ReadResponse(RequestKind::DEFAULT)],
        ),
        declared(
            "body-too-large-sent",
            "a Content-Length above max_body; the client sends the whole body before it reads",
            vec![
                send(head),
                ClientStep::SendRepeated(data_chunk.clone(), pieces),
                ClientStep::ReadResponse(RequestKind::DEFAULT),
            ],
        ),
        steps_row(
            "chunks-too-large",
            "a chunked body above max_body; the client sends the whole body before it reads",
            vec![
                send("<post> HTTP/1.1\r\nhost: <host>\r\ntransfer-encoding: chunked\r\n\r\n"),
                ClientStep::SendRepeated(chunk.into(), pieces),
                ClientStep::ReadResponse(RequestKind::DEFAULT),
            ],
            vec![too_large],
            ConnectionOutcome::AnnouncedClose,
            UpstreamSaw::AtMostPartial,
        ),
        row(
            "huge-chunk-announced",
            "a chunk size of 1 PB, followed by a few bytes",
            "<post> HTTP/1.1\r\nhost: <host>\r\ntransfer-encoding: chunked\r\n\r\n4000000000000\r\nabc",
            ExpectedResponse::RejectedOnRoute(Cause::ClientTooSlow),
        )
        .with_connection_outcome(ConnectionOutcome::AnnouncedClose)
        .with_upstream_saw(UpstreamSaw::AtMostPartial),
    ]
}

/// Size of one write of a large body.
const CHUNK_SIZE: usize = 64 * 1024;

fn long_header_field() -> String {
    format!("x-note: {}\r\n", "x".repeat(490))
}

/// The Expect field.
pub(super) fn expectations(profile: &GatewayProfile) -> Vec<ClientFault> {
    let tail = "expect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    let post = format!("<post> HTTP/1.1\r\nhost: <host>\r\n{tail}");
    let other = |name, description, value: &str| {
        let bytes =
            format!("<post> HTTP/1.1\r\nhost: <host>\r\nexpect: {value}\r\ncontent-length: 3\r\n\r\nabc");
        rejected(name, description, Cause::UnsupportedExpectation, bytes)
    };
    let too_large = profile.max_body.saturating_add(1);
    vec![
        steps_row(
            "expect-continue",
            "waits for 100 Continue before it sends the body",
            vec![send(post.clone()), ClientStep::ReadInterim(100), send("abc"), ClientStep::ReadResponse(RequestKind::DEFAULT)],
            vec![ExpectedResponse::Served],
            ConnectionOutcome::KeptOpen,
            UpstreamSaw::Complete(1),
        ),
        steps_row(
            "expect-in-capitals",
            "Expect: 100-continue in other letter case",
            vec![
                send("<post> HTTP/1.1\r\nhost: <host>\r\nEXPECT: 100-Continue\r\ncontent-length: 3\r\n\r\n"),
                ClientStep::ReadInterim(100),
                send("abc"),
                ClientStep::ReadResponse(RequestKind::DEFAULT),
            ],
            vec![ExpectedResponse::Served],
            ConnectionOutcome::KeptOpen,
            UpstreamSaw::Complete(1),
        ),
        served("expect-and-send", "Expect: 100-continue, and the body without a wait", format!("{post}abc")),
        served(
            "expect-without-body",
            "Expect: 100-continue without a body",
            "<get> HTTP/1.1\r\nhost: <host>\r\nexpect: 100-continue\r\n\r\n",
        ),
        other("expect-unknown", "an unknown expectation", "a-miracle"),
        other("expect-empty", "an empty Expect", ""),
        other("expect-list", "Expect: 100-continue and another expectation", "100-continue, a-miracle"),
        other("expect-parameter", "Expect: 100-continue with a parameter", "100-continue;q=1"),
        other("expect-number", "Expect: 200", "200"),
        other("expect-twice", "two Expect fields", "100-continue\r\nexpect: 100-continue"),
        ClientFault {
            steps: vec![
                send(format!("<post> HTTP/1.0\r\nhost: <host>\r\n{tail}abc")),
                ClientStep::ReadResponse(RequestKind::HTTP10),
            ],
            ..served("expect-on-1.0", "Expect: 100-continue in HTTP/1.0, where it is ignored", "")
                .with_connection_outcome(ConnectionOutcome::AnnouncedClose)
        },
        row(
            "expect-too-large",
            "Expect: 100-continue for a body above max_body",
            format!(
                "<post> HTTP/1.1\r\nhost: <host>\r\nexpect: 100-continue\r\ncontent-length: {too_large}\r\n\r\n"
            ),
            ExpectedResponse::RejectedOnRoute(Cause::BodyTooLarge),
        )
        .with_connection_outcome(ConnectionOutcome::AnnouncedClose),
        steps_row(
            "expect-and-nothing",
            "receives 100 Continue and sends no body",
            vec![send(post), ClientStep::ReadInterim(100), ClientStep::ReadResponse(RequestKind::DEFAULT)],
            vec![ExpectedResponse::RejectedOnRoute(Cause::ClientTooSlow)],
            ConnectionOutcome::AnnouncedClose,
            UpstreamSaw::AtMostPartial,
        ),
        steps_row(
            "expect-answered-at-once",
            "Expect: 100-continue, and a final response instead of 100",
            vec![
                send(format!(
                    "<post> HTTP/1.1\r\nhost: <host>\r\n{FAULT_HEADER}: early\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
                )),
                ClientStep::ReadResponse(RequestKind::DEFAULT),
            ],
            vec![ExpectedResponse::Served],
            ConnectionOutcome::AnnouncedClose,
            UpstreamSaw::AtMostPartial,
        ),
    ]
}

/// Clients that stall or send slowly.
pub(super) fn slow() -> Vec<ClientFault> {
    let too_slow = Cause::ClientTooSlow;
    let stalled = |name, description, bytes: &str| rejected(name, description, too_slow, bytes.to_owned());
    let slow = |name, description, first: &str, drop: &'static str| ClientFault {
        steps: vec![
            send(first.to_owned()),
            ClientStep::SendSlowly(drop.into(), Duration::from_millis(40)),
            ClientStep::ReadResponse(RequestKind::DEFAULT),
        ],
        ..rejected(name, description, too_slow, "")
    };
    let body = |name, description, lines: &str, body: &str| {
        let bytes = format!("<post> HTTP/1.1\r\nhost: <host>\r\n{lines}\r\n\r\n{body}");
        row(name, description, bytes, ExpectedResponse::RejectedOnRoute(too_slow))
            .with_connection_outcome(ConnectionOutcome::AnnouncedClose)
            .with_upstream_saw(UpstreamSaw::AtMostPartial)
    };
    vec![
        stalled("slow-line", "stalls inside the request line", "<GET> <pa"),
        stalled("slow-head", "stalls inside the header fields", "<get> HTTP/1.1\r\nhost: <host>\r\nx-note"),
        stalled("slow-blank-line", "stalls before the blank line", "<get> HTTP/1.1\r\nhost: <host>\r\n"),
        stalled(
            "slow-last-byte",
            "stalls before the last byte of the header section",
            "<get> HTTP/1.1\r\nhost: <host>\r\n\r",
        ),
        slow(
            "dripped-line",
            "sends the request line byte by byte for longer than client.header_timeout",
            "<get>&a=",
            "x",
        ),
        slow(
            "dripped-fields",
            "sends header fields slowly for longer than client.header_timeout",
            "<get> HTTP/1.1\r\nhost: <host>\r\n",
            "a: b\r\n",
        ),
        body("slow-body", "stalls inside the body", "content-length: 10", "abc"),
        body("slow-first-byte", "stalls before the first byte of the body", "content-length: 10", ""),
        body("slow-chunk", "stalls inside a chunk", "transfer-encoding: chunked", "5\r\nabc"),
        body("slow-chunk-size", "stalls inside a chunk size", "transfer-encoding: chunked", "3\r\nabc\r\n5"),
        body("slow-last-chunk", "stalls before the last chunk", "transfer-encoding: chunked", "3\r\nabc\r\n"),
        body(
            "slow-trailers",
            "stalls inside the trailers",
            "transfer-encoding: chunked",
            "3\r\nabc\r\n0\r\nx-no",
        ),
    ]
}
