//! The scripted upstream against a plain client: it must do what its scripts say, or no test above it means anything.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::super::record::Left;
use super::super::script::{Gate, Step, reply, say};
use super::super::{Misbehaving, Place};
use super::Upstream;

const SOON: Duration = Duration::from_secs(5);

fn connect(upstream: &Upstream) -> TcpStream {
    let stream = TcpStream::connect(upstream.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn send_and_read_all(upstream: &Upstream, bytes: &str) -> String {
    let mut stream = connect(upstream);
    stream.write_all(bytes.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_script_without_a_close_serves_every_request_of_a_connection() {
    let upstream = Upstream::script([Step::ReadHead, say("HTTP/1.1 204 No Content\r\n\r\n")]).unwrap();
    let requests =
        "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(send_and_read_all(&upstream, requests), "HTTP/1.1 204 No Content\r\n\r\n".repeat(2));
    let seen = upstream.seen();
    assert_eq!(seen.connections.len(), 1);
    let connection = &seen.connections[0];
    assert_eq!(connection.raw, requests.as_bytes());
    assert_eq!(connection.received, requests.len() as u64);
    assert_eq!(connection.requests[0].body, b"abc");
    assert!(connection.requests[0].whole);
    assert_eq!(seen.requests_for("/b"), 1);
}

#[test]
fn a_chunked_request_is_recorded_without_its_framing() {
    let upstream =
        Upstream::script([Step::ReadHead, Step::ReadBody, say("HTTP/1.1 204 No Content\r\n\r\n")]).unwrap();
    send_and_read_all(
        &upstream,
        "PUT /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nt: 1\r\n\r\n",
    );
    let seen = upstream.seen();
    let request = seen.requests().next().unwrap();
    assert_eq!((request.body.as_slice(), request.body_length, request.whole), (&b"abcde"[..], 5, true));
}

#[test]
fn an_unfinished_body_is_not_called_whole() {
    let upstream = Upstream::script([Step::ReadHead, Step::ReadBody]).unwrap();
    send_and_read_all(&upstream, "PUT /a HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc");
    let seen = upstream.seen();
    let request = seen.requests().next().unwrap();
    assert_eq!((request.body_length, request.whole), (3, false));
    assert_eq!(seen.connections[0].left, Some(Left::Closed));
}

#[test]
fn scripts_in_sequence_are_played_in_turn_and_the_last_one_again() {
    let upstream = Upstream::scripts([
        vec![Step::Close],
        vec![Step::ReadHead, Step::Write(reply("200 OK", "one")), Step::Close],
        vec![Step::ReadHead, Step::Write(reply("200 OK", "two")), Step::Close],
    ])
    .unwrap();
    let get = || send_and_read_all(&upstream, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(get(), "");
    assert!(get().ends_with("one"));
    assert!(get().ends_with("two"));
    assert!(get().ends_with("two"));
    assert_eq!(upstream.connections(), 4);
}

#[test]
fn a_reset_reaches_the_client_as_a_reset_after_the_bytes_before_it() {
    let upstream = Upstream::script([Step::ReadHead, say("HTTP/1.1"), Step::Reset]).unwrap();
    let mut stream = connect(&upstream);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut read = Vec::new();
    let error = stream.read_to_end(&mut read).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_close_with_unread_bytes_is_still_a_clean_end() {
    let upstream = Upstream::script([Step::ReadHead, say("bye"), Step::Close]).unwrap();
    let request = format!("PUT / HTTP/1.1\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(100_000));
    assert_eq!(send_and_read_all(&upstream, &request), "bye");
}

#[test]
fn a_hanging_upstream_notices_that_the_client_left() {
    let upstream = Upstream::script([Step::ReadHead, Step::Hang]).unwrap();
    let mut stream = connect(&upstream);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(upstream.sees_within(SOON, |seen| seen.requests().count() == 1));
    assert_eq!(upstream.seen().connections[0].left, None);
    drop(stream);
    assert!(upstream.sees_within(SOON, |seen| seen.connections[0].left == Some(Left::Closed)));
}

#[test]
fn gates_order_what_a_test_and_a_script_do() {
    let (reached, go) = (Gate::new(), Gate::new());
    let script =
        [Step::ReadHead, Step::Open(reached.clone()), Step::Wait(go.clone()), say("done"), Step::Close];
    let upstream = Upstream::script(script).unwrap();
    let mut stream = connect(&upstream);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(reached.opens_within(SOON));
    go.open();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "done");
}

#[test]
fn an_echo_answers_while_the_body_still_comes() {
    let upstream = Upstream::script([Step::ReadHead, Step::Echo]).unwrap();
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
fn dropping_the_upstream_frees_its_port_and_ends_its_connections() {
    let upstream = Upstream::script([Step::ReadHead, Step::Freeze]).unwrap();
    let mut stream = connect(&upstream);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(upstream.sees_within(SOON, |seen| seen.requests().count() == 1));
    let address = upstream.address();
    drop(upstream);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_misbehaving_upstream_plays_faults_and_good_paths_by_path() {
    let misbehaving = Misbehaving::start().unwrap();
    let get = |path: &str| send_and_read_all(misbehaving.scripted(), &format!("GET {path} HTTP/1.1\r\n\r\n"));
    assert!(get("/teapot?x=1").starts_with("HTTP/1.1 418 "));
    assert!(get("/ok").ends_with("{\"ok\":true}"));
    assert!(get("/status/507").starts_with("HTTP/1.1 507 "));
    assert!(get("/nothing").starts_with("HTTP/1.1 404 "));
    assert!(get("/bytes/3000").len() > 3000);
    assert_eq!(misbehaving.addresses()[2], (Place::Closing, misbehaving.address(Place::Closing)));
}
