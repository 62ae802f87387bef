//! Equivalent paths normalise equally; different paths stay different.

use proptest::prelude::*;

use super::*;

#[test]
fn paths_are_normalised() {
    for (path, normal) in [
        ("/", "/"),
        ("//", "/"),
        ("///admin//x/", "/admin/x/"),
        ("/%61dmin", "/admin"),
        ("/%41%7e%2D%5F%2e", "/A~-_."),
        ("/a%2fb", "/a%2Fb"),
        ("/%2f/", "/%2F/"),
        ("/a%c3%a9", "/a%C3%A9"),
        ("/a\u{e9}", "/a%C3%A9"),
        ("/%2561", "/%2561"),
        ("/%25%36%31", "/%2561"),
        ("/./a/../b", "/./a/../b"),
        ("/a%3Bb;c", "/a%3Bb;c"),
        ("/a%", "/a%25"),
        ("/%zz", "/%25zz"),
        ("*", "*"),
        ("", ""),
    ] {
        assert_eq!(normalise(path.as_bytes()), normal, "{path}");
    }
}

#[test]
fn normalised_path_is_borrowed() {
    for path in ["/", "/v1/account/sessions/email", "/a%2Fb/%C3%A9", "/a b", "/x/../y"] {
        assert!(matches!(normalise(path.as_bytes()), Cow::Borrowed(_)), "{path}");
    }
}

#[test]
fn encoded_slashes_are_decoded_and_normalised_again() {
    for (path, decoded) in [
        ("/a/b", None),
        ("/a%20b", None),
        ("/a%252Fb", None),
        ("/a%2Fb", Some("/a/b")),
        ("/%2Fadmin", Some("/admin")),
        ("/a%2F%2Fb%20c%2F", Some("/a/b%20c/")),
    ] {
        assert_eq!(decode_slashes(path).as_deref(), decoded, "{path}");
    }
}

proptest! {
    #[test]
    fn normalisation_is_idempotent(path in "[/%a-fA-F0-9.;\u{e9}]{0,24}") {
        let once = normalise(path.as_bytes()).into_owned();
        prop_assert!(once.is_ascii());
        prop_assert!(matches!(normalise(once.as_bytes()), Cow::Borrowed(same) if same == once));
    }

    #[test]
    fn encoded_unreserved_bytes_normalise_equally(path in "/[a-z/.~]{0,16}", at in any::<prop::sample::Index>()) {
        let at = at.index(path.len());
        let octet = path.as_bytes()[at];
        prop_assume!(octet != b'/');
        let encoded = format!("{}%{octet:02x}{}", &path[..at], &path[at + 1..]);
        prop_assert_eq!(normalise(encoded.as_bytes()), normalise(path.as_bytes()));
    }

    #[test]
    fn arbitrary_bytes_have_a_normal_form(path in prop::collection::vec(any::<u8>(), 0..32)) {
        let once = normalise(&path).into_owned();
        prop_assert!(matches!(normalise(once.as_bytes()), Cow::Borrowed(_)));
    }
}
