//! Complete replies, the rules of `Retry-After`, and canary checks: evidence and rejected texts never appear in a
//! reply.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use http::Method;
use http::header::{SET_COOKIE, VARY};
use proptest::prelude::*;

use super::*;
use crate::contract::body::Include;
use crate::contract::conform::{Conformance, ErrorBody, UpstreamMessages, check_conformance};
use crate::contract::extract::extract;
use crate::contract::policy::{Override, Overrides, PolicyInput, decide};
use crate::contract::{Cause, Evidence, Fault, Phase};

fn contract() -> Contract {
    Contract::builtin("appwrite").unwrap()
}

fn decision(trigger: Trigger, overrides: &[Override]) -> Decision {
    let input = PolicyInput { trigger, upstream: Some("shop"), method: &Method::GET, route_response: None };
    decide(&contract(), &input, &Overrides { route: overrides, global: &[] })
}

fn context<'a>() -> ReplyContext<'a> {
    ReplyContext {
        is_head_request: false,
        grpc: None,
        message: None,
        kind: None,
        details: None,
        declared: &[],
        format: BodyFormat::Contract,
        request_id: None,
        retryable: false,
        request_sent: RequestSent::None,
        retry_after: 5,
        now: SystemTime::UNIX_EPOCH,
        headers: Vec::new(),
    }
}

