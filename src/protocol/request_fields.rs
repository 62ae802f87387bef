//! The fields of a request head: their syntax, and what Host, Content-Length, Transfer-Encoding, Expect and Connection
//! say together.
//!
//! Every other field is only held to its syntax. The request line is read in [`super::request_head`], single framing
//! values in [`super::framing`], hosts in [`super::authority`].

use std::ops::Range;

use super::authentication::binds_connection;
use super::framing::{Framing, content_length, is_chunked};
use super::hop::{ConnectionOption, MAX_OPTIONS};
use super::octets::{field_line, list, trim};
use super::raw_head::field_line_fault;
use super::request_head::{Version, check_expect};
use super::{MAX_FIELDS, Refusal, authority};
use crate::contract::Cause;

/// Longest field name that the field map can hold.
const MAX_NAME: usize = 65_535;

/// What is kept of the fields while the head is read.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) count: usize,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    pub(super) expect: bool,
    close: bool,
    stay: bool,
    pub(super) upgrade: bool,
    /// `Connection` names fields.
    pub(super) nominates: bool,
    pub(super) via: bool,
    /// `Authorization` names a scheme that authenticates the connection.
    pub(super) binds_connection: bool,
    options: usize,
}

impl Fields {
    /// Reads field lines from `start` to the end of the head.
    pub(super) fn parse(head: &[u8], start: usize) -> Result<Self, Refusal> {
        let mut fields = Fields::default();
        let mut at = start;
        loop {
            let rest = head.get(at..).unwrap_or_default();
            let Some((name_len, text_len)) = field_line(rest) else {
                return if rest == b"\r\n" { Ok(fields) } else { Err(bad_line(rest)) };
            };
            fields.count += 1;
            if fields.count > MAX_FIELDS || name_len > MAX_NAME {
                return Err(Refusal::new(Cause::HeaderTooLarge, "too many fields or too long a field name"));
            }
            let (name, text) = rest.split_at_checked(name_len).unwrap_or((rest, b""));
            fields.read(name, text.get(1..=text_len).unwrap_or_default(), at + name_len + 1)?;
            at += name_len + text_len + 3;
        }
    }

    /// Takes note of one field; `text_at` is the offset of `text`, the untrimmed value.
    fn read(&mut self, name: &[u8], text: &[u8], text_at: usize) -> Result<(), Refusal> {
        match name.len() {
            3 => {
                self.via |= name.eq_ignore_ascii_case(b"via");
                Ok(())
            }
            4 if name.eq_ignore_ascii_case(b"host") => self.read_host(text, text_at),
            6 if name.eq_ignore_ascii_case(b"expect") => self.read_expect(trim(text)),
            10 if name.eq_ignore_ascii_case(b"connection") => self.read_connection(text),
            13 if name.eq_ignore_ascii_case(b"authorization") => {
                self.binds_connection |= binds_connection(text);
                Ok(())
            }
            14 if is_named(name, b"content-length") => self.read_length(name, trim(text)),
            17 if is_named(name, b"transfer-encoding") => self.read_coding(name, trim(text)),
            _ => Ok(()),
        }
    }

    fn read_host(&mut self, text: &[u8], text_at: usize) -> Result<(), Refusal> {
        if self.host.is_some() {
            return Err(invalid_host("more than one Host"));
        }
        let value = trim(text);
        authority::check_authority(value)?;
        let start = text_at + (text.len() - text.trim_ascii_start().len());
        self.host = Some(start..start + value.len());
        Ok(())
    }

    fn read_expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        check_expect(value)?;
        if self.expect {
            return Err(Refusal::new(Cause::UnsupportedExpectation, "more than one Expect"));
        }
        self.expect = true;
        Ok(())
    }

    fn read_connection(&mut self, text: &[u8]) -> Result<(), Refusal> {
        for option in list(text) {
            self.options += 1;
            if self.options > MAX_OPTIONS {
                return Err(malformed_field("more than 16 connection options"));
            }
            match ConnectionOption::of(option) {
                Some(ConnectionOption::Close) => self.close = true,
                Some(ConnectionOption::KeepAlive) => self.stay = true,
                Some(ConnectionOption::Name) => {
                    self.nominates = true;
                    self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                }
                Some(ConnectionOption::Protected) => {
                    return Err(malformed_field("Connection names a field that must not be removed"));
                }
                None => return Err(malformed_field("a connection option is not a token")),
            }
        }
        Ok(())
    }

    fn read_length(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        refuse_underscore(name)?;
        if self.length.is_some() {
            return Err(ambiguous("more than one Content-Length"));
        }
        self.length = Some(content_length(value).ok_or(ambiguous("Content-Length is not one number"))?);
        Ok(())
    }

    fn read_coding(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        refuse_underscore(name)?;
        if self.chunked {
            return Err(ambiguous("more than one Transfer-Encoding"));
        }
        if !is_chunked(value) {
            return Err(ambiguous("Transfer-Encoding is not exactly chunked"));
        }
        self.chunked = true;
        Ok(())
    }

    pub(super) fn authority(
        &self,
        head: &[u8],
        version: Version,
        of_target: Option<Range<usize>>,
    ) -> Result<Option<Range<usize>>, Refusal> {
        if self.host.is_none() && version == Version::Http11 {
            return Err(invalid_host("HTTP/1.1 without Host"));
        }
        let (Some(host), Some(target)) = (&self.host, &of_target) else {
            return Ok(of_target.or_else(|| self.host.clone()));
        };
        let bytes = |range: &Range<usize>| head.get(range.clone()).unwrap_or_default();
        if !authority::equal(bytes(host), bytes(target)) {
            return Err(invalid_host("Host differs from the target's authority"));
        }
        Ok(of_target)
    }

    pub(super) fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.length, self.chunked, version) {
            (Some(_), true, _) => Err(ambiguous("both Content-Length and Transfer-Encoding")),
            (None, true, Version::Http10) => Err(ambiguous("Transfer-Encoding on HTTP/1.0")),
            (None, true, Version::Http11) => Ok(Framing::Chunked),
            (Some(length), false, _) => Ok(Framing::Length(length)),
            (None, false, _) => Ok(Framing::None),
        }
    }

    pub(super) fn keep_alive(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.stay && !self.close,
        }
    }
}

/// Equal in any case, an underscore counting as a hyphen: gateways of the CGI kind cannot tell the two apart.
fn is_named(name: &[u8], lower: &[u8]) -> bool {
    let fold = |octet: &u8| if *octet == b'_' { b'-' } else { octet.to_ascii_lowercase() };
    name.iter().map(fold).eq(lower.iter().copied())
}

fn refuse_underscore(name: &[u8]) -> Result<(), Refusal> {
    if name.contains(&b'_') {
        return Err(ambiguous("a framing field spelled with an underscore"));
    }
    Ok(())
}

fn bad_line(rest: &[u8]) -> Refusal {
    malformed_field(field_line_fault(rest))
}

const fn malformed_field(evidence: &'static str) -> Refusal {
    Refusal::new(Cause::MalformedHeader, evidence)
}

const fn invalid_host(evidence: &'static str) -> Refusal {
    Refusal::new(Cause::InvalidHost, evidence)
}

const fn ambiguous(evidence: &'static str) -> Refusal {
    Refusal::new(Cause::AmbiguousFraming, evidence)
}
