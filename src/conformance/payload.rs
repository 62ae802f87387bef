//! The bytes of a case: text, raw bytes, generated bodies, compressed bodies, and HTTP/2 frames.
//!
//! In a file of cases a payload is text, a list of payloads that follow each other, or a map with one key of
//! [`Generated`]. Payloads of clients contain placeholders such as `<get>` and `<host>`: see [`Scope`].

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::frames::{
    END_STREAM, STREAM_PLACEHOLDER, encode_frame, frame_type, header_block_frames, settings_frame,
};
use super::gateway_stream::{TlsClientHello, client_hello_bytes};
use super::hpack::{encode, encode_field, encode_integer, encode_string};

/// Bytes as a file of cases describes them.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// Text; clients substitute placeholders.
    Text(String),
    /// The payloads one after the other.
    Sequence(Vec<Payload>),
    /// Bytes that are made when the case runs.
    Generated(Box<Generated>),
}

/// The forms of a payload that are not text.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Generated {
    /// Hexadecimal digits; spaces are ignored.
    Hex(#[serde(deserialize_with = "hex")] Vec<u8>),
    /// Numbers of 4 bytes, big-endian; `stream` is the stream of the request.
    U32(Vec<StreamNumber>),
    /// A payload several times.
    Repeat {
        of: Payload,
        times: Count,
    },
    /// The bytes from `from` to `to`; negative numbers count from the end.
    Slice {
        of: Payload,
        #[serde(default)]
        from: i64,
        #[serde(default = "end_of_payload")]
        to: i64,
    },
    /// The first half.
    Half(Payload),
    /// A chunk of a chunked body.
    Chunk(Payload),
    /// Zero bytes.
    Zeros(Count),
    /// This many nested JSON arrays.
    Nested(usize),
    /// Text in UTF-16, little-endian.
    Utf16(String),
    /// A complete HTTP/1.1 response: the status and the header fields, one per line, then Content-Length and the body.
    Response {
        head: String,
        #[serde(default)]
        body: Payload,
    },
    /// An HTML error page with this status.
    HtmlPage(u16),
    Gzip(Payload),
    Brotli(Payload),
    Zstd(Payload),
    Zlib(Payload),
    Deflate(Payload),
    /// A TLS ClientHello that every server accepts.
    ClientHello(TlsClientHello),
    /// HEADERS, and CONTINUATION for a long list. Each field is `name: value`; `<get>` and `<post>` stand for the four
    /// pseudo-header fields.
    Headers {
        fields: Vec<Payload>,
        #[serde(default)]
        end: bool,
        #[serde(default)]
        stream: StreamNumber,
    },
    /// An HPACK block without a frame.
    HeaderBlock(Vec<Payload>),
    /// An HPACK block in which one field of 4,000 bytes is referenced `times` times.
    HpackBomb {
        fields: Vec<Payload>,
        times: usize,
    },
    /// A DATA frame.
    Data {
        #[serde(default)]
        body: Payload,
        #[serde(default)]
        end: bool,
        #[serde(default)]
        stream: StreamNumber,
    },
    /// Any frame.
    Frame {
        #[serde(deserialize_with = "frame_type")]
        r#type: u8,
        #[serde(default)]
        flags: u8,
        #[serde(default)]
        stream: StreamNumber,
        #[serde(default)]
        payload: Payload,
    },
    /// A SETTINGS frame: identifiers and values.
    Settings(Vec<(u16, u32)>),
    /// A payload once for each of `count` streams, from stream 3 on.
    Streams {
        of: Payload,
        count: u32,
    },
}

const fn end_of_payload() -> i64 {
    i64::MAX
}

/// A stream of HTTP/2: the stream of the request, or a number.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(try_from = "Scalar")]
pub(crate) enum StreamNumber {
    /// The stream of the case.
    #[default]
    Request,
    /// This number.
    Number(u32),
}

/// A number of bytes or repetitions.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(try_from = "Scalar")]
pub(crate) enum Count {
    /// This number.
    Number(u64),
    /// `client.max_header_bytes` of the gateway.
    MaxHeaderBytes,
    /// As many times 500 bytes as exceed `client.max_header_bytes`.
    HeaderLines,
    /// As many times 64 KiB as exceed `max_body`.
    BodyPieces,
    /// As many times 64 KiB as `max_body` allows, at most 8 MiB.
    UploadPieces,
}

