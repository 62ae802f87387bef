//! Client faults on a TLS listener: other protocols, failed handshakes, and TLS errors after the handshake.
//!
//! This table is separate because it needs a TLS listener. HTTP faults are in the other tables.

use bytes::Bytes;

use super::super::frames::{PREFACE, settings_frame};
use super::super::gateway_stream::client_hello_bytes;
use super::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, FAULT_HEADER, GatewayProfile,
    HandshakeOutcome, PAUSE, RequestKind, TlsAlert, TlsClientHello, UpstreamSaw, send, steps_row,
};
use crate::contract::Cause;

const HANDSHAKE_FAILED: &str = "tls_handshake_failed";
const HANDSHAKE_TIMEOUT: &str = "tls_handshake_timeout";
const PLAINTEXT_ON_TLS: &str = "plaintext_on_tls";
const CONNECTION_ERROR: &str = "tls_connection_error";
const CLIENT_GONE: &str = "client_gone";
const NO_REQUEST: &str = "no_request";
const IDLE_TIMEOUT: &str = "idle_timeout";

const REQUEST: &str = "<get> HTTP/1.1\r\nhost: <host>\r\n\r\n";

/// Offers HTTP/1.1 with an unknown server name, and accepts any certificate.
const DEFAULT_HELLO: TlsClientHello = TlsClientHello {
    server_name: Some("verify.invalid"),
    alpn_protocols: &["http/1.1"],
    accepts_any_certificate: true,
    tls12_only: false,
    expected: HandshakeOutcome::Completed(Some("http/1.1")),
};

/// [`DEFAULT_HELLO`] with HTTP/2.
const HTTP2_HELLO: TlsClientHello = TlsClientHello {
    alpn_protocols: &["h2"],
    expected: HandshakeOutcome::Completed(Some("h2")),
    ..DEFAULT_HELLO
};

/// All TLS client faults for this profile, in documentation order.
pub fn client_faults_tls(profile: &GatewayProfile) -> Vec<ClientFault> {
    client_faults_tls_by_section(profile).into_iter().flat_map(|(_, rows)| rows).collect()
}

/// [`client_faults_tls`], grouped by the headings of the documentation.
pub fn client_faults_tls_by_section(profile: &GatewayProfile) -> Vec<(&'static str, Vec<ClientFault>)> {
    let sections = [
        ("Other protocols", other_protocols()),
        ("Failed handshakes", [client_hellos(), stalled(), rejected_handshakes()].concat()),
        ("Unusual but valid handshakes", unusual_handshakes()),
        ("After the handshake", [connection_ends(), requests_inside_tls(), bytes_below_tls()].concat()),
    ];
    let substituted = |rows: Vec<ClientFault>| rows.into_iter().map(|row| row.substituted(profile)).collect();
    sections.into_iter().map(|(title, rows)| (title, substituted(rows))).collect()
}

/// A row without a response.
fn steps_only(
    name: &'static str,
    description: &'static str,
    steps: Vec<ClientStep>,
    connection_outcome: ConnectionOutcome,
) -> ClientFault {
    steps_row(name, description, steps, Vec::new(), connection_outcome, UpstreamSaw::Complete(0))
}

fn closed_without_response(
    name: &'static str,
    description: &'static str,
    steps: Vec<ClientStep>,
    close_reason: &'static str,
) -> ClientFault {
    steps_only(name, description, steps, ConnectionOutcome::ClosedWithoutResponse(close_reason))
}

fn client_closed(
    name: &'static str,
    description: &'static str,
    steps: Vec<ClientStep>,
    close_reason: &'static str,
) -> ClientFault {
    steps_only(name, description, steps, ConnectionOutcome::ClientClosed(close_reason))
}

/// Prefixes the steps with a successful handshake.
fn inside_tls(steps: impl IntoIterator<Item = ClientStep>) -> Vec<ClientStep> {
    [ClientStep::TlsHandshake(DEFAULT_HELLO)].into_iter().chain(steps).collect()
}

