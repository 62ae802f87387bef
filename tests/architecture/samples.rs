//! Samples for every rule: code that the rule must report, and similar code that it must accept.

use crate::names;
use crate::rules::{self, Offence};

/// The lines that a rule reports.
fn lines(offences: Vec<Offence>) -> Vec<usize> {
    offences.into_iter().map(|offence| offence.line).collect()
}

#[test]
fn file_without_a_module_header_is_reported() {
    assert_eq!(lines(rules::module_header("src/a.rs", "use std::fmt;\n//! late")), [1]);
    assert_eq!(lines(rules::module_header("src/a.rs", "")), [1]);
    assert_eq!(lines(rules::module_header("src/a.rs", "//! What it is.\n")), []);
}

#[test]
fn file_of_601_lines_is_reported_and_one_of_600_is_not() {
    assert_eq!(lines(rules::file_length("src/a.rs", &"x\n".repeat(601))), [601]);
    assert_eq!(lines(rules::file_length("src/a.rs", &"x\n".repeat(600))), []);
}

#[test]
fn generic_name_is_reported_for_file_folder_and_module() {
    assert_eq!(lines(rules::generic_name("src/proxy/http_utils.rs", "")), [1]);
    assert_eq!(lines(rules::generic_name("tests/common/mod.rs", "")), [1]);
    assert_eq!(lines(rules::generic_name("src/a.rs", "\nmod helper {}")), [2]);
    assert_eq!(lines(rules::generic_name("src/commonwealth.rs", "mod utility; // util")), []);
}

#[test]
fn todo_markers_are_reported_in_comments_and_code() {
    let later =
        concat!("// TO", "DO: more\nfn a() { to", "do!() }\nfn b() { unimple", "mented!(\"later\") }");
    assert_eq!(lines(rules::no_todo_markers("src/a.rs", later)), [1, 2, 3]);
    assert_eq!(lines(rules::no_todo_markers("src/a.rs", "// mastodon\nlet todo_list = 1;")), []);
}

#[test]
fn upward_import_is_reported_in_every_spelling() {
    let reported = |text: &str| lines(rules::import_direction("src/contract/policy.rs", text));
    assert_eq!(reported("//!\nuse crate::config::Config;"), [2]);
    assert_eq!(reported("use crate::{\n contract::Cause,\n telemetry::{self, metrics},\n};"), [3]);
    assert_eq!(reported("fn a(c: &crate::snapshot::Snapshot) {}"), [1]);
    assert_eq!(reported("use super::super::upstream::Server;"), [1]);
    assert_eq!(reported("mod inner {\n use super::super::super::upstream::Server;\n}"), [2]);
    assert_eq!(reported("use statusquo::server;"), [1]);
    assert_eq!(reported("use crate::*;"), [1]);
    assert_eq!(lines(rules::import_direction("src/contract/mod.rs", "use super::proxy::Gateway;")), [1]);
    assert_eq!(lines(rules::import_direction("src/proxy/local_reply.rs", "use crate::admin::Page;")), [1]);
    assert_eq!(lines(rules::import_direction("src/conformance/mod.rs", "use crate::config::Config;")), [1]);
    assert_eq!(lines(rules::import_direction("src/attic/mod.rs", "")), [1], "a module without a row");
    assert_eq!(lines(rules::import_direction("src/lib.rs", "pub mod a;\nfn b() {}")), [2]);
}

#[test]
fn downward_import_is_accepted_at_any_depth() {
    let along = |path: &str, text: &str| lines(rules::import_direction(path, text));
    assert_eq!(
        along("src/cli/run.rs", "use crate::contract::Cause;\nuse crate::conformance::ScriptedUpstream;"),
        []
    );
    assert_eq!(
        along("src/proxy/local_reply.rs", "use crate::{contract::{Cause, reply}, config, proxy::relay};"),
        []
    );
    assert_eq!(along("src/contract/policy.rs", "use super::fault::Cause;\nuse crate::contract::code;"), []);
    assert_eq!(along("src/contract/policy.rs", "mod inner {\n use super::super::fault::Cause;\n}"), []);
    assert_eq!(along("src/contract/policy.rs", "//! See [`crate::server`].\nlet a = \"crate::server\";"), []);
    assert_eq!(along("src/contract/policy.rs", "#[cfg(test)]\nmod tests { use crate::config::Config; }"), []);
    assert_eq!(along("src/contract/policy.rs", "let d = other_crate::server::x(); pub(crate) fn a() {}"), []);
}

