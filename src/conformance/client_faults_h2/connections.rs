//! HTTP/2 connection errors: invalid frames, invalid streams, and connections that stall.

use super::super::client_faults::{ExpectedResponse, FAULT_HEADER, GatewayProfile, PAUSE, UpstreamSaw};
use super::super::frames::{
    self, END_HEADERS, END_STREAM, PADDED, PREFACE, encode_frame, frame_type, setting_id, settings_frame,
};
use super::{
    CLIENT_GONE, CloseOutcome, FAULT_STREAM, FrameStep, H2ClientFault, IDLE_TIMEOUT, MAX_FRAME_PAYLOAD,
    STREAM_ERROR, StreamOutcome, connection_error, data_frame, fault_row, headers_frames, send, send_headers,
};

/// Frames with invalid content or in an invalid place.
pub(super) fn frames(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    let ping = |length: usize, stream| encode_frame(frame_type::PING, 0, stream, vec![0; length]);
    let unknown =
        [encode_frame(0x77, 0xff, 0, "unknown"), encode_frame(0x77, 0xff, FAULT_STREAM, "unknown")].concat();
    let priority = |stream: u32, on: u32| {
        encode_frame(frame_type::PRIORITY, 0, stream, [&on.to_be_bytes()[..], &[1]].concat())
    };
    let begun = |name| {
        let octets = profile.get_headers(name).encode();
        let (first, rest) = octets.split_at_checked(5).unwrap_or_default();
        (encode_frame(frame_type::HEADERS, END_STREAM, FAULT_STREAM, first), rest.to_vec())
    };
    let (first, rest) = begun("h2-interleaved");
    let interleaved =
        [first, ping(8, 0), encode_frame(frame_type::CONTINUATION, END_HEADERS, FAULT_STREAM, rest)].concat();
    let (first, rest) = begun("h2-strange-continuation");
    let strange = [first, encode_frame(frame_type::CONTINUATION, END_HEADERS, 5, rest)].concat();
    let with_background_stream = |name, description, frames: Vec<u8>| {
        let steps = vec![send(frames), send_headers(FAULT_STREAM + 2, &profile.get_headers(name), true)];
        fault_row(
            name,
            description,
            steps,
            vec![(FAULT_STREAM + 2, StreamOutcome::Response(ExpectedResponse::Served))],
            CloseOutcome::KeptOpen,
        )
    };
    vec![
        with_background_stream("h2-unknown-frames", "frames of an unknown type", unknown),
        with_background_stream("h2-priorities", "PRIORITY frames", priority(FAULT_STREAM, 1)),
        connection_error(
            "h2-no-continuation",
            "CONTINUATION without HEADERS",
            encode_frame(frame_type::CONTINUATION, END_HEADERS, FAULT_STREAM, []),
        ),
        connection_error("h2-interleaved", "PING inside a header block", interleaved),
        connection_error("h2-strange-continuation", "CONTINUATION on another stream", strange),
        connection_error(
            "h2-frame-too-large",
            "a frame of 17 KiB",
            encode_frame(frame_type::PING, 0, 0, vec![0; MAX_FRAME_PAYLOAD + 1024]),
        ),
        connection_error("h2-short-ping", "PING of 7 bytes", ping(7, 0)),
        connection_error("h2-ping-on-a-stream", "PING on a stream", ping(8, FAULT_STREAM)),
        connection_error(
            "h2-settings-on-a-stream",
            "SETTINGS on a stream",
            encode_frame(frame_type::SETTINGS, 0, FAULT_STREAM, []),
        ),
        connection_error(
            "h2-short-settings",
            "SETTINGS of 5 bytes",
            encode_frame(frame_type::SETTINGS, 0, 0, [0; 5]),
        ),
        connection_error(
            "h2-settings-answer",
            "a SETTINGS ACK with a payload",
            encode_frame(frame_type::SETTINGS, 1, 0, [0; 6]),
        ),
        connection_error(
            "h2-window-too-large",
            "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1",
            settings_frame(&[(setting_id::INITIAL_WINDOW_SIZE, u32::MAX)]),
        ),
        connection_error(
            "h2-frames-too-small",
            "SETTINGS_MAX_FRAME_SIZE below 16 KiB",
            settings_frame(&[(setting_id::MAX_FRAME_SIZE, 100)]),
        ),
        connection_error(
            "h2-push",
            "PUSH_PROMISE from a client",
            encode_frame(
                frame_type::PUSH_PROMISE,
                END_HEADERS,
                FAULT_STREAM,
                [&[0, 0, 0, 4][..], &profile.get_headers("h2-push").encode()].concat(),
            ),
        ),
        connection_error(
            "h2-padding-too-long",
            "padding longer than the frame",
            encode_frame(frame_type::HEADERS, END_STREAM | END_HEADERS | PADDED, FAULT_STREAM, [200, 0, 0]),
        ),
        connection_error("h2-data-on-the-connection", "DATA on stream 0", data_frame(0, "x", false)),
        connection_error(
            "h2-head-on-the-connection",
            "HEADERS on stream 0",
            headers_frames(0, &profile.get_headers("h2-head-on-the-connection"), true),
        ),
    ]
}

