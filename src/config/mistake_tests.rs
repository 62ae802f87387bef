//! Mistakes that would have no effect, or are written as other tools write them: each with its messages.

use super::{load, messages};

/// A valid file with this section instead of its own.
pub(super) fn with_defaults(section: &str) -> String {
    let defaults = [
        ("listen:", "listen: [{ address: \":8080\" }]\n"),
        ("upstreams:", "upstreams: { shop: { servers: [\"a:80\"] } }\n"),
        ("routes:", "routes: [{ name: r, upstream: shop }]\n"),
    ];
    let is_written = |key: &str| section.lines().any(|line| line.starts_with(key));
    let missing = defaults.iter().filter(|(key, _)| !is_written(key)).map(|(_, text)| *text);
    missing.collect::<String>() + section + "\n"
}

#[test]
fn mistakes_are_reported_with_what_would_be_right() {
    for (section, expected) in MISTAKES {
        assert_eq!(messages(&with_defaults(section)), *expected, "{section}");
    }
}

/// What `check` warns about.
fn warnings(section: &str) -> Vec<String> {
    let config = load(&with_defaults(section)).unwrap();
    config
        .warnings
        .iter()
        .map(|warning| format!("{}: {}", warning.path, warning.message_and_help()))
        .collect()
}

#[test]
fn rule_that_only_some_routes_can_apply_is_a_warning() {
    let section = |key: &str| {
        format!(
            "rate_limits: {{ a: {{ key: [client_ip, \"{key}\"], allow: 5 per 1m }} }}\nroutes: [{{ name: user, match: {{ \
             path: \"/u/{{id}}\" }}, upstream: shop, rate_limits: [a] }}, {{ name: rest, upstream: shop, rate_limits: [a] }}]"
        )
    };
    let warning = "routes[1].rate_limits: the path has no parameter {id}, so \"a\" counts by client_ip here; add the parameter \
                   to match.path, or use a rule of its own";
    assert_eq!(warnings(&section("path:id")), [warning]);
    assert_eq!(warnings(&section("method")), [""; 0]);
}

