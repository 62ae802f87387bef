//! The preference lists of causes and upstream statuses as independent copies, the rules of overrides, and totality.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn contract() -> Contract {
    Contract::builtin("appwrite").unwrap()
}

fn input(trigger: Trigger) -> PolicyInput<'static> {
    PolicyInput { trigger, upstream: Some("shop"), method: &Method::GET, route_response: None }
}

fn decide_with(trigger: Trigger, route: &[Override], global: &[Override]) -> Decision {
    decide(&contract(), &input(trigger), &Overrides { route, global })
}

/// The codes of the `appwrite` contract.
const APPWRITE: [u16; 9] = [400, 401, 403, 404, 409, 429, 500, 503, 504];

#[test]
fn every_cause_maps_to_its_specified_code() {
    for (names, preferences) in EXPECTED_PREFERENCES {
        let expected = preferences.iter().find(|status| APPWRITE.contains(status)).unwrap();
        for name in names.split_whitespace() {
            let cause = Cause::from_name(name).unwrap_or_else(|| panic!("unknown cause {name}"));
            let decision = decide_with(Trigger::Fault(cause), &[], &[]);
            assert_eq!(decision.code().status(), *expected, "{name}");
            assert_eq!(decision.rule(), PolicyRule::Default, "{name}");
            assert_eq!(decision.cause(), Some(cause));
            assert!(!decision.allows_upstream_body());
        }
    }
}

/// What section 2 of the specification says about upstream statuses, for the `appwrite` contract.
fn expected_status(status: u16) -> (u16, PolicyRule) {
    let mapped: &[(&[u16], u16)] = &[
        (&[402, 451], 403),
        (&[410], 404),
        (&[412, 423], 409),
        (&[501, 505, 506, 508, 510, 511], 500),
        (&[507, 509, 529], 503),
        (&[424, 502, 520, 521, 522, 523, 524, 525, 526, 527, 530, 598, 599], 504),
        (&[408, 499], 504),
    ];
    if APPWRITE.contains(&status) {
        return (status, PolicyRule::Documented);
    }
    let row = mapped.iter().find(|(statuses, _)| statuses.contains(&status)).map(|row| row.1);
    (row.unwrap_or(if status < 500 { 400 } else { 500 }), PolicyRule::Default)
}

#[test]
fn every_upstream_status_maps_to_its_specified_code() {
    for status in 400..=599 {
        let decision = decide_with(Trigger::UpstreamStatus(status), &[], &[]);
        assert_eq!((decision.code().status(), decision.rule()), expected_status(status), "{status}");
        assert_eq!(
            decision.allows_upstream_body(),
            expected_status(status).1 == PolicyRule::Documented,
            "{status}"
        );
        assert_eq!(decision.cause(), None);
    }
}

#[test]
fn declared_code_of_a_route_decides_unless_an_override_matches() {
    let contract = contract();
    let declared =
        PolicyInput { route_response: contract.code(409), ..input(Trigger::Fault(Cause::RouteResponse)) };
    let decision = decide(&contract, &declared, &Overrides::default());
    assert_eq!((decision.code().status(), decision.rule()), (409, PolicyRule::RouteResponse));
    let other = PolicyInput { trigger: Trigger::Fault(Cause::Maintenance), ..declared };
    assert_eq!(decide(&contract, &other, &Overrides::default()).code().status(), 503);
    let without_code = Override { message: Some("No.".into()), ..Override::default() };
    let decision = decide(&contract, &declared, &Overrides { route: &[without_code], global: &[] });
    assert_eq!((decision.code().status(), decision.message(&contract)), (409, "No."));
}

#[test]
fn non_error_status_maps_to_504() {
    for status in (0..400).chain(600..=999).chain([u16::MAX]) {
        let decision = decide_with(Trigger::UpstreamStatus(status), &[], &[]);
        assert_eq!((decision.code().status(), decision.rule()), (504, PolicyRule::Default), "{status}");
    }
}

