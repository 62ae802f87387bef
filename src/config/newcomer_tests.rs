//! Mistakes of newcomers from other tools: each message leads to a file that is accepted.

use super::mistakes::with_defaults;
use super::{load, messages};

/// A mistake, its help, and the section after the help is followed.
const LEADS: &[(&str, &str, &str)] = &[
    (
        "routes: [{ name: r, upstream: shop, path: /x }]",
        "routes[0].path: unknown key; write match: { path: /x }",
        "routes: [{ name: r, upstream: shop, match: { path: /x } }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, host: a.com, match: { path: /x } }]",
        "routes[0].host: unknown key; move it into match",
        "routes: [{ name: r, upstream: shop, match: { path: /x, host: a.com } }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, match: { prefix: /api } }]",
        "routes[0].match.prefix: unknown key; write path: \"/api/{*rest}\"",
        "routes: [{ name: r, upstream: shop, match: { path: \"/api/{*rest}\" } }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, location: / }]",
        "routes[0].location: unknown key; write match: { path: \"/{*rest}\" }",
        "routes: [{ name: r, upstream: shop, match: { path: \"/{*rest}\" } }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, match: \"Host(`a.com`) && PathPrefix(`/x`)\" }]",
        "routes[0].match: found \"Host(`a.com`) && PathPrefix(`/x`)\"; expected a mapping, for example { host: a.com, path: \"/x/{*rest}\" }",
        "routes: [{ name: r, upstream: shop, match: { host: a.com, path: \"/x/{*rest}\" } }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, match: a.com }]",
        "routes[0].match: found \"a.com\"; expected a mapping, for example { host: a.com }",
        "routes: [{ name: r, upstream: shop, match: { host: a.com } }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, match: { host: [a.com, b.com] } }]",
        "routes[0].match.host: found a list; write one host, and a route for each of the others",
        "routes: [{ name: r, upstream: shop, match: { host: a.com } }, { name: s, upstream: shop, match: { host: b.com } }]",
    ),
    (
        "routes: { shop: { upstream: shop }, all: { upstream: shop, match: { path: /x } } }",
        "routes: found a mapping; expected a list, for example [{ name: shop, upstream: shop }, { name: all, upstream: shop, match: { path: /x } }]",
        "routes: [{ name: shop, upstream: shop }, { name: all, upstream: shop, match: { path: /x } }]",
    ),
    (
        "routes: { name: r, upstream: shop }",
        "routes: found a mapping; expected a list, for example [{ name: r, upstream: shop }]",
        "routes: [{ name: r, upstream: shop }]",
    ),
    (
        "listen: { address: \":8080\" }",
        "listen: found a mapping; expected a list, for example [{ address: \":8080\" }]",
        "listen: [{ address: \":8080\" }]",
    ),
    (
        "upstreams: [{ name: shop, servers: [\"a:80\"] }]",
        "upstreams: found a list; expected a mapping, for example { shop: { servers: [\"a:80\"] } }",
        "upstreams: { shop: { servers: [\"a:80\"] } }",
    ),
    (
        "routes: [{ name: r, upstream: shop, upgrades: true }]",
        "routes[0].upgrades: found \"true\"; expected a list, for example [\"websocket\"]",
        "routes: [{ name: r, upstream: shop, upgrades: [\"websocket\"] }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, upgrades: false }]",
        "routes[0].upgrades: found \"false\"; expected a list, for example []",
        "routes: [{ name: r, upstream: shop, upgrades: [] }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, upgrades: [true] }]",
        "routes[0].upgrades[0]: \"true\" is not the name of a protocol; write websocket",
        "routes: [{ name: r, upstream: shop, upgrades: [websocket] }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, upgrades: { websocket: true } }]",
        "routes[0].upgrades: found a mapping; expected a list, for example [websocket]",
        "routes: [{ name: r, upstream: shop, upgrades: [websocket] }]",
    ),
    (
        "upstreams: { shop: { servers: [\"a:80\"], ejection: on } }",
        "upstreams.shop.ejection: unknown value \"on\"; write a mapping, for example { consecutive: 5 }; or remove it: this is the default",
        "upstreams: { shop: { servers: [\"a:80\"], ejection: { consecutive: 5 } } }",
    ),
    (
        "timeouts: { connect: 1:30, deadline: 00:02:00 }",
        "timeouts.connect: \"1:30\" is not a duration; write 90s",
        "timeouts: { connect: 90s, deadline: 2m }",
    ),
    (
        "timeouts: { connect: 500us }",
        "timeouts.connect: \"500us\" is not a duration; write 1ms",
        "timeouts: { connect: 1ms }",
    ),
    (
        "timeouts: { connect: 250000us }",
        "timeouts.connect: \"250000us\" is not a duration; write 250ms",
        "timeouts: { connect: 250ms }",
    ),
    (
        "timeouts: 30s",
        "timeouts: found \"30s\"; expected a mapping, for example { deadline: 30s }",
        "timeouts: { deadline: 30s }",
    ),
    (
        "timeouts: { proxy_connect_timeout: 5s }",
        "timeouts.proxy_connect_timeout: unknown key; did you mean \"connect\"?",
        "timeouts: { connect: 5s }",
    ),
    (
        "response_headers: 5s",
        "response_headers: unknown key; write timeouts: { response_headers: 5s }",
        "timeouts: { response_headers: 5s }",
    ),
    (
        "max_body: 5MiB",
        "max_body: unknown key; write client: { max_body: 5MiB }",
        "client: { max_body: 5MiB }",
    ),
    (
        "log: debug",
        "log: found \"debug\"; expected a mapping, for example { level: debug }",
        "log: { level: debug }",
    ),
    (
        "upstreams: { shop: { servers: [\"a:80\"], max_conns: 5 } }",
        "upstreams.shop.max_conns: unknown key; did you mean \"concurrency\"?",
        "upstreams: { shop: { servers: [\"a:80\"], concurrency: { max: 5 } } }",
    ),
    (
        "routes: [{ name: r, upstream: shop, retries: 3 }]",
        "routes[0].retries: unknown key; move it to upstreams.NAME.retry",
        "upstreams: { shop: { servers: [\"a:80\"], retry: { attempts: 3 } } }",
    ),
    (
        "routes: [{ name: r, upstream: \"http://a:80\" }]",
        "routes[0].upstream: unknown upstream \"http://a:80\"; declare it as upstreams: { app: { servers: [\"http://a:80\"] } }, and write app here",
        "upstreams: { app: { servers: [\"http://a:80\"] } }\nroutes: [{ name: r, upstream: app }]",
    ),
    (
        "routes: [{ name: r, upstream: { servers: [\"a:80\"] } }]",
        "routes[0].upstream: found a mapping; declare it as upstreams: { app: { servers: [\"a:80\"] } }, and write app here",
        "upstreams: { app: { servers: [\"a:80\"] } }\nroutes: [{ name: r, upstream: app }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, request_headers: { X-A: b } }]",
        "routes[0].request_headers.X-A: unknown key; write set: { X-A: b }",
        "routes: [{ name: r, upstream: shop, request_headers: { set: { X-A: b } } }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, response_headers: { set: [X-A: b] } }]",
        "routes[0].response_headers.set: found a list; expected a mapping, for example { X-A: b }",
        "routes: [{ name: r, upstream: shop, response_headers: { set: { X-A: b } } }]",
    ),
    (
        "errors: { 502: 503 }",
        "errors.502: unknown key; write overrides: [{ when: { upstream_status: 502 }, code: 503 }]",
        "errors: { overrides: [{ when: { upstream_status: 502 }, code: 503 }] }",
    ),
    (
        "errors: { overrides: [{ when: connection_refused, code: 503 }] }",
        "errors.overrides[0].when: found \"connection_refused\"; expected a mapping, for example { cause: [connection_refused] }",
        "errors: { overrides: [{ when: { cause: [connection_refused] }, code: 503 }] }",
    ),
    (
        "errors: { overrides: { connection_refused: 503 } }",
        "errors.overrides: found a mapping; expected a list, for example [{ when: { cause: connection_refused }, code: 503 }]",
        "errors: { overrides: [{ when: { cause: connection_refused }, code: 503 }] }",
    ),
    (
        "rate_limits: { a: 10r/s }\nroutes: [{ name: r, upstream: shop, rate_limits: [a] }]",
        "rate_limits.a: found \"10r/s\"; expected a mapping, for example { allow: 10 per 1s }",
        "rate_limits: { a: { allow: 10 per 1s } }\nroutes: [{ name: r, upstream: shop, rate_limits: [a] }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, rate_limits: [100 per 1m] }]",
        "routes[0].rate_limits[0]: unknown rate limit \"100 per 1m\"; declare it as rate_limits: { limit: { allow: 100 per 1m } }, and write limit here",
        "rate_limits: { limit: { allow: 100 per 1m } }\nroutes: [{ name: r, upstream: shop, rate_limits: [limit] }]",
    ),
    ("drain: [5s]", "drain: found a list; write 5s", "drain: 5s"),
    (
        "metrics: { port: 9090 }",
        "metrics: unknown key; did you mean \"telemetry\"?",
        "telemetry: { address: \":9090\" }",
    ),
    (
        "entryPoints: { web: { address: \":80\" } }",
        "entryPoints: unknown key; did you mean \"listen\"?",
        "listen: [{ address: \":80\" }]",
    ),
    (
        "upstreams: { shop: { servers: [\"a:80\"], connect_timeout: 5s } }",
        "upstreams.shop.connect_timeout: unknown key; write timeouts: { connect: 5s }",
        "upstreams: { shop: { servers: [\"a:80\"], timeouts: { connect: 5s } } }",
    ),
    (
        "upstreams: { shop: { servers: [\"a:80\"], timeout: 5s } }",
        "upstreams.shop.timeout: unknown key; did you mean \"timeouts\"?",
        "upstreams: { shop: { servers: [\"a:80\"], timeouts: { deadline: 5s } } }",
    ),
    (
        "routes: [{ name: r, upstream: shop, headers: { set: { X-A: b } } }]",
        "routes[0].headers: unknown key; did you mean \"request_headers\"?",
        "routes: [{ name: r, upstream: shop, request_headers: { set: { X-A: b } } }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, paths: /x }]",
        "routes[0].paths: \"/x\" is not how paths are handled; write match: { path: /x }",
        "routes: [{ name: r, upstream: shop, match: { path: /x } }]",
    ),
    (
        "routes: [{ name: r, upstream: shop, paths: [/x] }]",
        "routes[0].paths: found a list; expected strict or lenient",
        "routes: [{ name: r, upstream: shop, paths: strict }]",
    ),
    (
        "upstreams: { shop: { servers: [\"a:80\"], name: x } }",
        "upstreams.shop.name: unknown key; expected servers, balance, keepalive, retry, health, ejection, breaker, concurrency, tls, http2, host, via, dns_refresh or timeouts",
        "upstreams: { shop: { servers: [\"a:80\"] } }",
    ),
    (
        "server: { listen: 80 }",
        "server: unknown key; expected listen, upstreams and routes: `statusquo init` writes a file with them",
        "listen: [{ address: \":80\" }]",
    ),
];

