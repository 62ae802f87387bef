//! The two default tables written out a second time, the rules of overrides, and totality.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn contract() -> Contract {
    Contract::builtin("appwrite").unwrap()
}

fn situation(case: Case) -> Situation<'static> {
    Situation { case, upstream: Some("shop"), method: &Method::GET }
}

fn ruling(case: Case, route: &[Override], global: &[Override]) -> Ruling {
    decide(&contract(), &situation(case), &Overrides { route, global })
}

const CAUSES: &[(u16, &str)] = &[
    (
        400,
        "http_request_error malformed_request_line malformed_header ambiguous_framing invalid_host ambiguous_path \
         unsupported_version unsupported_method unsupported_expectation malformed_body header_too_large uri_too_long \
         body_too_large client_too_slow",
    ),
    (403, "http_request_denied"),
    (404, "destination_not_found"),
    (429, "rate_limited"),
    (500, "proxy_internal_error proxy_configuration_error proxy_loop_detected"),
    (
        503,
        "connection_limit_reached queue_full queue_timeout breaker_open destination_unavailable limiter_unavailable \
         resource_exhausted draining",
    ),
    (
        504,
        "dns_error dns_timeout destination_ip_unroutable connection_refused connection_terminated \
         connection_write_error tls_protocol_error tls_certificate_error http_protocol_error \
         http_response_header_section_size http_upgrade_failed http_response_incomplete connection_timeout tls_timeout \
         http_response_timeout deadline_exceeded connection_read_timeout connection_write_timeout",
    ),
];

#[test]
fn every_cause_is_answered_with_the_code_of_the_specified_table() {
    let mut rows = 0;
    for (status, names) in CAUSES {
        for name in names.split_whitespace() {
            let cause = Cause::from_name(name).unwrap_or_else(|| panic!("{name} is no cause"));
            let ruling = ruling(Case::Fault(cause), &[], &[]);
            assert_eq!(ruling.code().status(), *status, "{name}");
            assert_eq!(ruling.rule(), Rule::Default, "{name}");
            assert_eq!(ruling.cause(), Some(cause));
            assert!(!ruling.upstream_body_may_pass());
            rows += 1;
        }
    }
    assert_eq!(rows, Cause::ALL.len(), "a cause has no row");
}

/// The second table, for the nine codes of the documented page.
fn specified(status: u16) -> (u16, Rule) {
    let itself = [400, 401, 403, 404, 409, 429, 500, 503, 504];
    let named: &[(&[u16], u16)] = &[
        (&[402, 451], 403),
        (&[410], 404),
        (&[412, 423], 409),
        (&[424], 500),
        (&[501, 505, 506, 508, 510, 511], 500),
        (&[507, 509, 529], 503),
        (&[502, 520, 521, 522, 523, 524, 525, 526, 527, 530, 598, 599], 504),
        (&[408, 499], 504),
    ];
    if itself.contains(&status) {
        return (status, Rule::Documented);
    }
    let row = named.iter().find(|(statuses, _)| statuses.contains(&status)).map(|row| row.1);
    (row.unwrap_or(if status < 500 { 400 } else { 500 }), Rule::Default)
}

#[test]
fn every_upstream_error_is_answered_with_the_code_of_the_specified_table() {
    for status in 400..=599 {
        let ruling = ruling(Case::UpstreamStatus(status), &[], &[]);
        assert_eq!((ruling.code().status(), ruling.rule()), specified(status), "{status}");
        assert_eq!(ruling.upstream_body_may_pass(), specified(status).1 == Rule::Documented, "{status}");
        assert_eq!(ruling.cause(), None);
    }
}

#[test]
fn a_number_that_is_no_error_status_is_answered_like_a_protocol_error() {
    for status in (0..400).chain(600..=999).chain([u16::MAX]) {
        let ruling = ruling(Case::UpstreamStatus(status), &[], &[]);
        assert_eq!((ruling.code().status(), ruling.rule()), (504, Rule::Default), "{status}");
    }
}

#[test]
fn a_code_that_todays_page_adds_stays_under_the_current_contract_only() {
    let current = Contract::builtin("appwrite-current").unwrap();
    for (status, old) in [(413, 400), (416, 400), (501, 500)] {
        let case = situation(Case::UpstreamStatus(status));
        assert_eq!(decide(&current, &case, &Overrides::default()).code().status(), status);
        assert_eq!(decide(&contract(), &case, &Overrides::default()).code().status(), old);
    }
    let ours = situation(Case::Fault(Cause::BodyTooLarge));
    assert_eq!(decide(&current, &ours, &Overrides::default()).code().status(), 400);
}

fn to(status: u16, when: When) -> Override {
    Override { when, code: Some(contract().code(status).unwrap()), ..Override::default() }
}

#[test]
fn a_routes_override_precedes_the_global_ones_and_the_first_match_wins() {
    let refused = Case::Fault(Cause::ConnectionRefused);
    let other = When { causes: vec![Cause::DnsError], ..When::default() };
    let route = [to(400, other.clone()), to(503, When::default()), to(409, When::default())];
    let global = [to(500, When::default())];
    let decided = ruling(refused, &route, &global);
    assert_eq!((decided.code().status(), decided.rule()), (503, Rule::RouteOverride(1)));
    let decided = ruling(refused, &route[..1], &global);
    assert_eq!((decided.code().status(), decided.rule()), (500, Rule::GlobalOverride(0)));
    let decided = ruling(refused, &route[..1], &[]);
    assert_eq!((decided.code().status(), decided.rule()), (504, Rule::Default));
}

