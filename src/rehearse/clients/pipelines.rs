//! Rows of several requests on one connection, and of HTTP/1.0.
//!
//! Answers come in the order of the requests; after one that closes, nothing else is served.

use crate::contract::Cause;

use super::{Act, Asked, ClientFault, Ending, Expected, Reaches, acted, send, served};

const GET: &str = "<get> HTTP/1.1\r\nhost: <host>\r\n\r\n";

/// HTTP/1.0, which is still spoken by probes.
pub(super) fn old_versions() -> Vec<ClientFault> {
    let old = |name, meaning, bytes: &str, asked, expected, ending| {
        let reaches = Reaches::Whole(usize::from(expected == Expected::Served));
        acted(
            name,
            meaning,
            vec![send(bytes.to_owned()), Act::Answer(asked)],
            vec![expected],
            ending,
            reaches,
        )
    };
    let both = Asked { head: true, old: true };
    let dots = Expected::Refused(Cause::AmbiguousPath);
    vec![
        old(
            "old",
            "HTTP/1.0",
            "<get> HTTP/1.0\r\nhost: <host>\r\n\r\n",
            Asked::OLD,
            Expected::Served,
            Ending::Closes,
        ),
        old(
            "old-kept",
            "HTTP/1.0 that asks to keep the connection",
            "<get> HTTP/1.0\r\nhost: <host>\r\nconnection: keep-alive\r\n\r\n",
            Asked::OLD,
            Expected::Served,
            Ending::Stays,
        ),
        ClientFault {
            asks: Some(super::Target {
                method: "<GET>".to_owned(),
                path: "<path>".to_owned(),
                no_host: true,
            }),
            ..old(
                "old-without-host",
                "HTTP/1.0 without Host",
                "<get> HTTP/1.0\r\n\r\n",
                Asked::OLD,
                Expected::Served,
                Ending::Closes,
            )
        },
        old(
            "old-post",
            "HTTP/1.0 with a body",
            "<post> HTTP/1.0\r\nhost: <host>\r\ncontent-length: 3\r\n\r\nabc",
            Asked::OLD,
            Expected::Served,
            Ending::Closes,
        ),
        old(
            "old-refused",
            "HTTP/1.0 with dot segments",
            "<GET> <path>/../b?<row> HTTP/1.0\r\nhost: <host>\r\n\r\n",
            Asked::OLD,
            dots,
            Ending::Closes,
        )
        .asking("<GET>", "<path>/../b"),
        old(
            "old-refused-kept",
            "HTTP/1.0 with dot segments that asks to keep the connection",
            "<GET> <path>/../b?<row> HTTP/1.0\r\nhost: <host>\r\nconnection: keep-alive\r\n\r\n",
            Asked::OLD,
            dots,
            Ending::Stays,
        )
        .asking("<GET>", "<path>/../b"),
        old(
            "old-refused-head",
            "HEAD over HTTP/1.0 with dot segments",
            "HEAD <path>/../b?<row> HTTP/1.0\r\nhost: <host>\r\n\r\n",
            both,
            dots,
            Ending::Closes,
        )
        .asking("HEAD", "<path>/../b"),
    ]
}

/// Request after request without waiting.
pub(super) fn pipelines() -> Vec<ClientFault> {
    let refused = |cause| Expected::Refused(cause);
    let dots = "<GET> <path>/../b?<row> HTTP/1.1\r\nhost: <host>\r\n\r\n";
    let post = "<post> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 3\r\n\r\nabc";
    let line = |name, meaning, requests: &[&str], answers: Vec<Expected>, ending| {
        let reads = answers.iter().map(|_| Act::Answer(Asked::USUAL));
        let whole = answers.iter().filter(|answer| **answer == Expected::Served).count();
        let acts = std::iter::once(send(requests.concat())).chain(reads).collect();
        acted(name, meaning, acts, answers, ending, Reaches::Whole(whole))
    };
    let head = |name, meaning, bytes: &str, cause| {
        let acts = vec![send(bytes.to_owned()), Act::Answer(Asked::HEAD)];
        acted(name, meaning, acts, vec![refused(cause)], Ending::Closes, Reaches::Whole(0))
    };
    let served_times = |times| vec![Expected::Served; times];
    vec![
        line("pipeline", "20 requests at once", &[GET; 20], served_times(20), Ending::Stays),
        line(
            "pipeline-with-bodies",
            "20 requests at once, every second with a body",
            &[[GET, post]; 10].concat(),
            served_times(20),
            Ending::Stays,
        ),
        line(
            "pipeline-with-refused",
            "20 requests at once, every second with dot segments",
            &[[GET, dots]; 10].concat(),
            [Expected::Served, refused(Cause::AmbiguousPath)].repeat(10),
            Ending::Stays,
        )
        .asking("<GET>", "<path>/../b"),
        line(
            "pipeline-with-malformed",
            "20 requests at once, the eighth malformed: nothing after it is served",
            &[&[GET; 7][..], &["<get> HTTP/1.1\r\nhost : <host>\r\n\r\n"], &[GET; 12]].concat(),
            [served_times(7), vec![refused(Cause::MalformedHeader)]].concat(),
            Ending::Closes,
        ),
        line(
            "pipeline-with-ambiguous",
            "20 requests at once, the eighth with two lengths",
            &[
                &[GET; 7][..],
                &["<post> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc"],
                &[GET; 12],
            ]
            .concat(),
            [served_times(7), vec![refused(Cause::AmbiguousFraming)]].concat(),
            Ending::Closes,
        ),
        line(
            "pipeline-with-garbage",
            "a body that is longer than its length, and the rest of it taken for a request",
            &["<post> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 3\r\n\r\nabcdef\r\n\r\n", GET],
            vec![Expected::Served, refused(Cause::MalformedRequestLine)],
            Ending::Closes,
        ),
        line(
            "pipeline-after-close",
            "a request after one that asked to close",
            &["<get> HTTP/1.1\r\nhost: <host>\r\nconnection: close\r\n\r\n", GET],
            served_times(1),
            Ending::Closes,
        ),
        line(
            "pipeline-empty-line-between",
            "an empty line after a body, as old clients send",
            &[post, "\r\n", GET],
            served_times(2),
            Ending::Stays,
        ),
        head(
            "head-malformed",
            "HEAD with a malformed field",
            "<head> HTTP/1.1\r\nhost : <host>\r\n\r\n",
            Cause::MalformedHeader,
        ),
        head(
            "head-of-another-version",
            "HEAD in a version that is not ours",
            "<head> HTTP/7.7\r\nhost: <host>\r\n\r\n",
            Cause::UnsupportedVersion,
        ),
        head(
            "head-slow",
            "HEAD that falls silent inside its fields",
            "<head> HTTP/1.1\r\nhost: <host>\r\n",
            Cause::ClientTooSlow,
        ),
        ClientFault {
            acts: vec![
                send("HEAD <path>/../b?<row> HTTP/1.1\r\nhost: <host>\r\n\r\n"),
                Act::Answer(Asked::HEAD),
            ],
            answers: vec![refused(Cause::AmbiguousPath)],
            reaches: Reaches::Whole(0),
            ..served("head-refused", "HEAD with dot segments: no body, and the connection stays", "")
                .asking("HEAD", "<path>/../b")
        },
    ]
}
