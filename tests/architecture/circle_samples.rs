//! Samples for the rule about import circles: small trees with a circle in every spelling, and trees without one.

use crate::circles::{KnownArrow, arrows, circles};

/// The two ends of each arrow.
fn ends(files: &[(&str, &str)]) -> Vec<(String, String)> {
    arrows(files).into_iter().map(|arrow| (arrow.from, arrow.to)).collect()
}

/// The lines that the rule reports for `src/a/one.rs` with this text, which defines `One`. `src/a/two.rs` names `One`;
/// `src/a/mod.rs` re-exports `Two`, and `src/a/three.rs` re-exports all of `two`.
fn reported(one: &str) -> Vec<(String, usize)> {
    let files = [
        ("src/lib.rs", "mod a;"),
        (
            "src/a/mod.rs",
            "mod one; mod three; mod two; pub(crate) use two::Two as Renamed; pub use self::two::*;",
        ),
        ("src/a/one.rs", one),
        ("src/a/three.rs", "pub(crate) use super::two; pub(super) use two::{Two, two as call};"),
        (
            "src/a/two.rs",
            "use super::one::One;\npub struct Two; pub fn two(_: One) {} pub const TWO: u8 = 2;",
        ),
    ];
    circles(&files, &[]).into_iter().map(|offence| (offence.path, offence.line)).collect()
}

#[test]
fn circle_is_reported_in_every_spelling() {
    for one in [
        "pub struct One;\nuse super::two::Two;",
        "pub struct One;\nuse crate::a::two::{self, Two};",
        "pub struct One;\nuse crate::{a::{two::Two}};",
        "pub struct One;\nfn a(_: crate::a::two::Two) {}",
        "pub struct One;\nfn a() -> Vec<super::two::Two> {}",
        "pub struct One;\nfn a() { use super::two::*; let a = 1; }\nstruct B { c: Two }",
        "use super::two;\nfn a() { two::two(One) }\npub struct One;",
        "use super::two as other;\npub struct One(other::Two);",
        "pub struct One;\nmod inner { fn a(_: super::super::two::Two) {} }",
        "pub struct One;\nuse self::inner::Two; mod inner { pub use super::super::two::Two; }",
        "use super::Renamed;\npub struct One;",
        "use super::Two;\npub struct One;",
        "use crate::a;\npub struct One(a::Renamed);",
        "use super::three::call;\npub struct One;",
        "pub struct One;\nfn a() { super::three::two::two(One) }",
        "use super::*;\npub struct One(Two);",
    ] {
        assert_eq!(reported(one).len(), 1, "{one}: {:?}", reported(one));
    }
    assert_eq!(reported("pub struct One;\n\nuse super::two::Two;"), [("src/a/one.rs".to_owned(), 3)]);
}

#[test]
fn comment_literal_test_and_name_of_another_crate_make_no_circle() {
    for one in [
        "// super::two::Two\npub struct One;",
        "pub struct One(&'static str); const A: One = One(\"super::two::Two\");",
        "pub struct One;\n#[cfg(test)]\nmod tests { use super::super::two::Two; }",
        "pub struct One;\nuse ::two::Two;\nfn a() { ::two::two() }",
        "use two::Two;\npub struct One;\nfn a() { let two = One; two.two(); }",
        "use super::two;\npub struct One;",
        "use super::*;\npub struct One { two: u8 }",
    ] {
        let expected: &[(String, usize)] = &[];
        assert_eq!(reported(one), expected, "{one}");
    }
}

#[test]
fn module_and_its_descendants_may_import_each_other() {
    let files = [
        ("src/a.rs", "mod b; use b::c::C; pub struct A;"),
        ("src/a/b.rs", "mod c; use super::A; use c::C;"),
        ("src/a/b/c.rs", "pub struct C; use super::super::A; use crate::a::b;"),
    ];
    assert_eq!(ends(&files), []);
}

#[test]
fn circle_of_three_and_circle_through_a_descendant_are_reported_once() {
    let three = [
        ("src/a.rs", "use crate::b::B;\npub struct A;"),
        ("src/b.rs", "use crate::c::C;\npub struct B;"),
        ("src/c.rs", "use crate::a::A;\npub struct C;"),
    ];
    let offences = circles(&three, &[]);
    assert_eq!(offences.len(), 1);
    assert_eq!(
        offences[0].to_string(),
        "src/a.rs:1: import circle: src/a.rs:1 names `crate::b::B` of src/b.rs, src/b.rs:1 names `crate::c::C` of \
         src/c.rs, src/c.rs:1 names `crate::a::A` of src/a.rs; move an item below both"
    );
    let descendant = [
        ("src/a.rs", "use crate::b::B;\npub struct A;"),
        ("src/b.rs", "mod c; pub struct B;"),
        ("src/b/c.rs", "use crate::a::A;"),
    ];
    assert_eq!(circles(&descendant, &[]).len(), 1);
}

#[test]
fn known_arrow_is_accepted_only_while_it_closes_a_circle() {
    let known: &[KnownArrow] = &[("src/a.rs", "src/b.rs", "a reason")];
    let a = ("src/a.rs", "use crate::b::B; pub struct A;");
    assert_eq!(circles(&[a, ("src/b.rs", "use crate::a::A; pub struct B;")], known), []);
    for files in [&[a, ("src/b.rs", "pub struct B;")][..], &[("src/a.rs", ""), ("src/b.rs", "")]] {
        assert_eq!(circles(files, known).len(), 1, "the list only shrinks");
    }
}

#[test]
fn modules_that_import_each_other_completely_are_read_to_the_end() {
    let files = [("src/a.rs", "pub use crate::b::*; fn c() { d() }"), ("src/b.rs", "pub use crate::a::*;")];
    assert_eq!(ends(&files), []);
}
