//! Rows whose heads do not say one clear length: the first half of request smuggling (RFC 9112 11.2).
//!
//! Each carries a second request inside, for whoever reads the length in the other way; none of it may reach an
//! upstream. The second half, inside chunks, is [`super::chunks`].

use crate::contract::Cause;

use super::{ClientFault, rejected, served};

const AMBIGUOUS_FRAMING: Cause = Cause::AmbiguousFraming;

/// What a reader in the other way would take for the next request.
pub(super) const SMUGGLED_REQUEST: &str = "GET /smuggled?<row> HTTP/1.1\r\nhost: <host>\r\n\r\n";

/// A request with a body, these lines after Host, and this after its head.
fn post(lines: &str, body: &str) -> String {
    format!("<post> HTTP/1.1\r\nhost: <host>\r\n{lines}\r\n\r\n{body}")
}

/// Content-Length alone.
pub(super) fn lengths() -> Vec<ClientFault> {
    let bad = |name, meaning, value: &str| {
        rejected(
            name,
            meaning,
            AMBIGUOUS_FRAMING,
            post(&format!("content-length: {value}"), &format!("abc{SMUGGLED_REQUEST}")),
        )
    };
    let lines = |name, meaning, cause, lines: &str| {
        rejected(name, meaning, cause, post(lines, &format!("abc{SMUGGLED_REQUEST}")))
    };
    vec![
        lines(
            "length-twice",
            "Content-Length twice, the same",
            AMBIGUOUS_FRAMING,
            "content-length: 3\r\ncontent-length: 3",
        ),
        lines(
            "length-differs",
            "two different Content-Lengths",
            AMBIGUOUS_FRAMING,
            "content-length: 3\r\ncontent-length: 60",
        ),
        lines(
            "length-differs-zero",
            "Content-Length 0 and another",
            AMBIGUOUS_FRAMING,
            "content-length: 0\r\ncontent-length: 3",
        ),
        bad("length-list", "Content-Length: 3, 3", "3, 3"),
        bad("length-list-differs", "Content-Length: 3, 4", "3, 4"),
        bad("length-plus", "a length with a plus sign", "+3"),
        bad("length-minus", "a negative length", "-3"),
        bad("length-minus-zero", "minus zero", "-0"),
        bad("length-hexadecimal", "a hexadecimal length", "0x3"),
        bad("length-letters", "digits and letters", "3a"),
        bad("length-fraction", "a fraction", "3.0"),
        bad("length-exponent", "an exponent", "3e0"),
        bad("length-two-numbers", "two numbers and a space", "3 4"),
        bad("length-underscore-digits", "digits with an underscore", "0_3"),
        bad("length-semicolon", "a parameter after the length", "3;a"),
        bad("length-quoted", "a quoted length", "\"3\""),
        bad("length-empty", "an empty length", ""),
        bad("length-unicode", "digits that are not ASCII", "\u{663}"),
        bad("length-beyond-i64", "one more than 64 signed bits hold", "9223372036854775808"),
        bad("length-wraps-u64", "2^64 + 3", "18446744073709551619"),
        bad("length-endless", "forty nines", &"9".repeat(40)),
        lines(
            "length-underscore",
            "content_length, which CGI cannot tell apart",
            AMBIGUOUS_FRAMING,
            "content_length: 3",
        ),
        lines("length-space-colon", "a space before the colon", Cause::MalformedHeader, "content-length : 3"),
        lines("length-folded", "a folded length", Cause::MalformedHeader, "content-length: 3\r\n 0"),
        lines(
            "length-vertical-tab",
            "a vertical tab before the number",
            Cause::MalformedHeader,
            "content-length: \x0b3",
        ),
        lines("length-nul", "a zero byte after the number", Cause::MalformedHeader, "content-length: 3\0"),
        lines(
            "length-behind-line-feed",
            "a length behind a bare LF",
            Cause::MalformedHeader,
            "x-note: a\ncontent-length: 3",
        ),
        served("length-leading-zeros", "leading zeros", post("content-length: 003", "abc")),
        served(
            "length-spaces-around",
            "spaces and tabs around the number",
            post("content-length: \t 3 \t", "abc"),
        ),
        served(
            "get-with-body",
            "a body where none is usual",
            "<get> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 3\r\n\r\nabc",
        ),
        served(
            "post-without-length",
            "no length at all, which is none",
            "<post> HTTP/1.1\r\nhost: <host>\r\n\r\n",
        ),
    ]
}

