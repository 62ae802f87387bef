//! The complete text of configuration problems.

use super::{config_with, load_error, messages};

#[test]
fn unknown_name_error_shows_line_caret_and_suggestion() {
    let text = "listen:\n  - address: \":8080\"\nupstreams:\n  shop: { servers: [\"10.0.1.10:8000\"] }\nroutes:\n  - name: shop\n    upstream: shpo\n";
    assert_eq!(
        load_error(text),
        "statusquo.yaml:7:15: routes[0].upstream: unknown upstream \"shpo\"; did you mean \"shop\"?
  7 |     upstream: shpo
    |               ^
1 problem
"
    );
}

#[test]
fn all_problems_are_reported_in_file_order() {
    let text = r#"version: 2
listen:
  - address: ":8080"
    proxy_protocol: true
telemetry: { address: "127.0.0.1:8080" }
client:
  header_timout: 5s
  body_timeout: 5
upstreams:
  shop:
    servers: ["http//api:80"]
    retry: { attempts: 0 }
  auth: [1, 2]
timeouts:
  connect: ${CONNECT}
routes:
  - name: one
    match: { path: "/a/{id}" }
    upstream: shop
  - name: one
    match: { path: "/a/{name}" }
    upstream: auth
    errors: { overrides: [{ when: { cause: conection_refused }, code: 502 }] }
    colour: red
"#;
    let expected = r#"statusquo.yaml:1:10: version: version 2 of the file format is not supported; write version: 1
  1 | version: 2
    |          ^
statusquo.yaml:3:14: listen[0].address: 0.0.0.0:8080 is also the telemetry address; use a different port for one of them
  3 |   - address: ":8080"
    |              ^
statusquo.yaml:4:21: listen[0].proxy_protocol: found "true"; expected a mapping, for example { from: [10.0.0.0/8] }
  4 |     proxy_protocol: true
    |                     ^
statusquo.yaml:7:3: client.header_timout: unknown key; did you mean "header_timeout"?
  7 |   header_timout: 5s
    |   ^
statusquo.yaml:8:17: client.body_timeout: "5" has no unit; write 5s
  8 |   body_timeout: 5
    |                 ^
statusquo.yaml:11:15: upstreams.shop.servers[0]: "http//api:80" is not an address; write "http://api:80"
  11 |     servers: ["http//api:80"]
     |               ^
statusquo.yaml:12:24: upstreams.shop.retry.attempts: 0 is out of range; expected 1 to 10
  12 |     retry: { attempts: 0 }
     |                        ^
statusquo.yaml:13:3: upstreams.auth: found a list; expected a mapping (servers, balance, keepalive, retry, ...)
  13 |   auth: [1, 2]
     |   ^
statusquo.yaml:15:12: timeouts.connect: the environment variable CONNECT is not set; set it, or write a default: "${CONNECT:-default}"
  15 |   connect: ${CONNECT}
     |            ^
statusquo.yaml:20:11: routes[1].name: another route is already named "one"; choose another name
  20 |   - name: one
     |           ^
statusquo.yaml:21:5: routes[1].match: the route matches the same requests as route "one"; change the host, path or methods of one of them
  21 |     match: { path: "/a/{name}" }
     |     ^
statusquo.yaml:23:44: routes[1].errors.overrides[0].when.cause: unknown cause "conection_refused"; did you mean "connection_refused"?
  23 |     errors: { overrides: [{ when: { cause: conection_refused }, code: 502 }] }
     |                                            ^
statusquo.yaml:23:71: routes[1].errors.overrides[0].code: 502 is not in the contract "appwrite"; expected 400, 401, 403, 404, 409, 429, 500, 503 or 504
  23 |     errors: { overrides: [{ when: { cause: conection_refused }, code: 502 }] }
     |                                                                       ^
statusquo.yaml:24:5: routes[1].colour: unknown key; expected name, match, upstream, contract, strip_prefix, rewrite, request_headers, response_headers, redirect, respond, maintenance, errors, cors, timeouts, max_body, rate_limits, deny, allow_from, deny_from, paths, upgrades or forwarded
  24 |     colour: red
     |     ^
14 problems
"#;
    assert_eq!(load_error(text), expected);
}

