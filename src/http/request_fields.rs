//! Parses the header fields of a request, and evaluates Host, Content-Length, Transfer-Encoding, Expect and Connection.
//!
//! Other fields are only checked for syntax. [`super::request_head`] parses the request line, [`super::framing`] single
//! framing values, [`super::authority`] hosts.

use std::ops::Range;

use super::ascii_class::{field_line_lengths, list_elements, trim_ows};
use super::authentication::authenticates_connection;
use super::framing::{RequestFraming, content_length, is_chunked};
use super::hop_by_hop::{ConnectionOption, is_framing_name};
use super::request_scanner::field_line_error;
use super::version::Version;
use super::{Rejection, authority};
use crate::contract::Cause;

/// Maximum length of a field name in bytes, a limit of `http::HeaderMap`.
const MAX_FIELD_NAME_LEN: usize = 65_535;

/// The facts collected from the header fields.
#[derive(Default)]
pub(super) struct RequestFields {
    pub(super) count: usize,
    host: Option<Range<usize>>,
    content_length: Option<u64>,
    chunked: bool,
    pub(super) expect: bool,
    close: bool,
    keep_alive: bool,
    pub(super) upgrade: bool,
    /// `Connection` names fields to remove.
    pub(super) names_fields: bool,
    pub(super) via: bool,
    /// `Authorization` has a scheme that authenticates the connection.
    pub(super) authenticates_connection: bool,
    /// The first violated rule that leaves no doubt about where the request ends.
    pub(super) rejection: Option<Rejection>,
}

impl RequestFields {
    /// Parses field lines from `start` to the end of the header section.
    ///
    /// # Errors
    /// The first violated rule, if the end of the request is in doubt. Otherwise [`RequestFields::rejection`] is it.
    pub(super) fn parse(head: &[u8], start: usize) -> Result<Self, Rejection> {
        let mut fields = RequestFields::default();
        match fields.read_lines(head, start) {
            Ok(()) => Ok(fields),
            Err(rejection) => Err(fields.rejection.unwrap_or(rejection)),
        }
    }

    fn read_lines(&mut self, head: &[u8], start: usize) -> Result<(), Rejection> {
        let mut at = start;
        loop {
            let rest = head.get(at..).unwrap_or_default();
            let Some((name_len, text_len)) = field_line_lengths(rest) else {
                return if rest == b"\r\n" { Ok(()) } else { Err(malformed_field_line(rest)) };
            };
            self.count += 1;
            if name_len > MAX_FIELD_NAME_LEN {
                return Err(Rejection::new(Cause::HeaderTooLarge, "a field name is too long"));
            }
            let (name, text) = rest.split_at_checked(name_len).unwrap_or((rest, b""));
            self.read_field(name, text.get(1..=text_len).unwrap_or_default(), at + name_len + 1)?;
            at += name_len + text_len + 3;
        }
    }