/// The properties of the tested gateway that the cases of clients use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayProfile {
    /// A method without a body that reaches the route.
    pub read_method: String,
    /// A method with a body that reaches the route.
    pub write_method: String,
    /// The path for both methods.
    pub path: String,
    /// The host for both methods.
    pub host: String,
    /// The JSON member of the route's rate-limit key.
    pub member: String,
    /// `client.max_header_bytes`.
    pub max_header_bytes: usize,
    /// The route's `max_body`.
    pub max_body: u64,
    /// `client.write_timeout`.
    pub write_timeout: Duration,
    /// The factor of all pauses, in tenths: who scales the timeouts of a gateway scales the pauses of its clients, so
    /// that a slow sender writes no more often before a timeout.
    pub pause_tenths: u32,
}

impl GatewayProfile {
    /// Example values, for listing the cases without a gateway.
    pub fn example() -> GatewayProfile {
        GatewayProfile {
            read_method: "GET".to_owned(),
            write_method: "POST".to_owned(),
            path: "/verify".to_owned(),
            host: "verify.example".to_owned(),
            member: "email".to_owned(),
            max_header_bytes: 32 * 1024,
            max_body: 1024 * 1024,
            write_timeout: Duration::from_secs(1),
            pause_tenths: 10,
        }
    }
}

/// What a payload is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// The gateway, for payloads of clients; upstreams have no placeholders.
    pub profile: Option<&'a GatewayProfile>,
    /// The name of the case.
    pub name: &'a str,
    /// The stream of the request.
    pub stream: u32,
}

impl Default for Payload {
    fn default() -> Payload {
        Payload::Text(String::new())
    }
}

/// Reads the bytes of an upstream, which have no placeholders except the stream.
pub(super) fn upstream_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let scope = Scope { profile: None, name: "", stream: STREAM_PLACEHOLDER };
    Ok(Payload::deserialize(deserializer)?.bytes(scope).into())
}

impl Scope<'_> {
    const fn stream(&self, stream: StreamNumber) -> u32 {
        match stream {
            StreamNumber::Request => self.stream,
            StreamNumber::Number(number) => number,
        }
    }

    fn count(&self, count: Count) -> usize {
        let max_header_bytes = self.profile.map_or(0, |profile| profile.max_header_bytes);
        let max_body = self.profile.map_or(0, |profile| profile.max_body);
        let number = match count {
            Count::Number(number) => number,
            Count::MaxHeaderBytes => max_header_bytes as u64,
            Count::HeaderLines => max_header_bytes as u64 / 500 + 1,
            Count::BodyPieces => max_body / PIECE + 1,
            Count::UploadPieces => self.upload_pieces(),
        };
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    fn upload_pieces(&self) -> u64 {
        (MAX_UPLOAD.min(self.profile.map_or(0, |profile| profile.max_body)) / PIECE).max(2)
    }

    /// Replaces the placeholders of a client: `<GET>` and `<POST>` (methods), `<path>`, `<row>` (the marker), `<host>`,
    /// `<member>`, `<get>`, `<post>`, `<head>` (method and target), `<over-max-body>` and `<upload>` (lengths).
    pub(super) fn substitute(&self, text: &str) -> String {
        let Some(profile) = self.profile.filter(|_| text.contains('<')) else { return text.to_owned() };
        let line = |method: &str| format!("{method} {}?row={}", profile.path, self.name);
        let mut substituted = String::with_capacity(text.len() + 64);
        let mut rest = text;
        while let Some((plain, tail)) = rest.split_once('<') {
            substituted.push_str(plain);
            let (placeholder, after) = tail.split_once('>').unwrap_or_default();
            let value = match placeholder {
                "get" => line(&profile.read_method),
                "post" => line(&profile.write_method),
                "head" => line("HEAD"),
                "GET" => profile.read_method.clone(),
                "POST" => profile.write_method.clone(),
                "path" => profile.path.clone(),
                "row" => format!("row={}", self.name),
                "host" => profile.host.clone(),
                "member" => profile.member.clone(),
                "over-max-body" => profile.max_body.saturating_add(1).to_string(),
                "upload" => (self.upload_pieces() * PIECE).to_string(),
                _ => {
                    substituted.push('<');
                    rest = tail;
                    continue;
                }
            };
            substituted.push_str(&value);
            rest = after;
        }
        substituted.push_str(rest);
        substituted
    }
}

/// The size of one piece of a large body, and the largest upload.
const PIECE: u64 = 64 * 1024;
const MAX_UPLOAD: u64 = 8 * 1024 * 1024;

