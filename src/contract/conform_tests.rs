//! Conforming and non-conforming bodies, rule by rule.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::contract::extract::extract;

fn contract() -> Contract {
    Contract::builtin("appwrite").unwrap()
}

fn conformance_of(status: u16, body: impl AsRef<[u8]>) -> Conformance {
    let error = ErrorBody { status, media_type: Some(b"application/json"), body: body.as_ref() };
    check_conformance(&contract(), &error, UpstreamMessages::ClientErrors)
}

#[test]
fn documented_object_conforms_in_any_json_spelling() {
    for body in [
        r#"{"message":"No such user.","code":404}"#,
        r#"{"code":404,"message":"No such user."}"#,
        "\r\n { \"message\" : \"No such user.\" , \"code\" : 404 } \n",
        r#"{"message":"x","code":404,"type":"user_not_found","version":"1.8.0-rc.1+7"}"#,
        r#"{"m\u0065ssage":"größer \u00e9 \ud83d\ude00","code":404}"#,
    ] {
        assert_eq!(conformance_of(404, body), Conformance::Conforms, "{body}");
    }
}

#[test]
fn other_json_shapes_do_not_conform() {
    for body in [
        r#"{}"#,
        r#"[]"#,
        r#"null"#,
        r#"404"#,
        r#"-1"#,
        r#"1.5"#,
        r#"true"#,
        r#""text""#,
        r#"[{"message":"x","code":404}]"#,
        r#"{"message":"x"}"#,
        r#"{"code":404}"#,
        r#"{"message":"x","code":400}"#,
        r#"{"message":"x","code":"404"}"#,
        r#"{"message":"x","code":404.0}"#,
        r#"{"message":"x","code":4.04e2}"#,
        r#"{"message":"x","code":404e0}"#,
        r#"{"message":"x","code":40400E-2}"#,
        r#"{"message":"x","code":-404}"#,
        r#"{"message":"x","code":null}"#,
        r#"{"message":"x","code":18446744073709551616}"#,
        r#"{"message":null,"code":404}"#,
        r#"{"message":["x"],"code":404}"#,
        r#"{"message":"","code":404}"#,
        r#"{"message":"a\u0007b","code":404}"#,
        r#"{"message":"<p>x","code":404}"#,
        r#"{"message":"x at app.js:3","code":404}"#,
        r#"{"message":"x at f (app.js:3:1)","code":404}"#,
        r#"{"message":"cannot reach amqp://u:p@queue","code":404}"#,
        r#"{"message":"Traceback","code":404}"#,
        r#"{"message":"x","code":404,"message":"x"}"#,
        r#"{"message":"x","code":404,"m\u0065ssage":"x"}"#,
        r#"{"message":"x","code":404,"code":404}"#,
        r#"{"message":"x","code":404,"type":"a","type":"a"}"#,
        r#"{"message":"x","code":404,"trace":[]}"#,
        r#"{"message":"x","code":404,"":1}"#,
        r#"{"message":"x","code":404,"Message":"x"}"#,
        r#"{"message":"x","code":404,"type":""}"#,
        r#"{"message":"x","code":404,"type":"Not Found"}"#,
        r#"{"message":"x","code":404,"type":7}"#,
        r#"{"message":"x","code":404,"version":""}"#,
        r#"{"message":"x","code":404,"version":"1 8"}"#,
        r#"{"message":"x","code":404,"version":1}"#,
        r#"{"message":"x","code":404,"version":"123456789012345678901234567890123"}"#,
    ] {
        assert_eq!(conformance_of(404, body), Conformance::WrongShape, "{body}");
    }
}