/// The reply as text: status line, header fields, an empty line, body.
fn rendered(reply: &LocalReply) -> String {
    let mut out = format!("{} {}\n", reply.status(), reply.reason());
    for (name, value) in reply.headers() {
        out.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    if let Some(length) = reply.content_length() {
        out.push_str(&format!("({length} bytes)\n"));
    }
    out.push_str(&format!("\n{}", std::str::from_utf8(reply.body()).unwrap()));
    out
}

const COMMON_HEADERS: &str =
    "content-type: application/json\ncache-control: no-store\nx-content-type-options: nosniff\n";

#[test]
fn body_in_which_nothing_varies_is_rendered_once() {
    let contract = contract();
    let triggers =
        [Trigger::Fault(Cause::RateLimited), Trigger::UpstreamStatus(502), Trigger::UpstreamStatus(404)];
    for trigger in triggers {
        for format in [BodyFormat::Contract, BodyFormat::NegotiatedContract] {
            let body = || {
                let context = ReplyContext { format, ..context() };
                compose(&contract, &decision(trigger, &[]), context).body().clone()
            };
            assert_eq!(body().as_ptr(), body().as_ptr(), "{trigger:?} {format:?}");
        }
        // The same bytes as those that are rendered for a request.
        let varying = contract.with_include(Include { request_id: true, ..Include::default() });
        let prepared = compose(&contract, &decision(trigger, &[]), context());
        let rendered = compose(&varying, &decision(trigger, &[]), context());
        let text = std::str::from_utf8(rendered.body()).unwrap();
        let without_id = text.replace(",\"request_id\":\"\"", "").replace(",\"request_id\":null", "");
        assert_eq!(prepared.body(), without_id.as_bytes());
    }
    // What the upstream sent changes it.
    let context = ReplyContext { message: Some("No such order."), ..context() };
    let reply = compose(&contract, &decision(Trigger::UpstreamStatus(404), &[]), context);
    assert_eq!(reply.body(), r#"{"message":"No such order.","code":404}"#);
}

#[test]
fn refused_connection_gets_the_documented_504() {
    let id = HeaderValue::from_static("0190-7");
    let reply = compose(
        &contract(),
        &decision(Trigger::Fault(Cause::ConnectionRefused), &[]),
        ReplyContext { request_id: Some(&id), ..context() },
    );
    let text = "The servers are up, but the request could not be serviced due to some failure within the stack. Try again later.";
    let body = format!(r#"{{"message":"{text}","code":504}}"#);
    assert_eq!(
        rendered(&reply),
        format!(
            "504 Gateway Timeout\n{COMMON_HEADERS}x-request-id: 0190-7\n({} bytes)\n\n{body}",
            body.len()
        )
    );
}

#[test]
fn body_too_large_reply_has_every_included_member() {
    let id = HeaderValue::from_static("0190-7");
    let include =
        Include { kind: true, request_id: true, retryable: true, request_sent: true, ..Include::default() };
    let reply = compose(
        &contract().with_include(include),
        &decision(Trigger::Fault(Cause::BodyTooLarge), &[]),
        ReplyContext { request_id: Some(&id), request_sent: RequestSent::Partial, ..context() },
    );
    assert_eq!(
        rendered(&reply),
        format!(
            "400 Bad Request\n{COMMON_HEADERS}x-request-id: 0190-7\n(158 bytes)\n\n{}",
            r#"{"message":"The request body is too large.","code":400,"type":"general_argument_invalid","request_id":"0190-7","retryable":false,"request_sent":"partial"}"#
        )
        .replace("158", &reply.body().len().to_string())
    );
}

#[test]
fn rate_limited_reply_keeps_the_limiter_headers() {
    let fields = vec![
        (HeaderName::from_static("x-ratelimit-remaining"), HeaderValue::from_static("0")),
        (RETRY_AFTER, HeaderValue::from_static("17")),
    ];
    let reply = compose(
        &contract(),
        &decision(Trigger::Fault(Cause::RateLimited), &[]),
        ReplyContext { headers: fields, ..context() },
    );
    assert_eq!(
        rendered(&reply),
        format!(
            "429 Too Many Requests\nx-ratelimit-remaining: 0\nretry-after: 17\n{COMMON_HEADERS}(42 bytes)\n\n{}",
            r#"{"message":"Too many requests","code":429}"#
        )
    );
}

#[test]
fn replaced_reply_keeps_upstream_message_type_and_headers() {
    let fields =
        vec![(VARY, HeaderValue::from_static("Origin")), (SET_COOKIE, HeaderValue::from_static("a=b"))];
    let reply = compose(
        &contract(),
        &decision(Trigger::UpstreamStatus(410), &[]),
        ReplyContext {
            message: Some("The \"transaction\" is over."),
            kind: Some("transaction_expired"),
            headers: fields,
            ..context()
        },
    );
    let body = r#"{"message":"The \"transaction\" is over.","code":404,"type":"transaction_expired"}"#;
    assert_eq!(
        rendered(&reply),
        format!(
            "404 Not Found\nvary: Origin\nset-cookie: a=b\n{COMMON_HEADERS}({} bytes)\n\n{body}",
            body.len()
        )
    );
}

#[test]
fn head_reply_has_no_body_and_a_length_only_if_known() {
    let trigger = Trigger::Fault(Cause::DestinationNotFound);
    let get = compose(&contract(), &decision(trigger, &[]), context());
    let head =
        compose(&contract(), &decision(trigger, &[]), ReplyContext { is_head_request: true, ..context() });
    assert_eq!(head.body().len(), 0);
    assert_eq!(head.content_length(), Some(get.body().len() as u64));
    assert_eq!(head.headers(), get.headers());

    let trigger = Trigger::UpstreamStatus(404);
    let replaced = ReplyContext { is_head_request: true, ..context() };
    let head = compose(&contract(), &decision(trigger, &[]), replaced);
    assert_eq!((head.body().len(), head.content_length()), (0, None));
}

fn retry_after_values(reply: &LocalReply) -> Vec<&str> {
    reply
        .headers()
        .iter()
        .filter(|(name, _)| name == RETRY_AFTER)
        .map(|(_, value)| value.to_str().unwrap())
        .collect()
}

#[test]
fn replies_429_and_503_have_one_retry_after() {
    let retry_after_headers = |values: &[&'static str]| -> Vec<(HeaderName, HeaderValue)> {
        values.iter().map(|value| (RETRY_AFTER, HeaderValue::from_static(value))).collect()
    };
    let nine_seconds = [Override { retry_after: Some(9), ..Override::default() }];
    let zero_seconds = [Override { retry_after: Some(0), ..Override::default() }];
    let (busy, slow) = (Trigger::Fault(Cause::QueueFull), Trigger::Fault(Cause::HttpResponseTimeout));
    type RetryAfterCase<'a> = (Trigger, &'a [Override], &'a [&'static str], u64, &'a [&'a str]);
    let cases: &[RetryAfterCase<'_>] = &[
        (busy, &[], &[], 5, &["5"]),
        (busy, &[], &[], 0, &["1"]),
        (busy, &[], &["30", "40"], 5, &["30"]),
        (busy, &nine_seconds, &["30"], 5, &["9"]),
        (busy, &zero_seconds, &[], 5, &["1"]),
        (slow, &[], &[], 5, &[]),
        (slow, &[], &["30"], 5, &["30"]),
        (slow, &nine_seconds, &[], 5, &["9"]),
        (Trigger::Fault(Cause::RateLimited), &[], &[], 5, &["5"]),
        (Trigger::UpstreamStatus(507), &[], &[], 5, &["5"]),
    ];
    for (trigger, overrides, fields, fallback, expected) in cases {
        let context =
            ReplyContext { headers: retry_after_headers(fields), retry_after: *fallback, ..context() };
        let reply = compose(&contract(), &decision(*trigger, overrides), context);
        assert_eq!(&retry_after_values(&reply), expected, "{trigger:?} {fields:?}");
    }
}

