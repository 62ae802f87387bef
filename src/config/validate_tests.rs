//! Valid files load with the documented defaults, every key of the product is known, and no input makes loading panic.
//! `error_message_tests.rs` checks the messages.

use std::time::Duration;

use http::HeaderName;
use proptest::prelude::*;

use super::super::{ErrorMode, LogConfig, LogFormat, LogLevel, LogRequests, Timeouts};
use super::*;

fn load(text: &str) -> Result<Config, Problems> {
    load_str("statusquo.yaml", text, &|name| (name == "PORT").then(|| "8081".to_owned()), 4)
}

fn load_error(text: &str) -> String {
    load(text).unwrap_err().to_string()
}

/// Every problem as `path: message; help`, without its location.
fn messages(text: &str) -> Vec<String> {
    let problems = load(text).unwrap_err();
    problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message_and_help())).collect()
}

#[path = "annotated_tests.rs"]
mod annotated;
#[path = "appwrite_file_tests.rs"]
mod appwrite_file;
#[path = "contract_message_tests.rs"]
mod contract_messages;
#[path = "error_message_tests.rs"]
mod error_messages;
#[path = "mistake_tests.rs"]
mod mistakes;
#[path = "newcomer_tests.rs"]
mod newcomers;
#[path = "typed_in_tests.rs"]
mod typed_in;

const MINIMAL: &str = include_str!("../../config/minimal.yaml");
const ANNOTATED: &str = include_str!("../../config/annotated.yaml");

/// A valid file with an additional section.
fn config_with(section: &str) -> String {
    format!(
        "listen: [{{ address: \":8080\" }}]\n{section}\nupstreams: {{ shop: {{ servers: [\"a:80\"] }} }}\nroutes: [{{ name: r, upstream: shop }}]\n"
    )
}

#[test]
fn minimal_file_loads_with_the_documented_defaults() {
    let config = load(MINIMAL).unwrap();
    let seconds = Duration::from_secs;
    assert_eq!((config.workers, config.drain_delay, config.drain), (4, seconds(5), seconds(30)));
    let listener = &config.listeners[0];
    assert_eq!(
        (config.listeners.len(), listener.address.to_string().as_str(), listener.h2c, listener.tls.is_some()),
        (1, "0.0.0.0:8080", false, false)
    );
    assert_eq!(config.telemetry.address, "127.0.0.1:9464".parse().unwrap());
    let log = LogConfig {
        format: LogFormat::Auto,
        level: LogLevel::Info,
        requests: LogRequests::Errors,
        evidence: 256,
    };
    assert_eq!(config.log, log);
    assert_eq!(
        config.client,
        ClientSettings {
            trusted_proxies: Vec::new(),
            ip_header: HeaderName::from_static("x-forwarded-for"),
            trusted_headers: TrustedHeaders {
                forwarded_for: true,
                forwarded_proto: true,
                forwarded_port: true,
                ..TrustedHeaders::default()
            },
            ipv6_prefix: 64,
            header_timeout: seconds(10),
            body_timeout: seconds(30),
            min_body_rate: 512,
            write_timeout: seconds(30),
            idle_timeout: seconds(75),
            max_header_bytes: 32 * 1024,
            max_body: 10 * 1024 * 1024,
            max_connections: 20_000,
            max_connections_per_client: 2_000,
        }
    );
    assert_eq!(config.contract.name(), "appwrite");
    let upstream = &config.upstreams[0];
    assert_eq!((upstream.name.as_str(), upstream.servers[0].label().as_str()), ("app", "127.0.0.1:3000"));
    assert_eq!((upstream.keepalive_max, upstream.keepalive_idle), (128, seconds(4)));
    assert_eq!((upstream.attempts, upstream.dns_refresh), (2, seconds(30)));
    let route = &config.routes[0];
    assert_eq!((route.host.as_deref(), route.path.as_str(), route.methods.len()), (None, "/{*rest}", 0));
    assert_eq!(
        route.timeouts,
        Timeouts {
            connect: seconds(2),
            tls: seconds(3),
            response_headers: seconds(15),
            deadline: seconds(30),
            body_idle: seconds(60),
            stream_idle: seconds(300),
            tunnel_idle: seconds(3600),
            max_duration: None,
        }
    );
    let errors = &route.errors;
    assert_eq!(
        (errors.mode, errors.upstream_body_limit, errors.retry_after),
        (ErrorMode::Enforce, 65_536, 5)
    );
    assert_eq!(errors.upstream_body_timeout, Duration::from_millis(500));
}

