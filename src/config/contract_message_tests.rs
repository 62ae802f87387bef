//! Mistakes of contracts, by kind: each has its place, what is wrong, and a help that can be typed in.

use super::super::super::problem::Location;
use super::{config_with, load, messages};

const PLACEHOLDERS: &str = "use \"{code}\", \"{message}\", \"{title}\", \"{type}\", \"{details}\", \"{request_id}\", \"{cause}\", \
     \"{retryable}\", \"{request_sent}\", \"{retry_after}\"; declare another one in `values`, or write {{ for a brace";

/// A template, and its problem without the name of the contract.
const TEMPLATES: &[(&str, &str)] = &[
    // It does not say what happened.
    ("{ error: \"x\" }", NAMELESS),
    ("{ error: { code: \"{code}\", id: \"{request_id}\" } }", NAMELESS),
    ("{ a: \"{{message}}\" }", NAMELESS),
    ("{}", NAMELESS),
    // Unknown placeholders.
    ("{ error: \"{mesage}\" }", ".error: unknown placeholder {mesage}; write \"{message}\""),
    ("{ m: \"{message}\", s: \"{Status}\" }", ".s: unknown placeholder {Status}; write \"{code}\""),
    (
        "{ m: \"{message}\", s: [\"{requestId}\"] }",
        ".s[0]: unknown placeholder {requestId}; write \"{request_id}\"",
    ),
    ("{ m: \"Error {cod}: {message}\" }", ".m: unknown placeholder {cod}; write \"Error {code}: {message}\""),
    ("{ m: \"{error.message}\" }", ".m: unknown placeholder {error.message}; write \"{message}\""),
    ("{ m: \"{message}\", s: \"{ code }\" }", ".s: unknown placeholder { code }; write \"{code}\""),
    ("{ m: \"{message}\", s: \"{colour}\" }", ".s: unknown placeholder {colour}; "),
    ("{ m: \"{message}\", s: \"{}\" }", ".s: unknown placeholder {}; "),
    // Modifiers.
    ("{ m: \"{message}\", s: \"{code|text}\" }", ".s: unknown modifier \"text\"; write \"{code}\""),
    ("{ m: \"{message}\", c: \"{code|null}\" }", ".c: {code} is never absent; write \"{code}\""),
    (
        "{ m: \"{message}\", d: \"{details|string}\" }",
        ".d: {details} cannot be written as text; write \"{details}\"",
    ),
    ("{ m: \"{message} {code|null}\" }", ".m: {code|null} inside a text; write \"{message} {code}\""),
    // Braces.
    ("{ error: \"{message\" }", ".error: a { is not closed; write \"{message}\""),
    ("{ error: \"message}\" }", ".error: a } has no {; write \"{message}\""),
    ("{ error: \"{message}}\" }", ".error: a } has no {; write \"{message}\""),
    ("{ error: \"{{message}\" }", ".error: a } has no {; write \"{message}\""),
    ("{ error: \"{message{code}\" }", ".error: a { is not closed; write \"{message}{code}\""),
    ("{ m: \"{message}\", s: \"a { b\" }", ".s: a { is not closed; write \"a {{ b\""),
    ("{ m: \"{message}\", s: [\"a } b\"] }", ".s[0]: a } has no {; write \"a }} b\""),
    // Placeholders without quotes.
    ("{ error: {type} }", ".error: {type} without quotes is a mapping, not a placeholder; write \"{type}\""),
    (
        "{ m: \"{message}\", e: [{code}] }",
        ".e[0]: {code} without quotes is a mapping, not a placeholder; write \"{code}\"",
    ),
    (
        "{ m: \"{message}\", e: {code|string} }",
        ".e: {code|string} without quotes is a mapping, not a placeholder; write \"{code|string}\"",
    ),
    (
        "{message}",
        ": the body is {message} without quotes: a mapping of it to nothing; write { message: \"{message}\" }",
    ),
    (
        "{ m: \"{message}\", e: {colour} }",
        ".e.colour: has no value; write null, or a placeholder such as \"{message}\"",
    ),
    // Names of members.
    (
        "{ m: \"{message}\", \"m?\": \"{type}\" }",
        ".m?: the object has two members \"m\"; remove one of them, or rename it",
    ),
    ("{ m: \"{message}\", m: \"{type}\" }", ".m: duplicate key, first on line 2; remove one of them"),
    (
        "{ m: \"{message}\", l: [{ a: 1, a: 2 }] }",
        ".l[0].a: duplicate key, first on line 2; remove one of them",
    ),
    (
        "{ \"{message}\": \"{message}\" }",
        ".{message}: {message} is the name of the member, not its value; write message: \"{message}\"",
    ),
    ("{ m: \"{message}\", \"*\": 1 }", ".*: \"*\" stands for further members of any kind; write any"),
    // Not an object.
    (
        "[\"{message}\"]",
        ": the body is a list; an error body is an object; write an object, for example { error: \"{message}\" }",
    ),
    (
        "[{ message: \"{message}\" }]",
        ": the body is a list; an error body is an object; write an object, for example { error: \"{message}\" }",
    ),
    (
        "42",
        ": the body is a number; an error body is an object; write an object, for example { error: \"{message}\" }",
    ),
    ("problm", ": unknown form of the body \"problm\"; did you mean \"problem\"?"),
    (
        "\"{message}\"",
        ": unknown form of the body \"{message}\"; write flat, error_object, errors_list or problem; or an object such as { error: \"{message}\" }",
    ),
];

