//! Which message is extracted, which candidates are skipped, and which bodies yield nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn extract_body(body: impl AsRef<[u8]>) -> (Option<String>, Option<String>) {
    let ExtractedError { message, kind } = extract(&Contract::builtin("appwrite").unwrap(), body.as_ref());
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
        (r#""detail":"3""#, "3"),
        (r#""error_description":"4""#, "4"),
        (r#""error":"5""#, "5"),
        (r#""title":"6""#, "6"),
        (r#""errors":[{"detail":"8","message":"7"}]"#, "7"),
        (r#""errors":[{"detail":"8"},{"message":"no"}]"#, "8"),
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
        r#"{"errors":{"message":"x"}}"#,
        r#"{"errors":["x"]}"#,
        r#"{"errors":[[{"message":"x"}]]}"#,
        r#"{"errors":[{"title":"x"},{"message":"x"}]}"#,
        r#"{"message":{"text":"x"}}"#,
        r#"{"message":404}"#,
        r#"[{"message":"x"}]"#,
        r#""x""#,
        r#"{"Message":"x"}"#,
    ] {
        assert_eq!(message(body), None, "{body}");
    }
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
    assert_eq!(message(r#"{"message":"two\r\n lines\u0007"}"#).as_deref(), Some("two lines"));
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
    for body in
        [format!("\u{feff}{valid}"), format!("{valid}."), format!("{valid}{valid}"), valid.replace('"', "'")]
    {
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
    assert_eq!(extract_body(r#"{"error":{"type":"inner"}}"#), (None, None));
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
            kind.starts_with(|c: char| c.is_ascii_lowercase())
                && kind.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        };
        prop_assert!(kind.as_deref().is_none_or(valid), "{kind:?}");
    }
}