#[test]
fn each_mistake_of_a_newcomer_leads_to_an_accepted_file() {
    for (section, expected, mended) in LEADS {
        let found = messages(&with_defaults(section));
        assert!(found.iter().any(|message| message == expected), "{section}\n{found:#?}");
        let mended = with_defaults(mended);
        assert!(load(&mended).is_ok(), "{mended}{}", load(&mended).unwrap_err());
        // What the help writes out is in the mended file.
        let help = expected.split_once("; ").unwrap().1;
        let written = help.find(['{', '[']).zip(help.rfind(['}', ']']));
        if let Some(value) = written.and_then(|(from, to)| help.get(from..=to)) {
            assert!(mended.contains(value), "{value} is not in {mended}");
        }
    }
}

#[test]
fn secret_is_not_repeated_in_a_help() {
    let section = "stores: [{ name: a, redis: \"redis://me:hidden@a\", secret: hidden0123456789 }]";
    let found = messages(&with_defaults(section)).join("\n");
    assert!(!found.contains("hidden") && found.starts_with("stores: found a list; "), "{found}");
    let section = "stores: { a: { redis: [\"redis://me:hidden@a\"], secret: [hidden0123456789] } }";
    let found = messages(&with_defaults(section)).join("\n");
    assert!(!found.contains("hidden") && found.contains("stores.a.secret: found a list; "), "{found}");
}