impl Payload {
    /// The bytes.
    pub(crate) fn bytes(&self, scope: Scope<'_>) -> Vec<u8> {
        match self {
            Payload::Text(text) => scope.substitute(text).into_bytes(),
            Payload::Sequence(parts) => parts.iter().flat_map(|part| part.bytes(scope)).collect(),
            Payload::Generated(generated) => generated.bytes(scope),
        }
    }
}

impl Generated {
    fn bytes(&self, scope: Scope<'_>) -> Vec<u8> {
        let end_flag = |end: bool| if end { END_STREAM } else { 0 };
        match self {
            Generated::Hex(bytes) => bytes.clone(),
            Generated::U32(numbers) => {
                numbers.iter().flat_map(|number| scope.stream(*number).to_be_bytes()).collect()
            }
            Generated::Repeat { of, times } => of.bytes(scope).repeat(scope.count(*times)),
            Generated::Slice { of, from, to } => slice(&of.bytes(scope), *from, *to),
            Generated::Half(of) => {
                let bytes = of.bytes(scope);
                bytes.get(..bytes.len() / 2).unwrap_or_default().to_vec()
            }
            Generated::Chunk(of) => {
                let bytes = of.bytes(scope);
                [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat()
            }
            Generated::Zeros(count) => vec![0; scope.count(*count)],
            Generated::Nested(levels) => ["[".repeat(*levels), "]".repeat(*levels)].concat().into_bytes(),
            Generated::Utf16(text) => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Generated::Response { head, body } => http_response(head, body.bytes(scope)).to_vec(),
            Generated::HtmlPage(status) => html_page(*status),
            Generated::Gzip(of) => read(GzEncoder::new(&*of.bytes(scope), Compression::default())),
            Generated::Zlib(of) => read(ZlibEncoder::new(&*of.bytes(scope), Compression::default())),
            Generated::Deflate(of) => read(DeflateEncoder::new(&*of.bytes(scope), Compression::default())),
            Generated::Brotli(of) => read(brotli::CompressorReader::new(&*of.bytes(scope), 4096, 5, 20)),
            Generated::Zstd(of) => zstd::encode_all(&*of.bytes(scope), 3).unwrap_or_default(),
            Generated::ClientHello(hello) => client_hello_bytes(hello).unwrap_or_default(),
            Generated::Headers { fields, end, stream } => {
                header_block_frames(scope.stream(*stream), &header_block(fields, scope), end_flag(*end))
            }
            Generated::HeaderBlock(fields) => header_block(fields, scope),
            Generated::HpackBomb { fields, times } => {
                let mut block = header_block(fields, scope);
                encode_integer(&mut block, 0x40, 6, 0);
                encode_string(&mut block, b"x");
                encode_string(&mut block, &[b'y'; 4000]);
                block.extend(std::iter::repeat_n(0xbe, *times));
                header_block_frames(scope.stream, &block, END_STREAM)
            }
            Generated::Data { body, end, stream } => {
                encode_frame(frame_type::DATA, end_flag(*end), scope.stream(*stream), body.bytes(scope))
            }
            Generated::Frame { r#type, flags, stream, payload } => {
                encode_frame(*r#type, *flags, scope.stream(*stream), payload.bytes(scope))
            }
            Generated::Settings(values) => settings_frame(values),
            Generated::Streams { of, count } => (0..*count)
                .flat_map(|number| of.bytes(Scope { stream: scope.stream + 2 * number, ..scope }))
                .collect(),
        }
    }
}

/// What the encoder makes of its source. Reading from memory cannot fail; if it did, the case would fail.
fn read(mut encoder: impl Read) -> Vec<u8> {
    let mut encoded = Vec::new();
    let _ = encoder.read_to_end(&mut encoded);
    encoded
}

fn slice(bytes: &[u8], from: i64, to: i64) -> Vec<u8> {
    let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let at = |index: i64| {
        let index = if index < 0 { length + index } else { index };
        usize::try_from(index.clamp(0, length)).unwrap_or_default()
    };
    bytes.get(at(from)..at(to)).unwrap_or_default().to_vec()
}

fn html_page(status: u16) -> Vec<u8> {
    let head = format!(
        "{status} Error on db-7.internal\ncontent-type: text/html\nserver: apache/2.4\nx-powered-by: PHP/8.3\nx-db-7.internal: db-7.internal"
    );
    http_response(&head, "<html><body><h1>It broke</h1><hr>db-7.internal</body></html>").to_vec()
}

/// A complete HTTP/1.1 response with Content-Length. `head` is the status and the header fields, one per line:
/// `"404 Not Found\ncontent-type: text/html"`.
pub fn http_response(head: &str, body: impl AsRef<[u8]>) -> Bytes {
    let body = body.as_ref();
    let mut message = format!("HTTP/1.1 {}\r\n", head.trim().replace('\n', "\r\n")).into_bytes();
    message.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    message.extend_from_slice(body);
    message.into()
}

/// The header block of an ordinary request with this marker.
pub(super) fn request_block(profile: &GatewayProfile, method: &str, marker: &str) -> Vec<u8> {
    let target = format!("{}?row={marker}", profile.path);
    encode(&[(":method", method), (":scheme", "http"), (":path", &target), (":authority", &profile.host)])
}

/// Encodes each `name: value`, split at the first colon with a space; a repeated field is encoded repeatedly.
fn header_block(fields: &[Payload], scope: Scope<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for field in fields {
        if let (Payload::Text(text), Some(profile)) = (field, scope.profile)
            && let Some(method) = match text.as_str() {
                "<get>" => Some(&profile.read_method),
                "<post>" => Some(&profile.write_method),
                _ => None,
            }
        {
            block.extend(request_block(profile, method, scope.name));
            continue;
        }
        if let Payload::Generated(generated) = field
            && let Generated::Repeat { of, times } = &**generated
        {
            block.extend(header_block(std::slice::from_ref(of), scope).repeat(scope.count(*times)));
            continue;
        }
        let bytes = field.bytes(scope);
        let at = bytes.windows(2).position(|pair| pair == b": ").unwrap_or(bytes.len());
        let (name, value) = bytes.split_at_checked(at).unwrap_or_default();
        encode_field(&mut block, name, value.get(2..).unwrap_or_default());
    }
    block
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Payload, D::Error> {
        struct PayloadVisitor;
        impl<'de> Visitor<'de> for PayloadVisitor {
            type Value = Payload;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "text in quotes, a list, or a map with one key such as hex, repeat, gzip or response",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Payload, E> {
                Ok(Payload::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<Payload, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(parts)).map(Payload::Sequence)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Payload, A::Error> {
                let generated = Generated::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Payload::Generated(Box::new(generated)))
            }
        }
        deserializer.deserialize_any(PayloadVisitor)
    }
}

/// A value that is written as a number or as text.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(u64),
    Text(String),
}

impl TryFrom<Scalar> for Count {
    type Error = &'static str;