#[test]
fn annotated_file_states_the_defaults() {
    let (minimal, annotated) = (load(MINIMAL).unwrap(), load(ANNOTATED).unwrap());
    assert_eq!(annotated.client, minimal.client);
    assert_eq!((&annotated.log, &annotated.telemetry), (&minimal.log, &minimal.telemetry));
    assert_eq!(annotated.listeners[0].address.to_string(), "0.0.0.0:8081");
    let uploads = &annotated.routes[0];
    assert_eq!(
        (uploads.timeouts.connect, uploads.timeouts.deadline),
        (Duration::from_secs(1), Duration::from_secs(120))
    );
    assert_eq!(uploads.timeouts.max_duration, Some(Duration::from_secs(3600)));
    assert_eq!(annotated.routes[1].errors.mode, ErrorMode::Pass);
    assert_eq!(annotated.overrides.len(), 2);
    assert!(annotated.cors.is_some() && annotated.cors == annotated.routes[2].cors);
    assert_eq!(annotated.routes[0].cors, None);
    assert_eq!(annotated.upstreams[0].servers[1].weight, 2);
}

#[test]
fn conflicting_listeners_are_rejected() {
    let listen = |one: &str, other: &str| {
        load(&MINIMAL.replace("- address: \":8080\"", &format!("- address: {one}\n  - address: {other}")))
            .is_ok()
    };
    assert!(!listen("\":8080\"", "127.0.0.1:8080"));
    assert!(!listen("10.0.0.1:8080", "10.0.0.1:8080"));
    assert!(!listen("\":9464\"", "\":8080\""));
    assert!(listen("10.0.0.1:8080", "10.0.0.2:8080"));
    assert!(listen("localhost:0", "localhost:0"));
    assert!(listen("\":8080\"", "\"[::]:8080\""));
    assert!(!listen("\"[::]:8080\"", "127.0.0.1:8080"), "[::] includes IPv4");
    assert!(!listen("\"[::]:8080\"", "\"[::1]:8080\""));
    assert!(!listen("\"[::]:9464\"", "\":8080\""), "the telemetry address");
    assert!(!listen("\"[::ffff:127.0.0.1]:8080\"", "127.0.0.1:8080"));
    assert!(!listen("\"unix:/run/a.sock\"", "{ address: \"unix:/run/a.sock\", mode: 0600 }"));
    assert!(listen("\"unix:/run/a.sock\"", "\"unix:/run/b.sock\""));
}

#[test]
fn reserved_causes_give_a_warning() {
    let reserved = crate::contract::Cause::ALL.iter().find(|cause| cause.is_reserved()).unwrap().name();
    let override_of = |cause: &str| {
        let text =
            format!("errors: {{ overrides: [{{ when: {{ cause: [dns_error, {cause}] }}, code: 503 }}] }}");
        let config = load(&config_with(&text)).unwrap();
        config
            .warnings
            .iter()
            .map(|problem| (problem.path.clone(), problem.message_and_help()))
            .collect::<Vec<_>>()
    };
    let warning = format!("the cause {reserved} is reserved for a later version: it never occurs; remove it");
    assert_eq!(override_of(reserved), [("errors.overrides[0].when.cause[1]".to_owned(), warning)]);
    assert_eq!(override_of("connection_refused"), []);
}

