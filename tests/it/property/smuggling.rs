//! Request smuggling: every part of the chain sees the same requests. The corpus has bodies with ambiguous lengths,
//! each with a second request hidden in it, and mutations of these.
//!
//! The strict reader parses what the client sent, the strict upstream what arrived; both must see the same requests for
//! every successful response. [`super::strict_upstream`] compares each request with the lenient readers.

use super::client_bytes::{ClientClose, connect, exchange, parse_all};
use super::contract::{check_settled, short_timeouts};
use super::generators::{self, Fragment, chunked};
use super::observed::ObservedResponses;
use super::random::SeededRandom;
use super::request_reader::ReadResult;
use super::runner::{CasePlan, Property, run};
use super::strict_upstream::{ForwardedRequest, StrictUpstream};

/// Header fields that state a body length, most of them ambiguous.
const LENGTHS: &[&str] = &[
    "content-length: 3",
    "content-length: 0",
    "content-length: 03",
    "content-length: 3 ",
    "content-length:3",
    "content-length:\t3",
    "Content-Length: 3",
    "content-length: 4",
    "content-length: 2",
    "content-length: +3",
    "content-length: -3",
    "content-length: 0x3",
    "content-length: 3.0",
    "content-length: 3e0",
    "content-length: 3 3",
    "content-length: 3, 3",
    "content-length: 3,",
    "content-length: ,3",
    "content-length: 3, 4",
    "content-length: 3;a",
    "content-length: \"3\"",
    "content-length:",
    "content-length: three",
    "content-length: 18446744073709551616",
    "content-length: 18446744073709551619",
    "content-length : 3",
    "content-length\t: 3",
    " content-length: 3",
    "content_length: 3",
    "content-length: 3\r\ncontent-length: 3",
    "content-length: 3\r\ncontent-length: 0",
    "content-length: 0\r\ncontent-length: 3",
    "content-length: 3\ncontent-length: 0",
    "content-length: 3\rcontent-length: 0",
    "x: y\r\n content-length: 3",
    "content-length:\r\n 3",
    "content-length: 3\u{b}",
    "content-length: 3\0",
    "transfer-encoding: chunked",
    "Transfer-Encoding: Chunked",
    "transfer-encoding:chunked",
    "transfer-encoding:\tchunked",
    "transfer-encoding: chunked ",
    "transfer-encoding: chunked\r\ncontent-length: 3",
    "content-length: 3\r\ntransfer-encoding: chunked",
    "content-length: 0\r\ntransfer-encoding: chunked",
    "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    "transfer-encoding: chunked\r\ntransfer-encoding: identity",
    "transfer-encoding: identity\r\ntransfer-encoding: chunked",
    "transfer-encoding: identity",
    "transfer-encoding: identity, chunked",
    "transfer-encoding: chunked, identity",
    "transfer-encoding: gzip, chunked",
    "transfer-encoding: chunked, chunked",
    "transfer-encoding: xchunked",
    "transfer-encoding: chunkedx",
    "transfer-encoding: chunked;q=0.5",
    "transfer-encoding: \"chunked\"",
    "transfer-encoding: 'chunked'",
    "transfer-encoding: ,chunked",
    "transfer-encoding: chunked,",
    "transfer-encoding: [chunked]",
    "transfer-encoding:\u{b}chunked",
    "transfer-encoding: \u{c}chunked",
    "transfer-encoding: chunked\0",
    "transfer-encoding:\r\n chunked",
    "transfer-encoding:",
    "transfer-encoding : chunked",
    "transfer-encoding\t: chunked",
    " transfer-encoding: chunked",
    "transfer_encoding: chunked",
    "transfer-encoding: chunked\nx: y",
    "x: y\rtransfer-encoding: chunked",
    "x: y\ntransfer-encoding: chunked",
    "x: y\r\n\ttransfer-encoding: chunked",
    "xtransfer-encoding: chunked",
    "\0transfer-encoding: chunked",
    "transfer-encoding\0: chunked",
    "te: chunked",
    "connection: content-length\r\ncontent-length: 3",
    "connection: transfer-encoding\r\ntransfer-encoding: chunked",
    "connection: close, content-length\r\ncontent-length: 3",
    "expect: 100-continue\r\ncontent-length: 3",
    "expect: 100-continue\r\ntransfer-encoding: chunked",
    "upgrade: h2c\r\nhttp2-settings: AA\r\ncontent-length: 3",
    "x-http-method-override: POST",
];

