//! Origins and preflight requests with the complete list of expected response fields.

use super::*;

const DEFAULT_NAMES: &str = "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";

fn cors_rules() -> CorsRules {
    let patterns = ["https://app.example.com", "https://*.example.org"];
    CorsRules {
        origins: AllowedOrigins::Listed(patterns.map(|text| OriginPattern::parse(text).unwrap()).to_vec()),
        credentials: false,
        methods: Vec::new(),
        headers: None,
        expose: Vec::new(),
        max_age: None,
    }
}

fn header_lines(fields: impl IntoIterator<Item = HeaderField>) -> Vec<String> {
    fields.into_iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

fn preflight(policy: &CorsPolicy, origin: &str, method: &Method, headers: &[&str]) -> Option<Vec<String>> {
    let request = PreflightRequest { origin: origin.as_bytes(), method: Some(method), has_route: true };
    match policy.preflight(&request, headers.iter().map(|value| value.as_bytes())) {
        PreflightResult::Allowed(fields) => Some(header_lines(fields)),
        PreflightResult::OriginNotAllowed => None,
    }
}

#[test]
fn allowed_origin_is_echoed_others_get_no_headers() {
    let policy = CorsPolicy::new(cors_rules());
    let headers_for = |origin: &str| policy.response_fields(origin.as_bytes()).map(header_lines);
    assert_eq!(
        headers_for("https://app.example.com"),
        Some(vec!["access-control-allow-origin: https://app.example.com".to_owned()])
    );
    assert_eq!(
        headers_for("https://A.b.example.org"),
        Some(vec!["access-control-allow-origin: https://A.b.example.org".to_owned()])
    );
    for origin in
        ["https://example.org", "https://evil.example", "null", "*", "", "https://app.example.com, x"]
    {
        assert_eq!(headers_for(origin), None, "{origin}");
    }
}

#[test]
fn wildcard_is_never_sent_with_credentials_or_to_null() {
    let any = CorsPolicy::new(CorsRules { origins: AllowedOrigins::Any, credentials: true, ..cors_rules() });
    assert_eq!(
        any.response_fields(b"https://x.example").map(header_lines),
        Some(vec!["access-control-allow-origin: *".to_owned()])
    );
    assert!(any.response_fields(b"null").is_none());
}

#[test]
fn credentials_echo_the_origin() {
    let policy = CorsPolicy::new(CorsRules { credentials: true, ..cors_rules() });
    assert_eq!(
        policy.response_fields(b"https://app.example.com").map(header_lines),
        Some(vec![
            "access-control-allow-origin: https://app.example.com".to_owned(),
            "access-control-allow-credentials: true".to_owned()
        ])
    );
}

#[test]
fn preflight_returns_the_configured_lists() {
    let policy = CorsPolicy::new(CorsRules {
        credentials: true,
        methods: vec![Method::GET, Method::PATCH],
        headers: Some(vec![HeaderName::from_static("content-type"), HeaderName::from_static("x-key")]),
        max_age: Some(Duration::from_secs(600)),
        ..cors_rules()
    });
    let expected = [
        "access-control-allow-origin: https://app.example.com",
        "access-control-allow-credentials: true",
        "access-control-allow-methods: GET, PATCH",
        "access-control-allow-headers: content-type, x-key",
        "access-control-max-age: 600",
        "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    ];
    let lines = preflight(&policy, "https://app.example.com", &Method::DELETE, &["x-other"]);
    assert_eq!(lines.unwrap(), expected);
    assert_eq!(preflight(&policy, "https://evil.example", &Method::GET, &[]), None);
}

#[test]
fn preflight_echoes_the_request_by_default() {
    let policy = CorsPolicy::new(cors_rules());
    let expected = [
        "access-control-allow-origin: https://app.example.com",
        "access-control-allow-methods: DELETE",
        "access-control-allow-headers: x-a, X-B, content-type",
        "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    ];
    let headers = ["x-a,, X-B", "content-type, not a token, \u{e9}"];
    assert_eq!(preflight(&policy, "https://app.example.com", &Method::DELETE, &headers).unwrap(), expected);
    let without = preflight(&policy, "https://app.example.com", &Method::DELETE, &[]).unwrap();
    assert!(!without.iter().any(|field| field.starts_with("access-control-allow-headers")), "{without:?}");
}

#[test]
fn preflight_never_allows_a_method_that_the_gateway_never_accepts() {
    let request = PreflightRequest { origin: b"https://app.example.com", method: None, has_route: false };
    let allowed_methods = |methods: Vec<Method>| {
        let policy = CorsPolicy::new(CorsRules { methods, ..cors_rules() });
        let PreflightResult::Allowed(fields) = policy.preflight(&request, std::iter::empty()) else {
            panic!("not allowed")
        };
        let field = fields.into_iter().find(|(name, _)| *name == ACCESS_CONTROL_ALLOW_METHODS);
        field.map(|(_, value)| value.to_str().unwrap().to_owned())
    };
    assert_eq!(allowed_methods(vec![]), None);
    assert_eq!(allowed_methods(vec![Method::GET, Method::PUT]), Some("GET, PUT".to_owned()));
}

#[test]
fn empty_header_list_allows_none() {
    let policy = CorsPolicy::new(CorsRules { headers: Some(Vec::new()), ..cors_rules() });
    let lines = preflight(&policy, "https://app.example.com", &Method::GET, &["x-a"]).unwrap();
    assert!(!lines.iter().any(|field| field.starts_with("access-control-allow-headers")), "{lines:?}");
}

#[test]
fn merged_lists_have_no_duplicates() {
    let policy = CorsPolicy::new(CorsRules {
        expose: vec![HeaderName::from_static("x-total"), HeaderName::from_static("retry-after")],
        ..cors_rules()
    });
    let exposed = |upstream: &[&str]| {
        policy
            .exposed_headers(CallKind::Http, upstream.iter().map(|value| value.as_bytes()))
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(exposed(&[]), format!("x-total, {DEFAULT_NAMES}"));
    assert_eq!(
        exposed(&["ETag, X-TOTAL", "x-request-id", "Link", "no token"]),
        format!("x-total, {DEFAULT_NAMES}, ETag, Link")
    );
    assert_eq!(exposed(&["*"]), format!("x-total, {DEFAULT_NAMES}, *"));
    let of_grpc_web = policy.exposed_headers(CallKind::GrpcWeb, std::iter::once(&b"grpc-status, x-sum"[..]));
    let names =
        format!("x-total, {DEFAULT_NAMES}, grpc-status, grpc-message, grpc-status-details-bin, x-sum");
    assert_eq!(of_grpc_web, names);

    let vary = |upstream: &[&str]| {
        merge_vary(&VARY_ORIGIN, upstream.iter().map(|value| value.as_bytes())).to_str().unwrap().to_owned()
    };
    assert_eq!(vary(&[]), "Origin");
    assert_eq!(vary(&["origin"]), "Origin");
    assert_eq!(vary(&["Accept-Encoding", "ORIGIN, Cookie"]), "Origin, Accept-Encoding, Cookie");
    assert_eq!(vary(&["Accept-Encoding, *"]), "*");
}
