//! Compares `config/appwrite.yaml` with the rate limits that Appwrite documents.

use super::*;
use crate::limit::KeyPart;

const APPWRITE: &str = include_str!("../../config/appwrite.yaml");

/// Appwrite's table: method, path, requests, seconds, and the parts of the key (`reset`: a 201 resets the counter). A
/// user is an address with a session.
const EXPECTED_LIMITS: &[(&str, &str, u32, u64, &[&str])] = &[
    ("POST", "/v1/account", 10, 3600, &["client_ip", "host", "route"]),
    ("POST", "/v1/account/sessions/email", 10, 3600, &["client_ip", "email", "host", "route", "reset"]),
    ("POST", "/v1/account/sessions/anonymous", 50, 3600, &["client_ip"]),
    ("POST", "/v1/account/sessions/token", 10, 3600, &["client_ip", "userId", "reset"]),
    ("PUT", "/v1/account/sessions/magic-url", 10, 3600, &["client_ip", "userId", "reset"]),
    ("GET", "/v1/account/sessions/oauth2/{provider}", 50, 3600, &["client_ip"]),
    ("PATCH", "/v1/account/sessions/{session}", 10, 3600, &["client_ip", "host", "route"]),
    ("DELETE", "/v1/account/sessions", 100, 3600, &["client_ip", "host", "route"]),
    ("DELETE", "/v1/account/sessions/{session}", 100, 3600, &["client_ip", "host", "route"]),
    ("POST", "/v1/account/tokens/email", 10, 3600, &["client_ip", "host", "route"]),
    ("POST", "/v1/account/tokens/email", 10, 3600, &["email", "host", "route"]),
    ("POST", "/v1/account/tokens/magic-url", 60, 3600, &["client_ip", "host", "route"]),
    ("POST", "/v1/account/tokens/magic-url", 60, 3600, &["email", "host", "route"]),
    ("POST", "/v1/account/tokens/phone", 10, 3600, &["client_ip", "host", "route"]),
    ("POST", "/v1/account/tokens/phone", 10, 3600, &["phone", "host", "route"]),
    ("POST", "/v1/account/recovery", 10, 3600, &["client_ip", "host", "route"]),
    ("POST", "/v1/account/recovery", 10, 3600, &["email", "host", "route"]),
    ("PUT", "/v1/account/recovery", 10, 3600, &["userId", "host", "route"]),
    ("PATCH", "/v1/account/password", 10, 3600, &["client_ip", "host", "route"]),
    ("POST", "/v1/account/verifications/email", 10, 3600, &["client_ip", "host", "route", "a_session_main"]),
    ("POST", "/v1/account/mfa/challenges", 10, 3600, &["client_ip", "host", "route", "a_session_main"]),
    ("PUT", "/v1/account/mfa/challenges", 10, 3600, &["challengeId", "host", "route"]),
    ("POST", "/v1/account/jwts", 120, 60, &["client_ip", "host", "route", "a_session_main"]),
    ("POST", "/v1/teams/{team}/memberships", 10, 3600, &["client_ip", "host", "route"]),
    ("GET", "/v1/avatars/screenshots", 60, 3600, &["client_ip", "host", "route"]),
    (
        "POST",
        "/v1/databases/{database}/collections/{collection}/documents",
        120,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "PATCH",
        "/v1/databases/{database}/collections/{collection}/documents",
        120,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "PUT",
        "/v1/databases/{database}/collections/{collection}/documents",
        120,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "DELETE",
        "/v1/databases/{database}/collections/{collection}/documents",
        60,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "POST",
        "/v1/databases/{database}/collections/{collection}/documents/{id}",
        120,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "PATCH",
        "/v1/databases/{database}/collections/{collection}/documents/{id}",
        120,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "PUT",
        "/v1/databases/{database}/collections/{collection}/documents/{id}",
        120,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "DELETE",
        "/v1/databases/{database}/collections/{collection}/documents/{id}",
        60,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "POST",
        "/v1/tablesdb/{database}/tables/{table}/rows",
        120,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "PATCH",
        "/v1/tablesdb/{database}/tables/{table}/rows",
        120,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "PUT",
        "/v1/tablesdb/{database}/tables/{table}/rows",
        120,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "DELETE",
        "/v1/tablesdb/{database}/tables/{table}/rows",
        60,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "POST",
        "/v1/tablesdb/{database}/tables/{table}/rows/{id}",
        120,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "PATCH",
        "/v1/tablesdb/{database}/tables/{table}/rows/{id}",
        120,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "PUT",
        "/v1/tablesdb/{database}/tables/{table}/rows/{id}",
        120,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "DELETE",
        "/v1/tablesdb/{database}/tables/{table}/rows/{id}",
        60,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    (
        "POST",
        "/v1/storage/buckets/{bucket}/files",
        60,
        60,
        &["client_ip", "method", "host", "route", "a_session_main", "content-range"],
    ),
    (
        "DELETE",
        "/v1/storage/buckets/{bucket}/files/{file}",
        60,
        60,
        &["client_ip", "method", "host", "route", "a_session_main"],
    ),
    ("GET", "/v1/graphql", 60, 60, &["client_ip", "host", "route"]),
    ("POST", "/v1/graphql", 60, 60, &["client_ip", "host", "route"]),
    ("POST", "/v1/proxy/rules/api", 10, 60, &["client_ip", "host", "route", "a_session_main"]),
    ("POST", "/v1/proxy/rules/function", 10, 60, &["client_ip", "host", "route", "a_session_main"]),
    ("POST", "/v1/proxy/rules/site", 10, 60, &["client_ip", "host", "route", "a_session_main"]),
    ("POST", "/v1/proxy/rules/redirect", 10, 60, &["client_ip", "host", "route", "a_session_main"]),
    ("POST", "/v1/functions", 50, 86_400, &["x-appwrite-project", "host", "route"]),
];

fn key_name(part: &KeyPart) -> &str {
    match part {
        KeyPart::ClientIp => "client_ip",
        KeyPart::Header(name) => name.as_str(),
        KeyPart::Host => "host",
        KeyPart::Method => "method",
        KeyPart::Route => "route",
        KeyPart::Path(name) | KeyPart::Cookie(name) | KeyPart::Query(name) | KeyPart::Body(name) => name,
    }
}

#[test]
fn appwrite_file_has_the_documented_limits() {
    let config = load(APPWRITE).unwrap();
    let mut found = Vec::new();
    for route in &config.routes {
        for index in &route.rate_limits {
            let settings = &config.rate_limits[*index].settings;
            let (quota, mut key) = (settings.quota, settings.key.iter().map(key_name).collect::<Vec<_>>());
            assert_eq!(settings.algorithm, crate::limit::Algorithm::FixedWindow, "{}", route.name);
            assert!(settings.reset_on.is_empty() || settings.reset_on == [201]);
            key.extend(settings.reset_on.iter().map(|_| "reset"));
            for method in &route.methods {
                let seconds = quota.period().as_secs();
                found.push((method.as_str(), route.path.as_str(), quota.allowed(), seconds, key.clone()));
            }
        }
    }
    let mut expected: Vec<_> = EXPECTED_LIMITS
        .iter()
        .map(|(method, path, allowed, seconds, key)| (*method, *path, *allowed, *seconds, key.to_vec()))
        .collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn appwrite_file_deadlines_are_below_sdk_timeouts() {
    let config = load(APPWRITE).unwrap();
    let mut longer_deadlines = Vec::new();
    for route in &config.routes {
        // The Go, Rust and Kotlin SDKs time out after 10 s.
        if route.timeouts.deadline != Duration::from_secs(9) {
            longer_deadlines.push((route.name.as_str(), route.timeouts.deadline.as_secs()));
        }
        assert!(
            route.timeouts.response_headers < route.timeouts.deadline
                || route.timeouts.deadline.as_secs() == 600
        );
        // Only pages for browsers keep their own errors. All other errors follow the contract, and the web SDK can read
        // them; it needs two exposed fields.
        let is_browser_page = ["sessions-oauth2", "console"].contains(&route.name.as_str());
        let mode = if is_browser_page { ErrorMode::Pass } else { ErrorMode::Enforce };
        assert_eq!(route.errors.mode, mode, "{}", route.name);
        assert_eq!(route.cors.is_some(), route.name != "console", "{}", route.name);
    }
    longer_deadlines.sort_unstable();
    // Appwrite waits 30 s for an execution, and stores an upload before it responds.
    assert_eq!(
        longer_deadlines,
        [
            ("console", 35),
            ("deployments", 600),
            ("executions", 35),
            ("files", 600),
            ("site-deployments", 600)
        ]
    );
    assert_eq!(config.contract.name(), "appwrite");
}
