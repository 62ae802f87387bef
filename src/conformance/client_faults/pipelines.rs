//! Pipelined requests, and HTTP/1.0.
//!
//! Responses arrive in the order of the requests. After a response that closes the connection, no further request is
//! served.

use crate::contract::Cause;

use super::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, RequestKind, UpstreamSaw, send, served,
    steps_row,
};

const GET_REQUEST: &str = "<get> HTTP/1.1\r\nhost: <host>\r\n\r\n";

/// HTTP/1.0, which some health probes still use.
pub(super) fn http10() -> Vec<ClientFault> {
    let old = |name, description, bytes: &str, request_kind, expected, ending| {
        let reaches = UpstreamSaw::Complete(usize::from(expected == ExpectedResponse::Served));
        steps_row(
            name,
            description,
            vec![send(bytes.to_owned()), ClientStep::ReadResponse(request_kind)],
            vec![expected],
            ending,
            reaches,
        )
    };
    let both = RequestKind { head: true, http10: true };
    let dots = ExpectedResponse::Rejected(Cause::AmbiguousPath);
    vec![
        old(
            "old",
            "HTTP/1.0",
            "<get> HTTP/1.0\r\nhost: <host>\r\n\r\n",
            RequestKind::HTTP10,
            ExpectedResponse::Served,
            ConnectionOutcome::AnnouncedClose,
        ),
        old(
            "old-kept",
            "HTTP/1.0 with Connection: keep-alive",
            "<get> HTTP/1.0\r\nhost: <host>\r\nconnection: keep-alive\r\n\r\n",
            RequestKind::HTTP10,
            ExpectedResponse::Served,
            ConnectionOutcome::KeptOpen,
        ),
        ClientFault {
            routed_request: Some(super::RoutedRequest {
                method: "<GET>".to_owned(),
                path: "<path>".to_owned(),
                without_host: true,
            }),
            ..old(
                "old-without-host",
                "HTTP/1.0 without Host",
                "<get> HTTP/1.0\r\n\r\n",
                RequestKind::HTTP10,
                ExpectedResponse::Served,
                ConnectionOutcome::AnnouncedClose,
            )
        },
        old(
            "old-post",
            "HTTP/1.0 with a body",
            "<post> HTTP/1.0\r\nhost: <host>\r\ncontent-length: 3\r\n\r\nabc",
            RequestKind::HTTP10,
            ExpectedResponse::Served,
            ConnectionOutcome::AnnouncedClose,
        ),
        old(
            "old-refused",
            "HTTP/1.0 with dot segments",
            "<GET> <path>/../b?<row> HTTP/1.0\r\nhost: <host>\r\n\r\n",
            RequestKind::HTTP10,
            dots,
            ConnectionOutcome::AnnouncedClose,
        )
        .with_routed_request("<GET>", "<path>/../b"),
        old(
            "old-refused-kept",
            "HTTP/1.0 with dot segments and Connection: keep-alive",
            "<GET> <path>/../b?<row> HTTP/1.0\r\nhost: <host>\r\nconnection: keep-alive\r\n\r\n",
            RequestKind::HTTP10,
            dots,
            ConnectionOutcome::KeptOpen,
        )
        .with_routed_request("<GET>", "<path>/../b"),
        old(
            "old-refused-head",
            "HEAD in HTTP/1.0 with dot segments",
            "HEAD <path>/../b?<row> HTTP/1.0\r\nhost: <host>\r\n\r\n",
            both,
            dots,
            ConnectionOutcome::AnnouncedClose,
        )
        .with_routed_request("HEAD", "<path>/../b"),
    ]
}

