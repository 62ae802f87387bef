//! Tests the file of valid responses: every path and every name has its script.

use super::*;

#[test]
fn valid_responses_are_read_from_their_file() {
    let head = |path: &str, name: &str| {
        let text = format!("HEAD {path} HTTP/1.1\r\nx-test-case: {name}\r\n\r\n");
        RecordedHead::parse(text.into(), 1)
    };
    for route in success_routes() {
        let status = format!("HTTP/1.1 {} ", route.status).into_bytes();
        let is_head = |step: &Step| matches!(step, Step::Write(bytes) if bytes.starts_with(&status) && bytes.ends_with(b"\r\n\r\n"));
        let script = success_script(&head(&route.path, ""));
        assert!(route.path == "/echo" || script.iter().any(is_head), "{}", route.path);
    }
    let scripts =
        ["served", "hang", "early", "endless", "megabyte"].map(|name| upstream_script(&head("/", name)));
    for (index, script) in scripts.iter().enumerate() {
        assert!(script.len() > 1, "{index}");
        assert!(scripts.iter().skip(index + 1).all(|other| format!("{other:?}") != format!("{script:?}")));
    }
}
