//! Bad code for every rule, and good code beside it: a rule that cannot say no guards nothing.

use crate::rules::{self, Offence};

/// The lines that a rule complains about.
fn lines(offences: Vec<Offence>) -> Vec<usize> {
    offences.into_iter().map(|offence| offence.line).collect()
}

#[test]
fn a_file_without_a_header_is_named() {
    assert_eq!(lines(rules::header("src/a.rs", "use std::fmt;\n//! late")), [1]);
    assert_eq!(lines(rules::header("src/a.rs", "")), [1]);
    assert_eq!(lines(rules::header("src/a.rs", "//! What it is.\n")), []);
}

#[test]
fn a_file_of_601_lines_is_named_and_one_of_600_is_not() {
    assert_eq!(lines(rules::length("src/a.rs", &"x\n".repeat(601))), [601]);
    assert_eq!(lines(rules::length("src/a.rs", &"x\n".repeat(600))), []);
}

#[test]
fn a_name_that_says_nothing_is_named_as_file_folder_and_module() {
    assert_eq!(lines(rules::name("src/exchange/http_utils.rs", "")), [1]);
    assert_eq!(lines(rules::name("tests/common/mod.rs", "")), [1]);
    assert_eq!(lines(rules::name("src/a.rs", "\nmod helper {}")), [2]);
    assert_eq!(lines(rules::name("src/commonwealth.rs", "mod utility; // util")), []);
}

#[test]
fn what_is_left_for_later_is_named_in_comments_and_in_code() {
    let later =
        concat!("// TO", "DO: more\nfn a() { to", "do!() }\nfn b() { unimple", "mented!(\"later\") }");
    assert_eq!(lines(rules::nothing_left_for_later("src/a.rs", later)), [1, 2, 3]);
    assert_eq!(lines(rules::nothing_left_for_later("src/a.rs", "// mastodon\nlet todo_list = 1;")), []);
}

#[test]
fn an_import_against_the_arrows_is_named_in_every_spelling() {
    let against = |text: &str| lines(rules::arrows("src/contract/policy.rs", text));
    assert_eq!(against("//!\nuse crate::config::Config;"), [2]);
    assert_eq!(against("use crate::{\n contract::Cause,\n observe::{self, metrics},\n};"), [3]);
    assert_eq!(against("fn a(c: &crate::snapshot::Snapshot) {}"), [1]);
    assert_eq!(against("use super::super::upstream::Server;"), [1]);
    assert_eq!(against("mod inner {\n use super::super::super::upstream::Server;\n}"), [2]);
    assert_eq!(against("use statusquo::server;"), [1]);
    assert_eq!(against("use crate::*;"), [1]);
    assert_eq!(lines(rules::arrows("src/contract/mod.rs", "use super::exchange::Door;")), [1]);
    assert_eq!(lines(rules::arrows("src/exchange/door.rs", "use crate::admin::Page;")), [1]);
    assert_eq!(lines(rules::arrows("src/rehearse/mod.rs", "use crate::config::Config;")), [1]);
    assert_eq!(lines(rules::arrows("src/attic/mod.rs", "")), [1], "a room that is not in the plan");
    assert_eq!(lines(rules::arrows("src/lib.rs", "pub mod a;\nfn b() {}")), [2]);
}

#[test]
fn an_import_along_the_arrows_is_left_alone_however_far_down() {
    let along = |path: &str, text: &str| lines(rules::arrows(path, text));
    assert_eq!(along("src/cli/run.rs", "use crate::contract::Cause;\nuse crate::rehearse::Upstream;"), []);
    assert_eq!(
        along("src/exchange/door.rs", "use crate::{contract::{Cause, reply}, config, exchange::relay};"),
        []
    );
    assert_eq!(along("src/contract/policy.rs", "use super::fault::Cause;\nuse crate::contract::code;"), []);
    assert_eq!(along("src/contract/policy.rs", "mod inner {\n use super::super::fault::Cause;\n}"), []);
    assert_eq!(along("src/contract/policy.rs", "//! See [`crate::server`].\nlet a = \"crate::server\";"), []);
    assert_eq!(along("src/contract/policy.rs", "#[cfg(test)]\nmod tests { use crate::config::Config; }"), []);
    assert_eq!(along("src/contract/policy.rs", "let d = other_crate::server::x(); pub(crate) fn a() {}"), []);
}

#[test]
fn a_pure_room_that_touches_the_machine_is_named() {
    let impure = |text: &str| lines(rules::purity("src/contract/reply.rs", text));
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
    assert_eq!(lines(rules::purity("src/server/drain.rs", "use tokio::time;")), []);
}