#[test]
fn system_access_in_a_pure_module_is_reported() {
    let impure = |text: &str| lines(rules::pure_modules("src/contract/reply.rs", text));
    assert_eq!(impure("use std::{fmt,\n fs::File};"), [2]);
    assert_eq!(impure("let now = std::time::SystemTime::now();"), [1]);
    assert_eq!(impure("use std::time::Instant;"), [1]);
    assert_eq!(impure("\ntracing::warn!(\"x\");"), [2]);
    assert_eq!(impure("use tokio::time;"), [1]);
    assert_eq!(impure("use std::net::{IpAddr,\n TcpStream};"), [2]);
    assert_eq!(impure("let home = ::std::env::var(\"HOME\");"), [1]);
    assert_eq!(
        impure("use std::{fmt, time::Duration}; // no tokio, no tracing\nlet t = \"prometheus\";"),
        []
    );
    assert_eq!(impure("fn a(now: SystemTime) { facts.tracing.get(); }"), []);
    for path in ["src/server/drain.rs", "src/limit/redis/connection.rs"] {
        assert_eq!(lines(rules::pure_modules(path, "use tokio::time;")), [], "{path}");
    }
    assert_eq!(lines(rules::pure_modules("src/limit/window.rs", "use tokio::time;")), [1]);
}

#[test]
fn catch_all_arm_over_an_internal_enum_is_reported() {
    let named = |text: &str| lines(rules::no_catch_all("src/contract/policy.rs", text));
    let text = "match cause {\n Cause::A => 1,\n Cause::B => { if x { 2 } else { 3 } }\n _ => 4,\n}";
    assert_eq!(named(text), [4]);
    assert_eq!(named("match (cause, x) {\n (Self::A, 1) => 1,\n _ if x => 3,\n (_, _) => 2 }"), [3]);
    assert_eq!(
        named("match a {\n 1 => match b {\n Phase::A(_) => c(|d| d, 1),\n _ => 2,\n },\n _ => 3,\n}"),
        [4]
    );
    assert_eq!(lines(rules::no_catch_all("src/proxy/classify.rs", text)), []);
}

#[test]
fn catch_all_arm_over_numbers_strings_and_external_enums_is_accepted() {
    let named = |text: &str| lines(rules::no_catch_all("src/contract/policy.rs", text));
    assert_eq!(named("match x { Some(_) => 1, None => 2 } // _ => 3"), []);
    assert_eq!(named("match status { 400 | 402 => Cause::A, 500..=599 => Cause::B, _ => Cause::C }"), []);
    assert_eq!(named("match name { \"a\" => Member::A, _ => Member::B }"), []);
    assert_eq!(named("match value { Value::Null => 1, _ => 2 }"), []);
    assert_eq!(named("match a { Cause::A => match b { 1 => 2, _ => 3 }, Cause::B => 4 }"), []);
}

#[test]
fn pingora_import_outside_allowed_modules_is_reported() {
    for path in ["src/config/mod.rs", "src/upstream/balance.rs", "src/main.rs", "src/snapshot/mod.rs"] {
        assert_eq!(lines(rules::pingora_imports(path, "//!\nuse pingora::Error;")), [2], "{path}");
        assert_eq!(lines(rules::pingora_imports(path, "fn a(e: &pingora_core::Error) {}")), [1], "{path}");
    }
    for path in ["src/proxy/upstream_conn/mod.rs", "src/upstream/transport.rs", "src/server/boot.rs"] {
        assert_eq!(lines(rules::pingora_imports(path, "use pingora::Error;")), [], "{path}");
    }
    assert_eq!(
        lines(rules::pingora_imports("src/config/mod.rs", "// unlike pingora\nlet a = \"pingora\";")),
        []
    );
}

#[test]
fn client_write_outside_allowed_modules_is_reported() {
    let write = "client\n    .send_data(bytes);\nclient.queue_response_end();";
    for path in [
        "src/proxy/classify.rs",
        "src/proxy/connection/mod.rs",
        "src/admin/telemetry.rs",
        "src/server/drain.rs",
    ] {
        assert_eq!(lines(rules::client_writes(path, write)), [2, 3], "{path}");
    }
    assert_eq!(
        lines(rules::client_writes("src/proxy/connection/h2/mod.rs", "respond.send_response(head, true)")),
        [1]
    );
    assert_eq!(lines(rules::client_writes("src/proxy/tunnel.rs", "let send = SendStream::send_data;")), [1]);
    let moves = "upstream.io.move_input_to(&mut client.io);";
    assert_eq!(lines(rules::client_writes("src/proxy/tunnel.rs", moves)), []);
    for path in ["src/proxy/relay.rs", "src/proxy/local_reply.rs", "src/proxy/upstream_conn/mod.rs"] {
        assert_eq!(lines(rules::client_writes(path, moves)), [1], "{path}");
    }
    for path in ["src/proxy/local_reply.rs", "src/proxy/relay.rs", "src/proxy/downstream/h2.rs"] {
        assert_eq!(lines(rules::client_writes(path, write)), [], "{path}");
    }
    assert_eq!(
        lines(rules::client_writes("src/proxy/classify.rs", "// .send_data(\nlet send_data = 1;")),
        []
    );
}

