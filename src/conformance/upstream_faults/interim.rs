//! Responses without a body: 1xx, 204, 304, and responses to HEAD.
//!
//! If a server sends a body anyway, its bytes must never be parsed as the next response.

use std::time::Duration;

use crate::contract::Cause;

use super::super::script::{UpstreamStep, http_response, write_bytes};
use super::{
    FaultOutcome, FaultRequest, INTERNAL_HOSTNAME, ReplyReason, UpstreamFault, after_request, fault_row,
    forwarded_row, replaced_row,
};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";
const FINAL_RESPONSE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// All rows of this file.
pub(super) fn rows() -> Vec<UpstreamFault> {
    [before_a_response(), before_a_fault(), without_a_body(), head_responses()].concat()
}

fn before_a_response() -> Vec<UpstreamFault> {
    let ok = |name, description, before: String, interim| UpstreamFault {
        interim_statuses: interim,
        ..forwarded_row(
            name,
            description,
            200,
            "hello",
            vec![write_bytes(format!("{before}{FINAL_RESPONSE}"))],
        )
    };
    let framed = |field: &str| format!("HTTP/1.1 103 Early Hints\r\n{field}\r\n\r\n");
    vec![
        ok("103-then-200", "sends 103, then the final response", HINTS.to_owned(), &[103]),
        ok(
            "continue-unasked",
            "sends 100 although the request has no Expect field",
            "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
            &[100],
        ),
        ok("processing-twice", "sends 102 twice", "HTTP/1.1 102 Processing\r\n\r\n".repeat(2), &[102, 102]),
        ok("103-with-length", "sends 103 with Content-Length: 0", framed("content-length: 0"), &[103]),
        ok("interim-16", "sends 16 interim responses", HINTS.repeat(16), &[103; 16]),
        UpstreamFault {
            interim_statuses: &[103],
            ..replaced_row(
                "103-then-500",
                "sends 103, then an error page",
                500,
                500,
                vec![
                    write_bytes(HINTS),
                    write_bytes(http_response(
                        "500 Oops\ncontent-type: text/html",
                        format!("<h1>{INTERNAL_HOSTNAME}</h1>"),
                    )),
                ],
            )
        },
    ]
}

fn before_a_fault() -> Vec<UpstreamFault> {
    let fault = |name, description, cause, interim, steps: Vec<UpstreamStep>| UpstreamFault {
        script: after_request(steps),
        interim_statuses: interim,
        ..fault_row(
            name,
            description,
            FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Fault(cause) },
        )
    };
    let broken = Cause::HttpProtocolError;
    let switching = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-served-by: {INTERNAL_HOSTNAME}\r\n\r\n"
    );
    vec![
        fault(
            "interim-flood",
            "sends interim responses without end",
            broken,
            &[103; 16],
            vec![UpstreamStep::WriteRepeated {
                bytes: HINTS.into(),
                count: u64::MAX,
                interval: Duration::ZERO,
            }],
        ),
        fault(
            "interim-17",
            "sends 17 interim responses",
            broken,
            &[103; 16],
            vec![write_bytes(HINTS.repeat(17)), write_bytes(FINAL_RESPONSE)],
        ),
        fault(
            "103-then-close",
            "sends 103 and closes",
            Cause::ConnectionTerminated,
            &[103],
            vec![write_bytes(HINTS), UpstreamStep::Close],
        ),
        fault(
            "103-then-hang",
            "sends 103 and stalls",
            Cause::HttpResponseTimeout,
            &[103],
            vec![write_bytes(HINTS), UpstreamStep::ReadUntilClose],
        ),
        fault(
            "103-with-body",
            "sends 103 with a body",
            broken,
            &[103],
            vec![
                write_bytes("HTTP/1.1 103 Early Hints\r\ncontent-length: 5\r\n\r\nhello"),
                write_bytes(FINAL_RESPONSE),
                UpstreamStep::Close,
            ],
        ),
        fault(
            "103-with-chunks",
            "sends 103 with a chunked body",
            broken,
            &[103],
            vec![
                write_bytes(
                    "HTTP/1.1 103 Early Hints\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                ),
                write_bytes(FINAL_RESPONSE),
                UpstreamStep::Close,
            ],
        ),
        fault(
            "unsolicited-101",
            "switches protocols although the request has no Upgrade field",
            broken,
            &[],
            vec![write_bytes(switching), UpstreamStep::ReadUntilClose],
        ),
    ]
}

fn without_a_body() -> Vec<UpstreamFault> {
    let bare = |name, description, code, bytes: &'static str| {
        forwarded_row(name, description, code, "", vec![write_bytes(bytes)])
    };
    vec![
        bare(
            "204-with-length",
            "sends 204 with Content-Length: 0",
            204,
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
        ),
        bare(
            "204-with-body",
            "sends 204 with a body",
            204,
            "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",
        ),
        bare(
            "204-with-chunks",
            "sends 204 with a chunked body",
            204,
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        bare(
            "304-with-length",
            "sends 304 with the Content-Length of the page",
            304,
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        ),
        bare(
            "304-with-body",
            "sends 304 with a body",
            304,
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nhello",
        ),
        bare(
            "304-with-chunks",
            "sends 304 with a chunked body",
            304,
            "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
    ]
}

fn head_responses() -> Vec<UpstreamFault> {
    let request = |row: UpstreamFault| UpstreamFault { request: FaultRequest::single("HEAD"), ..row };
    let json = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 44\r\n\r\n";
    let page = format!(
        "HTTP/1.1 404 {INTERNAL_HOSTNAME}\r\ncontent-type: text/html\r\nx-served-by: {INTERNAL_HOSTNAME}\r\ncontent-length: 900\r\n\r\n"
    );
    vec![
        request(forwarded_row(
            "head-200",
            "responds to HEAD with 200",
            200,
            "",
            vec![write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")],
        )),
        request(forwarded_row(
            "head-with-body",
            "responds to HEAD with a body",
            200,
            "",
            vec![write_bytes(FINAL_RESPONSE)],
        )),
        request(forwarded_row(
            "head-with-chunks",
            "responds to HEAD with a chunked body",
            200,
            "",
            vec![write_bytes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")],
        )),
        request(forwarded_row(
            "head-404-json",
            "responds to HEAD with 404 and a JSON media type",
            404,
            "",
            vec![write_bytes(json)],
        )),
        request(replaced_row(
            "head-404-html",
            "responds to HEAD with 404 and an HTML media type",
            404,
            404,
            vec![write_bytes(page.clone())],
        )),
        request(replaced_row(
            "head-500-with-body",
            "responds to HEAD with 500 and an HTML body",
            500,
            500,
            vec![write_bytes(format!(
                "{}{INTERNAL_HOSTNAME}",
                page.replace("404", "500").replace("900", "13")
            ))],
        )),
        request(UpstreamFault {
            script: after_request(vec![UpstreamStep::Close]),
            ..fault_row(
                "head-close",
                "closes before it responds to HEAD",
                FaultOutcome::LocalReply {
                    code: 504,
                    reason: ReplyReason::Fault(Cause::ConnectionTerminated),
                },
            )
        }),
    ]
}