    fn try_from(scalar: Scalar) -> Result<Count, &'static str> {
        let text = match scalar {
            Scalar::Number(number) => return Ok(Count::Number(number)),
            Scalar::Text(text) => text,
        };
        Ok(match text.as_str() {
            "max_header_bytes" => Count::MaxHeaderBytes,
            "header_lines" => Count::HeaderLines,
            "body_pieces" => Count::BodyPieces,
            "upload_pieces" => Count::UploadPieces,
            _ => {
                let units = [("KiB", 1024), ("MiB", 1024 * 1024), ("", 1)];
                let parsed = units.into_iter().find_map(|(unit, factor)| {
                    text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(factor)
                });
                Count::Number(parsed.ok_or("expected a number, a size such as 64KiB, or max_header_bytes")?)
            }
        })
    }
}

impl TryFrom<Scalar> for StreamNumber {
    type Error = &'static str;

    fn try_from(scalar: Scalar) -> Result<StreamNumber, &'static str> {
        let number = match scalar {
            Scalar::Text(text) if text == "stream" => return Ok(StreamNumber::Request),
            Scalar::Text(_) => None,
            Scalar::Number(number) => u32::try_from(number).ok(),
        };
        number.map(StreamNumber::Number).ok_or("expected a stream number, or \"stream\"")
    }
}

/// Reads a frame type, by name or number.
fn frame_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let number = match Scalar::deserialize(deserializer)? {
        Scalar::Number(number) => u8::try_from(number).ok(),
        Scalar::Text(text) => {
            frame_type::NAMES.iter().zip(0..).find(|pair| *pair.0 == text).map(|pair| pair.1)
        }
    };
    number.ok_or_else(|| D::Error::custom("expected a frame type, such as data, headers or goaway"))
}

/// Reads pairs of hexadecimal digits.
fn hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?.replace(' ', "");
    let digits: Option<Vec<u8>> = text.chars().map(|letter| Some(letter.to_digit(16)? as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0);
    let digits = digits.ok_or_else(|| D::Error::custom("expected pairs of hexadecimal digits in quotes"))?;
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |octet, digit| octet << 4 | digit)).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "payload_tests.rs"]
mod tests;
