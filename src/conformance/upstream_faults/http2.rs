//! HTTP/2 failures of the upstream: missing SETTINGS, stream resets, GOAWAY, and invalid frames.
//!
//! Scripts write frames ([`super::super::scripted_upstream_h2`]); [`STREAM_PLACEHOLDER`] is the stream of the request.
//! Every attempt fails, so that these rows do not depend on retries.

use bytes::Bytes;

use crate::contract::{Cause, RequestSent};

use super::super::frames::frame_type::{
    CONTINUATION, DATA, GOAWAY, HEADERS, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use super::super::frames::{END_HEADERS, END_STREAM, encode_frame};
use super::super::script::{Script, UpstreamStep, write_bytes};
use super::super::scripted_upstream_h2::STREAM_PLACEHOLDER;
use super::{
    ExpectedMessage, FaultOutcome, FaultRequest, INTERNAL_HOSTNAME, ReplyReason, ServerKind, UpstreamFault,
    fault_row,
};

/// All rows of this file.
pub(super) fn rows() -> Vec<UpstreamFault> {
    [
        missing_settings(),
        resets_before_headers(),
        connection_ends(),
        malformed_headers(),
        served(),
        resets_after_headers(),
        bodies(),
    ]
    .concat()
}

/// `:status: 200` (RFC 7541, appendix A).
const STATUS_200: &[u8] = &[0x88];

/// Error code, row names before the headers and inside the body, their descriptions, cause before the headers.
const ERROR_CODES: &[(u32, &str, &str, &str, &str, Cause)] = {
    use Cause::{ConnectionTerminated as Gone, HttpProtocolError as Accused};
    macro_rules! error_codes {
        ($($code:literal $name:literal $cause:ident;)+) => {
            &[$((
                $code,
                concat!("h2-reset-", $name),
                concat!("h2-cut-", $name),
                concat!("resets the stream before the response headers, error code ", $code, " (", $name, ")"),
                concat!("resets the stream inside the body, error code ", $code, " (", $name, ")"),
                $cause,
            ),)+]
        };
    }
    error_codes! {
        0 "no-error" Gone;
        1 "protocol-error" Accused;
        2 "internal-error" Gone;
        3 "flow-control-error" Accused;
        4 "settings-timeout" Accused;
        5 "stream-closed" Accused;
        6 "frame-size-error" Accused;
        7 "refused-stream" Gone;
        8 "cancel" Gone;
        9 "compression-error" Accused;
        10 "connect-error" Gone;
        11 "enhance-your-calm" Gone;
        12 "inadequate-security" Accused;
        13 "http-1-1-required" Accused;
        77 "of-no-name" Accused;
    }
};

/// Failures before a request is sent.
fn missing_settings() -> Vec<UpstreamFault> {
    let at_server = |name, description, server_kind, cause| UpstreamFault {
        server_kind,
        min_request_sent: RequestSent::None,
        ..fault_row(
            name,
            description,
            FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Fault(cause) },
        )
    };
    vec![
        at_server(
            "h2-no-settings",
            "never sends SETTINGS",
            ServerKind::Http2Silent,
            Cause::ConnectionTimeout,
        ),
        at_server(
            "h2-accept-close",
            "closes the connection before it sends SETTINGS",
            ServerKind::Http2Closing,
            Cause::ConnectionTerminated,
        ),
        at_server(
            "h2-answered-in-http-1",
            "responds in HTTP/1.1",
            ServerKind::Http1InsteadOfHttp2,
            Cause::HttpProtocolError,
        ),
    ]
}

fn resets_before_headers() -> Vec<UpstreamFault> {
    ERROR_CODES
        .iter()
        .map(|(code, name, _, description, _, cause)| {
            h2_fault_row(name, description, *cause, vec![rst_stream(*code)])
        })
        .collect()
}

fn resets_after_headers() -> Vec<UpstreamFault> {
    ERROR_CODES
        .iter()
        .map(|(code, _, name, _, description, _)| {
            h2_truncated_row(name, description, Cause::HttpResponseIncomplete, vec![rst_stream(*code)])
        })
        .collect()
}