#[test]
fn custom_contract_is_validated_with_locations() {
    let rows = |skip: u16| {
        let codes = [400, 403, 404, 409, 429, 500, 503, 504];
        let rows = codes.iter().filter(|code| **code != skip);
        rows.map(|code| format!("    - {{ code: {code}, message: \"Text {code}.\", type: a_b }}\n"))
            .collect::<String>()
    };
    let file = |skip: u16, more: &str| config_with(&format!("contract:\n  codes:\n{}{more}", rows(skip)));
    let config =
        load(&file(0, "  causes: { body_too_large: { message: \"Too large.\" } }\n  types: [a_b]\n"))
            .unwrap();
    assert_eq!((config.contract.name(), config.contract.codes().len()), ("custom", 8));
    assert_eq!(config.contract.codes()[0].reason(), "Bad Request");

    let missing = messages(&file(500, ""));
    assert_eq!(missing.len(), 1);
    assert!(
        missing[0]
            .starts_with("contract.codes: code 500 is missing: no other code is documented for causes "),
        "{missing:?}"
    );
    assert!(missing[0].ends_with("; declare the code 500"), "{missing:?}");
    assert_eq!(
        messages(&file(
            0,
            "    - { code: 408, type: a_b }\n    - { code: 404, message: \"<p>\", type: 1a }\n  types: [a_b, _B]\n"
        )),
        [
            "contract.codes[8].code: code 408 cannot be documented: clients retry it automatically, even with POST; use 504 or 400",
            "contract.codes[9].code: code 404 is declared twice; remove one of them",
            "contract.codes[9].message: the message of code 404 looks like markup or a stack trace; expected one plain sentence",
            "contract.codes[9].type: the type \"1a\" of code 404 is invalid; expected a letter, then up to 63 of A-Z, a-z, 0-9, _, . and -; or an integer; or a URI, for example a",
            "contract.types[1]: \"_B\" in the list of types is invalid; expected a letter, then up to 63 of A-Z, a-z, 0-9, _, . and -; or an integer; or a URI, for example B",
        ]
    );
}

/// A file with these contracts, used by two routes of two upstreams; `more` goes below `errors`.
fn shop_file(contracts: &str, more: &str) -> String {
    format!(
        r#"
listen: [{{ address: ":8080", contract: problem }}]
contracts:
{contracts}
contract: appwrite
errors: {{ {more} }}
upstreams: {{ shop: {{ servers: ["127.0.0.1:1"] }}, auth: {{ servers: ["127.0.0.1:2"] }} }}
routes:
  - {{ name: shop, match: {{ path: "/shop" }}, upstream: shop, contract: shop }}
  - {{ name: auth, match: {{ path: "/auth" }}, upstream: auth }}
"#
    )
}

const SHOP: &str = r#"
  shop:
    body: { error: { code: "{type}", message: "{message}", doc: "{doc}", kind: error, n: 1.50, no: null, q: "1" } }
    media_type: application/vnd.shop+json
    codes:
      - { code: 400, type: bad }
      - { code: 404, text: Nothing Here, values: { doc: "https://shop.test/404" } }
      - { code: 500, type: internal, message: "It is our fault." }
    causes: { body_too_large: { message: "Too large.", type: too_large }, rate_limited: { code: 400 } }
    statuses: { 422: 404 }
    values: { doc: string }
    keep_headers: [X-Shop-*]
"#;

#[test]
fn routes_and_listeners_use_named_contracts() {
    let config = load(&shop_file(SHOP, "")).unwrap();
    let names = |config: &Config| -> Vec<String> {
        let rules = config.routes.iter().map(|route| &route.errors);
        let listeners = config.listeners.iter().filter_map(|listener| listener.errors.as_ref());
        rules.chain(listeners).map(|rules| rules.contract.name().to_owned()).collect()
    };
    assert_eq!(names(&config), ["shop", "appwrite", "problem"]);
    let shop = &config.routes[0].errors.contract;
    assert_eq!(shop.media_type(), "application/vnd.shop+json");
    let entry = shop.entry(shop.code(404).unwrap());
    assert_eq!(
        (entry.reason(), entry.message(), entry.type_or_title()),
        ("Nothing Here", "Nothing Here", "nothing_here")
    );
    assert_eq!(shop.code_for_upstream(422).status(), 404);
    assert_eq!(shop.code_for_cause(crate::contract::Cause::RateLimited).status(), 400);
    assert_eq!(
        shop.type_for(shop.code(400).unwrap(), Some(crate::contract::Cause::BodyTooLarge)),
        "too_large"
    );
    assert_eq!(shop.keep_headers(), ["x-shop-*"]);
}

