//! Parses the `Origin` of browsers, and the patterns of allowed origins.
//!
//! An origin is a scheme, a host and a port (RFC 6454 3; serialised by the WHATWG URL standard). Origins and
//! patterns are compared part by part, never as text, so an origin that merely contains an allowed one does not match.

use super::authority;

/// A parsed origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    scheme: &'a [u8],
    host: &'a [u8],
    /// `None` if the origin has no port and the scheme no default port.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    /// Parses `scheme://host[:port]`; `None` for anything else, including `null` and lists of origins.
    pub fn parse(text: &'a [u8]) -> Option<Origin<'a>> {
        let colon = text.iter().position(|octet| *octet == b':')?;
        let (scheme, rest) = text.split_at_checked(colon)?;
        let host_port = rest.strip_prefix(b"://")?;
        if !is_scheme(scheme) {
            return None;
        }
        authority::check_authority(host_port).ok()?;
        let (host, port) = authority::split_host_port(host_port)?;
        let port = match port {
            None => default_port(scheme),
            // `check_authority` accepts an empty port, but browsers never send one.
            Some(digits) => Some(parse_port(digits)?),
        };
        Some(Origin { scheme, host, port })
    }
}

/// A pattern of a list of allowed origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    scheme: String,
    host: HostPattern,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Exact(String),
    /// `.example.com`, preceded by one or more labels.
    Subdomains(String),
}

/// Why a text is not a valid origin pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidOriginPattern<'a> {
    /// `null`, which every sandboxed page and local file sends.
    Null,
    /// `scheme://` is missing.
    MissingScheme,
    /// The text is longer than an origin; the field has the origin part.
    HasPath(&'a str),
    /// A `*` that is not the first label of a host name.
    MisplacedWildcard,
    /// The host is not valid.
    InvalidHost,
    /// The port is not a number up to 65535.
    InvalidPort,
}

impl OriginPattern {
    /// Parses `scheme://host[:port]`, where the host may start with `*.`.
    ///
    /// # Errors
    /// The reason why the text is not a valid pattern.
    pub fn parse(text: &str) -> Result<OriginPattern, InvalidOriginPattern<'_>> {
        if text.eq_ignore_ascii_case("null") {
            return Err(InvalidOriginPattern::Null);
        }
        let Some((scheme, host_port)) = text.split_once("://") else {
            return Err(InvalidOriginPattern::MissingScheme);
        };
        if !is_scheme(scheme.as_bytes()) {
            return Err(InvalidOriginPattern::MissingScheme);
        }
        if let Some(end) = host_port.find(['/', '?', '#']) {
            let origin = text.get(..scheme.len() + 3 + end).unwrap_or_default();
            return Err(InvalidOriginPattern::HasPath(origin));
        }
        let (is_wildcard, host_port) =
            host_port.strip_prefix("*.").map_or((false, host_port), |rest| (true, rest));
        if host_port.contains('*') {
            return Err(InvalidOriginPattern::MisplacedWildcard);
        }
        let (host, port) =
            authority::split_host_port(host_port.as_bytes()).ok_or(InvalidOriginPattern::InvalidHost)?;
        let port = match port {
            None => default_port(scheme.as_bytes()),
            Some(digits) => Some(parse_port(digits).ok_or(InvalidOriginPattern::InvalidPort)?),
        };
        authority::check_authority(host).map_err(|_| InvalidOriginPattern::InvalidHost)?;
        let host =
            String::from_utf8(host.to_ascii_lowercase()).map_err(|_| InvalidOriginPattern::InvalidHost)?;
        if is_wildcard && host.starts_with('[') {
            return Err(InvalidOriginPattern::MisplacedWildcard);
        }
        let host =
            if is_wildcard { HostPattern::Subdomains(format!(".{host}")) } else { HostPattern::Exact(host) };
        Ok(OriginPattern { scheme: scheme.to_ascii_lowercase(), host, port })
    }

    /// Whether the pattern matches this origin. Scheme and host are case-insensitive.
    pub fn matches(&self, origin: &Origin<'_>) -> bool {
        let host = match &self.host {
            HostPattern::Exact(host) => origin.host.eq_ignore_ascii_case(host.as_bytes()),
            HostPattern::Subdomains(suffix) => {
                let labels = origin.host.len().checked_sub(suffix.len()).filter(|labels| *labels > 0);
                let end = labels.and_then(|labels| origin.host.get(labels..));
                end.is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
            }
        };
        host && self.port == origin.port && origin.scheme.eq_ignore_ascii_case(self.scheme.as_bytes())
    }
}

