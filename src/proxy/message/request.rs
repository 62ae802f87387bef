//! One request that was understood: its parts, and the head that the upstream receives for it.
//!
//! What an upstream receives is section 5 of the contract: target and Host as they came, nothing of the hop, nothing
//! that a client claims about itself, and what we know instead. It routes nothing and sends nothing.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method};

use super::HeaderFields;
use super::h1_writer;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::framing::{self, RequestFraming};
use crate::http::request_head::{self, RequestHead, Version};
use crate::http::upgrade::UpgradeOffer;
use crate::http::{Rejection, authentication, authority, forwarded, hop_by_hop, media_type, target};

/// Largest list of fields on HTTP/2, counted as RFC 9113 6.5.2 does. The library's own bound is four times as large, so
/// that ours answers.
pub(in crate::proxy) const MAX_H2_HEADER_LIST: usize = 64 * 1024;

/// A request, whatever the protocol version.
#[derive(Debug)]
pub(in crate::proxy) struct Request {
    pub(in crate::proxy) method: Method,
    pub(in crate::proxy) fields: HeaderFields,
    /// Origin form, as received.
    pub(in crate::proxy) target: Bytes,
    path_len: usize,
    /// Host, or the authority of the target; empty on an HTTP/1.0 request without.
    pub(in crate::proxy) authority: Bytes,
    pub(in crate::proxy) framing: RequestFraming,
    pub(in crate::proxy) expect_continue: bool,
    pub(in crate::proxy) dot_segments: bool,
    wants_upgrade: bool,
    has_connection_options: bool,
    /// There is a `Via`.
    has_via: bool,
    /// It authenticates the upstream connection, not itself: no other client may use that connection afterwards.
    pub(in crate::proxy) binds_connection: bool,
}

/// What is told to the upstream about the client and the request, beside the request itself.
#[derive(Debug)]
pub(in crate::proxy) struct ForwardingInfo<'a> {
    pub(in crate::proxy) forwarded_for: &'a HeaderValue,
    pub(in crate::proxy) proto: &'static str,
    pub(in crate::proxy) request_id: &'a HeaderValue,
    /// `1.1 PSEUDONYM`.
    pub(in crate::proxy) via: &'a [u8],
    /// `host:port` of the server that is asked.
    pub(in crate::proxy) server: &'a str,
    /// It is asked over TLS.
    pub(in crate::proxy) upstream_tls: bool,
    /// The protocols it may change to.
    pub(in crate::proxy) offer: Option<&'a UpgradeOffer<'a>>,
}

/// A refusal of the head as a fault.
pub(in crate::proxy) fn to_fault(error: Rejection) -> Fault {
    Fault::new(error.cause, Phase::RequestHeaders).with_evidence(Evidence::from_static(error.evidence))
}

impl Request {
    /// From a complete HTTP/1 head that [`request_head::parse`] took.
    pub(in crate::proxy) fn from_h1(request_head: Bytes, facts: &RequestHead) -> Self {
        // As it stands, except where an absolute form leaves a path unsaid.
        let target = match request_head.get(facts.target.clone()) {
            Some([b'/' | b'*', ..]) => request_head.slice(facts.target.clone()),
            _ => Bytes::from(facts.origin_form(&request_head).into_owned()),
        };
        Request {
            method: facts.method.clone(),
            path_len: facts.path(&request_head).len(),
            authority: facts.authority.clone().map_or_else(Bytes::new, |range| request_head.slice(range)),
            target,
            framing: facts.framing,
            expect_continue: facts.expect_continue && facts.version == Version::Http11,
            dot_segments: facts.dot_segments,
            wants_upgrade: facts.upgrade_requested,
            has_connection_options: facts.names_connection_fields,
            has_via: facts.has_via,
            binds_connection: facts.binds_connection,
            fields: HeaderFields::Raw(request_head),
        }
    }

