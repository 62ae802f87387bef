//! Tests the scripted upstream with a plain client: all other fault tests depend on it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::super::payload::http_response;
use super::super::recorder::PeerClose;
use super::super::step::{Gate, Step, write_bytes};
use super::super::{FaultyUpstream, ServerKind};
use super::ScriptedUpstream;

const TIMEOUT: Duration = Duration::from_secs(5);

fn connect(upstream: &ScriptedUpstream) -> TcpStream {
    let stream = TcpStream::connect(upstream.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

fn exchange_until_close(upstream: &ScriptedUpstream, bytes: &str) -> String {
    let mut stream = connect(upstream);
    stream.write_all(bytes.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn script_without_a_close_step_serves_every_request_on_a_connection() {
    let upstream =
        ScriptedUpstream::script([Step::ReadRequestHead, write_bytes("HTTP/1.1 204 No Content\r\n\r\n")])
            .unwrap();
    let requests =
        "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(exchange_until_close(&upstream, requests), "HTTP/1.1 204 No Content\r\n\r\n".repeat(2));
    let recording = upstream.recording();
    assert_eq!(recording.connections.len(), 1);
    let connection = &recording.connections[0];
    assert_eq!(connection.raw, requests.as_bytes());
    assert_eq!(connection.received, requests.len() as u64);
    assert_eq!(connection.requests[0].body, b"abc");
    assert!(connection.requests[0].complete);
    assert_eq!(recording.requests_for("/b"), 1);
}

#[test]
fn chunked_request_is_recorded_without_framing() {
    let upstream = ScriptedUpstream::script([
        Step::ReadRequestHead,
        Step::ReadBody,
        write_bytes("HTTP/1.1 204 No Content\r\n\r\n"),
    ])
    .unwrap();
    exchange_until_close(
        &upstream,
        "PUT /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nt: 1\r\n\r\n",
    );
    let recording = upstream.recording();
    let request = recording.requests().next().unwrap();
    assert_eq!((request.body.as_slice(), request.body_length, request.complete), (&b"abcde"[..], 5, true));
}

#[test]
fn unfinished_body_is_not_recorded_as_complete() {
    let upstream = ScriptedUpstream::script([Step::ReadRequestHead, Step::ReadBody]).unwrap();
    exchange_until_close(&upstream, "PUT /a HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc");
    let recording = upstream.recording();
    let request = recording.requests().next().unwrap();
    assert_eq!((request.body_length, request.complete), (3, false));
    assert_eq!(recording.connections[0].peer_close, Some(PeerClose::Fin));
}

#[test]
fn scripts_run_in_sequence_and_the_last_one_repeats() {
    let upstream = ScriptedUpstream::scripts([
        vec![Step::Close],
        vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", "one")), Step::Close],
        vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", "two")), Step::Close],
    ])
    .unwrap();
    let get = || exchange_until_close(&upstream, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(get(), "");
    assert!(get().ends_with("one"));
    assert!(get().ends_with("two"));
    assert!(get().ends_with("two"));
    assert_eq!(upstream.connection_count(), 4);
}

#[test]
fn reset_reaches_the_client_after_the_bytes_sent_before_it() {
    let upstream =
        ScriptedUpstream::script([Step::ReadRequestHead, write_bytes("HTTP/1.1"), Step::Reset]).unwrap();
    let mut stream = connect(&upstream);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut read = Vec::new();
    let error = stream.read_to_end(&mut read).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn graceful_close_ends_with_fin_despite_unread_bytes() {
    let upstream =
        ScriptedUpstream::script([Step::ReadRequestHead, write_bytes("bye"), Step::Close]).unwrap();
    let request = format!("PUT / HTTP/1.1\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(100_000));
    assert_eq!(exchange_until_close(&upstream, &request), "bye");
}

#[test]
fn hang_step_records_that_the_client_closed() {
    let upstream = ScriptedUpstream::script([Step::ReadRequestHead, Step::ReadUntilClose]).unwrap();
    let mut stream = connect(&upstream);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(upstream.wait_until(TIMEOUT, |recording| recording.requests().count() == 1));
    assert_eq!(upstream.recording().connections[0].peer_close, None);
    drop(stream);
    assert!(
        upstream.wait_until(TIMEOUT, |recording| recording.connections[0].peer_close == Some(PeerClose::Fin))
    );
}

#[test]
fn gates_synchronise_test_and_script() {
    let (reached, go) = (Gate::new(), Gate::new());
    let script = [
        Step::ReadRequestHead,
        Step::OpenGate(reached.clone()),
        Step::WaitForGate(go.clone()),
        write_bytes("done"),
        Step::Close,
    ];
    let upstream = ScriptedUpstream::script(script).unwrap();
    let mut stream = connect(&upstream);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(reached.wait_timeout(TIMEOUT));
    go.open();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert_eq!(response, "done");
}

#[test]
fn echo_responds_while_the_body_is_still_arriving() {
    let upstream = ScriptedUpstream::script([Step::ReadRequestHead, Step::EchoBody]).unwrap();
    let mut stream = connect(&upstream);
    stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nab").unwrap();
    let mut half = [0; 512];
    let mut read = 0;
    while !half[..read].ends_with(b"2\r\nab\r\n") {
        read += stream.read(&mut half[read..]).unwrap();
    }
    stream.write_all(b"cd").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "2\r\ncd\r\n0\r\n\r\n");
}

#[test]
fn dropping_the_upstream_frees_its_port_and_closes_its_connections() {
    let upstream = ScriptedUpstream::script([Step::ReadRequestHead, Step::Stall]).unwrap();
    let mut stream = connect(&upstream);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(upstream.wait_until(TIMEOUT, |recording| recording.requests().count() == 1));
    let address = upstream.address();
    drop(upstream);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn faulty_upstream_serves_faults_and_success_routes_by_path() {
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let get = |path: &str| {
        exchange_until_close(
            faulty_upstream.recording_upstreams().next().unwrap(),
            &format!("GET {path} HTTP/1.1\r\n\r\n"),
        )
    };
    assert!(get("/teapot?x=1").starts_with("HTTP/1.1 418 "));
    assert!(get("/ok").ends_with("{\"ok\":true}"));
    assert!(get("/status/507").starts_with("HTTP/1.1 507 "));
    assert!(get("/nothing").starts_with("HTTP/1.1 404 "));
    assert!(get("/bytes/3000").len() > 3000);
    assert_eq!(
        faulty_upstream.servers().nth(2).unwrap(),
        (ServerKind::Closing, faulty_upstream.address(ServerKind::Closing).to_string())
    );
}
