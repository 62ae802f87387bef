//! Rows of clients of a listener with TLS: those that speak something else, break the handshake, or break TLS behind it.
//!
//! They are a table of their own, played before another listener than the rest. What goes wrong inside is HTTP's, and
//! stands in the other tables.

use bytes::Bytes;

use super::super::frames::{PREFACE, settings};
use super::super::line::client_hello;
use super::{
    Act, Alert, Asked, ClientFault, Ending, Expected, Hello, PLAY, Reaches, Setting, Shaken, acted, send,
};
use crate::contract::Cause;

const FAILED: &str = "tls_handshake_failed";
const TIMEOUT: &str = "tls_handshake_timeout";
const OTHER: &str = "tls_not_spoken";
const BROKEN: &str = "tls_connection_error";
const GONE: &str = "client_gone";
const PROBE: &str = "connect_and_close";
const IDLE: &str = "idle_timeout";

const REQUEST: &str = "<get> HTTP/1.1\r\nhost: <host>\r\n\r\n";

/// Asks for HTTP/1.1 by a name that nobody has, and takes any certificate.
const USUAL: Hello = Hello {
    name: Some("rehearsal.invalid"),
    offers: &["http/1.1"],
    trusts: true,
    old: false,
    gets: Shaken::Agrees(Some("http/1.1")),
};

/// The same for HTTP/2.
const HTTP2: Hello = Hello { offers: &["h2"], gets: Shaken::Agrees(Some("h2")), ..USUAL };

/// The whole table for this setting, in the order in which it is shown.
pub fn client_faults_tls(setting: &Setting) -> Vec<ClientFault> {
    client_faults_tls_by_sort(setting).into_iter().flat_map(|(_, rows)| rows).collect()
}

/// The same, sort by sort, each with its title.
pub fn client_faults_tls_by_sort(setting: &Setting) -> Vec<(&'static str, Vec<ClientFault>)> {
    let sorts = [
        ("What is no handshake", strangers()),
        ("Handshakes that come to nothing", [hellos(), stalled(setting), refusals()].concat()),
        ("Handshakes that are unusual and yet right", unusual()),
        ("Behind the handshake", [ends(setting), inside(), beneath()].concat()),
    ];
    let spelled = |rows: Vec<ClientFault>| rows.into_iter().map(|row| row.spelled(setting)).collect();
    sorts.into_iter().map(|(title, rows)| (title, spelled(rows))).collect()
}

/// Nothing is answered, and the connection ends so.
fn ended(name: &'static str, meaning: &'static str, acts: Vec<Act>, ending: Ending) -> ClientFault {
    acted(name, meaning, acts, Vec::new(), ending, Reaches::Whole(0))
}

fn silent(name: &'static str, meaning: &'static str, acts: Vec<Act>, silence: &'static str) -> ClientFault {
    ended(name, meaning, acts, Ending::Silence(silence))
}

fn left(name: &'static str, meaning: &'static str, acts: Vec<Act>, silence: &'static str) -> ClientFault {
    ended(name, meaning, acts, Ending::Left(silence))
}

/// Behind a handshake that went well.
fn encrypted(acts: impl IntoIterator<Item = Act>) -> Vec<Act> {
    [Act::Handshake(USUAL)].into_iter().chain(acts).collect()
}

