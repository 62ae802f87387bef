//! Files of certificates and keys that cannot be used: what `check` and `run` say, word for word, and that they say it.

use super::certificates::{Authority, EXPIRED, Issued};
use super::gateway::{Folder, run};

/// A configuration beside these files, and what a command says about it without the name of the folder.
fn said(command: &str, files: &[(&str, &str)], tls: &str) -> (Option<i32>, String) {
    let folder = Folder::new();
    for (name, text) in files {
        folder.write(name, text);
    }
    let text = format!(
        "listen:\n  - address: 127.0.0.1:0\n    tls: {tls}\ntelemetry: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ a: {{ servers: [\"127.0.0.1:1\"] }} }}\nroutes: [{{ name: r, upstream: a }}]\n"
    );
    let file = folder.write("statusquo.yaml", &text);
    let (status, _, said) = run(&[command, file.to_str().unwrap()], &[]);
    (status, said.replace(&format!("{}/", folder.path("").display().to_string().trim_end_matches('/')), ""))
}

fn pair() -> Issued {
    Authority::new().issue(&["test"])
}

#[test]
fn files_that_cannot_be_used_are_told_with_their_line_and_a_remedy_by_check_and_run_alike() {
    let (one, other) = (pair(), pair());
    let files =
        [("a.crt", &*one.cert), ("a.key", &*one.key), ("b.key", &*other.key), ("junk", "no PEM at all\n")];
    let cases = [
        (
            "{ cert: missing.crt, key: a.key }",
            "3:18: listen[0].tls.cert: cannot read missing.crt: no such file; write the path of a PEM file; a relative one \
             begins at the folder of this file",
        ),
        (
            "{ cert: a.crt, key: b.key }",
            "3:30: listen[0].tls.key: b.key cannot be used: the key does not belong to the certificate; use the key that \
             the certificate was issued for; the server's own certificate stands first in its file",
        ),
        (
            "{ cert: a.key, key: a.crt }",
            "3:18: listen[0].tls.cert: a.key cannot be used: the file holds a private key and no certificate; cert and key \
             may be swapped",
        ),
        (
            "{ cert: junk, key: a.key }",
            "3:18: listen[0].tls.cert: junk cannot be used: the file is not PEM; expected text with a part that begins \
             with -----BEGIN",
        ),
        (
            "[{ cert: a.crt, key: a.key }, { cert: a.crt, key: b.key }]",
            "3:60: listen[0].tls[1].key: b.key cannot be used: the key does not belong to the certificate; use the key \
             that the certificate was issued for; the server's own certificate stands first in its file",
        ),
        (
            "{ cert: a.crt }",
            "3:5: listen[0].tls.key: missing; write the path of its private key, for example gateway.key",
        ),
        (
            "",
            "3:5: listen[0].tls: there is no certificate; name a certificate and its key: tls: { cert: gateway.crt, key: \
             gateway.key }",
        ),
        (
            "[]",
            "3:5: listen[0].tls: the list is empty; name a certificate and its key: tls: { cert: gateway.crt, key: \
             gateway.key }",
        ),
    ];
    for (tls, expected) in cases {
        for command in ["check", "run"] {
            let (status, said) = said(command, &files, tls);
            assert_eq!(status, Some(78), "{command} {tls}: {said}");
            let first = said.lines().next().unwrap_or_default();
            assert_eq!(first, format!("statusquo.yaml:{expected}"), "{command} {tls}");
            assert!(said.ends_with("\n1 problem\n"), "{said}");
        }
    }
}

#[test]
fn check_refuses_an_expired_certificate_and_one_that_is_not_valid_yet() {
    let authority = Authority::new();
    for (dates, fault) in [
        (EXPIRED, "expired on 2021-01-01T00:00:00Z"),
        (((2090, 1, 1), (2091, 1, 1)), "is not valid before 2090-01-01T00:00:00Z"),
    ] {
        let issued = authority.issue_for(&["test"], dates);
        let files = [("a.crt", &*issued.cert), ("a.key", &*issued.key)];
        let (status, said) = said("check", &files, "{ cert: a.crt, key: a.key }");
        assert_eq!(status, Some(78), "{said}");
        let expected = format!(
            "statusquo.yaml:3:18: listen[0].tls.cert: the certificate of a.crt {fault}; have it renewed; until then clients \
             refuse it\n"
        );
        assert!(said.starts_with(&expected), "{said}");
    }
    let issued = authority.issue(&["test"]);
    let files = [("a.crt", &*issued.cert), ("a.key", &*issued.key)];
    assert_eq!(said("check", &files, "{ cert: a.crt, key: a.key }"), (Some(0), String::new()));
}
