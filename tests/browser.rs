//! CORS in a real browser: Debian's headless Chromium opens a page of one origin that calls the gateway at another.
//!
//! The tests assert what the page could read of each response (status, body, header fields). `tests/it/cors.rs` asserts
//! the header fields byte for byte.

#![allow(unreachable_pub)] // a test crate exports nothing
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]
#![allow(clippy::print_stderr)] // prints program output when a test fails
#![allow(clippy::disallowed_methods)] // tests wait for other programs and read the environment

#[path = "browser/chromium.rs"]
mod chromium;
#[path = "browser/gateway.rs"]
mod gateway;
#[path = "it/load.rs"]
#[allow(dead_code)] // each test program uses a different part of it
mod load;
#[path = "browser/page.rs"]
mod page;

use gateway::BrowserGateway;
use page::{PageFetch, TestPage};
use serde_json::{Value, json};
use statusquo::conformance::{RecordedHead, RefusingPort, Script, ScriptedUpstream, Step, http_response};

/// Documented messages.
const OVERLOADED_MESSAGE: &str = "The servers are up but overloaded with requests. Try again later.";
const FAILED_MESSAGE: &str = "The servers are up, but the request could not be serviced due to some failure within the stack. Try again later.";

const NOT_FOUND_MESSAGE: &str = "The URI requested is invalid or the resource requested does not exist.";

/// An upstream whose response depends on the path.
fn scripted_by_path() -> ScriptedUpstream {
    fn script_for(request: &RecordedHead) -> Script {
        let response = match request.path() {
            "/late" => return vec![Step::ReadRequestHead, Step::ReadUntilClose],
            "/broken" => http_response(
                "502 Bad Gateway\ncontent-type: text/html\nx-ratelimit-limit: 60\nx-ratelimit-remaining: 0\nx-ratelimit-reset: 1893456000\nx-secret: 1",
                "<h1>It broke</h1>",
            ),
            "/taken" => http_response(
                "409 Conflict\ncontent-type: application/json\nx-total: 3\naccess-control-expose-headers: x-total\naccess-control-allow-origin: https://elsewhere.example",
                r#"{"message":"Already paid.","code":409,"type":"order_paid"}"#,
            ),
            _ => http_response("200 OK\ncontent-type: text/plain\naccess-control-allow-origin: *", "fine"),
        };
        vec![Step::ReadRequestHead, Step::ReadBody, Step::Write(response)]
    }
    ScriptedUpstream::by_request(script_for).unwrap()
}

/// A gateway with CORS for the origin of `page`, credentials included.
fn gateway_for(upstream: &ScriptedUpstream, refusing: &RefusingPort, page: &TestPage) -> BrowserGateway {
    BrowserGateway::start(&format!(
        r#"
errors: {{ overrides: [{{ when: {{ upstream: down }}, code: 503, retry_after: 17s }}] }}
timeouts: {{ response_headers: 300ms }}
upstreams:
  moody: {{ servers: ["{}"] }}
  down: {{ servers: ["{}"] }}
rate_limits: {{ few: {{ key: [client_ip], allow: 2 per 1h }} }}
cors: {{ allow_origins: ["{}"], allow_credentials: true }}
routes:
  - {{ name: down, match: {{ path: /down }}, upstream: down, cors: default }}
  - {{ name: few, match: {{ path: /few }}, upstream: moody, cors: default, rate_limits: [few] }}
  - {{ name: all, match: {{ path: "/{{*rest}}", methods: [GET, PUT] }}, upstream: moody, cors: default }}
"#,
        upstream.address(),
        refusing.address(),
        page.origin(),
    ))
}

/// Calls with and without a preflight.
fn fetches(gateway: &BrowserGateway) -> Vec<PageFetch> {
    ["/good", "/down", "/late", "/broken", "/taken"]
        .into_iter()
        .flat_map(|path| {
            let url = gateway.url(path);
            [
                PageFetch { name: format!("GET {path}"), url: url.clone(), options: json!({}) },
                PageFetch { name: format!("PUT {path}"), url, options: credentialed_options() },
            ]
        })
        // No route matches this method: the top-level CORS policy applies to its 404.
        .chain([PageFetch {
            name: "DELETE /nowhere".to_owned(),
            url: gateway.url("/nowhere"),
            options: json!({ "method": "DELETE" }),
        }])
        .collect()
}

/// `fetch` options that need a preflight for the method and two header fields, and that send cookies.
fn credentialed_options() -> Value {
    json!({
        "method": "PUT", "credentials": "include", "body": "{}",
        "headers": { "content-type": "application/json", "x-project": "7" },
    })
}