#[test]
fn added_codes_stay_only_in_the_current_contract() {
    let current = Contract::builtin("appwrite-current").unwrap();
    for (status, old) in [(413, 400), (416, 400), (501, 500)] {
        let input = input(Trigger::UpstreamStatus(status));
        assert_eq!(decide(&current, &input, &Overrides::default()).code().status(), status);
        assert_eq!(decide(&contract(), &input, &Overrides::default()).code().status(), old);
    }
    for (cause, status) in [(Cause::BodyTooLarge, 413), (Cause::UnsupportedMethod, 501)] {
        let fault = input(Trigger::Fault(cause));
        assert_eq!(decide(&current, &fault, &Overrides::default()).code().status(), status, "{cause}");
        assert_eq!(decide(&contract(), &fault, &Overrides::default()).code().status(), 400, "{cause}");
    }
}

/// Section 2 of the specification written a second time: cause, then its preference list.
const EXPECTED_PREFERENCES: &[(&str, &[u16])] = &[
    (
        "http_request_error malformed_request_line malformed_header ambiguous_framing ambiguous_path malformed_body \
         invalid_host client_too_slow",
        &[400],
    ),
    ("unsupported_version", &[505, 400]),
    ("unsupported_method", &[501, 405, 400]),
    ("method_not_allowed", &[405, 404, 400]),
    ("unsupported_expectation", &[417, 400]),
    ("header_too_large", &[431, 400]),
    ("uri_too_long", &[414, 400]),
    ("body_too_large", &[413, 400]),
    ("destination_not_found", &[404, 400]),
    ("http_request_denied", &[403, 401, 400]),
    ("rate_limited", &[429, 503, 400]),
    ("maintenance", &[503, 500]),
    ("route_response", &[404, 400]),
    ("proxy_internal_error proxy_configuration_error", &[500]),
    ("proxy_loop_detected", &[508, 500]),
    (
        "connection_limit_reached queue_full queue_timeout breaker_open destination_unavailable limiter_unavailable \
         resource_exhausted draining",
        &[503, 500],
    ),
    (
        "dns_error destination_ip_unroutable connection_refused connection_terminated connection_write_error \
         tls_protocol_error tls_certificate_error http_protocol_error http_response_header_section_size \
         http_upgrade_failed http_response_incomplete",
        &[502, 504, 503, 500],
    ),
    (
        "dns_timeout connection_timeout tls_timeout http_response_timeout deadline_exceeded connection_read_timeout \
         connection_write_timeout",
        &[504, 502, 503, 500],
    ),
];

/// The same for upstream statuses that are not documented.
const EXPECTED_UPSTREAM_PREFERENCES: &[(&[u16], &[u16])] = &[
    (&[401], &[401, 403, 400]),
    (&[403, 402, 451], &[403, 400]),
    (&[404, 410], &[404, 400]),
    (&[409, 412, 423], &[409, 400]),
    (&[429], &[429, 503, 400]),
    (&[400, 405, 406, 413, 418, 422, 431, 450, 498], &[400]),
    (&[503, 507, 509, 529], &[503, 500]),
    (&[502, 520, 521, 522, 523, 524, 525, 526, 527, 530, 598, 599, 424], &[502, 504, 503, 500]),
    (&[504, 408, 499], &[504, 502, 503, 500]),
    (&[500, 501, 505, 506, 508, 510, 511, 519, 528, 531, 597], &[500]),
];

/// A contract that documents these codes.
fn contract_of(statuses: &[u16]) -> Result<Contract, Vec<crate::contract::ContractProblem>> {
    Contract::declare(crate::contract::Declaration {
        name: "test".to_owned(),
        codes: statuses
            .iter()
            .map(|status| crate::contract::CodeDeclaration {
                status: *status,
                reason: "Reason".to_owned(),
                message: "Message.".to_owned(),
                ..crate::contract::CodeDeclaration::default()
            })
            .collect(),
        ..crate::contract::Declaration::default()
    })
}