#[test]
fn problems_of_contracts_have_locations_and_help() {
    let change = |from: &str, to: &str| messages(&shop_file(&SHOP.replace(from, to), ""));
    for (from, to, expected) in [
        (
            "\"{type}\"",
            "{type}",
            "contracts.shop.body.error.code: {type} without quotes is a mapping, not a placeholder; write \"{type}\"",
        ),
        (
            "\"{doc}\"",
            "\"{dok}\"",
            "contracts.shop.body.error.doc: unknown placeholder {dok}; write \"{doc}\"",
        ),
        (
            "\"{message}\"",
            "\"{message\"",
            "contracts.shop.body.error.message: a { is not closed; write \"{message}\"",
        ),
        (
            "body: { error: { code: \"{type}\", message: \"{message}\",",
            "body: { error: { code: 1, message: x,",
            "contracts.shop.body: the body does not say what happened: no {message}, {title} or {type}; add one of them, for example message: \"{message}\"",
        ),
        (
            "kind: error",
            "doc?: error",
            "contracts.shop.body.error.doc?: the object has two members \"doc\"; remove one of them, or rename it",
        ),
        (
            "vnd.shop+json",
            "html",
            "contracts.shop.media_type: the media type is not one of JSON; write application/json, or another one that ends in +json",
        ),
        (
            "422: 404",
            "422: 418",
            "contracts.shop.statuses.422: the code 418 is not documented; expected 400, 404 or 500; or add 418 to the codes",
        ),
        (
            "422: 404",
            "404: 400",
            "contracts.shop.statuses.404: the upstream's 404 is documented, so it is sent as it is; remove this row or the code 404",
        ),
        (
            "422: 404",
            "200: 400",
            "contracts.shop.statuses.200: \"200\" is not an error status; expected 400 to 599",
        ),
        (
            "{ code: 400 } }",
            "{ code: 429 } }",
            "contracts.shop.causes.rate_limited.code: the code 429 of cause rate_limited is not documented; expected 400, 404 or 500; or add 429 to the codes",
        ),
        (
            "doc: \"https",
            "dok: \"https",
            "contracts.shop.codes[1].values.dok: the value \"dok\" of code 404 is not declared; did you mean \"doc\"?",
        ),
        (
            "doc: string",
            "doc: integer",
            "contracts.shop.codes[1].values.doc: the value \"doc\" of code 404 does not fit; expected an integer, for example 1",
        ),
        (
            "values: { doc: string }",
            "values: { doc: string, code: string }",
            "contracts.shop.values.code: {code} is a placeholder of every template; choose another name",
        ),
        (
            "[X-Shop-*]",
            "[\"*\"]",
            "contracts.shop.keep_headers[0]: \"*\" is not a field name; write a name such as x-shop-hint, or x-shop-* for every name that begins so",
        ),
        (
            "  shop:\n",
            "  appwrite:\n",
            "contracts.appwrite: the contract \"appwrite\" is built in; choose another name",
        ),
    ] {
        let found = change(from, to);
        assert_eq!(found.first().map(String::as_str), Some(expected), "{from} -> {to}");
    }
    let found = change("doc: string", "doc: text");
    assert!(
        found[0].starts_with("contracts.shop.values.doc: unknown value \"text\"; expected string, "),
        "{found:?}"
    );
    let list = change("body: { error:", "body: [{ error:");
    assert!(!list.is_empty());
    let form =
        messages(&shop_file("  shop: { body: error_objet, codes: [{ code: 400 }, { code: 500 }] }", ""));
    assert_eq!(
        form,
        ["contracts.shop.body: unknown form of the body \"error_objet\"; did you mean \"error_object\"?"]
    );
    let list =
        messages(&shop_file("  shop: { body: [\"{message}\"], codes: [{ code: 400 }, { code: 500 }] }", ""));
    assert_eq!(
        list,
        [
            "contracts.shop.body: the body is a list; an error body is an object; write an object, for example { error: \"{message}\" }"
        ]
    );
}

