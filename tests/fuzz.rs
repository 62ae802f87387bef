//! Fuzz targets for all parsers of external bytes. A short run with every `make test`, a minute per target in `make
//! fuzz`.
//!
//! Each input is used in three ways: as raw bytes, as a sequence of dictionary words, and as mutations of a seed in
//! `tests/__fuzz__/TARGET/corpus`. The targets assert more than the absence of panics: results do not depend on how
//! bytes are split, and accepted input is accepted by a second, independent reader. Failing inputs are stored in
//! `tests/__fuzz__/TARGET/crashes` and replayed first.

#![allow(unreachable_pub)] // a test crate exports nothing
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]
#![allow(clippy::disallowed_methods)] // the lints of the request path do not apply to tests

#[path = "fuzz/dictionary.rs"]
mod dictionary;
#[path = "it/property/request_reader.rs"]
#[allow(dead_code, reason = "shared with tests/it, which uses all of it")]
mod request_reader;

use std::path::Path;
use std::time::Duration;

use bolero::check;
use bytes::BytesMut;
use http::{HeaderValue, Method};
use serde::de::IgnoredAny;
use serde_json::Value;
use statusquo::config;
use statusquo::contract::{
    BodyForm, BodyFormat, CodeDeclaration, Conformance, Contract, Declaration, DeclaredValue, ErrorBody,
    Overrides, PolicyInput, ReplyContext, RequestSent, TemplateSource, Trigger, UpstreamMessages, ValueType,
    compose, conform, decide, extract, text,
};
use statusquo::http::body_decoder::{BodyDecoder, DecodeStep};
use statusquo::http::framing::RequestFraming;
use statusquo::http::proxy_protocol::{self, HeaderExtent, ProxiedPeer, header_extent};
use statusquo::http::request_head::{self, Version};
use statusquo::http::request_scanner::{RequestScanner, ScanProgress};
use statusquo::http::response_framer::{FramerProgress, ResponseFramer};
use statusquo::http::response_head::{self, ResponseFraming};

use request_reader::{MessageSource, ReadResult};

/// Limits of a short run: inputs and time. `BOLERO_RANDOM_ITERATIONS` and `BOLERO_RANDOM_TEST_TIME_MS` override them.
const INPUTS: usize = 4_000;
const TIME: Duration = Duration::from_secs(4);
/// Longest generated input, in bytes; a seed may be longer.
const LENGTH: usize = 256;

/// Seeds of a target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/__fuzz__").join(target).join("corpus");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{}: no seeds", folder.display());
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The three uses of an input.
fn inputs_from(input: &[u8], words: &[&str], seeds: &[Vec<u8>]) -> [Vec<u8>; 3] {
    let spelled =
        input.iter().take(64).flat_map(|byte| words[usize::from(*byte) % words.len()].bytes()).collect();
    [input.to_vec(), spelled, mutated(input, words, seeds)]
}

