//! Every help is accepted when it is typed in.

use super::super::super::problem::Problem;
use super::error_messages::EXPECTED_MESSAGES;
use super::mistakes::{MISTAKES, with_defaults};
use super::{config_with, load};

/// The value that a help proposes, as it would be typed in.
fn proposal(help: &str) -> Option<String> {
    let marks = ["did you mean ", "for example ", "such as ", "write ", "use ", "expected "];
    let (_, from) = marks.iter().find_map(|mark| help.split_once(mark))?;
    let closing = match from.chars().next()? {
        '"' => return from.get(1..)?.split_once('"').map(|(value, _)| format!("\"{value}\"")),
        '[' => ']',
        '{' => '}',
        _ => {
            let end =
                [", ", " or ", " to ", ": ", " as ", "?", ";"].iter().filter_map(|end| from.find(end)).min();
            let value = from.get(..end.unwrap_or(from.len()))?;
            // Descriptions in words.
            let words = ["a ", "the ", "one ", "at most ", "whole seconds"];
            return (!words.iter().any(|start| value.starts_with(start))).then(|| value.to_owned());
        }
    };
    from.rfind(closing).and_then(|end| from.get(..=end)).map(str::to_owned)
}

/// The text with the value or key at this location replaced.
fn replaced(text: &str, problem: &Problem, new: &str) -> String {
    let mut at = problem.location.unwrap();
    let line = text.lines().nth(at.line - 1).unwrap();
    let key = problem.path.rsplit('.').next().unwrap_or_default();
    let is_of_name = ["unknown", "is not declared", "cannot be a placeholder", "is not a valid field name"]
        .iter()
        .any(|words| problem.message.contains(words));
    if !is_of_name && line.chars().skip(at.column - 1).collect::<String>().starts_with(&format!("{key}: ")) {
        // Of a list or section, the location is its key.
        at.column += key.len() + 2;
    }
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line: Vec<char> = lines[at.line - 1].chars().collect();
    let (before, rest) = line.split_at(at.column - 1);
    let length = match rest[0] {
        '"' => rest.iter().skip(1).position(|c| *c == '"').unwrap() + 2,
        '[' => rest.iter().position(|c| *c == ']').unwrap() + 1,
        '{' => rest.iter().position(|c| *c == '}').unwrap() + 1,
        _ => {
            let ends = |index: &usize| {
                matches!(rest[*index], ',' | ']' | '}')
                    || (rest[*index] == ':' && rest.get(index + 1).is_none_or(|next| *next == ' '))
            };
            (0..rest.len()).find(ends).unwrap_or(rest.len())
        }
    };
    let written: String = rest[..length].iter().collect();
    let padding = " ".repeat(written.len() - written.trim_end().len());
    lines[at.line - 1] =
        before.iter().collect::<String>() + new + &padding + &rest[length..].iter().collect::<String>();
    lines.join("\n") + "\n"
}

/// Helps that ask for something else than another value at the place of the problem.
const NOT_TYPED_IN: &[&str] = &[
    "remove",
    "keep either",
    "keep one",
    "add",
    "choose another",
    "list ",
    "shorten",
    "missing",
    "with the requests",
    "renew",
];

#[test]
fn every_help_is_accepted_when_it_is_typed_in() {
    let sections = EXPECTED_MESSAGES.iter().map(|(section, _)| config_with(section));
    let mistakes = MISTAKES.iter().map(|(section, _)| *section);
    let more = TYPED_IN.iter().copied().chain(mistakes).map(with_defaults);
    let mut refused = Vec::new();
    let mut typed = 0;
    let contracts =
        super::contract_messages::mistakes().into_iter().map(|(section, _)| config_with(&section));
    for text in sections.chain(more).chain(contracts) {
        for problem in load(&text).unwrap_err().iter() {
            if problem.location.is_none()
                || NOT_TYPED_IN.iter().any(|start| problem.help.starts_with(start))
                || problem.message == "missing"
            {
                continue;
            }
            let Some(new) = proposal(&problem.help) else { continue };
            typed += 1;
            let patched = replaced(&text, problem, &new);
            if let Err(left) = load(&patched)
                && let Some(still) =
                    left.iter().find(|other| other.path == problem.path || other.path.is_empty())
            {
                refused.push(format!("{patched}{}: {}\n", still.path, still.message_and_help()));
            }
        }
    }
    assert!(refused.is_empty(), "refused:\n{}", refused.join("\n"));
    assert!(typed > 100, "{typed}");
}