    /// From an HTTP/2 head, whose fields are taken. `end_stream` says that no body follows.
    ///
    /// # Errors
    /// The request is not one that HTTP/1.1 could have said; nothing is taken.
    pub(in crate::proxy) fn from_h2(
        parts: &mut http::request::Parts,
        end_stream: bool,
    ) -> Result<Self, Rejection> {
        let method = request_head::check_method(parts.method.as_str().as_bytes())?;
        if header_list_size(&parts.headers) > MAX_H2_HEADER_LIST
            || parts.headers.len() > crate::http::MAX_FIELDS
        {
            return Err(Rejection::new(Cause::HeaderTooLarge, "the header list is too large"));
        }
        let raw = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let target = Bytes::copy_from_slice(raw.as_bytes());
        let path = if target.as_ref() == b"*" && method == Method::OPTIONS {
            target::PathInfo { path_len: 1, dot_segments: false }
        } else {
            target::check_path(&target)?
        };
        let authority = h2_authority(parts)?;
        if parts.headers.keys().any(|name| framing::is_underscore_variant(name.as_str().as_bytes())) {
            let evidence = "a framing field spelled with an underscore";
            return Err(Rejection::new(Cause::AmbiguousFraming, evidence));
        }
        let mut expect_continue = false;
        for value in parts.headers.get_all(http::header::EXPECT) {
            request_head::check_expect(value.as_bytes())?;
            expect_continue = true;
        }
        let framing = match (h2_content_length(&parts.headers)?, end_stream) {
            (Some(length), _) => RequestFraming::Length(length),
            (None, true) => RequestFraming::None,
            (None, false) => RequestFraming::Chunked,
        };
        Ok(Request {
            method,
            path_len: path.path_len,
            authority,
            target,
            framing,
            expect_continue,
            dot_segments: path.dot_segments,
            // HTTP/2 has neither Upgrade nor 101 (RFC 9113 8.6).
            wants_upgrade: false,
            // Nor `Connection`: the library takes no head with one (RFC 9113 8.2.2).
            has_connection_options: false,
            has_via: parts.headers.contains_key(http::header::VIA),
            binds_connection: parts
                .headers
                .get_all(http::header::AUTHORIZATION)
                .iter()
                .any(|value| authentication::binds_connection(value.as_bytes())),
            fields: HeaderFields::Map(std::mem::take(&mut parts.headers)),
        })
    }

    /// The path, without the query.
    pub(in crate::proxy) fn path(&self) -> &[u8] {
        self.target.get(..self.path_len).unwrap_or_default()
    }

    /// The query, without its question mark; empty where there is none.
    pub(in crate::proxy) fn query(&self) -> &[u8] {
        self.target.get(self.path_len + 1..).unwrap_or_default()
    }

    /// Method and target, as a request line has them.
    pub(in crate::proxy) fn line(&self) -> Bytes {
        [self.method.as_str().as_bytes(), b" ", &self.target].concat().into()
    }

    /// The address the client is known by.
    pub(in crate::proxy) fn client_ip(
        &self,
        peer_ip: IpAddr,
        client_config: &crate::config::ClientLimits,
    ) -> IpAddr {
        if client_config.trusted_proxies.is_empty() {
            return peer_ip.to_canonical();
        }
        let values: Vec<&[u8]> = self.fields.values(client_config.ip_header.as_str()).collect();
        forwarded::client_ip(peer_ip, values.into_iter(), &client_config.trusted_proxies)
    }

    /// A call of gRPC, or of gRPC-Web, whose clients speak HTTP/1 too and read the same fields. Looked up when it is asked
    /// for: most requests never are.
    pub(in crate::proxy) fn is_grpc(&self) -> bool {
        self.method == Method::POST && self.fields.value("content-type").is_some_and(media_type::is_grpc)
    }

    /// The same of an HTTP/2 head that may not become a request.
    pub(in crate::proxy) fn is_h2_grpc(parts: &http::request::Parts) -> bool {
        let content_type = || parts.headers.get(http::header::CONTENT_TYPE);
        parts.method == Method::POST
            && content_type().is_some_and(|value| media_type::is_grpc(value.as_bytes()))
    }

    /// Whether this gateway has seen the request before.
    pub(in crate::proxy) fn passed_through(&self, pseudonym: &[u8]) -> bool {
        self.has_via
            && self.fields.values("via").any(|value| {
                value.split(|octet| *octet == b',').any(|hop| {
                    hop.trim_ascii().split(|octet| *octet == b' ').nth(1).is_some_and(|by| by == pseudonym)
                })
            })
    }