/// A section that is added to a valid file, and its problems.
pub(super) const EXPECTED_MESSAGES: &[(&str, &[&str])] = &[
    ("workers: 0", &["workers: 0 is out of range; expected 1 to 1024"]),
    ("workers: many", &["workers: \"many\" is not a number of threads; expected auto or 1 to 1024"]),
    ("drain: off", &["drain: \"off\" is not allowed here; use a duration such as 1s"]),
    ("drain: [5s]", &["drain: found a list; write 5s"]),
    ("listen: []", &["listen: duplicate key, first on line 1; remove one of them"]),
    ("log: { format: xml }", &["log.format: unknown value \"xml\"; expected auto, text or json"]),
    ("log: { level: infos }", &["log.level: unknown value \"infos\"; did you mean \"info\"?"]),
    ("log: loud", &["log: found \"loud\"; expected a mapping (format, level, requests, evidence)"]),
    (
        "client: { trusted_proxies: 10.0.0.0/8 }",
        &["client.trusted_proxies: found \"10.0.0.0/8\"; expected a list, for example [10.0.0.0/8]"],
    ),
    (
        "client: { trusted_proxies: [10.0.0.1/8] }",
        &[
            "client.trusted_proxies[0]: \"10.0.0.1/8\" has host bits set; write 10.0.0.0/8, or the address without /8",
        ],
    ),
    (
        "client: { trusted_proxies: [unix, \"unix:\"] }",
        &[
            "client.trusted_proxies[1]: \"unix:\" names one socket; write unix, for the peers of all Unix sockets",
        ],
    ),
    (
        "client: { trusted_proxies: [{}, office] }",
        &[
            "client.trusted_proxies[0]: found a mapping; expected a single value",
            "client.trusted_proxies[1]: \"office\" is not a network; expected an address with a prefix, for example 10.0.0.0/8 or \"fd00::/8\"",
        ],
    ),
    (
        "client: { ip_header: \"x forwarded\" }",
        &[
            "client.ip_header: \"x forwarded\" is not a valid field name; use letters, digits and -, for example x-forwarded-for",
        ],
    ),
    (
        "client: { ip_header: Forwarded }",
        &[
            "client.ip_header: the field Forwarded is not a list of addresses; remove it, and write trusted_headers: [forwarded]",
        ],
    ),
    ("client: { ipv6_prefix: 129 }", &["client.ipv6_prefix: 129 is out of range; expected 1 to 128"]),
    (
        "client: { ipv6_prefix: many }",
        &["client.ipv6_prefix: \"many\" is not a whole number; write digits only, for example 64"],
    ),
    (
        "client: { header_timeout: 0s }",
        &["client.header_timeout: the duration must be greater than 0; use a duration such as 1s"],
    ),
    (
        "client: { max_header_bytes: 128KiB }",
        &["client.max_header_bytes: \"128KiB\" is too large; use 1KiB to 64KiB"],
    ),
    ("client: { max_body: 10 }", &["client.max_body: \"10\" has no unit; write 10B, 10KiB or 10MiB"]),
    (
        "client: { min_body_rate: 0B }",
        &["client.min_body_rate: \"0B\" is too small; use off to disable the minimum rate"],
    ),
    ("contract: apwrite", &["contract: unknown contract \"apwrite\"; did you mean \"appwrite\"?"]),
    (
        "contract: { codes: [] }",
        &["contract.codes: no codes are declared; list the codes that clients may receive"],
    ),
    (
        "contract: { codes: [{ code: 600, message: x }, { code: 404 }] }",
        &["contract.codes[0].code: 600 is out of range; expected 400 to 599"],
    ),
    (
        "contract: { codes: [{ code: 499, message: x }] }",
        &["contract.codes[0].text: missing; write a reason phrase, because 499 has no registered one"],
    ),
    (
        "contract: { causes: { body_to_large: { message: x } } }",
        &[
            "contract.codes: missing; list the codes that clients may receive",
            "contract.causes.body_to_large: unknown cause \"body_to_large\"; did you mean \"body_too_large\"?",
        ],
    ),
    ("errors: enforced", &["errors: unknown value \"enforced\"; did you mean \"enforce\"?"]),
    ("errors: [pass]", &["errors: found a list; expected a single value or a mapping"]),
    (
        "errors: { format: problem }",
        &["errors.format: \"problem\" is not supported yet; use \"negotiate\", or contract: problem"],
    ),
    (
        "errors: { include: [id] }",
        &[
            "errors.include[0]: unknown value \"id\"; expected type, details, request_id, cause, retryable or request_sent",
        ],
    ),
    (
        "errors: { upstream_body: { limit: 65KiB } }",
        &[
            "errors.upstream_body.limit: \"65KiB\" is too large; use 1B to 64KiB: a larger error body never conforms",
        ],
    ),
    (
        "errors: { retry_after: 500ms }",
        &["errors.retry_after: \"500ms\" cannot be sent as Retry-After; use whole seconds from 1s to 1d"],
    ),
    (
        "errors: { keep_headers: [x-trace, Content-Length] }",
        &[
            "errors.keep_headers[1]: \"Content-Length\" cannot be kept: the field describes the body, the connection or the gateway's response; remove it",
        ],
    ),
    (
        "errors: { keep_headers: [\"x-*\"] }",
        &[
            "errors.keep_headers[0]: \"x-*\" is not one field name: * stands for nothing here; use letters, digits and -, for example x-forwarded-for",
        ],
    ),
    (
        "drain: \"${A:-${B}}\"",
        &[
            "drain: \"A:-${B\" has a variable in its default; a default is plain text: replace the inner variable by its value",
        ],
    ),
    (
        "errors: { overrides: [{}] }",
        &[
            "errors.overrides[0].when: missing; add a condition, for example when: { cause: connection_refused }",
            "errors.overrides[0]: the override changes nothing; add code, message or retry_after",
        ],
    ),
    (
        "errors: { overrides: [{ when: {}, code: 503 }] }",
        &[
            "errors.overrides[0].when: the override would apply to every error; add cause, upstream_status, upstream or method",
        ],
    ),
    (
        "errors: { overrides: [{ when: { upstream: shpo }, code: 503 }] }",
        &["errors.overrides[0].when.upstream: unknown upstream \"shpo\"; did you mean \"shop\"?"],
    ),
    (
        "errors: { overrides: [{ when: { cause: draining, upstream_status: 502 }, code: 503 }] }",
        &[
            "errors.overrides[0].when: the override would never apply: an error of the gateway has no upstream status; keep either cause or upstream_status, or use cause: upstream_response",
        ],
    ),
    (
        "errors: { overrides: [{ when: { upstream_status: [404, teapot], method: get }, message: \"<b>\" }] }",
        &[
            "errors.overrides[0].when.upstream_status[1]: \"teapot\" is not an error status code; expected 400 to 599",
            "errors.overrides[0].when.method: \"get\" is not a method; methods are case-sensitive, write GET",
            "errors.overrides[0].message: the message looks like markup or a stack trace; expected one plain sentence",
        ],
    ),
    (
        "timeouts: { connect: 40s, deadline: 30s }",
        &[
            "timeouts.connect: 40s is longer than deadline (30s), so it would never take effect; shorten connect or lengthen deadline",
        ],
    ),
    (
        "timeouts: { tls: 3s, tunnel_idle: 1hour }",
        &["timeouts.tunnel_idle: \"1hour\" is not a duration; write 1h"],
    ),
    (
        "timeouts: { max_duration: 0s }",
        &["timeouts.max_duration: \"0s\" is not allowed here; write off, or a value such as 5s"],
    ),
    (
        "cors: {}",
        &[
            "cors.allow_origins: missing; list at least one, for example allow_origins: [\"https://app.example.com\"]",
        ],
    ),
    (
        "cors: { allow_origins: [\"https://app.example.com/\", app.example.com, \"null\", \"https://*\", \"https://a:x\", \"https://bücher.example\", \"https://\"] }",
        &[
            "cors.allow_origins[0]: \"https://app.example.com/\" is not an origin; an origin has no path: write \"https://app.example.com\"",
            "cors.allow_origins[1]: \"app.example.com\" is not an origin; start with the scheme, for example \"https://app.example.com\"",
            "cors.allow_origins[2]: \"null\" is the origin of every sandboxed page, so it is never allowed; serve the page from a named origin, and list that origin",
            "cors.allow_origins[3]: \"https://*\" is not an origin; use * for whole leading labels only, for example \"https://*.example.com\"",
            "cors.allow_origins[4]: \"https://a:x\" is not an origin; use a port from 1 to 65535",
            "cors.allow_origins[5]: \"https://bücher.example\" is not an origin; write the host as browsers send it, in its xn-- form (Punycode)",
            "cors.allow_origins[6]: \"https://\" is not an origin; expected scheme://host or scheme://host:port, for example \"https://app.example.com\"",
        ],
    ),
    (
        "cors: { allow_origins: [\"*\"], allow_credentials: true, expose_headers: [\"*\"] }",
        &[
            "cors.allow_origins[0]: with allow_credentials, any website could send requests on behalf of your users; list the origins, or remove allow_credentials",
            "cors.expose_headers[0]: with allow_credentials, browsers treat \"*\" as a field name; list the fields",
        ],
    ),
    (
        "cors: { allow_origins: [\"*\", \"https://a.b\", \"HTTPS://A.b:443\"], allow_methods: [\"*\", get], allow_headers: [\"*\", \"a b\"], max_age: 1500ms }",
        &[
            "cors.allow_origins[0]: \"*\" already allows every origin; remove the other origins, or remove \"*\"",
            "cors.allow_origins[2]: \"HTTPS://A.b:443\" is listed twice; keep one",
            "cors.allow_methods[0]: \"*\" is not a method; remove allow_methods to allow the methods of the route",
            "cors.allow_methods[1]: \"get\" is not a method; methods are case-sensitive, write GET",
            "cors.allow_headers[0]: \"*\" is not a valid field name; remove allow_headers to allow the requested fields",
            "cors.allow_headers[1]: \"a b\" is not a valid field name; use letters, digits and -, for example x-forwarded-for",
            "cors.max_age: \"1500ms\" cannot be sent as Access-Control-Max-Age; use whole seconds, at most 1d",
        ],
    ),
    (
        "cors: { allow_origins: [], allow_methods: [], max_age: 2d, origins: [] }",
        &[
            "cors.allow_origins: no origin is listed; list at least one, for example allow_origins: [\"https://app.example.com\"]",
            "cors.allow_methods: no method is listed; remove the key to allow the methods of the route",
            "cors.max_age: \"2d\" cannot be sent as Access-Control-Max-Age; use whole seconds, at most 1d",
            "cors.origins: unknown key; did you mean \"allow_origins\"?",
        ],
    ),
    (
        "rate_limits: { a: {}, b: { allow: 100 }, c: { allow: 0 per 1m }, d: { allow: 2000000 per 1s }, e: { allow: 1 per 365d, burst: 2 }, f: { allow: 1 per 1m, burst: 0 } }",
        &[
            "rate_limits.a.allow: missing; write the quota, for example allow: 100 per 1m",
            "rate_limits.b.allow: \"100\" is not a quota; write COUNT per DURATION, for example 100 per 1m",
            "rate_limits.c.allow: \"0 per 1m\" would deny every request; use a count and a duration greater than 0",
            "rate_limits.d.allow: \"2000000 per 1s\" exceeds one million per second; remove the rule, or reduce the quota",
            "rate_limits.e.burst: a bucket of 2 would take more than a year to refill; reduce burst, or increase the quota",
            "rate_limits.f.burst: 0 is out of range; expected 1 to 4294967295",
        ],
    ),
    (
        "rate_limits: { a: { allow: 1 per 1s, exempt: [{ header: x-key, sha256: secret }, { header: \"\" }, 7], reset_on: [201, 42], retry_after_jitter: 2h }, b: { allow: 1 per 1s, retry_after_jitter: 1500ms } }\nrate_limit_headers: none",
        &[
            "rate_limits.a.exempt[0].sha256: the value is not a SHA-256; write the 64 hexadecimal digits that `printf %s VALUE | sha256sum` prints",
            "rate_limits.a.exempt[1].sha256: missing; write the 64 hexadecimal digits that `printf %s VALUE | sha256sum` prints",
            "rate_limits.a.exempt[1].header: \"\" is not a valid field name; use letters, digits and -, for example x-forwarded-for",
            "rate_limits.a.exempt[2]: \"7\" is not a network; expected an address with a prefix, for example 10.0.0.0/8 or \"fd00::/8\"",
            "rate_limits.a.reset_on[1]: 42 is out of range; expected 200 to 599",
            "rate_limits.a.retry_after_jitter: \"2h\" cannot be added to Retry-After; use whole seconds, at most 1h",
            "rate_limits.b.retry_after_jitter: \"1500ms\" cannot be added to Retry-After; use whole seconds, at most 1h",
            "rate_limit_headers: unknown value \"none\"; expected x_ratelimit, ratelimit or both",
        ],
    ),
    (
        "rate_limits: { a: { allow: { requests: 0, per: 1m } }, b: { allow: { requests: 5 } }, c: { allow: { per: 0s, count: 5 } }, d: { allow: 5 per 1m, burst: 9, algorithm: sliding_window }, e: { allow: 5 per 1m, cost: 6 }, f: { allow: 5 per 1m, burst: 6, cost: 6 }, g: { allow: { requests: 5000000, per: 1s }, cost: 0 }, h: { allow: 5 per 1m, unreadable: client_ip }, i: { allow: 5 per 1m, key: [\"body:id\"], unreadable: allow } }",
        &[
            "rate_limits.a.allow.requests: 0 is out of range; expected 1 to 4294967295",
            "rate_limits.b.allow.per: missing; write the period, for example per: 1m",
            "rate_limits.c.allow.requests: missing; write the number of requests, for example requests: 100",
            "rate_limits.c.allow.per: the duration must be greater than 0; use a duration such as 1s",
            "rate_limits.c.allow.count: unknown key; did you mean \"requests\"?",
            "rate_limits.d.burst: burst has no effect with a window algorithm; remove it, or use algorithm: gcra",
            "rate_limits.e.cost: 6 exceeds the 5 that are admitted at once; use at most 5, or increase the quota",
            "rate_limits.g.allow: \"5000000 per 1s\" exceeds one million per second; remove the rule, or reduce the quota",
            "rate_limits.g.cost: 0 is out of range; expected 1 to 4294967295",
            "rate_limits.h.unreadable: unreadable has no effect without a body part in key; remove it, or add \"body:NAME\" to key",
            "rate_limits.i.unreadable: unknown value \"allow\"; expected reject or client_ip",
        ],
    ),
    (
        "rate_limits: { a: { allow: 1 per 1s, key: [ip, clientip, \"header:\", \"body:\", \"user:x\", route, route] } }",
        &[
            "rate_limits.a.key[0]: \"ip\" is not a valid key part; write \"client_ip\"",
            "rate_limits.a.key[1]: \"clientip\" is not a valid key part; did you mean \"client_ip\"?",
            "rate_limits.a.key[2]: \"header:\" is not a valid key part; use letters, digits and -, for example header:x-api-key",
            "rate_limits.a.key[3]: \"body:\" has no name; write one after the colon, for example body:id",
            "rate_limits.a.key[4]: \"user:x\" is not a valid key part; expected client_ip, host, method, route, header:NAME, cookie:NAME, query:NAME, path:NAME or body:NAME",
            "rate_limits.a.key[6]: \"route\" is listed twice; keep one",
        ],
    ),
    (
        "rate_limits: { a: { allow: 1 per 1s, key: [], mode: off, exempt: [10.0.0.1/8], max_keys: 15, algorithm: fixed, store: shared } }",
        &[
            "rate_limits.a.key: the list is empty, so all clients would share one counter; use [route] if that is intended",
            "rate_limits.a.mode: unknown value \"off\"; expected enforce or shadow",
            "rate_limits.a.exempt[0]: \"10.0.0.1/8\" has host bits set; write 10.0.0.0/8, or the address without /8",
            "rate_limits.a.max_keys: 15 is out of range; expected 16 to 10000000",
            "rate_limits.a.algorithm: unknown value \"fixed\"; expected gcra, fixed_window or sliding_window",
            "rate_limits.a.store: unknown store \"shared\"; add it: stores: { shared: { redis: redis://127.0.0.1:6379 } }",
        ],
    ),
    ("response_headers: 5s", &["response_headers: unknown key; write timeouts: { response_headers: 5s }"]),
    ("timeouts:\n  <<: { deadline: 5s }", &["timeouts.<<: merge keys are not supported; write the keys out"]),
];

