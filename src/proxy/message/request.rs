//! A valid request, and the header section that the upstream receives for it.
//!
//! The upstream receives the target in origin form: the base path of the server, then the path, rewritten by the route.
//! Host follows `upstreams.NAME.host`. The end-to-end fields have the route's edits; hop-by-hop fields are removed. The
//! gateway writes `X-Forwarded-*`, `Forwarded`, `X-Real-IP`, `X-Request-Id` and `Via`: see
//! [`super::added_request_fields`].

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method};

use super::HeaderFields;
use super::added_request_fields::ForwardingInfo;
use super::h1_writer;
use crate::config::{AddressSource, ClientSettings};
use crate::contract::grpc::GrpcFamily;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::framing::{self, RequestFraming};
use crate::http::peer::Peer;
use crate::http::reported_origin::{ReportedOrigin, TrustedHeaders, forwarded_nodes};
use crate::http::request_head::{self, RequestHead, Version};
use crate::http::upgrade::{UpgradeOffer, UpgradingRequest};
use crate::http::{Rejection, authentication, authority, forwarded, hop_by_hop, media_type, target};

/// Maximum size of an HTTP/2 header list, counted as in RFC 9113 6.5.2. The limit in the `h2` crate is 4 times as
/// large, so that the gateway sends the error response and not the crate.
pub(in crate::proxy) const MAX_H2_HEADER_LIST: usize = 64 * 1024;

/// A valid request, independent of the HTTP version.
#[derive(Debug)]
pub(in crate::proxy) struct Request {
    pub(in crate::proxy) method: Method,
    pub(in crate::proxy) fields: HeaderFields,
    /// The request target as received, except that absolute form is converted to origin form. `*` for the whole server.
    pub(in crate::proxy) target: Bytes,
    /// Length of the path at the start of `target`; the rest is the query.
    path_len: usize,
    /// Host, or the authority of the target; empty for an HTTP/1.0 request without Host.
    pub(in crate::proxy) authority: Bytes,
    pub(in crate::proxy) framing: RequestFraming,
    pub(in crate::proxy) expect_continue: bool,
    /// Why only a route with `paths: lenient` accepts the path.
    pub(in crate::proxy) ambiguity: Option<target::Ambiguity>,
    /// HTTP/2 can carry the target.
    pub(in crate::proxy) target_fits_http2: bool,
    upgrade_requested: bool,
    /// `Connection` lists fields to remove.
    has_connection_options: bool,
    /// The request has a `Via` field.
    has_via: bool,
    /// The request uses authentication that is bound to the connection (NTLM, Negotiate): no other client may use the
    /// upstream connection afterwards.
    pub(in crate::proxy) authenticates_connection: bool,
}

/// The fault for a rejected header section.
pub(in crate::proxy) fn rejection_to_fault(error: Rejection) -> Fault {
    Fault::new(error.cause, Phase::RequestHeaders).with_evidence(Evidence::from_static(error.evidence))
}

impl Request {
    /// Builds a request from a complete HTTP/1 header section and the result of [`request_head::parse`].
    pub(in crate::proxy) fn from_h1(request_head: Bytes, parsed: &RequestHead) -> Self {
        // Unchanged, except that an absolute form is converted to the origin form.
        let target = match request_head.get(parsed.target.clone()) {
            Some([b'/' | b'*', ..]) => request_head.slice(parsed.target.clone()),
            _ => Bytes::from(parsed.origin_form(&request_head).into_owned()),
        };
        Request {
            method: parsed.method.clone(),
            path_len: parsed.path(&request_head).len(),
            authority: parsed.authority.clone().map_or_else(Bytes::new, |range| request_head.slice(range)),
            target,
            framing: parsed.framing,
            expect_continue: parsed.expect_continue && parsed.version == Version::Http11,
            ambiguity: parsed.ambiguity,
            target_fits_http2: parsed.target_fits_http2,
            upgrade_requested: parsed.upgrade_requested,
            has_connection_options: parsed.has_connection_options,
            has_via: parsed.has_via,
            authenticates_connection: parsed.authenticates_connection,
            fields: HeaderFields::Raw(request_head),
        }
    }

