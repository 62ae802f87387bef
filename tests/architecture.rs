//! The walls of the house, held by reading its sources: the rules of ARCHITECTURE.md that no type can hold.
//!
//! It uses `std` alone and needs no other crate, the product included: `.ci/check` builds it by `rustc --test` in seconds.
//! The rules are in `architecture/rules.rs`, the proof that each can fail in `architecture/samples.rs`. Here they meet the
//! tree: a failure prints every offending line as `path:line: what is wrong`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]
#![allow(clippy::disallowed_methods)] // it runs git, and reads the environment

#[path = "architecture/lines.rs"]
mod lines;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/samples.rs"]
mod samples;
#[path = "architecture/tokens.rs"]
mod tokens;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use rules::Offence;

/// A file of the tree: its path from the top and its text.
struct File {
    path: String,
    text: String,
}

/// The top of the repository. Read when it runs: `.ci/check` keeps the executable, and folders are moved and copied.
fn top() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Every Rust file under `folder`.
fn rust_files(folder: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut open = vec![top().join(folder)];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap_or_else(|e| panic!("{}: {e}", next.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(File { path: relative(&path), text: std::fs::read_to_string(&path).unwrap() });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!files.is_empty(), "no Rust file under {folder}");
    files
}

/// The product's files: those under `src` that do not exist only in tests.
fn product() -> Vec<File> {
    let all = rust_files("src");
    let mut only_tests = BTreeSet::new();
    for file in &all {
        let folder = Path::new(&file.path).parent().unwrap();
        let stem = Path::new(&file.path).file_stem().unwrap();
        for module in tokens::test_modules(&file.text) {
            only_tests.insert(folder.join(&module));
            only_tests.insert(folder.join(stem).join(&module)); // `mod tests;` in a.rs is a/tests.rs
        }
    }
    all.into_iter().filter(|file| !only_tests.contains(Path::new(&file.path))).collect()
}

/// What is committed; the tree itself where there is no git.
fn tracked() -> Vec<PathBuf> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(top()).output();
    let listed = listed.ok().filter(|out| out.status.success() && !out.stdout.is_empty());
    let Some(listed) = listed else {
        return ["src", "tests", "benches"]
            .iter()
            .flat_map(|f| rust_files(f))
            .map(|file| top().join(file.path))
            .collect();
    };
    let names = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    names.split_terminator('\0').map(|name| top().join(name)).collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(top()).unwrap().to_str().expect("paths are UTF-8").to_owned()
}

/// Applies `rule` to every file and fails with all offending lines.
fn hold(files: &[File], rule: fn(&str, &str) -> Vec<Offence>) {
    let offences: Vec<String> = files
        .iter()
        .flat_map(|file| rule(&file.path, &file.text))
        .map(|offence| offence.to_string())
        .collect();
    assert!(offences.is_empty(), "{} offending lines:\n{}", offences.len(), offences.join("\n"));
}

/// Sources, tests and benchmarks together.
fn all_rust() -> Vec<File> {
    ["src", "tests", "benches"].into_iter().flat_map(rust_files).collect()
}

#[test]
fn every_file_opens_with_what_it_is() {
    hold(&all_rust(), rules::header);
}

#[test]
fn no_file_is_longer_than_600_lines() {
    hold(&all_rust(), rules::length);
}

#[test]
fn no_file_or_module_is_called_util_helper_manager_or_common() {
    hold(&all_rust(), rules::name);
}

#[test]
fn nothing_is_left_for_later() {
    hold(&all_rust(), rules::nothing_left_for_later);
}

#[test]
fn imports_point_down_the_arrows_and_never_back() {
    hold(&product(), rules::arrows);
}

#[test]
fn the_pure_rooms_know_no_runtime_clock_or_system() {
    hold(&product(), rules::purity);
}

#[test]
fn the_contract_names_every_variant_that_it_decides_about() {
    hold(&product(), rules::no_catch_all);
}

#[test]
fn pingora_is_named_only_where_it_is_at_home() {
    hold(&product(), rules::pingora_stays_home);
}

#[test]
fn only_the_door_and_the_relay_write_to_clients() {
    hold(&product(), rules::one_door);
}

#[test]
fn only_cli_and_main_read_the_environment() {
    hold(&product(), rules::environment_stays_at_the_edge);
}

#[test]
fn the_rooms_of_the_plan_and_the_rooms_of_the_house_are_the_same() {
    let text = std::fs::read_to_string(top().join("src/lib.rs")).unwrap();
    let code = tokens::of_product(&text);
    let declared: BTreeSet<_> =
        code.windows(2).filter(|p| p[0].text == "mod").map(|p| p[1].text.as_str()).collect();
    let planned: BTreeSet<_> = rules::ARROWS.iter().map(|(room, _)| *room).collect();
    let unplanned: Vec<_> = declared.difference(&planned).collect();
    assert!(unplanned.is_empty(), "src/lib.rs declares rooms without arrows: {unplanned:?}");
    let targets = rules::ARROWS.iter().flat_map(|(_, to)| to.iter().copied());
    assert!(
        targets.clone().all(|room| planned.contains(room)),
        "an arrow leads to a room that is not in the plan"
    );
}

#[test]
fn nothing_committed_names_a_place_of_one_machine() {
    let mut files = Vec::new();
    for path in tracked() {
        // Pictures and the like are not text; a file deleted but not yet committed is not there.
        if let Ok(text) = std::fs::read_to_string(&path) {
            files.push(File { path: relative(&path), text });
        }
    }
    hold(&files, rules::no_path_of_this_machine);
}
