//! Which message is extracted, which candidates are skipped, and which bodies yield nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn extract_body(body: impl AsRef<[u8]>) -> (Option<String>, Option<String>) {
    let ExtractedError { message, kind, .. } =
        extract(&Contract::builtin("appwrite").unwrap(), body.as_ref());
    (message, kind)
}

fn message(body: impl AsRef<[u8]>) -> Option<String> {
    extract_body(body).0
}

#[test]
fn message_candidates_are_tried_in_order() {
    // Each body lacks the preferred candidate of the previous one.
    let members = [
        (r#""message":"1""#, "1"),
        (r#""error":{"message":"2","code":7}"#, "2"),
        (r#""error_description":"3""#, "3"),
        (r#""detail":"4""#, "4"),
        (r#""error":"5""#, "5"),
        (r#""errors":[{"detail":"7","message":"6"}]"#, "6"),
        (r#""errors":[{"detail":"7"},{"message":"no"}]"#, "7"),
        (r#""non_field_errors":["8"]"#, "8"),
        (r#""reason":"9""#, "9"),
        (r#""msg":"10""#, "10"),
        (r#""Message":"11""#, "11"),
        (r#""error_message":"12""#, "12"),
        (r#""title":"13""#, "13"),
    ];
    for (first_candidate, (_, expected)) in members.iter().enumerate() {
        let mut names = std::collections::HashSet::new();
        // `error` and `errors` are in the list twice; only the preferred form is used.
        let remaining: Vec<&str> = members
            .iter()
            .skip(first_candidate)
            .map(|(member, _)| *member)
            .filter(|member| names.insert(member.split(':').next()))
            .collect();
        for body in [remaining.join(","), remaining.iter().rev().copied().collect::<Vec<_>>().join(",")] {
            assert_eq!(message(format!("{{{body}}}")).as_deref(), Some(*expected), "{body}");
        }
    }
}

#[test]
fn messages_in_other_members_are_ignored() {
    for body in [
        r#"{"data":{"message":"x"}}"#,
        r#"{"error":{"detail":"x"}}"#,
        r#"{"error":{"error":{"message":"x"}}}"#,
        r#"{"error":[{"message":"x"}]}"#,
        r#"{"errors":[[{"message":"x"}]]}"#,
        r#"{"errors":[{"title":"x"},{"message":"x"}]}"#,
        r#"{"message":{"text":"x"}}"#,
        r#"{"message":404}"#,
        r#"[{"message":"x"}]"#,
        r#""x""#,
        r#"{"status":"x"}"#,
    ] {
        assert_eq!(message(body), None, "{body}");
    }
}

#[test]
fn messages_of_validation_errors_are_found_in_document_order() {
    for (body, expected) in [
        (r#"{"errors":{"name":["is taken"],"age":["is low"]}}"#, "is taken"),
        (r#"{"errors":{"name":"is taken"}}"#, "is taken"),
        (r#"{"errors":["is taken"]}"#, "is taken"),
        (r#"{"detail":[{"loc":["body","id"],"msg":"field required","type":"missing"}]}"#, "field required"),
        (r#"{"detail":{"message":"is taken"}}"#, "is taken"),
        (r#"{"statusCode":400,"message":["is taken","is low"],"error":"Bad Request"}"#, "is taken"),
        (r#"{"name":["is taken"],"age":["is low"]}"#, "is taken"),
        (r#"{"error":{"code":404,"reason":"is gone"}}"#, "is gone"),
        ("\u{feff}{\"message\":\"is taken\"}", "is taken"),
    ] {
        assert_eq!(message(body).as_deref(), Some(expected), "{body}");
    }
    assert_eq!(message(r#"{"name":["is taken"],"age":3}"#), None);
}

#[test]
fn specific_message_is_preferred_to_a_status_phrase() {
    let body = r#"{"message":"Bad Request","error":"bad request.","detail":"The age is low."}"#;
    assert_eq!(message(body).as_deref(), Some("The age is low."));
    assert_eq!(message(r#"{"error":"Not Found","status":404}"#).as_deref(), Some("Not Found"));
}

#[test]
fn declared_paths_come_first() {
    let path = JsonPath::parse("fault.faultstring").unwrap();
    let extraction = Extraction { message_paths: &[path], ..Extraction::ALL };
    let body = br#"{"message":"x","fault":{"faultstring":"Quota used up"}}"#;
    let found = extract_with(&Contract::builtin("appwrite").unwrap(), body, &extraction);
    assert_eq!(found.message.as_deref(), Some("Quota used up"));
}

#[test]
fn details_are_kept_without_texts_that_may_not_be_sent() {
    let contract = Contract::builtin("problem").unwrap();
    let names: [Box<str>; 2] = ["errors".into(), "violations".into()];
    let extraction = Extraction { keep_details: &names, ..Extraction::ALL };
    let kept = |body: &str| {
        let found = extract_with(&contract, body.as_bytes(), &extraction);
        (found.details, found.details_dropped)
    };
    let text = |json: &str| Some(json.to_owned());
    assert_eq!(
        kept(r#"{"violations" : [ { "age" : 1.50, "why" : "too \u006cow" } ]}"#),
        (text(r#"[{"age":1.50,"why":"too \u006cow"}]"#), 0)
    );
    assert_eq!(kept(r#"{"error":{"errors":["a"]}}"#), (text(r#"["a"]"#), 0));
    assert_eq!(
        kept(r#"{"errors":["<b>","a",{"x":"at f (a.js:1:2)","y":null,"<i>":1}]}"#),
        (text(r#"["a",{"y":null}]"#), 3)
    );
    // Nothing was kept: the details are absent, not an empty list.
    for nothing in [r#""SQLSTATE[1]""#, r#"["<b>"]"#, r#"[{"why":"<b>"}]"#, r#"{"name":["<b>"]}"#] {
        assert_eq!(kept(&format!("{{\"errors\":{nothing}}}")), (None, 1), "{nothing}");
    }
    assert_eq!(kept(r#"{"errors":["<b>",5]}"#), (text("[5]"), 1));
    assert_eq!(kept(r#"{"errors":[]}"#), (text("[]"), 0));
    let nested = |levels: usize| format!(r#"{{"errors":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert_eq!(kept(&nested(8)).1, 0);
    assert_eq!(kept(&nested(9)), (None, 1));
    let many = |texts: usize| format!(r#"{{"errors":[{}]}}"#, vec!["\"\""; texts].join(","));
    assert_eq!(kept(&many(256)).1, 0);
    assert_eq!(kept(&many(257)), (None, 1));
    let long = |length: usize| format!(r#"{{"errors":"{}"}}"#, "x".repeat(length));
    assert_eq!(kept(&long(16 * 1024 - 2)).1, 0);
    assert_eq!(kept(&long(16 * 1024 - 1)), (None, 1));
}

#[test]
fn plain_text_of_one_short_line_is_a_message() {
    let message = |text: &str| plain_text_message(text.as_bytes());
    assert_eq!(message("No such user.\r\n").as_deref(), Some("No such user."));
    for other in ["", "two\nlines", "<html>", "at f (a.js:1:2)", &"x".repeat(201), "\u{0}"] {
        assert_eq!(message(other), None, "{other}");
    }
    assert_eq!(message(&"é".repeat(200)).unwrap().chars().count(), 200);
}

#[test]
fn invalid_candidate_is_skipped() {
    for invalid in ["", "<p>x</p>", "x at app.js:3", "Traceback", "\\u0000"] {
        let body =
            format!(r#"{{"message":"{invalid}","error":{{"message":"{invalid}"}},"detail":"Not here."}}"#);
        assert_eq!(message(&body).as_deref(), Some("Not here."), "{body}");
        assert_eq!(message(format!(r#"{{"message":"{invalid}"}}"#)), None);
    }
}

#[test]
fn message_is_cleaned_and_truncated() {
    assert_eq!(message(r#"{"message":"one\u0007 line\r\n two"}"#).as_deref(), Some("one line"));
    let long = "é".repeat(1500);
    assert_eq!(message(format!(r#"{{"message":"{long}"}}"#)), Some("é".repeat(1000)));
}

#[test]
fn duplicate_member_discards_the_body() {
    for body in [
        r#"{"message":"x","message":"x"}"#,
        r#"{"message":"x","m\u0065ssage":"y"}"#,
        r#"{"message":"x","a":{"b":1,"b":1}}"#,
        r#"{"message":"x","a":[[{"b":1,"b":1}]]}"#,
    ] {
        assert_eq!(extract_body(body), (None, None), "{body}");
    }
    assert_eq!(message(r#"{"message":"x","a":{"b":1},"c":{"b":1}}"#).as_deref(), Some("x"));
}

#[test]
fn invalid_json_yields_nothing() {
    let valid = r#"{"message":"x","type":"a"}"#;
    for body in [
        format!("\u{feff}\u{feff}{valid}"),
        format!("{valid}."),
        format!("{valid}{valid}"),
        valid.replace('"', "'"),
    ] {
        assert_eq!(extract_body(&body), (None, None), "{body}");
    }
    assert_eq!(extract_body(b"{\"message\":\"\xff\"}"), (None, None));
    assert_eq!(
        extract_body(format!(r#"{{"message":"x","pad":"{}"}}"#, "x".repeat(BODY_LIMIT))),
        (None, None)
    );
}

#[test]
fn deep_nesting_yields_nothing_without_overflow() {
    let levels = 30_000;
    let body = format!(r#"{{"message":"x","a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert_eq!(extract_body(body), (None, None));
    let levels = 100;
    let body = format!(r#"{{"message":"x","a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert_eq!(message(body).as_deref(), Some("x"));
}

#[test]
fn allowed_type_is_kept_with_or_without_a_message() {
    assert_eq!(extract_body(r#"{"type":"user_not_found"}"#), (None, Some("user_not_found".to_owned())));
    assert_eq!(
        extract_body(r#"{"type":"https://example.com/probs/1","title":"T"}"#),
        (Some("T".to_owned()), None)
    );
    assert_eq!(extract_body(r#"{"type":7}"#), (None, None));
    assert_eq!(extract_body(r#"{"error":{"type":"inner"}}"#), (None, Some("inner".to_owned())));
    assert_eq!(extract_body(r#"{"error":{"code":"inner"}}"#), (None, Some("inner".to_owned())));
    assert_eq!(extract_body(r#"{"code":404,"error":"invalid_grant"}"#).1.as_deref(), Some("invalid_grant"));
}

proptest! {
    #[test]
    fn extracted_text_passes_the_text_rule(
        texts in proptest::collection::vec("(<|>|a|at |b:|1|\n|Traceback|\u{0}|\u{85}| |é){0,30}", 5),
    ) {
        let body = serde_json::json!({
            "message": texts[0], "error": {"message": texts[1]}, "detail": texts[2], "title": texts[3],
            "errors": [{"message": texts[4]}], "type": texts[0],
        });
        let (message, kind) = extract_body(body.to_string());
        if let Some(message) = message {
            prop_assert!(text::is_allowed(&message), "{message:?}");
        }
        let valid = |kind: &str| {
            kind.starts_with(|c: char| c.is_ascii_alphabetic())
                && kind.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        prop_assert!(kind.as_deref().is_none_or(valid), "{kind:?}");
    }
}
