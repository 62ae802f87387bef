//! HTTP/2 client faults in bodies: wrong length, invalid end of the stream, and stalls.

use crate::contract::Cause;

use super::super::client_faults::{ExpectedResponse, GatewayProfile, PAUSE, UpstreamSaw};
use super::super::frames::{self, END_STREAM, PADDED, encode_frame, frame_type};
use super::super::hpack::HeaderList;
use super::{
    CLIENT_GONE, CONNECTION_ERROR, CloseOutcome, FAULT_STREAM, FrameStep, H2ClientFault, StreamOutcome,
    data_frame, fault_row, headers_frames, rejected, send, send_headers, single_request, stream_reset,
    while_pending,
};

/// Content-Length.
pub(super) fn lengths(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    let framing = Cause::AmbiguousFraming;
    let with_lengths = |name, lengths: &[&str]| {
        lengths.iter().fold(profile.post_headers(name), |list, length| list.with("content-length", length))
    };
    let body = |name, description, list: HeaderList, bytes: Vec<u8>| {
        let steps = vec![send_headers(FAULT_STREAM, &list, false), send(bytes)];
        fault_row(
            name,
            description,
            steps,
            vec![(FAULT_STREAM, StreamOutcome::Reset)],
            CloseOutcome::KeptOpen,
        )
        .with_upstream_saw(UpstreamSaw::AtMostPartial)
    };
    let too_large = profile.max_body.saturating_add(1).to_string();
    let large = StreamOutcome::Response(ExpectedResponse::RejectedOnRoute(Cause::BodyTooLarge));
    vec![
        body(
            "h2-longer-body",
            "4 bytes of body with Content-Length: 2",
            with_lengths("h2-longer-body", &["2"]),
            data_frame(FAULT_STREAM, "four", true),
        ),
        body(
            "h2-shorter-body",
            "4 bytes of body with Content-Length: 5",
            with_lengths("h2-shorter-body", &["5"]),
            data_frame(FAULT_STREAM, "four", true),
        ),
        body(
            "h2-longer-body-in-pieces",
            "a body that exceeds Content-Length: 2 in the second frame",
            with_lengths("h2-longer-body-in-pieces", &["2"]),
            [data_frame(FAULT_STREAM, "ab", false), data_frame(FAULT_STREAM, "c", true)].concat(),
        )
        // The upstream may have received the first two bytes, which are a complete body.
        .with_upstream_saw(UpstreamSaw::Any),
        stream_reset(
            "h2-length-without-body",
            "Content-Length: 5 without a body",
            &with_lengths("h2-length-without-body", &["5"]),
        ),
        stream_reset(
            "h2-two-lengths",
            "two different Content-Length fields",
            &with_lengths("h2-two-lengths", &["0", "5"]),
        ),
        rejected(
            "h2-same-length-twice",
            "the same Content-Length in two fields",
            framing,
            &with_lengths("h2-same-length-twice", &["0", "0"]),
        ),
        stream_reset("h2-length-list", "Content-Length: 0, 0", &with_lengths("h2-length-list", &["0, 0"])),
        stream_reset("h2-signed-length", "Content-Length: +0", &with_lengths("h2-signed-length", &["+0"])),
        stream_reset(
            "h2-negative-length",
            "Content-Length: -1",
            &with_lengths("h2-negative-length", &["-1"]),
        ),
        stream_reset(
            "h2-endless-length",
            "a Content-Length of 30 digits",
            &with_lengths("h2-endless-length", &[&"9".repeat(30)]),
        ),
        fault_row(
            "h2-length-too-large",
            "a Content-Length above the route's max_body",
            vec![send_headers(FAULT_STREAM, &with_lengths("h2-length-too-large", &[&too_large]), false)],
            vec![(FAULT_STREAM, large)],
            CloseOutcome::KeptOpen,
        ),
        single_request(
            "h2-length-of-nothing",
            "Content-Length: 0",
            &with_lengths("h2-length-of-nothing", &["0"]),
            StreamOutcome::Response(ExpectedResponse::Served),
        )
        .with_upstream_saw(UpstreamSaw::Complete(1)),
    ]
}

