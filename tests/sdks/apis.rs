//! The published SDKs of public APIs whose contracts are in `config/contracts`, through the gateway.
//!
//! Each SDK calls its API behind an upstream that works, is dead, hangs, resets, answers with HTML, sends an error of
//! its own, is rate-limited, or truncates. Its user must catch the SDK's own exception with the status, message and
//! type of the contract, never a parse error; a truncated response is a connection error and no value; an SDK that
//! repeats requests waits as long as `Retry-After` says. The scripts are `api_errors.py` and `api_errors.mjs`.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use statusquo::conformance::{RefusingPort, ScriptedUpstream, Step, http_response, write_bytes};

use crate::gateway::RealGateway;
use crate::program::{install_packages, succeed};
use crate::python_server::PYTHON;

/// An SDK and what its user gets.
struct Sdk {
    /// The file in `config/contracts`.
    contract: &'static str,
    command: fn() -> Command,
    /// A successful response of the API.
    good: &'static str,
    /// What the SDK returns for it.
    value: Value,
    /// The exception where the upstream is dead, resets, or answers with HTML.
    unreachable: Value,
    /// The exception where the upstream hangs.
    hanging: Value,
    /// A sample of the contract, and its exception.
    own: (&'static str, Value),
    rate_limited: Value,
    truncated: Value,
    repeats: Repeats,
}

/// Whether the SDK repeats a request that was rate-limited.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeats {
    AfterTheAdvisedTime,
    Never,
}

fn python(name: &'static str) -> Command {
    let mut command = Command::new(PYTHON);
    command.args(["tests/sdks/api_errors.py", name]);
    command
}

fn octokit() -> Command {
    let mut command = Command::new("node");
    command.args(["tests/sdks/api_errors.mjs", "octokit"]);
    command.env("NODE_PATH", concat!(env!("CARGO_MANIFEST_DIR"), "/target/packages/node/node_modules"));
    command
}

fn raised(class: &str, status: impl Into<Value>, message: &str, kind: &str, code: impl Into<Value>) -> Value {
    let (status, code) = (status.into(), code.into());
    json!({ "raised": class, "status": status, "message": message, "type": kind, "code": code })
}

fn contract_file(contract: &str) -> String {
    std::fs::read_to_string(format!("config/contracts/{contract}.yaml")).unwrap()
}

/// The sections `contracts`, `contract` and `errors` of the example.
fn contract_sections(contract: &str) -> String {
    let text = contract_file(contract);
    let start = text.find("\ncontracts:").unwrap();
    let end = ["\ntimeouts:", "\nupstreams:"].iter().filter_map(|section| text.find(section)).min().unwrap();
    text[start..end].to_owned()
}

fn media_type(contract: &str) -> String {
    let text = contract_file(contract);
    let line = text.lines().find_map(|line| line.trim().strip_prefix("media_type: "));
    line.unwrap_or("application/json").to_owned()
}

fn upstream(sdk: &Sdk) -> ScriptedUpstream {
    let (sample, good) = (sdk.own.0, sdk.good);
    let body =
        std::fs::read_to_string(format!("config/contracts/{}.samples/{sample}.json", sdk.contract)).unwrap();
    let status = sample.split('-').next().unwrap();
    let own = http_response(&format!("{status} Error\ncontent-type: {}", media_type(sdk.contract)), body);
    let read = || vec![Step::ReadRequestHead, Step::SendContinue, Step::ReadBody];
    ScriptedUpstream::by_request(move |request| {
        let answer = match request.path().split('/').nth(1).unwrap_or_default() {
            "hanging" => vec![Step::ReadUntilClose],
            "resetting" => vec![Step::Reset],
            "html" => vec![write_bytes(http_response(
                "502 Bad Gateway\ncontent-type: text/html",
                "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
            ))],
            "own" => vec![Step::Write(own.clone())],
            "truncated" => vec![
                write_bytes(format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{good}",
                    good.len() + 9
                )),
                Step::Close,
            ],
            _ => vec![write_bytes(http_response("200 OK\ncontent-type: application/json", good))],
        };
        [read(), answer].concat()
    })
    .unwrap()
}