pub(super) const MISTAKES: &[(&str, &[&str])] = &[
    (
        "rate_limits: { a: { key: [client_ip, \"path:nope\"], allow: 5 per 1m } }\nroutes: [{ name: r, upstream: shop, rate_limits: [a] }]",
        &[
            "rate_limits.a.key[1]: no route with this rule has a parameter {nope} in its path; remove it, or add {nope} to match.path",
        ],
    ),
    (
        "rate_limits: { a: { key: [\"path:idd\", \"path:{id}\"], allow: 5 per 1m } }\nroutes: [{ name: r, upstream: shop, match: { path: \"/u/{id}\" }, rate_limits: [a] }]",
        &[
            "rate_limits.a.key[0]: no route with this rule has a parameter {idd} in its path; did you mean \"path:id\"?",
            "rate_limits.a.key[1]: \"path:{id}\" has braces; write \"path:id\"",
        ],
    ),
    (
        "contracts: { c: { codes: [{ code: 400 }, { code: 500 }], keep_headers: [Content-Length, connection, x-request-id, \"x-*\", x-a, \"*\"] } }",
        &[
            "contracts.c.keep_headers[0]: \"Content-Length\" cannot be kept: the field describes the body, the connection or the gateway's response; remove it",
            "contracts.c.keep_headers[1]: \"connection\" cannot be kept: the field describes the body, the connection or the gateway's response; remove it",
            "contracts.c.keep_headers[2]: \"x-request-id\" cannot be kept: the field describes the body, the connection or the gateway's response; remove it",
            "contracts.c.keep_headers[5]: \"*\" is not a field name; write a name such as x-shop-hint, or x-shop-* for every name that begins so",
        ],
    ),
    (
        "errors: { message_paths: [\"$.a\", \"/a/b\", \"$.errors[*]['text']\", \"#/errors/0/a~1b\", .a.b, \"a.*\", \"$\", \"a['b']\", \"a[0]\"] }",
        &[
            "errors.message_paths[0]: \"$.a\" is not a place in a JSON body; write \"a\"",
            "errors.message_paths[1]: \"/a/b\" is not a place in a JSON body; write \"a.b\"",
            "errors.message_paths[2]: \"$.errors[*]['text']\" is not a place in a JSON body; write \"errors[0].text\"",
            "errors.message_paths[3]: \"#/errors/0/a~1b\" is not a place in a JSON body; write \"errors[0].a/b\"",
            "errors.message_paths[4]: \".a.b\" is not a place in a JSON body; write \"a.b\"",
            "errors.message_paths[5]: \"a.*\" is not a place in a JSON body; write \"a[0]\"",
            "errors.message_paths[6]: \"$\" is not a place in a JSON body; write names and indices, for example fault.faultstring or errors[0].text",
            "errors.message_paths[7]: \"a['b']\" is not a place in a JSON body; write \"a.b\"",
        ],
    ),
    (
        "errors: { keep_details: [errors, a.b, error.details, \"$.errors\", /errors, \"errors[0]\", \"\", \" errors\"] }",
        &[
            "errors.keep_details[1]: \"a.b\" is not the name of a member; members are kept at the top level and inside error: write one name, such as errors",
            "errors.keep_details[2]: \"error.details\" is not the name of a member; write \"details\"",
            "errors.keep_details[3]: \"$.errors\" is not the name of a member; write \"errors\"",
            "errors.keep_details[4]: \"/errors\" is not the name of a member; write \"errors\"",
            "errors.keep_details[5]: \"errors[0]\" is not the name of a member; members are kept at the top level and inside error: write one name, such as errors",
            "errors.keep_details[6]: \"\" is not the name of a member; members are kept at the top level and inside error: write one name, such as errors",
            "errors.keep_details[7]: \" errors\" is not the name of a member; write \"errors\"",
        ],
    ),
    (
        "upstreams: { shop: { servers: [\"a:80\"], health: { path: /, expect: [] } }, two: { servers: [\"a:80\"], health: { tcp: true, expect: [200] } } }",
        &[
            "upstreams.shop.health.expect: the list is empty, so no server would be healthy; list the status codes, for example expect: [200, 204]",
            "upstreams.two.health.expect: a connect check has no status; remove it, or write path in place of tcp",
        ],
    ),
    (
        "routes: [{ name: r, upstream: shop, cors: { allow_origins: [\"https://a.com\"] }, response_headers: { set: { Access-Control-Allow-Origin: \"*\", vary: Accept, x-a: b }, add: { vary: Accept }, remove: [date, vary, x-a, x-b, x-b] } }]",
        &[
            "routes[0].response_headers.set.Access-Control-Allow-Origin: \"access-control-allow-origin\" cannot be changed: the key cors of the route decides it; remove it",
            "routes[0].response_headers.set.vary: \"vary\" cannot be changed: the gateway adds members to it; remove it, or use add",
            "routes[0].response_headers.remove[0]: \"date\" cannot be changed: it is the time of the response; remove it",
            "routes[0].response_headers.remove[1]: \"vary\" cannot be changed: the gateway adds members to it; remove it, or use add",
            "routes[0].response_headers.remove[2]: x-a is set or removed already; remove it",
            "routes[0].response_headers.remove[4]: x-b is set or removed already; remove it",
        ],
    ),
    (
        "errors: { format: negotiate }\nroutes: [{ name: r, upstream: shop, response_headers: { remove: [vary, access-control-max-age] } }]",
        &[
            "routes[0].response_headers.remove[0]: \"vary\" cannot be changed: the gateway adds members to it; remove it, or use add",
        ],
    ),
    ("workers: !!str 5", &[": tags (\"!name\") are not supported; remove the tag, and write \"5\""]),
    ("client: !!map { max_body: 5MB }", &[": tags (\"!name\") are not supported; remove the tag"]),
    (
        "listen: [{ address: \"fd:web\" }]",
        &["listen[0].address: \"fd:web\" is not supported yet; write an address such as \":8080\""],
    ),
    ("log: { file: a.log }", &["log.file: not supported yet; remove it; the log is standard error"]),
    ("tracing: {}", &["tracing: not supported yet; remove it; traceparent and tracestate are forwarded"]),
    (
        "upstreams: { shop: { servers: [\"https://a\"], tls: { cert: a, key: b } } }",
        &[
            "upstreams.shop.tls.cert: not supported yet; remove it; the gateway sends servers no certificate",
            "upstreams.shop.tls.key: not supported yet; remove it; the gateway sends servers no certificate",
        ],
    ),
    (
        "routes: [{ name: r, upstream: shop, priority: high }]",
        &["routes[0].priority: not supported yet; remove it; requests of all routes are equal"],
    ),
    (
        "errors: { overrides: [{ when: { cause: load_shed }, code: 503 }] }",
        &["errors.overrides[0].when.cause: \"load_shed\" is not supported yet; remove it, or use queue_full"],
    ),
    (
        "upstreams: { shop: { servers: [ftp://a, ftp://a:21/x] } }",
        &[
            "upstreams.shop.servers[0]: \"ftp://a\" has an unsupported scheme; write \"http://a\"",
            "upstreams.shop.servers[1]: \"ftp://a:21/x\" has an unsupported scheme; write \"http://a:21/x\"",
        ],
    ),
    (
        "client: { max_body: 10485760, max_header_bytes: 8k, min_body_rate: 4 8k, max_connections: \"20,000\", header_timeout: 5000 }",
        &[
            "client.max_body: \"10485760\" has no unit; write 10MiB",
            "client.max_header_bytes: \"8k\" is not a size; write 8KiB",
            "client.min_body_rate: \"4 8k\" is not a size; write a whole number with B, KiB, MiB or GiB, for example 512B or 10MiB",
            "client.max_connections: \"20,000\" is not a whole number; write 20000",
            "client.header_timeout: \"5000\" has no unit; write 5000ms or 5000s",
        ],
    ),
    (
        "timeouts: { stream_idle: 1w, tls: PT5S, deadline: .5s, response_headers: 1 30s, total: 3s, max_duration: -1 }",
        &[
            "timeouts.stream_idle: \"1w\" is not a duration; write 7d",
            "timeouts.tls: \"PT5S\" is not a duration; write 5s",
            "timeouts.deadline: \".5s\" is not a duration; write 500ms",
            "timeouts.response_headers: \"1 30s\" is not a duration; write a whole number with ms, s, m, h or d, for example 800ms, 5s or 1h",
            "timeouts.total: unknown key; did you mean \"deadline\"?",
            "timeouts.max_duration: \"-1\" is not allowed here; write off, or a value such as 5s",
        ],
    ),
    (
        "rate_limits: { a: { allow: 100rps }, b: { allow: \"1,000 every 1 minute\" }, c: { allow: 100-M }, d: { allow: { requests: 5, per: minute } } }",
        &[
            "rate_limits.a.allow: \"100rps\" is not a quota; write 100 per 1s",
            "rate_limits.b.allow: \"1,000 every 1 minute\" is not a quota; write 1000 per 1m",
            "rate_limits.c.allow: \"100-M\" is not a quota; write 100 per 1m",
            "rate_limits.d.allow.per: \"minute\" is not a duration; write 1m",
        ],
    ),
    (
        "upstreams: { shop: { servers: [\"a:80 weight=2\", \"a:80, b:80\", \"http://unix:/run/a.sock\"], retry: off, keepalive: false, health: on, breaker: true, via: no, http2: false } }",
        &[
            "upstreams.shop.servers[0]: \"a:80 weight=2\" is not an address; write \"a:80\"; options are keys, as in { address: \"a:80\", weight: 2 }",
            "upstreams.shop.servers[1]: \"a:80, b:80\" is not an address; list each as an item of its own: \"a:80\", \"b:80\"",
            "upstreams.shop.servers[2]: \"http://unix:/run/a.sock\" is not a socket with a path; write \"unix:/run/a.sock\"",
            "upstreams.shop.retry: found \"off\"; expected a mapping, for example { attempts: 1 }",
            "upstreams.shop.keepalive: found \"false\"; expected a mapping, for example { max: 0 }",
            "upstreams.shop.health: found \"on\"; expected a mapping, for example { path: /healthz }",
            "upstreams.shop.breaker: found \"true\"; expected a mapping, for example {}",
            "upstreams.shop.via: unknown value \"no\"; did you mean \"off\"?",
            "upstreams.shop.http2: unknown value \"false\"; did you mean \"off\"?",
        ],
    ),
    (
        "routes: [{ name: r, upstream: shop, match: { methods: \"GET,POST\" }, deny: [DELETE, PUT], cors: \"*\", maintenance: off }]",
        &[
            "routes[0].match.methods: found \"GET,POST\"; expected a list, for example [GET, POST]",
            "routes[0].deny: found a list; expected a mapping, for example { methods: [DELETE, PUT] }",
            "routes[0].cors: unknown value \"*\"; expected default; or a mapping, for example { allow_origins: [\"https://app.example.com\"] }",
            "routes[0].maintenance: found \"off\"; remove it: without the key, the default applies",
        ],
    ),
    (
        "listen: [{ address: \":8443\", tls: true }]",
        &[
            "listen[0].tls: found \"true\"; expected a mapping, for example { cert: gateway.crt, key: gateway.key }",
        ],
    ),
];