/// A mutated seed: the first byte selects the seed, every 4 further bytes change one position.
fn mutated(input: &[u8], words: &[&str], seeds: &[Vec<u8>]) -> Vec<u8> {
    let Some((first, changes)) = input.split_first() else { return seeds[0].clone() };
    let mut bytes = seeds[usize::from(*first) % seeds.len()].clone();
    for change in changes.as_chunks::<4>().0.iter().take(6) {
        let [high, low, kind, byte] = *change;
        let at = usize::from(u16::from_be_bytes([high, low])) % (bytes.len() + 1);
        let word = words[usize::from(byte) % words.len()].bytes();
        match kind % 5 {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, byte),
            3 => drop(bytes.splice(at..at, word)),
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

#[test]
fn request_heads() {
    let seeds = seeds("request_heads");
    check!().with_iterations(INPUTS).with_test_time(TIME).with_max_len(LENGTH).for_each(|input: &[u8]| {
        let split = input.first().map_or(0, |byte| usize::from(*byte));
        for bytes in inputs_from(input, dictionary::REQUESTS, &seeds) {
            request_head(&bytes, split);
        }
    });
}

fn request_head(bytes: &[u8], split: usize) {
    let unsplit = RequestScanner::new(4096).advance(bytes);
    let mut scanner = RequestScanner::new(4096);
    let first = scanner.advance(&bytes[..split.min(bytes.len())]);
    assert!(first == ScanProgress::NeedMore || first == unsplit, "{first:?}, then {unsplit:?}");
    assert!(
        first != ScanProgress::NeedMore || scanner.advance(bytes) == unsplit,
        "a split changes the result {unsplit:?}"
    );
    let ScanProgress::Complete { length, skip } = unsplit else { return };
    let Ok(facts) = request_head::parse(&bytes[skip..length]) else { return };
    let head = match request_reader::read(&bytes[skip..], MessageSource::Client) {
        ReadResult::Complete(head, ..)
        | ReadResult::IncompleteBody(head)
        | ReadResult::MalformedBody(head, _) => head,
        other => panic!("accepted, but {other:?}"),
    };
    assert_eq!(
        (head.method.as_str(), head.http10),
        (facts.method.as_str(), facts.version == Version::Http10)
    );
    let framing = match head.framing {
        request_reader::ParsedFraming::None => RequestFraming::None,
        request_reader::ParsedFraming::Length(length) => RequestFraming::Length(length as u64),
        request_reader::ParsedFraming::Chunked => RequestFraming::Chunked,
    };
    assert_eq!(framing, facts.framing);
    assert_eq!(head.headers.len(), facts.field_count);
}

#[test]
fn proxy_headers() {
    let seeds = seeds("proxy_headers");
    check!().with_iterations(INPUTS).with_test_time(TIME).with_max_len(LENGTH).for_each(|input: &[u8]| {
        let split = input.first().map_or(0, |byte| usize::from(*byte));
        for bytes in inputs_from(input, dictionary::PROXY_HEADERS, &seeds) {
            proxy_header(&bytes, split);
        }
    });
}

/// The extent does not depend on how bytes are split, and a complete header is no longer than its bytes.
fn proxy_header(bytes: &[u8], split: usize) {
    let unsplit = header_extent(bytes);
    match header_extent(&bytes[..split.min(bytes.len())]) {
        Ok(HeaderExtent::Complete(end)) => assert_eq!(unsplit, Ok(HeaderExtent::Complete(end))),
        Err(error) => assert_eq!(unsplit, Err(error)),
        Ok(HeaderExtent::Incomplete) => {}
    }
    if let Ok(HeaderExtent::Complete(end)) = unsplit {
        let parsed = proxy_protocol::parse(&bytes[..end]);
        assert_eq!(header_extent(&bytes[..end]), Ok(HeaderExtent::Complete(end)));
        if let Ok(ProxiedPeer::Client(address)) = parsed {
            assert_eq!(address, address.to_canonical());
        }
    }
}

#[test]
fn response_heads() {
    let seeds = seeds("response_heads");
    check!().with_iterations(INPUTS).with_test_time(TIME).with_max_len(LENGTH).for_each(|input: &[u8]| {
        let split = input.first().map_or(0, |byte| usize::from(*byte));
        for bytes in inputs_from(input, dictionary::RESPONSES, &seeds) {
            response(&bytes, split);
        }
    });
}

fn response(bytes: &[u8], split: usize) {
    let unsplit = ResponseFramer::default().advance(bytes);
    let mut scan = ResponseFramer::default();
    let first = scan.advance(&bytes[..split.min(bytes.len())]);
    assert!(first == FramerProgress::NeedMore || first == unsplit, "{first:?}, then {unsplit:?}");
    assert!(
        first != FramerProgress::NeedMore || scan.advance(bytes) == unsplit,
        "a split changes the result {unsplit:?}"
    );
    let FramerProgress::Complete(length) = unsplit else { return };
    for method in [Method::GET, Method::HEAD] {
        let Ok(facts) = response_head::parse(&bytes[..length], &method) else { continue };
        let mut fields = [httparse::EMPTY_HEADER; 512];
        let mut other = httparse::Response::new(&mut fields);
        // This parser knows no higher minor version.
        let mut plain = bytes[..length].to_vec();
        if facts.version == Version::Http11 {
            plain[7] = b'1';
        }
        match other.parse(&plain) {
            Ok(httparse::Status::Complete(end)) => {
                assert_eq!((end, other.code), (length, Some(facts.status)))
            }
            Err(httparse::Error::TooManyHeaders) => {}
            found => panic!("accepted, but {found:?}"),
        }
        body(&bytes[length..], BodyDecoder::response(facts.framing), split);
        if facts.framing == ResponseFraming::Chunked {
            assert_eq!(facts.content_length, None);
        }
    }
}

/// Decodes a body whole and split; both results must be equal.
fn body(bytes: &[u8], decoder: BodyDecoder, split: usize) {
    let split = split % (bytes.len() + 1);
    let at_once = decode(&[bytes], decoder);
    let in_two = decode(&[&bytes[..split], &bytes[split..]], decoder);
    assert_eq!(at_once, in_two, "a split after {split} changes the body");
}

fn decode(pieces: &[&[u8]], mut decoder: BodyDecoder) -> (Vec<u8>, Result<bool, &'static str>) {
    let (mut buffer, mut body) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(DecodeStep::Data(length)) => body.extend_from_slice(&buffer.split_to(length)),
                Ok(DecodeStep::NeedMore) => break,
                Ok(DecodeStep::End) => return (body, Ok(true)),
                Err(sentence) => return (body, Err(sentence)),
            }
        }
    }
    (body, Ok(false))
}

