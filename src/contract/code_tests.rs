//! Validation of declarations, problem by problem, and lookups in a declared contract.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::contract::declaration::Owner;
use crate::contract::text::TextProblem;

/// A minimal custom contract: only the codes that the default tables need.
fn small_declaration() -> Declaration {
    let code = |status: u16| CodeDeclaration {
        status,
        reason: "Some Reason".to_owned(),
        message: format!("It is a {status}."),
        ..CodeDeclaration::default()
    };
    Declaration {
        name: "own".to_owned(),
        codes: [504, 400, 403, 404, 409, 429, 500, 503].map(code).into(),
        causes: vec![(Cause::DnsError, message("No address."))],
        ..Declaration::default()
    }
}

fn message(text: &str) -> CauseDeclaration {
    CauseDeclaration { message: Some(text.to_owned()), ..CauseDeclaration::default() }
}

fn problems(change: impl FnOnce(&mut Declaration)) -> Vec<ContractProblem> {
    let mut declaration = small_declaration();
    change(&mut declaration);
    Contract::declare(declaration).err().unwrap_or_default()
}

#[test]
fn declared_contract_lists_codes_in_ascending_order() {
    let contract = Contract::declare(small_declaration()).unwrap();
    let statuses: Vec<u16> = contract.codes().iter().map(|entry| entry.code().status()).collect();
    assert_eq!(statuses, [400, 403, 404, 409, 429, 500, 503, 504]);
    for (index, entry) in contract.codes().iter().enumerate() {
        assert_eq!(entry.code().index(), index);
        assert_eq!(contract.code(entry.code().status()), Some(entry.code()));
        assert_eq!(contract.entry(entry.code()), entry);
        assert_eq!(entry.message(), format!("It is a {}.", entry.code().status()));
    }
}

#[test]
fn only_declared_statuses_have_a_code() {
    let contract = Contract::builtin("appwrite").unwrap();
    let documented: Vec<u16> = (0..=u16::MAX).filter(|&status| contract.code(status).is_some()).collect();
    assert_eq!(documented, [400, 401, 403, 404, 409, 429, 500, 503, 504]);
}

#[test]
fn entry_maps_codes_of_another_contract_to_this_one() {
    let contract = Contract::declare(small_declaration()).unwrap();
    let other = Contract::builtin("appwrite-current").unwrap();
    let same_status = contract.entry(other.code(504).unwrap());
    assert_eq!(same_status.message(), "It is a 504.");
    let unknown = contract.entry(other.code(416).unwrap());
    assert_eq!(unknown.message(), "It is a 500.");
}

#[test]
fn contract_holds_all_199_error_codes() {
    let mut declaration = small_declaration();
    declaration.codes = (400..=599)
        .filter(|&status| status != 408)
        .map(|status| CodeDeclaration {
            status,
            reason: "R".to_owned(),
            message: status.to_string(),
            ..CodeDeclaration::default()
        })
        .collect();
    let contract = Contract::declare(declaration).unwrap();
    assert_eq!(contract.codes().len(), 199);
    assert_eq!(contract.entry(contract.code(599).unwrap()).message(), "599");
}

#[test]
fn codes_outside_400_to_599_and_408_are_rejected() {
    for status in [0, 200, 399, 408, 600, u16::MAX] {
        let found = problems(|declaration| {
            declaration.codes.push(CodeDeclaration { status, ..declaration.codes[0].clone() })
        });
        assert_eq!(found, [ContractProblem::NotAnErrorCode(status)]);
    }
}

#[test]
fn duplicate_codes_and_causes_are_rejected() {
    assert_eq!(
        problems(|declaration| declaration.codes.push(declaration.codes[1].clone())),
        [ContractProblem::DuplicateCode(400)]
    );
    assert_eq!(
        problems(|declaration| declaration.causes.push((Cause::DnsError, message("Again.")))),
        [ContractProblem::DuplicateCause(Cause::DnsError)]
    );
}

#[test]
fn invalid_messages_and_reasons_are_rejected() {
    for (text, problem) in [
        (String::new(), TextProblem::Empty),
        ("x".repeat(1001), TextProblem::TooLong),
        ("one\ntwo".to_owned(), TextProblem::ControlCharacter),
        ("<b>no</b>".to_owned(), TextProblem::MarkupOrStackTrace),
    ] {
        assert_eq!(
            problems(|declaration| declaration.codes[0].message = text.clone()),
            [ContractProblem::BadMessage { status: 504, problem }]
        );
        assert_eq!(
            problems(|declaration| declaration.causes[0].1 = message(&text)),
            [ContractProblem::BadCauseMessage { cause: Cause::DnsError, problem }]
        );
    }
    for reason in ["", "a\r\nX: y", "naïve", &"x".repeat(65)] {
        assert_eq!(
            problems(|declaration| declaration.codes[0].reason = reason.to_owned()),
            [ContractProblem::BadReason(504)]
        );
    }
}