/// The contract's error body.
fn local_reply_body(code: u16, message: &str) -> String {
    format!(r#"{{"message":"{message}","code":{code}}}"#)
}

#[test]
fn allowed_origin_reads_status_body_and_retry_after_of_errors() {
    let (upstream, refusing) = (scripted_by_path(), RefusingPort::start().unwrap());
    let page = TestPage::serve();
    let gateway = gateway_for(&upstream, &refusing, &page);
    let found = page.open(&fetches(&gateway));
    for method in ["GET", "PUT"] {
        let read = |path: &str| &found[format!("{method} {path}").as_str()];
        assert_read(read("/good"), 200, "fine", &[("content-type", "text/plain")]);
        let json = ("content-type", "application/json");
        let no_store = ("cache-control", "no-store");
        assert_read(
            read("/down"),
            503,
            &local_reply_body(503, OVERLOADED_MESSAGE),
            &[json, no_store, ("retry-after", "17")],
        );
        assert_read(read("/late"), 504, &local_reply_body(504, FAILED_MESSAGE), &[json, no_store]);
        let limits = [
            ("x-ratelimit-limit", "60"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1893456000"),
        ];
        assert_read(
            read("/broken"),
            504,
            &local_reply_body(504, FAILED_MESSAGE),
            &[&[json, no_store][..], &limits[..]].concat(),
        );
        let own_body = r#"{"message":"Already paid.","code":409,"type":"order_paid"}"#;
        assert_read(read("/taken"), 409, own_body, &[json, no_store, ("x-total", "3")]);
    }
    let fields = [("content-type", "application/json"), ("cache-control", "no-store")];
    assert_read(&found["DELETE /nowhere"], 404, &local_reply_body(404, NOT_FOUND_MESSAGE), &fields);
    let methods: Vec<String> =
        upstream.recording().requests().map(|request| request.head.method.clone()).collect();
    assert!(!methods.contains(&"OPTIONS".to_owned()), "a preflight was forwarded: {methods:?}");
}

#[test]
#[ignore = "make proof: browser"]
fn allowed_origin_reads_rate_limit_headers_and_preflights_are_free() {
    let (upstream, refusing) = (scripted_by_path(), RefusingPort::start().unwrap());
    let page = TestPage::serve();
    let gateway = gateway_for(&upstream, &refusing, &page);
    let page_fetches =
        [("first", credentialed_options()), ("second", credentialed_options()), ("third", json!({}))]
            .map(|(name, options)| PageFetch { name: name.to_owned(), url: gateway.url("/few"), options });
    let found = page.open(&page_fetches);
    let number = |name: &str, field: &str| {
        let text = found[name]["fields"][field].as_str().unwrap_or_default();
        text.parse::<u64>().unwrap_or_else(|_| panic!("{name} has no {field}: {found:#}"))
    };
    for (name, remaining) in [("first", "1"), ("second", "0"), ("third", "0")] {
        let reset = number(name, "x-ratelimit-reset").to_string();
        let limits =
            [("x-ratelimit-limit", "2"), ("x-ratelimit-remaining", remaining), ("x-ratelimit-reset", &reset)];
        if name != "third" {
            let fields = [&[("content-type", "text/plain")][..], &limits[..]].concat();
            assert_read(&found[name], 200, "fine", &fields);
            continue;
        }
        let wait = number(name, "retry-after");
        assert!((1..=1800).contains(&wait), "{wait}");
        let wait = wait.to_string();
        let expected_headers =
            [("content-type", "application/json"), ("cache-control", "no-store"), ("retry-after", &*wait)];
        let body = local_reply_body(429, "Too many requests");
        assert_read(&found[name], 429, &body, &[&expected_headers[..], &limits[..]].concat());
    }
    assert_eq!(upstream.request_count(), 2);
}

#[test]
#[ignore = "make proof: browser"]
fn page_reads_the_error_of_a_grpc_web_call() {
    let (upstream, refusing) = (scripted_by_path(), RefusingPort::start().unwrap());
    let page = TestPage::serve();
    let gateway = gateway_for(&upstream, &refusing, &page);
    let types = ["application/grpc-web+proto", "application/grpc-web-text"];
    let calls: Vec<_> = types
        .into_iter()
        .flat_map(|media_type| ["/down", "/nowhere"].map(|path| (media_type, path)))
        .map(|(media_type, path)| PageFetch {
            name: format!("{media_type} {path}"),
            url: gateway.url(path),
            options: json!({
                "method": "POST", "credentials": "include", "body": "AAAAAAA=",
                "headers": { "content-type": media_type, "x-grpc-web": "1" },
            }),
        })
        .collect();
    let found = page.open(&calls);
    let errors: [(&str, &[(&str, &str)]); 2] = [
        ("/down", &[("grpc-status", "14"), ("grpc-message", OVERLOADED_MESSAGE), ("retry-after", "17")]),
        ("/nowhere", &[("grpc-status", "12"), ("grpc-message", NOT_FOUND_MESSAGE)]),
    ];
    for (media_type, own_type) in types.into_iter().zip(["application/grpc-web", "application/grpc-web-text"])
    {
        for (path, fields) in errors {
            let read = &found[format!("{media_type} {path}").as_str()];
            let always = [("content-type", own_type), ("cache-control", "no-store")];
            assert_read(read, 200, "", &[&always[..], fields].concat());
        }
    }
    // A page calls from another origin, with a preflight for each pair of path and fields; none reached an upstream.
    assert_eq!(upstream.request_count(), 0);
}

#[test]
#[ignore = "make proof: browser"]
fn disallowed_origin_reads_nothing() {
    let (upstream, refusing) = (scripted_by_path(), RefusingPort::start().unwrap());
    let (allowed, foreign) = (TestPage::serve(), TestPage::serve());
    let gateway = gateway_for(&upstream, &refusing, &allowed);
    let found = foreign.open(&fetches(&gateway));
    for (name, read) in found.as_object().unwrap() {
        assert_eq!(*read, json!({ "failed": "TypeError" }), "{name}");
    }
    assert_eq!(found.as_object().unwrap().len(), 11);
    // Browsers send a simple request even if its response will not be readable.
    assert!(upstream.recording().requests().all(|request| request.head.method == "GET"));
}

/// Asserts that the page read exactly this error and a request id.
#[track_caller]
fn assert_read(read: &Value, status: u16, body: &str, fields: &[(&str, &str)]) {
    let mut expected = json!({ "status": status, "body": body, "fields": {} });
    let id = read["fields"]["x-request-id"].as_str().unwrap_or_default();
    assert_eq!(id.len(), 36, "no X-Request-Id: {read:#}");
    expected["fields"]["x-request-id"] = id.into();
    // Content-Length is CORS-safelisted.
    expected["fields"]["content-length"] = body.len().to_string().into();
    for (name, value) in fields {
        expected["fields"][name] = (*value).into();
    }
    assert_eq!(*read, expected);
}
