//! Parses the values of [`super::syntaxes`]: what is wrong with a text, and what would be right.
//!
//! Durations, sizes and addresses are in [`super::super::units`].

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, Method};

use super::super::problem::{Diagnostic, closest_match, join_or, quoted};
use super::super::units::{self, header_name, is_digits, method};
use crate::contract::causes::UPSTREAM_RESPONSE;
use crate::contract::{Cause, FixedStatus, JsonPath, RedirectStatus, header_filter};
use crate::http::authority::{self, UpstreamHost};
use crate::http::origin::{InvalidOriginPattern, OriginPattern};
use crate::http::{hop_by_hop, upgrade};
use crate::limit::KeyPart;
use crate::limit::redis::{Address, AddressError};
use crate::upstream::settings::{HashKey, NameSource};

const KEY_PARTS: [&str; 9] = [
    "client_ip",
    "host",
    "method",
    "route",
    "header:NAME",
    "cookie:NAME",
    "query:NAME",
    "path:NAME",
    "body:NAME",
];

pub(super) fn positive_duration(text: &str) -> Result<Duration, Diagnostic> {
    let is_zero = !text.is_empty() && text.bytes().all(|digit| digit == b'0');
    match units::duration(text) {
        Ok(Duration::ZERO) => Err(zero_duration()),
        Err(_) if is_zero => Err(zero_duration()),
        parsed => parsed,
    }
}

fn zero_duration() -> Diagnostic {
    Diagnostic::new("the duration must be greater than 0", "use a duration such as 1s")
}

pub(super) fn whole_seconds(
    text: &str,
    range: RangeInclusive<u64>,
    purpose: &str,
    bounds: &str,
) -> Result<u64, Diagnostic> {
    let time = units::duration(text)?;
    if time.subsec_nanos() > 0 || !range.contains(&time.as_secs()) {
        let message = format!("{} cannot be {purpose}", quoted(text));
        let comma = if bounds.starts_with("from") { "" } else { "," };
        return Err(Diagnostic::new(message, format!("use whole seconds{comma} {bounds}")));
    }
    Ok(time.as_secs())
}

pub(super) fn or_off<T>(
    text: &str,
    example: &str,
    parse: impl Fn(&str) -> Result<T, Diagnostic>,
) -> Result<Option<T>, Diagnostic> {
    match text {
        "off" => Ok(None),
        // `false`, `never`, `unlimited`.
        word if word.starts_with(char::is_alphabetic) => {
            let help = format!("write off, or a value such as {example}");
            Err(Diagnostic::new(format!("{} is not allowed here", quoted(word)), help))
        }
        text => parse(text).map(Some),
    }
}

pub(super) fn percent(text: &str) -> Result<u32, Diagnostic> {
    let digits = text.strip_suffix('%').filter(|digits| is_digits(digits));
    match digits.and_then(|digits| digits.parse::<u32>().ok()).filter(|percent| *percent <= 100) {
        Some(percent) => Ok(percent),
        None if is_digits(text) && text.len() <= 2 => {
            Err(Diagnostic::new(format!("{} has no unit", quoted(text)), format!("write {text}%")))
        }
        None => Err(Diagnostic::new(
            format!("{} is not a percentage", quoted(text)),
            "write a whole number from 0% to 100%, for example 20%",
        )),
    }
}

pub(super) fn workers(text: &str) -> Result<Option<usize>, Diagnostic> {
    match text.parse::<usize>() {
        _ if text == "auto" => Ok(None),
        Ok(number) if (1..=1024).contains(&number) => Ok(Some(number)),
        Ok(number) => Err(Diagnostic::new(format!("{number} is out of range"), "expected 1 to 1024")),
        Err(_) => {
            let message = format!("{} is not a number of threads", quoted(text));
            Err(Diagnostic::new(message, "expected auto or 1 to 1024"))
        }
    }
}

pub(super) fn host_choice(text: &str) -> Result<UpstreamHost, Diagnostic> {
    match text {
        "client" => Ok(UpstreamHost::Client),
        "server" => Ok(UpstreamHost::Server),
        name => match authority::check_authority(name.as_bytes()) {
            Ok(()) => Ok(UpstreamHost::Name(name.to_owned())),
            Err(rejection) => Err(Diagnostic::new(
                format!("{} is not a host: {}", quoted(name), rejection.evidence),
                "write client, server, or a host, for example \"api.internal\"",
            )),
        },
    }
}