const NAMELESS: &str = ": the body does not say what happened: no {message}, {title} or {type}; add one of them, for example message: \"{message}\"";

fn with_template(template: &str) -> String {
    format!("contracts: {{ c: {{ body: {template}, codes: [{{ code: 400 }}, {{ code: 500 }}] }} }}")
}

/// Keys of a contract beside its body, and the problem.
const CONTRACTS: &[(&str, &str)] = &[
    // Types.
    (
        "types: [bad, internal], codes: [{ code: 400, type: bad }, { code: 500, type: interal }]",
        ".codes[1].type: the type \"interal\" of code 500 is not in the contract's list of types; did you mean \"internal\"?",
    ),
    (
        "types: [bad], codes: [{ code: 400, type: bad }, { code: 500, type: broken }]",
        ".codes[1].type: the type \"broken\" of code 500 is not in the contract's list of types; expected bad; or add it to the contract's types",
    ),
    (
        "types: [bad], codes: [{ code: 400, type: bad }, { code: 500, type: bad }], causes: { draining: { type: gone } }",
        ".causes.draining.type: the type \"gone\" of cause draining is not in the contract's list of types; expected bad; or add it to the contract's types",
    ),
    (
        "types: [bad], codes: [{ code: 400, type: bad }, { code: 500 }]",
        ".codes[1]: code 500 has no type, but the list of types is closed; add type: bad",
    ),
    (
        "types: [bad, \"not a type\"], codes: [{ code: 400, type: bad }, { code: 500, type: bad }]",
        ".types[1]: \"not a type\" in the list of types is invalid; expected a letter, then up to 63 of A-Z, a-z, 0-9, _, . and -; or an integer; or a URI, for example not_a_type",
    ),
    (
        "types: [], codes: [{ code: 400, type: bad }, { code: 500 }]",
        ".types: the list of types is empty; list the types, or remove it to allow every type",
    ),
    (
        "codes: [{ code: 400, type: \"-x\" }, { code: 500 }]",
        ".codes[0].type: the type \"-x\" of code 400 is invalid; expected a letter, then up to 63 of A-Z, a-z, 0-9, _, . and -; or an integer; or a URI, for example x",
    ),
    // Codes, causes and statuses.
    (
        "codes: [{ code: 400 }, { code: 500 }], statuses: { 422: 409 }",
        ".statuses.422: the code 409 is not documented; expected 400 or 500; or add 409 to the codes",
    ),
    (
        "codes: [{ code: 400 }, { code: 500 }], causes: { rate_limited: { code: 429 } }",
        ".causes.rate_limited.code: the code 429 of cause rate_limited is not documented; expected 400 or 500; or add 429 to the codes",
    ),
    (
        "codes: [{ code: 400 }, { code: 500 }], causes: { ratelimited: { code: 400 } }",
        ".causes.ratelimited: unknown cause \"ratelimited\"; did you mean \"rate_limited\"?",
    ),
    (
        "codes: [{ code: 400 }, { code: 500 }], media_type: text/html",
        ".media_type: the media type is not one of JSON; write application/json, or another one that ends in +json",
    ),
    // Values.
    (
        "codes: [{ code: 400, values: { parm: x } }, { code: 500 }], values: { param: string }",
        ".codes[0].values.parm: the value \"parm\" of code 400 is not declared; did you mean \"param\"?",
    ),
    (
        "codes: [{ code: 400, values: { param: 5 } }, { code: 500 }], values: { param: string }",
        ".codes[0].values.param: the value \"param\" of code 400 does not fit; expected a text without markup, for example \"none\"",
    ),
    (
        "codes: [{ code: 400, values: { param: x } }, { code: 500 }], values: { param: integer }",
        ".codes[0].values.param: the value \"param\" of code 400 does not fit; expected an integer, for example 1",
    ),
    (
        "codes: [{ code: 400 }, { code: 500 }], values: { param: text }",
        ".values.param: unknown value \"text\"; expected string, integer, boolean, object, list or any",
    ),
    (
        "codes: [{ code: 400 }, { code: 500 }], values: { a-b: string }",
        ".values.a-b: \"a-b\" cannot be a placeholder; use a letter, then up to 63 of A-Z, a-z, 0-9 and _, for example a_b",
    ),
    (
        "codes: [{ code: 400 }, { code: 500 }], values: { type: string }",
        ".values.type: {type} is a placeholder of every template; choose another name",
    ),
];