/// Mistakes whose help must be right, each in one section of a valid file.
const TYPED_IN: &[&str] = &[
    "listen: 8080",
    "listen: \":8080\"",
    "listen: [8080]",
    "listen: [\"127.0.0.1:9000\"]",
    "listen: [{ address: 8080 }]",
    "listen: [{ address: example.com }]",
    "listen: [{ address: \"[ff02::1]:80\" }]",
    "listen: [{ address: \"[fe80::1]:80\" }]",
    "upstreams: { shop: { servers: 3000 } }",
    "upstreams: { shop: { servers: [3000] } }",
    "upstreams: { shop: { servers: [\":3000\"] } }",
    "upstreams: { shop: { servers: \"a:80\" } }",
    "upstreams: { shop: { servers: [app] } }",
    "upstreams: { shop: { servers: [\"fd00::1\"] } }",
    "upstreams: { shop: { servers: [\"a:443\"] } }",
    "upstreams: { shop: { servers: [\"ftp://a\"] } }",
    "upstreams: { shop: { servers: [{ address: 3000 }] } }",
    "upstreams: { shop: { servers: [\"a:80\"], keepalive: { max: many, idle: 4 } } }",
    "upstreams: { shop: { servers: [\"a:80\"], retry: { attempts: many, on_status: 503 } } }",
    "upstreams: { shop: { servers: [\"a:80\"], retry: { attempts: 99, on_status: [200] } } }",
    "upstreams: { shop: { servers: [\"a:80\"], concurrency: { max: lots } } }",
    "upstreams: { shop: { servers: [\"a:80\"], http2: on, balance: least_conn } }",
    "routes: [{ name: r, respond: 404 }]",
    "routes: [{ name: r, respond: { code: 402 } }]",
    "routes: [{ name: r, respond: { code: 200 } }]",
    "routes: [{ name: r, respond: { status: 404 } }]",
    "routes: [{ name: r, respond: { status: 302 } }]",
    "routes: [{ name: r, respond: { status: ok } }]",
    "routes: [{ name: r, respond: { status: 200, body: ok, media_type: text } }]",
    "client: { max_header_bytes: 100 }",
    "client: { max_header_bytes: 64 }",
    "client: { max_header_bytes: 1 }",
    "client: { trusted_proxies: office }",
    "client: { trusted_proxies: [\"10.0.0.1/8\"] }",
    "client: { trusted_proxies: [\"::ffff:10.0.0.1/104\"] }",
    "client: { ipv6_prefix: many }",
    "client: { max_connections: many }",
    "client: { min_body_rate: 5 }",
    "log: { evidence: 256 }",
    "log: { evidence: off }",
    "log: { evidence: 1MiB }",
    "errors: { upstream_body: { limit: 64 } }",
    "errors: { retry_after: 5 }",
    "errors: { include: request_id }",
    "errors: { keep_headers: x-trace }",
    "routes: [{ name: r, upstream: shop, match: { path: \"/x/*\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/users/:id\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"^/v[0-9]+\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: users } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/{a}{b}\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/{*rest}/x\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/{\" } }]",
    "routes: [{ name: r, upstream: shop, match: { host: \"http://a.example\" } }]",
    "routes: [{ name: r, upstream: shop, match: { host: \"a.example:80\" } }]",
    "routes: [{ name: r, upstream: shop, match: { host: .example.com } }]",
    "routes: [{ name: r, upstream: shop, match: { methods: get } }]",
    "routes: [{ name: r, upstream: shop, match: { methods: [get] } }]",
    "routes: [{ name: r, upstream: shop, max_body: 5 }]",
    "routes: [{ name: r, upstream: shop, allow_from: 10.0.0.0/8 }]",
    "routes: [{ name: \"a b\", upstream: shop }]",
    "rate_limits: { a: { allow: 100 per minute } }",
    "rate_limits: { a: { allow: 99999999999 per 1m } }",
    "rate_limits: { a: { allow: 5 per 1m, max_keys: few } }",
    "rate_limits: { a: { allow: 5 per 1m, key: client_ip } }",
    "drain: 30S",
    "drain: 30 seconds",
    "drain: 5min",
    "drain: 1.5s",
    "drain: 99999999999",
    "timeouts: { connect: 0 }",
    "timeouts: { max_duration: false }",
    "timeouts: { max_duration: never }",
    "client: { min_body_rate: none }",
    "client: { max_body: 10mb }",
    "client: { max_body: 10M }",
    "client: { max_body: 10 MiB }",
    "client: { max_body: 1TiB }",
    "client: { max_body: 99999999999999999999GiB }",
    "rate_limits: { a: { allow: 100/m } }",
    "rate_limits: { a: { allow: 10r/s } }",
    "rate_limits: { a: 100 per 1m }",
    "log: { level: warning }",
    "telemetry: 127.0.0.1:9465",
    "telemetry: 9465",
    "errors: { overrides: [{ when: { cause: draining }, code: 5xx }] }",
    "contract: { codes: [400, 500] }",
    "listen: [{ address: \":8080\", h2c: yes }]",
    "listen: [{ address: \":8080\", proxy_protocol: 10.0.0.0/8 }]",
    "listen: [{ address: /run/app.sock }]",
    "listen: [{ address: \"unix:///run/app.sock\" }]",
    "listen: [{ address: \"unix:/run/app.sock\", mode: rw }]",
    "listen: [{ address: \"unix:/run/app.sock\", mode: 0444 }]",
    "routes: [{ name: r, upstream: shop, match: /users }]",
    "upstreams: { shop: \"a:80\" }",
    "upstreams: { shop: 3000 }",
    "upstreams: { shop: { servers: [\"a:80\"], health: /healthz } }",
    "upstreams: { shop: { servers: [\"a:80\"], concurrency: 512 } }",
    "upstreams: { shop: { servers: [\"a:80\"], retry: 3 } }",
    "upstreams: { shop: { servers: [\"a:80\"], breaker: { failure_ratio: 20 } } }",
    "stores: { a: redis://127.0.0.1 }",
    "errors: { overrides: [{ when: { cause: [] }, code: 503 }] }",
    "rate_limits: { a: { allow: 1 per 366d } }",
    "rate_limits: { a: { allow: 10/400d } }",
    "rate_limits: { a: { allow: 1k per 1m } }",
    "drain: 366 days",
    "timeouts: { connect: 0 s }",
    "log: { evidence: 99999999999999999999 }",
    "log: { evidence: 5s }",
    "routes: [{ name: r, upstream: shop, rewrite: \"/{nope}\" }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/a/{*rest}\" }, rewrite: \"/{*rest}\" }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"https://x/y\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"= /x\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \" /x\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"PathPrefix(`/x`)\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/x/%2e%2e/y\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/x/{rest:.*}\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/x/(?P<id>[^/]+)/?$\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"~ \\\\.php$\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/x|/y\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/:a.:b\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/{rest*}\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/x/{$}\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/x-:id\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/x/{id}+\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"a b\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"^/api\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/u/{id:[0-9]+}\" } }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"//a b\" } }]",
    "routes: [{ name: r, upstream: shop, match: { host: \"::1\" } }]",
    "routes: [{ name: r, upstream: shop, match: { host: \"[::1\" } }]",
    "routes: [{ name: r, upstream: shop, match: { host: \"[::1]:80\" } }]",
    "routes: [{ name: r, upstream: shop, match: { host: \"a:80:90\" } }]",
    "routes: [{ name: r, upstream: shop, match: { host: \"https://a.example/x\" } }]",
    "upstreams: { shop: { servers: [\"HTTPS://api.internal\"] } }",
    "upstreams: { shop: { servers: [\"wss://api.internal\"] } }",
    "upstreams: { shop: { servers: [\"wss://api.internal:8443/x\"] } }",
    "cors: { allow_origins: [\"https://a.com,https://b.com\"] }",
    "cors: { allow_origins: [\"https://bücher.de/\"] }",
    "cors: { allow_origins: [\"https://*/\"] }",
    "cors: { allow_origins: [\"https://*.com:x/\"] }",
    "cors: { allow_origins: [\"https://a.com/x\"] }",
    "listen: [{ address: \"*:8080\" }]",
    "listen: [{ address: \"0.0.0.0\" }]",
    "listen: [{ address: \"[::]\" }]",
    "listen: [{ address: \"http://0.0.0.0:8080\" }]",
    "listen: [{ address: \":::8080\" }]",
    "listen: [{ address: \"::1:8080\" }]",
    "listen: [{ address: \"0.0.0.0:http\" }]",
    "listen: [{ address: \":8443 ssl\" }]",
    "listen: [{ address: \"eth0:8080\" }]",
    "listen: [{ address: \"unix//run/x.sock\" }]",
    "listen: [{ address: localhost }]",
    "telemetry: { address: localhost }",
    "upstreams: { shop: { servers: [\"/run/a.sock\"] } }",
    "upstreams: { shop: { servers: [\"unix:/run/a.sock:/x\"] } }",
    "upstreams: { shop: { servers: [\"a:http\"] } }",
    "upstreams: { shop: { servers: [\"http:/a:80\"] } }",
    "upstreams: { shop: { servers: [\"//a:80\"] } }",
    "upstreams: { shop: { servers: \"a:80, b:80\" } }",
    "upstreams: { shop: { servers: [\"a:80\"], balance: leastconn } }",
    "upstreams: { shop: { servers: [\"a:80\"], balance: ip_hash } }",
    "upstreams: { shop: { servers: [\"a:80\"], balance: { hash: $remote_addr } } }",
    "upstreams: { shop: { servers: [\"a:80\"], balance: { hash: \"header: X-User\" } } }",
    "upstreams: { shop: { servers: [\"a:80\"], retry: { budget: 0.5 } } }",
    "upstreams: { shop: { servers: [\"a:80\"], retry: { budget: 12.5% } } }",
    "upstreams: { shop: { servers: [\"a:80\"], retry: { on_status: [5xx] } } }",
    "upstreams: { shop: { servers: [\"a:80\"], host: true } }",
    "upstreams: { shop: { servers: [\"a:80\"], ejection: false } }",
    "upstreams: { shop: [\"a:80\"] }",
    "client: { trusted_proxies: [10.0.0.0/255.0.0.0] }",
    "client: { trusted_proxies: [\"10.0.0.*\"] }",
    "client: { trusted_proxies: [10/8] }",
    "client: { trusted_proxies: [\"[::1]\"] }",
    "client: { trusted_proxies: [\"10.0.0.1:80\"] }",
    "client: { trusted_proxies: [localhost] }",
    "client: { trusted_proxies: \"10.0.0.0/8, 192.168.0.0/16\" }",
    "client: { ip_header: \"X-Real-IP:\" }",
    "client: { ip_header: $http_x_real_ip }",
    "client: { max_connections: 20_000 }",
    "client: { max_connections: 1k }",
    "client: { min_body_rate: 512B/s }",
    "client: { max_body: 10Mi }",
    "client: { max_body: \"10,000KB\" }",
    "workers: 4.0",
    "log: { requests: none }",
    "log: off",
    "log: { level: notice }",
    "rate_limits: { a: { allow: 100 in 1m } }",
    "rate_limits: { a: { allow: 100 Per 1m } }",
    "rate_limits: { a: { allow: 5 per 1m, key: [remote_addr, \"header: x-a\", \"header=x-b\", x-api-key, \"{client_ip}\"] } }",
    "routes: [{ name: r, upstream: shop, match: { host: _ } }]",
    "routes: [{ name: r, upstream: shop, match: { host: \"*example.com\" } }]",
    "routes: [{ name: r, upstream: shop, match: { host: \"Host(`a.com`)\" } }]",
    "routes: [{ name: r, upstream: shop, match: { host: \"{sub}.example.com\" } }]",
    "routes: [{ name: r, upstream: shop, match: { methods: GET|POST } }]",
    "routes: [{ name: r, upstream: shop, match: { headers: { \"X-A:\": \"1\" } } }]",
    "routes: [{ name: r, upstream: shop, deny: DELETE }]",
    "routes: [{ name: r, upstream: shop, match: { path: \"/50%\" } }]",
    "cors: { allow_origins: [\"https://a.com\"], allow_headers: \"Content-Type, Authorization\" }",
    "stores: { a: { redis: \"redis://a\", on_failure: open } }",
    "routes: [{ name: r, backend: shop }]",
    "upstreams: { shop: { hosts: [\"a:80\"] } }",
    "timeouts: { max_duration: 0 }",
];
