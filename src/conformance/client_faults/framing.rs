//! Requests with ambiguous body framing, including request smuggling (RFC 9112, section 11.2).
//!
//! Each body contains a second request, which a parser with another interpretation of the length would execute. It must
//! never reach the upstream. [`super::chunks`] has the faults inside chunked bodies.

use crate::contract::Cause;

use super::{ClientFault, rejected, served};

const AMBIGUOUS_FRAMING: Cause = Cause::AmbiguousFraming;

/// The smuggled request.
pub(super) const SMUGGLED_REQUEST: &str = "GET /smuggled?<row> HTTP/1.1\r\nhost: <host>\r\n\r\n";

/// A POST with these header lines after Host and these bytes after the header section.
fn post(lines: &str, body: &str) -> String {
    format!("<post> HTTP/1.1\r\nhost: <host>\r\n{lines}\r\n\r\n{body}")
}

/// Faults of Content-Length.
pub(super) fn lengths() -> Vec<ClientFault> {
    let invalid = |name, description, value: &str| {
        rejected(
            name,
            description,
            AMBIGUOUS_FRAMING,
            post(&format!("content-length: {value}"), &format!("abc{SMUGGLED_REQUEST}")),
        )
    };
    let lines = |name, description, cause, lines: &str| {
        rejected(name, description, cause, post(lines, &format!("abc{SMUGGLED_REQUEST}")))
    };
    vec![
        lines(
            "length-twice",
            "the same Content-Length in two fields",
            AMBIGUOUS_FRAMING,
            "content-length: 3\r\ncontent-length: 3",
        ),
        lines(
            "length-differs",
            "two different Content-Length fields",
            AMBIGUOUS_FRAMING,
            "content-length: 3\r\ncontent-length: 60",
        ),
        lines(
            "length-differs-zero",
            "Content-Length: 0 and another Content-Length",
            AMBIGUOUS_FRAMING,
            "content-length: 0\r\ncontent-length: 3",
        ),
        invalid("length-list", "Content-Length: 3, 3", "3, 3"),
        invalid("length-list-differs", "Content-Length: 3, 4", "3, 4"),
        invalid("length-plus", "a Content-Length with a plus sign", "+3"),
        invalid("length-minus", "a negative Content-Length", "-3"),
        invalid("length-minus-zero", "Content-Length: -0", "-0"),
        invalid("length-hexadecimal", "a hexadecimal Content-Length", "0x3"),
        invalid("length-letters", "a Content-Length of digits and letters", "3a"),
        invalid("length-fraction", "a fractional Content-Length", "3.0"),
        invalid("length-exponent", "a Content-Length with an exponent", "3e0"),
        invalid("length-two-numbers", "a Content-Length of two numbers separated by a space", "3 4"),
        invalid("length-underscore-digits", "a Content-Length with an underscore between digits", "0_3"),
        invalid("length-semicolon", "a Content-Length with a parameter", "3;a"),
        invalid("length-quoted", "a quoted Content-Length", "\"3\""),
        invalid("length-empty", "an empty Content-Length", ""),
        invalid("length-unicode", "a Content-Length of non-ASCII digits", "\u{663}"),
        invalid("length-beyond-i64", "a Content-Length above 63 bits", "9223372036854775808"),
        invalid("length-wraps-u64", "a Content-Length of 2^64 + 3", "18446744073709551619"),
        invalid("length-endless", "a Content-Length of 40 digits", &"9".repeat(40)),
        lines(
            "length-underscore",
            "content_length, which CGI maps to the same variable",
            AMBIGUOUS_FRAMING,
            "content_length: 3",
        ),
        lines(
            "length-space-colon",
            "a space before the colon of Content-Length",
            Cause::MalformedHeader,
            "content-length : 3",
        ),
        lines("length-folded", "a folded Content-Length", Cause::MalformedHeader, "content-length: 3\r\n 0"),
        lines(
            "length-vertical-tab",
            "a vertical tab before the value of Content-Length",
            Cause::MalformedHeader,
            "content-length: \x0b3",
        ),
        lines(
            "length-nul",
            "a NUL byte after the value of Content-Length",
            Cause::MalformedHeader,
            "content-length: 3\0",
        ),
        lines(
            "length-behind-line-feed",
            "a Content-Length after a bare LF",
            Cause::MalformedHeader,
            "x-note: a\ncontent-length: 3",
        ),
        served(
            "length-leading-zeros",
            "a Content-Length with leading zeros",
            post("content-length: 003", "abc"),
        ),
        served(
            "length-spaces-around",
            "spaces and tabs around the value of Content-Length",
            post("content-length: \t 3 \t", "abc"),
        ),
        served(
            "get-with-body",
            "a body on GET",
            "<get> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 3\r\n\r\nabc",
        ),
        served(
            "post-without-length",
            "POST without Content-Length and without a body",
            "<post> HTTP/1.1\r\nhost: <host>\r\n\r\n",
        ),
    ]
}