/// The first documented status of each list, as more and more of the list is documented from its end.
#[test]
fn first_documented_status_of_the_preference_list_is_sent() {
    let mut rows = 0;
    let check = |preferences: &[u16], trigger: Trigger| {
        for from in 0..preferences.len() {
            let mut statuses = vec![400, 500];
            statuses.extend(&preferences[from..]);
            statuses.sort_unstable();
            statuses.dedup();
            let contract = contract_of(&statuses).unwrap();
            let decision = decide(&contract, &input(trigger), &Overrides::default());
            let expected = preferences.iter().find(|status| statuses.contains(status));
            assert_eq!(Some(&decision.code().status()), expected, "{trigger:?} {statuses:?}");
        }
    };
    for (names, preferences) in EXPECTED_PREFERENCES {
        for name in names.split_whitespace() {
            check(preferences, Trigger::Fault(Cause::from_name(name).unwrap()));
            rows += 1;
        }
    }
    assert_eq!(rows, Cause::ALL.len(), "a cause has no row");
    for (statuses, preferences) in EXPECTED_UPSTREAM_PREFERENCES {
        for status in *statuses {
            check(preferences, Trigger::UpstreamStatus(*status));
        }
    }
}

#[test]
fn contract_of_400_and_500_alone_is_complete() {
    assert!(contract_of(&[400, 500]).is_ok());
    for only in [400, 500] {
        let problems = contract_of(&[only]).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}

fn override_to(status: u16, matcher: Matcher) -> Override {
    Override { matcher, code: Some(status), ..Override::default() }
}

#[test]
fn route_overrides_precede_global_ones() {
    let refused = Trigger::Fault(Cause::ConnectionRefused);
    let other = Matcher { causes: vec![Cause::DnsError], ..Matcher::default() };
    let route = [
        override_to(400, other.clone()),
        override_to(503, Matcher::default()),
        override_to(409, Matcher::default()),
    ];
    let global = [override_to(500, Matcher::default())];
    let decision = decide_with(refused, &route, &global);
    assert_eq!((decision.code().status(), decision.rule()), (503, PolicyRule::RouteOverride(1)));
    let decision = decide_with(refused, &route[..1], &global);
    assert_eq!((decision.code().status(), decision.rule()), (500, PolicyRule::GlobalOverride(0)));
    let decision = decide_with(refused, &route[..1], &[]);
    assert_eq!((decision.code().status(), decision.rule()), (504, PolicyRule::Default));
}

#[test]
fn override_matches_when_every_condition_holds() {
    let refused = input(Trigger::Fault(Cause::ConnectionRefused));
    let upstream_response = input(Trigger::UpstreamStatus(405));
    let causes = Matcher { causes: vec![Cause::ConnectionRefused, Cause::DnsError], ..Matcher::default() };
    assert!(causes.matches(&refused));
    assert!(!causes.matches(&upstream_response), "causes alone never match an upstream response");
    assert!(!causes.matches(&input(Trigger::Fault(Cause::Draining))));

    let statuses = Matcher { upstream_status: vec![405, 406], ..Matcher::default() };
    assert!(statuses.matches(&upstream_response));
    assert!(!statuses.matches(&refused), "a fault has no upstream status");
    assert!(!statuses.matches(&input(Trigger::UpstreamStatus(404))));

    let any_upstream_response = Matcher { upstream_response: true, ..Matcher::default() };
    assert!(any_upstream_response.matches(&upstream_response));
    assert!(!any_upstream_response.matches(&refused));
    let either =
        Matcher { upstream_response: true, causes: vec![Cause::ConnectionRefused], ..Matcher::default() };
    assert!(either.matches(&upstream_response) && either.matches(&refused));
    let both = Matcher { upstream_response: true, upstream_status: vec![404], ..Matcher::default() };
    assert!(!both.matches(&upstream_response));

    let specific = Matcher { upstream: Some("shop".into()), methods: vec![Method::GET], ..causes };
    assert!(specific.matches(&refused));
    assert!(!specific.matches(&PolicyInput { upstream: Some("auth"), ..refused }));
    assert!(!specific.matches(&PolicyInput { upstream: None, ..refused }));
    assert!(!specific.matches(&PolicyInput { method: &Method::POST, ..refused }));
}

#[test]
fn override_changes_only_the_values_set() {
    let contract = contract();
    let text: Arc<str> = "The shop is restarting.".into();
    let message_override =
        Override { message: Some(text.clone()), retry_after: Some(7), ..Override::default() };
    let decision = decide_with(Trigger::UpstreamStatus(404), &[message_override], &[]);
    assert_eq!((decision.code().status(), decision.retry_after()), (404, Some(7)));
    assert_eq!(decision.message(&contract), &*text);
    assert!(!decision.allows_upstream_body(), "an override's text needs a new body");

    let retry_after_override = Override { retry_after: Some(7), ..Override::default() };
    assert!(decide_with(Trigger::UpstreamStatus(404), &[retry_after_override], &[]).allows_upstream_body());
    assert!(
        !decide_with(Trigger::UpstreamStatus(404), &[override_to(403, Matcher::default())], &[])
            .allows_upstream_body()
    );
    assert!(
        decide_with(Trigger::UpstreamStatus(404), &[override_to(404, Matcher::default())], &[])
            .allows_upstream_body()
    );
}

#[test]
fn cause_message_applies_only_to_its_default_code() {
    let contract = contract();
    let too_large = Trigger::Fault(Cause::BodyTooLarge);
    assert_eq!(decide_with(too_large, &[], &[]).message(&contract), "The request body is too large.");
    let moved = decide_with(too_large, &[override_to(503, Matcher::default())], &[]);
    assert_eq!(moved.message(&contract), contract.entry(moved.code()).message());
}

fn any_trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        (0..Cause::ALL.len()).prop_map(|index| Trigger::Fault(Cause::ALL[index])),
        (0u16..=999).prop_map(Trigger::UpstreamStatus),
    ]
}