/// An override, the contract of the file being one of 400 and 500 with the types `bad` and `internal`.
const OVERRIDES: &[(&str, &str)] = &[
    (
        "{ when: { cause: draining }, code: 503 }",
        ".code: 503 is not in the contract \"c\"; expected 400 or 500",
    ),
    (
        "{ when: { upstream: shop, upstream_status: 422 }, code: 422 }",
        ".code: 422 is not in the contract \"c\"; expected 400 or 500",
    ),
    (
        "{ when: { cause: [draining, queue_full] }, code: 408 }",
        ".code: 408 is not in the contract \"c\"; expected 400 or 500",
    ),
    ("{ when: { cause: draining }, code: 200 }", ".code: 200 is out of range; expected 400 to 599"),
    (
        "{ when: { cause: draining }, type: interna }",
        ".type: \"interna\" is not a type of the contract \"c\"; did you mean \"internal\"?",
    ),
    (
        "{ when: { cause: draining }, type: unavailable }",
        ".type: \"unavailable\" is not a type of the contract \"c\"; expected bad or internal; or add it to the contract's types",
    ),
];

fn with_override(text: &str) -> String {
    let codes = "codes: [{ code: 400, type: bad }, { code: 500, type: internal }], types: [bad, internal]";
    format!("contracts: {{ c: {{ {codes} }} }}\ncontract: c\nerrors: {{ overrides: [{text}] }}")
}

/// All mistakes: a section of a file, and its problem.
pub(super) fn mistakes() -> Vec<(String, String)> {
    let templates = TEMPLATES.iter().map(|(template, problem)| {
        let rest = if problem.ends_with("; ") { PLACEHOLDERS } else { "" };
        (with_template(template), format!("contracts.c.body{problem}{rest}"))
    });
    let contracts = CONTRACTS.iter().map(|(keys, problem)| {
        (format!("contracts: {{ c: {{ {keys} }} }}"), format!("contracts.c{problem}"))
    });
    let overrides = OVERRIDES
        .iter()
        .map(|(text, problem)| (with_override(text), format!("errors.overrides[0]{problem}")));
    templates.chain(contracts).chain(overrides).collect()
}

#[test]
fn every_mistake_of_a_contract_has_place_message_and_help() {
    let mut wrong = Vec::new();
    for (section, expected) in mistakes() {
        let text = config_with(&section);
        let Err(problems) = load(&text) else {
            wrong.push(format!("{section}: accepted"));
            continue;
        };
        let found = messages(&text);
        if found != [expected.as_str()] {
            wrong.push(format!("{section}: {found:?}\n  instead of {expected}"));
        }
        for problem in problems.iter() {
            let place = problem.location.map(|Location { line, column, .. }| (line, column));
            if !place.is_some_and(|(line, column)| (2..=4).contains(&line) && column > 1) {
                wrong.push(format!("{section}: {place:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn override_code_must_be_documented_by_the_contract_of_every_route() {
    let text = "listen: [{ address: \":8080\" }]
contracts:
  small: { codes: [{ code: 400 }, { code: 500 }] }
  large: { codes: [{ code: 400 }, { code: 404 }, { code: 500 }, { code: 503 }] }
contract: large
upstreams: { shop: { servers: [\"a:80\"] }, books: { servers: [\"b:80\"] } }
errors: { overrides: [{ when: { cause: draining, upstream: shop }, code: 503 }] }
routes:
  - { name: shop, upstream: shop, match: { path: /shop }, contract: small }
  - { name: books, upstream: books }
";
    assert_eq!(
        messages(text),
        ["errors.overrides[0].code: 503 is not in the contract \"small\"; expected 400 or 500"]
    );
    // The override cannot apply to the route of the other contract.
    assert!(load(&text.replace("upstream: shop }, code", "upstream: books }, code")).is_ok());
    let of_route = text.replace("errors: {", "#").replace(
        "contract: small",
        "contract: small, errors: { overrides: [{ when: { cause: draining }, code: 404 }] }",
    );
    assert_eq!(
        messages(&of_route),
        ["routes[0].errors.overrides[0].code: 404 is not in the contract \"small\"; expected 400 or 500"]
    );
}

#[test]
fn variable_in_a_template_is_pointed_at_the_placeholder() {
    let section = with_template("{ m: \"${message}\" }");
    assert_eq!(
        messages(&config_with(&section)),
        [
            "contracts.c.body.m: the environment variable message is not set; write \"{message}\" for the placeholder, or set the variable"
        ]
    );
}

#[test]
fn text_behind_an_unquoted_placeholder_is_to_be_quoted() {
    let text = config_with("contracts:\n  c:\n    body:\n      error: {message} happened\n");
    assert_eq!(
        messages(&text),
        [
            ": invalid YAML: while parsing a block mapping, did not find expected key; quote the text: \"{message} happened\""
        ]
    );
}
