//! What was probably meant by an unknown key: a key of another section, a word of another tool, a misspelt key.

use super::keys::Keys;
use super::problem::{closest_match, join_or, quoted, suggestion};
use super::shapes::{flow, prefix, scalar};
use super::tree::{Entry, Node};

/// Our keys, and those of other tools with the same meaning. [`suggestion`] has those that are also values.
const SYNONYMS: &[(&str, &[&str])] = &[
    // A word may be in several rows: the first whose key the section has.
    ("request_headers", &["headers", "set_header", "set_headers", "add_header", "add_headers"]),
    ("allow_headers", &["headers"]),
    ("timeouts", &["timeout"]),
    ("cert", &["certificate", "ssl_certificate", "cert_file", "crt", "certificates"]),
    ("key", &["private_key", "ssl_certificate_key", "key_file"]),
    ("tls", &["ssl_certificate", "ssl_certificate_key", "certificate", "https", "cert", "certs"]),
    ("upstream_status", &["status", "status_code", "response_status"]),
    ("code", &["status", "status_code", "response_code", "http_code"]),
    ("fall", &["threshold", "unhealthy_threshold", "max_fails"]),
    ("rise", &["healthy_threshold", "success_threshold"]),
    ("attempts", &["tries", "retries", "max_retries", "num_retries", "max_attempts", "max"]),
    ("retry", &["retries", "max_retries", "num_retries", "retry_policy"]),
    ("redis", &["url", "uri", "host", "port", "addr", "address", "endpoint", "server"]),
    ("to", &["url", "uri", "location", "target", "destination"]),
    ("address", &["addr", "listen"]),
    ("allow", &["average", "rps", "requests_per_second", "second", "minute", "hour", "period", "window"]),
    ("body_idle", &["read", "write", "send"]),
    ("breaker", &["circuit_breaker", "circuit_breakers"]),
    ("concurrency", &["max_conns", "maxconn", "max_connections"]),
    ("ejection", &["outlier_detection", "max_fails", "fail_timeout"]),
    ("ip_header", &["real_ip_header"]),
    ("listen", &["entry_points", "entrypoints", "frontends", "bind", "ports"]),
    ("log", &["logging", "access_log", "error_log"]),
    ("match", &["location", "rule", "matches", "conditions"]),
    ("mode", &["intercept", "intercept_errors"]),
    ("overrides", &["error_page", "error_pages", "pages", "rules"]),
    ("respond", &["return", "direct_response", "response", "fixed_response"]),
    ("routes", &["locations", "location", "routers", "rules", "paths", "route"]),
    ("strip_prefix", &["strip_path"]),
    ("telemetry", &["metrics", "prometheus", "stats"]),
    ("trusted_proxies", &["set_real_ip_from", "trusted_ips", "trust_proxy"]),
    ("upstreams", &["backend"]),
    ("verify", &["insecure_skip_verify", "skip_verify"]),
];

/// Keys that say little about the section in which they belong.
const GENERIC: &[&str] =
    &["address", "allow", "cert", "code", "key", "match", "mode", "name", "path", "redis", "timeout", "to"];

/// Sections of files of nginx, Traefik, Envoy, Kong, HAProxy and Kubernetes.
const OTHER_TOOLS: &[&str] = &[
    "server",
    "http",
    "stream",
    "events",
    "providers",
    "middlewares",
    "static_resources",
    "dynamic_resources",
    "_format_version",
    "plugins",
    "consumers",
    "global",
    "defaults",
    "api_version",
    "kind",
    "spec",
];

/// The help for an unknown key of this section. `known` are its keys, in their order.
pub(super) fn unknown_key(unknown: &Entry, siblings: &[Entry], section: Keys, known: &[&str]) -> String {
    let key = unknown.key.as_str();
    let misspelt = || key_suggestion(key, known);
    // A prefix in other tools, and headers and statuses that need one section more.
    let special = pattern_of_prefix(unknown, known).or_else(|| enclosed(unknown, known));
    let is_root = known.contains(&"routes") && known.contains(&"upstreams");
    if is_root && OTHER_TOOLS.contains(&&*snake_case(key)) {
        return "expected listen, upstreams and routes: `statusquo init` writes a file with them".to_owned();
    }
    special
        .or_else(|| synonym(key, known).map(did_you_mean))
        .or_else(|| {
            nested(unknown, siblings, (section, known), |names| {
                names.iter().find(|ours| **ours == key).copied()
            })
        })
        .or_else(misspelt)
        .or_else(|| nested(unknown, siblings, (section, known), |names| specific_synonym(key, names)))
        .or_else(|| elsewhere(key))
        .unwrap_or_else(|| format!("expected {}", join_or(known)))
}

fn did_you_mean(key: &str) -> String {
    format!("did you mean {}?", quoted(key))
}

/// `camelCase` and `kebab-case` as we write keys.
fn snake_case(key: &str) -> String {
    let mut snake = String::new();
    for letter in key.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(if letter == '-' { '_' } else { letter.to_ascii_lowercase() });
    }
    snake
}

/// Our key for a word of another tool, or of a spelling with other words around it: `proxy_connect_timeout`.
fn synonym<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let snake = snake_case(key);
    let bare = snake.strip_prefix("proxy_").unwrap_or(&snake);
    let words = [&snake, bare, bare.strip_suffix("_timeout").unwrap_or(bare)];
    let ours = |word: &&str| {
        let same = known.iter().copied().find(|ours| ours == word && *ours != key);
        let mut rows = SYNONYMS.iter().filter(|(_, theirs)| theirs.contains(word));
        same.or_else(|| rows.find_map(|(ours, _)| known.iter().copied().find(|known| known == ours)))
    };
    words.iter().find_map(ours)
}

