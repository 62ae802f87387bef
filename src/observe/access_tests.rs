//! One request's line: its fields, its level, and when it is not worth writing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io;
use std::sync::{Arc, Mutex};

use tracing::subscriber::with_default;

use super::*;
use crate::observe::line::Form;
use crate::observe::log;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn emitted(level: Level, record: &Record<'_>) -> String {
    let sink = Sink::default();
    let writer = sink.clone();
    with_default(log::subscriber(Form::Json, level, move || writer.clone()).0, || {
        Access::new(Requests::All, level).emit(record);
    });
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn failed<'a>(evidence: &'a Evidence) -> Record<'a> {
    Record {
        request_id: "0192",
        route: "shop",
        method: "GET",
        path: b"/orders/7",
        client_ip: Some(IpAddr::from([10, 0, 0, 9])),
        upstream: "backend",
        server: "10.0.1.10:8000",
        cause: Some(Cause::ConnectionRefused),
        phase: Some(Phase::Connect),
        code: Some(504),
        upstream_status: None,
        bytes: 140,
        attempts: 2,
        elapsed: Duration::from_micros(3_250),
        connect: Some(Duration::from_micros(750)),
        response_head: None,
        request_sent: RequestSent::None,
        rule: "",
        evidence,
        outcome: Outcome::Answered,
    }
}

#[test]
fn a_failed_request_is_one_line_with_every_field_that_is_known() {
    let evidence = Evidence::from_static("connect: refused");
    let line = emitted(Level::INFO, &failed(&evidence));
    let (time, rest) = line.split_once(',').unwrap();
    assert!(time.starts_with("{\"time\":\""));
    assert_eq!(
        rest,
        "\"level\":\"warn\",\"message\":\"answered for the upstream\",\"request_id\":\"0192\",\"route\":\"shop\",\
         \"method\":\"GET\",\"path\":\"/orders/7\",\"client_ip\":\"10.0.0.9\",\"upstream\":\"backend\",\
         \"server\":\"10.0.1.10:8000\",\"cause\":\"connection_refused\",\"phase\":\"connect\",\"code\":504,\
         \"bytes\":140,\"attempts\":2,\"elapsed_ms\":3.25,\"connect_ms\":0.75,\"request_sent\":\"none\",\
         \"evidence\":\"connect: refused\",\"outcome\":\"answered\"}\n"
    );
}

#[test]
fn a_path_of_any_bytes_is_decoded_lossily_and_escaped() {
    let evidence = Evidence::none();
    let record = Record { path: b"/\xff\x1b[2J\"\n", ..failed(&evidence) };
    let line = emitted(Level::INFO, &record);
    assert!(line.contains(r#""path":"/�\u001b[2J\"\n""#), "{line}");
}

#[test]
fn what_we_answered_for_the_upstream_is_a_warning_and_what_the_client_did_is_not() {
    let evidence = Evidence::none();
    for (outcome, level, message) in [
        (Outcome::Passed, "info", "passed response"),
        (Outcome::Replaced, "warn", "replaced upstream response"),
        (Outcome::Answered, "warn", "answered for the upstream"),
        (Outcome::Refused, "info", "refused request"),
        (Outcome::Preflight, "info", "answered preflight"),
        (Outcome::Aborted, "warn", "aborted response"),
        (Outcome::ClientLeft, "info", "client left"),
    ] {
        let line = emitted(Level::INFO, &Record { outcome, ..failed(&evidence) });
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some(level), Some(message)));
        assert_eq!(line["outcome"], outcome.name());
    }
}

#[test]
fn a_level_of_warn_hides_the_lines_of_info() {
    let evidence = Evidence::none();
    assert_eq!(emitted(Level::WARN, &Record { outcome: Outcome::Refused, ..failed(&evidence) }), "");
    assert_ne!(emitted(Level::WARN, &failed(&evidence)), "");
}

#[test]
fn a_record_is_wanted_only_when_its_line_would_be_written() {
    let wants = |requests, level| {
        let access = Access::new(requests, level);
        (access.wants(true), access.wants(false))
    };
    assert_eq!(wants(Requests::Off, Level::TRACE), (false, false));
    assert_eq!(wants(Requests::Errors, Level::INFO), (true, false));
    assert_eq!(wants(Requests::Errors, Level::ERROR), (false, false));
    assert_eq!(wants(Requests::All, Level::INFO), (true, true));
    assert_eq!(wants(Requests::All, Level::WARN), (true, false));
    assert_eq!(wants(Requests::All, Level::ERROR), (false, false));
}