/// Runs all calls of an SDK.
#[track_caller]
fn every_failure_is_the_sdks_own_exception(sdk: &Sdk) {
    install_packages();
    let (upstream, dead) = (upstream(sdk), RefusingPort::start().unwrap());
    let gateway = RealGateway::with(&format!(
        "{}\n\
         timeouts: {{ connect: 1s, response_headers: 500ms, deadline: 2s }}\n\
         upstreams: {{ api: {{ servers: [\"{}\"] }}, dead: {{ servers: [\"{}\"] }} }}\n\
         rate_limits: {{ one: {{ key: [client_ip], allow: 1 per 1h }}, slow: {{ key: [client_ip], allow: 1 per 2s }} }}\n\
         routes:\n\
         - {{ name: dead, match: {{ path: \"/dead/{{*rest}}\" }}, upstream: dead }}\n\
         - {{ name: limited, match: {{ path: \"/limited/{{*rest}}\" }}, upstream: api, rate_limits: [one] }}\n\
         - {{ name: slow, match: {{ path: \"/slow/{{*rest}}\" }}, upstream: api, rate_limits: [slow] }}\n\
         - {{ name: api, match: {{ path: \"/{{*rest}}\" }}, upstream: api }}\n",
        contract_sections(sdk.contract),
        upstream.address(),
        dead.address()
    ));
    let good = json!({ "value": sdk.value });
    let mut expected = vec![
        ("good", good.clone()),
        ("dead", sdk.unreachable.clone()),
        ("hanging", sdk.hanging.clone()),
        ("resetting", sdk.unreachable.clone()),
        ("html", sdk.unreachable.clone()),
        ("own", sdk.own.1.clone()),
        ("limited", good.clone()),
        ("limited", sdk.rate_limited.clone()),
        ("truncated", sdk.truncated.clone()),
    ];
    if sdk.repeats == Repeats::AfterTheAdvisedTime {
        // One repetition: earlier than advised, it would be refused too.
        expected.extend([("slow", good.clone()), ("slow#1", good.clone())]);
    }
    expected.push(("good", good));
    let calls = expected.iter().map(|(endpoint, _)| format!("http://{}/{endpoint}", gateway.http1));
    let output = succeed((sdk.command)().args(calls), Duration::from_secs(120));
    let outcomes: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let found: Vec<_> = expected.iter().map(|(endpoint, _)| *endpoint).zip(outcomes).collect();
    assert_eq!(found, expected);
}

#[test]
fn pypi_openai_raises_its_own_exception_for_every_failure() {
    let failed =
        |status: u16, message| raised("InternalServerError", status, message, "server_error", Value::Null);
    every_failure_is_the_sdks_own_exception(&Sdk {
        contract: "openai",
        command: || python("openai"),
        good: r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello"}}]}"#,
        value: json!("hello"),
        unreachable: failed(502, "The server could not be reached."),
        hanging: failed(504, "The server did not respond in time."),
        own: (
            "400-unsupported-parameter",
            raised(
                "BadRequestError",
                400,
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
                "invalid_request_error",
                "unsupported_parameter",
            ),
        ),
        rate_limited: raised(
            "RateLimitError",
            429,
            "Rate limit reached. Please try again later.",
            "requests",
            "rate_limit_exceeded",
        ),
        truncated: json!({ "connection": "APIConnectionError" }),
        repeats: Repeats::AfterTheAdvisedTime,
    });
}