/// A misspelt key, or one that has a key of ours as a part or is a part of one: `headers` for `allow_headers`.
fn key_suggestion(key: &str, known: &[&str]) -> Option<String> {
    let snake = snake_case(key);
    let parts = |word: &str| word.split('_').map(str::to_owned).collect::<Vec<String>>();
    let is_part = |part: &[String], whole: &[String]| whole.windows(part.len()).any(|window| window == part);
    let mut related = known.iter().filter(|known| {
        let (ours, theirs) = (parts(known), parts(&snake));
        is_part(&ours, &theirs) || is_part(&theirs, &ours)
    });
    let only = related.next().filter(|_| related.next().is_none());
    suggestion(key, known.iter().copied())
        .or_else(|| closest_match(&snake, known.iter().copied()).map(did_you_mean))
        .or_else(|| only.map(|only| did_you_mean(only)))
}

/// `prefix: /api` also matches the paths below in other tools, and so does nginx's `location`.
fn pattern_of_prefix(unknown: &Entry, known: &[&str]) -> Option<String> {
    if !matches!(&*snake_case(&unknown.key), "prefix" | "path_prefix" | "uri_prefix" | "location") {
        return None;
    }
    let pattern = prefix(unknown.value.text()?)?;
    if known.contains(&"path") {
        Some(format!("write path: {pattern}"))
    } else if known.contains(&"match") {
        Some(format!("write match: {{ path: {pattern} }}"))
    } else {
        None
    }
}

/// A field of a header section, or a status of `errors`, which belong in a section of their own.
fn enclosed(unknown: &Entry, known: &[&str]) -> Option<String> {
    let (key, value) = (&unknown.key, flow(&unknown.value)?);
    let is_status = |text: &str| text.parse().is_ok_and(|status: u16| (400..=599).contains(&status));
    if known.contains(&"set") && known.contains(&"remove") && unknown.value.text().is_some() {
        return Some(format!("write set: {{ {}: {value} }}", scalar(key)));
    }
    (known.contains(&"overrides") && is_status(key) && is_status(&value))
        .then(|| format!("write overrides: [{{ when: {{ upstream_status: {key} }}, code: {value} }}]"))
}

/// A section that a key holds, and whether the key holds a list of them; `None` for other keys.
fn held_section(key: Keys) -> (Keys, bool) {
    if key.names().is_empty() { (key.item(), true) } else { (key, false) }
}

/// A synonym of a key that belongs in few sections.
fn specific_synonym<'a>(key: &str, names: &[&'a str]) -> Option<&'a str> {
    synonym(key, names).filter(|ours| !GENERIC.contains(ours))
}

/// The key that `find` finds among those of a section in this one.
fn nested(
    unknown: &Entry,
    siblings: &[Entry],
    (section, known): (Keys, &[&str]),
    find: impl Fn(&[&'static str]) -> Option<&'static str>,
) -> Option<String> {
    let value = flow(&unknown.value).unwrap_or_else(|| "...".to_owned());
    known.iter().find_map(|name| {
        let (inner, is_list) = held_section(section.key(name));
        // A path or timeout that is written outside is not that of the checks.
        let ours = find(&inner.names()).filter(|_| *name != "health")?;
        if siblings.iter().any(|sibling| sibling.key == *name) {
            return Some(format!("move it into {name}"));
        }
        let rest_is_optional = inner.required().iter().all(|required| *required == ours);
        let entry = format!("{{ {ours}: {value} }}");
        let entry = if is_list { format!("[{entry}]") } else { entry };
        rest_is_optional.then(|| format!("write {name}: {entry}"))
    })
}

/// The only place in the file that has this key, if there is one.
fn elsewhere(key: &str) -> Option<String> {
    let root = Keys::root();
    let place = |inner: Keys, path: String| {
        let names = inner.names();
        let same = names.iter().copied().find(|ours| *ours == key && !GENERIC.contains(ours));
        let ours = same.or_else(|| specific_synonym(key, &names));
        ours.map(|ours| format!("{path}.{ours}"))
    };
    let sections: Vec<(Keys, String)> = root
        .names()
        .into_iter()
        .map(|name| match root.key(name) {
            section if section.are_names() => (section.key(""), format!("{name}.NAME")),
            section => (held_section(section).0, name.to_owned()),
        })
        .collect();
    let outer: Vec<String> =
        sections.iter().filter_map(|(inner, path)| place(*inner, path.clone())).collect();
    let deeper = sections.iter().flat_map(|(section, path)| {
        let names = section.names().into_iter();
        names.filter_map(move |name| place(held_section(section.key(name)).0, format!("{path}.{name}")))
    });
    let found = if outer.is_empty() { deeper.collect() } else { outer };
    match found.as_slice() {
        [only] => Some(format!("move it to {only}")),
        _ => None,
    }
}

/// The help for the name of a section that is written in full where only its name belongs.
pub(super) fn declaration(section: &str, value: &str) -> String {
    let name = match section {
        "upstreams" => "app",
        "rate_limits" => "limit",
        _ => "shared",
    };
    format!("declare it as {section}: {{ {name}: {value} }}, and write {name} here")
}

/// The section that a mapping or an address in place of a name declares.
pub(super) fn declared(section: &str, value: &Node) -> Option<String> {
    flow(value).map(|value| declaration(section, &value))
}