const BODIES: &[&str] = &["abc", "3\r\nabc\r\n0\r\n\r\n", "0\r\n\r\n", "3;x\r\nabc\r\n0\r\nx: y\r\n\r\n", ""];

const METHODS: &[&str] = &["GET", "POST", "DELETE"];

/// Syntax that is accepted although the grammar does not have it or few send it, and what is next to it and rejected:
/// the line of the first request, with `KEY` for the path, its other lines and body, and what follows before the second
/// request.
const RELAXED: &[(&str, &str)] = &[
    // Octets of a query that should be encoded.
    ("GET KEY?a={\"b\":[1,\"<c>\"]}|`^\\ HTTP/1.1", ""),
    ("GET KEY?\u{e9}\u{ff}\u{80}\u{a0} HTTP/1.1", ""),
    ("GET KEY?\u{85} HTTP/1.1", ""),
    ("GET KEY?a b HTTP/1.1", ""),
    ("GET KEY?a\tb HTTP/1.1", ""),
    ("GET KEY?a\u{b}HTTP/1.1 HTTP/1.1", ""),
    ("GET KEY?a\0b HTTP/1.1", ""),
    ("GET KEY?a#b HTTP/1.1", ""),
    ("GET KEY?\" HTTP/1.1\" HTTP/1.1", ""),
    ("GET KEY?a\u{7f} HTTP/1.1", ""),
    // Encoded backslashes and control octets, which only lenient routes accept.
    ("GET KEY%5Cb HTTP/1.1", ""),
    ("GET KEY%0d%0aX:y HTTP/1.1", ""),
    ("GET KEY%00 HTTP/1.1", ""),
    ("GET KEY%0A%0AGET%20/ HTTP/1.1", ""),
    ("GET KEY/..%5c..%5Cb HTTP/1.1", ""),
    ("GET KEY/../b HTTP/1.1", ""),
    ("GET KEY/%2e%2E/./b?c/../d HTTP/1.1", ""),
    ("GET KEY%7F%1f%09 HTTP/1.1", ""),
    ("GET KEY%5c%00 HTTP/1.1", ""),
    ("GET KEY\\b HTTP/1.1", ""),
    ("GET KEY/../b\u{e9} HTTP/1.1", ""),
    ("POST KEY%0d%0a%0d%0a HTTP/1.1", "content-length: 3\r\n\r\nabc"),
    // Minor versions.
    ("GET KEY HTTP/1.2", ""),
    ("GET KEY HTTP/1.9", ""),
    ("POST KEY HTTP/1.3", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ("POST KEY HTTP/1.0", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ("POST KEY HTTP/1.2", "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ("GET KEY HTTP/1.10", ""),
    ("GET KEY HTTP/1.", ""),
    ("GET KEY HTTP/01.1", ""),
    // Absolute form with the default port.
    ("GET http://test:80KEY HTTP/1.1", ""),
    ("GET http://test:0080KEY HTTP/1.1", ""),
    ("GET http://TEST:KEY HTTP/1.1", ""),
    ("GET https://test:443KEY HTTP/1.1", ""),
    ("GET http://test:443KEY HTTP/1.1", ""),
    ("GET http://test:80:80KEY HTTP/1.1", ""),
    // Leading zeros and white space in chunk lines.
    (
        "POST KEY HTTP/1.1",
        "transfer-encoding: chunked\r\n\r\n0000000000000000003\r\nabc\r\n0000000000000000000\r\n\r\n",
    ),
    (
        "POST KEY HTTP/1.1",
        "transfer-encoding: chunked\r\n\r\n00000000000000010000000000000003\r\nabc\r\n0\r\n\r\n",
    ),
    ("POST KEY HTTP/1.1", "transfer-encoding: chunked\r\n\r\n00x3\r\nabc\r\n0\r\n\r\n"),
    ("POST KEY HTTP/1.1", "transfer-encoding: chunked\r\n\r\n3 ; a = b\r\nabc\r\n0 ;c\r\n\r\n"),
    ("POST KEY HTTP/1.1", "transfer-encoding: chunked\r\n\r\n3\t;\ta\t=\t\"b;c\"\t;d\r\nabc\r\n0\r\n\r\n"),
    ("POST KEY HTTP/1.1", "transfer-encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n"),
    ("POST KEY HTTP/1.1", "transfer-encoding: chunked\r\n\r\n 3;a\r\nabc\r\n0\r\n\r\n"),
    ("POST KEY HTTP/1.1", "transfer-encoding: chunked\r\n\r\n3 3;a\r\nabc\r\n0\r\n\r\n"),
    ("POST KEY HTTP/1.1", "transfer-encoding: chunked\r\n\r\n3 ;a=\"\r\nabc\r\n0\r\n\r\n"),
    ("POST KEY HTTP/1.1", "transfer-encoding: chunked\r\n\r\n3 ;a\n\r\nabc\r\n0\r\n\r\n"),
    ("POST KEY HTTP/1.1", "transfer-encoding: chunked\r\n\r\n3\u{b};a\r\nabc\r\n0\r\n\r\n"),
    // Runs of CR and LF before and after requests.
    ("\nGET KEY HTTP/1.1", ""),
    ("\r\n\r\nGET KEY HTTP/1.1", ""),
    ("\r\r\n\n\rGET KEY HTTP/1.1", ""),
    ("\r\n GET KEY HTTP/1.1", ""),
    ("GET KEY HTTP/1.1", "\r\n\r\n\n"),
    ("POST KEY HTTP/1.1", "content-length: 3\r\n\r\nabc\r\n\r\n"),
    ("POST KEY HTTP/1.1", "content-length: 3\r\n\r\nabc\n"),
    ("POST KEY HTTP/1.1", "content-length: 0\r\n\r\n\r\n\r\n"),
    ("POST KEY HTTP/1.1", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\r\n\n"),
    ("POST KEY HTTP/1.1", "content-length: 3\r\n\r\nabc\r\n x"),
];

struct SmugglingProperty<'a> {
    gateway: std::net::SocketAddr,
    peer: &'a StrictUpstream,
    observed: &'a ObservedResponses,
    /// Mutations of the corpus, or the corpus itself.
    mutates: bool,
}

/// The two requests and the bytes between them; both targets begin with `key`.
#[derive(Clone, Debug)]
struct SmugglingCase {
    key: String,
    pieces: Vec<Fragment>,
}

/// Number of cases in the corpus.
const CORPUS: u64 = (LENGTHS.len() * BODIES.len() * METHODS.len() + RELAXED.len()) as u64;

impl SmugglingProperty<'_> {
    /// A case of [`RELAXED`]. Characters are octets.
    fn make_relaxed(&self, key: String, line: &str, rest: &str, random: &mut SeededRandom) -> SmugglingCase {
        let octets = |text: &str| -> Vec<u8> { text.chars().map(|octet| octet as u8).collect() };
        let rest = if rest.is_empty() { "\r\n" } else { rest };
        let mut rest = octets(&format!("host: test\r\n{rest}"));
        rest.extend(format!("GET /{key}/second HTTP/1.1\r\nhost: test\r\n\r\n").into_bytes());
        let mut line = octets(&format!("{}\r\n", line.replace("KEY", &format!("/{key}/first"))));
        if self.mutates {
            let part = if random.percent(50) { &mut line } else { &mut rest };
            random.damage(part);
        }
        let piece = |bytes: &[u8]| Fragment { bytes: bytes.to_vec(), separate: false };
        let lines = rest.split_inclusive(|byte| *byte == b'\n').map(piece);
        SmugglingCase { key, pieces: std::iter::once(piece(&line)).chain(lines).collect() }
    }
}

impl Property for SmugglingProperty<'_> {
    type Case = SmugglingCase;

    fn make(&self, number: u64, random: &mut SeededRandom) -> SmugglingCase {
        // Letters, so that a mutation cannot turn one key into another.
        let key: String = (0..16).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
        let number = if self.mutates { random.below(CORPUS as usize) } else { number as usize };
        if let Some(&(line, rest)) = RELAXED.get(number) {
            return self.make_relaxed(key, line, rest, random);
        }
        let number = number - RELAXED.len();
        let lengths = LENGTHS[number % LENGTHS.len()];
        let body = BODIES[number / LENGTHS.len() % BODIES.len()];
        let method = METHODS[number / LENGTHS.len() / BODIES.len()];
        let mut rest = format!("host: test\r\n{lengths}\r\n\r\n{body}").into_bytes();
        if self.mutates && random.percent(30) {
            rest = format!("host: test\r\n{lengths}\r\n\r\n").into_bytes();
            rest.extend(chunked(b"abc", random).concat());
        }
        rest.extend(format!("GET /{key}/second HTTP/1.1\r\nhost: test\r\n\r\n").into_bytes());
        if self.mutates {
            random.damage(&mut rest);
        }
        let line = format!("{method} /{key}/first HTTP/1.1\r\n").into_bytes();
        let piece = |bytes: &[u8]| Fragment { bytes: bytes.to_vec(), separate: false };
        let lines = rest.split_inclusive(|byte| *byte == b'\n').map(piece);
        SmugglingCase { key, pieces: std::iter::once(piece(&line)).chain(lines).collect() }
    }

    fn check(&self, _: u64, case: &SmugglingCase) -> Result<(), String> {
        let sent = generators::writes(&case.pieces).concat();
        let stream = connect(self.gateway).map_err(|e| e.to_string())?;
        // A write fails if the request was rejected early.
        let _ = std::io::Write::write_all(&mut &stream, &sent);
        let responses = exchange(stream, &sent, ClientClose::AfterResponses, self.observed)?;
        let prefix = format!("/{}/", case.key);
        let mut expected = Vec::new();
        for (request, response) in parse_all(&sent).into_iter().zip(&responses) {
            if let (ReadResult::Complete(head, body, _), 200) = (request, response.status)
                && let Some(target) = origin_form(&head.target)
                && target.starts_with(&prefix)
            {
                expected.push(ForwardedRequest { method: head.method, target: target.to_owned(), body });
            }
        }
        let found = self.peer.forwarded(&prefix);
        if found == expected {
            return Ok(());
        }
        Err(format!("the client sent {expected:?}, the upstream received {found:?}"))
    }

    fn shrink(case: &SmugglingCase) -> Vec<SmugglingCase> {
        // With the same key, the requests of the previous trial would be found.
        let other: String = case.key.chars().rev().collect::<String>() + "x";
        let renamed = |piece: &Fragment| {
            let text: String = piece.bytes.iter().map(|byte| char::from(*byte)).collect();
            let bytes = text.replace(&case.key, &other).chars().map(|c| c as u8).collect();
            Fragment { bytes, separate: piece.separate }
        };
        let renamed: Vec<Fragment> = case.pieces.iter().map(renamed).collect();
        let smaller = generators::without_one(&renamed).into_iter().enumerate();
        smaller.map(|(index, pieces)| indexed_case(&other, index, pieces)).collect()
    }

    fn render(case: &SmugglingCase) -> String {
        generators::show(&case.pieces)
    }
}

/// Path and query of a target.
fn origin_form(target: &str) -> Option<&str> {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.get(rest.find('/')?..),
        _ => Some(target),
    }
}

