//! Builds the header section that an HTTP/2 upstream receives.
//!
//! The fields are the same as on HTTP/1, see [`super::request`]. Requests that HTTP/2 cannot express are rejected.

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, TE, VIA};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::added_request_fields::ForwardingInfo;
use super::request::Request;
use super::{HeaderFields, never_indexed};
use crate::contract::Cause;
use crate::http::Rejection;
use crate::http::framing::RequestFraming;

/// Builds the header section for this request.
///
/// # Errors
/// HTTP/2 cannot express its authority, target or a field.
pub(in crate::proxy) fn request_head(
    request: &Request,
    forwarding_info: &ForwardingInfo<'_>,
) -> Result<http::Request<()>, Rejection> {
    let mut request_head = http::Request::new(());
    *request_head.method_mut() = request.method.clone();
    *request_head.version_mut() = http::Version::HTTP_2;
    *request_head.uri_mut() = uri(forwarding_info)?;
    *request_head.headers_mut() = header_fields(request, forwarding_info)?;
    Ok(request_head)
}

fn uri(forwarding_info: &ForwardingInfo<'_>) -> Result<Uri, Rejection> {
    let authority = Authority::try_from(forwarding_info.host)
        .map_err(|_| Rejection::new(Cause::InvalidHost, "HTTP/2 cannot express this authority"))?;
    let invalid = || Rejection::new(Cause::MalformedRequestLine, "HTTP/2 cannot express this request target");
    let target = PathAndQuery::try_from(forwarding_info.target).map_err(|_| invalid())?;
    if target.as_str().as_bytes() != forwarding_info.target {
        return Err(invalid());
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if forwarding_info.upstream_tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).map_err(|_| invalid())
}

fn header_fields(request: &Request, forwarding_info: &ForwardingInfo<'_>) -> Result<HeaderMap, Rejection> {
    let connection_options = request.connection_options();
    let invalid = || Rejection::new(Cause::MalformedHeader, "HTTP/2 cannot express this header field");
    let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).map_err(|_| invalid());
    let mut map = HeaderMap::with_capacity(24);
    for (name, raw_value) in request.fields.iter() {
        if connection_options.removes_name(name)
            || forwarding_info.withholds(name)
            || name.eq_ignore_ascii_case(b"cookie")
        {
            continue;
        }
        map.append(HeaderName::from_bytes(name).map_err(|_| invalid())?, value(raw_value)?);
    }
    let cookies: Vec<&[u8]> = request.fields.values("cookie").collect();
    let forwards_cookies =
        !connection_options.removes_name(b"cookie") && !forwarding_info.withholds(b"cookie");
    if !cookies.is_empty() && forwards_cookies {
        map.insert(COOKIE, value(&cookies.join(&b"; "[..]))?);
    }
    // RFC 9113 8.2.2 allows only `TE: trailers`, and gRPC requires it. Not sent for HTTP/1 clients, which get no
    // trailers.
    let is_trailers = |field: &[u8]| field.trim_ascii().eq_ignore_ascii_case(b"trailers");
    if matches!(request.fields, HeaderFields::Map(_)) && request.fields.values("te").any(is_trailers) {
        map.insert(TE, HeaderValue::from_static("trailers"));
    }
    // Both are empty for the peer of a Unix socket.
    if !forwarding_info.forwarded_for.is_empty() {
        map.insert("x-forwarded-for", never_indexed(forwarding_info.forwarded_for.clone()));
        map.insert("x-real-ip", never_indexed(value(forwarding_info.client_ip())?));
    }
    map.insert("x-forwarded-proto", HeaderValue::from_static(forwarding_info.origin.scheme));
    if !forwarding_info.origin.host.is_empty() {
        map.insert("x-forwarded-host", value(forwarding_info.origin.host)?);
    }
    map.insert("x-forwarded-port", forwarding_info.port_value());
    let mut forwarded = BytesMut::new();
    forwarding_info.write_forwarded_value(&mut forwarded);
    map.insert(FORWARDED, never_indexed(value(&forwarded)?));
    map.insert("x-request-id", never_indexed(forwarding_info.request_id.clone()));
    if let Some(via) = forwarding_info.via {
        map.append(VIA, value(via)?);
    }
    for (name, value) in forwarding_info.added_fields() {
        map.append(name.clone(), value.clone());
    }
    if request.expect_continue && request.framing.has_body() {
        map.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    match request.framing {
        RequestFraming::Length(length) => {
            map.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        RequestFraming::None | RequestFraming::Chunked => {}
    }
    // Replaced by `:authority`.
    map.remove(HOST);
    Ok(map)
}