#[test]
#[ignore = "make proof: another SDK"]
fn pypi_anthropic_raises_its_own_exception_for_every_failure() {
    every_failure_is_the_sdks_own_exception(&Sdk {
        contract: "anthropic",
        command: || python("anthropic"),
        good: r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"hello"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}"#,
        value: json!("hello"),
        unreachable: raised(
            "InternalServerError",
            500,
            "An unexpected error has occurred.",
            "api_error",
            "error",
        ),
        hanging: raised("GatewayTimeoutError", 504, "The request timed out.", "timeout_error", "error"),
        own: (
            "413-too-large",
            raised(
                "ContentTooLargeError",
                413,
                "Request exceeds the maximum size",
                "request_too_large",
                "error",
            ),
        ),
        rate_limited: raised(
            "RateLimitError",
            429,
            "The rate limit was exceeded. Please try again later.",
            "rate_limit_error",
            "error",
        ),
        truncated: json!({ "connection": "APIConnectionError" }),
        repeats: Repeats::AfterTheAdvisedTime,
    });
}

#[test]
#[ignore = "make proof: another SDK"]
fn pypi_stripe_raises_its_own_exception_for_every_failure() {
    let failed = |status: u16, message| raised("APIError", status, message, "api_error", Value::Null);
    let mut declined =
        raised("CardError", 402, "Your card has insufficient funds.", "card_error", "card_declined");
    declined["decline_code"] = json!("insufficient_funds");
    every_failure_is_the_sdks_own_exception(&Sdk {
        contract: "stripe",
        command: || python("stripe"),
        good: r#"{"id":"pi_1","object":"payment_intent"}"#,
        value: json!("pi_1"),
        unreachable: failed(502, "The service could not be reached."),
        hanging: failed(504, "The service did not respond in time."),
        own: ("402-card-declined", declined),
        rate_limited: raised(
            "RateLimitError",
            429,
            "Too many requests. Please try again later.",
            "invalid_request_error",
            "rate_limit",
        ),
        truncated: json!({ "connection": "APIConnectionError" }),
        // It repeats 409, 5xx, and what `Stripe-Should-Retry` names, not 429.
        repeats: Repeats::Never,
    });
}

#[test]
#[ignore = "make proof: another SDK"]
fn pypi_kubernetes_raises_its_own_exception_for_every_failure() {
    let failed = |status: u16, message, reason| raised("ServiceException", status, message, reason, "Status");
    every_failure_is_the_sdks_own_exception(&Sdk {
        contract: "kubernetes",
        command: || python("kubernetes"),
        good: r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web"}}"#,
        value: json!("web"),
        unreachable: failed(502, "the server could not be reached", "InternalError"),
        hanging: failed(504, "the server did not respond in time", "Timeout"),
        own: (
            "404-not-found",
            raised("NotFoundException", 404, "deployments.apps \"web\" not found", "NotFound", "Status"),
        ),
        rate_limited: raised(
            "ApiException",
            429,
            "too many requests, please try again later",
            "TooManyRequests",
            "Status",
        ),
        truncated: json!({ "connection": "ProtocolError" }),
        repeats: Repeats::AfterTheAdvisedTime,
    });
}

#[test]
#[ignore = "make proof: another SDK"]
fn pypi_google_cloud_storage_raises_its_own_exception_for_every_failure() {
    every_failure_is_the_sdks_own_exception(&Sdk {
        contract: "google",
        command: || python("google"),
        good: r#"{"kind":"storage#bucket","name":"b"}"#,
        value: json!("b"),
        unreachable: raised(
            "ServiceUnavailable",
            503,
            "The service is currently unavailable.",
            "UNAVAILABLE",
            Value::Null,
        ),
        hanging: raised(
            "GatewayTimeout",
            504,
            "The deadline expired before the operation could complete.",
            "DEADLINE_EXCEEDED",
            Value::Null,
        ),
        own: (
            "409-already-exists",
            raised("Conflict", 409, "Bucket my-bucket already exists.", "ALREADY_EXISTS", "BUCKET_EXISTS"),
        ),
        rate_limited: raised(
            "TooManyRequests",
            429,
            "Too many requests. Please try again later.",
            "RESOURCE_EXHAUSTED",
            Value::Null,
        ),
        truncated: json!({ "connection": "ChunkedEncodingError" }),
        // It repeats by a schedule of its own.
        repeats: Repeats::Never,
    });
}