#[test]
fn what_an_override_gives_must_all_hold() {
    let refused = situation(Case::Fault(Cause::ConnectionRefused));
    let answered = situation(Case::UpstreamStatus(405));
    let causes = When { causes: vec![Cause::ConnectionRefused, Cause::DnsError], ..When::default() };
    assert!(causes.matches(&refused));
    assert!(!causes.matches(&answered), "causes alone never match an answer of the upstream");
    assert!(!causes.matches(&situation(Case::Fault(Cause::Draining))));

    let statuses = When { upstream_status: vec![405, 406], ..When::default() };
    assert!(statuses.matches(&answered));
    assert!(!statuses.matches(&refused), "a fault has no upstream status");
    assert!(!statuses.matches(&situation(Case::UpstreamStatus(404))));

    let any_answer = When { upstream_response: true, ..When::default() };
    assert!(any_answer.matches(&answered));
    assert!(!any_answer.matches(&refused));
    let either = When { upstream_response: true, causes: vec![Cause::ConnectionRefused], ..When::default() };
    assert!(either.matches(&answered) && either.matches(&refused));
    let both = When { upstream_response: true, upstream_status: vec![404], ..When::default() };
    assert!(!both.matches(&answered));

    let narrow = When { upstream: Some("shop".into()), methods: vec![Method::GET], ..causes };
    assert!(narrow.matches(&refused));
    assert!(!narrow.matches(&Situation { upstream: Some("auth"), ..refused }));
    assert!(!narrow.matches(&Situation { upstream: None, ..refused }));
    assert!(!narrow.matches(&Situation { method: &Method::POST, ..refused }));
}

#[test]
fn an_override_changes_only_what_it_sets() {
    let contract = contract();
    let text: Arc<str> = "The shop is restarting.".into();
    let wording = Override { message: Some(text.clone()), retry_after: Some(7), ..Override::default() };
    let decided = ruling(Case::UpstreamStatus(404), &[wording], &[]);
    assert_eq!((decided.code().status(), decided.retry_after()), (404, Some(7)));
    assert_eq!(decided.message(&contract), &*text);
    assert!(!decided.upstream_body_may_pass(), "an override's text needs a new body");

    let waiting = Override { retry_after: Some(7), ..Override::default() };
    assert!(ruling(Case::UpstreamStatus(404), &[waiting], &[]).upstream_body_may_pass());
    assert!(!ruling(Case::UpstreamStatus(404), &[to(403, When::default())], &[]).upstream_body_may_pass());
    assert!(ruling(Case::UpstreamStatus(404), &[to(404, When::default())], &[]).upstream_body_may_pass());
}

#[test]
fn a_cause_keeps_its_own_text_only_under_its_default_code() {
    let contract = contract();
    let too_large = Case::Fault(Cause::BodyTooLarge);
    assert_eq!(ruling(too_large, &[], &[]).message(&contract), "The request body is too large.");
    let moved = ruling(too_large, &[to(503, When::default())], &[]);
    assert_eq!(moved.message(&contract), contract.entry(moved.code()).message());
}

fn any_case() -> impl Strategy<Value = Case> {
    prop_oneof![
        (0..Cause::ALL.len()).prop_map(|index| Case::Fault(Cause::ALL[index])),
        (0u16..=999).prop_map(Case::UpstreamStatus),
    ]
}

fn any_override() -> impl Strategy<Value = Override> {
    let when = (
        proptest::collection::vec((0..Cause::ALL.len()).prop_map(|index| Cause::ALL[index]), 0..4),
        any::<bool>(),
        proptest::collection::vec(400u16..600, 0..4),
        proptest::option::of(prop_oneof![Just("shop".into()), Just("auth".into())]),
    );
    (when, proptest::option::of(0usize..9), proptest::option::of(1u64..100)).prop_map(
        |(when, code, retry_after)| {
            let (causes, upstream_response, upstream_status, upstream) = when;
            Override {
                when: When { causes, upstream_response, upstream_status, upstream, methods: Vec::new() },
                code: code.map(|slot| contract().codes()[slot].code()),
                message: None,
                retry_after,
            }
        },
    )
}

proptest! {
    #[test]
    fn whatever_happens_and_whatever_is_overridden_the_code_is_documented(
        case in any_case(),
        route in proptest::collection::vec(any_override(), 0..4),
        global in proptest::collection::vec(any_override(), 0..4),
    ) {
        let contract = contract();
        let decided = ruling(case, &route, &global);
        prop_assert_eq!(contract.code(decided.code().status()), Some(decided.code()));
        prop_assert!(crate::contract::text::passes(decided.message(&contract)));
        let first = route.iter().chain(&global).find(|one| one.when.matches(&situation(case)));
        prop_assert_eq!(decided.retry_after(), first.and_then(|one| one.retry_after));
        if let Some(code) = first.and_then(|one| one.code) {
            prop_assert_eq!(decided.code(), code);
        }
    }
}
