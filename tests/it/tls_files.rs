//! Unusable certificate and key files: the exact output of `check` and `run`.

use super::certificates::{Authority, EXPIRED, Issued};
use super::gateway::{TestFolder, run};

/// Runs a command on a configuration beside these files; removes the folder name from the output.
fn run_with_tls(command: &str, files: &[(&str, &str)], tls: &str) -> (Option<i32>, String) {
    let folder = TestFolder::new();
    for (name, text) in files {
        folder.write(name, text);
    }
    let text = format!(
        "listen:\n  - address: 127.0.0.1:0\n    tls: {tls}\ntelemetry: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ a: {{ servers: [\"127.0.0.1:1\"] }} }}\nroutes: [{{ name: r, upstream: a }}]\n"
    );
    let file = folder.write("statusquo.yaml", &text);
    let (status, _, output) = run(&[command, file.to_str().unwrap()], &[]);
    (status, output.replace(&format!("{}/", folder.path("").display().to_string().trim_end_matches('/')), ""))
}

fn issued_pair() -> Issued {
    Authority::new().issue(&["test"])
}

#[test]
fn unusable_tls_files_are_reported_with_line_and_help_by_check_and_run() {
    let (one, other) = (issued_pair(), issued_pair());
    let files =
        [("a.crt", &*one.cert), ("a.key", &*one.key), ("b.key", &*other.key), ("junk", "no PEM at all\n")];
    let cases = [
        (
            "{ cert: missing.crt, key: a.key }",
            "3:18: listen[0].tls.cert: cannot read missing.crt: no such file; write the path of a PEM file, relative to the \
             directory of this file",
        ),
        (
            "{ cert: a.crt, key: b.key }",
            "3:30: listen[0].tls.key: b.key cannot be used: the key does not belong to the certificate; use the key that \
             the certificate was issued for; the server's certificate must come first in its file",
        ),
        (
            "{ cert: a.key, key: a.crt }",
            "3:18: listen[0].tls.cert: a.key cannot be used: the file contains a private key but no certificate; cert and key \
             may be swapped",
        ),
        (
            "{ cert: junk, key: a.key }",
            "3:18: listen[0].tls.cert: junk cannot be used: the file is not PEM; expected text with a \
             -----BEGIN line",
        ),
        (
            "[{ cert: a.crt, key: a.key }, { cert: a.crt, key: b.key }]",
            "3:60: listen[0].tls[1].key: b.key cannot be used: the key does not belong to the certificate; use the key \
             that the certificate was issued for; the server's certificate must come first in its file",
        ),
        (
            "{ cert: a.crt }",
            "3:5: listen[0].tls.key: missing; write the path of its private key, for example gateway.key",
        ),
        (
            "",
            "3:5: listen[0].tls: the certificate is missing; write a certificate and its key: tls: { cert: gateway.crt, key: \
             gateway.key }",
        ),
        (
            "[]",
            "3:5: listen[0].tls: the list is empty; write a certificate and its key: tls: { cert: gateway.crt, key: \
             gateway.key }",
        ),
    ];
    for (tls, expected) in cases {
        for command in ["check", "run"] {
            let (status, output) = run_with_tls(command, &files, tls);
            assert_eq!(status, Some(78), "{command} {tls}: {output}");
            let first = output.lines().next().unwrap_or_default();
            assert_eq!(first, format!("statusquo.yaml:{expected}"), "{command} {tls}");
            assert!(output.ends_with("\n1 problem\n"), "{output}");
        }
    }
}

#[test]
fn check_rejects_expired_and_not_yet_valid_certificates() {
    let authority = Authority::new();
    for (dates, fault) in [
        (EXPIRED, "expired on 2021-01-01T00:00:00Z"),
        (((2090, 1, 1), (2091, 1, 1)), "is not valid before 2090-01-01T00:00:00Z"),
    ] {
        let issued = authority.issue_for(&["test"], dates);
        let files = [("a.crt", &*issued.cert), ("a.key", &*issued.key)];
        let (status, output) = run_with_tls("check", &files, "{ cert: a.crt, key: a.key }");
        assert_eq!(status, Some(78), "{output}");
        let expected = format!(
            "statusquo.yaml:3:18: listen[0].tls.cert: the certificate of a.crt {fault}; renew it; until then clients \
             reject it\n"
        );
        assert!(output.starts_with(&expected), "{output}");
    }
    let issued = authority.issue(&["test"]);
    let files = [("a.crt", &*issued.cert), ("a.key", &*issued.key)];
    assert_eq!(run_with_tls("check", &files, "{ cert: a.crt, key: a.key }"), (Some(0), String::new()));
}
