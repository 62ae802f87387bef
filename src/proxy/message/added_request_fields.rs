//! The fields that the gateway adds to a forwarded request, and those of the client that they replace.

use bytes::BytesMut;
use http::{HeaderName, HeaderValue};

use super::h1_writer::{write_decimal, write_field, write_number_field};
use crate::http::ascii_class::is_token;
use crate::http::forwarded;
use crate::http::header_edits::RenderedEdits;
use crate::http::reported_origin::RequestOrigin;
use crate::http::upgrade::UpgradeOffer;

/// Values for the fields that the gateway adds to a forwarded request.
#[derive(Debug)]
pub(in crate::proxy) struct ForwardingInfo<'a> {
    /// The request target in origin form.
    pub(in crate::proxy) target: &'a [u8],
    /// The route's `request_headers`.
    pub(in crate::proxy) edits: Option<&'a RenderedEdits>,
    /// The authority that the upstream receives in Host or `:authority`.
    pub(in crate::proxy) host: &'a [u8],
    pub(in crate::proxy) forwarded_for: &'a HeaderValue,
    /// What the client used to send the request.
    pub(in crate::proxy) origin: RequestOrigin<'a>,
    pub(in crate::proxy) peer_trust: PeerTrust,
    pub(in crate::proxy) request_id: &'a HeaderValue,
    /// The `Via` value, `1.1 PSEUDONYM`; `None` if the upstream must not receive `Via` at all.
    pub(in crate::proxy) via: Option<&'a [u8]>,
    /// The upstream connection uses TLS.
    pub(in crate::proxy) upstream_tls: bool,
    /// The protocol upgrade to offer.
    pub(in crate::proxy) upgrade_offer: Option<&'a UpgradeOffer<'a>>,
}

/// Whether the peer is one of `client.trusted_proxies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum PeerTrust {
    /// What it reports about its client is used.
    Trusted,
    /// It is the client.
    Untrusted,
}

impl ForwardingInfo<'_> {
    /// Whether this request field of the client is not forwarded: the route removes or replaces it, the gateway writes
    /// it, or the client could forge what only a proxy may report.
    pub(super) fn withholds(&self, name: &[u8]) -> bool {
        let is = |lower: &[u8]| name.eq_ignore_ascii_case(lower);
        let fold = |octet: &u8| if *octet == b'_' { b'-' } else { octet.to_ascii_lowercase() };
        if self.edits.is_some_and(|edits| edits.removes_from_request(name)) {
            return true;
        }
        match name.len() {
            3 => self.via.is_none() && is(b"via"),
            4 => is(b"host"),
            6 => is(b"expect"),
            // With underscores too: CGI-like servers do not distinguish them from hyphens.
            12 if name.iter().map(fold).eq(*b"x-request-id") => true,
            14 if is(b"content-length") => true,
            _ => {
                forwarded::is_forwarded_name(name)
                    && (self.peer_trust == PeerTrust::Untrusted || forwarded::is_written_name(name))
            }
        }
    }

    /// The fields that the route adds.
    pub(in crate::proxy) fn added_fields(&self) -> &[(HeaderName, HeaderValue)] {
        self.edits.map_or(&[], RenderedEdits::fields)
    }

    /// The client address: the first of `forwarded_for`; empty if it has none.
    pub(super) fn client_ip(&self) -> &[u8] {
        self.forwarded_for.as_bytes().split(|octet| *octet == b',').next().unwrap_or_default()
    }

    /// Writes the fields about the client and its connection.
    pub(super) fn write_client_fields(&self, out: &mut BytesMut) {
        if !self.forwarded_for.is_empty() {
            write_field(out, b"X-Forwarded-For", self.forwarded_for.as_bytes());
        }
        write_field(out, b"X-Forwarded-Proto", self.origin.scheme.as_bytes());
        if !self.origin.host.is_empty() {
            write_field(out, b"X-Forwarded-Host", self.origin.host);
        }
        write_number_field(out, b"X-Forwarded-Port: ", u64::from(self.origin.port));
        if !self.forwarded_for.is_empty() {
            write_field(out, b"X-Real-IP", self.client_ip());
        }
        out.extend_from_slice(b"Forwarded: ");
        self.write_forwarded_value(out);
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the value of `Forwarded` (RFC 7239): one element per address, the first with scheme and host.
    pub(super) fn write_forwarded_value(&self, out: &mut BytesMut) {
        let addresses = self.forwarded_for.as_bytes().split(|octet| *octet == b',').map(<[u8]>::trim_ascii);
        for (index, address) in addresses.enumerate() {
            out.extend_from_slice(if index == 0 { b"for=" } else { b", for=" });
            if address.is_empty() {
                // RFC 7239 6.2: a client without an address.
                out.extend_from_slice(b"unknown");
            } else if address.contains(&b':') {
                out.extend_from_slice(b"\"[");
                out.extend_from_slice(address);
                out.extend_from_slice(b"]\"");
            } else {
                out.extend_from_slice(address);
            }
            if index == 0 {
                self.write_origin_pairs(out);
            }
        }
    }

    fn write_origin_pairs(&self, out: &mut BytesMut) {
        let host = self.origin.host;
        if !host.is_empty() {
            out.extend_from_slice(b";host=");
            // A valid authority has neither a quotation mark nor a backslash.
            let quote: &[u8] = if is_token(host) { b"" } else { b"\"" };
            out.extend_from_slice(quote);
            out.extend_from_slice(host);
            out.extend_from_slice(quote);
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(self.origin.scheme.as_bytes());
    }

    /// The value of `X-Forwarded-Port`.
    pub(super) fn port_value(&self) -> HeaderValue {
        let mut digits = BytesMut::with_capacity(5);
        write_decimal(&mut digits, u64::from(self.origin.port));
        HeaderValue::from_maybe_shared(digits.freeze()).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}

/// The `Host` for an upstream with `host: server`: `host:port` as configured, without the default port.
pub(in crate::proxy) fn server_host(server: &str, upstream_tls: bool) -> &[u8] {
    let default_port = if upstream_tls { ":443" } else { ":80" };
    server.strip_suffix(default_port).unwrap_or(server).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_port_is_left_out_of_the_host_of_a_server() {
        for (server, tls, host) in [
            ("a.internal:443", true, "a.internal"),
            ("a.internal:80", false, "a.internal"),
            ("a.internal:80", true, "a.internal:80"),
            ("[::1]:8080", false, "[::1]:8080"),
        ] {
            assert_eq!(server_host(server, tls), host.as_bytes(), "{server}");
        }
    }
}
