//! Parses the values of [`super::syntaxes`]: what is wrong with a text, and what would be right.
//!
//! Durations, sizes and addresses are in [`super::super::units`].

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, Method};

use super::super::problem::{Diagnostic, NOT_YET, did_you_mean, quoted, refuse, suggestion};
use super::super::suggestions;
use super::super::units::{self, header_name, is_digits, method};
use crate::contract::causes::UPSTREAM_RESPONSE;
use crate::contract::{Cause, FixedStatus, JsonPath, RedirectStatus, header_filter};
use crate::http::authority::{self, UpstreamHost};
use crate::http::origin::{InvalidOriginPattern, OriginPattern};
use crate::http::{hop_by_hop, upgrade};
use crate::limit::KeyPart;
use crate::limit::redis::{Address, AddressError};
use crate::upstream::settings::{HashKey, NameSource};

pub(super) fn positive_duration(text: &str) -> Result<Duration, Diagnostic> {
    let is_zero = !text.is_empty() && text.bytes().all(|digit| digit == b'0');
    let parsed = units::duration(text);
    if parsed == Ok(Duration::ZERO) || parsed.is_err() && is_zero {
        return Err(Diagnostic::new("the duration must be greater than 0", "use a duration such as 1s"));
    }
    parsed
}

pub(super) fn whole_seconds(
    text: &str,
    range: RangeInclusive<u64>,
    purpose: &str,
    bounds: &str,
) -> Result<u64, Diagnostic> {
    let time = units::duration(text)?;
    if time.subsec_nanos() == 0 && range.contains(&time.as_secs()) {
        return Ok(time.as_secs());
    }
    let comma = if bounds.starts_with("from") { "" } else { "," };
    refuse(text, format!("cannot be {purpose}"), format!("use whole seconds{comma} {bounds}"))
}

pub(super) fn or_off<T>(
    text: &str,
    example: &str,
    parse: impl Fn(&str) -> Result<T, Diagnostic>,
) -> Result<Option<T>, Diagnostic> {
    match text {
        "off" => Ok(None),
        // `false`, `never`, `unlimited`; 0 and -1 in other tools.
        word if word.starts_with(char::is_alphabetic) || matches!(word, "0" | "0s" | "-1") => {
            refuse(word, "is not allowed here", format!("write off, or a value such as {example}"))
        }
        text => parse(text).map(Some),
    }
}

pub(super) fn size_or_zero(text: &str) -> Result<usize, Diagnostic> {
    match text {
        "0" => Ok(0),
        "off" | "false" => refuse(text, "is not a size", "write 0"),
        text => units::size(text).map(|size| usize::try_from(size).unwrap_or(usize::MAX)),
    }
}

pub(super) fn percent(text: &str) -> Result<u32, Diagnostic> {
    let digits = text.strip_suffix('%').filter(|digits| is_digits(digits));
    match digits.and_then(|digits| digits.parse::<u32>().ok()).filter(|percent| *percent <= 100) {
        Some(percent) => Ok(percent),
        None if is_digits(text) && text.len() <= 2 => refuse(text, "has no unit", format!("write {text}%")),
        None => {
            let number = text.trim_end_matches('%').trim().parse::<f32>().ok();
            // `0.5`, a share in other tools.
            let is_share = text.contains('.') && !text.contains('%');
            let meant = number.map(|number| if is_share { number * 100.0 } else { number });
            let meant = meant.filter(|number| (0.0..=100.0).contains(number));
            let form = || "write a whole number from 0% to 100%, for example 20%".to_owned();
            refuse(text, "is not a percentage", meant.map_or_else(form, |meant| format!("write {meant:.0}%")))
        }
    }
}

pub(super) fn workers(text: &str) -> Result<Option<usize>, Diagnostic> {
    match text.parse::<usize>() {
        _ if text == "auto" => Ok(None),
        Ok(number) if (1..=1024).contains(&number) => Ok(Some(number)),
        Ok(number) => Err(Diagnostic::new(format!("{number} is out of range"), "expected 1 to 1024")),
        Err(_) => refuse(text, "is not a number of threads", "expected auto or 1 to 1024"),
    }
}