/// Faults of Transfer-Encoding.
pub(super) fn codings() -> Vec<ClientFault> {
    let body = format!("0\r\n\r\n{SMUGGLED_REQUEST}");
    let lines =
        |name, description, cause, lines: &str| rejected(name, description, cause, post(lines, &body));
    let invalid = |name, description, value: &str| {
        rejected(name, description, AMBIGUOUS_FRAMING, post(&format!("transfer-encoding: {value}"), &body))
    };
    let valid =
        |name, description, lines: &str| served(name, description, post(lines, "3\r\nabc\r\n0\r\n\r\n"));
    vec![
        invalid("coding-unknown", "an unknown transfer coding", "xchunked"),
        invalid("coding-truncated", "a misspelled chunked", "chunke"),
        invalid("coding-identity", "Transfer-Encoding: identity", "identity"),
        invalid("coding-identity-chunked", "Transfer-Encoding: identity, chunked", "identity, chunked"),
        invalid("coding-chunked-identity", "Transfer-Encoding: chunked, identity", "chunked, identity"),
        invalid("coding-chunked-twice", "Transfer-Encoding: chunked, chunked", "chunked, chunked"),
        invalid("coding-gzip", "Transfer-Encoding: gzip, which does not delimit the body", "gzip"),
        invalid("coding-gzip-chunked", "Transfer-Encoding: gzip, chunked", "gzip, chunked"),
        invalid("coding-trailing-comma", "an empty list element after chunked", "chunked,"),
        invalid("coding-leading-comma", "an empty list element before chunked", ", chunked"),
        invalid("coding-parameter", "a parameter after chunked", "chunked;q=1"),
        invalid("coding-quoted", "a quoted chunked", "\"chunked\""),
        invalid("coding-cow", "an unknown transfer coding next to chunked", "cow, chunked"),
        invalid("coding-empty", "an empty Transfer-Encoding", ""),
        lines(
            "coding-in-two-fields",
            "Transfer-Encoding: chunked in two fields",
            AMBIGUOUS_FRAMING,
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        ),
        lines(
            "coding-then-identity",
            "chunked in one field, identity in the next",
            AMBIGUOUS_FRAMING,
            "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        ),
        lines(
            "identity-then-coding",
            "identity in one field, chunked in the next",
            AMBIGUOUS_FRAMING,
            "transfer-encoding: identity\r\ntransfer-encoding: chunked",
        ),
        lines(
            "coding-underscore",
            "transfer_encoding, which CGI maps to the same variable",
            AMBIGUOUS_FRAMING,
            "transfer_encoding: chunked",
        ),
        lines(
            "coding-space-colon",
            "a space before the colon of Transfer-Encoding",
            Cause::MalformedHeader,
            "transfer-encoding : chunked",
        ),
        lines(
            "coding-folded",
            "a folded Transfer-Encoding",
            Cause::MalformedHeader,
            "transfer-encoding:\r\n chunked",
        ),
        lines(
            "coding-vertical-tab",
            "a vertical tab before chunked",
            Cause::MalformedHeader,
            "transfer-encoding: \x0bchunked",
        ),
        lines(
            "coding-nul",
            "a NUL byte after chunked",
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
            "a Transfer-Encoding after a bare LF",
            Cause::MalformedHeader,
            "x-note: a\ntransfer-encoding: chunked",
        ),
        lines(
            "coding-behind-carriage-return",
            "a Transfer-Encoding after a bare CR",
            Cause::MalformedHeader,
            "x-note: a\rtransfer-encoding: chunked",
        ),
        lines(
            "coding-nul-in-name",
            "a NUL byte in the name of Transfer-Encoding",
            Cause::MalformedHeader,
            "transfer-encoding\0: chunked",
        ),
        rejected(
            "coding-on-1.0",
            "chunked in HTTP/1.0",
            AMBIGUOUS_FRAMING,
            format!(
                "<post> HTTP/1.0\r\nhost: <host>\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n{body}"
            ),
        ),
        valid("coding-in-capitals", "Transfer-Encoding: CHUNKED in upper case", "transfer-encoding: CHUNKED"),
        valid("coding-spaces-around", "spaces and tabs around chunked", "transfer-encoding: \t chunked \t"),
    ]
}

/// Content-Length and Transfer-Encoding in one request.
pub(super) fn conflicting() -> Vec<ClientFault> {
    let invalid = |name, description, lines: &str, body: &str| {
        rejected(name, description, AMBIGUOUS_FRAMING, post(lines, body))
    };
    let first_chunked = format!("0\r\n\r\n{SMUGGLED_REQUEST}");
    let first_length = format!("3\r\nabc\r\n0\r\n\r\n{SMUGGLED_REQUEST}");
    vec![
        invalid(
            "length-and-coding",
            "CL.TE: Content-Length, then chunked",
            "content-length: 60\r\ntransfer-encoding: chunked",
            &first_chunked,
        ),
        invalid(
            "coding-and-length",
            "TE.CL: chunked, then Content-Length",
            "transfer-encoding: chunked\r\ncontent-length: 3",
            &first_length,
        ),
        invalid(
            "coding-and-length-zero",
            "TE.0: chunked and Content-Length: 0",
            "transfer-encoding: chunked\r\ncontent-length: 0",
            &first_length,
        ),
        invalid(
            "length-and-unknown-coding",
            "Content-Length and an obfuscated Transfer-Encoding",
            "content-length: 3\r\ntransfer-encoding: x-hidden",
            "abc",
        ),
        invalid(
            "two-lengths-and-coding",
            "two Content-Length fields and chunked",
            "content-length: 3\r\ncontent-length: 3\r\ntransfer-encoding: chunked",
            &first_chunked,
        ),
        invalid(
            "length-and-two-codings",
            "TE.TE: Content-Length and two transfer codings",
            "content-length: 3\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x",
            &first_chunked,
        ),
        rejected(
            "both-on-1.0",
            "Content-Length and chunked in HTTP/1.0",
            AMBIGUOUS_FRAMING,
            format!(
                "<post> HTTP/1.0\r\nhost: <host>\r\ncontent-length: 60\r\ntransfer-encoding: chunked\r\n\r\n{first_chunked}"
            ),
        ),
        rejected(
            "both-on-get",
            "Content-Length and chunked on GET",
            AMBIGUOUS_FRAMING,
            format!(
                "<get> HTTP/1.1\r\nhost: <host>\r\ncontent-length: 60\r\ntransfer-encoding: chunked\r\n\r\n{first_chunked}"
            ),
        ),
    ]
}
