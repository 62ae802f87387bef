//! Parses the address of a server of an upstream: `host:port`, a URL with or without a base path, or a Unix socket.

use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;

use super::problem::{Diagnostic, quoted, refuse};
use super::socket_path::socket_path;
use super::suggestions;
use super::units::{host_name, is_digits};
use crate::http::base_path::BasePath;

/// The address of a server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    /// A name or an address without brackets, in lower case.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it uses TLS (`https://`).
    pub tls: bool,
    /// The Unix socket (`unix:/path`); host and port are then `localhost` and 80.
    pub socket: Option<Arc<Path>>,
    /// The base path of its URL.
    pub base_path: Option<BasePath>,
}

/// A server of an upstream: `host:port`, `http://host[:port][/base/path]`, the same with `https`, or `unix:/path`.
///
/// # Errors
/// The port is missing, the path is none that all servers read alike, or port 443 is used without https.
pub(crate) fn server(text: &str) -> Result<ServerAddress, Diagnostic> {
    if let Some(socket) = suggestions::socket(text) {
        return refuse(text, "is not a socket with a path", format!("write {}", quoted(&socket)));
    }
    if let Some(path) = text.strip_prefix("unix:").filter(|rest| !is_digits(rest)) {
        let (host, socket) = ("localhost".to_owned(), Some(socket_path(path)?));
        return Ok(ServerAddress { host, port: 80, tls: false, socket, base_path: None });
    }
    if let Some((authority, path)) = text.split_once('/').filter(|_| !text.contains("://"))
        && server(authority).is_ok()
    {
        let help = format!("write \"http://{authority}{}\"", accepted_path(path));
        return refuse(text, "has a path, but no scheme", help);
    }
    if let Some(port) = Some(text.strip_prefix(':').unwrap_or(text)).filter(|port| is_digits(port)) {
        let port = port.parse::<u16>().ok().filter(|port| !matches!(port, 0 | 443)).unwrap_or(8000);
        let help = format!("write \"127.0.0.1:{port}\", or another host");
        return refuse(text, "is only a port", help);
    }
    let schemes = [("http://", 80, false), ("https://", 443, true)];
    let explicit_scheme =
        schemes.iter().find_map(|(scheme, port, tls)| Some((text.strip_prefix(scheme)?, *port, *tls)));
    let (authority, path, default_port, tls) = match explicit_scheme {
        Some((rest, port, tls)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
            (authority, path, Some(port), tls)
        }
        None if text.contains("://") => return Err(unsupported_scheme(text)),
        None => (text, "", None, false),
    };
    let (host, port) = host_and_port(text, authority)?;
    let port = match (port, default_port) {
        ("", Some(port)) => port,
        ("", None) if authority.ends_with(':') => return Err(not_an_address(text)),
        ("", None) => return refuse(text, "has no port", format!("write \"{authority}:8000\"")),
        (digits, _) => digits.parse().ok().filter(|port| *port != 0).ok_or_else(|| not_an_address(text))?,
    };
    if port == 443 && !tls {
        let authority = authority.strip_suffix(":443").unwrap_or(authority);
        return Err(Diagnostic::new("port 443 is for TLS", format!("write \"https://{authority}{path}\"")));
    }
    let base_path = if path.is_empty() { Ok(None) } else { BasePath::parse(path) };
    let base_path = base_path.map_err(|reason| {
        let scheme = if tls { "https" } else { "http" };
        let message = format!("the base path of {} {reason}", quoted(text));
        Diagnostic::new(message, format!("write \"{scheme}://{authority}{}\"", accepted_path(path)))
    })?;
    Ok(ServerAddress { host, port, tls, socket: None, base_path })
}

/// The segments of a path that may stand in a base path.
fn accepted_path(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let segments = path.split('/').filter(|segment| !segment.is_empty()).map(|segment| format!("/{segment}"));
    segments.filter(|segment| matches!(BasePath::parse(segment), Ok(Some(_)))).collect()
}

fn not_an_address(text: &str) -> Diagnostic {
    let form = || "expected host:port, for example \"api.internal:80\"".to_owned();
    Diagnostic::of(
        text,
        "is not an address",
        suggestions::servers(text, |meant| server(meant).is_ok()).unwrap_or_else(form),
    )
}