/// Clients that send another protocol.
fn other_protocols() -> Vec<ClientFault> {
    let other = |name, description, bytes: &'static [u8]| {
        closed_without_response(name, description, vec![send(bytes)], PLAINTEXT_ON_TLS)
    };
    vec![
        closed_without_response(
            "tls-plain-http",
            "sends plain HTTP/1.1",
            vec![send(REQUEST)],
            PLAINTEXT_ON_TLS,
        ),
        other(
            "tls-plain-http2",
            "sends the HTTP/2 preface in cleartext",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
        other("tls-proxy-line", "sends a PROXY protocol header", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        other("tls-zeros", "sends zero bytes", &[0; 64]),
        other("tls-noise", "sends random bytes", b"\x80\x91\xa2\xb3\xc4\xd5\xe6\xf7\x88\x99\r\n\r\n"),
        other(
            "tls-ssl-2",
            "sends an SSL 2 ClientHello",
            b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10\0\0\x0a\0\0\x05",
        ),
        other("tls-alert-first", "sends an alert first", b"\x15\x03\x01\0\x02\x02\x28"),
        other("tls-data-first", "sends an application data record first", b"\x17\x03\x03\0\x04test"),
        client_closed(
            "tls-connect-and-close",
            "connects and closes, as health probes do",
            vec![ClientStep::Close],
            NO_REQUEST,
        ),
    ]
}

/// Invalid first messages, and ClientHello messages without common parameters.
fn client_hellos() -> Vec<ClientFault> {
    let alerted = |name, description, bytes: Vec<u8>, alert| {
        closed_without_response(
            name,
            description,
            vec![send(bytes), ClientStep::ExpectTlsAlert(alert)],
            HANDSHAKE_FAILED,
        )
    };
    let record = |message: &[u8]| tls_record(&[0x16, 3, 1], message);
    vec![
        alerted(
            "tls-1.0",
            "supports TLS 1.0 at most",
            client_hello_record([3, 1], 0xc013),
            TlsAlert::PROTOCOL_VERSION,
        ),
        alerted(
            "tls-1.1",
            "supports TLS 1.1 at most",
            client_hello_record([3, 2], 0xc013),
            TlsAlert::PROTOCOL_VERSION,
        ),
        alerted(
            "tls-ssl-3",
            "supports SSL 3 at most",
            client_hello_record([3, 0], 0x0005),
            TlsAlert::PROTOCOL_VERSION,
        ),
        alerted(
            "tls-no-common-suite",
            "offers only RC4 cipher suites",
            client_hello_record([3, 3], 0x0005),
            TlsAlert::HANDSHAKE_FAILURE,
        ),
        alerted(
            "tls-other-message",
            "sends another handshake message instead of ClientHello",
            record(&[20, 0, 0, 0]),
            TlsAlert::UNEXPECTED_MESSAGE,
        ),
        alerted(
            "tls-empty-hello",
            "sends an empty ClientHello",
            record(&[1, 0, 0, 0]),
            TlsAlert::DECODE_ERROR,
        ),
        closed_without_response(
            "tls-noise-in-record",
            "sends a handshake message with a length of 10 MB and random content",
            vec![send(record(&[0xa7; 64]))],
            HANDSHAKE_FAILED,
        ),
        alerted(
            "tls-record-too-large",
            "sends a record above 16 KiB",
            vec![0x16, 3, 1, 0xff, 0xff, 1],
            TlsAlert::DECODE_ERROR,
        ),
        closed_without_response(
            "tls-hello-and-plain",
            "sends a ClientHello, then plain HTTP",
            vec![
                send([complete_hello(), b"GET / HTTP/1.1\r\n\r\n".to_vec()].concat()),
                ClientStep::DiscardUntilClose,
            ],
            HANDSHAKE_FAILED,
        ),
    ]
}

/// Handshakes that are aborted or stall.
fn stalled() -> Vec<ClientFault> {
    let hello_bytes = complete_hello();
    let (half, _) = hello_bytes.split_at_checked(100).unwrap_or_default();
    let half = || send(half.to_vec());
    vec![
        client_closed(
            "tls-hello-closed",
            "closes inside the ClientHello",
            vec![half(), ClientStep::Close],
            HANDSHAKE_FAILED,
        ),
        client_closed(
            "tls-hello-reset",
            "resets inside the ClientHello",
            vec![half(), ClientStep::Pause(PAUSE), ClientStep::Reset],
            HANDSHAKE_FAILED,
        ),
        closed_without_response(
            "tls-hello-half-closed",
            "half-closes inside the ClientHello",
            vec![half(), ClientStep::ShutdownWrite],
            HANDSHAKE_FAILED,
        ),
        closed_without_response(
            "tls-says-nothing",
            "connects and sends nothing",
            Vec::new(),
            HANDSHAKE_TIMEOUT,
        ),
        closed_without_response(
            "tls-hello-stalls",
            "stalls inside the ClientHello",
            vec![half()],
            HANDSHAKE_TIMEOUT,
        ),
        closed_without_response(
            "tls-hello-drips",
            "sends a ClientHello byte by byte, without end",
            vec![
                send(b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb".as_slice()),
                ClientStep::SendSlowly(Bytes::from_static(&[3]), PAUSE),
            ],
            HANDSHAKE_TIMEOUT,
        ),
        closed_without_response(
            "tls-stalls-after-hello",
            "stalls after the ClientHello",
            vec![send(hello_bytes.clone()), ClientStep::DiscardUntilClose],
            HANDSHAKE_TIMEOUT,
        ),
        client_closed(
            "tls-leaves-after-hello",
            "closes after the ClientHello",
            vec![send(hello_bytes), ClientStep::WaitForData, ClientStep::Close],
            HANDSHAKE_FAILED,
        ),
    ]
}

/// Handshakes that one side rejects.
fn rejected_handshakes() -> Vec<ClientFault> {
    let refused = |name, description, hello, connection_outcome| {
        steps_only(name, description, vec![ClientStep::TlsHandshake(hello)], connection_outcome)
    };
    let none = TlsClientHello {
        alpn_protocols: &["spdy/3.1"],
        expected: HandshakeOutcome::Alert(TlsAlert::NO_APPLICATION_PROTOCOL),
        ..DEFAULT_HELLO
    };
    let distrusts = TlsClientHello {
        accepts_any_certificate: false,
        expected: HandshakeOutcome::CertificateRejected,
        ..DEFAULT_HELLO
    };
    vec![
        refused(
            "tls-no-common-protocol",
            "offers no supported protocol (ALPN)",
            none,
            ConnectionOutcome::ClosedWithoutResponse(HANDSHAKE_FAILED),
        ),
        refused(
            "tls-distrusts",
            "rejects the certificate",
            distrusts,
            ConnectionOutcome::ClientClosed(HANDSHAKE_FAILED),
        ),
        refused(
            "tls-distrusts-1.2",
            "rejects the certificate in TLS 1.2",
            TlsClientHello { tls12_only: true, ..distrusts },
            ConnectionOutcome::ClientClosed(HANDSHAKE_FAILED),
        ),
    ]
}

/// Unusual handshakes after which requests are served.
fn unusual_handshakes() -> Vec<ClientFault> {
    let served = |name, description, hello| {
        let steps = vec![
            ClientStep::TlsHandshake(hello),
            send(REQUEST),
            ClientStep::ReadResponse(RequestKind::DEFAULT),
        ];
        steps_row(
            name,
            description,
            steps,
            vec![ExpectedResponse::Served],
            ConnectionOutcome::KeptOpen,
            UpstreamSaw::Complete(1),
        )
    };
    let silent_about_protocols =
        TlsClientHello { alpn_protocols: &[], expected: HandshakeOutcome::Completed(None), ..DEFAULT_HELLO };
    vec![
        served("tls-unknown-name", "sends a server name that no certificate covers", DEFAULT_HELLO),
        served("tls-no-name", "sends no server name", TlsClientHello { server_name: None, ..DEFAULT_HELLO }),
        served("tls-no-alpn", "sends no ALPN extension", silent_about_protocols),
        served("tls-1.2", "supports TLS 1.2 at most", TlsClientHello { tls12_only: true, ..DEFAULT_HELLO }),
        served(
            "tls-unknown-protocols",
            "offers unknown protocols before a supported one (ALPN)",
            TlsClientHello { alpn_protocols: &["spdy/3.1", "http/1.1"], ..DEFAULT_HELLO },
        ),
    ]
}

/// Connections that end before or inside a request.
fn connection_ends() -> Vec<ClientFault> {
    let half = "<get> HTTP/1.1\r\nhost: <h";
    let short = "<post> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 10\r\n\r\nabc";
    let endless = format!("<get> HTTP/1.1\r\nhost: <host>\r\n{FAULT_HEADER}: endless\r\n\r\n");
    let closes = |name, description, bytes: &'static str, expected| {
        let steps = inside_tls([
            send(bytes),
            ClientStep::ShutdownWrite,
            ClientStep::ReadResponse(RequestKind::DEFAULT),
        ]);
        steps_row(
            name,
            description,
            steps,
            vec![expected],
            ConnectionOutcome::AnnouncedClose,
            UpstreamSaw::AtMostPartial,
        )
    };
    vec![
        closed_without_response(
            "tls-silence",
            "sends nothing after the handshake",
            inside_tls([]),
            IDLE_TIMEOUT,
        ),
        closed_without_response(
            "tls-goodbye",
            "sends close_notify after the handshake",
            inside_tls([ClientStep::ShutdownWrite]),
            NO_REQUEST,
        ),
        client_closed(
            "tls-no-goodbye",
            "closes after the handshake without close_notify",
            inside_tls([ClientStep::Close]),
            NO_REQUEST,
        ),
        client_closed(
            "tls-closed-in-head",
            "closes inside the request headers without close_notify",
            inside_tls([send(half), ClientStep::Pause(PAUSE), ClientStep::Close]),
            CLIENT_GONE,
        ),
        client_closed(
            "tls-closed-in-body",
            "closes inside the request body without close_notify",
            inside_tls([send(short), ClientStep::WaitForUpstreamRequest, ClientStep::Close]),
            CLIENT_GONE,
        )
        .with_upstream_saw(UpstreamSaw::AtMostPartial),
        closes(
            "tls-goodbye-in-head",
            "sends close_notify inside the request headers",
            half,
            ExpectedResponse::Rejected(Cause::HttpRequestError),
        ),
        closes(
            "tls-goodbye-in-body",
            "sends close_notify inside the request body",
            short,
            ExpectedResponse::RejectedOnRoute(Cause::MalformedBody),
        ),
        steps_row(
            "tls-closed-in-answer",
            "closes inside an endless response without close_notify",
            inside_tls([send(endless), ClientStep::ReadResponse(RequestKind::DEFAULT), ClientStep::Close]),
            vec![ExpectedResponse::Prefix],
            ConnectionOutcome::ClientClosedDuringResponse,
            UpstreamSaw::Any,
        ),
    ]
}

/// Valid TLS with unexpected content.
fn requests_inside_tls() -> Vec<ClientFault> {
    let refused = |name, description, cause, bytes: &'static [u8]| {
        let steps = inside_tls([send(bytes), ClientStep::ReadResponse(RequestKind::DEFAULT)]);
        let refused = vec![ExpectedResponse::Rejected(cause)];
        steps_row(
            name,
            description,
            steps,
            refused,
            ConnectionOutcome::AnnouncedClose,
            UpstreamSaw::Complete(0),
        )
    };
    vec![
        refused(
            "tls-noise-inside",
            "sends random bytes instead of a request",
            Cause::MalformedRequestLine,
            b"\x80\x91\xa2\xb3\xc4\xd5\xe6\xf7\r\n\r\n",
        ),
        refused(
            "tls-in-tls",
            "starts a second handshake inside TLS",
            Cause::MalformedRequestLine,
            b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03 0123456789abcdef0123456789abcdef",
        ),
        refused(
            "tls-http2-unagreed",
            "sends HTTP/2 although HTTP/1.1 was negotiated",
            Cause::UnsupportedVersion,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
        closed_without_response(
            "tls-http1-unagreed",
            "sends HTTP/1.1 although HTTP/2 was negotiated",
            vec![ClientStep::TlsHandshake(HTTP2_HELLO), send(REQUEST), ClientStep::DiscardUntilClose],
            "http2_connection_error",
        ),
    ]
}

/// TLS errors after the handshake. Most rows read a response first: bytes right after the handshake count as part of
/// it.
fn bytes_below_tls() -> Vec<ClientFault> {
    let after_handshake = |name, description, steps: Vec<ClientStep>, close_reason| {
        let served = [send(REQUEST), ClientStep::ReadResponse(RequestKind::DEFAULT)];
        let steps = inside_tls(served.into_iter().chain(steps));
        steps_row(
            name,
            description,
            steps,
            vec![ExpectedResponse::Served],
            ConnectionOutcome::ClosedWithoutResponse(close_reason),
            UpstreamSaw::Complete(1),
        )
    };
    let spoiled = || ClientStep::SendBelowTls(tls_record(&[0x17, 3, 3], &[0; 64]).into());
    let mac = TlsAlert::BAD_RECORD_MAC;
    vec![
        after_handshake(
            "tls-plain-behind",
            "sends plain HTTP/1.1 after a response",
            vec![
                ClientStep::SendBelowTls(Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n")),
                ClientStep::ExpectTlsAlert(TlsAlert::DECODE_ERROR),
            ],
            CONNECTION_ERROR,
        ),
        after_handshake(
            "tls-spoiled-record",
            "sends a record with a bad MAC after a response",
            vec![spoiled(), ClientStep::ExpectTlsAlert(mac)],
            CONNECTION_ERROR,
        ),
        after_handshake(
            "tls-spoiled-in-head",
            "sends a record with a bad MAC inside the next request headers",
            vec![send("<get> HTTP/1.1\r\nhost: <h"), spoiled(), ClientStep::ExpectTlsAlert(mac)],
            CONNECTION_ERROR,
        ),
        after_handshake(
            "tls-record-too-large-behind",
            "sends a record above 16 KiB after a response",
            vec![
                ClientStep::SendBelowTls(Bytes::from_static(&[0x17, 3, 3, 0x50, 0, 0])),
                ClientStep::ExpectTlsAlert(TlsAlert::DECODE_ERROR),
            ],
            CONNECTION_ERROR,
        ),
        after_handshake(
            "tls-half-a-record",
            "stalls inside a record after a response",
            vec![ClientStep::SendBelowTls(Bytes::from_static(&[0x17, 3, 3, 0, 64, 0, 0, 0]))],
            IDLE_TIMEOUT,
        ),
        closed_without_response(
            "tls-spoiled-in-http2",
            "sends a record with a bad MAC on an HTTP/2 connection",
            vec![
                ClientStep::TlsHandshake(HTTP2_HELLO),
                send([PREFACE, &settings_frame(&[])].concat()),
                ClientStep::WaitForData,
                spoiled(),
                ClientStep::DiscardUntilClose,
            ],
            CONNECTION_ERROR,
        ),
    ]
}

/// Encodes a TLS record: type, version, length and content.
fn tls_record(head: &[u8], content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [head, &length.to_be_bytes(), content].concat()
}

/// A ClientHello of this version with one cipher suite (RFC 5246, section 7.4.1.2).
fn client_hello_record(version: [u8; 2], suite: u16) -> Vec<u8> {
    let extensions = [
        // Groups: secp256r1. Points: uncompressed. Signatures: ECDSA and RSA with SHA-256.
        &[0, 10, 0, 4, 0, 2, 0, 23][..],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4],
    ]
    .concat();
    let mut body = version.to_vec();
    body.extend_from_slice(&[7; 32]);
    // No session identifier, one cipher suite, no compression.
    body.extend_from_slice(&[0, 0, 2]);
    body.extend_from_slice(&suite.to_be_bytes());
    body.extend_from_slice(&[1, 0]);
    body.extend_from_slice(&tls_record(&[], &extensions));
    tls_record(&[0x16, 3, 1], &tls_record(&[1, 0], &body))
}

/// A ClientHello that every server accepts; empty if the system has no random numbers.
fn complete_hello() -> Vec<u8> {
    client_hello_bytes(&DEFAULT_HELLO).unwrap_or_default()
}