fn any_override() -> impl Strategy<Value = Override> {
    let matcher = (
        proptest::collection::vec((0..Cause::ALL.len()).prop_map(|index| Cause::ALL[index]), 0..4),
        any::<bool>(),
        proptest::collection::vec(400u16..600, 0..4),
        proptest::option::of(prop_oneof![Just("shop".into()), Just("auth".into())]),
    );
    (matcher, proptest::option::of(0usize..9), proptest::option::of(1u64..100)).prop_map(
        |(matcher, code, retry_after)| {
            let (causes, upstream_response, upstream_status, upstream) = matcher;
            Override {
                matcher: Matcher {
                    causes,
                    upstream_response,
                    upstream_status,
                    upstream,
                    methods: Vec::new(),
                },
                code: code.map(|index| contract().codes()[index].code().status()),
                retry_after,
                ..Override::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn decided_code_is_always_documented(
        trigger in any_trigger(),
        route in proptest::collection::vec(any_override(), 0..4),
        global in proptest::collection::vec(any_override(), 0..4),
    ) {
        let contract = contract();
        let decision = decide_with(trigger, &route, &global);
        prop_assert_eq!(contract.code(decision.code().status()), Some(decision.code()));
        prop_assert!(crate::contract::text::is_allowed(decision.message(&contract)));
        let first = route.iter().chain(&global).find(|candidate| candidate.matcher.matches(&input(trigger)));
        prop_assert_eq!(decision.retry_after(), first.and_then(|matched| matched.retry_after));
        if let Some(code) = first.and_then(|matched| matched.code) {
            prop_assert_eq!(decision.code().status(), code);
        }
    }
}