#[test]
fn override_message_precedes_the_upstream_message() {
    let message_override =
        [Override { message: Some("The shop is restarting.".into()), ..Override::default() }];
    let context = ReplyContext { message: Some("upstream says"), ..context() };
    let reply = compose(&contract(), &decision(Trigger::UpstreamStatus(404), &message_override), context);
    assert_eq!(&reply.body()[..], br#"{"message":"The shop is restarting.","code":404}"#);
}

#[test]
fn override_with_an_undocumented_code_keeps_the_default() {
    let code_override = [Override { code: Some(416), ..Override::default() }];
    let reply = compose(&contract(), &decision(Trigger::Fault(Cause::DnsError), &code_override), context());
    assert_eq!(reply.status(), 504);
}

#[test]
fn evidence_never_appears_in_a_reply() {
    let contract = contract().with_include(EVERYTHING);
    for &cause in Cause::ALL {
        let fault = Fault::new(cause, Phase::Connect).with_evidence(Evidence::owned("CANARY 10.0.1.10:8000"));
        let reply = compose(&contract, &decision(Trigger::Fault(fault.cause()), &[]), context());
        assert!(!format!("{reply:?}{}{fault:?}", rendered(&reply)).contains("CANARY"), "{cause}");
    }
}

/// Every member that a flat body can have.
const EVERYTHING: Include =
    Include { kind: true, details: true, request_id: true, cause: true, retryable: true, request_sent: true };

fn any_trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        (0..Cause::ALL.len()).prop_map(|index| Trigger::Fault(Cause::ALL[index])),
        (0u16..=999).prop_map(Trigger::UpstreamStatus),
    ]
}

proptest! {
    /// Unsanitized upstream texts cannot break the contract.
    #[test]
    fn composed_replies_conform_to_the_contract(
        trigger in any_trigger(),
        message in proptest::option::of(prop_oneof![any::<String>(), "(<|a|at |b:|1|\"|\\\\|Traceback|\u{0}){0,20}"]),
        kind in proptest::option::of(prop_oneof![any::<String>(), "[a-z_]{1,70}"]),
        include_kind in any::<bool>(),
    ) {
        let contract = contract().with_include(Include { kind: include_kind, ..Include::default() });
        let context = ReplyContext {
            message: message.as_deref(),
            kind: kind.as_deref(),
            ..context()
        };
        let reply = compose(&contract, &decision(trigger, &[]), context);
        let body = ErrorBody { status: reply.status(), media_type: Some(b"application/json"), body: reply.body() };
        prop_assert_eq!(check_conformance(&contract, &body, UpstreamMessages::All), Conformance::Conforms);
        prop_assert_eq!(reply.content_length(), Some(reply.body().len() as u64));
        prop_assert_eq!(contract.code(reply.status()), reply.code());
    }

    #[test]
    fn body_with_all_members_is_json_with_the_sent_code(
        trigger in any_trigger(),
        id in "[ -~]{0,40}",
        retryable in any::<bool>(),
    ) {
        let id = HeaderValue::from_str(&id).unwrap();
        let context = ReplyContext { request_id: Some(&id), retryable, request_sent: RequestSent::Full, ..context() };
        let reply = compose(&contract().with_include(EVERYTHING), &decision(trigger, &[]), context);
        let value: serde_json::Value = serde_json::from_slice(reply.body()).unwrap();
        prop_assert_eq!(&value["code"], &serde_json::json!(reply.status()));
        prop_assert_eq!(&value["request_id"], &serde_json::json!(id.to_str().unwrap()));
        prop_assert_eq!(&value["retryable"], &serde_json::json!(retryable));
        prop_assert_eq!(value["cause"].as_str(), Some(trigger.name()));
        prop_assert_eq!(value.as_object().unwrap().len(), 7);
    }

    /// From the upstream's body to the reply: values outside the extracted message and type are never sent.
    #[test]
    fn only_message_and_type_of_the_upstream_body_are_sent(
        status in 400u16..=599,
        message in "[a-zA-Z ]{1,20}",
        trace in "CANARY[0-9]{4}",
    ) {
        let contract = contract();
        let upstream = serde_json::json!({
            "message": message, "code": status, "trace": [trace], "file": trace, "error": {"detail": trace},
        });
        let decision = decision(Trigger::UpstreamStatus(status), &[]);
        let extracted = extract(&contract, upstream.to_string().as_bytes());
        let message_allowed = UpstreamMessages::ClientErrors.allowed(status, decision.code().status());
        let context = ReplyContext {
            message: extracted.message.as_deref().filter(|_| message_allowed),
            kind: extracted.kind.as_deref(),
            ..context()
        };
        let reply = compose(&contract, &decision, context);
        let text = rendered(&reply);
        prop_assert!(!text.contains("CANARY"));
        prop_assert_eq!(text.contains(&format!("{{\"message\":\"{}\"", message.trim())), message_allowed && !message.trim().is_empty());
    }
}