#[test]
fn every_contract_that_an_override_applies_to_must_document_its_code() {
    let overrides = |text: &str| messages(&shop_file(SHOP, &format!("overrides: [{{ {text} }}]")));
    assert_eq!(
        overrides("when: { cause: dns_error }, code: 503"),
        ["errors.overrides[0].code: 503 is not in the contract \"shop\"; expected 400, 404 or 500"]
    );
    assert_eq!(
        overrides("when: { cause: dns_error }, code: 422"),
        [
            "errors.overrides[0].code: 422 is not in the contracts \"appwrite\" and \"shop\"; expected 400, 404 or 500"
        ]
    );
    for valid in [
        "when: { cause: dns_error, upstream: auth }, code: 503",
        "when: { cause: dns_error, upstream: shop }, type: gone, values: { doc: x }",
    ] {
        assert!(load(&shop_file(SHOP, &format!("overrides: [{{ {valid} }}]"))).is_ok(), "{valid}");
    }
    assert_eq!(
        overrides("when: { cause: dns_error, upstream: shop }, values: { doc: 1 }"),
        [
            "errors.overrides[0].values.doc: the value \"doc\" is not of type string, or has a text with markup, in the contract \"shop\"; declare it in the contract's values, or correct it"
        ]
    );
    assert_eq!(
        overrides("when: { cause: dns_error, upstream: shop }, type: \"a b\""),
        [
            "errors.overrides[0].type: \"a b\" is not a type; expected a letter, then up to 63 of A-Z, a-z, 0-9, _, . and -; or an integer; or a URI, for example a_b"
        ]
    );
    assert_eq!(
        messages(&shop_file(SHOP, "include: [cause]")),
        [
            "errors.include: the bodies of the contract \"problem\" are not flat; remove it, and place the members in the template, for example request_id: \"{request_id}\"",
            "errors.include: the bodies of the contract \"shop\" are not flat; remove it, and place the members in the template, for example request_id: \"{request_id}\"",
        ]
    );
    assert_eq!(
        messages(&shop_file(SHOP, "").replace("upstream: auth }\n", "upstream: auth, contract: shopp }\n")),
        ["routes[1].contract: unknown contract \"shopp\"; did you mean \"shop\"?"]
    );
}

#[test]
fn route_overrides_upstream_overrides_top_level() {
    let text = r#"
listen: [{ address: ":8080" }]
errors: { retry_after: 7s, include: [request_id], overrides: [{ when: { cause: draining }, message: "Soon." }] }
timeouts: { deadline: 10s, connect: 1s, max_duration: 5m }
upstreams: { shop: { servers: ["a:80"], timeouts: { deadline: 20s, body_idle: 1s } } }
routes:
  - { name: r, upstream: shop, timeouts: { deadline: 5s, max_duration: off }, errors: { retry_after: 9s, overrides: [{ when: { cause: upstream_response }, code: 500 }] } }
"#;
    let config = load(text).unwrap();
    let route = &config.routes[0];
    let seconds = Duration::from_secs;
    let timeouts = (
        route.timeouts.deadline,
        route.timeouts.body_idle,
        route.timeouts.connect,
        route.timeouts.max_duration,
    );
    assert_eq!(timeouts, (seconds(5), seconds(1), seconds(1), None));
    assert_eq!((route.errors.retry_after, config.errors.retry_after), (9, 7));
    assert!(route.errors.include.request_id);
    assert!(route.errors.overrides[0].matcher.upstream_response);
    assert_eq!(
        (route.errors.overrides.len(), config.overrides.len(), config.errors.overrides.len()),
        (1, 1, 0)
    );
}

/// The complete example of the product: implemented keys load, and planned keys are rejected.
const PRODUCT_EXAMPLE: &str = include_str!("product_example.yaml");