/// Pipelined requests.
pub(super) fn pipelines() -> Vec<ClientFault> {
    let refused = |cause| ExpectedResponse::Rejected(cause);
    let dots = "<GET> <path>/../b?<row> HTTP/1.1\r\nhost: <host>\r\n\r\n";
    let post = "<post> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 3\r\n\r\nabc";
    let line = |name, description, requests: &[&str], responses: Vec<ExpectedResponse>, ending| {
        let reads = responses.iter().map(|_| ClientStep::ReadResponse(RequestKind::DEFAULT));
        let served = responses.iter().filter(|response| **response == ExpectedResponse::Served).count();
        let steps = std::iter::once(send(requests.concat())).chain(reads).collect();
        steps_row(name, description, steps, responses, ending, UpstreamSaw::Complete(served))
    };
    let head = |name, description, bytes: &str, cause| {
        let steps = vec![send(bytes.to_owned()), ClientStep::ReadResponse(RequestKind::HEAD)];
        steps_row(
            name,
            description,
            steps,
            vec![refused(cause)],
            ConnectionOutcome::AnnouncedClose,
            UpstreamSaw::Complete(0),
        )
    };
    let served_times = |times| vec![ExpectedResponse::Served; times];
    vec![
        line(
            "pipeline",
            "20 pipelined requests",
            &[GET_REQUEST; 20],
            served_times(20),
            ConnectionOutcome::KeptOpen,
        ),
        line(
            "pipeline-with-bodies",
            "20 pipelined requests, every second one with a body",
            &[[GET_REQUEST, post]; 10].concat(),
            served_times(20),
            ConnectionOutcome::KeptOpen,
        ),
        line(
            "pipeline-with-refused",
            "20 pipelined requests, every second one with dot segments",
            &[[GET_REQUEST, dots]; 10].concat(),
            [ExpectedResponse::Served, refused(Cause::AmbiguousPath)].repeat(10),
            ConnectionOutcome::KeptOpen,
        )
        .with_routed_request("<GET>", "<path>/../b"),
        line(
            "pipeline-with-malformed",
            "20 pipelined requests, the eighth malformed: the rest is ignored",
            &[&[GET_REQUEST; 7][..], &["<get> HTTP/1.1\r\nhost : <host>\r\n\r\n"], &[GET_REQUEST; 12]]
                .concat(),
            [served_times(7), vec![refused(Cause::MalformedHeader)]].concat(),
            ConnectionOutcome::AnnouncedClose,
        ),
        line(
            "pipeline-with-ambiguous",
            "20 pipelined requests, the eighth with two Content-Length fields",
            &[
                &[GET_REQUEST; 7][..],
                &["<post> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc"],
                &[GET_REQUEST; 12],
            ]
            .concat(),
            [served_times(7), vec![refused(Cause::AmbiguousFraming)]].concat(),
            ConnectionOutcome::AnnouncedClose,
        ),
        line(
            "pipeline-with-garbage",
            "a body longer than Content-Length; the extra bytes are parsed as a request",
            &["<post> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 3\r\n\r\nabcdef\r\n\r\n", GET_REQUEST],
            vec![ExpectedResponse::Served, refused(Cause::MalformedRequestLine)],
            ConnectionOutcome::AnnouncedClose,
        ),
        line(
            "pipeline-after-close",
            "a request after one with Connection: close",
            &["<get> HTTP/1.1\r\nhost: <host>\r\nconnection: close\r\n\r\n", GET_REQUEST],
            served_times(1),
            ConnectionOutcome::AnnouncedClose,
        ),
        line(
            "pipeline-empty-line-between",
            "an empty line after a body, as old clients send",
            &[post, "\r\n", GET_REQUEST],
            served_times(2),
            ConnectionOutcome::KeptOpen,
        ),
        line(
            "pipeline-empty-lines-between",
            "a run of CR and LF after a body and between requests",
            &[post, "\r\n\r\n", GET_REQUEST, "\n\n", post, "\r\n\r\n\r\n"],
            served_times(3),
            ConnectionOutcome::KeptOpen,
        ),
        head(
            "head-malformed",
            "HEAD with a malformed field",
            "<head> HTTP/1.1\r\nhost : <host>\r\n\r\n",
            Cause::MalformedHeader,
        ),
        head(
            "head-of-another-version",
            "HEAD with an unsupported version",
            "<head> HTTP/7.7\r\nhost: <host>\r\n\r\n",
            Cause::UnsupportedVersion,
        ),
        head(
            "head-slow",
            "HEAD that stalls inside the header fields",
            "<head> HTTP/1.1\r\nhost: <host>\r\n",
            Cause::ClientTooSlow,
        ),
        ClientFault {
            steps: vec![
                send("HEAD <path>/../b?<row> HTTP/1.1\r\nhost: <host>\r\n\r\n"),
                ClientStep::ReadResponse(RequestKind::HEAD),
            ],
            expected_responses: vec![refused(Cause::AmbiguousPath)],
            upstream_saw: UpstreamSaw::Complete(0),
            ..served("head-refused", "HEAD with dot segments: no body, and the connection stays open", "")
                .with_routed_request("HEAD", "<path>/../b")
        },
    ]
}