#[test]
fn a_catch_all_arm_over_an_enum_of_ours_is_named() {
    let named = |text: &str| lines(rules::no_catch_all("src/contract/policy.rs", text));
    let text = "match cause {\n Cause::A => 1,\n Cause::B => { if x { 2 } else { 3 } }\n _ => 4,\n}";
    assert_eq!(named(text), [4]);
    assert_eq!(named("match (cause, x) {\n (Self::A, 1) => 1,\n _ if x => 3,\n (_, _) => 2 }"), [3]);
    assert_eq!(
        named("match a {\n 1 => match b {\n Phase::A(_) => c(|d| d, 1),\n _ => 2,\n },\n _ => 3,\n}"),
        [4]
    );
    assert_eq!(lines(rules::no_catch_all("src/exchange/judge.rs", text)), []);
}

#[test]
fn a_catch_all_arm_over_numbers_texts_and_foreign_enums_is_left_alone() {
    let named = |text: &str| lines(rules::no_catch_all("src/contract/policy.rs", text));
    assert_eq!(named("match x { Some(_) => 1, None => 2 } // _ => 3"), []);
    assert_eq!(named("match status { 400 | 402 => Cause::A, 500..=599 => Cause::B, _ => Cause::C }"), []);
    assert_eq!(named("match name { \"a\" => Member::A, _ => Member::B }"), []);
    assert_eq!(named("match value { Value::Null => 1, _ => 2 }"), []);
    assert_eq!(named("match a { Cause::A => match b { 1 => 2, _ => 3 }, Cause::B => 4 }"), []);
}

#[test]
fn pingora_outside_its_rooms_is_named() {
    for path in ["src/config/mod.rs", "src/upstream/balance.rs", "src/main.rs", "src/snapshot/mod.rs"] {
        assert_eq!(lines(rules::pingora_stays_home(path, "//!\nuse pingora::Error;")), [2], "{path}");
        assert_eq!(lines(rules::pingora_stays_home(path, "fn a(e: &pingora_core::Error) {}")), [1], "{path}");
    }
    for path in ["src/exchange/peer.rs", "src/upstream/transport.rs", "src/server/boot.rs"] {
        assert_eq!(lines(rules::pingora_stays_home(path, "use pingora::Error;")), [], "{path}");
    }
    assert_eq!(
        lines(rules::pingora_stays_home("src/config/mod.rs", "// unlike pingora\nlet a = \"pingora\";")),
        []
    );
}

#[test]
fn a_write_to_a_client_beside_the_door_is_named() {
    let write = "client\n    .send_data(bytes);\nclient.send_end();";
    for path in [
        "src/exchange/judge.rs",
        "src/exchange/connection.rs",
        "src/admin/telemetry.rs",
        "src/server/drain.rs",
    ] {
        assert_eq!(lines(rules::one_door(path, write)), [2, 3], "{path}");
    }
    assert_eq!(
        lines(rules::one_door("src/exchange/connection_h2.rs", "respond.send_response(head, true)")),
        [1]
    );
    assert_eq!(lines(rules::one_door("src/exchange/tunnel.rs", "let send = SendStream::send_data;")), [1]);
    let moves = "peer.wire.pass_to(&mut client.wire);";
    assert_eq!(lines(rules::one_door("src/exchange/tunnel.rs", moves)), []);
    for path in ["src/exchange/relay.rs", "src/exchange/door.rs", "src/exchange/peer.rs"] {
        assert_eq!(lines(rules::one_door(path, moves)), [1], "{path}");
    }
    for path in ["src/exchange/door.rs", "src/exchange/relay.rs", "src/exchange/client_h2.rs"] {
        assert_eq!(lines(rules::one_door(path, write)), [], "{path}");
    }
    assert_eq!(lines(rules::one_door("src/exchange/judge.rs", "// .send_data(\nlet send_data = 1;")), []);
}

#[test]
fn a_write_by_pingoras_own_session_is_named_even_in_the_door() {
    let write = "session\n    .write_response_header(head)\n    .await";
    assert_eq!(lines(rules::one_door("src/exchange/door.rs", write)), [2]);
    assert_eq!(lines(rules::one_door("src/exchange/client_h1.rs", "session.respond_error(502)")), [1]);
}

#[test]
fn a_reader_of_the_environment_beside_the_edge_is_named() {
    let read = "let home =\n std::env::var_os(\"HOME\");";
    assert_eq!(lines(rules::environment_stays_at_the_edge("src/config/parse.rs", read)), [2]);
    assert_eq!(
        lines(rules::environment_stays_at_the_edge("src/config/parse.rs", "use std::env;\nenv::args()")),
        [2]
    );
    assert_eq!(lines(rules::environment_stays_at_the_edge("src/cli/run.rs", read)), []);
    assert_eq!(
        lines(rules::environment_stays_at_the_edge("src/config/parse.rs", "let env: &Env; env.var(name)")),
        []
    );
}

#[test]
fn a_path_of_one_machine_is_named() {
    let (work, root) = (concat!("/wo", "rk/"), concat!("/ro", "ot/"));
    let named = |text: &str| lines(rules::no_path_of_this_machine("docs/a.md", text));
    assert_eq!(named(&format!("see\n{work}main/src")), [2]);
    assert_eq!(named(&format!("cd {root}.cargo")), [1]);
    assert_eq!(named(&format!("see ../shared{work} and https://example.com{root}")), []);
}