pub(super) fn host_choice(text: &str) -> Result<UpstreamHost, Diagnostic> {
    match text {
        "client" => Ok(UpstreamHost::Client),
        "server" => Ok(UpstreamHost::Server),
        word if ["client", "true", "on", "yes", "preserve"]
            .iter()
            .any(|other| word.eq_ignore_ascii_case(other)) =>
        {
            refuse(word, "is not a choice", "write \"client\"")
        }
        word if ["server", "false", "off", "no"].iter().any(|other| word.eq_ignore_ascii_case(other)) => {
            refuse(word, "is not a choice", "write \"server\"")
        }
        name if name.contains(['$', '*']) || name.ends_with(":0") => {
            let help = "write client, server, or a host, for example \"api.internal\"";
            refuse(name, "is not one host", help)
        }
        name => match authority::check_authority(name.as_bytes()) {
            Ok(()) => Ok(UpstreamHost::Name(name.to_owned())),
            Err(rejection) => {
                let help = "write client, server, or a host, for example \"api.internal\"";
                refuse(name, format!("is not a host: {}", rejection.evidence), help)
            }
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
    if is_keepable && !hop_by_hop::is_hop_by_hop(&name) {
        return Ok(name);
    }
    let what = "cannot be kept: the field describes the body, the connection or the gateway's response";
    refuse(text, what, "remove it")
}

pub(super) fn message_path(text: &str) -> Result<JsonPath, Diagnostic> {
    let is_foreign = text.starts_with(['$', '/', '#', '.']) || text.contains(['*', '\'', '"']);
    let valid = |text: &str| JsonPath::parse(text).filter(|_| !is_foreign);
    valid(text).ok_or_else(|| {
        let meant = place_in_our_syntax(text).filter(|meant| meant != text && message_path(meant).is_ok());
        let help = meant.map(|meant| format!("write {}", quoted(&meant)));
        let form = || "write names and indices, for example fault.faultstring or errors[0].text".to_owned();
        Diagnostic::of(text, "is not a place in a JSON body", help.unwrap_or_else(form))
    })
}

/// The place that a JSON Pointer (`/errors/0/text`), a JSONPath (`$.errors[*]['text']`) or a filter of jq describes.
fn place_in_our_syntax(text: &str) -> Option<String> {
    let steps = match text.trim_start_matches('#').strip_prefix('/') {
        Some(pointer) => pointer.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect(),
        None => {
            let dotted = text.trim_start_matches('$').replace(['\'', '"'], "");
            let dotted = dotted.replace("[*]", "[0]").replace(".*", "[0]").replace('[', ".").replace(']', "");
            dotted.split('.').map(str::to_owned).filter(|name| !name.is_empty()).collect::<Vec<_>>()
        }
    };
    let mut place = String::new();
    for step in steps {
        match place.is_empty() {
            true => place = step,
            false if is_digits(&step) => place.push_str(&format!("[{step}]")),
            false => place.push_str(&format!(".{step}")),
        }
    }
    (!place.is_empty()).then_some(place)
}

/// The name of one member.
pub(super) fn member_name(text: &str) -> Result<Box<str>, Diagnostic> {
    if !text.is_empty() && !text.contains(['.', '/', '[', '$', '*']) && text.trim() == text {
        return Ok(text.into());
    }
    let place = place_in_our_syntax(text.trim()).unwrap_or_default();
    let name = place.strip_prefix("error.").unwrap_or(&place);
    let help = match name != text && member_name(name).is_ok() {
        true => format!("write {}", quoted(name)),
        false => {
            "members are kept at the top level and inside error: write one name, such as errors".to_owned()
        }
    };
    refuse(text, "is not the name of a member", help)
}

pub(super) fn key_part(text: &str) -> Result<KeyPart, Diagnostic> {
    const KNOWN: [&str; 9] = [
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
    match (text, text.split_once(':')) {
        ("client_ip", _) => Ok(KeyPart::ClientIp),
        ("host", _) => Ok(KeyPart::Host),
        ("method", _) => Ok(KeyPart::Method),
        ("route", _) => Ok(KeyPart::Route),
        (_, Some(("header", name))) if header_name(name).is_ok() => header_name(name).map(KeyPart::Header),
        (_, Some((kind @ ("body" | "cookie" | "query" | "path"), ""))) => {
            refuse(text, "has no name", format!("write one after the colon, for example {kind}:id"))
        }
        (_, Some(("body", name))) => Ok(KeyPart::Body(name.into())),
        (_, Some(("cookie", name))) => Ok(KeyPart::Cookie(name.into())),
        (_, Some(("query", name))) => Ok(KeyPart::Query(name.into())),
        (_, Some(("path", name))) => match name.trim_matches(['{', '}', '*']) {
            plain if plain == name => Ok(KeyPart::Path(name.into())),
            plain => refuse(text, "has braces", format!("write \"path:{plain}\"")),
        },
        (_, Some(_) | None) => {
            let help = match suggestions::key_part(text, |meant| key_part(meant).is_ok()) {
                Some(meant) => format!("write {}", quoted(&meant)),
                None if text.starts_with("header:") => {
                    "use letters, digits and -, for example header:x-api-key".to_owned()
                }
                None => did_you_mean(text, &KNOWN),
            };
            refuse(text, "is not a valid key part", help)
        }
    }
}

/// 64 hexadecimal digits.
pub(super) fn sha256(text: &str) -> Result<[u8; 32], Diagnostic> {
    let mut digest = [0; 32];
    let is_digest = text.len() == 64 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
    let pairs = text.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    let octets = pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok());
    digest.iter_mut().zip(octets).for_each(|(slot, octet)| *slot = octet);
    // The text may be the secret itself, so the message does not repeat it.
    let help = "write the 64 hexadecimal digits that `printf %s VALUE | sha256sum` prints";
    if is_digest { Ok(digest) } else { Err(Diagnostic::new("the value is not a SHA-256", help)) }
}

pub(super) fn hash_key(text: &str) -> Result<HashKey, Diagnostic> {
    match text.split_once(':') {
        None if text == "client_ip" => Ok(HashKey::ClientIp),
        Some(("header", name)) if header_name(name).is_ok() => {
            header_name(name).map(|name| HashKey::Header(name.as_str().to_owned()))
        }
        Some(("cookie", name)) if !name.is_empty() => Ok(HashKey::Cookie(name.to_owned())),
        Some(_) | None => {
            let form =
                || "write client_ip, header:NAME or cookie:NAME, for example hash: client_ip".to_owned();
            let meant = suggestions::key_part(text, |meant| hash_key(meant).is_ok());
            let help = meant.map_or_else(form, |meant| format!("write {}", quoted(&meant)));
            refuse(text, "cannot be hashed", help)
        }
    }
}

/// The target of a request, without a fragment.
pub(super) fn health_path(text: &str) -> Result<String, Diagnostic> {
    let is_allowed = |octet: u8| octet.is_ascii_graphic() && octet != b'#';
    if text.starts_with('/') && text.bytes().all(is_allowed) {
        return Ok(text.to_owned());
    }
    refuse(text, "is not a path", "write it as in a URL, for example path: /healthz")
}

/// The address of a backend. Messages never repeat it, because it may contain a password.
pub(super) fn address(text: &str) -> Result<Address, Diagnostic> {
    Address::parse(text).map_err(|AddressError(message, help)| Diagnostic::new(message, help))
}

pub(super) fn prefix(text: &str) -> Result<String, Diagnostic> {
    // Braces would form a hash tag of Redis Cluster.
    let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || b":._-".contains(&octet);
    if (1..=64).contains(&text.len()) && text.bytes().all(is_allowed) {
        return Ok(text.to_owned());
    }
    refuse(text, "is not a valid key prefix", "use at most 64 letters, digits, :, ., _ or -")
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
    let number = text.parse().ok().filter(|status| is_digits(text) && (400..=599).contains(status));
    number.ok_or_else(|| Diagnostic::of(text, "is not an error status code", "expected 400 to 599"))
}

/// A cause, or `None` for `upstream_response`.
pub(super) fn condition_cause(name: &str) -> Result<Option<Cause>, Diagnostic> {
    if name == UPSTREAM_RESPONSE { Ok(None) } else { known_cause(name, &[UPSTREAM_RESPONSE]).map(Some) }
}

/// The cause of this name.
pub(crate) fn cause(name: &str) -> Result<Cause, Diagnostic> {
    if name == UPSTREAM_RESPONSE {
        return refuse(
            name,
            "is no cause of the gateway's errors",
            "remove it, and declare its codes in codes",
        );
    }
    known_cause(name, &[])
}

/// The cause of this name; `others` are valid names, too.
fn known_cause(name: &str, others: &[&str]) -> Result<Cause, Diagnostic> {
    Cause::from_name(name).ok_or_else(|| {
        if name == "load_shed" {
            return Diagnostic::of(name, format!("is {NOT_YET}"), "remove it, or use queue_full");
        }
        let known = Cause::ALL.iter().map(|cause| cause.name()).chain(others.iter().copied());
        let other = || "expected the name of a cause, for example connection_refused".to_owned();
        let help = suggestion(name, known).unwrap_or_else(other);
        Diagnostic::new(format!("unknown cause {}", quoted(name)), help)
    })
}

/// The name of a field, or the beginning of names.
pub(super) fn field_pattern(text: &str) -> Result<String, Diagnostic> {
    let pattern = text.to_ascii_lowercase();
    let Some(prefix) = pattern.strip_suffix('*') else { return kept_field(text).map(|_| pattern) };
    if !prefix.contains('*') && header_name(prefix).is_ok() {
        return Ok(pattern);
    }
    let help = "write a name such as x-shop-hint, or x-shop-* for every name that begins so";
    refuse(text, "is not a field name", help)
}

/// An origin, or `None` for all.
pub(super) fn origin(text: &str) -> Result<Option<OriginPattern>, Diagnostic> {
    if text == "*" {
        return Ok(None);
    }
    let help = match OriginPattern::parse(text) {
        Ok(pattern) => return Ok(Some(pattern)),
        Err(InvalidOriginPattern::Null) => {
            return Err(Diagnostic::new(
                "\"null\" is the origin of every sandboxed page, so it is never allowed",
                "serve the page from a named origin, and list that origin",
            ));
        }
        Err(InvalidOriginPattern::MissingScheme) => {
            format!("start with the scheme, for example {}", quoted(&suggest_origin(text)))
        }
        Err(_) if text.contains([',', ' ']) => "list each origin as an item of its own".to_owned(),
        Err(InvalidOriginPattern::HasPath(only)) => match origin(only) {
            Ok(_) => format!("an origin has no path: write {}", quoted(only)),
            Err(diagnostic) => diagnostic.help,
        },
        Err(InvalidOriginPattern::MisplacedWildcard) => {
            "use * for whole leading labels only, for example \"https://*.example.com\"".to_owned()
        }
        Err(InvalidOriginPattern::InvalidHost) if !text.is_ascii() => {
            "write the host as browsers send it, in its xn-- form (Punycode)".to_owned()
        }
        Err(InvalidOriginPattern::InvalidHost) => {
            "expected scheme://host or scheme://host:port, for example \"https://app.example.com\"".to_owned()
        }
        Err(InvalidOriginPattern::InvalidPort) => "use a port from 1 to 65535".to_owned(),
    };
    refuse(text, "is not an origin", help)
}

/// The origin that was probably intended.
fn suggest_origin(text: &str) -> String {
    let host = text.trim_start_matches("://").trim_start_matches('/');
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let suggestion = format!("https://{host}");
    if OriginPattern::parse(&suggestion).is_ok() { suggestion } else { "https://app.example.com".to_owned() }
}

pub(super) fn allowed_method(text: &str) -> Result<Method, Diagnostic> {
    match text {
        "*" => refuse(text, "is not a method", "remove allow_methods to allow the methods of the route"),
        text => method(text),
    }
}

pub(super) fn allowed_header(text: &str) -> Result<HeaderName, Diagnostic> {
    match text {
        "*" => {
            refuse(text, "is not a valid field name", "remove allow_headers to allow the requested fields")
        }
        text => header_name(text),
    }
}

pub(super) fn protocol(text: &str) -> Result<String, Diagnostic> {
    let name = text.to_ascii_lowercase();
    match &*name {
        "true" | "on" | "yes" => return refuse(text, "is not the name of a protocol", "write websocket"),
        "false" | "off" | "no" => {
            return refuse(text, "is not the name of a protocol", "remove it: [] allows none");
        }
        _ => {}
    }
    match upgrade::forbidden_reason(&name) {
        None => Ok(name),
        Some(reason) => refuse(text, format!("cannot be tunnelled: {reason}"), "remove it"),
    }
}

pub(super) fn redirect_code(text: &str) -> Result<RedirectStatus, Diagnostic> {
    let status = text.parse().ok().and_then(RedirectStatus::from_code);
    status.ok_or_else(|| Diagnostic::of(text, "is not a redirect", "write 301, 302, 303, 307 or 308"))
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
        Diagnostic::of(text, "is not the status of a fixed response", help)
    })
}

/// A media type with its parameters (RFC 9110 8.3.1).
pub(super) fn media_type(text: &str) -> Result<HeaderValue, Diagnostic> {
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let is_name = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&octet))
    };
    let is_type = essence.split_once('/').is_some_and(|(main, sub)| is_name(main) && is_name(sub));
    let value = HeaderValue::from_str(text).ok().filter(|_| is_type && text.is_ascii());
    let help = "write TYPE/SUBTYPE, for example text/plain";
    value.ok_or_else(|| Diagnostic::of(text, "is not a media type", help))
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
    let help =
        "write dns, system, or the addresses of name servers, for example [10.0.0.53, \"127.0.0.1:8600\"]";
    Diagnostic::of(text, "is not the address of a name server", help)
}
