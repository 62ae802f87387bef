//! The bytes of a case: text, raw bytes, generated bodies, compressed bodies, and HTTP/2 frames.
//!
//! In a file of cases a payload is text, a list of payloads that follow each other, or a map with one key of
//! [`Generated`]. Payloads of clients contain placeholders such as `<get>` and `<host>`: see [`Scope`].

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::case::GatewayProfile;
use super::frames::{END_STREAM, encode_frame, frame_type, header_block_frames, settings_frame};
use super::gateway_stream::client_hello_bytes;
use super::hpack::{encode_field, encode_integer, encode_string};
use super::scripted_upstream_h2::STREAM_PLACEHOLDER;
use super::step::{TlsClientHello, http_response};

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
    Hex(Hex),
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
        r#type: FrameType,
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

/// Decoded hexadecimal digits.
#[derive(Clone, Debug)]
pub(crate) struct Hex(Vec<u8>);

/// A stream of HTTP/2: the stream of the request, or a number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum StreamNumber {
    /// The stream of the case.
    #[default]
    Request,
    /// This number.
    Number(u32),
}

/// A frame type by name or number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameType(u8);

/// A number of bytes or repetitions.
#[derive(Clone, Copy, Debug)]
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

impl Scope<'_> {
    /// The scope of an upstream's script.
    pub(crate) const fn of_upstream(name: &str) -> Scope<'_> {
        Scope { profile: None, name, stream: STREAM_PLACEHOLDER }
    }

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
    /// `<get>`, `<post>`, `<head>` (method and target), `<over-max-body>` and `<upload>` (lengths).
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
        match self {
            Generated::Hex(Hex(bytes)) => bytes.clone(),
            Generated::U32(numbers) => {
                numbers.iter().flat_map(|number| scope.stream(*number).to_be_bytes()).collect()
            }
            Generated::Repeat { of, times } => of.bytes(scope).repeat(scope.count(*times)),
            Generated::Slice { of, from, to } => slice(&of.bytes(scope), *from, *to),
            Generated::Half(of) => {
                let bytes = of.bytes(scope);
                bytes.get(..bytes.len() / 2).unwrap_or_default().to_vec()
            }
            Generated::Zeros(count) => vec![0; scope.count(*count)],
            Generated::Nested(levels) => ["[".repeat(*levels), "]".repeat(*levels)].concat().into_bytes(),
            Generated::Utf16(text) => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Generated::Response { head, body } => http_response(head, body.bytes(scope)).to_vec(),
            Generated::HtmlPage(status) => html_page(*status),
            // Writing to memory cannot fail. If it did, the case would fail because of the missing body.
            Generated::Gzip(of) => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                let _ = encoder.write_all(&of.bytes(scope));
                encoder.finish().unwrap_or_default()
            }
            Generated::Zlib(of) => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                let _ = encoder.write_all(&of.bytes(scope));
                encoder.finish().unwrap_or_default()
            }
            Generated::Deflate(of) => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                let _ = encoder.write_all(&of.bytes(scope));
                encoder.finish().unwrap_or_default()
            }
            Generated::Brotli(of) => {
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
                let _ = encoder.write_all(&of.bytes(scope));
                encoder.into_inner()
            }
            Generated::Zstd(of) => zstd::encode_all(&*of.bytes(scope), 3).unwrap_or_default(),
            Generated::ClientHello(hello) => client_hello_bytes(hello).unwrap_or_default(),
            Generated::Headers { .. }
            | Generated::HeaderBlock(_)
            | Generated::HpackBomb { .. }
            | Generated::Data { .. }
            | Generated::Frame { .. }
            | Generated::Settings(_)
            | Generated::Streams { .. } => self.frames(scope),
        }
    }

    /// The forms of HTTP/2.
    fn frames(&self, scope: Scope<'_>) -> Vec<u8> {
        let end_flag = |end: bool| if end { END_STREAM } else { 0 };
        match self {
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
                encode_frame(r#type.0, *flags, scope.stream(*stream), payload.bytes(scope))
            }
            Generated::Settings(values) => settings_frame(values),
            Generated::Streams { of, count } => (0..*count)
                .flat_map(|number| of.bytes(Scope { stream: scope.stream + 2 * number, ..scope }))
                .collect(),
            _ => Vec::new(),
        }
    }
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
            let target = format!("{}?row={}", profile.path, scope.name);
            encode_field(&mut block, b":method", method.as_bytes());
            encode_field(&mut block, b":scheme", b"http");
            encode_field(&mut block, b":path", target.as_bytes());
            encode_field(&mut block, b":authority", profile.host.as_bytes());
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

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Payload, A::Error> {
                let mut sequence = Vec::new();
                while let Some(part) = parts.next_element()? {
                    sequence.push(part);
                }
                Ok(Payload::Sequence(sequence))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Payload, A::Error> {
                let generated = Generated::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Payload::Generated(Box::new(generated)))
            }
        }
        deserializer.deserialize_any(PayloadVisitor)
    }
}

/// A type that is written as a number or as text.
trait NumberOrText: Sized {
    const EXPECTED: &'static str;

    fn from_number(number: u64) -> Option<Self>;

    fn from_text(text: &str) -> Option<Self>;
}

fn number_or_text<'de, D: Deserializer<'de>, T: NumberOrText>(deserializer: D) -> Result<T, D::Error> {
    struct NumberOrTextVisitor<T>(std::marker::PhantomData<T>);
    impl<T: NumberOrText> Visitor<'_> for NumberOrTextVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
            T::from_number(number).ok_or_else(|| E::custom(format!("{number} is not {}", T::EXPECTED)))
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
            self.visit_u64(u64::try_from(number).unwrap_or(u64::MAX))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            T::from_text(text).ok_or_else(|| E::custom(format!("{text:?} is not {}", T::EXPECTED)))
        }
    }
    deserializer.deserialize_any(NumberOrTextVisitor(std::marker::PhantomData))
}