/// Whether the text is a URI scheme (RFC 3986 3.1).
fn is_scheme(scheme: &[u8]) -> bool {
    scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'))
}

/// The default port, which browsers omit.
fn default_port(scheme: &[u8]) -> Option<u16> {
    if scheme.eq_ignore_ascii_case(b"https") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case(b"http") {
        Some(80)
    } else {
        None
    }
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    let all_digits = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| all_digits)?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_scheme_host_and_port() {
        // (pattern, origins that match, origins that do not)
        let table: &[(&str, &[&str], &[&str])] = &[
            (
                "https://app.example.com",
                &["https://app.example.com", "HTTPS://App.Example.COM", "https://app.example.com:443"],
                &[
                    "http://app.example.com",
                    "https://app.example.com:8443",
                    "https://app.example.com.",
                    "https://app.example.com.evil.org",
                    "https://evilapp.example.com",
                    "https://x.app.example.com",
                    "https://app.example.com/",
                    "https://app.example.com:",
                    "https://app.example.com:443:443",
                    "https://user@app.example.com",
                    "https://app.example.com https://app.example.com",
                    "app.example.com",
                    "null",
                    "",
                ],
            ),
            (
                "https://*.example.com",
                &["https://a.example.com", "https://a.b.example.com", "https://A.EXAMPLE.com"],
                &[
                    "https://example.com",
                    "https://.example.com",
                    "https://a..example.com",
                    "https://aexample.com",
                    "https://a.example.com.evil.org",
                    "https://evil.org/.example.com",
                    "https://evil.org?.example.com",
                    "https://evil.org#.example.com",
                    "https://evil.org@.example.com",
                    "https://evil.org:80.example.com",
                    "https://evil.org\\.example.com",
                    "https://evil.org%2f.example.com",
                    "https://evil.org .example.com",
                    "https://*.example.com:8443",
                    "http://a.example.com",
                    "https://a.example.com:444",
                ],
            ),
            (
                "http://localhost:3000",
                &["http://localhost:3000"],
                &["http://localhost", "http://localhost:3001"],
            ),
            ("http://[::1]:3000", &["http://[::1]:3000"], &["http://[::2]:3000"]),
            ("http://127.0.0.1:80", &["http://127.0.0.1"], &["https://127.0.0.1"]),
            ("capacitor://localhost", &["capacitor://localhost"], &["http://localhost", "capacitor://x"]),
        ];
        for (pattern, matching, others) in table {
            let parsed = OriginPattern::parse(pattern).unwrap();
            let matches =
                |text: &str| Origin::parse(text.as_bytes()).is_some_and(|origin| parsed.matches(&origin));
            for origin in *matching {
                assert!(matches(origin), "{pattern} must match {origin}");
            }
            for origin in *others {
                assert!(!matches(origin), "{pattern} must not match {origin}");
            }
        }
    }

    #[test]
    fn invalid_pattern_is_explained() {
        let table = [
            ("null", InvalidOriginPattern::Null),
            ("app.example.com", InvalidOriginPattern::MissingScheme),
            ("://app.example.com", InvalidOriginPattern::MissingScheme),
            ("*", InvalidOriginPattern::MissingScheme),
            ("https://app.example.com/", InvalidOriginPattern::HasPath("https://app.example.com")),
            ("https://app.example.com:8/x?y", InvalidOriginPattern::HasPath("https://app.example.com:8")),
            ("https://*", InvalidOriginPattern::MisplacedWildcard),
            ("https://app.*.com", InvalidOriginPattern::MisplacedWildcard),
            ("https://*.*.com", InvalidOriginPattern::MisplacedWildcard),
            ("https://*app.com", InvalidOriginPattern::MisplacedWildcard),
            ("https://*.[::1]", InvalidOriginPattern::MisplacedWildcard),
            ("https://", InvalidOriginPattern::InvalidHost),
            ("https://*.", InvalidOriginPattern::InvalidHost),
            ("https://user@app.example.com", InvalidOriginPattern::InvalidHost),
            ("https://bücher.example", InvalidOriginPattern::InvalidHost),
            ("https://a..b", InvalidOriginPattern::InvalidHost),
            ("https://a:", InvalidOriginPattern::InvalidPort),
            ("https://a:+1", InvalidOriginPattern::InvalidPort),
            ("https://a:65536", InvalidOriginPattern::InvalidPort),
        ];
        for (text, expected) in table {
            assert_eq!(OriginPattern::parse(text), Err(expected), "{text}");
        }
    }
}