    /// The id a trusted peer gave: 1 to 128 visible octets.
    pub(in crate::proxy) fn trusted_id(&self) -> Option<HeaderValue> {
        let value = self.fields.value("x-request-id")?;
        let is_valid = (1..=128).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        is_valid.then(|| HeaderValue::from_bytes(value).ok()).flatten()
    }

    /// What is offered to the upstream when the route takes these protocols.
    pub(in crate::proxy) fn upgrade_offer(&self, allowed_protocols: &[String]) -> Option<UpgradeOffer<'_>> {
        let values = |name| self.fields.values(name);
        self.wants_upgrade
            .then(|| {
                UpgradeOffer::from_request(values("upgrade"), values("sec-websocket-key"), allowed_protocols)
            })
            .flatten()
    }

    /// The fields that its `Connection` names.
    ///
    /// # Errors
    /// More than any real message names.
    pub(in crate::proxy) fn connection_options(
        &self,
    ) -> Result<hop_by_hop::ConnectionOptions<'_>, Rejection> {
        if !self.has_connection_options {
            return Ok(hop_by_hop::ConnectionOptions::default());
        }
        hop_by_hop::ConnectionOptions::from_values(self.fields.values("connection"))
            .map_err(|evidence| Rejection::new(Cause::MalformedHeader, evidence))
    }

    /// Writes the head that the upstream receives, in one pass over the fields.
    ///
    /// # Errors
    /// `Connection` names more fields than any real message does.
    pub(in crate::proxy) fn write_request_head(
        &self,
        out: &mut BytesMut,
        forwarding_info: &ForwardingInfo<'_>,
    ) -> Result<(), Rejection> {
        let connection_options = self.connection_options()?;
        out.reserve(1024);
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.put_u8(b' ');
        out.extend_from_slice(&self.target);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if self.authority.is_empty() {
            // HTTP/1.0 may leave it out, HTTP/1.1 may not: then the server is called by the name it has here.
            h1_writer::write_field(out, b"Host", forwarding_info.server.as_bytes());
        } else {
            h1_writer::write_field(out, b"Host", &self.authority);
        }
        let mut cookie_count = 0_u32;
        let mut has_traceparent = false;
        let joins_cookies = matches!(self.fields, HeaderFields::Map(_));
        for (name, value) in self.fields.iter() {
            if connection_options.removes_name(name) || is_overridden(name) {
                continue;
            }
            if joins_cookies && name == b"cookie" {
                cookie_count += 1;
                continue;
            }
            has_traceparent |= name.eq_ignore_ascii_case(b"traceparent");
            h1_writer::write_field(out, name, value);
        }
        if cookie_count > 0 {
            // RFC 9113 8.2.3: HTTP/2 may split the field into crumbs, HTTP/1 may not.
            let crumbs: Vec<&[u8]> = self.fields.values("cookie").collect();
            h1_writer::write_field(out, b"cookie", &crumbs.join(&b"; "[..]));
        }
        h1_writer::write_field(out, b"X-Forwarded-For", forwarding_info.forwarded_for.as_bytes());
        h1_writer::write_field(out, b"X-Forwarded-Proto", forwarding_info.proto.as_bytes());
        if !self.authority.is_empty() {
            h1_writer::write_field(out, b"X-Forwarded-Host", &self.authority);
        }
        h1_writer::write_field(out, b"X-Request-Id", forwarding_info.request_id.as_bytes());
        if !has_traceparent {
            write_traceparent(out, forwarding_info.request_id.as_bytes());
        }
        h1_writer::write_field(out, b"Via", forwarding_info.via);
        if self.expect_continue && self.framing.has_body() {
            out.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        match self.framing {
            RequestFraming::None => {}
            RequestFraming::Length(length) => h1_writer::write_number_field(out, b"Content-Length: ", length),
            RequestFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        }
        if let Some(offer) = forwarding_info.offer {
            out.extend_from_slice(b"Connection: Upgrade\r\n");
            h1_writer::write_field(out, b"Upgrade", &offer.value());
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// Fields that are dropped from the client's and said by us.
pub(in crate::proxy) fn is_overridden(name: &[u8]) -> bool {
    let is = |lower: &[u8]| name.eq_ignore_ascii_case(lower);
    let fold = |octet: &u8| if *octet == b'_' { b'-' } else { octet.to_ascii_lowercase() };
    match name.len() {
        4 => is(b"host"),
        6 => is(b"expect"),
        // With underscores too, as servers of the CGI kind read it.
        12 => name.iter().map(fold).eq(*b"x-request-id") || forwarded::is_forwarded_name(name),
        14 => is(b"content-length") || forwarded::is_forwarded_name(name),
        _ => forwarded::is_forwarded_name(name),
    }
}

/// A W3C trace context that begins here: the trace id is the request id without hyphens where that is a UUID, the
/// parent id its random half. Not sampled: whoever samples decides for itself.
fn write_traceparent(out: &mut BytesMut, request_id: &[u8]) {
    let start = out.len();
    out.extend_from_slice(b"traceparent: ");
    if write_trace_value(out, request_id) {
        out.extend_from_slice(b"\r\n");
    } else {
        out.truncate(start);
    }
}

/// The value alone; nothing, and false, where the id is too long for one.
pub(in crate::proxy) fn write_trace_value(out: &mut BytesMut, request_id: &[u8]) -> bool {
    let digits = uuid_digits(request_id).or_else(|| hex_digits(request_id));
    let Some(digits) = digits else { return false };
    out.extend_from_slice(b"00-");
    out.extend_from_slice(&digits);
    out.put_u8(b'-');
    out.extend_from_slice(digits.get(16..).unwrap_or_default());
    out.extend_from_slice(b"-00");
    true
}

/// The digits of a UUID with its hyphens, as our own ids are: by groups, not octet by octet.
fn uuid_digits(id: &[u8]) -> Option<[u8; 32]> {
    let hyphens = [8, 13, 18, 23].iter().all(|at| id.get(*at) == Some(&b'-'));
    if id.len() != 36 || !hyphens {
        return None;
    }
    let mut digits = [0; 32];
    let mut filled = 0;
    for group in [0..8, 9..13, 14..18, 19..23, 24..36] {
        let group = id.get(group)?;
        digits.get_mut(filled..filled + group.len())?.copy_from_slice(group);
        filled += group.len();
    }
    digits.make_ascii_lowercase();
    // All are looked at, without a branch at each.
    let is_valid = digits.iter().fold(true, |is_valid, digit| is_valid & digit.is_ascii_hexdigit());
    is_valid.then_some(digits)
}

/// The 32 digits that stand anywhere in an id.
fn hex_digits(id: &[u8]) -> Option<[u8; 32]> {
    let mut digits = [b'0'; 32];
    let mut slots = digits.iter_mut();
    for octet in id.iter().filter(|octet| octet.is_ascii_hexdigit()) {
        *slots.next()? = octet.to_ascii_lowercase();
    }
    slots.next().is_none().then_some(digits)
}

/// The size of a list of fields on HTTP/2, in bytes (RFC 9113 6.5.2).
pub(in crate::proxy) fn header_list_size(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// `:authority`, or Host where that is missing; when both are there they must agree (RFC 9113 8.3.1).
fn h2_authority(parts: &http::request::Parts) -> Result<Bytes, Rejection> {
    let invalid = |evidence| Rejection::new(Cause::InvalidHost, evidence);
    let mut hosts = parts.headers.get_all(http::header::HOST).iter();
    let host = hosts.next().map(|value| value.as_bytes());
    if hosts.next().is_some() {
        return Err(invalid("Host is repeated"));
    }
    let uri_authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let authority = uri_authority.or(host).ok_or(invalid("neither :authority nor Host"))?;
    authority::check_authority(authority)?;
    if let (Some(uri_authority), Some(host)) = (uri_authority, host)
        && !authority::authorities_equal(uri_authority, host)
    {
        return Err(invalid(":authority and Host differ"));
    }
    Ok(Bytes::copy_from_slice(authority))
}

fn h2_content_length(headers: &HeaderMap) -> Result<Option<u64>, Rejection> {
    let mut values = headers.get_all(http::header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let length = framing::content_length(value.as_bytes().trim_ascii());
    match (length, values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(Rejection::new(Cause::AmbiguousFraming, "Content-Length is not one number")),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