/// GOAWAY, and connections that close without it.
fn connection_ends() -> Vec<UpstreamFault> {
    let gone = Cause::ConnectionTerminated;
    let late =
        [goaway_frame(STREAM_PLACEHOLDER, 0), headers_frame(STATUS_200, false), data_frame(b"late", true)]
            .concat();
    vec![
        h2_fault_row(
            "h2-goaway-passing-over",
            "sends GOAWAY that excludes the request's stream, then closes",
            gone,
            vec![write_bytes(goaway_frame(0, 0)), UpstreamStep::Close],
        ),
        h2_fault_row(
            "h2-goaway-and-close",
            "sends GOAWAY that includes the request's stream, then closes without a response",
            gone,
            vec![write_bytes(goaway_frame(STREAM_PLACEHOLDER, 0)), UpstreamStep::Close],
        ),
        h2_fault_row(
            "h2-goaway-accusing",
            "sends GOAWAY with PROTOCOL_ERROR, then closes",
            Cause::HttpProtocolError,
            vec![write_bytes(goaway_frame(STREAM_PLACEHOLDER, 1)), UpstreamStep::Close],
        ),
        h2_fault_row("h2-close", "closes the connection without GOAWAY", gone, vec![UpstreamStep::Close]),
        h2_fault_row("h2-tcp-reset", "resets the TCP connection", gone, vec![UpstreamStep::Reset]),
        h2_fault_row(
            "h2-hang",
            "never responds",
            Cause::HttpResponseTimeout,
            vec![UpstreamStep::ReadUntilClose],
        ),
        h2_fault_row(
            "h2-silent",
            "never responds and does not acknowledge PING",
            Cause::HttpResponseTimeout,
            vec![UpstreamStep::SuppressAcks, UpstreamStep::ReadUntilClose],
        ),
        UpstreamFault {
            script: vec![UpstreamStep::ReadUntilClose],
            request: FaultRequest { body: Bytes::from(vec![b'x'; 100_000]), ..FaultRequest::single("POST") },
            min_request_sent: RequestSent::Partial,
            ..h2_fault_row(
                "h2-window-shut",
                "never opens the flow-control window for the rest of the request body",
                Cause::ConnectionWriteTimeout,
                Vec::new(),
            )
        },
        h2_forwarded_row(
            "h2-goaway-then-answer",
            "sends GOAWAY, then responds on the accepted stream",
            "late",
            vec![write_bytes(late)],
        ),
        h2_forwarded_row(
            "h2-answer-then-goaway",
            "responds, then sends GOAWAY",
            "fine",
            vec![
                write_bytes([ok_response(), goaway_frame(STREAM_PLACEHOLDER, 0)].concat()),
                UpstreamStep::Close,
            ],
        ),
    ]
}

/// Invalid frames before the response headers.
fn malformed_headers() -> Vec<UpstreamFault> {
    let broken = |name, description, frames: Vec<u8>| {
        h2_fault_row(
            name,
            description,
            Cause::HttpProtocolError,
            vec![write_bytes(frames), UpstreamStep::ReadUntilClose],
        )
    };
    let hints = headers_frame(b"\x08\x03103", false);
    let mut huge = STATUS_200.to_vec();
    for _ in 0..700 {
        huge.extend(header_field("x-padding", &"0123456789".repeat(10)));
    }
    vec![
        broken("h2-garbage", "sends bytes that are not a frame", vec![0xff; 64]),
        broken(
            "h2-http-1-inside",
            "responds in HTTP/1.1 after its SETTINGS",
            b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        ),
        broken("h2-data-first", "sends DATA before HEADERS", data_frame(b"before the head", true)),
        broken("h2-data-to-nobody", "sends DATA on stream 0", encode_frame(DATA, 0, 0, b"to nobody")),
        broken(
            "h2-foreign-stream",
            "responds on a stream that the gateway did not open",
            encode_frame(HEADERS, END_HEADERS, 2, STATUS_200),
        ),
        broken("h2-pushes", "sends PUSH_PROMISE although push is disabled", {
            encode_frame(PUSH_PROMISE, END_HEADERS, STREAM_PLACEHOLDER, [&[0, 0, 0, 2], STATUS_200].concat())
        }),
        broken("h2-broken-coding", "sends an undecodable HPACK block", headers_frame(&[0x80], true)),
        broken(
            "h2-frame-too-long",
            "sends a frame header with a length of 1 MiB",
            vec![0x10, 0, 0, DATA, 0, 0, 0, 0, 1],
        ),
        broken(
            "h2-bad-settings",
            "sends SETTINGS with an invalid value",
            encode_frame(SETTINGS, 0, 0, [0, 2, 0, 0, 0, 9]),
        ),
        broken("h2-window-overflow", "overflows the flow-control window", {
            encode_frame(WINDOW_UPDATE, 0, 0, 0x7fff_ffff_u32.to_be_bytes())
        }),
        broken("h2-torn-head", "sends DATA inside an unfinished header block", {
            [
                encode_frame(HEADERS, 0, STREAM_PLACEHOLDER, STATUS_200),
                encode_frame(DATA, 0, STREAM_PLACEHOLDER, b"x"),
            ]
            .concat()
        }),
        broken("h2-lone-continuation", "sends CONTINUATION without HEADERS", {
            encode_frame(CONTINUATION, END_HEADERS, STREAM_PLACEHOLDER, STATUS_200)
        }),
        broken(
            "h2-no-status",
            "sends a response without :status",
            headers_frame(&header_field("x-a", "b"), true),
        ),
        broken("h2-two-statuses", "sends :status twice", headers_frame(&[0x88, 0x88], true)),
        broken("h2-connection-field", "sends a Connection field", {
            headers_frame(&[STATUS_200, &header_field("connection", "close")].concat(), true)
        }),
        broken(
            "h2-upper-case",
            "sends a field name in upper case",
            headers_frame(&[STATUS_200, &header_field("X-A", "b")].concat(), true),
        ),
        broken("h2-101", "sends 101", headers_frame(b"\x08\x03101", false)),
        broken("h2-two-lengths", "sends two different Content-Length fields", {
            let lengths = [header_field("content-length", "4"), header_field("content-length", "5")].concat();
            [headers_frame(&[STATUS_200, &lengths].concat(), false), data_frame(b"four", true)].concat()
        }),
        broken("h2-hints-without-end", "sends 17 interim responses", hints.repeat(17)),
        UpstreamFault {
            script: with_body(vec![write_bytes(split_headers(&huge))]),
            ..h2_fault_row(
                "h2-huge-head",
                "sends 70 KB of response headers",
                Cause::HttpResponseHeaderSectionSize,
                Vec::new(),
            )
        },
    ]
    .into_iter()
    .map(|row| match row.name {
        // The first 16 are forwarded before the limit is reached.
        "h2-hints-without-end" => UpstreamFault { interim_statuses: &[103; 16], ..row },
        _ => row,
    })
    .collect()
}

