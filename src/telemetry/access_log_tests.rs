//! The line of one request: its fields, its level, and which requests get one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io;
use std::sync::{Arc, Mutex};

use tracing::subscriber::with_default;

use super::*;
use crate::telemetry::formatter::LineFormat;
use crate::telemetry::log;

#[derive(Clone, Default)]
struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for SharedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn emitted_line(level: Level, record: &AccessRecord<'_>) -> String {
    let buffer = SharedBuffer::default();
    let writer = buffer.clone();
    with_default(log::subscriber(LineFormat::Json, level, move || writer.clone()).0, || {
        AccessLog::new(LoggedRequests::All, level, 256).emit(record);
    });
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn failed_record<'a>(evidence: &'a Evidence) -> AccessRecord<'a> {
    AccessRecord {
        request_id: "0192",
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736",
        route: "shop",
        method: "GET",
        host: b"api.example.com",
        path: b"/orders/7",
        protocol: "HTTP/2",
        tls: Some("TLSv1.3"),
        user_agent: b"curl/8.5.0",
        client_ip: Some(IpAddr::from([10, 0, 0, 9])),
        upstream: "backend",
        server: "10.0.1.10:8000",
        cause: Some(Cause::ConnectionRefused),
        phase: Some(Phase::Connect),
        code: Some(504),
        upstream_status: None,
        bytes_in: 12,
        bytes_out: 140,
        attempts: Some(r#"[{"server":"10.0.1.9:8000","cause":"connection_timeout","ms":2000}]"#),
        elapsed: Duration::from_micros(3_250),
        connect: Some(Duration::from_micros(750)),
        response_headers: None,
        queue: Some(Duration::from_millis(1)),
        request_sent: RequestSent::None,
        rule: "",
        evidence,
        outcome: RequestOutcome::UpstreamFailed,
    }
}

#[test]
fn failed_request_is_one_line_with_all_known_fields() {
    let evidence = Evidence::from_static("connect: refused");
    let line = emitted_line(Level::INFO, &failed_record(&evidence));
    let (time, rest) = line.split_once(',').unwrap();
    assert!(time.starts_with("{\"time\":\""));
    assert_eq!(
        rest,
        concat!(
            r#""level":"warn","message":"upstream failed","request_id":"0192","#,
            r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","route":"shop","method":"GET","#,
            r#""host":"api.example.com","path":"/orders/7","protocol":"HTTP/2","tls":"TLSv1.3","#,
            r#""user_agent":"curl/8.5.0","client_ip":"10.0.0.9","upstream":"backend","server":"10.0.1.10:8000","#,
            r#""attempts":[{"server":"10.0.1.9:8000","cause":"connection_timeout","ms":2000}],"#,
            r#""cause":"connection_refused","phase":"connect","code":504,"bytes_in":12,"bytes_out":140,"#,
            r#""elapsed_ms":3.25,"connect_ms":0.75,"queue_ms":1,"request_sent":"none","#,
            r#""evidence":"connect: refused","outcome":"upstream_failed"}"#,
            "\n"
        )
    );
}

#[test]
fn path_bytes_are_decoded_lossily_and_escaped() {
    let evidence = Evidence::none();
    let record = AccessRecord { path: b"/\xff\x1b[2J\"\n", ..failed_record(&evidence) };
    let line = emitted_line(Level::INFO, &record);
    assert!(line.contains(r#""path":"/�\u001b[2J\"\n""#), "{line}");
}

#[test]
fn upstream_failures_are_warnings_client_errors_are_not() {
    let evidence = Evidence::none();
    for (outcome, level, message) in [
        (RequestOutcome::Forwarded, "info", "forwarded response"),
        (RequestOutcome::Replaced, "warn", "replaced upstream response"),
        (RequestOutcome::UpstreamFailed, "warn", "upstream failed"),
        (RequestOutcome::Rejected, "info", "rejected request"),
        (RequestOutcome::Preflight, "info", "sent preflight response"),
        (RequestOutcome::Redirected, "info", "redirected request"),
        (RequestOutcome::FixedResponse, "info", "sent response of route"),
        (RequestOutcome::Aborted, "warn", "aborted response"),
        (RequestOutcome::ClientDisconnected, "info", "client disconnected"),
    ] {
        let line = emitted_line(Level::INFO, &AccessRecord { outcome, ..failed_record(&evidence) });
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some(level), Some(message)));
        assert_eq!(line["outcome"], outcome.name());
    }
}

#[test]
fn warn_level_hides_info_lines() {
    let evidence = Evidence::none();
    assert_eq!(
        emitted_line(
            Level::WARN,
            &AccessRecord { outcome: RequestOutcome::Rejected, ..failed_record(&evidence) }
        ),
        ""
    );
    assert_ne!(emitted_line(Level::WARN, &failed_record(&evidence)), "");
}

#[test]
fn record_is_enabled_only_if_its_line_is_written() {
    let evidence = Evidence::none();
    let enabled = |requests, level| {
        let access = AccessLog::new(requests, level, 256);
        [
            (RequestOutcome::InternalError, true),
            (RequestOutcome::Replaced, true),
            (RequestOutcome::Rejected, true),
            (RequestOutcome::Forwarded, false),
        ]
        .map(|(outcome, is_error)| access.is_enabled(outcome, is_error))
    };
    for (level, written) in [
        (Level::TRACE, [true, true, true, true]),
        (Level::INFO, [true, true, true, true]),
        (Level::WARN, [true, true, false, false]),
        (Level::ERROR, [true, false, false, false]),
    ] {
        let [internal, replaced, rejected, _] = written;
        assert_eq!(enabled(LoggedRequests::All, level), written, "{level}");
        assert_eq!(enabled(LoggedRequests::Errors, level), [internal, replaced, rejected, false], "{level}");
        assert_eq!(enabled(LoggedRequests::Off, level), [false; 4]);
        let record = AccessRecord { outcome: RequestOutcome::InternalError, ..failed_record(&evidence) };
        assert_ne!(emitted_line(level, &record), "", "{level}");
    }
}

#[test]
fn outcome_of_a_local_reply_blames_the_upstream_only_for_its_own_faults() {
    let outcomes = [
        (504, Cause::ConnectionRefused, RequestOutcome::UpstreamFailed),
        (400, Cause::ConnectionRefused, RequestOutcome::Rejected),
        (503, Cause::QueueFull, RequestOutcome::Rejected),
        (501, Cause::UnsupportedMethod, RequestOutcome::Rejected),
        (505, Cause::UnsupportedVersion, RequestOutcome::Rejected),
        (429, Cause::RateLimited, RequestOutcome::Rejected),
        (508, Cause::ProxyLoopDetected, RequestOutcome::Rejected),
        (500, Cause::ProxyInternalError, RequestOutcome::InternalError),
    ];
    for (code, cause, outcome) in outcomes {
        assert_eq!(RequestOutcome::for_reply(code, cause), outcome, "{code} {cause}");
    }
}