#[test]
fn pingora_session_write_is_reported_even_in_local_reply() {
    let write = "session\n    .write_response_header(head)\n    .await";
    assert_eq!(lines(rules::client_writes("src/proxy/local_reply.rs", write)), [2]);
    assert_eq!(lines(rules::client_writes("src/proxy/downstream/h1.rs", "session.respond_error(502)")), [1]);
}

#[test]
fn environment_read_outside_cli_is_reported() {
    let read = "let home =\n std::env::var_os(\"HOME\");";
    assert_eq!(lines(rules::environment_reads("src/config/parse_yaml.rs", read)), [2]);
    assert_eq!(
        lines(rules::environment_reads("src/config/parse_yaml.rs", "use std::env;\nenv::args()")),
        [2]
    );
    assert_eq!(lines(rules::environment_reads("src/cli/run.rs", read)), []);
    assert_eq!(
        lines(rules::environment_reads("src/config/parse_yaml.rs", "let env: &Env; env.var(name)")),
        []
    );
}

#[test]
fn machine_specific_path_is_reported() {
    let (work, root) = (concat!("/wo", "rk/"), concat!("/ro", "ot/"));
    let named = |text: &str| lines(rules::machine_paths("docs/a.md", text));
    assert_eq!(named(&format!("see\n{work}main/src")), [2]);
    assert_eq!(named(&format!("cd {root}.cargo")), [1]);
    assert_eq!(named(&format!("see ../shared{work} and https://example.com{root}")), []);
}

#[test]
fn forbidden_word_is_reported_as_a_part_of_any_identifier() {
    let reported = |text: &str| lines(names::forbidden_words("src/a.rs", text));
    assert_eq!(reported("fn a() {\n    let told = 1;\n}"), [2]);
    assert_eq!(reported("struct MisfitTable;\nfn pass_ledger() {}\nconst LAST_FAREWELL: u8 = 1;"), [1, 2, 3]);
    assert_eq!(reported("use crate::dress;\nmod torn_head;\nlet h2Stranger = 1;"), [1, 2, 3]);
    assert_eq!(reported("enum HTTPFate {}\nlet deeds = 2;\nfn a<'worn>() {}"), [1, 2, 3]);
}

#[test]
fn forbidden_word_is_accepted_inside_words_comments_and_literals() {
    let text = "//! It was told.\nlet address = \"told\"; // torn\nfn details() {}\nstruct Background; let fatel = underground;";
    assert_eq!(lines(names::forbidden_words("src/a.rs", text)), []);
}

#[test]
fn type_name_defined_in_three_files_is_reported_in_each() {
    let files = [
        ("src/a.rs", "//! A.\npub struct Entry;"),
        ("tests/b.rs", "enum Entry { A }\nmod c { pub(crate) trait Entry {} }"),
        ("benches/d.rs", "#[derive(Debug)]\ntype Entry<T> = Vec<T>;"),
    ];
    let offences = names::repeated_type_names(&files);
    let places: Vec<_> = offences.iter().map(|offence| (offence.path.as_str(), offence.line)).collect();
    assert_eq!(places, [("src/a.rs", 2), ("tests/b.rs", 1), ("tests/b.rs", 2), ("benches/d.rs", 2)]);
    assert_eq!(names::repeated_type_names(&files[..2]), []);
}

#[test]
fn associated_types_and_uses_of_a_type_are_not_definitions() {
    let associated = "impl<T> Iterator for A<T> { type Item = u8; fn a() { struct B { c: u8 } } }\ntrait C: D { type Item; }";
    let used = "use e::Item;\nfn f(i: Item) -> impl Into<Item> { let g = h.r#type; Item {} } // struct Item";
    let files = [("src/a.rs", associated), ("src/b.rs", associated), ("src/c.rs", used), ("src/d.rs", used)];
    let names: Vec<_> = names::repeated_type_names(&[&files[..], &[("src/e.rs", associated)]].concat())
        .into_iter()
        .map(|offence| offence.what.split('`').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(names, ["B", "B", "B", "C", "C", "C"]);
}