/// Invalid streams.
pub(super) fn streams(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    let older = |name| {
        let steps = vec![
            send_headers(9, &profile.get_headers(name), true),
            FrameStep::WaitForStreamEnd(9),
            send_headers(FAULT_STREAM, &profile.get_headers(name), true),
        ];
        fault_row(
            name,
            "a stream identifier lower than the previous one",
            steps,
            vec![(9, StreamOutcome::Response(ExpectedResponse::Served))],
            CloseOutcome::ErrorGoaway,
        )
    };
    // One stream above the limit. The upstream never responds, so that all streams stay open until the connection ends.
    let max_streams = 128;
    let hang = profile.get_headers("h2-too-many-streams").with(FAULT_HEADER, "hang");
    let numbers = || (0..=max_streams).map(|number| FAULT_STREAM + 2 * number);
    let all: Vec<u8> = numbers().flat_map(|stream| headers_frames(stream, &hang, true)).collect();
    let outcomes = numbers().map(|stream| {
        (
            stream,
            if stream == FAULT_STREAM + 2 * max_streams {
                StreamOutcome::Reset
            } else {
                StreamOutcome::NoResponse
            },
        )
    });
    let mut silences = vec![CLIENT_GONE; 128];
    silences.push(STREAM_ERROR);
    vec![
        connection_error(
            "h2-even-stream",
            "an even stream identifier",
            headers_frames(4, &profile.get_headers("h2-even-stream"), true),
        ),
        older("h2-lower-stream"),
        connection_error(
            "h2-data-without-head",
            "DATA on an idle stream",
            data_frame(FAULT_STREAM, "x", false),
        ),
        connection_error(
            "h2-reset-without-head",
            "RST_STREAM on an idle stream",
            frames::rst_stream_frame(FAULT_STREAM, 8),
        ),
        fault_row(
            "h2-too-many-streams",
            "one stream above SETTINGS_MAX_CONCURRENT_STREAMS",
            vec![send(all), FrameStep::WaitForStreamEnd(FAULT_STREAM + 2 * max_streams), FrameStep::Close],
            outcomes.collect(),
            CloseOutcome::ClientClosed,
        )
        .with_upstream_saw(UpstreamSaw::Any)
        .with_close_reasons(&silences),
        fault_row(
            "h2-leaves-while-waiting",
            "closes the connection while a stream waits for its response",
            vec![
                send_headers(
                    FAULT_STREAM,
                    &profile.get_headers("h2-leaves-while-waiting").with(FAULT_HEADER, "hang"),
                    true,
                ),
                FrameStep::WaitForUpstreamRequest,
                FrameStep::Close,
            ],
            vec![(FAULT_STREAM, StreamOutcome::NoResponse)],
            CloseOutcome::ClientClosed,
        )
        .with_upstream_saw(UpstreamSaw::Any)
        .with_close_reasons(&[CLIENT_GONE]),
        fault_row(
            "h2-goaway",
            "sends GOAWAY while a request is in progress, and receives its response",
            vec![send(
                [
                    headers_frames(FAULT_STREAM, &profile.get_headers("h2-goaway"), true),
                    encode_frame(frame_type::GOAWAY, 0, 0, [0; 8]),
                ]
                .concat(),
            )],
            vec![(FAULT_STREAM, StreamOutcome::Response(ExpectedResponse::Served))],
            CloseOutcome::GracefulGoaway,
        ),
    ]
}

/// Connections that are idle or stall inside a frame.
pub(super) fn slow(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    let idle = |name, description, steps| {
        fault_row(name, description, steps, Vec::new(), CloseOutcome::GracefulGoaway)
            .with_close_reasons(&[IDLE_TIMEOUT])
    };
    let octets = profile.get_headers("h2-half-a-head").encode();
    let (half, _) = octets.split_at_checked(9).unwrap_or_default();
    let half = encode_frame(frame_type::HEADERS, END_STREAM, FAULT_STREAM, half);
    let ping = encode_frame(frame_type::PING, 0, 0, [7; 8]);
    let mut bare = idle("h2-preface-alone", "the preface and nothing after it", vec![send(PREFACE)]);
    bare.settings = None;
    let mut other = fault_row(
        "h2-no-settings",
        "a request instead of SETTINGS, which the library accepts",
        vec![send(
            [PREFACE.to_vec(), headers_frames(FAULT_STREAM, &profile.get_headers("h2-no-settings"), true)]
                .concat(),
        )],
        vec![(FAULT_STREAM, StreamOutcome::Response(ExpectedResponse::Served))],
        CloseOutcome::GracefulGoaway,
    )
    .with_close_reasons(&[IDLE_TIMEOUT]);
    other.settings = None;
    vec![
        bare,
        other,
        idle("h2-no-request", "a connection without a request", Vec::new()),
        idle(
            "h2-pings-alone",
            "repeated PING without a request",
            vec![FrameStep::SendSlowly(ping.clone().into(), PAUSE)],
        ),
        idle(
            "h2-half-a-head",
            "an unfinished header block",
            vec![send(half.clone()), FrameStep::SuppressAcks],
        ),
        idle(
            "h2-dripped-head",
            "an unfinished header block in slow empty CONTINUATION frames",
            vec![
                send(half),
                FrameStep::SendSlowly(
                    encode_frame(frame_type::CONTINUATION, 0, FAULT_STREAM, []).into(),
                    PAUSE,
                ),
                FrameStep::SuppressAcks,
            ],
        ),
        idle(
            "h2-half-a-frame",
            "PING without its last byte, then a stall",
            vec![send(all_but_last_octet(&ping)), FrameStep::SuppressAcks],
        ),
        idle(
            "h2-half-a-frame-head",
            "3 bytes of a frame header, then a stall",
            vec![send([0, 0, 8].as_slice()), FrameStep::SuppressAcks],
        ),
    ]
}

/// The frame without its last byte.
fn all_but_last_octet(frame: &[u8]) -> Vec<u8> {
    frame.split_last().map_or_else(Vec::new, |(_, rest)| rest.to_vec())
}