    /// Evaluates one field. `text` is the untrimmed value, `value_offset` its offset in the header section.
    fn read_field(&mut self, name: &[u8], text: &[u8], value_offset: usize) -> Result<(), Rejection> {
        match name.len() {
            3 => {
                self.via |= name.eq_ignore_ascii_case(b"via");
                Ok(())
            }
            4 if name.eq_ignore_ascii_case(b"host") => {
                let read = self.read_host(text, value_offset);
                self.note(read);
                Ok(())
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                let read = self.read_expect(trim_ows(text));
                self.note(read);
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.read_connection(text),
            13 if name.eq_ignore_ascii_case(b"authorization") => {
                self.authenticates_connection |= authenticates_connection(text);
                Ok(())
            }
            14 if matches_framing_name(name, b"content-length") => {
                self.read_content_length(name, trim_ows(text))
            }
            17 if matches_framing_name(name, b"transfer-encoding") => {
                self.read_transfer_encoding(name, trim_ows(text))
            }
            _ => Ok(()),
        }
    }

    /// Keeps the first violated rule.
    fn note(&mut self, read: Result<(), Rejection>) {
        self.rejection = self.rejection.or(read.err());
    }

    fn read_host(&mut self, text: &[u8], value_offset: usize) -> Result<(), Rejection> {
        if self.host.is_some() {
            return Err(invalid_host("more than one Host"));
        }
        let value = trim_ows(text);
        authority::check_authority(value)?;
        let start = value_offset + (text.len() - text.trim_ascii_start().len());
        self.host = Some(start..start + value.len());
        Ok(())
    }

    fn read_expect(&mut self, value: &[u8]) -> Result<(), Rejection> {
        let is_repeated = std::mem::replace(&mut self.expect, true);
        check_expect(value)?;
        if is_repeated {
            return Err(Rejection::new(Cause::UnsupportedExpectation, "more than one Expect"));
        }
        Ok(())
    }

    fn read_connection(&mut self, text: &[u8]) -> Result<(), Rejection> {
        for option in list_elements(text) {
            match ConnectionOption::parse(option) {
                Some(ConnectionOption::Close) => self.close = true,
                Some(ConnectionOption::KeepAlive) => self.keep_alive = true,
                Some(ConnectionOption::FieldName) => {
                    self.names_fields = true;
                    self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                }
                Some(ConnectionOption::Protected) if is_framing_name(option) => {
                    return Err(malformed_field("Connection names a framing field"));
                }
                Some(ConnectionOption::Protected) => {
                    self.note(Err(malformed_field("Connection names a field that must not be removed")));
                }
                None => self.note(Err(malformed_field("a connection option is not a token"))),
            }
        }
        Ok(())
    }

    fn read_content_length(&mut self, name: &[u8], value: &[u8]) -> Result<(), Rejection> {
        reject_underscore(name)?;
        if self.content_length.is_some() {
            return Err(ambiguous_framing("more than one Content-Length"));
        }
        self.content_length =
            Some(content_length(value).ok_or(ambiguous_framing("Content-Length is not one number"))?);
        Ok(())
    }

    fn read_transfer_encoding(&mut self, name: &[u8], value: &[u8]) -> Result<(), Rejection> {
        reject_underscore(name)?;
        if self.chunked {
            return Err(ambiguous_framing("more than one Transfer-Encoding"));
        }
        if !is_chunked(value) {
            return Err(ambiguous_framing("Transfer-Encoding is not exactly chunked"));
        }
        self.chunked = true;
        Ok(())
    }

    pub(super) fn authority(
        &self,
        head: &[u8],
        version: Version,
        target_authority: Option<Range<usize>>,
        default_port: Option<u16>,
    ) -> Result<Option<Range<usize>>, Rejection> {
        if self.host.is_none() && version == Version::Http11 {
            return Err(invalid_host("HTTP/1.1 without Host"));
        }
        let (Some(host), Some(target)) = (&self.host, &target_authority) else {
            return Ok(target_authority.or_else(|| self.host.clone()));
        };
        let bytes = |range: &Range<usize>| head.get(range.clone()).unwrap_or_default();
        if !authority::authorities_equal(bytes(host), bytes(target), default_port) {
            return Err(invalid_host("Host differs from the target's authority"));
        }
        Ok(Some(host.clone()))
    }

    pub(super) fn framing(&self, version: Version) -> Result<RequestFraming, Rejection> {
        match (self.content_length, self.chunked, version) {
            (Some(_), true, _) => Err(ambiguous_framing("both Content-Length and Transfer-Encoding")),
            (None, true, Version::Http10) => Err(ambiguous_framing("Transfer-Encoding on HTTP/1.0")),
            (None, true, Version::Http11) => Ok(RequestFraming::Chunked),
            (Some(length), false, _) => Ok(RequestFraming::Length(length)),
            (None, false, _) => Ok(RequestFraming::None),
        }
    }

    pub(super) fn keep_alive(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }
}

/// Compares names case-insensitively, with an underscore equal to a hyphen: CGI gateways cannot distinguish them.
fn matches_framing_name(name: &[u8], lower: &[u8]) -> bool {
    let normalise_byte = |octet: &u8| if *octet == b'_' { b'-' } else { octet.to_ascii_lowercase() };
    name.iter().map(normalise_byte).eq(lower.iter().copied())
}

fn reject_underscore(name: &[u8]) -> Result<(), Rejection> {
    if name.contains(&b'_') {
        return Err(ambiguous_framing("a framing field spelled with an underscore"));
    }
    Ok(())
}

fn malformed_field_line(rest: &[u8]) -> Rejection {
    malformed_field(field_line_error(rest))
}

const fn malformed_field(evidence: &'static str) -> Rejection {
    Rejection::new(Cause::MalformedHeader, evidence)
}

const fn invalid_host(evidence: &'static str) -> Rejection {
    Rejection::new(Cause::InvalidHost, evidence)
}

const fn ambiguous_framing(evidence: &'static str) -> Rejection {
    Rejection::new(Cause::AmbiguousFraming, evidence)
}

/// Validates the value of Expect. `Ok` means 100-continue.
///
/// # Errors
/// `unsupported_expectation` for anything else.
pub(crate) fn check_expect(value: &[u8]) -> Result<(), Rejection> {
    if value.eq_ignore_ascii_case(b"100-continue") {
        return Ok(());
    }
    Err(Rejection::new(Cause::UnsupportedExpectation, "Expect is not 100-continue"))
}
