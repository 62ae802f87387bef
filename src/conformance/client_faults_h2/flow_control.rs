//! HTTP/2 flow control: windows that overflow, invalid WINDOW_UPDATE frames, and windows that stay closed.

use crate::contract::Cause;

use super::super::client_faults::{ExpectedResponse, FAULT_HEADER, GatewayProfile, UpstreamSaw};
use super::super::frames::{setting_id, window_update_frame};
use super::{
    CLIENT_GONE, CONNECTION_ERROR, CloseOutcome, FAULT_STREAM, FrameStep, H2ClientFault, StreamOutcome,
    connection_error, fault_row, send, send_headers, while_pending,
};

const MAX_WINDOW: u32 = 0x7fff_ffff;

pub(super) fn flow_control(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    let endless = |name, description, settings: &[(u16, u32)], bytes: Vec<u8>| {
        let steps = vec![
            send_headers(FAULT_STREAM, &profile.get_headers(name).with(FAULT_HEADER, "endless"), true),
            send(bytes),
        ];
        let cut = StreamOutcome::Response(ExpectedResponse::Truncated(Cause::ClientTooSlow));
        fault_row(name, description, steps, vec![(FAULT_STREAM, cut)], CloseOutcome::KeptOpen)
            .with_upstream_saw(UpstreamSaw::Any)
            .with_settings(settings)
            .without_background_stream()
    };
    let closed = [(setting_id::INITIAL_WINDOW_SIZE, 0)];
    let opened = |name, description, first: u32| {
        // The window starts at 0 and opens while the response waits for it.
        let steps = vec![
            send_headers(FAULT_STREAM, &profile.get_headers(name), true),
            FrameStep::WaitForUpstreamRequest,
            send(window_update_frame(FAULT_STREAM, first)),
            send(window_update_frame(FAULT_STREAM, 1000)),
        ];
        fault_row(
            name,
            description,
            steps,
            vec![(FAULT_STREAM, StreamOutcome::Response(ExpectedResponse::Served))],
            CloseOutcome::KeptOpen,
        )
        .with_settings(&closed)
        .without_background_stream()
    };
    let end = |name, description, then: Vec<u8>, ending| {
        let outcome =
            if ending == CloseOutcome::KeptOpen { StreamOutcome::Reset } else { StreamOutcome::NoResponse };
        let row = while_pending(name, description, profile, then, outcome, ending);
        if ending == CloseOutcome::KeptOpen {
            row
        } else {
            row.with_close_reasons(&[CONNECTION_ERROR, CLIENT_GONE])
        }
    };
    vec![
        end(
            "h2-stream-window-overflow",
            "a stream window above 2^31-1",
            window_update_frame(FAULT_STREAM, MAX_WINDOW),
            CloseOutcome::KeptOpen,
        ),
        end(
            "h2-window-overflow",
            "a connection window above 2^31-1",
            window_update_frame(0, MAX_WINDOW),
            CloseOutcome::ErrorGoaway,
        ),
        end(
            "h2-stream-window-of-nothing",
            "WINDOW_UPDATE of 0 on a stream",
            window_update_frame(FAULT_STREAM, 0),
            CloseOutcome::ErrorGoaway,
        ),
        end(
            "h2-window-of-nothing",
            "WINDOW_UPDATE of 0 on the connection",
            window_update_frame(0, 0),
            CloseOutcome::ErrorGoaway,
        ),
        connection_error("h2-window-of-nobody", "WINDOW_UPDATE on an idle stream", window_update_frame(9, 1)),
        endless(
            "h2-window-closed",
            "reads nothing of an endless response: the window is 0",
            &closed,
            Vec::new(),
        ),
        endless(
            "h2-window-ajar",
            "reads 100 bytes of an endless response",
            &closed,
            window_update_frame(FAULT_STREAM, 100),
        ),
        fault_row(
            "h2-error-not-taken",
            "reads nothing of the error response to a malformed request: the window is 0",
            vec![send_headers(
                FAULT_STREAM,
                &profile.get_headers("h2-error-not-taken").replace(":path", "/a/../b"),
                true,
            )],
            vec![(FAULT_STREAM, StreamOutcome::HeadersOnly(Cause::AmbiguousPath))],
            CloseOutcome::KeptOpen,
        )
        .with_settings(&closed)
        .without_background_stream()
        .with_dot_segment_path("/a/../b"),
        opened("h2-window-opens", "opens the window late and byte by byte", 1),
    ]
}