const GITHUB_PAGE: &str = "https://docs.github.com/rest";
const GITHUB_LIMITS_PAGE: &str =
    "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api";
const GITHUB_LIMITED: &str = "API rate limit exceeded. Please wait before you try again.";

#[test]
#[ignore = "make proof: another SDK"]
fn pypi_pygithub_raises_its_own_exception_for_every_failure() {
    let failed =
        |status: u16, message| raised("GithubException", status, message, GITHUB_PAGE, status.to_string());
    every_failure_is_the_sdks_own_exception(&Sdk {
        contract: "github",
        command: || python("github"),
        good: r#"{"id":1,"full_name":"o/r","url":"https://api.example.com/repos/o/r"}"#,
        value: json!("o/r"),
        unreachable: failed(502, "Server Error"),
        hanging: failed(504, "We couldn't respond to your request in time"),
        own: (
            "404-not-found",
            raised(
                "UnknownObjectException",
                404,
                "Not Found",
                "https://docs.github.com/rest/repos/repos#get-a-repository",
                "404",
            ),
        ),
        rate_limited: raised("RateLimitExceededException", 403, GITHUB_LIMITED, GITHUB_LIMITS_PAGE, "403"),
        truncated: json!({ "connection": "ChunkedEncodingError" }),
        repeats: Repeats::AfterTheAdvisedTime,
    });
}

#[test]
#[ignore = "make proof: another SDK"]
fn npm_octokit_raises_its_own_exception_for_every_failure() {
    let failed = |status: u16, message| raised("HttpError", status, message, GITHUB_PAGE, Value::Null);
    let mut invalid = raised(
        "HttpError",
        422,
        "Validation Failed",
        "https://docs.github.com/rest/issues/issues#create-an-issue",
        Value::Null,
    );
    invalid["errors"] = json!([
        { "resource": "Issue", "field": "title", "code": "missing_field" },
        {
            "resource": "Label",
            "code": "custom",
            "field": "name",
            "message": "name already exists on this repository",
            "value": "bug",
            "index": 0,
        },
    ]);
    every_failure_is_the_sdks_own_exception(&Sdk {
        contract: "github",
        command: octokit,
        good: r#"{"id":1,"title":"t"}"#,
        value: json!("t"),
        unreachable: failed(502, "Server Error"),
        hanging: failed(504, "We couldn't respond to your request in time"),
        own: ("422-fields", invalid),
        rate_limited: raised("HttpError", 403, GITHUB_LIMITED, GITHUB_LIMITS_PAGE, Value::Null),
        // This SDK takes every body that cannot be read for an empty one: no value, and no exception.
        truncated: json!({ "empty": 200 }),
        repeats: Repeats::AfterTheAdvisedTime,
    });
}

#[test]
#[ignore = "make proof: another SDK"]
fn pypi_requests_oauthlib_raises_its_own_exception_for_every_failure() {
    let failed = |message| {
        raised("TemporarilyUnavailableError", Value::Null, message, "temporarily_unavailable", Value::Null)
    };
    every_failure_is_the_sdks_own_exception(&Sdk {
        contract: "oauth2",
        command: || python("oauth2"),
        good: r#"{"access_token":"t","token_type":"bearer"}"#,
        value: json!("t"),
        unreachable: failed("The server could not be reached."),
        hanging: failed("The server did not respond in time."),
        own: (
            "400-invalid-grant",
            raised(
                "InvalidGrantError",
                Value::Null,
                "The authorization code is expired or was already used.",
                "invalid_grant",
                Value::Null,
            ),
        ),
        rate_limited: failed("Too many requests. Please try again later."),
        truncated: json!({ "connection": "ChunkedEncodingError" }),
        repeats: Repeats::AfterTheAdvisedTime,
    });
}
