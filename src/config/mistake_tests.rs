//! Mistakes that would have no effect, or are written as other tools write them: each with its messages.

use super::{load, messages};

/// A valid file with this section in the place of its own.
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
];