#[test]
fn every_product_key_is_supported_or_rejected() {
    let messages = messages(PRODUCT_EXAMPLE);
    let expected = [
        "listen[1].tls.cert: cannot read tls/gateway.crt: no such file; ",
        "listen[1].tls.key: cannot read tls/gateway.key: no such file; ",
        "listen[1].tls.client_ca: cannot read tls/clients.pem: no such file; ",
        "admin: not supported yet; ",
        "upstreams.auth.tls.ca: cannot read tls/internal-ca.pem: no such file; ",
    ];
    for (message, expected) in messages.iter().zip(expected) {
        assert!(message.starts_with(expected), "{message}\nis not {expected}");
    }
    assert_eq!(messages.len(), expected.len());
}

#[test]
fn unreadable_file_is_one_problem() {
    let error_text = |path: &Path| load_file(path, &|_| None, 1, Purpose::Use).unwrap_err().to_string();
    let temp_dir = std::env::temp_dir();
    let expected =
        format!("cannot read {}: it is a directory; pass the path of a file in it\n", temp_dir.display());
    assert_eq!(error_text(&temp_dir), expected);
    let path = temp_dir.join(format!("statusquo-not-utf8-{}.yaml", std::process::id()));
    std::fs::write(&path, b"a: 1\nb: \xff\n").unwrap();
    let expected = format!("cannot read {}: line 2 is not UTF-8; save it as UTF-8\n", path.display());
    assert_eq!(error_text(&path), expected);
    std::fs::remove_file(&path).unwrap();
}

/// A certificate name cannot end in a number; addresses and underscores are possible.
#[test]
fn sni_allows_server_names_without_certificates() {
    let file = |tls: &str| {
        let servers = "[\"https://task.1:8443\", \"https://[2001:db8::1]\", \"https://a_b\"]";
        format!(
            "version: 1\nlisten: [{{ address: \":80\" }}]\nupstreams: {{ shop: {{ servers: {servers}, {tls} }} }}\n\
             routes: [{{ name: r, upstream: shop }}]\n"
        )
    };
    let config = load(&file("tls: { sni: api.internal, verify: false }")).unwrap();
    let names: Vec<_> = config.upstreams[0]
        .servers
        .iter()
        .map(|server| server.tls_name.as_ref().map(|name| name.to_str().into_owned()))
        .collect();
    assert_eq!(names, vec![Some("api.internal".to_owned()); 3]);
    assert_eq!(
        messages(&file("tls: { verify: false }")),
        ["upstreams.shop.servers[0]: \"task.1\": not a valid certificate name; expected a host name, for \
             example api.internal, or an address"]
    );
}

#[test]
fn at_most_100_problems_are_shown() {
    let keys: String = (0..250).map(|number| format!("key{number}: 1\n")).collect();
    let error_text = load_error(&config_with(&keys));
    assert!(
        error_text.ends_with("and at least 150 more; fix the problems above first\nmore than 100 problems\n"),
        "{error_text}"
    );
}

/// Fragments with a meaning in YAML or in the configuration.
const YAML_FRAGMENTS: &str = "(listen|routes|upstreams|errors|contract|codes|overrides|when|match|path|servers|timeouts|- |: |:|\n|  |    |\\[|\\]|\\{|\\}|,|&a |\\*a|!t |#|\"|'|\\||>|\\$\\{|\\}|:-|---|\t|404|5s|off|~|null|/\\{x\\}|é|\u{1b}|<<){0,60}";

/// Starts a control sequence of a terminal.
const ESCAPE: char = '\u{1b}';

proptest! {
    #[test]
    fn arbitrary_text_does_not_panic(text in any::<String>(), pieces in YAML_FRAGMENTS, cut in 0..ANNOTATED.len(), put in 0..ANNOTATED.len()) {
        let damaged: String = ANNOTATED.char_indices().filter(|(at, _)| *at < cut || *at > put).map(|(_, c)| c).collect();
        let patched = format!("{}{pieces}{}", damaged.get(..cut.min(put)).unwrap_or(""), damaged.get(cut.min(put)..).unwrap_or(""));
        for text in [&text, &pieces, &damaged, &patched] {
            if let Err(problems) = load(text) {
                prop_assert!(!problems.is_empty());
                prop_assert!(!problems.to_string().contains(ESCAPE));
            }
        }
    }
}
