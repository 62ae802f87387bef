//! `config/appwrite.yaml` against the table that it was written from, told here a second time.

use super::*;
use crate::limit::KeyPart;

const APPWRITE: &str = include_str!("../../config/appwrite.yaml");

/// Method, path, requests, seconds, and what they are counted by: the rows of the API's own table that can be told from
/// the outside.
const LIMITED: &[(&str, &str, u32, u64, &[&str])] = &[
    ("POST", "/v1/account", 10, 3600, &["client_ip", "host", "route"]),
    ("POST", "/v1/account/sessions/anonymous", 50, 3600, &["client_ip"]),
    ("DELETE", "/v1/account/sessions", 100, 3600, &["client_ip", "host", "route"]),
    ("DELETE", "/v1/account/sessions/{session}", 100, 3600, &["client_ip", "host", "route"]),
    ("PATCH", "/v1/account/sessions/{session}", 10, 3600, &["client_ip", "host", "route"]),
    ("GET", "/v1/account/sessions/oauth2/{provider}", 50, 3600, &["client_ip"]),
    ("PATCH", "/v1/account/password", 10, 3600, &["client_ip", "host", "route"]),
    ("POST", "/v1/account/tokens/email", 10, 3600, &["client_ip", "host", "route"]),
    ("POST", "/v1/account/tokens/phone", 10, 3600, &["client_ip", "host", "route"]),
    ("POST", "/v1/account/tokens/magic-url", 60, 3600, &["client_ip", "host", "route"]),
    ("POST", "/v1/teams/{team}/memberships", 10, 3600, &["client_ip", "host", "route"]),
    ("GET", "/v1/avatars/screenshots", 60, 3600, &["client_ip", "host", "route"]),
    ("GET", "/v1/graphql", 60, 60, &["client_ip", "host", "route"]),
    ("POST", "/v1/graphql", 60, 60, &["client_ip", "host", "route"]),
    ("POST", "/v1/functions", 50, 86_400, &["x-appwrite-project", "host", "route"]),
];

fn word(part: &KeyPart) -> &str {
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
fn the_file_for_the_documented_api_has_the_limits_that_can_be_told_from_outside() {
    let config = load(APPWRITE).unwrap();
    let mut found = Vec::new();
    for route in &config.routes {
        assert!(route.rate_limits.len() <= 1, "{}", route.name);
        for index in &route.rate_limits {
            let settings = &config.rate_limits[*index].settings;
            let (quota, key) = (settings.quota, settings.key.iter().map(word).collect::<Vec<_>>());
            assert_eq!(quota.burst(), quota.allowed(), "{}", route.name);
            for method in &route.methods {
                let seconds = quota.period().as_secs();
                found.push((method.as_str(), route.path.as_str(), quota.allowed(), seconds, key.clone()));
            }
        }
    }
    let mut wanted: Vec<_> = LIMITED
        .iter()
        .map(|(method, path, allowed, seconds, key)| (*method, *path, *allowed, *seconds, key.to_vec()))
        .collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
}

#[test]
fn the_file_for_the_documented_api_answers_before_the_sdks_give_up() {
    let config = load(APPWRITE).unwrap();
    let mut longer = Vec::new();
    for route in &config.routes {
        // Go, Rust and the libraries under Kotlin wait ten seconds.
        if route.timeouts.total != Duration::from_secs(9) {
            longer.push((route.name.as_str(), route.timeouts.total.as_secs()));
        }
        assert!(route.timeouts.response_head < route.timeouts.total || route.timeouts.total.as_secs() == 600);
        // Pages that people read in a browser are their authors'; everything else is the contract's, and readable for
        // the web SDK, which needs two fields beside the limits.
        let for_people = ["sessions-oauth2", "console"].contains(&route.name.as_str());
        let mode = if for_people { ErrorMode::Pass } else { ErrorMode::Enforce };
        assert_eq!(route.errors.mode, mode, "{}", route.name);
        assert_eq!(route.cors.is_some(), route.name != "console", "{}", route.name);
    }
    longer.sort_unstable();
    // The API itself waits 30 s for an execution; what was uploaded is stored before it answers.
    assert_eq!(
        longer,
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