/// Transfer-Encoding alone.
pub(super) fn codings() -> Vec<ClientFault> {
    let body = format!("0\r\n\r\n{SMUGGLED_REQUEST}");
    let lines = |name, meaning, cause, lines: &str| rejected(name, meaning, cause, post(lines, &body));
    let bad = |name, meaning, value: &str| {
        rejected(name, meaning, AMBIGUOUS_FRAMING, post(&format!("transfer-encoding: {value}"), &body))
    };
    let good = |name, meaning, lines: &str| served(name, meaning, post(lines, "3\r\nabc\r\n0\r\n\r\n"));
    vec![
        bad("coding-unknown", "a coding that nobody knows", "xchunked"),
        bad("coding-truncated", "a letter short", "chunke"),
        bad("coding-identity", "identity", "identity"),
        bad("coding-identity-chunked", "identity and chunked", "identity, chunked"),
        bad("coding-chunked-identity", "chunked and identity", "chunked, identity"),
        bad("coding-chunked-twice", "chunked, chunked", "chunked, chunked"),
        bad("coding-gzip", "gzip, whose end nobody knows", "gzip"),
        bad("coding-gzip-chunked", "gzip and chunked", "gzip, chunked"),
        bad("coding-trailing-comma", "an empty element after chunked", "chunked,"),
        bad("coding-leading-comma", "an empty element before chunked", ", chunked"),
        bad("coding-parameter", "a parameter after chunked", "chunked;q=1"),
        bad("coding-quoted", "chunked in quotes", "\"chunked\""),
        bad("coding-cow", "a coding beside chunked that nobody knows", "cow, chunked"),
        bad("coding-empty", "an empty coding", ""),
        lines(
            "coding-in-two-fields",
            "chunked in two fields",
            AMBIGUOUS_FRAMING,
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        ),
        lines(
            "coding-then-identity",
            "chunked in one field, identity in another",
            AMBIGUOUS_FRAMING,
            "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        ),
        lines(
            "identity-then-coding",
            "identity in one field, chunked in another",
            AMBIGUOUS_FRAMING,
            "transfer-encoding: identity\r\ntransfer-encoding: chunked",
        ),
        lines(
            "coding-underscore",
            "transfer_encoding, which CGI cannot tell apart",
            AMBIGUOUS_FRAMING,
            "transfer_encoding: chunked",
        ),
        lines(
            "coding-space-colon",
            "a space before the colon",
            Cause::MalformedHeader,
            "transfer-encoding : chunked",
        ),
        lines("coding-folded", "a folded coding", Cause::MalformedHeader, "transfer-encoding:\r\n chunked"),
        lines(
            "coding-vertical-tab",
            "a vertical tab before chunked",
            Cause::MalformedHeader,
            "transfer-encoding: \x0bchunked",
        ),
        lines(
            "coding-nul",
            "a zero byte after chunked",
            Cause::MalformedHeader,
            "transfer-encoding: chunked\0",
        ),
        lines(
            "coding-carriage-return",
            "a CR after chunked",
            Cause::MalformedHeader,
            "transfer-encoding: chunked\r\r\nx: y",
        ),
        lines(
            "coding-behind-line-feed",
            "a coding behind a bare LF",
            Cause::MalformedHeader,
            "x-note: a\ntransfer-encoding: chunked",
        ),
        lines(
            "coding-behind-carriage-return",
            "a coding behind a bare CR",
            Cause::MalformedHeader,
            "x-note: a\rtransfer-encoding: chunked",
        ),
        lines(
            "coding-nul-in-name",
            "a zero byte in the name",
            Cause::MalformedHeader,
            "transfer-encoding\0: chunked",
        ),
        rejected(
            "coding-on-1.0",
            "chunked over HTTP/1.0",
            AMBIGUOUS_FRAMING,
            format!(
                "<post> HTTP/1.0\r\nhost: <host>\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n{body}"
            ),
        ),
        good("coding-in-capitals", "CHUNKED", "transfer-encoding: CHUNKED"),
        good("coding-spaces-around", "spaces and tabs around chunked", "transfer-encoding: \t chunked \t"),
    ]
}

/// Both at once.
pub(super) fn conflicting() -> Vec<ClientFault> {
    let bad = |name, meaning, lines: &str, body: &str| {
        rejected(name, meaning, AMBIGUOUS_FRAMING, post(lines, body))
    };
    let first_chunked = format!("0\r\n\r\n{SMUGGLED_REQUEST}");
    let first_length = format!("3\r\nabc\r\n0\r\n\r\n{SMUGGLED_REQUEST}");
    vec![
        bad(
            "length-and-coding",
            "CL.TE: a length, then chunked",
            "content-length: 60\r\ntransfer-encoding: chunked",
            &first_chunked,
        ),
        bad(
            "coding-and-length",
            "TE.CL: chunked, then a length",
            "transfer-encoding: chunked\r\ncontent-length: 3",
            &first_length,
        ),
        bad(
            "coding-and-length-zero",
            "TE.0: chunked and a length of 0",
            "transfer-encoding: chunked\r\ncontent-length: 0",
            &first_length,
        ),
        bad(
            "length-and-unknown-coding",
            "a length and a coding that is hidden",
            "content-length: 3\r\ntransfer-encoding: x-hidden",
            "abc",
        ),
        bad(
            "two-lengths-and-coding",
            "two lengths and chunked",
            "content-length: 3\r\ncontent-length: 3\r\ntransfer-encoding: chunked",
            &first_chunked,
        ),
        bad(
            "length-and-two-codings",
            "TE.TE: a length and two codings",
            "content-length: 3\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x",
            &first_chunked,
        ),
        rejected(
            "both-on-1.0",
            "both over HTTP/1.0",
            AMBIGUOUS_FRAMING,
            format!(
                "<post> HTTP/1.0\r\nhost: <host>\r\ncontent-length: 60\r\ntransfer-encoding: chunked\r\n\r\n{first_chunked}"
            ),
        ),
        rejected(
            "both-on-get",
            "both on a request that usually has no body",
            AMBIGUOUS_FRAMING,
            format!(
                "<get> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 60\r\ntransfer-encoding: chunked\r\n\r\n{first_chunked}"
            ),
        ),
    ]
}