pub(super) fn kept_field(text: &str) -> Result<HeaderName, Diagnostic> {
    let name = header_name(text)?;
    // Whether the contract can keep this field, in the case that keeps most fields.
    let context = header_filter::HeaderFilterContext {
        status_sent: 416,
        gateway_cors: false,
        extra_kept: std::slice::from_ref(&name),
        contract_kept: &[],
        now: SystemTime::UNIX_EPOCH,
    };
    let is_keepable = header_filter::keep_on_replaced(&name, &HeaderValue::from_static("1"), context);
    if hop_by_hop::is_hop_by_hop(&name) || !is_keepable {
        let message = format!(
            "{} cannot be kept: the field describes the body, the connection or the gateway's response",
            quoted(text)
        );
        return Err(Diagnostic::new(message, "remove it"));
    }
    Ok(name)
}

pub(super) fn message_path(text: &str) -> Result<JsonPath, Diagnostic> {
    JsonPath::parse(text).ok_or_else(|| {
        let message = format!("{} is not a place in a JSON body", quoted(text));
        Diagnostic::new(message, "write names and indices, for example fault.faultstring or errors[0].text")
    })
}

pub(super) fn key_part(text: &str) -> Result<KeyPart, Diagnostic> {
    let unknown_part = || {
        let message = format!("{} is not a valid key part", quoted(text));
        match closest_match(text, KEY_PARTS) {
            Some(near) => Diagnostic::new(message, format!("did you mean {}?", quoted(near))),
            None => Diagnostic::new(message, format!("expected {}", join_or(&KEY_PARTS))),
        }
    };
    match text.split_once(':') {
        None => match text {
            "client_ip" => Ok(KeyPart::ClientIp),
            "host" => Ok(KeyPart::Host),
            "method" => Ok(KeyPart::Method),
            "route" => Ok(KeyPart::Route),
            _ => Err(unknown_part()),
        },
        Some(("header", name)) => header_name(name).map(KeyPart::Header).map_err(|_| {
            let message = format!("{} is not a valid key part", quoted(text));
            Diagnostic::new(message, "use letters, digits and -, for example header:x-api-key")
        }),
        Some((kind @ ("body" | "cookie" | "query" | "path"), name)) => {
            if name.is_empty() {
                let message = format!("{} has no name", quoted(text));
                return Err(Diagnostic::new(
                    message,
                    format!("write one after the colon, for example {kind}:id"),
                ));
            }
            Ok(match kind {
                "body" => KeyPart::Body(name.into()),
                "cookie" => KeyPart::Cookie(name.into()),
                "query" => KeyPart::Query(name.into()),
                _ => KeyPart::Path(name.into()),
            })
        }
        Some(_) => Err(unknown_part()),
    }
}

/// 64 hexadecimal digits.
pub(super) fn sha256(text: &str) -> Result<[u8; 32], Diagnostic> {
    // The text may be the secret itself, so the message does not repeat it.
    let error = || {
        Diagnostic::new(
            "the value is not a SHA-256",
            "write the 64 hexadecimal digits that `printf %s VALUE | sha256sum` prints",
        )
    };
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return Err(error());
    }
    for (slot, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| error())?;
        *slot = u8::from_str_radix(pair, 16).map_err(|_| error())?;
    }
    Ok(digest)
}

pub(super) fn hash_key(text: &str) -> Result<HashKey, Diagnostic> {
    if text == "client_ip" {
        return Ok(HashKey::ClientIp);
    }
    if let Some(name) = text.strip_prefix("header:") {
        return header_name(name).map(|name| HashKey::Header(name.as_str().to_owned()));
    }
    match text.strip_prefix("cookie:") {
        Some(name) if !name.is_empty() => Ok(HashKey::Cookie(name.to_owned())),
        Some(_) | None => Err(Diagnostic::new(
            format!("{} cannot be hashed", quoted(text)),
            "write client_ip, header:NAME or cookie:NAME, for example hash: client_ip",
        )),
    }
}

