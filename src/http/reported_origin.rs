//! What a trusted proxy reports about the request that its client sent: scheme, host and port.
//!
//! The caller decides whether the peer is trusted. A value that is not exactly one scheme, host or port is ignored.
//! [`super::forwarded`] determines the client address.

use super::ascii_class::trim_ows;
use super::authority;

/// The request fields of a trusted proxy that are trusted besides the field of the client address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrustedHeaders {
    /// X-Forwarded-For.
    pub forwarded_for: bool,
    /// X-Forwarded-Proto.
    pub forwarded_proto: bool,
    /// X-Forwarded-Host.
    pub forwarded_host: bool,
    /// X-Forwarded-Port.
    pub forwarded_port: bool,
    /// Forwarded (RFC 7239).
    pub forwarded: bool,
}

/// Where a request arrived: the scheme and the port of its origin (RFC 9110 4.3.1) if nothing else is reported, and the
/// TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerOrigin {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The TCP port.
    pub port: u16,
    /// The TLS version of the connection; `None` for cleartext.
    pub tls_version: Option<&'static str>,
}

/// The values that a trusted proxy reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReportedOrigin<'a> {
    scheme: Reported<&'static str>,
    host: Reported<&'a [u8]>,
    port: Reported<u16>,
}

/// The scheme, host and port that the client used, as reported to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestOrigin<'a> {
    /// The scheme, in lower case.
    pub scheme: &'static str,
    /// `host[:port]`; empty if the client sent none.
    pub host: &'a [u8],
    /// The port.
    pub port: u16,
}

/// A value that may be reported once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reported<T> {
    #[default]
    Absent,
    Once(T),
    /// Repeated or malformed.
    Invalid,
}

impl<T: Copy> Reported<T> {
    fn add(&mut self, value: Option<T>) {
        *self = match (*self, value) {
            (Reported::Absent, Some(value)) => Reported::Once(value),
            (Reported::Absent | Reported::Once(_) | Reported::Invalid, _) => Reported::Invalid,
        };
    }

    const fn value(self) -> Option<T> {
        match self {
            Reported::Once(value) => Some(value),
            Reported::Absent | Reported::Invalid => None,
        }
    }
}

impl<'a> ReportedOrigin<'a> {
    /// Reads the trusted fields of a header section. `X-Forwarded-*` take precedence over `Forwarded`.
    pub(crate) fn from_fields(
        trusted: TrustedHeaders,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Self {
        let mut reported = ReportedOrigin::default();
        let mut forwarded = None;
        for (name, value) in fields {
            let is = |lower: &[u8]| name.eq_ignore_ascii_case(lower);
            match name.len() {
                9 if trusted.forwarded && is(b"forwarded") => forwarded = Some(value),
                16 if trusted.forwarded_host && is(b"x-forwarded-host") => reported.host.add(host(value)),
                16 if trusted.forwarded_port && is(b"x-forwarded-port") => reported.port.add(port(value)),
                17 if trusted.forwarded_proto && is(b"x-forwarded-proto") => {
                    reported.scheme.add(scheme(value));
                }
                _ => {}
            }
        }
        // The last element is the nearest proxy's.
        for (name, value) in forwarded.and_then(|value| elements(value).last()).into_iter().flat_map(pairs) {
            if name.eq_ignore_ascii_case(b"proto") && reported.scheme == Reported::Absent {
                reported.scheme.add(scheme(value));
            } else if name.eq_ignore_ascii_case(b"host") && reported.host == Reported::Absent {
                reported.host.add(host(value));
            }
        }
        reported
    }

    /// Combines the reported values with those of the connection. A proxy that reports the scheme or the host, but no
    /// port, means the port of that host, or the default port of the scheme.
    pub(crate) fn resolve(self, authority: &'a [u8], listener_origin: ListenerOrigin) -> RequestOrigin<'a> {
        let scheme = self.scheme.value().unwrap_or(listener_origin.scheme);
        let host = self.host.value().unwrap_or(authority);
        let is_reported = self.scheme.value().is_some() || self.host.value().is_some();
        let implied_port = || {
            let named = authority::split_host_port(host).and_then(|(_, digits)| port(digits?));
            named.unwrap_or(if matches!(scheme, "https" | "wss") { 443 } else { 80 })
        };
        let port =
            self.port.value().or_else(|| is_reported.then(implied_port)).unwrap_or(listener_origin.port);
        RequestOrigin { scheme, host, port }
    }
}

/// The `for` values of all `Forwarded` fields (RFC 7239), in message order; empty for an element without one.
pub(crate) fn forwarded_nodes<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values.flat_map(elements).map(|element| {
        let mut nodes = pairs(element).filter(|(name, _)| name.eq_ignore_ascii_case(b"for"));
        match (nodes.next(), nodes.next()) {
            (Some((_, node)), None) => node,
            (_, _) => &b""[..],
        }
    })
}

/// The elements of a `Forwarded` value.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    split_unquoted(value, b',').filter(|element| !element.is_empty())
}

/// The pairs of one element. Values are unquoted; one with an escape is empty.
fn pairs(element: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    split_unquoted(element, b';').filter_map(|pair| {
        let equals = pair.iter().position(|octet| *octet == b'=')?;
        let (name, value) = pair.split_at_checked(equals)?;
        let value = match value.get(1..)? {
            [b'"', inner @ .., b'"'] if inner.contains(&b'\\') || inner.contains(&b'"') => b"",
            [b'"', inner @ .., b'"'] => inner,
            token => token,
        };
        Some((trim_ows(name), value))
    })
}

/// Splits at a delimiter outside of quoted strings.
fn split_unquoted(text: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |octet| {
        let was_escaped = std::mem::take(&mut escaped);
        match octet {
            b'"' if !was_escaped => quoted = !quoted,
            b'\\' if quoted && !was_escaped => escaped = true,
            _ => {}
        }
        *octet == delimiter && !quoted
    })
    .map(trim_ows)
}

fn scheme(value: &[u8]) -> Option<&'static str> {
    ["https", "http", "wss", "ws"].into_iter().find(|scheme| value.eq_ignore_ascii_case(scheme.as_bytes()))
}

fn host(value: &[u8]) -> Option<&[u8]> {
    authority::check_authority(value).ok().map(|()| value)
}

fn port(digits: &[u8]) -> Option<u16> {
    let all_digits = !digits.is_empty() && digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit);
    all_digits
        .then(|| digits.iter().fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0')))
        .and_then(|value| u16::try_from(value).ok())
        .filter(|port| *port != 0)
}

#[cfg(test)]
#[path = "reported_origin_tests.rs"]
#[allow(clippy::unwrap_used)]
mod tests;