/// The same case under a new key.
fn indexed_case(key: &str, index: usize, pieces: Vec<Fragment>) -> SmugglingCase {
    let keyed = format!("{key}{}", "y".repeat(index));
    let pieces = pieces.into_iter().map(|piece| {
        let text: String = piece.bytes.iter().map(|byte| char::from(*byte)).collect();
        let bytes =
            text.replace(&format!("/{key}/"), &format!("/{keyed}/")).chars().map(|c| c as u8).collect();
        Fragment { bytes, separate: piece.separate }
    });
    SmugglingCase { pieces: pieces.collect(), key: keyed }
}

/// The `paths` of the route.
#[derive(Clone, Copy, Debug)]
enum Paths {
    Strict,
    Lenient,
}

fn smuggle(label: &str, plan: CasePlan, mutates: bool, paths: Paths) {
    let (peer, observed) = (StrictUpstream::start(), ObservedResponses::default());
    peer.keep_requests();
    let setup = short_timeouts(&peer);
    let gateway = match paths {
        Paths::Strict => setup.start(),
        Paths::Lenient => {
            setup.route("name: all, match: { path: \"/{*rest}\" }, upstream: main, paths: lenient").start()
        }
    };
    let property =
        SmugglingProperty { gateway: gateway.address(), peer: &peer, observed: &observed, mutates };
    run(label, plan, &property);
    check_settled(&gateway, &observed, &peer);
    let passed = observed.counts().responses.get(&200).copied().unwrap_or(0);
    assert!(passed > plan.cases / 10, "{passed} of {} requests passed: too few to be meaningful", plan.cases);
}

#[test]
fn smuggling_corpus_requests_are_one_request_to_all_readers_or_rejected() {
    let plan = CasePlan { cases: CORPUS, ..CasePlan::from_environment(CORPUS) };
    smuggle("smuggling corpus", plan, false, Paths::Strict);
    smuggle("smuggling corpus, lenient paths", plan, false, Paths::Lenient);
}

#[test]
fn smuggling_mutations_are_one_request_to_all_readers_or_rejected() {
    smuggle("smuggling mutations", CasePlan::from_environment(4_000), true, Paths::Strict);
    smuggle("smuggling mutations, lenient paths", CasePlan::from_environment(1_000), true, Paths::Lenient);
}
