//! `include`: sections of other files, positions in the right file, and what is refused.

use std::fs;

use super::super::{Config, Problems, Purpose, load_file};

/// Writes the files to a new directory and loads `main.yaml`, which begins with `include`.
fn load(test: &str, include: &str, files: &[(&str, &str)]) -> (Result<Config, Problems>, String) {
    let folder = std::env::temp_dir().join(format!("statusquo-include-{}-{test}", std::process::id()));
    fs::create_dir_all(folder.join("routes.d")).unwrap();
    let main = format!(
        "version: 1\ninclude: {include}\nlisten: [{{ address: \":8080\" }}]\n\
         upstreams:\n  shop: {{ servers: [\"127.0.0.1:1\"] }}\n"
    );
    fs::write(folder.join("main.yaml"), main).unwrap();
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
    let loaded = load_file(&folder.join("main.yaml"), &|_| None, 1, Purpose::Use);
    fs::remove_dir_all(&folder).unwrap();
    (loaded, format!("{}/", folder.display()))
}

fn error(test: &str, include: &str, files: &[(&str, &str)]) -> String {
    let (loaded, folder) = load(test, include, files);
    loaded.unwrap_err().to_string().replace(&folder, "")
}

const ROUTE_A: (&str, &str) =
    ("routes.d/a.yaml", "routes:\n  - { name: a, match: { path: /a }, upstream: shop }\n");
const ROUTE_B: (&str, &str) = (
    "routes.d/b.yaml",
    "upstreams: { other: { servers: [\"127.0.0.1:2\"] } }\nroutes:\n  - { name: b, match: { path: /b }, upstream: other }\n",
);

#[test]
fn included_sections_are_added_in_the_order_of_the_names() {
    let hidden = ("routes.d/.c.yaml", "routes: [");
    let empty = ("routes.d/0.yaml", "# nothing yet\n");
    let (loaded, folder) =
        load("order", "[\"routes.d/*.yaml\", routes.d/a.yaml, \"x/*\"]", &[ROUTE_B, ROUTE_A, hidden, empty]);
    let config = loaded.unwrap_or_else(|problems| panic!("{problems}"));
    let names: Vec<&str> = config.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let names: Vec<&str> = config.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    assert_eq!(names, ["shop", "other"]);
    let warnings: Vec<String> =
        config.warnings.iter().map(|warning| warning.message.replace(&folder, "")).collect();
    assert_eq!(warnings, ["routes.d/0.yaml is empty", "no file matches \"x/*\""]);
}

#[test]
fn problems_have_the_position_in_their_own_file() {
    let bad = ("routes.d/b.yaml", "routes:\n  - { name: b, match: { path: /b }, upstream: shpo }\n");
    let text = error("position", "[\"routes.d/*.yaml\"]", &[ROUTE_A, bad]);
    assert_eq!(
        text,
        "routes.d/b.yaml:2:47: routes[0].upstream: unknown upstream \"shpo\"; did you mean \"shop\"?\n  \
         2 |   - { name: b, match: { path: /b }, upstream: shpo }\n    |                                               ^\n\
         1 problem\n"
    );
}

#[test]
fn duplicates_are_refused_with_both_places() {
    let again = (
        "routes.d/b.yaml",
        "upstreams:\n  shop: {}\nroutes:\n  - { name: a, match: { path: /b }, upstream: shop }\n",
    );
    let text = error("duplicates", "[\"routes.d/?.yaml\"]", &[ROUTE_A, again]);
    assert!(
        text.contains(
            "routes.d/b.yaml:2:3: upstreams.shop: duplicate key, first at main.yaml:5; remove one of them"
        ),
        "{text}"
    );
    assert!(
        text.contains(
            "routes.d/b.yaml:4:13: routes[0].name: another route is already named \"a\" (routes.d/a.yaml:2); "
        ),
        "{text}"
    );
    assert!(text.ends_with("2 problems\n"), "{text}");
}

#[test]
fn only_some_sections_can_be_included() {
    let other = ("routes.d/b.yaml", "include: [c.yaml]\nclient: {}\nroute: []\nstores: []\n");
    let text = error("sections", "[\"routes.d/*.yaml\"]", &[ROUTE_A, other]);
    for expected in [
        "b.yaml:1:1: include: an included file cannot include others; list the files in main.yaml\n",
        "b.yaml:2:1: client: not allowed in an included file; move it to main.yaml\n",
        "b.yaml:3:1: route: unknown key; did you mean \"routes\"?\n",
        "b.yaml:4:1: stores: not a mapping; write names and sections: stores: { name: { .. } }\n",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in {text}");
    }
}

#[test]
fn unreadable_and_damaged_files_are_the_only_problems() {
    let text = error("missing", "[b.yaml, \"**/x\", main.yaml]", &[]);
    for expected in [
        "main.yaml:2:11: include[0]: cannot read b.yaml: no such file; write the path of a file, relative to the",
        "include[1]: \"**/x\" is not a path; write a path such as routes.d/*.yaml\n",
        "include[2]: the file includes itself; move the other files to a directory",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in {text}");
    }
    assert!(text.ends_with("3 problems\n"), "{text}");
    let text = error("damaged", "[\"routes.d/*.yaml\"]", &[ROUTE_A, ("routes.d/b.yaml", "routes:\n  - [\n")]);
    assert!(text.starts_with("routes.d/b.yaml:") && text.ends_with("1 problem\n"), "{text}");
}

#[test]
fn paths_in_an_included_file_start_at_its_directory() {
    let tls = (
        "routes.d/b.yaml",
        "upstreams: { b: { servers: [\"https://b:1\"], tls: { ca: ca.pem } } }\nroutes: [{ name: b, upstream: b }]\n",
    );
    let text = error("paths", "[routes.d/b.yaml]", &[tls]);
    assert!(text.contains("upstreams.b.tls.ca: cannot read routes.d/ca.pem: no such file"), "{text}");
}

#[test]
fn stars_match_any_text() {
    let matches = |pattern: &str, name: &str| {
        super::matches(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
    };
    for (pattern, name) in [("*", "a"), ("*.yaml", "a.b.yaml"), ("a*b*c", "aXbbYc"), ("?é*", "xé")] {
        assert!(matches(pattern, name), "{pattern} {name}");
    }
    for (pattern, name) in [("*.yaml", "a.yml"), ("a*b", "abc"), ("?", ""), ("a", "aa")] {
        assert!(!matches(pattern, name), "{pattern} {name}");
    }
}