fn unsupported_scheme(text: &str) -> Diagnostic {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        // A suggestion must not lose TLS.
        "https" | "wss" | "h2" | "grpcs" | "tls" | "ssl" => "https://",
        "http" | "ws" | "h2c" | "grpc" => "http://",
        "tcp" | "udp" if rest.contains(':') => "",
        _ => "http://",
    };
    let authority = rest.split('/').next().unwrap_or("");
    let known = [format!("{scheme}{rest}"), format!("{scheme}{authority}")];
    let help = known.iter().find(|address| server(address).is_ok()).map_or_else(
        || "use http://, https:// or host:port".to_owned(),
        |address| format!("write {}", quoted(address)),
    );
    Diagnostic::of(text, "has an unsupported scheme", help)
}

/// The host and the port of an authority; the port is empty if there is none.
fn host_and_port<'a>(text: &str, authority: &'a str) -> Result<(String, &'a str), Diagnostic> {
    let error = || not_an_address(text);
    match authority.strip_prefix('[') {
        Some(rest) => {
            let (inside, after_bracket) = rest.split_once(']').ok_or_else(error)?;
            let address: Ipv6Addr = inside.parse().map_err(|_| error())?;
            let port = after_bracket.strip_prefix(':').or(after_bracket.is_empty().then_some(""));
            Ok((address.to_string(), port.ok_or_else(error)?))
        }
        None if authority.parse::<Ipv6Addr>().is_ok() => {
            let help = format!("write \"[{authority}]:8000\"");
            refuse(text, "has no port", help)
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            Ok((host_name(host).ok_or_else(error)?, port))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn server_is_host_and_port_only() {
        for (text, host, port, tls) in [
            ("10.0.1.10:8000", "10.0.1.10", 8000, false),
            ("http://Api.Internal", "api.internal", 80, false),
            ("unix:8000", "unix", 8000, false),
            ("http://api.internal:8000/", "api.internal", 8000, false),
            ("[fd00::1]:8000", "fd00::1", 8000, false),
            ("http://[::1]", "::1", 80, false),
            ("https://Api.Internal/", "api.internal", 443, true),
            ("https://[::1]:8443", "::1", 8443, true),
        ] {
            let host = host.to_owned();
            let expected = ServerAddress { host, port, tls, socket: None, base_path: None };
            assert_eq!(server(text), Ok(expected), "{text}");
        }
        for (text, port, path) in [
            ("http://api:3000/api", 3000, "/api"),
            ("https://api/api/v1/", 443, "/api/v1"),
            ("http://[::1]:80/a%2Fb", 80, "/a%2Fb"),
        ] {
            let server = server(text).unwrap();
            assert_eq!((server.port, server.base_path.unwrap().as_str()), (port, path), "{text}");
        }
        for (text, help) in [
            ("http://api/a/../b", "write \"http://api/a/b\""),
            ("https://api:8443//a?x=1", "write \"https://api:8443/a\""),
            ("http://api/?x", "write \"http://api\""),
            ("http://api?x", "write \"http://api\""),
            ("http://api:443/a", "write \"https://api/a\""),
            ("api:80/x/", "write \"http://api:80/x\""),
            ("HTTPS://api.internal", "write \"https://api.internal\""),
            ("Https://api:8443/v1", "write \"https://api:8443/v1\""),
            ("wss://api.internal", "write \"https://api.internal\""),
            ("ws://api:80", "write \"http://api:80\""),
            ("tcp://api:80", "write \"api:80\""),
        ] {
            assert_eq!(server(text).unwrap_err().help, help, "{text}");
            assert!(server(help.split('"').nth(1).unwrap()).is_ok(), "{help}");
        }
        for (text, what) in [
            ("http//api:80", "\"http//api:80\" is not an address"),
            ("api", "\"api\" has no port"),
            ("fd00::1", "\"fd00::1\" has no port"),
            ("api:0", "\"api:0\" is not an address"),
            ("api:", "\"api:\" is not an address"),
            ("api:80/x", "\"api:80/x\" has a path, but no scheme"),
            ("http://user@api:80", "\"http://user@api:80\" is not an address"),
            ("[::1]8000", "\"[::1]8000\" is not an address"),
            ("ftp://api:21", "\"ftp://api:21\" has an unsupported scheme"),
            ("https://api/x#y", "the base path of \"https://api/x#y\" has a query or a fragment"),
            ("api:443", "port 443 is for TLS"),
            ("http://[::1]:443", "port 443 is for TLS"),
        ] {
            assert_eq!(server(text).unwrap_err().message, what, "{text}");
        }
    }
}