#[test]
fn types_must_match_the_pattern_and_the_closed_list() {
    for kind in ["", "1a", "_a", "a b", "ä", &"a".repeat(65)] {
        let kind = kind.to_owned();
        assert_eq!(
            problems(|declaration| declaration.codes[0].kind = Some(kind.clone())),
            [ContractProblem::BadType { owner: Owner::Code(504), kind: kind.clone() }]
        );
        assert_eq!(
            problems(|declaration| declaration.types = Some(vec![kind.clone()])).first(),
            Some(&ContractProblem::BadListedType(kind.clone()))
        );
    }
    let closed = |declaration: &mut Declaration| {
        declaration.types = Some(vec!["known".to_owned()]);
        declaration.codes.iter_mut().for_each(|code| code.kind = Some("known".to_owned()));
    };
    let unlisted_type = problems(|declaration| {
        closed(declaration);
        declaration.codes[0].kind = Some("other".to_owned());
    });
    let expected = ContractProblem::UnlistedType { owner: Owner::Code(504), kind: "other".to_owned() };
    assert_eq!(unlisted_type, [expected]);
    let missing_type = problems(|declaration| {
        closed(declaration);
        declaration.codes[0].kind = None;
    });
    let expected = ContractProblem::MissingType { status: 504, example: "known".to_owned() };
    assert_eq!(missing_type, [expected]);
}

#[test]
fn allows_type_accepts_only_valid_and_listed_types() {
    let open = Contract::declare(small_declaration()).unwrap();
    assert!(
        open.allows_type("a") && open.allows_type(&"a".repeat(64)) && open.allows_type("user_not_found2")
    );
    assert!(!open.allows_type("") && !open.allows_type(&"a".repeat(65)) && !open.allows_type("1"));
    let mut declaration = Declaration { types: Some(vec!["known".to_owned()]), ..small_declaration() };
    declaration.codes.iter_mut().for_each(|code| code.kind = Some("known".to_owned()));
    let closed = Contract::declare(declaration).unwrap();
    assert!(closed.allows_type("known") && !closed.allows_type("other"));
}

#[test]
fn missing_target_error_names_every_cause_and_status() {
    let found = problems(|declaration| declaration.codes.retain(|code| code.status != 500));
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "code 500 is missing: no other code is documented for causes proxy_internal_error, proxy_configuration_error, \
             proxy_loop_detected; upstream statuses 500-501, 505-506, 508, 510-519, 528, 531-597"
        ]
    );
}

#[test]
fn own_rows_of_causes_and_statuses_replace_the_preference_lists() {
    let mut declaration = small_declaration();
    declaration.codes.retain(|code| [400, 503].contains(&code.status));
    declaration.causes =
        [Cause::ProxyInternalError, Cause::ProxyConfigurationError, Cause::ProxyLoopDetected]
            .map(|cause| (cause, CauseDeclaration { code: Some(503), ..CauseDeclaration::default() }))
            .into();
    declaration.statuses = (500..=599)
        .filter(|status| ![502, 503, 504].contains(status))
        .map(|status| (status, 503))
        .chain([(422, 400), (599, 400)])
        .collect();
    declaration.statuses.retain(|row| *row != (599, 503));
    let contract = Contract::declare(declaration).unwrap();
    assert_eq!(contract.code_for_cause(Cause::ProxyInternalError).status(), 503);
    assert_eq!(contract.code_for_upstream(500).status(), 503);
    assert_eq!(contract.code_for_upstream(599).status(), 400);
    assert_eq!(contract.code_for_upstream(502).status(), 503);
    for (row, problem) in [
        ((404, 400), ContractProblem::DocumentedStatusRow(404)),
        ((422, 418), ContractProblem::UndocumentedStatusRow { status: 422, target: 418 }),
    ] {
        assert_eq!(problems(|declaration| declaration.statuses.push(row)), [problem]);
    }
    let undocumented = CauseDeclaration { code: Some(418), ..CauseDeclaration::default() };
    assert_eq!(
        problems(|declaration| declaration.causes.push((Cause::Draining, undocumented))),
        [ContractProblem::UndocumentedCauseCode { cause: Cause::Draining, status: 418 }]
    );
}

#[test]
fn target_with_a_documented_alternative_may_be_missing() {
    for status in [403, 404, 409, 429, 503, 504] {
        let found = problems(|declaration| declaration.codes.retain(|code| code.status != status));
        assert_eq!(found, [], "{status}");
    }
}

#[test]
fn empty_contract_reports_every_missing_target() {
    let found = problems(|declaration| declaration.codes.clear());
    let missing: Vec<u16> = found
        .iter()
        .map(|problem| match problem {
            ContractProblem::MissingTarget { status, .. } => *status,
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(missing, [400, 500]);
}

#[test]
fn all_problems_are_reported_together() {
    let found = problems(|declaration| {
        declaration.codes[0].message.clear();
        declaration.codes[1].reason.clear();
        declaration.codes[2].status = 408;
        declaration.causes.push((Cause::Draining, message("<p>")));
    });
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "the message of code 504 is empty; expected 1 to 1000 characters",
            "the reason phrase of code 400 is invalid; expected 1 to 64 printable ASCII characters",
            "code 408 cannot be documented: clients retry it automatically, even with POST; use 504 or 400",
            "the message of cause draining looks like markup or a stack trace; expected one plain sentence",
        ]
    );
}
