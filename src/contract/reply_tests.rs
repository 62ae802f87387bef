//! Whole replies compared, the rules of `Retry-After`, and the canaries: no evidence, no refused text, ever.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use http::Method;
use http::header::{SET_COOKIE, VARY};
use proptest::prelude::*;

use super::*;
use crate::contract::conform::{Conformance, ErrorBody, UpstreamMessages, examine, extract};
use crate::contract::fault::{Cause, Evidence, Fault, Phase};
use crate::contract::policy::{Case, Override, Overrides, Situation, decide};

fn contract() -> Contract {
    Contract::builtin("appwrite").unwrap()
}

fn ruling(case: Case, overrides: &[Override]) -> Ruling {
    let situation = Situation { case, upstream: Some("shop"), method: &Method::GET };
    decide(&contract(), &situation, &Overrides { route: overrides, global: &[] })
}

fn facts<'a>() -> ReplyFacts<'a> {
    ReplyFacts {
        origin: Origin::Proxy,
        head_request: false,
        grpc: false,
        message: None,
        kind: None,
        include: Include::default(),
        request_id: None,
        retryable: false,
        request_sent: RequestSent::None,
        retry_after: 5,
        fields: Vec::new(),
    }
}

/// The reply as a text: status line, fields, an empty line, body.
fn written(reply: &LocalReply) -> String {
    let mut out = format!("{} {}\n", reply.status(), reply.reason());
    for (name, value) in reply.fields() {
        out.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    if let Some(length) = reply.content_length() {
        out.push_str(&format!("({length} bytes)\n"));
    }
    out.push_str(&format!("\n{}", std::str::from_utf8(reply.body()).unwrap()));
    out
}

const OURS: &str =
    "content-type: application/json\ncache-control: no-store\nx-content-type-options: nosniff\n";

#[test]
fn a_refused_connection_is_answered_so() {
    let id = HeaderValue::from_static("0190-7");
    let reply = compose(
        &contract(),
        &ruling(Case::Fault(Cause::ConnectionRefused), &[]),
        ReplyFacts { request_id: Some(&id), ..facts() },
    );
    let text = "The servers are up, but the request could not be serviced due to some failure within the stack. Try again later.";
    let body = format!(r#"{{"message":"{text}","code":504}}"#);
    assert_eq!(
        written(&reply),
        format!("504 Gateway Timeout\n{OURS}x-request-id: 0190-7\n({} bytes)\n\n{body}", body.len())
    );
}

#[test]
fn a_body_that_is_too_large_is_answered_so_with_every_member_asked_for() {
    let id = HeaderValue::from_static("0190-7");
    let include = Include { kind: true, request_id: true, retryable: true, request_sent: true };
    let reply = compose(
        &contract(),
        &ruling(Case::Fault(Cause::BodyTooLarge), &[]),
        ReplyFacts { request_id: Some(&id), include, request_sent: RequestSent::Partial, ..facts() },
    );
    assert_eq!(
        written(&reply),
        format!(
            "400 Bad Request\n{OURS}x-request-id: 0190-7\n(158 bytes)\n\n{}",
            r#"{"message":"The request body is too large.","code":400,"type":"general_argument_invalid","request_id":"0190-7","retryable":false,"request_sent":"partial"}"#
        )
        .replace("158", &reply.body().len().to_string())
    );
}

#[test]
fn a_rate_limit_is_answered_so_and_keeps_the_limiters_fields() {
    let fields = vec![
        (HeaderName::from_static("x-ratelimit-remaining"), HeaderValue::from_static("0")),
        (RETRY_AFTER, HeaderValue::from_static("17")),
    ];
    let reply =
        compose(&contract(), &ruling(Case::Fault(Cause::RateLimited), &[]), ReplyFacts { fields, ..facts() });
    assert_eq!(
        written(&reply),
        format!(
            "429 Too Many Requests\nx-ratelimit-remaining: 0\nretry-after: 17\n{OURS}(42 bytes)\n\n{}",
            r#"{"message":"Too many requests","code":429}"#
        )
    );
}

#[test]
fn a_replaced_answer_keeps_the_upstreams_message_type_and_kept_fields() {
    let fields =
        vec![(VARY, HeaderValue::from_static("Origin")), (SET_COOKIE, HeaderValue::from_static("a=b"))];
    let reply = compose(
        &contract(),
        &ruling(Case::UpstreamStatus(410), &[]),
        ReplyFacts {
            origin: Origin::Replaced,
            message: Some("The \"transaction\" is over."),
            kind: Some("transaction_expired"),
            fields,
            ..facts()
        },
    );
    let body = r#"{"message":"The \"transaction\" is over.","code":404,"type":"transaction_expired"}"#;
    assert_eq!(
        written(&reply),
        format!("404 Not Found\nvary: Origin\nset-cookie: a=b\n{OURS}({} bytes)\n\n{body}", body.len())
    );
}

#[test]
fn a_head_request_gets_no_body_and_a_length_only_where_it_is_known() {
    let case = Case::Fault(Cause::DestinationNotFound);
    let get = compose(&contract(), &ruling(case, &[]), facts());
    let head = compose(&contract(), &ruling(case, &[]), ReplyFacts { head_request: true, ..facts() });
    assert_eq!(head.body().len(), 0);
    assert_eq!(head.content_length(), Some(get.body().len() as u64));
    assert_eq!(head.fields(), get.fields());

    let case = Case::UpstreamStatus(404);
    let replaced = ReplyFacts { origin: Origin::Replaced, head_request: true, ..facts() };
    let head = compose(&contract(), &ruling(case, &[]), replaced);
    assert_eq!((head.body().len(), head.content_length()), (0, None));
}

fn waits(reply: &LocalReply) -> Vec<&str> {
    reply
        .fields()
        .iter()
        .filter(|(name, _)| name == RETRY_AFTER)
        .map(|(_, value)| value.to_str().unwrap())
        .collect()
}

#[test]
fn every_429_and_503_says_when_to_return_and_says_it_once() {
    let kept = |values: &[&'static str]| -> Vec<(HeaderName, HeaderValue)> {
        values.iter().map(|value| (RETRY_AFTER, HeaderValue::from_static(value))).collect()
    };
    let asked = [Override { retry_after: Some(9), ..Override::default() }];
    let zero = [Override { retry_after: Some(0), ..Override::default() }];
    let (busy, slow) = (Case::Fault(Cause::QueueFull), Case::Fault(Cause::HttpResponseTimeout));
    type Row<'a> = (Case, &'a [Override], &'a [&'static str], u64, &'a [&'a str]);
    let rows: &[Row<'_>] = &[
        (busy, &[], &[], 5, &["5"]),
        (busy, &[], &[], 0, &["1"]),
        (busy, &[], &["30", "40"], 5, &["30"]),
        (busy, &asked, &["30"], 5, &["9"]),
        (busy, &zero, &[], 5, &["1"]),
        (slow, &[], &[], 5, &[]),
        (slow, &[], &["30"], 5, &["30"]),
        (slow, &asked, &[], 5, &["9"]),
        (Case::Fault(Cause::RateLimited), &[], &[], 5, &["5"]),
        (Case::UpstreamStatus(507), &[], &[], 5, &["5"]),
    ];
    for (case, overrides, fields, fallback, expected) in rows {
        let facts = ReplyFacts { fields: kept(fields), retry_after: *fallback, ..facts() };
        let reply = compose(&contract(), &ruling(*case, overrides), facts);
        assert_eq!(&waits(&reply), expected, "{case:?} {fields:?}");
    }
}