    /// Builds a request from an HTTP/2 header section, and takes its fields. `end_stream`: no body follows.
    ///
    /// # Errors
    /// The request is invalid, or cannot be expressed in HTTP/1.1. In this case `parts` is unchanged.
    pub(in crate::proxy) fn from_h2(
        parts: &mut http::request::Parts,
        end_stream: bool,
    ) -> Result<Self, Rejection> {
        let method = request_head::check_method(parts.method.as_str().as_bytes())?;
        if header_list_size(&parts.headers) > MAX_H2_HEADER_LIST {
            return Err(Rejection::new(Cause::HeaderTooLarge, "the header list is too large"));
        }
        let raw = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let target = Bytes::copy_from_slice(raw.as_bytes());
        let path = if target.as_ref() == b"*" && method == Method::OPTIONS {
            target::PathInfo::ASTERISK
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
            ambiguity: path.ambiguity,
            target_fits_http2: path.target_fits_http2,
            // HTTP/2 has no Upgrade and no 101 (RFC 9113 8.6).
            upgrade_requested: false,
            // The `h2` crate rejects header sections with `Connection` (RFC 9113 8.2.2).
            has_connection_options: false,
            has_via: parts.headers.contains_key(http::header::VIA),
            authenticates_connection: parts
                .headers
                .get_all(http::header::AUTHORIZATION)
                .iter()
                .any(|value| authentication::authenticates_connection(value.as_bytes())),
            fields: HeaderFields::Map(std::mem::take(&mut parts.headers)),
        })
    }

    /// The path, without the query.
    pub(in crate::proxy) fn path(&self) -> &[u8] {
        self.target.get(..self.path_len).unwrap_or_default()
    }

    /// The query without the question mark; empty if there is none.
    pub(in crate::proxy) fn query(&self) -> &[u8] {
        self.target.get(self.path_len + 1..).unwrap_or_default()
    }

    /// The client address: the peer's, or the one that trusted proxies report.
    pub(in crate::proxy) fn client_address(&self, peer: Peer, client_config: &ClientSettings) -> Peer {
        if !client_config.trusts(peer) {
            return peer.to_canonical();
        }
        let values = self.reported_addresses(client_config);
        forwarded::client(peer, values.into_iter(), &client_config.trusted_proxies)
    }

    /// The addresses in the field that proxies are trusted to report them in, in message order.
    pub(in crate::proxy) fn reported_addresses<'a>(
        &'a self,
        client_config: &'a ClientSettings,
    ) -> Vec<&'a [u8]> {
        match client_config.address_source() {
            AddressSource::Field(name) => self.fields.values(name.as_str()).collect(),
            AddressSource::Forwarded => forwarded_nodes(self.fields.values("forwarded")).collect(),
            AddressSource::Connection => Vec::new(),
        }
    }

    /// What a trusted proxy reports about its client's request.
    pub(in crate::proxy) fn reported_origin(&self, trusted: TrustedHeaders) -> ReportedOrigin<'_> {
        ReportedOrigin::from_fields(trusted, self.fields.iter())
    }

    /// Whether this is a gRPC or gRPC-Web request; gRPC-Web may use HTTP/1. Computed on demand, because most requests
    /// do not need it.
    pub(in crate::proxy) fn is_grpc(&self) -> bool {
        self.method == Method::POST && self.fields.value("content-type").is_some_and(media_type::is_grpc)
    }

    /// The protocol variant (gRPC, gRPC-Web, gRPC-Web-text) of a gRPC request.
    pub(in crate::proxy) fn grpc_family(&self) -> Option<GrpcFamily> {
        if self.method != Method::POST {
            return None;
        }
        media_type::grpc_family(self.fields.value("content-type")?)
    }

    /// The protocol variant of an HTTP/2 header section that is a gRPC request, even if the request is rejected.
    pub(in crate::proxy) fn h2_grpc_family(parts: &http::request::Parts) -> Option<GrpcFamily> {
        if parts.method != Method::POST {
            return None;
        }
        media_type::grpc_family(parts.headers.get(http::header::CONTENT_TYPE)?.as_bytes())
    }

    /// Whether the request has already passed this gateway: `Via` contains its pseudonym.
    pub(in crate::proxy) fn passed_through(&self, pseudonym: &[u8]) -> bool {
        self.has_via
            && self.fields.values("via").any(|value| {
                value.split(|octet| *octet == b',').any(|hop| {
                    let mut words =
                        hop.split(|octet| matches!(octet, b' ' | b'\t')).filter(|word| !word.is_empty());
                    words.nth(1).is_some_and(|by| by == pseudonym)
                })
            })
    }

    /// The received `X-Request-Id`, if it has 8 to 64 letters, digits, dots, colons, hyphens and underscores. The
    /// caller checks whether the peer is trusted.
    pub(in crate::proxy) fn valid_request_id(&self) -> Option<HeaderValue> {
        let value = self.fields.value("x-request-id")?;
        let is_id_byte = |octet: &u8| octet.is_ascii_alphanumeric() || b"._:-".contains(octet);
        let is_valid = (8..=64).contains(&value.len()) && value.iter().all(is_id_byte);
        is_valid.then(|| HeaderValue::from_bytes(value).ok()).flatten()
    }

    /// The protocol upgrade to offer to the upstream, if the route allows these protocols.
    pub(in crate::proxy) fn upgrade_offer(&self, allowed_protocols: &[String]) -> Option<UpgradeOffer<'_>> {
        let values = |name| self.fields.values(name);
        self.upgrade_requested
            .then(|| {
                let request = UpgradingRequest { method: &self.method, framing: self.framing };
                let keys = values("sec-websocket-key");
                UpgradeOffer::from_request(request, values("upgrade"), keys, allowed_protocols)
            })
            .flatten()
    }

    /// The fields that `Connection` lists.
    pub(in crate::proxy) fn connection_options(&self) -> hop_by_hop::ConnectionOptions<'_> {
        if !self.has_connection_options {
            return hop_by_hop::ConnectionOptions::default();
        }
        hop_by_hop::ConnectionOptions::from_values(self.fields.values("connection"))
    }

    /// Whether the method defines a meaning for content. Without content the upstream then gets `Content-Length: 0`
    /// (RFC 9110 8.6): some servers reject such a request with 411 otherwise.
    fn expects_content(&self) -> bool {
        matches!(self.method, Method::POST | Method::PUT | Method::PATCH)
    }

    /// Writes the HTTP/1 header section for the upstream, in one pass over the fields.
    pub(in crate::proxy) fn write_request_head(
        &self,
        out: &mut BytesMut,
        forwarding_info: &ForwardingInfo<'_>,
    ) {
        let connection_options = self.connection_options();
        out.reserve(1024);
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.put_u8(b' ');
        out.extend_from_slice(forwarding_info.target);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        h1_writer::write_field(out, b"Host", forwarding_info.host);
        let mut cookie_count = 0_u32;
        let joins_cookies = matches!(self.fields, HeaderFields::Map(_));
        for (name, value) in self.fields.iter() {
            if connection_options.removes_name(name) || forwarding_info.withholds(name) {
                continue;
            }
            if joins_cookies && name == b"cookie" {
                cookie_count += 1;
                continue;
            }
            h1_writer::write_field(out, name, value);
        }
        if cookie_count > 0 {
            // HTTP/2 may split Cookie into several fields, HTTP/1 may not (RFC 9113 8.2.3).
            let cookies: Vec<&[u8]> = self.fields.values("cookie").collect();
            h1_writer::write_field(out, b"cookie", &cookies.join(&b"; "[..]));
        }
        forwarding_info.write_client_fields(out);
        h1_writer::write_field(out, b"X-Request-Id", forwarding_info.request_id.as_bytes());
        if let Some(via) = forwarding_info.via {
            h1_writer::write_field(out, b"Via", via);
        }
        for (name, value) in forwarding_info.added_fields() {
            h1_writer::write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
        if self.expect_continue && self.framing.has_body() {
            out.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        match self.framing {
            RequestFraming::None if self.expects_content() => out.extend_from_slice(b"Content-Length: 0\r\n"),
            RequestFraming::None => {}
            RequestFraming::Length(length) => h1_writer::write_number_field(out, b"Content-Length: ", length),
            RequestFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        }
        if let Some(offer) = forwarding_info.upgrade_offer {
            out.extend_from_slice(b"Connection: Upgrade\r\n");
            h1_writer::write_field(out, b"Upgrade", &offer.value());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The size of an HTTP/2 header list, in bytes (RFC 9113 6.5.2).
pub(in crate::proxy) fn header_list_size(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// `:authority`, or Host if it is missing. If both are present they must be equal (RFC 9113 8.3.1).
pub(in crate::proxy) fn h2_authority(parts: &http::request::Parts) -> Result<Bytes, Rejection> {
    let invalid = |evidence| Rejection::new(Cause::InvalidHost, evidence);
    let mut hosts = parts.headers.get_all(http::header::HOST).iter();
    let host = hosts.next().map(|value| value.as_bytes());
    if hosts.next().is_some() {
        return Err(invalid("Host is repeated"));
    }
    let uri_authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let authority = uri_authority.or(host).ok_or(invalid("neither :authority nor Host"))?;
    authority::check_authority(authority)?;
    let default_port = if parts.uri.scheme() == Some(&http::uri::Scheme::HTTPS) { 443 } else { 80 };
    if let (Some(uri_authority), Some(host)) = (uri_authority, host)
        && !authority::authorities_equal(uri_authority, host, Some(default_port))
    {
        return Err(invalid(":authority and Host differ"));
    }
    Ok(Bytes::copy_from_slice(authority))
}

/// Content-Length of an HTTP/2 request; it must be a single number.
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