#[test]
fn invalid_json_does_not_conform() {
    let valid = r#"{"message":"x","code":404}"#;
    for body in [
        String::new(),
        " ".to_owned(),
        "<html>Bad Gateway</html>".to_owned(),
        format!("\u{feff}{valid}"),
        format!("{valid}{valid}"),
        format!("{valid}x"),
        format!("{valid}\u{0}"),
        format!("{valid},"),
        r#"{"message":"x","code":404"#.to_owned(),
        r#"{"message":"x","code":404,}"#.to_owned(),
        r#"{'message':'x','code':404}"#.to_owned(),
        r#"{message:"x",code:404}"#.to_owned(),
        r#"{"message":"x","code":0404}"#.to_owned(),
        r#"{"message":"x","code":+404}"#.to_owned(),
        r#"{"message":"x","code":404.}"#.to_owned(),
        r#"{"message":"\ud800","code":404}"#.to_owned(),
        r#"{"message":"\x41","code":404}"#.to_owned(),
        "{\"message\":\"a\nb\",\"code\":404}".to_owned(),
        r#"{"message":"x","code":404} // no"#.to_owned(),
        r#"{"message":"x","code":NaN}"#.to_owned(),
    ] {
        assert_eq!(conformance_of(404, &body), Conformance::NotJson, "{body}");
    }
    assert_eq!(conformance_of(404, b"{\"message\":\"\xff\",\"code\":404}"), Conformance::NotJson);
    assert_eq!(conformance_of(404, b"{\"message\":\"\xc0\xaf\",\"code\":404}"), Conformance::NotJson);
    assert_eq!(conformance_of(404, b"\xff\xfe{\0}\0"), Conformance::NotJson);
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let levels = 100_000;
    let arrays = |before: &str, after: &str| {
        // Larger than BODY_LIMIT, so this calls the parser directly.
        let text = format!("{before}{}{}{after}", "[".repeat(levels), "]".repeat(levels));
        not_conforming(&text)
    };
    assert_eq!(arrays("", ""), Conformance::WrongShape);
    assert_eq!(arrays(r#"{"message":"x","code":404,"deep":"#, "}"), Conformance::WrongShape);
    assert_eq!(arrays(r#"{"message":"#, r#","code":404}"#), Conformance::WrongShape);
    assert_eq!(arrays("", "x"), Conformance::NotJson);
    assert_eq!(conformance_of(404, "[".repeat(60_000)), Conformance::NotJson);
    let objects = format!(
        r#"{{"message":"x","code":404,"deep":{}1{}}}"#,
        r#"{"a":"#.repeat(11_000),
        "}".repeat(11_000)
    );
    assert_eq!(conformance_of(404, objects), Conformance::TooLarge);
    let objects =
        format!(r#"{{"message":"x","code":404,"deep":{}1{}}}"#, r#"{"a":"#.repeat(9_000), "}".repeat(9_000));
    assert_eq!(conformance_of(404, objects), Conformance::WrongShape);
}

#[test]
fn undocumented_status_and_large_body_are_checked_first() {
    assert_eq!(conformance_of(418, r#"{"message":"x","code":418}"#), Conformance::Undocumented);
    let large = |message: usize| format!(r#"{{"message":"x","code":404{}}}"#, " ".repeat(message - 26));
    assert_eq!(conformance_of(404, large(BODY_LIMIT)), Conformance::Conforms);
    assert_eq!(conformance_of(404, large(BODY_LIMIT + 1)), Conformance::TooLarge);
}

#[test]
fn message_is_limited_to_8192_characters() {
    let body = |chars: usize| format!(r#"{{"message":"{}","code":404}}"#, "é".repeat(chars));
    assert_eq!(conformance_of(404, body(8192)), Conformance::Conforms);
    assert_eq!(conformance_of(404, body(8193)), Conformance::WrongShape);
}

#[test]
fn closed_type_list_applies_to_upstream_bodies() {
    let declaration = crate::contract::builtin::declaration("appwrite").unwrap();
    let codes: Vec<_> = declaration.codes.iter().filter_map(|code| code.kind.clone()).collect();
    let closed =
        Contract::declare(crate::contract::Declaration { types: Some(codes), ..declaration }).unwrap();
    let conformance_of_type = |kind: &str| {
        let body = format!(r#"{{"message":"x","code":404,"type":"{kind}"}}"#);
        let error = ErrorBody { status: 404, media_type: Some(b"application/json"), body: body.as_bytes() };
        check_conformance(&closed, &error, UpstreamMessages::ClientErrors)
    };
    assert_eq!(conformance_of_type("general_route_not_found"), Conformance::Conforms);
    assert_eq!(conformance_of_type("user_not_found"), Conformance::WrongShape);
}

#[test]
fn body_with_disallowed_message_does_not_conform() {
    for (status, messages, passes) in [
        (404, UpstreamMessages::ClientErrors, true),
        (500, UpstreamMessages::ClientErrors, false),
        (404, UpstreamMessages::All, true),
        (500, UpstreamMessages::All, true),
        (404, UpstreamMessages::None, false),
        (500, UpstreamMessages::None, false),
    ] {
        let body = format!(r#"{{"message":"x","code":{status}}}"#);
        let error = ErrorBody { status, media_type: Some(b"application/json"), body: body.as_bytes() };
        let expected = if passes { Conformance::Conforms } else { Conformance::MessageWithheld };
        assert_eq!(check_conformance(&contract(), &error, messages), expected, "{status} {messages:?}");
    }
}

#[test]
fn media_type_must_be_json_with_utf8_or_no_charset() {
    for valid in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/json; Charset=\"UTF-8\"",
        "application/json ; profile=x ; charset=utf-8;",
    ] {
        assert!(head_conforms(404, Some(valid.as_bytes())), "{valid}");
    }
    for invalid in [
        "",
        "application",
        "text/json",
        "text/html; charset=utf-8",
        "application/problem+json",
        "application/jsonp",
        "application/json, text/html",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf8",
        "application/json; charset=",
        "application/json; charset",
        "application/json; charset=utf-8; charset=latin1",
    ] {
        assert!(!head_conforms(404, Some(invalid.as_bytes())), "{invalid}");
        let error = ErrorBody {
            status: 404,
            media_type: Some(invalid.as_bytes()),
            body: br#"{"message":"x","code":404}"#,
        };
        assert_eq!(
            check_conformance(&contract(), &error, UpstreamMessages::All),
            Conformance::NotJson,
            "{invalid}"
        );
    }
    assert!(head_conforms(404, None));
    let error = ErrorBody { status: 404, media_type: None, body: br#"{"message":"x","code":404}"# };
    assert_eq!(check_conformance(&contract(), &error, UpstreamMessages::All), Conformance::NotJson);
}

fn head_conforms(status: u16, media_type: Option<&[u8]>) -> bool {
    let messages = UpstreamMessages::ClientErrors;
    check_head_response(&contract(), status, media_type, messages) == Conformance::Conforms
}

#[test]
fn head_response_of_a_server_error_conforms_only_with_all_messages() {
    for (messages, expected) in [
        (UpstreamMessages::ClientErrors, Conformance::MessageWithheld),
        (UpstreamMessages::All, Conformance::Conforms),
    ] {
        assert_eq!(check_head_response(&contract(), 500, None, messages), expected);
        assert_eq!(check_head_response(&contract(), 503, Some(b"application/json"), messages), expected);
    }
}

#[test]
fn labels_are_distinct() {
    let labels: std::collections::HashSet<_> = Conformance::ALL.iter().map(|one| one.label()).collect();
    assert_eq!(labels.len(), Conformance::ALL.len());
}

proptest! {
    #[test]
    fn only_unambiguous_bodies_conform(
        message in ".{0,30}",
        code in prop_oneof![Just("404".to_owned()), "[0-9.e]{1,6}"],
        extra in prop_oneof![Just(String::new()), ",\"(type|version|trace|code)\":(\"[a-z]{0,3}\"|404|null)"],
    ) {
        let body = format!("{{\"message\":{},\"code\":{code}{extra}}}", serde_json::json!(message));
        if conformance_of(404, &body) == Conformance::Conforms {
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            let object = value.as_object().unwrap();
            prop_assert!(object.keys().all(|name| ["message", "code", "type", "version"].contains(&name.as_str())));
            prop_assert_eq!(value.get("code").and_then(serde_json::Value::as_u64), Some(404));
            prop_assert!(code.bytes().all(|b| b.is_ascii_digit()));
            prop_assert!(crate::contract::text::passes_rule(&message));
            prop_assert!(!extra.contains("trace") && !extra.contains("code"));
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(body in proptest::collection::vec(any::<u8>(), 0..200), media in proptest::collection::vec(any::<u8>(), 0..40)) {
        let error = ErrorBody { status: 404, media_type: Some(&media), body: &body };
        check_conformance(&contract(), &error, UpstreamMessages::All);
        conformance_of(404, &body);
        extract(&contract(), &body);
    }
}