#[test]
fn text_in_the_syntax_of_other_tools_is_a_warning() {
    let section = "routes: [{ name: r, upstream: shop, match: { path: \"/a/{id}\", headers: { x-a: \"a*\" }, query: { b: \"~c\" } }, \
                   rewrite: \"/b/$1\", request_headers: { set: { x-ip: $remote_addr, x-b: \"$\" }, add: { x-c: \"%[src]\" } } }]";
    let exact = "is compared exactly; write one value, or \"*\" alone for any";
    let written = "is sent as it is written; write placeholders in braces, for example {rest} for a parameter of the path";
    assert_eq!(
        warnings(section),
        [
            format!("routes[0].match.headers.x-a: \"a*\" {exact}"),
            format!("routes[0].match.query.b: \"~c\" {exact}"),
            format!("routes[0].rewrite: \"/b/$1\" {written}"),
            format!("routes[0].request_headers.set.x-ip: \"$remote_addr\" {written}"),
            format!("routes[0].request_headers.add.x-c: \"%[src]\" {written}"),
        ]
    );
}

#[test]
fn timeout_above_the_limit_in_effect_is_a_warning() {
    let shown = |path: &str, text: &str| format!("{path}: {text}");
    let route =
        |timeouts: &str| format!("routes: [{{ name: r, upstream: shop, timeouts: {{ {timeouts} }} }}]");
    for (section, expected) in [
        (
            "timeouts: { response_headers: 60s }".to_owned(),
            vec![shown(
                "timeouts.response_headers",
                "60s is longer than deadline, which is 30s (the default), so it never takes effect; write 30s or less, or add deadline: 60s beside it",
            )],
        ),
        (
            format!("timeouts: {{ deadline: 5s }}\n{}", route("connect: 6s, response_headers: 5s")),
            vec![shown(
                "routes[0].timeouts.connect",
                "6s is longer than deadline, which is 5s (timeouts.deadline), so it never takes effect; write 5s or less, or lengthen timeouts.deadline",
            )],
        ),
        (
            format!("timeouts: {{ deadline: 20s }}\n{}", route("max_duration: 10s")),
            vec![shown(
                "timeouts.deadline",
                "20s is longer than max_duration, which is 10s (routes[0].timeouts.max_duration), so it never takes effect; write 10s or less, or lengthen routes[0].timeouts.max_duration",
            )],
        ),
        // Defaults that a shorter deadline covers, and a value that takes effect on another route.
        (format!("timeouts: {{ deadline: 1s }}\n{}", route("deadline: 500ms")), vec![]),
        (
            "timeouts: { response_headers: 20s }\nroutes: [{ name: r, upstream: shop, timeouts: { deadline: 5s } }, { name: s, match: { path: /s }, upstream: shop }]".to_owned(),
            vec![],
        ),
    ] {
        assert_eq!(warnings(&section), expected, "{section}");
    }
    let inherited = "upstreams: { shop: { servers: [\"a:80\"], timeouts: { tls: 9s } } }\nroutes: [{ name: r, upstream: shop, \
                     timeouts: { deadline: 5s } }, { name: s, match: { path: /s }, upstream: shop, timeouts: { deadline: 8s } }]";
    assert_eq!(
        warnings(inherited),
        [
            "upstreams.shop.timeouts.tls: 9s is longer than deadline, which is 8s (routes[1].timeouts.deadline), so it never takes effect; write 8s or less, or lengthen routes[1].timeouts.deadline"
        ]
    );
}