/// Complete responses.
fn served() -> Vec<UpstreamFault> {
    let page = format!("<h1>{INTERNAL_HOSTNAME}</h1>");
    let conforming_body = r#"{"message":"No such order.","code":404}"#;
    let status =
        |code: &str, kind: &str| [b"\x08\x03", code.as_bytes(), &header_field("content-type", kind)].concat();
    let trailers =
        encode_frame(HEADERS, END_HEADERS | END_STREAM, STREAM_PLACEHOLDER, header_field("x-sum", "1"));
    vec![
        UpstreamFault {
            server_kind: ServerKind::Http2Scripted,
            script: with_body(vec![write_bytes(
                [headers_frame(&status("502", "text/html"), false), data_frame(page.as_bytes(), true)]
                    .concat(),
            )]),
            ..fault_row(
                "h2-error-page",
                "sends 502 with an HTML page",
                FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Status(502) },
            )
        },
        UpstreamFault {
            outcome: FaultOutcome::Forwarded { code: 404 },
            ..h2_forwarded_row("h2-own-error", "sends a 404 that matches the template", conforming_body, {
                vec![write_bytes(
                    [
                        headers_frame(&status("404", "application/json"), false),
                        data_frame(conforming_body.as_bytes(), true),
                    ]
                    .concat(),
                )]
            })
        },
        UpstreamFault {
            interim_statuses: &[103],
            ..h2_forwarded_row(
                "h2-hints",
                "sends 103 first",
                "fine",
                vec![write_bytes([headers_frame(b"\x08\x03103", false), ok_response()].concat())],
            )
        },
        h2_forwarded_row("h2-trailers", "sends trailers", "fine", {
            vec![write_bytes(
                [headers_frame(STATUS_200, false), data_frame(b"fine", false), trailers].concat(),
            )]
        }),
        h2_forwarded_row(
            "h2-empty",
            "sends headers without a body",
            "",
            vec![write_bytes(headers_frame(STATUS_200, true))],
        ),
        h2_forwarded_row(
            "h2-reset-behind-answer",
            "resets the stream with NO_ERROR after its response",
            "fine",
            {
                vec![write_bytes(
                    [ok_response(), encode_frame(RST_STREAM, 0, STREAM_PLACEHOLDER, [0; 4])].concat(),
                )]
            },
        ),
        h2_forwarded_row("h2-data-after-end", "sends DATA after the end of the stream", "fine", {
            vec![write_bytes([ok_response(), data_frame(b"and more", false)].concat())]
        }),
    ]
}