fn contract() -> Contract {
    Contract::builtin("appwrite").unwrap()
}

#[test]
fn conformance() {
    let (seeds, contract) = (seeds("conformance"), contract());
    check!().with_iterations(INPUTS).with_test_time(TIME).with_max_len(LENGTH).for_each(|input: &[u8]| {
        for bytes in inputs_from(input, dictionary::BODIES, &seeds) {
            let media_type = Some(&b"application/json"[..]);
            for status in [404, 500] {
                let error = ErrorBody { status, media_type, body: &bytes };
                if conform::check_conformance(&contract, &error, UpstreamMessages::All)
                    == Conformance::Conforms
                {
                    conforms(&bytes, status);
                }
            }
        }
    });
}

/// The value of a text that must be JSON; `None` if a number in it does not fit in a double. The gateway keeps numbers
/// as they are written.
fn parse_json(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice::<IgnoredAny>(bytes).expect("the body is JSON");
    serde_json::from_slice(bytes).ok()
}

/// Compares the conformance check with a JSON parser that keeps duplicate members.
fn conforms(bytes: &[u8], status: u16) {
    let Some(value) = parse_json(bytes) else { return };
    let object = value.as_object().expect("a conforming body is an object");
    let message = object["message"].as_str().expect("a conforming body has a message");
    let is_control = |letter: char| letter.is_control() && letter != '\t' && letter != '\n';
    assert!((1..=8192).contains(&message.chars().count()) && !message.contains(is_control));
    assert_eq!(object["code"].as_u64(), Some(u64::from(status)));
    assert!(
        object.keys().all(|key| ["message", "code", "type", "version"].contains(&key.as_str())),
        "{object:?}"
    );
    let colons = bytes.iter().filter(|byte| **byte == b':').count();
    let in_strings: usize =
        object.values().filter_map(Value::as_str).map(|text| text.matches(':').count()).sum();
    assert!(colons <= object.len() + in_strings, "duplicate member");
}

/// A template on the first line, and a body below it.
#[test]
fn templates() {
    let seeds = seeds("templates");
    check!().with_iterations(INPUTS).with_test_time(TIME).with_max_len(LENGTH).for_each(|input: &[u8]| {
        for bytes in inputs_from(input, dictionary::TEMPLATES, &seeds) {
            let newline = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
            let (template, body) = bytes.split_at(newline);
            if let Some(contract) = declared_contract(template) {
                check_template(&contract, template, body.get(1..).unwrap_or_default());
            }
        }
    });
}

fn declared_contract(template: &[u8]) -> Option<Contract> {
    let source = TemplateSource::from_json(std::str::from_utf8(template).ok()?)?;
    let code = |status: u16| CodeDeclaration {
        status,
        reason: "A reason".to_owned(),
        message: "A message.".to_owned(),
        ..CodeDeclaration::default()
    };
    let value = |name: &str, value_type| DeclaredValue { name: name.to_owned(), value_type };
    let declaration = Declaration {
        name: "fuzz".to_owned(),
        body: BodyForm::Template(source),
        codes: vec![code(400), code(404), code(500)],
        values: vec![value("param", ValueType::String), value("extra", ValueType::Object)],
        ..Declaration::default()
    };
    Contract::declare(declaration).ok()
}

/// What conforms is a JSON object with the members of the template.
fn check_template(contract: &Contract, template: &[u8], body: &[u8]) {
    if check_body(contract, 404, body) == Conformance::Conforms {
        let Some(value) = parse_json(body) else { return };
        let object = value.as_object().expect("a conforming body is an object");
        let template: Value = serde_json::from_slice(template).unwrap();
        let is_declared = |name: &String| {
            let optional = format!("{name}?");
            template.get(name).is_some() || template.get(&optional).is_some() || template.get("*").is_some()
        };
        assert!(object.keys().all(is_declared), "{object:?}");
    }
    check_replacement(contract, body);
}

fn check_body(contract: &Contract, status: u16, body: &[u8]) -> Conformance {
    let error = ErrorBody { status, media_type: Some(contract.media_type().as_bytes()), body };
    conform::check_conformance(contract, &error, UpstreamMessages::All)
}

