//! Rows of the table about requests that ask to change to WebSocket, and an upstream that does not do so as it should.
//!
//! A 101 that is no answer to what was asked leaves the two sides speaking different languages over one connection; a
//! refusal is an ordinary error. What happens in a tunnel that has come about is no fault of a response.

use crate::contract::Cause;

use super::super::script::{UpstreamStep, http_response, write_bytes};
use super::{
    FaultOutcome, FaultRequest, INTERNAL_HOSTNAME, ReplyReason, UpstreamFault, after_request, fault_row,
    forwarded_row, replaced_row,
};

/// The key of the requests, which is that of RFC 6455, and what answers it.
const UPGRADE_FIELDS: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ACCEPT_FIELD: &str = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// All of them.
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
        replaced_row("upgrade-403", "refuses it with a page and 403", 403, 403, page("403 Forbidden")),
        replaced_row(
            "upgrade-426",
            "refuses it with a page and 426",
            426,
            400,
            page("426 Upgrade Required\nconnection: upgrade\nupgrade: websocket\nsec-websocket-version: 8"),
        ),
        replaced_row("upgrade-500", "refuses it with a page and 500", 500, 500, page("500 Oops")),
        replaced_row("upgrade-502", "refuses it with a page and 502", 502, 504, page("502 Bad Gateway")),
        forwarded_row(
            "upgrade-200",
            "serves it as any other request",
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
            "switches without saying to what",
            &format!("{start}connection: upgrade\r\n{ACCEPT_FIELD}"),
        ),
        switching(
            "upgrade-unconnected",
            "switches without naming Upgrade in Connection",
            &format!("{start}upgrade: websocket\r\n{ACCEPT_FIELD}"),
        ),
        switching(
            "upgrade-wrong-accept",
            "switches with the answer to another key",
            &format!(
                "{start}connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: d3Jvbmc=\r\n"
            ),
        ),
        switching(
            "upgrade-no-accept",
            "switches without an answer to the key",
            &format!("{start}connection: upgrade\r\nupgrade: websocket\r\n"),
        ),
        switching("upgrade-old-version", "switches on HTTP/1.0", &agreed.replace("HTTP/1.1", "HTTP/1.0")),
        switching(
            "upgrade-with-length",
            "gives a length on its 101",
            &format!("{agreed}content-length: 5\r\n"),
        ),
        switching(
            "upgrade-with-chunks",
            "announces chunks on its 101",
            &format!("{agreed}transfer-encoding: chunked\r\n"),
        ),
    ]
}

fn missing_response() -> Vec<UpstreamFault> {
    vec![
        upgrade_fault_row(
            "upgrade-close",
            "closes instead of an answer",
            Cause::ConnectionTerminated,
            vec![UpstreamStep::Close],
        ),
        upgrade_fault_row(
            "upgrade-hang",
            "falls silent",
            Cause::HttpResponseTimeout,
            vec![UpstreamStep::ReadUntilClose],
        ),
        upgrade_fault_row(
            "upgrade-torn",
            "closes inside its 101",
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