/// The target of a request, without a fragment.
pub(super) fn health_path(text: &str) -> Result<String, Diagnostic> {
    let is_allowed = |octet: u8| octet.is_ascii_graphic() && octet != b'#';
    if text.starts_with('/') && text.bytes().all(is_allowed) {
        return Ok(text.to_owned());
    }
    let message = format!("{} is not a path", quoted(text));
    Err(Diagnostic::new(message, "write it as in a URL, for example path: /healthz"))
}

/// The address of a backend. Messages never repeat it, because it may contain a password.
pub(super) fn address(text: &str) -> Result<Address, Diagnostic> {
    Address::parse(text).map_err(|AddressError(message, help)| Diagnostic::new(message, help))
}

pub(super) fn prefix(text: &str) -> Result<String, Diagnostic> {
    // Braces would form a hash tag of Redis Cluster.
    let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || b":._-".contains(&octet);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(is_allowed) {
        let message = format!("{} is not a valid key prefix", quoted(text));
        return Err(Diagnostic::new(message, "use at most 64 letters, digits, :, ., _ or -"));
    }
    Ok(text.to_owned())
}

/// A shorter secret can be brute-forced.
pub(super) fn secret_text(text: &str) -> Result<String, Diagnostic> {
    if text.chars().count() < 16 {
        let help = "use at least 16 characters, for example the output of `openssl rand -hex 16`";
        return Err(Diagnostic::new("the secret is too short", help));
    }
    Ok(text.to_owned())
}

pub(super) fn parse_status(text: &str) -> Result<u16, Diagnostic> {
    let number = if is_digits(text) { text.parse().ok() } else { None };
    number.filter(|status| (400..=599).contains(status)).ok_or_else(|| {
        Diagnostic::new(format!("{} is not an error status code", quoted(text)), "expected 400 to 599")
    })
}

/// A cause, or `None` for `upstream_response`.
pub(super) fn condition_cause(name: &str) -> Result<Option<Cause>, Diagnostic> {
    if name == UPSTREAM_RESPONSE { Ok(None) } else { cause(name).map(Some) }
}

/// The cause of this name.
pub(crate) fn cause(name: &str) -> Result<Cause, Diagnostic> {
    Cause::from_name(name).ok_or_else(|| {
        let known = Cause::ALL.iter().map(|cause| cause.name()).chain([UPSTREAM_RESPONSE]);
        let help = match closest_match(name, known) {
            Some(near) => format!("did you mean {}?", quoted(near)),
            None => "expected the name of a cause, for example connection_refused".to_owned(),
        };
        Diagnostic::new(format!("unknown cause {}", quoted(name)), help)
    })
}

/// The name of a field, or the beginning of names.
pub(super) fn field_pattern(text: &str) -> Result<String, Diagnostic> {
    let pattern = text.to_ascii_lowercase();
    let name = pattern.strip_suffix('*').unwrap_or(&pattern);
    if !name.contains('*') && header_name(name).is_ok() {
        return Ok(pattern);
    }
    let message = format!("{} is not a field name", quoted(text));
    Err(Diagnostic::new(
        message,
        "write a name such as x-shop-hint, or x-shop-* for every name that begins so",
    ))
}

/// An origin, or `None` for all.
pub(super) fn origin(text: &str) -> Result<Option<OriginPattern>, Diagnostic> {
    if text == "*" {
        return Ok(None);
    }
    OriginPattern::parse(text).map(Some).map_err(|error| {
        let not_an_origin =
            |help: String| Diagnostic::new(format!("{} is not an origin", quoted(text)), help);
        match error {
            InvalidOriginPattern::Null => Diagnostic::new(
                "\"null\" is the origin of every sandboxed page, so it is never allowed",
                "serve the page from a named origin, and list that origin",
            ),
            InvalidOriginPattern::MissingScheme => {
                not_an_origin(format!("start with the scheme, for example {}", quoted(&suggest_origin(text))))
            }
            InvalidOriginPattern::HasPath(only) => {
                not_an_origin(format!("an origin has no path: write {}", quoted(only)))
            }
            InvalidOriginPattern::MisplacedWildcard => not_an_origin(
                "use * for whole leading labels only, for example \"https://*.example.com\"".to_owned(),
            ),
            InvalidOriginPattern::InvalidHost if !text.is_ascii() => {
                not_an_origin("write the host as browsers send it, in its xn-- form (Punycode)".to_owned())
            }
            InvalidOriginPattern::InvalidHost => not_an_origin(
                "expected scheme://host or scheme://host:port, for example \"https://app.example.com\""
                    .to_owned(),
            ),
            InvalidOriginPattern::InvalidPort => not_an_origin("use a port from 1 to 65535".to_owned()),
        }
    })
}