/// Who does not speak TLS.
fn strangers() -> Vec<ClientFault> {
    let other = |name, meaning, bytes: &'static [u8]| silent(name, meaning, vec![send(bytes)], OTHER);
    vec![
        silent("tls-plain-http", "asks in plain HTTP/1.1", vec![send(REQUEST)], OTHER),
        other(
            "tls-plain-http2",
            "begins HTTP/2 in the clear",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
        other("tls-proxy-line", "begins with a PROXY line", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        other("tls-zeros", "sends zero bytes", &[0; 64]),
        other(
            "tls-noise",
            "sends bytes that mean nothing",
            b"\x80\x91\xa2\xb3\xc4\xd5\xe6\xf7\x88\x99\r\n\r\n",
        ),
        other(
            "tls-ssl-2",
            "says hello as SSL 2 did",
            b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10\0\0\x0a\0\0\x05",
        ),
        other("tls-alert-first", "begins with an alert", b"\x15\x03\x01\0\x02\x02\x28"),
        other("tls-data-first", "begins with a record of data", b"\x17\x03\x03\0\x04test"),
        left("tls-connect-and-close", "connects and closes, as probes do", vec![Act::Close], PROBE),
    ]
}

/// First messages that are no ClientHello, or one that nobody can agree to.
fn hellos() -> Vec<ClientFault> {
    let alerted = |name, meaning, bytes: Vec<u8>, alert| {
        silent(name, meaning, vec![send(bytes), Act::Alert(alert)], FAILED)
    };
    let record = |message: &[u8]| framed(&[0x16, 3, 1], message);
    vec![
        alerted(
            "tls-1.0",
            "speaks TLS 1.0 and nothing newer",
            hello([3, 1], 0xc013),
            Alert::PROTOCOL_VERSION,
        ),
        alerted(
            "tls-1.1",
            "speaks TLS 1.1 and nothing newer",
            hello([3, 2], 0xc013),
            Alert::PROTOCOL_VERSION,
        ),
        alerted("tls-ssl-3", "speaks SSL 3", hello([3, 0], 0x0005), Alert::PROTOCOL_VERSION),
        alerted(
            "tls-no-common-suite",
            "knows RC4 alone, which nobody should",
            hello([3, 3], 0x0005),
            Alert::HANDSHAKE_FAILURE,
        ),
        alerted(
            "tls-other-message",
            "begins with a message that is no ClientHello",
            record(&[20, 0, 0, 0]),
            Alert::UNEXPECTED_MESSAGE,
        ),
        alerted("tls-empty-hello", "a ClientHello of no octets", record(&[1, 0, 0, 0]), Alert::DECODE_ERROR),
        silent(
            "tls-noise-in-record",
            "noise in a record of a handshake, a message of ten megabytes by its length",
            vec![send(record(&[0xa7; 64]))],
            FAILED,
        ),
        alerted(
            "tls-record-too-large",
            "a record of more than 16 KiB",
            vec![0x16, 3, 1, 0xff, 0xff, 1],
            Alert::DECODE_ERROR,
        ),
        silent(
            "tls-hello-and-plain",
            "a ClientHello, and plain HTTP behind it",
            vec![send([whole_hello(), b"GET / HTTP/1.1\r\n\r\n".to_vec()].concat()), Act::Forget],
            FAILED,
        ),
    ]
}

/// Handshakes that end in the middle, or do not end.
fn stalled(setting: &Setting) -> Vec<ClientFault> {
    let whole = whole_hello();
    let (half, _) = whole.split_at_checked(100).unwrap_or_default();
    let half = || send(half.to_vec());
    vec![
        left("tls-hello-closed", "closes inside its ClientHello", vec![half(), Act::Close], FAILED),
        left(
            "tls-hello-reset",
            "resets inside its ClientHello",
            vec![half(), Act::Pause(setting.pause()), Act::Reset],
            FAILED,
        ),
        silent(
            "tls-hello-half-closed",
            "shuts down its sending side inside its ClientHello",
            vec![half(), Act::HalfClose],
            FAILED,
        ),
        silent("tls-says-nothing", "connects and says nothing", Vec::new(), TIMEOUT),
        silent("tls-hello-stalls", "half a ClientHello, and nothing behind it", vec![half()], TIMEOUT),
        silent(
            "tls-hello-drips",
            "a ClientHello that never ends, octet by octet",
            vec![
                send(b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb".as_slice()),
                Act::Drip(Bytes::from_static(&[3]), setting.pause()),
            ],
            TIMEOUT,
        ),
        silent(
            "tls-stalls-after-hello",
            "a whole ClientHello, and nothing behind it",
            vec![send(whole.clone()), Act::Forget],
            TIMEOUT,
        ),
        left(
            "tls-leaves-after-hello",
            "closes after its ClientHello",
            vec![send(whole), Act::Answered, Act::Close],
            FAILED,
        ),
    ]
}

/// Handshakes that one side refuses.
fn refusals() -> Vec<ClientFault> {
    let refused = |name, meaning, hello, ending| ended(name, meaning, vec![Act::Handshake(hello)], ending);
    let none = Hello { offers: &["spdy/3.1"], gets: Shaken::Alert(Alert::NO_APPLICATION_PROTOCOL), ..USUAL };
    let distrusts = Hello { trusts: false, gets: Shaken::Distrusts, ..USUAL };
    vec![
        refused(
            "tls-no-common-protocol",
            "offers no protocol that is spoken here (ALPN)",
            none,
            Ending::Silence(FAILED),
        ),
        refused("tls-distrusts", "refuses the certificate", distrusts, Ending::Left(FAILED)),
        refused(
            "tls-distrusts-1.2",
            "refuses the certificate, in TLS 1.2",
            Hello { old: true, ..distrusts },
            Ending::Left(FAILED),
        ),
    ]
}

/// What is served.
fn unusual() -> Vec<ClientFault> {
    let served = |name, meaning, hello| {
        let acts = vec![Act::Handshake(hello), send(REQUEST), Act::Answer(Asked::USUAL)];
        acted(name, meaning, acts, vec![Expected::Served], Ending::Stays, Reaches::Whole(1))
    };
    let silent_about_protocols = Hello { offers: &[], gets: Shaken::Agrees(None), ..USUAL };
    vec![
        served("tls-unknown-name", "asks for a name that no certificate has", USUAL),
        served("tls-no-name", "asks for no name", Hello { name: None, ..USUAL }),
        served("tls-no-alpn", "says nothing about protocols", silent_about_protocols),
        served("tls-1.2", "speaks TLS 1.2", Hello { old: true, ..USUAL }),
        served(
            "tls-unknown-protocols",
            "offers protocols that nobody knows before one that is spoken",
            Hello { offers: &["spdy/3.1", "http/1.1"], ..USUAL },
        ),
    ]
}

/// Connections that end before a request has come, or inside one.
fn ends(setting: &Setting) -> Vec<ClientFault> {
    let half = "<get> HTTP/1.1\r\nhost: <h";
    let short = "<post> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 10\r\n\r\nabc";
    let endless = format!("<get> HTTP/1.1\r\nhost: <host>\r\n{PLAY}: endless\r\n\r\n");
    let closes = |name, meaning, bytes: &'static str, expected| {
        let acts = encrypted([send(bytes), Act::HalfClose, Act::Answer(Asked::USUAL)]);
        acted(name, meaning, acts, vec![expected], Ending::Closes, Reaches::NeverWhole)
    };
    vec![
        silent("tls-silence", "a handshake, and nothing behind it", encrypted([]), IDLE),
        silent("tls-goodbye", "a handshake, and goodbye (close_notify)", encrypted([Act::HalfClose]), PROBE),
        left("tls-no-goodbye", "a handshake, and closes without goodbye", encrypted([Act::Close]), PROBE),
        left(
            "tls-closed-in-head",
            "closes inside a head without goodbye",
            encrypted([send(half), Act::Pause(setting.pause()), Act::Close]),
            GONE,
        ),
        left(
            "tls-closed-in-body",
            "closes inside a body without goodbye",
            encrypted([send(short), Act::Arrived, Act::Close]),
            GONE,
        )
        .reaching(Reaches::NeverWhole),
        closes(
            "tls-goodbye-in-head",
            "says goodbye inside a head",
            half,
            Expected::Refused(Cause::HttpRequestError),
        ),
        closes(
            "tls-goodbye-in-body",
            "says goodbye inside a body",
            short,
            Expected::RefusedOnRoute(Cause::MalformedBody),
        ),
        acted(
            "tls-closed-in-answer",
            "closes inside an endless answer without goodbye",
            encrypted([send(endless), Act::Answer(Asked::USUAL), Act::Close]),
            vec![Expected::Begun],
            Ending::LeftInside,
            Reaches::Anything,
        ),
    ]
}

/// What is whole TLS, and not what was agreed on.
fn inside() -> Vec<ClientFault> {
    let refused = |name, meaning, cause, bytes: &'static [u8]| {
        let acts = encrypted([send(bytes), Act::Answer(Asked::USUAL)]);
        let refused = vec![Expected::Refused(cause)];
        acted(name, meaning, acts, refused, Ending::Closes, Reaches::Whole(0))
    };
    vec![
        refused(
            "tls-noise-inside",
            "noise in the place of a request",
            Cause::MalformedRequestLine,
            b"\x80\x91\xa2\xb3\xc4\xd5\xe6\xf7\r\n\r\n",
        ),
        refused(
            "tls-in-tls",
            "begins another handshake inside",
            Cause::MalformedRequestLine,
            b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03 0123456789abcdef0123456789abcdef",
        ),
        refused(
            "tls-http2-unagreed",
            "begins HTTP/2 where HTTP/1.1 was agreed on",
            Cause::UnsupportedVersion,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
        silent(
            "tls-http1-unagreed",
            "asks in HTTP/1.1 where HTTP/2 was agreed on",
            vec![Act::Handshake(HTTP2), send(REQUEST), Act::Forget],
            "http2_connection_error",
        ),
    ]
}

/// What breaks TLS itself. Each has been answered before: what comes at the heels of a handshake is read as a part of it.
fn beneath() -> Vec<ClientFault> {
    let behind = |name, meaning, acts: Vec<Act>, silence| {
        let served = [send(REQUEST), Act::Answer(Asked::USUAL)];
        let acts = encrypted(served.into_iter().chain(acts));
        acted(name, meaning, acts, vec![Expected::Served], Ending::Silence(silence), Reaches::Whole(1))
    };
    let spoiled = || Act::Beneath(framed(&[0x17, 3, 3], &[0; 64]).into());
    let mac = Alert::BAD_RECORD_MAC;
    vec![
        behind(
            "tls-plain-behind",
            "is served, and asks in plain HTTP/1.1 then",
            vec![
                Act::Beneath(Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n")),
                Act::Alert(Alert::DECODE_ERROR),
            ],
            BROKEN,
        ),
        behind(
            "tls-spoiled-record",
            "is served, and sends a record that was not encrypted with its key",
            vec![spoiled(), Act::Alert(mac)],
            BROKEN,
        ),
        behind(
            "tls-spoiled-in-head",
            "is served, and sends such a record inside the next head",
            vec![send("<get> HTTP/1.1\r\nhost: <h"), spoiled(), Act::Alert(mac)],
            BROKEN,
        ),
        behind(
            "tls-record-too-large-behind",
            "is served, and sends a record of more than 16 KiB",
            vec![
                Act::Beneath(Bytes::from_static(&[0x17, 3, 3, 0x50, 0, 0])),
                Act::Alert(Alert::DECODE_ERROR),
            ],
            BROKEN,
        ),
        behind(
            "tls-half-a-record",
            "is served, and sends half a record and nothing behind it",
            vec![Act::Beneath(Bytes::from_static(&[0x17, 3, 3, 0, 64, 0, 0, 0]))],
            IDLE,
        ),
        silent(
            "tls-spoiled-in-http2",
            "begins HTTP/2, and sends a record that was not encrypted with its key",
            vec![
                Act::Handshake(HTTP2),
                send([PREFACE, &settings(&[])].concat()),
                Act::Answered,
                spoiled(),
                Act::Forget,
            ],
            BROKEN,
        ),
    ]
}

/// Type, version, length and content.
fn framed(head: &[u8], content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [head, &length.to_be_bytes(), content].concat()
}

/// A ClientHello (RFC 5246 7.4.1.2) of this version that knows one suite.
fn hello(version: [u8; 2], suite: u16) -> Vec<u8> {
    let extensions = [
        // Groups: secp256r1. Points: uncompressed. Signatures: ECDSA and RSA with SHA-256.
        &[0, 10, 0, 4, 0, 2, 0, 23][..],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4],
    ]
    .concat();
    let mut body = version.to_vec();
    body.extend_from_slice(&[7; 32]);
    // No session; one suite; no compression.
    body.extend_from_slice(&[0, 0, 2]);
    body.extend_from_slice(&suite.to_be_bytes());
    body.extend_from_slice(&[1, 0]);
    body.extend_from_slice(&framed(&[], &extensions));
    framed(&[0x16, 3, 1], &framed(&[1, 0], &body))
}

/// One that every server takes; nothing where the system has no random bits.
fn whole_hello() -> Vec<u8> {
    client_hello(&USUAL).unwrap_or_default()
}
