//! What was probably meant by an address, a network, a host, a field or a part of a key in the form of another tool.
//!
//! Every suggestion is one that `accepts`, the parser, accepts.

use std::net::{IpAddr, Ipv4Addr};

use super::problem::quoted;

/// A listen address for `*:80` and `:80 ssl` (nginx), `http://:80` (Caddy), `:::80`, `0.0.0.0`, `[::]`, `eth0:80`.
pub(crate) fn listen_address(text: &str, accepts: impl Fn(&str) -> bool) -> Option<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let rest = rest.split([' ', '/']).next()?;
    let is_host = |host: &str| !host.contains(':') || bare(host).parse::<IpAddr>().is_ok();
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, "http")) => (host, "80"),
        Some((host, "https")) => (host, "443"),
        Some((host, port)) if is_digits(port) && is_host(host) => (host, port),
        _ if bare(rest).parse::<IpAddr>().is_ok() || rest == "localhost" => (rest, "8080"),
        _ => return None,
    };
    let host = match bare(host).parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(address)) => address.to_string(),
        // Names of other hosts and of interfaces: every address.
        Err(_) => if host == "localhost" { host } else { "" }.to_owned(),
    };
    Some(format!("{host}:{port}")).filter(|meant| meant != text && accepts(meant))
}

/// A Unix socket for `unix//run/a.sock` (Caddy), `http://unix:/run/a.sock:` (nginx) and `/run/a.sock`.
pub(crate) fn socket(text: &str) -> Option<String> {
    let rest = text.strip_prefix("http://").unwrap_or(text);
    let path = rest.strip_prefix("unix:").or_else(|| rest.strip_prefix("unix/")).unwrap_or(rest);
    let path = path.split_once(":/").map_or(path, |(path, _)| path).trim_end_matches(':');
    let is_path = path.starts_with('/') && !path.starts_with("//");
    Some(format!("unix:{path}")).filter(|meant| is_path && meant != text)
}

/// The help for servers such as `a:80 weight=2` (nginx), `a:80, b:80`, `a:http` and `http:/a`.
pub(crate) fn servers(text: &str, accepts: impl Fn(&str) -> bool) -> Option<String> {
    let parts: Vec<&str> = text.split([' ', ',', ';']).filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => None,
        [only] => {
            let scheme = ["https", "http"].into_iter().find_map(|scheme| {
                let rest = text.strip_prefix(scheme)?.strip_prefix([':', '/'])?;
                Some((format!("{scheme}://"), rest.trim_start_matches([':', '/'])))
            });
            let (scheme, rest) = scheme.unwrap_or_else(|| (String::new(), only.trim_start_matches('/')));
            let meant = match (rest.strip_suffix(":http"), rest.strip_suffix(":https")) {
                (Some(host), _) => format!("{scheme}{host}:80"),
                (None, Some(host)) => format!("https://{host}"),
                (None, None) => format!("{scheme}{rest}"),
            };
            (meant != text && accepts(&meant)).then(|| format!("write {}", quoted(&meant)))
        }
        all if all.iter().all(|part| accepts(part)) => {
            let items: Vec<String> = all.iter().map(|part| quoted(part)).collect();
            Some(format!("list each as an item of its own: {}", items.join(", ")))
        }
        [first, ..] if accepts(first) => Some(format!(
            "write {}; options are keys, as in {{ address: {}, weight: 2 }}",
            quoted(first),
            quoted(first)
        )),
        _ => None,
    }
}

/// Networks for `10.0.0.0/255.0.0.0`, `10.0.0.*`, `10/8`, `[::1]`, `10.0.0.1:80`.
pub(crate) fn networks(text: &str, accepts: impl Fn(&str) -> bool) -> Option<String> {
    let (address, suffix) = text.split_once('/').unwrap_or((text, ""));
    let octets: Vec<&str> = address.split('.').take_while(|octet| *octet != "*").collect();
    let is_partial =
        text.contains(['.', '/']) && octets.len() < 4 && octets.iter().all(|octet| is_digits(octet));
    let prefix = match suffix.parse::<Ipv4Addr>() {
        Ok(mask) => u32::from(mask).leading_ones().to_string(),
        Err(_) if suffix.is_empty() && is_partial => (octets.len() * 8).to_string(),
        Err(_) => suffix.to_owned(),
    };
    let address = match address.rsplit_once(':') {
        _ if address == "localhost" => "127.0.0.1".to_owned(),
        _ if is_partial => (0..4).map(|at| *octets.get(at).unwrap_or(&"0")).collect::<Vec<_>>().join("."),
        Some((host, port)) if is_digits(port) && bare(host).parse::<IpAddr>().is_ok() => {
            bare(host).to_owned()
        }
        _ => bare(address).to_owned(),
    };
    let meant = if prefix.is_empty() { address } else { format!("{address}/{prefix}") };
    let shown = if meant.contains(':') { quoted(&meant) } else { meant.clone() };
    (meant != text && accepts(&meant)).then_some(shown)
}

/// A field name for `X-A:`, `x-a: ` and `$http_x_a` (nginx).
pub(crate) fn field_name(text: &str, accepts: impl Fn(&str) -> bool) -> Option<String> {
    let name = text.trim().trim_end_matches(':').trim_end();
    let meant = name.strip_prefix("$http_").map_or(name.to_owned(), |rest| rest.replace('_', "-"));
    (meant != text && accepts(&meant)).then_some(meant)
}

/// A part of a key for `header: x-a`, `header=x-a`, `{client_ip}`, `$remote_addr` (nginx), `x-api-key`.
pub(crate) fn key_part(text: &str, accepts: impl Fn(&str) -> bool) -> Option<String> {
    let part = text.replace([' ', '{', '}'], "").replace('=', ":");
    let meant = match part.trim_start_matches('$') {
        "ip" | "remote_ip" | "remote_addr" | "binary_remote_addr" | "source_ip" | "src" | "client" => {
            "client_ip".to_owned()
        }
        field if field.contains('-') && !field.contains([':', '.']) => format!("header:{field}"),
        _ => part,
    };
    (meant != text && accepts(&meant)).then_some(meant)
}

/// A host for `_` (nginx), `*example.com`, `Host(`a.com`)` (Traefik), `{sub}.example.com`.
pub(crate) fn host(text: &str, accepts: impl Fn(&str) -> bool) -> Option<String> {
    let name = text.strip_prefix("Host(`").and_then(|rest| rest.strip_suffix("`)")).unwrap_or(text);
    let meant = match (name.strip_prefix('*'), name.strip_prefix('{').and_then(|rest| rest.split_once("}.")))
    {
        _ if name == "_" => "*".to_owned(),
        (Some(rest), _) => format!("*.{}", rest.trim_start_matches(['*', '.'])),
        (None, Some((_, rest))) => format!("*.{rest}"),
        (None, None) => name.to_owned(),
    };
    (meant != text && accepts(&meant)).then_some(meant)
}

/// Without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Whether a text has a variable of nginx (`$host`, `$1`), HAProxy (`%[src]`) or Apache (`%{Host}i`).
pub(crate) fn has_variable(text: &str) -> bool {
    let starts_name = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    text.split('$').skip(1).any(starts_name) || text.contains("%[") || text.contains("%{")
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit())
}