#[test]
fn problems_of_a_contract_are_reported_together_unless_one_follows_from_another() {
    let section = |contract: &str, route: &str| {
        with_defaults(&format!(
            "contracts: {{ c: {{ {contract} }} }}\nroutes: [{{ name: r, upstream: shop, contract: c, {route} }}]"
        ))
    };
    let several = "codes: [{ code: 400, message: \"<b>\" }, { code: 500, type: 1a }], causes: { nope: { message: x }, \
                   dns_error: { code: 419 } }, statuses: { 200: 400, 422: 499 }, body: { error: \"{mesage}\" }";
    let paths: Vec<String> = messages(&section(several, ""))
        .iter()
        .map(|message| message.split(": ").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        paths,
        [
            "contracts.c.codes[0].message",
            "contracts.c.codes[1].type",
            "contracts.c.causes.nope",
            "contracts.c.causes.dns_error.code",
            "contracts.c.statuses.200",
            "contracts.c.statuses.422",
            "contracts.c.body.error",
        ]
    );
    // The code that a cause and an override use may be the invalid one.
    let missing = "codes: [{ code: 400 }, { code: 700 }], causes: { dns_error: { code: 422 } }";
    let uses = "errors: { overrides: [{ when: { cause: dns_error }, code: 422 }] }";
    assert_eq!(
        messages(&section(missing, uses)),
        ["contracts.c.codes[1].code: 700 is out of range; expected 400 to 599"]
    );
    // An override has nothing to do with the contract that its route lacks.
    let override_mistake = "errors: { overrides: [{ when: { cause: nope }, code: 422, message: \"<b>\" }] }";
    assert_eq!(messages(&section("codes: [{ code: 400 }, { code: 500 }]", override_mistake)).len(), 3);
}