/// The origin that was probably intended.
fn suggest_origin(text: &str) -> String {
    let host = text.trim_start_matches("://").trim_start_matches('/');
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let suggestion = format!("https://{host}");
    if OriginPattern::parse(&suggestion).is_ok() { suggestion } else { "https://app.example.com".to_owned() }
}

pub(super) fn allowed_method(text: &str) -> Result<Method, Diagnostic> {
    if text == "*" {
        let diagnostic = Diagnostic::new(
            "\"*\" is not a method",
            "remove allow_methods to allow the methods of the route",
        );
        return Err(diagnostic);
    }
    method(text)
}

pub(super) fn allowed_header(text: &str) -> Result<HeaderName, Diagnostic> {
    if text == "*" {
        let diagnostic = Diagnostic::new(
            "\"*\" is not a valid field name",
            "remove allow_headers to allow the requested fields",
        );
        return Err(diagnostic);
    }
    header_name(text)
}

pub(super) fn protocol(text: &str) -> Result<String, Diagnostic> {
    let name = text.to_ascii_lowercase();
    match upgrade::forbidden_reason(&name) {
        None => Ok(name),
        Some(reason) => {
            Err(Diagnostic::new(format!("{} cannot be tunnelled: {reason}", quoted(text)), "remove it"))
        }
    }
}

pub(super) fn redirect_code(text: &str) -> Result<RedirectStatus, Diagnostic> {
    text.parse().ok().and_then(RedirectStatus::from_code).ok_or_else(|| {
        Diagnostic::new(format!("{} is not a redirect", quoted(text)), "write 301, 302, 303, 307 or 308")
    })
}

pub(super) fn fixed_code(text: &str) -> Result<FixedStatus, Diagnostic> {
    let code = text.parse().ok();
    code.and_then(FixedStatus::from_code).ok_or_else(|| {
        let help = match code {
            Some(301..=303 | 307 | 308) => "write 200 to 399, or redirect in place of respond".to_owned(),
            Some(code @ 400..=599) => {
                format!("write 200 to 399, or code: {code} for an error of the contract")
            }
            Some(_) | None => "write 200 to 399".to_owned(),
        };
        Diagnostic::new(format!("{} is not the status of a fixed response", quoted(text)), help)
    })
}

/// A media type with its parameters (RFC 9110, section 8.3.1).
pub(super) fn media_type(text: &str) -> Result<HeaderValue, Diagnostic> {
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let is_name = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&octet))
    };
    let is_type = essence.split_once('/').is_some_and(|(main, sub)| is_name(main) && is_name(sub));
    let value = HeaderValue::from_str(text).ok().filter(|_| is_type && text.is_ascii());
    value.ok_or_else(|| {
        Diagnostic::new(
            format!("{} is not a media type", quoted(text)),
            "write TYPE/SUBTYPE, for example text/plain",
        )
    })
}

pub(super) fn resolver(text: &str) -> Result<NameSource, Diagnostic> {
    const PORT: u16 = 53;
    let server = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT)).or_else(|_| text.parse());
    match text {
        "dns" => Ok(NameSource::Dns),
        "system" => Ok(NameSource::System),
        _ => match server() {
            Ok(address) if address.port() != 0 => Ok(NameSource::NameServers(vec![address])),
            Ok(_) | Err(_) => Err(not_a_name_server(text)),
        },
    }
}

/// The diagnostic for an item of a list that is not the address of a name server.
pub(crate) fn not_a_name_server(text: &str) -> Diagnostic {
    Diagnostic::new(
        format!("{} is not the address of a name server", quoted(text)),
        "write dns, system, or the addresses of name servers, for example [10.0.0.53, \"127.0.0.1:8600\"]",
    )
}

pub(super) fn size_or_zero(text: &str) -> Result<u64, Diagnostic> {
    match text {
        "0" => Ok(0),
        "off" | "false" => Err(Diagnostic::new(format!("{} is not a size", quoted(text)), "write 0")),
        text => units::size(text),
    }
}