/// The end of the stream, and trailers.
pub(super) fn ends(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    let upload = |name, description, then: Vec<u8>, outcome| {
        let steps = vec![
            send_headers(FAULT_STREAM, &profile.post_headers(name), false),
            send(data_frame(FAULT_STREAM, "abc", false)),
            send(then),
        ];
        let reaches = if outcome == StreamOutcome::Reset {
            UpstreamSaw::AtMostPartial
        } else {
            UpstreamSaw::Complete(1)
        };
        fault_row(name, description, steps, vec![(FAULT_STREAM, outcome)], CloseOutcome::KeptOpen)
            .with_upstream_saw(reaches)
    };
    let trailers = HeaderList::default().with("x-checksum", "1");
    let padded = encode_frame(frame_type::DATA, END_STREAM | PADDED, FAULT_STREAM, b"\x04abc\0\0\0\0");
    let served = StreamOutcome::Response(ExpectedResponse::Served);
    let nothing: Vec<u8> = (0..50).flat_map(|_| data_frame(FAULT_STREAM, "", false)).collect();
    vec![
        upload(
            "h2-trailers",
            "trailers after the body",
            headers_frames(FAULT_STREAM, &trailers, true),
            served,
        ),
        upload("h2-padded", "DATA with padding", padded, served),
        upload(
            "h2-empty-pieces",
            "50 empty DATA frames",
            [nothing, data_frame(FAULT_STREAM, "", true)].concat(),
            served,
        ),
        upload(
            "h2-pseudo-in-trailers",
            ":path in the trailers, which the HTTP/2 library ignores",
            headers_frames(FAULT_STREAM, &trailers.clone().prepend(":path", "/smuggled"), true),
            served,
        ),
        upload(
            "h2-connection-in-trailers",
            "Connection in the trailers",
            headers_frames(FAULT_STREAM, &trailers.clone().with("connection", "close"), true),
            StreamOutcome::Reset,
        ),
        upload(
            "h2-trailers-without-end",
            "trailers without END_STREAM",
            headers_frames(FAULT_STREAM, &trailers, false),
            StreamOutcome::Reset,
        ),
        while_pending(
            "h2-data-after-end",
            "DATA after the end of the stream",
            profile,
            data_frame(FAULT_STREAM, "x", false),
            StreamOutcome::NoResponse,
            CloseOutcome::ErrorGoaway,
        )
        .with_close_reasons(&[CONNECTION_ERROR, CLIENT_GONE]),
        while_pending(
            "h2-head-after-end",
            "HEADERS after the end of the stream",
            profile,
            headers_frames(FAULT_STREAM, &profile.get_headers("h2-head-after-end"), true),
            StreamOutcome::NoResponse,
            CloseOutcome::ErrorGoaway,
        )
        .with_close_reasons(&[CONNECTION_ERROR, CLIENT_GONE]),
        fault_row(
            "h2-reset-while-waiting",
            "resets the stream while it waits for the response",
            vec![
                send_headers(
                    FAULT_STREAM,
                    &profile.get_headers("h2-reset-while-waiting").with(super::FAULT_HEADER, "hang"),
                    true,
                ),
                FrameStep::WaitForUpstreamRequest,
                send(frames::rst_stream_frame(FAULT_STREAM, 8)),
            ],
            vec![(FAULT_STREAM, StreamOutcome::NoResponse)],
            CloseOutcome::KeptOpen,
        )
        .with_upstream_saw(UpstreamSaw::Any)
        .with_close_reasons(&[CLIENT_GONE]),
        fault_row(
            "h2-reset-in-body",
            "resets the stream inside the body",
            vec![
                send_headers(FAULT_STREAM, &profile.post_headers("h2-reset-in-body"), false),
                send(data_frame(FAULT_STREAM, "abc", false)),
                FrameStep::WaitForUpstreamRequest,
                send(frames::rst_stream_frame(FAULT_STREAM, 8)),
            ],
            vec![(FAULT_STREAM, StreamOutcome::NoResponse)],
            CloseOutcome::KeptOpen,
        )
        .with_upstream_saw(UpstreamSaw::AtMostPartial)
        .with_close_reasons(&[CLIENT_GONE]),
    ]
}

/// Bodies that stall.
pub(super) fn slow(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    let slow = StreamOutcome::Response(ExpectedResponse::RejectedOnRoute(Cause::ClientTooSlow));
    let stalled = |name, description, bytes: Vec<u8>| {
        let steps = vec![send_headers(FAULT_STREAM, &profile.post_headers(name), false), send(bytes)];
        fault_row(name, description, steps, vec![(FAULT_STREAM, slow)], CloseOutcome::KeptOpen)
            .with_upstream_saw(UpstreamSaw::AtMostPartial)
    };
    let steps = vec![
        send_headers(FAULT_STREAM, &profile.post_headers("h2-body-of-nothing"), false),
        FrameStep::SendSlowly(data_frame(FAULT_STREAM, "", false).into(), PAUSE),
    ];
    vec![
        stalled("h2-body-never-comes", "HEADERS without the body that they promise", Vec::new()),
        stalled("h2-body-stops", "stalls inside the body", data_frame(FAULT_STREAM, "abc", false)),
        fault_row(
            "h2-body-of-nothing",
            "empty DATA frames instead of a body",
            steps,
            vec![(FAULT_STREAM, slow)],
            CloseOutcome::KeptOpen,
        )
        .with_upstream_saw(UpstreamSaw::AtMostPartial),
    ]
}