#[test]
fn every_problem_has_a_message_and_help() {
    for (section, expected) in EXPECTED_MESSAGES {
        assert_eq!(messages(&config_with(section)), *expected, "{section}");
    }
}

#[test]
fn every_upstream_and_route_problem_has_help() {
    let table: &[(&str, &[&str])] = &[
        (
            "upstreams: { shop: { servers: [\"a:80\"] } }\nroutes: [{ name: r, upstream: shop, match: { path: \"/u/{id}/p/{id}\" } }]",
            &[
                "routes[0].match.path: \"/u/{id}/p/{id}\" has the parameter {id} twice; give each parameter a name of its own",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"] } }\nroutes: [{ name: r, upstream: shop, match: { path: \"/star/a{*rest}\" } }]",
            &[
                "routes[0].match.path: \"/star/a{*rest}\" has {*rest} within a segment; use static text, {parameter} and {*rest}, for example \"/users/{id}\" or \"/{*rest}\"",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"] } }\nroutes: [{ name: r, upstream: shop, rewrite: \"/a b\" }]",
            &[
                "routes[0].rewrite: \"/a b\" would never be accepted: the target has a byte that must be percent-encoded; write a path as it is sent, with %20 for a space and without dot segments",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"] } }\nroutes: [{ name: r, upstream: shop, rewrite: \"/x/../y\" }]",
            &[
                "routes[0].rewrite: \"/x/../y\" would never be accepted: the rewritten path has dot segments; write a path as it is sent, with %20 for a space and without dot segments",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"] } }\nroutes: [{ name: r, upstream: shop, request_headers: { set: { x-a: \"1\", X-A: \"2\" } } }]",
            &[
                "routes[0].request_headers.set.X-A: x-a is listed twice, because field names are case-insensitive; remove one of them",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"] } }\nroutes: [{ name: r, upstream: shop, match: { headers: { x-a: \"1\", X-A: \"2\" } } }]",
            &[
                "routes[0].match.headers.X-A: x-a is listed twice, because field names are case-insensitive; remove one of them",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"], host: Client } }\nroutes: [{ name: r, upstream: shop }]",
            &["upstreams.shop.host: \"Client\" is not a choice; write \"client\""],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"], host: $host } }\nroutes: [{ name: r, upstream: shop }]",
            &[
                "upstreams.shop.host: \"$host\" is not one host; write client, server, or a host, for example \"api.internal\"",
            ],
        ),
        (
            "upstreams: { shop: { servers: [] } }\nroutes: [{ name: r, upstream: shop }]",
            &[
                "upstreams.shop.servers: no server is listed; list at least one, for example servers: [\"127.0.0.1:8000\"]",
            ],
        ),
        (
            "upstreams: { shop: }\nroutes: [{ name: r, upstream: shop }]",
            &[
                "upstreams.shop.servers: missing; list at least one, for example servers: [\"127.0.0.1:8000\"]",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"ftp://a\", \"b:443\", \"c:80\", \"http://c\", { weight: 0 }] } }\nroutes: [{ name: r, upstream: shop }]",
            &[
                "upstreams.shop.servers[0]: \"ftp://a\" has an unsupported scheme; write \"http://a\"",
                "upstreams.shop.servers[1]: port 443 is for TLS; write \"https://b\"",
                "upstreams.shop.servers[3]: c:80 is listed twice; keep one and set its weight: { address: \"c:80\", weight: 2 }",
                "upstreams.shop.servers[4].address: missing; write host:port, for example \"api.internal:80\"",
                "upstreams.shop.servers[4].weight: 0 is out of range; expected 1 to 1000",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"], tls: {} }, auth: { servers: [\"https://a\", \"http://b\"], tls: { verify: false, ca: x, sni: \"a b\" } } }\nroutes: [{ name: r, upstream: shop }]",
            &[
                "upstreams.shop.tls: no server of this upstream uses TLS; write the servers as https://host:port, or remove tls",
                "upstreams.auth.servers[1]: b:80 does not use TLS, but other servers of this upstream do; use https:// for all of them, or move it to another upstream",
                "upstreams.auth.tls.ca: ca has no effect with verify: false; remove verify: false, or ca",
                "upstreams.auth.tls.sni: \"a b\": not a valid certificate name; expected a host name, for example api.internal, or an address",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"], balance: { hash: ip }, http2: sometimes, health: {}, ejection: on, breaker: { failure_ratio: 20 } } }\nroutes: [{ name: r, upstream: shop }]",
            &[
                "upstreams.shop.balance.hash: \"ip\" cannot be hashed; write \"client_ip\"",
                "upstreams.shop.http2: unknown value \"sometimes\"; expected off, auto or always",
                "upstreams.shop.health: nothing is checked; write a path, for example path: /healthz; or tcp: true to check only the connection",
                "upstreams.shop.ejection: unknown value \"on\"; write a mapping, for example { consecutive: 5 }; or remove it: this is the default",
                "upstreams.shop.breaker.failure_ratio: \"20\" has no unit; write 20%",
            ],
        ),
        (
            "upstreams: { \"my shop\": { servers: [\"a:80\"] } }\nroutes: [{ name: none, upstream: \"my shop\" }]",
            &[
                "upstreams.my shop: \"my shop\" is not a valid name; use 1 to 64 of A-Z, a-z, 0-9, _, . and -",
                "routes[0].name: \"none\" is reserved: metrics use it for requests without a route; choose another name",
            ],
        ),
        (
            "routes: [{ name: r, upstream: shop }]",
            &[
                "routes[0].upstream: unknown upstream \"shop\"; add it: upstreams: { shop: { servers: [\"127.0.0.1:8000\"] } }",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"] } }",
            &["routes: missing; add a route, for example routes: [{ name: all, upstream: shop }]"],
        ),
        (
            "upstreams: 5\nroutes: [{ name: r, upstream: shop }, { upstream: }]",
            &[
                "upstreams: found \"5\"; expected a mapping, for example { NAME: { servers: [\"127.0.0.1:8000\"] } }",
                "routes[1].name: missing; write a name for metrics and logs, for example name: api",
                "routes[1].match: the route matches the same requests as route \"r\"; change the host, path or methods of one of them",
                "routes[1].upstream: missing; write the name of an upstream, for example upstream: shop",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"] }, b: { servers: [\"b:80\"] } }\nroutes: [{ name: r, upstream: shop, errors: { overrides: [{ when: { upstream: b }, code: 503 }] } }]",
            &[
                "routes[0].errors.overrides[0].when.upstream: the override would never apply: this route uses upstream \"shop\"; remove this key",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"] } }\nroutes: [{ name: r, upstream: shop, allow_from: [], match: { methods: [] }, paths: lax, cors: default, rate_limits: [x], upgrades: [websocket, WebSocket, h2c, a b] }]",
            &[
                "routes[0].allow_from: the list is empty, so no client could use the route; list networks, or remove the key",
                "routes[0].match.methods: the list is empty, so the route would match no request; remove the key to match all methods",
                "routes[0].paths: unknown value \"lax\"; expected strict or lenient",
                "routes[0].cors: \"default\" needs a top-level cors section; add one, or define the policy here: cors: { allow_origins: [\"https://app.example.com\"] }",
                "routes[0].rate_limits[0]: unknown rate limit \"x\"; add it: rate_limits: { x: { allow: 100 per 1m } }",
                "routes[0].upgrades[1]: \"WebSocket\" is listed twice; keep one",
                "routes[0].upgrades[2]: \"h2c\" cannot be tunnelled: requests inside it would bypass the rules of the gateway; remove it",
                "routes[0].upgrades[3]: \"a b\" cannot be tunnelled: it is not a valid protocol name; remove it",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"] } }\nrate_limits: { per_ip: { allow: 1 per 1s }, bad: { allow: x } }\nroutes: [{ name: r, upstream: shop, rate_limits: [perip, per_ip, per_ip, bad, other] }]",
            &[
                "rate_limits.bad.allow: \"x\" is not a quota; write COUNT per DURATION, for example 100 per 1m",
                "routes[0].rate_limits[0]: unknown rate limit \"perip\"; did you mean \"per_ip\"?",
                "routes[0].rate_limits[2]: \"per_ip\" is listed twice; keep one",
                "routes[0].rate_limits[4]: unknown rate limit \"other\"; expected per_ip or bad",
            ],
        ),
        (
            "upstreams: { shop: { servers: [\"a:80\"] } }\nroutes: [{ name: a, match: { path: /a }, respond: { code: 402 }, upstream: shop, strip_prefix: /a, request_headers: {} }, \
             { name: b, match: { path: /b }, respond: { code: 404, body: x } }, { name: c, match: { path: /c }, respond: {} }, { name: d, match: { path: /d }, respond: { status: 404, body: x } }, \
             { name: e, match: { path: /e }, respond: { status: 200, body: x } }, { name: f, match: { path: /f }, respond: { status: 204, body: x, media_type: text/plain } }, \
             { name: g, match: { path: /g }, respond: { status: 302 }, redirect: { to: /x } }, { name: h, match: { path: /h }, respond: { status: 200, media_type: text } }]",
            &[
                "routes[0].respond.code: 402 is not in the contract \"appwrite\"; expected 400, 401, 403, 404, 409, 429, 500, 503 or 504",
                "routes[0].upstream: a route with respond forwards nothing: upstream would never apply; remove upstream, or respond",
                "routes[0].strip_prefix: a route with respond forwards nothing: strip_prefix would never apply; remove strip_prefix, or respond",
                "routes[0].request_headers: a route with respond forwards nothing: request_headers would never apply; remove request_headers, or respond",
                "routes[1].respond.body: the contract defines the response with this code: body would never apply; remove body, or code",
                "routes[2].respond: code and status are missing; write code: 404 for an error of the contract, or status: 200 for a fixed response",
                "routes[3].respond.status: \"404\" is not the status of a fixed response; write 200 to 399, or code: 404 for an error of the contract",
                "routes[4].respond.media_type: missing; write the media type of body, for example media_type: text/plain",
                "routes[5].respond.body: a response with 204 has no body; remove body, or write status: 200",
                "routes[5].respond.media_type: a response with 204 has no body; remove media_type, or write status: 200",
                "routes[6].respond: a route with redirect forwards nothing: respond would never apply; remove respond, or redirect",
                "routes[6].respond.status: \"302\" is not the status of a fixed response; write 200 to 399, or redirect in place of respond",
                "routes[7].respond.media_type: \"text\" is not a media type; write TYPE/SUBTYPE, for example text/plain",
            ],
        ),
    ];
    for (section, expected) in table {
        let text = format!("listen: [{{ address: \":8080\" }}]\n{section}\n");
        assert_eq!(messages(&text), *expected, "{section}");
    }
}

#[test]
fn syntax_error_shows_its_location() {
    assert_eq!(
        load_error("listen:\n\t- address: x\n"),
        "statusquo.yaml:2:2: a tab is used as indentation; indent with spaces\n  2 |  - address: x\n    |  ^\n1 problem\n"
    );
    assert_eq!(
        load_error("listen: [{ address: ${PORT} }]"),
        "statusquo.yaml:1:22: a comma or a closing bracket is missing; add it, or quote the text: inside brackets, text with \
         { } [ ] or , needs quotes\n  1 | listen: [{ address: ${PORT} }]\n    |                      ^\n1 problem\n"
    );
    assert_eq!(load_error(""), "the file is empty; write one with `statusquo init`\n");
    assert_eq!(
        load_error("just text"),
        "statusquo.yaml:1:1: found \"just text\"; expected a mapping (version, include, workers, drain_delay, ...)\n  \
         1 | just text\n    | ^\n1 problem\n"
    );
}