impl NumberOrText for Count {
    const EXPECTED: &'static str = "a number, a size such as 64KiB, or max_header_bytes";

    fn from_number(number: u64) -> Option<Count> {
        Some(Count::Number(number))
    }

    fn from_text(text: &str) -> Option<Count> {
        Some(match text {
            "max_header_bytes" => Count::MaxHeaderBytes,
            "header_lines" => Count::HeaderLines,
            "body_pieces" => Count::BodyPieces,
            "upload_pieces" => Count::UploadPieces,
            _ => {
                let units = [("KiB", 1024), ("MiB", 1024 * 1024), ("", 1)];
                let parsed = units.into_iter().find_map(|(unit, factor)| {
                    text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(factor)
                });
                Count::Number(parsed?)
            }
        })
    }
}

impl NumberOrText for StreamNumber {
    const EXPECTED: &'static str = "a stream number, or \"stream\"";

    fn from_number(number: u64) -> Option<StreamNumber> {
        u32::try_from(number).ok().map(StreamNumber::Number)
    }

    fn from_text(text: &str) -> Option<StreamNumber> {
        (text == "stream").then_some(StreamNumber::Request)
    }
}

impl NumberOrText for FrameType {
    const EXPECTED: &'static str = "a frame type, such as data, headers or goaway";

    fn from_number(number: u64) -> Option<FrameType> {
        u8::try_from(number).ok().map(FrameType)
    }

    fn from_text(text: &str) -> Option<FrameType> {
        let found = frame_type::NAMES.iter().position(|name| *name == text)?;
        u8::try_from(found).ok().map(FrameType)
    }
}

impl NumberOrText for Hex {
    const EXPECTED: &'static str = "pairs of hexadecimal digits in quotes";

    fn from_number(_: u64) -> Option<Hex> {
        None
    }

    fn from_text(text: &str) -> Option<Hex> {
        let digits: Option<Vec<u32>> =
            text.chars().filter(|letter| *letter != ' ').map(|letter| letter.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
        let octet = |pair: &[u32]| u8::try_from(pair.iter().fold(0, |octet, digit| octet << 4 | digit)).ok();
        digits.chunks(2).map(octet).collect::<Option<Vec<u8>>>().map(Hex)
    }
}

macro_rules! deserialize_number_or_text {
    ($($name:ident)+) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                number_or_text(deserializer)
            }
        }
    )+};
}

deserialize_number_or_text! { Count StreamNumber FrameType Hex }

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bytes_of(yaml: &str) -> Result<Vec<u8>, String> {
        let payload: Payload =
            serde_saphyr::from_str(yaml).map_err(|error| error.without_snippet().to_string())?;
        Ok(payload.bytes(Scope::of_upstream("test")))
    }

    #[test]
    fn payloads_are_text_lists_and_generated_bytes() {
        for (yaml, expected) in [
            (r#""a\r\nb\0""#, b"a\r\nb\0".to_vec()),
            (r#"["a", { hex: "ff 00" }, "b"]"#, b"a\xff\0b".to_vec()),
            (r#"{ repeat: { of: "ab", times: 3 } }"#, b"ababab".to_vec()),
            (r#"{ slice: { of: "abcdef", from: 1, to: -2 } }"#, b"bcd".to_vec()),
            (r#"{ half: "abcdef" }"#, b"abc".to_vec()),
            ("{ zeros: 1KiB }", vec![0; 1024]),
            ("{ nested: 2 }", b"[[]]".to_vec()),
            ("{ utf16: a }", b"a\0".to_vec()),
            ("{ u32: [stream, 1] }", [STREAM_PLACEHOLDER.to_be_bytes(), [0, 0, 0, 1]].concat()),
            (
                r#"{ response: { head: "204 No", body: x } }"#,
                b"HTTP/1.1 204 No\r\ncontent-length: 1\r\n\r\nx".to_vec(),
            ),
            (
                r#"{ frame: { type: goaway, stream: 0, payload: { hex: "07" } } }"#,
                b"\0\0\x01\x07\0\0\0\0\0\x07".to_vec(),
            ),
            (r#"{ data: { body: x, end: true, stream: 5 } }"#, b"\0\0\x01\0\x01\0\0\0\x05x".to_vec()),
        ] {
            assert_eq!(bytes_of(yaml), Ok(expected), "{yaml}");
        }
    }

    #[test]
    fn compressed_payloads_decompress_to_their_source() {
        let gzip = bytes_of(r#"{ gzip: { repeat: { of: "x", times: 10MiB } } }"#).unwrap();
        assert!(gzip.starts_with(&[0x1f, 0x8b]) && gzip.len() < 20_000);
        let zstd = bytes_of("{ zstd: text }").unwrap();
        assert_eq!(zstd::decode_all(&*zstd).unwrap(), b"text");
    }

    #[test]
    fn invalid_payloads_are_reported_with_their_position() {
        for (yaml, expected) in [
            (r#"{ hex: "fg" }"#, "pairs of hexadecimal digits"),
            ("{ shout: x }", "shout"),
            ("{ frame: { type: shout } }", "a frame type"),
            ("{ zeros: many }", "a number, a size"),
        ] {
            let error = bytes_of(yaml).unwrap_err();
            assert!(error.contains(expected) && error.contains("line 1"), "{yaml}: {error}");
        }
    }
}
