//! The head that an HTTP/2 upstream receives: the same as on HTTP/1, said in the words of RFC 9113.
//!
//! Which fields those are is decided in [`super::request`]; what HTTP/2 cannot say is refused here.

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, VIA};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::head::{Fields, unindexed};
use super::request::{Request, Told, said_anew, trace};
use crate::contract::Cause;
use crate::protocol::framing::RequestFraming;
use crate::protocol::{Rejection, hop};

/// The head for this request.
///
/// # Errors
/// It says what HTTP/2 cannot.
pub(super) fn head(request: &Request, told: &Told<'_>) -> Result<http::Request<()>, Rejection> {
    let mut head = http::Request::new(());
    *head.method_mut() = request.method.clone();
    *head.version_mut() = http::Version::HTTP_2;
    *head.uri_mut() = uri(request, told)?;
    *head.headers_mut() = fields(request, told)?;
    Ok(head)
}

fn uri(request: &Request, told: &Told<'_>) -> Result<Uri, Rejection> {
    let host = if request.authority.is_empty() { told.server.as_bytes() } else { &request.authority };
    let authority = Authority::try_from(host)
        .map_err(|_| Rejection::new(Cause::InvalidHost, "HTTP/2 cannot say this authority"))?;
    let unsayable = || Rejection::new(Cause::MalformedRequestLine, "HTTP/2 cannot say this target");
    let target = PathAndQuery::try_from(&request.target[..]).map_err(|_| unsayable())?;
    if target.as_str().as_bytes() != request.target {
        return Err(unsayable());
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if told.upstream_tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).map_err(|_| unsayable())
}

fn fields(request: &Request, told: &Told<'_>) -> Result<HeaderMap, Rejection> {
    let nominated = hop::ConnectionOptions::from_values(request.fields.values("connection"))
        .map_err(|evidence| Rejection::new(Cause::MalformedHeader, evidence))?;
    let unsayable = || Rejection::new(Cause::MalformedHeader, "HTTP/2 cannot say this field");
    let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).map_err(|_| unsayable());
    let mut map = HeaderMap::with_capacity(24);
    for (name, text) in request.fields.iter() {
        if nominated.removes_name(name) || said_anew(name) || name.eq_ignore_ascii_case(b"cookie") {
            continue;
        }
        map.append(HeaderName::from_bytes(name).map_err(|_| unsayable())?, value(text)?);
    }
    let crumbs: Vec<&[u8]> = request.fields.values("cookie").collect();
    if !crumbs.is_empty() {
        map.insert(COOKIE, value(&crumbs.join(&b"; "[..]))?);
    }
    // RFC 9113 8.2.2 allows this one word; gRPC demands it. An HTTP/1 client would get no trailers.
    let te = |field: &[u8]| field.trim_ascii().eq_ignore_ascii_case(b"trailers");
    if matches!(request.fields, Fields::Map(_)) && request.fields.values("te").any(te) {
        map.insert(TE, HeaderValue::from_static("trailers"));
    }
    map.insert("x-forwarded-for", unindexed(told.forwarded_for.clone()));
    map.insert("x-forwarded-proto", HeaderValue::from_static(told.proto));
    if !request.authority.is_empty() {
        map.insert("x-forwarded-host", value(&request.authority)?);
    }
    map.insert("x-request-id", unindexed(told.request_id.clone()));
    if !map.contains_key("traceparent") {
        let mut context = BytesMut::new();
        if trace(&mut context, told.request_id.as_bytes()) {
            map.insert("traceparent", unindexed(value(&context)?));
        }
    }
    map.append(VIA, value(told.via)?);
    if request.expect_continue && request.framing.has_body() {
        map.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    match request.framing {
        RequestFraming::Length(length) => {
            map.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        RequestFraming::None | RequestFraming::Chunked => {}
    }
    // Said by the authority.
    map.remove(HOST);
    Ok(map)
}
