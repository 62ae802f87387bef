//! Rows of the table about requests that ask to change to WebSocket, and an upstream that does not do so as it should.
//!
//! A 101 that is no answer to what was asked leaves the two sides speaking different languages over one connection; a
//! refusal is an ordinary error. What happens in a tunnel that has come about is no fault of a response.

use crate::contract::Cause;

use super::super::script::{Step, reply, say};
use super::{Ask, Outcome, SECRET, UpstreamFault, Why, after_the_head, answered, passed, row};

/// The key of the requests, which is that of RFC 6455, and what answers it.
const FIELDS: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ACCEPT: &str = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// All of them.
pub(super) fn rows() -> Vec<UpstreamFault> {
    let rows = [refused(), not_agreed(), unanswered()].concat();
    rows.into_iter()
        .map(|row| UpstreamFault { ask: Ask { fields: FIELDS, ..Ask::once("GET") }, ..row })
        .collect()
}

fn refused() -> Vec<UpstreamFault> {
    let page = |status: &str| {
        let head = format!("{status}\ncontent-type: text/html\nx-served-by: {SECRET}");
        vec![say(reply(&head, format!("<h1>{SECRET}</h1>")))]
    };
    vec![
        answered("upgrade-403", "refuses it with a page and 403", 403, 403, page("403 Forbidden")),
        answered(
            "upgrade-426",
            "refuses it with a page and 426",
            426,
            400,
            page("426 Upgrade Required\nconnection: upgrade\nupgrade: websocket\nsec-websocket-version: 8"),
        ),
        answered("upgrade-500", "refuses it with a page and 500", 500, 500, page("500 Oops")),
        answered("upgrade-502", "refuses it with a page and 502", 502, 504, page("502 Bad Gateway")),
        passed(
            "upgrade-200",
            "serves it as any other request",
            200,
            "hello",
            vec![say(reply("200 OK\ncontent-type: text/plain", "hello"))],
        ),
    ]
}

fn not_agreed() -> Vec<UpstreamFault> {
    let switching = |name, meaning, head: &str| {
        let bytes = format!("{head}x-served-by: {SECRET}\r\n\r\n{SECRET}");
        fault(name, meaning, Cause::HttpUpgradeFailed, vec![say(bytes), Step::Hang])
    };
    let start = "HTTP/1.1 101 Switching Protocols\r\n";
    let agreed = format!("{start}connection: upgrade\r\nupgrade: websocket\r\n{ACCEPT}");
    vec![
        switching(
            "upgrade-other-protocol",
            "switches to another protocol",
            &format!("{start}connection: upgrade\r\nupgrade: h2c\r\n"),
        ),
        switching(
            "upgrade-two-protocols",
            "switches to two protocols at once",
            &format!("{start}connection: upgrade\r\nupgrade: websocket, h2c\r\n{ACCEPT}"),
        ),
        switching(
            "upgrade-unnamed",
            "switches without saying to what",
            &format!("{start}connection: upgrade\r\n{ACCEPT}"),
        ),
        switching(
            "upgrade-unconnected",
            "switches without naming Upgrade in Connection",
            &format!("{start}upgrade: websocket\r\n{ACCEPT}"),
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

fn unanswered() -> Vec<UpstreamFault> {
    vec![
        fault("upgrade-close", "closes instead of an answer", Cause::ConnectionTerminated, vec![Step::Close]),
        fault("upgrade-hang", "falls silent", Cause::HttpResponseTimeout, vec![Step::Hang]),
        fault(
            "upgrade-torn",
            "closes inside its 101",
            Cause::ConnectionTerminated,
            vec![say("HTTP/1.1 101 Switching Protocols\r\nconnection: upg"), Step::Close],
        ),
    ]
}

fn fault(name: &'static str, meaning: &'static str, cause: Cause, steps: Vec<Step>) -> UpstreamFault {
    let outcome = Outcome::Answered { code: 504, why: Why::Fault(cause) };
    UpstreamFault { script: after_the_head(steps), ..row(name, meaning, outcome) }
}
