//! Rows of clients that send what costs them little: so many frames that somebody has to say when it is enough.

use super::super::client_faults::{ExpectedResponse, FAULT_HEADER, GatewayProfile, UpstreamSaw};
use super::super::frames::{self, encode_frame, frame_type, settings_frame, window_update_frame};
use super::{
    CONNECTION_ERROR, CloseOutcome, FAULT_STREAM, FrameStep, H2ClientFault, MAX_FRAME_PAYLOAD, StreamOutcome,
    connection_error, fault_row, headers_frames, send, send_headers,
};

pub(super) fn floods(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    // What is borne to its end, and the request behind it served.
    let borne = |name, meaning, flood: Vec<u8>, times| {
        let steps = vec![
            FrameStep::SendRepeated(flood.into(), times),
            send_headers(FAULT_STREAM + 2, &profile.get_headers(name), true),
        ];
        fault_row(
            name,
            meaning,
            steps,
            vec![(FAULT_STREAM + 2, StreamOutcome::Response(ExpectedResponse::Served))],
            CloseOutcome::KeptOpen,
        )
    };
    let ping = encode_frame(frame_type::PING, 0, 0, [7; 8]);
    let priority = encode_frame(frame_type::PRIORITY, 0, FAULT_STREAM, [0, 0, 0, 1, 1]);
    let resets: Vec<u8> = (0..1000)
        .flat_map(|number| {
            let stream = FAULT_STREAM + 2 * number;
            let hang = profile.get_headers("h2-rapid-reset").with(FAULT_HEADER, "hang");
            [headers_frames(stream, &hang, true), frames::rst_stream_frame(stream, 8)].concat()
        })
        .collect();
    let continued: Vec<u8> = (0..1000)
        .flat_map(|number| {
            let kind = if number == 0 { frame_type::HEADERS } else { frame_type::CONTINUATION };
            encode_frame(kind, 0, FAULT_STREAM, [])
        })
        .collect();
    let growing: Vec<u8> = (0..1000)
        .flat_map(|number| {
            let kind = if number == 0 { frame_type::HEADERS } else { frame_type::CONTINUATION };
            let mut octets = vec![0, 1, b'x', 0x7f, 0xf0, 0x7e];
            octets.resize(MAX_FRAME_PAYLOAD, b'y');
            encode_frame(kind, 0, FAULT_STREAM, octets)
        })
        .collect();
    let malformed: Vec<u8> = (0..2000)
        .flat_map(|number| {
            headers_frames(
                FAULT_STREAM + 2 * number,
                &profile.get_headers("h2-malformed-streams").with("connection", "close"),
                true,
            )
        })
        .collect();
    vec![
        borne("h2-ping-flood", "ten thousand PINGs at once", ping.repeat(100), 100),
        borne("h2-settings-flood", "ten thousand SETTINGS at once", settings_frame(&[]).repeat(100), 100),
        borne(
            "h2-window-flood",
            "ten thousand windows of one byte more",
            window_update_frame(0, 1).repeat(100),
            100,
        ),
        borne("h2-priority-flood", "ten thousand orders of streams", priority.repeat(100), 100),
        borne(
            "h2-unknown-flood",
            "ten thousand frames that nobody knows",
            encode_frame(0x77, 0, 0, [0; 64]).repeat(100),
            100,
        ),
        connection_error("h2-rapid-reset", "a thousand requests, each reset at once", resets)
            .with_upstream_saw(UpstreamSaw::Any)
            .nondeterministic(),
        connection_error("h2-continuation-flood", "a header block in a thousand empty pieces", continued),
        connection_error("h2-endless-head", "a header block that grows by 16 KiB a thousand times", growing),
        fault_row(
            "h2-malformed-streams",
            "two thousand malformed requests at once",
            vec![send(malformed)],
            Vec::new(),
            CloseOutcome::ErrorGoaway,
        )
        .with_close_reasons(&[CONNECTION_ERROR])
        .nondeterministic(),
    ]
}