/// Responses that fail after their headers were sent.
fn bodies() -> Vec<UpstreamFault> {
    let (incomplete, broken) = (Cause::HttpResponseIncomplete, Cause::HttpProtocolError);
    let of_length = |length: &str, body: &[u8]| {
        [
            headers_frame(&[STATUS_200, &header_field("content-length", length)].concat(), false),
            data_frame(body, true),
        ]
        .concat()
    };
    let of_itself = |name, description, frames: Vec<u8>| UpstreamFault {
        script: with_body(vec![write_bytes(frames)]),
        ..h2_truncated_row(name, description, broken, Vec::new())
    };
    vec![
        h2_truncated_row(
            "h2-no-end",
            "stalls before the end of the stream",
            Cause::ConnectionReadTimeout,
            vec![UpstreamStep::ReadUntilClose],
        ),
        h2_truncated_row(
            "h2-silent-in-body",
            "stalls before the end of the stream and does not acknowledge PING",
            Cause::ConnectionReadTimeout,
            vec![UpstreamStep::SuppressAcks, UpstreamStep::ReadUntilClose],
        ),
        h2_truncated_row(
            "h2-close-in-body",
            "closes before the end of the stream",
            incomplete,
            vec![UpstreamStep::Close],
        ),
        h2_truncated_row(
            "h2-tcp-reset-in-body",
            "resets the TCP connection inside the body",
            incomplete,
            vec![UpstreamStep::Reset],
        ),
        h2_truncated_row(
            "h2-goaway-in-body",
            "sends GOAWAY inside the body, then closes",
            incomplete,
            vec![write_bytes(goaway_frame(STREAM_PLACEHOLDER, 2)), UpstreamStep::Close],
        ),
        h2_truncated_row(
            "h2-garbage-in-body",
            "sends bytes that are not a frame inside the body",
            broken,
            vec![write_bytes(vec![0xff; 64]), UpstreamStep::ReadUntilClose],
        ),
        h2_truncated_row(
            "h2-data-to-nobody-in-body",
            "sends DATA on stream 0 inside the body",
            broken,
            vec![write_bytes(encode_frame(DATA, 0, 0, b"to nobody")), UpstreamStep::ReadUntilClose],
        ),
        of_itself(
            "h2-short",
            "ends the stream before Content-Length bytes are sent",
            of_length("1000", b"first and"),
        ),
        of_itself("h2-long", "sends more bytes than Content-Length", of_length("4", b"first and")),
    ]
}

fn h2_fault_row(
    name: &'static str,
    description: &'static str,
    cause: Cause,
    steps: Vec<UpstreamStep>,
) -> UpstreamFault {
    UpstreamFault {
        server_kind: ServerKind::Http2Scripted,
        script: with_body(steps),
        ..fault_row(
            name,
            description,
            FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Fault(cause) },
        )
    }
}

/// Runs these steps after the headers and part of the body.
fn h2_truncated_row(
    name: &'static str,
    description: &'static str,
    cause: Cause,
    steps: Vec<UpstreamStep>,
) -> UpstreamFault {
    let partial = write_bytes([headers_frame(STATUS_200, false), data_frame(b"first and", false)].concat());
    UpstreamFault {
        server_kind: ServerKind::Http2Scripted,
        script: with_body(std::iter::once(partial).chain(steps).collect()),
        body: "first and".into(),
        ..fault_row(name, description, FaultOutcome::Aborted { code: 200, cause })
    }
}

fn h2_forwarded_row(
    name: &'static str,
    description: &'static str,
    body: &'static str,
    steps: Vec<UpstreamStep>,
) -> UpstreamFault {
    UpstreamFault {
        server_kind: ServerKind::Http2Scripted,
        script: with_body(steps),
        body: body.into(),
        expected_message: ExpectedMessage::ContractDefault,
        ..fault_row(name, description, FaultOutcome::Forwarded { code: 200 })
    }
}

/// Runs these steps after the whole request was read.
fn with_body(steps: Vec<UpstreamStep>) -> Script {
    std::iter::once(UpstreamStep::ReadBody).chain(steps).collect()
}

fn headers_frame(block: &[u8], ends: bool) -> Vec<u8> {
    encode_frame(HEADERS, END_HEADERS | u8::from(ends), STREAM_PLACEHOLDER, block)
}

fn data_frame(bytes: &[u8], ends: bool) -> Vec<u8> {
    encode_frame(DATA, u8::from(ends), STREAM_PLACEHOLDER, bytes)
}

fn ok_response() -> Vec<u8> {
    [headers_frame(STATUS_200, false), data_frame(b"fine", true)].concat()
}

fn rst_stream(code: u32) -> UpstreamStep {
    write_bytes(encode_frame(RST_STREAM, 0, STREAM_PLACEHOLDER, code.to_be_bytes()))
}

fn goaway_frame(last: u32, code: u32) -> Vec<u8> {
    encode_frame(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// A literal field without indexing (RFC 7541, section 6.2.2).
fn header_field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap_or(0x7e);
    let mut bytes = vec![0, length(name)];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(length(value));
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// Splits a header block into HEADERS and CONTINUATION frames.
fn split_headers(block: &[u8]) -> Vec<u8> {
    let mut pieces = block.chunks(16 * 1024).peekable();
    let mut bytes = Vec::new();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let ends = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        bytes.extend(encode_frame(
            kind,
            if kind == HEADERS { ends | END_STREAM } else { ends },
            STREAM_PLACEHOLDER,
            piece,
        ));
        kind = CONTINUATION;
    }
    bytes
}
