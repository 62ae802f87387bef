//! Templates: what they render, which bodies conform, how a body is completed, and what is wrong with a bad one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice)]

use bytes::BytesMut;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::presets::{Preset, UpstreamMembers};
use super::render::BodyValues;
use super::*;
use crate::contract::body::Include;
use crate::contract::fault::RequestSent;
use crate::contract::json::{self, Value};
use crate::contract::types::Types;

const DECLARED: &[(&str, ValueType)] = &[
    ("param", ValueType::String),
    ("number", ValueType::Integer),
    ("live", ValueType::Boolean),
    ("extra", ValueType::Object),
    ("items", ValueType::List),
    ("any", ValueType::Any),
];

fn declared() -> Vec<DeclaredValue> {
    DECLARED
        .iter()
        .map(|(name, value_type)| DeclaredValue { name: (*name).to_owned(), value_type: *value_type })
        .collect()
}

fn parse(text: &str) -> Result<Template, Vec<TemplateProblem>> {
    Template::parse(&TemplateSource::from_json(text).unwrap(), declared())
}

fn template(text: &str) -> Template {
    parse(text).unwrap()
}

fn values<'a>() -> BodyValues<'a> {
    BodyValues {
        code: 404,
        title: "Not Found",
        message: "No such user.",
        kind: "user_not_found",
        kind_of_upstream: false,
        details: None,
        request_id: Some("0190-7"),
        cause: "connection_refused",
        retryable: true,
        request_sent: RequestSent::None,
        retry_after: None,
        declared: &[],
    }
}