#[test]
fn setting_of_an_upstream_on_a_route_without_one_is_a_warning() {
    let section = "routes: [{ name: f, match: { path: /f }, upstream: shop, errors: pass, timeouts: { connect: 1s } }, { name: r, match: { path: /r }, redirect: { to: /x }, errors: { mode: pass, retry_after: 9s }, timeouts: { \
                   deadline: 5s, max_duration: 9s } }, { name: s, match: { path: /s }, respond: { code: 404 }, errors: observe }]";
    let text = |key: &str| format!("it has no effect: a route with {key} has no upstream; remove it");
    assert_eq!(
        warnings(section),
        [
            format!("routes[1].errors.mode: {}", text("redirect")),
            format!("routes[1].timeouts.deadline: {}", text("redirect")),
            format!("routes[2].errors: {}", text("respond")),
        ]
    );
}

#[test]
fn top_level_cors_that_no_route_uses_is_a_warning() {
    let section =
        |routes: &str| format!("cors: {{ allow_origins: [\"https://a.com\"] }}\nroutes: [{routes}]");
    let own = "{ name: r, upstream: shop, cors: { allow_origins: [\"https://b.com\"] } }";
    let default = "{ name: s, match: { path: /s }, upstream: shop, cors: default }";
    let none = "{ name: t, match: { path: /t }, upstream: shop }";
    let warning = "cors: no route uses this policy: it applies only to requests that reach no route; write cors: default in \
                   each route that uses it, or remove the section";
    assert_eq!(warnings(&section(&format!("{own}, {none}"))), [warning]);
    for used in [own.to_owned(), format!("{own}, {default}, {none}")] {
        assert_eq!(warnings(&section(&used)), [""; 0], "{used}");
    }
}

#[test]
fn section_that_nothing_refers_to_is_a_warning() {
    let section = "rate_limits: { a: { allow: 5 per 1m } }\nstores: { s: { redis: \"redis://a\", secret: 0123456789abcdef } }\ncontracts: { c: { codes: [{ \
                   code: 400 }, { code: 500 }] }, d: { codes: [{ code: 400 }, { code: 500 }] } }\ncontract: d\nupstreams: { shop: { \
                   servers: [\"a:80\"] }, other: { servers: [\"b:80\"] } }";
    let expected = [
        "rate_limits.a: no route has it",
        "stores.s: no rate limit has it",
        "contracts.c: no route or listener has it",
        "upstreams.other: no route has it",
    ];
    assert_eq!(warnings(section), expected.map(|text| format!("{text}; remove it, or use its name there")));
}
