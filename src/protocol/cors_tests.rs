//! Tables of origins and questions with the fields that browsers must be told, whole.

use super::*;

const OURS: &str = "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";

fn rules() -> Rules {
    let patterns = ["https://app.example.com", "https://*.example.org"];
    Rules {
        origins: Origins::Listed(patterns.map(|text| OriginPattern::parse(text).unwrap()).to_vec()),
        credentials: false,
        methods: Vec::new(),
        headers: None,
        expose: Vec::new(),
        max_age: None,
    }
}

fn told(fields: impl IntoIterator<Item = Field>) -> Vec<String> {
    fields.into_iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

fn asked(policy: &Policy, origin: &str, method: &Method, headers: &[&str]) -> Option<Vec<String>> {
    let question = Question { origin: origin.as_bytes(), method };
    match policy.preflight(&question, headers.iter().map(|value| value.as_bytes())) {
        Preflight::Allowed(fields) => Some(told(fields)),
        Preflight::Foreign => None,
    }
}

#[test]
fn an_allowed_origin_is_echoed_and_a_foreign_one_is_told_nothing() {
    let policy = Policy::new(rules());
    let actual = |origin: &str| policy.actual(origin.as_bytes()).map(told);
    assert_eq!(
        actual("https://app.example.com"),
        Some(vec!["access-control-allow-origin: https://app.example.com".to_owned()])
    );
    assert_eq!(
        actual("https://A.b.example.org"),
        Some(vec!["access-control-allow-origin: https://A.b.example.org".to_owned()])
    );
    for foreign in
        ["https://example.org", "https://evil.example", "null", "*", "", "https://app.example.com, x"]
    {
        assert_eq!(actual(foreign), None, "{foreign}");
    }
}

#[test]
fn a_star_is_told_as_a_star_and_never_with_credentials_nor_to_null() {
    let any = Policy::new(Rules { origins: Origins::Any, credentials: true, ..rules() });
    assert_eq!(
        any.actual(b"https://x.example").map(told),
        Some(vec!["access-control-allow-origin: *".to_owned()])
    );
    assert!(any.actual(b"null").is_none());
}

#[test]
fn with_credentials_the_origin_is_echoed_and_the_permission_said() {
    let policy = Policy::new(Rules { credentials: true, ..rules() });
    assert_eq!(
        policy.actual(b"https://app.example.com").map(told),
        Some(vec![
            "access-control-allow-origin: https://app.example.com".to_owned(),
            "access-control-allow-credentials: true".to_owned()
        ])
    );
}

#[test]
fn a_preflight_is_told_what_was_configured() {
    let policy = Policy::new(Rules {
        credentials: true,
        methods: vec![Method::GET, Method::PATCH],
        headers: Some(vec![HeaderName::from_static("content-type"), HeaderName::from_static("x-key")]),
        max_age: Some(Duration::from_secs(600)),
        ..rules()
    });
    let expected = [
        "access-control-allow-origin: https://app.example.com",
        "access-control-allow-credentials: true",
        "access-control-allow-methods: GET, PATCH",
        "access-control-allow-headers: content-type, x-key",
        "access-control-max-age: 600",
        "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    ];
    let told = asked(&policy, "https://app.example.com", &Method::DELETE, &["x-other"]);
    assert_eq!(told.unwrap(), expected);
    assert_eq!(asked(&policy, "https://evil.example", &Method::GET, &[]), None);
}

#[test]
fn where_nothing_is_configured_a_preflight_is_told_what_it_asked_for() {
    let policy = Policy::new(rules());
    let expected = [
        "access-control-allow-origin: https://app.example.com",
        "access-control-allow-methods: DELETE",
        "access-control-allow-headers: x-a, X-B, content-type",
        "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    ];
    let headers = ["x-a,, X-B", "content-type, not a token, \u{e9}"];
    assert_eq!(asked(&policy, "https://app.example.com", &Method::DELETE, &headers).unwrap(), expected);
    let without = asked(&policy, "https://app.example.com", &Method::DELETE, &[]).unwrap();
    assert!(!without.iter().any(|field| field.starts_with("access-control-allow-headers")), "{without:?}");
}

#[test]
fn an_empty_list_of_headers_allows_none() {
    let policy = Policy::new(Rules { headers: Some(Vec::new()), ..rules() });
    let told = asked(&policy, "https://app.example.com", &Method::GET, &["x-a"]).unwrap();
    assert!(!told.iter().any(|field| field.starts_with("access-control-allow-headers")), "{told:?}");
}

#[test]
fn lists_are_merged_without_repeating_a_name() {
    let policy = Policy::new(Rules {
        expose: vec![HeaderName::from_static("x-total"), HeaderName::from_static("retry-after")],
        ..rules()
    });
    let expose = |theirs: &[&str]| {
        policy.expose(theirs.iter().map(|value| value.as_bytes())).to_str().unwrap().to_owned()
    };
    assert_eq!(expose(&[]), format!("x-total, {OURS}"));
    assert_eq!(
        expose(&["ETag, X-TOTAL", "x-request-id", "Link", "no token"]),
        format!("x-total, {OURS}, ETag, Link")
    );
    assert_eq!(expose(&["*"]), format!("x-total, {OURS}, *"));

    let varies = |theirs: &[&str]| {
        vary(&VARY, theirs.iter().map(|value| value.as_bytes())).to_str().unwrap().to_owned()
    };
    assert_eq!(varies(&[]), "Origin");
    assert_eq!(varies(&["origin"]), "Origin");
    assert_eq!(varies(&["Accept-Encoding", "ORIGIN, Cookie"]), "Origin, Accept-Encoding, Cookie");
    assert_eq!(varies(&["Accept-Encoding, *"]), "*");
}