#[test]
fn an_overrides_text_precedes_the_upstreams_message() {
    let wording = [Override { message: Some("The shop is restarting.".into()), ..Override::default() }];
    let facts = ReplyFacts { origin: Origin::Replaced, message: Some("upstream says"), ..facts() };
    let reply = compose(&contract(), &ruling(Case::UpstreamStatus(404), &wording), facts);
    assert_eq!(&reply.body()[..], br#"{"message":"The shop is restarting.","code":404}"#);
}

#[test]
fn a_code_of_another_contract_leaves_as_a_code_of_this_one() {
    let foreign = Contract::builtin("appwrite-current").unwrap().code(416).unwrap();
    let moved = [Override { code: Some(foreign), ..Override::default() }];
    let reply = compose(&contract(), &ruling(Case::Fault(Cause::DnsError), &moved), facts());
    assert_eq!(reply.status(), 500);
    assert_eq!(&reply.body()[..], br#"{"message":"Something is broken.","code":500}"#);
}

#[test]
fn evidence_of_a_fault_never_appears_in_its_reply() {
    let contract = contract();
    for &cause in Cause::ALL {
        let fault = Fault::new(cause, Phase::Connect).with(Evidence::text("CANARY 10.0.1.10:8000"));
        let include = Include { kind: true, request_id: true, retryable: true, request_sent: true };
        let reply =
            compose(&contract, &ruling(Case::Fault(fault.cause()), &[]), ReplyFacts { include, ..facts() });
        assert!(!format!("{reply:?}{}{fault:?}", written(&reply)).contains("CANARY"), "{cause}");
    }
}

fn any_case() -> impl Strategy<Value = Case> {
    prop_oneof![
        (0..Cause::ALL.len()).prop_map(|index| Case::Fault(Cause::ALL[index])),
        (0u16..=999).prop_map(Case::UpstreamStatus),
    ]
}

proptest! {
    /// Even facts that nobody cleaned cannot break the contract.
    #[test]
    fn whatever_is_composed_conforms_to_the_contract(
        case in any_case(),
        message in proptest::option::of(prop_oneof![any::<String>(), "(<|a|at |b:|1|\"|\\\\|Traceback|\u{0}){0,20}"]),
        kind in proptest::option::of(prop_oneof![any::<String>(), "[a-z_]{1,70}"]),
        include_kind in any::<bool>(),
        replaced in any::<bool>(),
    ) {
        let contract = contract();
        let facts = ReplyFacts {
            origin: if replaced { Origin::Replaced } else { Origin::Proxy },
            message: message.as_deref(),
            kind: kind.as_deref(),
            include: Include { kind: include_kind, ..Include::default() },
            ..facts()
        };
        let reply = compose(&contract, &ruling(case, &[]), facts);
        let body = ErrorBody { status: reply.status(), media_type: Some(b"application/json"), body: reply.body() };
        prop_assert_eq!(examine(&contract, &body, UpstreamMessages::All), Conformance::Conforms);
        prop_assert_eq!(reply.content_length(), Some(reply.body().len() as u64));
        prop_assert_eq!(contract.code(reply.status()), reply.code());
    }

    #[test]
    fn with_every_member_asked_for_the_body_is_json_and_its_code_is_the_status(
        case in any_case(),
        id in "[ -~]{0,40}",
        retryable in any::<bool>(),
    ) {
        let id = HeaderValue::from_str(&id).unwrap();
        let include = Include { kind: true, request_id: true, retryable: true, request_sent: true };
        let facts = ReplyFacts { include, request_id: Some(&id), retryable, request_sent: RequestSent::Full, ..facts() };
        let reply = compose(&contract(), &ruling(case, &[]), facts);
        let value: serde_json::Value = serde_json::from_slice(reply.body()).unwrap();
        prop_assert_eq!(&value["code"], &serde_json::json!(reply.status()));
        prop_assert_eq!(&value["request_id"], &serde_json::json!(id.to_str().unwrap()));
        prop_assert_eq!(&value["retryable"], &serde_json::json!(retryable));
        prop_assert_eq!(value.as_object().unwrap().len(), 6);
    }

    /// From an upstream's bytes to the client: secrets outside of the kept message and type never leave.
    #[test]
    fn what_surrounds_the_kept_message_never_leaves(
        status in 400u16..=599,
        message in "[a-zA-Z ]{1,20}",
        trace in "CANARY[0-9]{4}",
    ) {
        let contract = contract();
        let upstream = serde_json::json!({
            "message": message, "code": status, "trace": [trace], "file": trace, "error": {"detail": trace},
        });
        let ruling = ruling(Case::UpstreamStatus(status), &[]);
        let kept = extract(&contract, upstream.to_string().as_bytes());
        let may_leave = UpstreamMessages::ClientErrors.may_leave(ruling.code().status());
        let facts = ReplyFacts {
            origin: Origin::Replaced,
            message: kept.message.as_deref().filter(|_| may_leave),
            kind: kept.kind.as_deref(),
            ..facts()
        };
        let reply = compose(&contract, &ruling, facts);
        let text = written(&reply);
        prop_assert!(!text.contains("CANARY"));
        prop_assert_eq!(text.contains(&format!("{{\"message\":\"{message}\"")), reply.status() < 500);
    }
}