fn render(template: &Template, values: &BodyValues<'_>) -> String {
    let mut out = BytesMut::new();
    template.render(values, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn conforms(template: &Template, body: &str) -> bool {
    json::read(body).is_ok_and(|body| template.conforms(&body, 404, &Types::default()))
}

fn add_members(template: &Template, body: &str, values: &BodyValues<'_>) -> Option<String> {
    let value = json::read(body).unwrap();
    template
        .add_members((body, &value), values, &Types::default())
        .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn list_item_of_the_gateway_is_found_among_others_and_completed() {
    let template = template(
        r#"{"m":"{message}","info":["{retry_after}","{param}","{request_sent}","x"],"wait":["{retry_after}"]}"#,
    );
    let body = |info: &str, wait: &str| format!(r#"{{ "m":"a", "info": [{info}], "wait": [{wait}] }}"#);
    let after = |seconds| BodyValues { retry_after: seconds, ..values() };
    for (received, retry_after, info, wait) in [
        (body(r#"30, "p", "full", "x""#, "30"), Some(7), r#"7, "p", "none", "x""#, "7"),
        (body(r#"30, "p", "full", "x""#, "30"), None, r#""p","none","x""#, ""),
        (body(r#""p" , "full", "x""#, ""), Some(7), r#"7,"p","none","x""#, "7"),
        (body(r#""p" , "full", "x""#, ""), None, r#""p" , "none", "x""#, ""),
        (body(r#""full", "x""#, r#""soon""#), Some(7), r#"7,"none","x""#, "7"),
        (body(r#""soon", "p", "full", "x""#, "[]"), Some(7), r#"7, "p", "none", "x""#, "7"),
    ] {
        assert!(conforms(&template, &received), "{received}");
        let completed = add_members(&template, &received, &after(retry_after)).unwrap();
        assert_eq!(completed, body(info, wait), "{received}");
    }
    assert!(!conforms(&template, &body(r#""x""#, "")));
}

#[test]
fn placeholders_take_their_json_type() {
    let template = template(
        r#"{"e":{"code":"{code}","text":"{code|string}","m":"{message}","t":"{title}","k":"{type}",
            "id":"{request_id}","cause":"{cause}","again":"{retryable}","sent":"{request_sent}","after":"{retry_after}",
            "p":"{param}","n":"{number|null}","d":"{details}","x":"{{{code}}}: {message}{param}","one":1.50,"no":null}}"#,
    );
    let all = BodyValues {
        retry_after: Some(7),
        details: Some("[1.0]"),
        declared: &[Some("\"id\""), Some("20404")],
        ..values()
    };
    assert_eq!(
        render(&template, &all),
        r#"{"e":{"code":404,"text":"404","m":"No such user.","t":"Not Found","k":"user_not_found","id":"0190-7","cause":"connection_refused","again":true,"sent":"none","after":7,"p":"id","n":20404,"d":[1.0],"x":"{404}: No such user.id","one":1.50,"no":null}}"#
    );
    assert_eq!(
        render(&template, &values()),
        r#"{"e":{"code":404,"text":"404","m":"No such user.","t":"Not Found","k":"user_not_found","id":"0190-7","cause":"connection_refused","again":true,"sent":"none","n":null,"x":"{404}: No such user.","one":1.50,"no":null}}"#
    );
}

#[test]
fn presets_render_the_documented_bodies() {
    let include = Include { request_id: true, cause: true, ..Include::default() };
    for (template, expected) in [
        (Preset::Flat.template(), r#"{"message":"No such user.","code":404}"#),
        (
            Template::flat(include, UpstreamMembers::Accepted),
            r#"{"message":"No such user.","code":404,"request_id":"0190-7","cause":"connection_refused"}"#,
        ),
        (Preset::ErrorObject.template(), r#"{"error":{"code":"user_not_found","message":"No such user."}}"#),
        (
            Preset::ErrorsList.template(),
            r#"{"errors":[{"status":"404","code":"user_not_found","title":"Not Found","detail":"No such user."}]}"#,
        ),
        (
            Preset::Problem.template(),
            r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"No such user.","code":"user_not_found"}"#,
        ),
    ] {
        assert_eq!(render(&template, &values()), expected);
    }
    let uri = BodyValues {
        kind: "https://errors.test/gone",
        request_id: Some("0190aaaa-0000-7000-8000-000000000000"),
        retry_after: Some(3),
        details: Some("[]"),
        ..values()
    };
    assert_eq!(
        render(&Preset::Problem.template(), &uri),
        r#"{"type":"https://errors.test/gone","title":"Not Found","status":404,"detail":"No such user.","instance":"urn:uuid:0190aaaa-0000-7000-8000-000000000000","errors":[],"retry_after":3}"#
    );
}

#[test]
fn body_conforms_with_the_members_of_the_template_and_no_others() {
    let template = template(
        r#"{"error":{"code":"{type}","message":"{message}","param":"{param|null}","n":"{number}","doc?":"see {type}","request_id":"{request_id}","kind":"error"}}"#,
    );
    let body =
        |members: &str| format!(r#"{{"error":{{"code":"a","message":"m","kind":"error",{members}}}}}"#);
    for valid in [
        r#""param":null"#,
        r#""param":"""#,
        r#""param":"x","n":-5"#,
        r#""doc":"see b","param":null"#,
        r#""request_id":"req 1","param":null"#,
    ] {
        assert!(conforms(&template, &body(valid)), "{valid}");
    }
    for invalid in [
        r#""x":1"#,
        r#""n":5"#,
        r#""param":7"#,
        r#""param":null,"n":5.0"#,
        r#""param":null,"n":null"#,
        r#""param":null,"doc":"saw b"#,
        r#""param":null,"doc":7"#,
        r#""param":"<b>""#,
        r#""param":"at f (a.js:1:2)""#,
        r#""param":null,"request_id":"""#,
        r#""param":null,"more":1"#,
    ] {
        assert!(!conforms(&template, &body(invalid)), "{invalid}");
    }
    assert!(
        !conforms(&template, r#"{"error":{"code":"a","message":"m","param":null}}"#),
        "a literal is missing"
    );
    assert!(!conforms(&template, r#"{"error":{"code":"a b","message":"m","param":null,"kind":"error"}}"#));
    assert!(!conforms(&template, r#"{"error":[]}"#) && !conforms(&template, "[]"));
}

#[test]
fn null_of_the_upstream_is_accepted_where_the_template_says_so() {
    let source =
        r#"{"message":"{message|null}","t":"{type|null}","title":"{title|null}","id":"{request_id|null}"}"#;
    let template = template(source);
    let body = render(&template, &values());
    assert!(!body.contains("null") && conforms(&template, &body), "{body}");
    let nulls = r#"{"message":null,"t":null,"title":null,"id":null}"#;
    assert!(conforms(&template, nulls));
    assert_eq!(add_members(&template, nulls, &values()), None);
    // Only the gateway can fill the ID, so it may be missing.
    let without_id = r#"{"message":null,"t":null,"title":null}"#;
    assert!(conforms(&template, without_id) && add_members(&template, without_id, &values()).is_some());
    for invalid in [
        r#"{"t":null,"title":null}"#,
        r#"{"message":7,"t":null,"title":null}"#,
        r#"{"message":null,"t":null}"#,
    ] {
        assert!(!conforms(&template, invalid), "{invalid}");
    }
}

#[test]
fn list_of_one_object_accepts_several() {
    let template = Preset::ErrorsList.template();
    let error = r#"{"status":"404","code":"a","title":"T","detail":"d"}"#;
    let more = r#"{"status":"404","code":"b","title":"T","detail":"d","source":{"pointer":"/data"}}"#;
    assert!(conforms(&template, &format!(r#"{{"errors":[{error}]}}"#)));
    assert!(conforms(&template, &format!(r#"{{"errors":[{error},{more}]}}"#)));
    for invalid in ["[]", "{}", "[[]]", r#"[{"status":404,"code":"a","title":"T","detail":"d"}]"#] {
        assert!(!conforms(&template, &format!(r#"{{"errors":{invalid}}}"#)), "{invalid}");
    }
    assert!(!conforms(&template, &format!(r#"{{"errors":[{error},{{}}]}}"#)));
}

#[test]
fn free_values_are_bounded_all_together() {
    let template = template(r#"{"m":"{message}","d":"{details}","any":"{any}","*":"any"}"#);
    let body = |details: &str| format!(r#"{{"m":"x","d":{details}}}"#);
    let nested = |levels: usize| body(&format!("{}1{}", "[".repeat(levels), "]".repeat(levels)));
    assert!(conforms(&template, &nested(8)) && !conforms(&template, &nested(9)));
    let texts = |count: usize| body(&format!("[{}]", vec![r#""""#; count].join(",")));
    assert!(conforms(&template, &texts(256)) && !conforms(&template, &texts(257)));
    let long = |length: usize| body(&format!("\"{}\"", "x".repeat(length - 2)));
    assert!(conforms(&template, &long(16 * 1024)) && !conforms(&template, &long(16 * 1024 + 1)));
    let halves = |length: usize| {
        let text = format!("\"{}\"", "x".repeat(length - 2));
        format!(r#"{{"m":"x","d":{text},"other":{text}}}"#)
    };
    assert!(conforms(&template, &halves(8 * 1024)) && !conforms(&template, &halves(8 * 1024 + 1)));
    for invalid in [r#"["<b>"]"#, r#"{"a":{"b":"SQLSTATE"}}"#, "null", r#"{"<i>":1}"#] {
        assert!(!conforms(&template, &body(invalid)), "{invalid}");
    }
    assert!(conforms(&template, r#"{"m":"x","any":null,"other":[1e9,true,"ok"]}"#));
}

#[test]
fn problem_document_of_the_upstream_may_lack_every_member_but_status() {
    let template = Preset::Problem.template();
    for valid in [
        r#"{"status":404}"#,
        r#"{"type":"/problems/out-of-credit","title":"T","status":404,"detail":"d","instance":"/a/1","balance":30}"#,
        r#"{"status":404,"errors":[{"pointer":"/a","detail":"x"}],"type":""}"#,
    ] {
        assert!(conforms(&template, valid), "{valid}");
    }
    for invalid in [
        "{}",
        r#"{"status":"404"}"#,
        r#"{"status":404,"type":"https://u:p@h/x"}"#,
        r#"{"status":404,"type":"a b"}"#,
        r#"{"status":404,"detail":7}"#,
        r#"{"status":404,"trace":"at f (a.js:1:2)"}"#,
    ] {
        assert!(!conforms(&template, invalid), "{invalid}");
    }
}

#[test]
fn conforming_body_is_completed_behind_the_last_member() {
    let template = template(
        r#"{"error":{"message":"{message}","request_id":"{request_id}","cause":"{cause}","retry_after":"{retry_after}","meta":{"id":"{request_id}","v":1}},"ok":false}"#,
    );
    assert_eq!(
        add_members(&template, "{ \"ok\": false,\n \"error\" : {\"message\":\"m\\u00e9\"  } }", &values())
            .as_deref(),
        Some(
            "{ \"ok\": false,\n \"error\" : {\"message\":\"m\\u00e9\",\"request_id\":\"0190-7\",\"cause\":\"connection_refused\",\"meta\":{\"id\":\"0190-7\",\"v\":1}  } }"
        )
    );
    let theirs = r#"{"error":{"retry_after":"soon","request_id":"theirs","message":"m","cause":7,"meta":{"v":1,"id":"x"}},"ok":false}"#;
    assert_eq!(
        add_members(&template, theirs, &values()).as_deref(),
        Some(
            r#"{"error":{"request_id":"theirs","message":"m","cause":"connection_refused","meta":{"v":1,"id":"x"}},"ok":false}"#
        )
    );
    assert_eq!(
        add_members(&template, theirs, &BodyValues { retry_after: Some(9), ..values() }).as_deref(),
        Some(
            r#"{"error":{"retry_after":9,"request_id":"theirs","message":"m","cause":"connection_refused","meta":{"v":1,"id":"x"}},"ok":false}"#
        )
    );
    let full = r#"{"error":{"message":"m","request_id":"theirs","cause":"connection_refused","meta":{"id":"1","v":1}},"ok":false}"#;
    assert_eq!(add_members(&template, full, &values()), None);
    assert!([theirs, full].iter().all(|body| conforms(&template, body)));
}

#[test]
fn completion_removes_and_adds_members_with_their_commas() {
    let template =
        template(r#"{"a?":"{message}","r":"{retry_after}","s":"{retry_after|null}","c":"{cause}"}"#);
    let completed = |body| add_members(&template, body, &values()).unwrap();
    assert_eq!(completed("{}"), r#"{"s":null,"c":"connection_refused"}"#);
    assert_eq!(completed(r#"{ "r":1 }"#), r#"{"s":null,"c":"connection_refused" }"#);
    assert_eq!(completed(r#"{ "r" : 1 , "a" : "x" }"#), r#"{"a" : "x","s":null,"c":"connection_refused" }"#);
    assert_eq!(completed(r#"{"a":"x","r":1}"#), r#"{"a":"x","s":null,"c":"connection_refused"}"#);
    assert_eq!(completed(r#"{"s":5,"r":1,"c":"z"}"#), r#"{"s":null,"c":"connection_refused"}"#);
}

#[test]
fn bad_templates_are_refused_with_place_and_help() {
    let problems = |text: &str| -> Vec<(String, String)> {
        let problems = parse(text).err().unwrap_or_default();
        problems.iter().map(|problem| (problem.to_string(), problem.help.clone())).collect()
    };
    for (text, message) in [
        (r#"["{message}"]"#, "the body is a list; an error body is an object"),
        (r#""{message}""#, "the body is a text; an error body is an object"),
        ("{}", "the body does not say what happened: no {message}, {title} or {type}"),
        (r#"{"code":"{code}"}"#, "the body does not say what happened: no {message}, {title} or {type}"),
        (r#"{"a":{"b":["{mesage}"]},"m":"{message}"}"#, "body.a.b[0]: unknown placeholder {mesage}"),
        (r#"{"m":"{message","t":"{type}"}"#, "body.m: a { is not closed"),
        (r#"{"m":"message}","t":"{type}"}"#, "body.m: a } has no {"),
        (
            r#"{"m":"{message}","t":{"type":null}}"#,
            "body.t: {type} without quotes is a mapping, not a placeholder",
        ),
        (
            r#"{"m":"{message}","e":[{"code|string":null}]}"#,
            "body.e[0]: {code|string} without quotes is a mapping, not a placeholder",
        ),
        (r#"{"m":"{message}","m?":1}"#, "body.m?: the object has two members \"m\""),
        (r#"{"m":"{message}","c":"{code|null}"}"#, "body.c: {code} is never absent"),
        (r#"{"m":"{message|upper}"}"#, "body.m: unknown modifier \"upper\""),
        (r#"{"m":"{message}","d":"{details|string}"}"#, "body.d: {details} cannot be written as text"),
        (r#"{"m":"{message}: {details}"}"#, "body.m: {details} is not a text"),
        (
            r#"{"m":"<p>{message}</p>"}"#,
            "body.m: the text looks like markup, a stack trace or an address with a password",
        ),
        (r#"{"m":"{message}","*":1}"#, "body.*: \"*\" stands for further members of any kind"),
    ] {
        let found = problems(text);
        assert_eq!(
            found.iter().map(|(message, _)| message.as_str()).collect::<Vec<_>>(),
            [message],
            "{text}"
        );
        assert!(!found[0].1.is_empty());
    }
    assert!(problems(&format!("{}\"{{message}}\"{}", "{\"a\":".repeat(17), "}".repeat(17))).len() == 1);
    assert!(problems(&format!("{}\"{{message}}\"{}", "{\"a\":".repeat(16), "}".repeat(16))).is_empty());
}

/// Templates of any form. The message is always in it.
fn any_template() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "{message}",
            "{title}",
            "{type}",
            "{type|null}",
            "{code}",
            "{code|string}",
            "{details}",
            "{param}",
            "{param|null}",
            "{number}",
            "{number|string}",
            "{live|null}",
            "{extra}",
            "{items}",
            "{any}",
            "{message} ({code})",
            "code {code|string}: {type}{param}",
            "{{literal}}",
            "text",
            "",
        ])
        .prop_map(|text| json!(text)),
        prop::sample::select(vec![json!(null), json!(true), json!(12), json!(-1.5)]),
    ];
    let node = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::btree_map("[a-d]\\??", inner.clone(), 0..4).prop_map(|map| json!(map)),
            prop::collection::vec(inner, 0..3).prop_map(|items| json!(items)),
        ]
    });
    (prop::collection::btree_map("[a-d]", node, 0..4), any::<bool>()).prop_map(|(mut members, open)| {
        members.insert("message".to_owned(), json!("{message}"));
        if open {
            members.insert("*".to_owned(), json!("any"));
        }
        json!(members)
    })
}

fn any_values() -> impl Strategy<Value = (String, Option<&'static str>, Vec<Option<&'static str>>)> {
    let declared = [
        vec![r#""x""#, r#""""#],
        vec!["0", "-20404"],
        vec!["true", "false"],
        vec!["{}", r#"{"a":[1.0]}"#],
        vec!["[]", r#"["x"]"#],
        vec!["null", "1.5", r#"{"a":null}"#],
    ]
    .map(|constants| prop::option::of(prop::sample::select(constants)));
    ("[ -~é]{1,20}", prop::option::of(prop::sample::select(vec!["[]", r#"{"f":"x"}"#, "1.0"])), declared)
        .prop_map(|(message, details, declared)| (message, details, declared.into()))
}

/// The places of every value in a body, as JSON pointers.
fn pointers(value: &Json, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Json::Object(members) => {
            members.iter().for_each(|(name, value)| pointers(value, &format!("{at}/{name}"), found));
        }
        Json::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| pointers(item, &format!("{at}/{index}"), found));
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

proptest! {
    #[test]
    fn rendered_body_conforms_and_is_complete(
        source in any_template(),
        (message, details, declared) in any_values(),
    ) {
        prop_assume!(crate::contract::text::passes_rule(&message));
        let Ok(template) = parse(&source.to_string()) else { return Ok(()) };
        let values = BodyValues { message: &message, details, declared: &declared, ..values() };
        let body = render(&template, &values);
        let parsed = json::read(&body);
        prop_assert!(parsed.is_ok(), "{body}");
        // A message beside a text can look like a stack trace together with it.
        if crate::contract::text::passes_rule(&body) {
            prop_assert!(conforms(&template, &body), "{source} -> {body}");
            prop_assert_eq!(add_members(&template, &body, &values), None, "{}", body);
        }
    }

    #[test]
    fn changed_body_does_not_conform(source in any_template(), position in any::<prop::sample::Index>()) {
        let Ok(mut template) = parse(&source.to_string()) else { return Ok(()) };
        let (details, declared) = ("\"d\"", [Some("\"x\""), Some("1"), Some("true"), Some("{}"), Some("[]"), Some("1")]);
        let body = render(&template, &BodyValues { details: Some(details), declared: &declared, ..values() });
        prop_assert!(conforms(&template, &body), "{body}");
        let body: Json = serde_json::from_str(&body).unwrap();
        // Every object of the template is closed: a further member is refused.
        if !template.root.open {
            let mut more = body.clone();
            more.as_object_mut().unwrap().insert("zz".to_owned(), json!(1));
            prop_assert!(!conforms(&template, &more.to_string()));
        }
        let mut without = body.clone();
        without.as_object_mut().unwrap().remove("message");
        prop_assert!(!conforms(&template, &without.to_string()));
        // Another JSON type: refused wherever the template fixes it, which it does except for details and `any`.
        template.root.open = false;
        let mut places = Vec::new();
        pointers(&body, "", &mut places);
        let place = position.get(&places);
        let mut changed = body.clone();
        let value = changed.pointer_mut(place).unwrap();
        let is_free = [json!("d"), json!(1), json!({}), json!([])].contains(value);
        *value = match value {
            Json::Bool(_) => json!("true"),
            Json::Null => json!(false),
            Json::String(_) => json!([1]),
            Json::Number(_) | Json::Array(_) | Json::Object(_) => json!(true),
        };
        if !is_free {
            prop_assert!(!conforms(&template, &changed.to_string()), "{source} -> {changed}");
        }
    }

    #[test]
    fn completed_body_conforms_and_keeps_every_other_value(
        members in prop::collection::btree_map("[a-c]", prop::sample::select(vec!["{cause}", "{retry_after}", "{request_id}", "{retryable}"]), 1..4),
        present in prop::collection::vec(any::<bool>(), 3),
        retry_after in prop::option::of(1u64..100),
        pretty in any::<bool>(),
    ) {
        let mut source = json!(members);
        source["message"] = json!("{message}");
        let template = template(&source.to_string());
        let mut body = json!({"message": "m"});
        for ((name, _), present) in members.iter().zip(present) {
            if present {
                body[name] = json!("theirs");
            }
        }
        let body = if pretty { serde_json::to_string_pretty(&body).unwrap() } else { body.to_string() };
        prop_assert!(conforms(&template, &body), "{body}");
        let values = BodyValues { retry_after, ..values() };
        let completed = add_members(&template, &body, &values).unwrap_or(body);
        prop_assert!(conforms(&template, &completed), "{completed}");
        prop_assert_eq!(add_members(&template, &completed, &values), None);
        let completed: Json = serde_json::from_str(&completed).unwrap();
        prop_assert_eq!(&completed["message"], &json!("m"));
        for (name, placeholder) in &members {
            let expected = match *placeholder {
                "{cause}" => json!("connection_refused"),
                "{retryable}" => json!(true),
                "{retry_after}" => retry_after.map_or(Json::Null, |seconds| json!(seconds)),
                _ => completed[name].clone(),
            };
            prop_assert_eq!(&completed[name], &expected);
            let may_be_absent = *placeholder == "{retry_after}";
            prop_assert!(completed.get(name).is_some() || may_be_absent);
        }
    }

    #[test]
    fn arbitrary_templates_and_bodies_do_not_panic(template in ".{0,60}", body in ".{0,60}") {
        if let Some(source) = TemplateSource::from_json(&template) {
            let parsed = Template::parse(&source, declared());
            if let (Ok(template), Ok(value)) = (parsed, json::read(&body)) {
                template.conforms(&value, 404, &Types::default());
            }
        }
        let value: Result<Value<'_>, _> = json::read(&body);
        drop(value);
    }
}
