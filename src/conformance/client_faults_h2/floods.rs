//! Floods: large numbers of frames that are cheap for the client, and that the gateway must survive or limit.

use super::super::client_faults::{ExpectedResponse, FAULT_HEADER, GatewayProfile, UpstreamSaw};
use super::super::frames::{self, encode_frame, frame_type, settings_frame, window_update_frame};
use super::{
    CONNECTION_ERROR, CloseOutcome, FAULT_STREAM, FrameStep, H2ClientFault, MAX_FRAME_PAYLOAD, StreamOutcome,
    connection_error, fault_row, headers_frames, send, send_headers,
};

pub(super) fn floods(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    // The gateway accepts the whole flood and serves the next request.
    let tolerated = |name, description, flood: Vec<u8>, times| {
        let steps = vec![
            FrameStep::SendRepeated(flood.into(), times),
            send_headers(FAULT_STREAM + 2, &profile.get_headers(name), true),
        ];
        fault_row(
            name,
            description,
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
        tolerated("h2-ping-flood", "10,000 PING frames", ping.repeat(100), 100),
        tolerated("h2-settings-flood", "10,000 SETTINGS frames", settings_frame(&[]).repeat(100), 100),
        tolerated(
            "h2-window-flood",
            "10,000 WINDOW_UPDATE frames of 1 byte",
            window_update_frame(0, 1).repeat(100),
            100,
        ),
        tolerated("h2-priority-flood", "10,000 PRIORITY frames", priority.repeat(100), 100),
        tolerated(
            "h2-unknown-flood",
            "10,000 frames of an unknown type",
            encode_frame(0x77, 0, 0, [0; 64]).repeat(100),
            100,
        ),
        connection_error("h2-rapid-reset", "1,000 requests, each reset immediately", resets)
            .with_upstream_saw(UpstreamSaw::Any)
            .nondeterministic(),
        connection_error("h2-continuation-flood", "a header block in 1,000 empty frames", continued),
        connection_error("h2-endless-head", "a header block that grows by 16 KiB 1,000 times", growing),
        fault_row(
            "h2-malformed-streams",
            "2,000 malformed requests",
            vec![send(malformed)],
            Vec::new(),
            CloseOutcome::ErrorGoaway,
        )
        .with_close_reasons(&[CONNECTION_ERROR])
        .nondeterministic(),
    ]
}