/// The reply that replaces a body of the upstream conforms to the contract itself, whatever was extracted.
fn check_replacement(contract: &Contract, body: &[u8]) {
    let extracted = extract::extract(contract, body);
    if let Some(message) = &extracted.message {
        assert!(text::is_allowed(message), "{message:?}");
    }
    let request_id = HeaderValue::from_static("019ab0c5-8f4e-7c3a-9d21-5b6e7f8a9b0c");
    for status in [400, 404, 422, 500, 503] {
        let input = PolicyInput {
            trigger: Trigger::UpstreamStatus(status),
            upstream: None,
            method: &Method::GET,
            route_response: None,
        };
        let decision = decide(contract, &input, &Overrides::default());
        let context = ReplyContext {
            is_head_request: false,
            grpc: None,
            message: extracted.message.as_deref(),
            kind: extracted.kind.as_deref(),
            details: extracted.details.as_deref(),
            declared: &extracted.declared,
            format: BodyFormat::Contract,
            request_id: Some(&request_id),
            retryable: false,
            request_sent: RequestSent::Full,
            retry_after: 5,
            now: std::time::SystemTime::UNIX_EPOCH,
            headers: Vec::new(),
        };
        let reply = compose(contract, &decision, context);
        assert_eq!(
            check_body(contract, reply.status(), reply.body()),
            Conformance::Conforms,
            "{} of {}",
            String::from_utf8_lossy(reply.body()),
            String::from_utf8_lossy(body)
        );
    }
}

/// Arbitrary bodies under every contract of `config/contracts`.
#[test]
fn published_contracts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/contracts");
    let mut contracts = Vec::new();
    let mut seeds = seeds("message_extraction");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let samples = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            seeds.extend(samples.map(|sample| std::fs::read(sample).unwrap()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let config = config::load_str("contract.yaml", &text, &|_| None, 1).unwrap();
        contracts.extend(config.routes.first().map(|route| route.errors.contract.clone()));
    }
    seeds.sort();
    assert!(contracts.len() >= 10, "{}", contracts.len());
    check!().with_iterations(INPUTS).with_test_time(TIME).with_max_len(LENGTH).for_each(|input: &[u8]| {
        let chosen = input.last().map_or(0, |byte| usize::from(*byte));
        let contract = &contracts[chosen % contracts.len()];
        for bytes in inputs_from(input, dictionary::BODIES, &seeds) {
            if check_body(contract, 404, &bytes) == Conformance::Conforms {
                assert!(parse_json(&bytes).is_none_or(|value| value.is_object()), "{bytes:?}");
            }
            check_replacement(contract, &bytes);
        }
    });
}

#[test]
fn message_extraction() {
    let (seeds, contract) = (seeds("message_extraction"), contract());
    check!().with_iterations(INPUTS).with_test_time(TIME).with_max_len(LENGTH).for_each(|input: &[u8]| {
        for bytes in inputs_from(input, dictionary::BODIES, &seeds) {
            let kept = extract::extract(&contract, &bytes);
            if let Some(message) = kept.message {
                assert!(text::is_allowed(&message), "{message:?}");
                let length = message.chars().count();
                assert!((1..=1000).contains(&length) && !message.contains(char::is_control), "{message:?}");
                assert!(!message.contains("</") && !message.contains("Traceback"), "{message:?}");
                // The gateway skips a byte order mark in an error that it replaces.
                parse_json(bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes));
            }
            if let Some(kind) = kept.kind {
                // The grammar of a type: [A-Za-z][A-Za-z0-9_.-]{0,63}.
                assert!(kind.len() <= 64 && kind.starts_with(|letter: char| letter.is_ascii_alphabetic()));
                let is_allowed =
                    |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
                assert!(kind.bytes().all(is_allowed), "{kind:?}");
            }
        }
    });
}

#[test]
fn configuration() {
    let seeds = seeds("configuration");
    let environment = |name: &str| (name == "SET").then(|| "value".to_owned());
    check!().with_iterations(INPUTS).with_test_time(TIME).with_max_len(LENGTH).for_each(|input: &[u8]| {
        for bytes in inputs_from(input, dictionary::CONFIGURATIONS, &seeds) {
            let text = String::from_utf8_lossy(&bytes);
            match config::load_str("fuzz.yaml", &text, &environment, 2) {
                Ok(config) => assert!(!config.listeners.is_empty() && config.workers > 0),
                Err(problems) => {
                    assert!(!problems.is_empty(), "rejected without a problem");
                    // YAML also treats CR as a line break.
                    let lines = text.split(['\n', '\r']).count();
                    for problem in problems.iter() {
                        assert!(!problem.message.is_empty(), "{problem:?}");
                        assert!(
                            problem.location.is_none_or(|spot| (1..=lines + 1).contains(&spot.line)),
                            "{problem:?}"
                        );
                    }
                    let _ = (problems.to_string(), problems.to_json());
                }
            }
        }
    });
}
