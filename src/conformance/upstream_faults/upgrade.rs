//! WebSocket upgrades that the upstream rejects or answers incorrectly.
//!
//! After an invalid 101 the two sides would use different protocols on one connection. A rejection is an ordinary
//! error. Failures inside an established tunnel are not part of this table.

use crate::contract::Cause;

use super::super::script::{UpstreamStep, http_response, write_bytes};
use super::{
    FaultOutcome, FaultRequest, INTERNAL_HOSTNAME, ReplyReason, UpstreamFault, after_request, fault_row,
    forwarded_row, replaced_row,
};

/// The request fields with the example key of RFC 6455, section 1.3, and the matching Sec-WebSocket-Accept.
const UPGRADE_FIELDS: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ACCEPT_FIELD: &str = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// All rows of this file.
pub(super) fn rows() -> Vec<UpstreamFault> {
    let rows = [rejected(), invalid_agreement(), missing_response()].concat();
    rows.into_iter()
        .map(|row| UpstreamFault {
            request: FaultRequest { header_lines: UPGRADE_FIELDS, ..FaultRequest::single("GET") },
            ..row
        })
        .collect()
}

fn rejected() -> Vec<UpstreamFault> {
    let page = |status: &str| {
        let head = format!("{status}\ncontent-type: text/html\nx-served-by: {INTERNAL_HOSTNAME}");
        vec![write_bytes(http_response(&head, format!("<h1>{INTERNAL_HOSTNAME}</h1>")))]
    };
    vec![
        replaced_row(
            "upgrade-403",
            "rejects the upgrade with 403 and an HTML page",
            403,
            403,
            page("403 Forbidden"),
        ),
        replaced_row(
            "upgrade-426",
            "rejects the upgrade with 426 and an HTML page",
            426,
            400,
            page("426 Upgrade Required\nconnection: upgrade\nupgrade: websocket\nsec-websocket-version: 8"),
        ),
        replaced_row(
            "upgrade-500",
            "rejects the upgrade with 500 and an HTML page",
            500,
            500,
            page("500 Oops"),
        ),
        replaced_row(
            "upgrade-502",
            "rejects the upgrade with 502 and an HTML page",
            502,
            504,
            page("502 Bad Gateway"),
        ),
        forwarded_row(
            "upgrade-200",
            "ignores the upgrade and responds with 200",
            200,
            "hello",
            vec![write_bytes(http_response("200 OK\ncontent-type: text/plain", "hello"))],
        ),
    ]
}

fn invalid_agreement() -> Vec<UpstreamFault> {
    let switching = |name, description, head: &str| {
        let bytes = format!("{head}x-served-by: {INTERNAL_HOSTNAME}\r\n\r\n{INTERNAL_HOSTNAME}");
        upgrade_fault_row(
            name,
            description,
            Cause::HttpUpgradeFailed,
            vec![write_bytes(bytes), UpstreamStep::ReadUntilClose],
        )
    };
    let start = "HTTP/1.1 101 Switching Protocols\r\n";
    let agreed = format!("{start}connection: upgrade\r\nupgrade: websocket\r\n{ACCEPT_FIELD}");
    vec![
        switching(
            "upgrade-other-protocol",
            "switches to another protocol",
            &format!("{start}connection: upgrade\r\nupgrade: h2c\r\n"),
        ),
        switching(
            "upgrade-two-protocols",
            "switches to two protocols at once",
            &format!("{start}connection: upgrade\r\nupgrade: websocket, h2c\r\n{ACCEPT_FIELD}"),
        ),
        switching(
            "upgrade-unnamed",
            "sends 101 without an Upgrade field",
            &format!("{start}connection: upgrade\r\n{ACCEPT_FIELD}"),
        ),
        switching(
            "upgrade-unconnected",
            "sends 101 without Connection: upgrade",
            &format!("{start}upgrade: websocket\r\n{ACCEPT_FIELD}"),
        ),
        switching(
            "upgrade-wrong-accept",
            "sends 101 with the wrong Sec-WebSocket-Accept",
            &format!(
                "{start}connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: d3Jvbmc=\r\n"
            ),
        ),
        switching(
            "upgrade-no-accept",
            "sends 101 without Sec-WebSocket-Accept",
            &format!("{start}connection: upgrade\r\nupgrade: websocket\r\n"),
        ),
        switching("upgrade-old-version", "sends 101 in HTTP/1.0", &agreed.replace("HTTP/1.1", "HTTP/1.0")),
    ]
}

fn missing_response() -> Vec<UpstreamFault> {
    vec![
        upgrade_fault_row(
            "upgrade-close",
            "closes without a response",
            Cause::ConnectionTerminated,
            vec![UpstreamStep::Close],
        ),
        upgrade_fault_row(
            "upgrade-hang",
            "never responds",
            Cause::HttpResponseTimeout,
            vec![UpstreamStep::ReadUntilClose],
        ),
        upgrade_fault_row(
            "upgrade-torn",
            "closes inside the headers of its 101",
            Cause::ConnectionTerminated,
            vec![write_bytes("HTTP/1.1 101 Switching Protocols\r\nconnection: upg"), UpstreamStep::Close],
        ),
    ]
}

fn upgrade_fault_row(
    name: &'static str,
    description: &'static str,
    cause: Cause,
    steps: Vec<UpstreamStep>,
) -> UpstreamFault {
    let outcome = FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Fault(cause) };
    UpstreamFault { script: after_request(steps), ..fault_row(name, description, outcome) }
}
