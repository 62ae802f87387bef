//! Checks the rules of ARCHITECTURE.md that the compiler cannot check, by reading the source files.
//!
//! It uses `std` alone, not even the `statusquo` crate: `.ci/check` builds it with `rustc --test` in seconds. The rules
//! are in `architecture/rules.rs` and `architecture/names.rs`; `architecture/samples.rs` shows that each rule can fail.
//! The tests here apply them to the tree: a failure prints every offending line as `path:line: what is wrong`.

#![allow(unreachable_pub)] // a test crate exports nothing
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]
#![allow(clippy::disallowed_methods)] // runs git and reads the environment

#[path = "architecture/circle_samples.rs"]
mod circle_samples;
#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/lines.rs"]
mod lines;
#[path = "architecture/names.rs"]
mod names;
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

/// A file of the tree.
struct SourceFile {
    /// Relative to the repository root.
    path: String,
    text: String,
}

/// The repository root. Read at run time: `.ci/check` keeps the executable, and checkouts are moved and copied.
fn repository_root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Every Rust file under `folder`.
fn rust_files(folder: &str) -> Vec<SourceFile> {
    let mut files = Vec::new();
    let mut open = vec![repository_root().join(folder)];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap_or_else(|e| panic!("{}: {e}", next.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(SourceFile {
                    path: relative(&path),
                    text: std::fs::read_to_string(&path).unwrap(),
                });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!files.is_empty(), "no Rust file under {folder}");
    files
}

/// The files under `src`, without those that are compiled only for tests.
fn product_files() -> Vec<SourceFile> {
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

/// The files in git; without git, every Rust file.
fn tracked_files() -> Vec<PathBuf> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(repository_root()).output();
    let listed = listed.ok().filter(|out| out.status.success() && !out.stdout.is_empty());
    let Some(listed) = listed else {
        return ["src", "tests", "benches"]
            .iter()
            .flat_map(|f| rust_files(f))
            .map(|file| repository_root().join(file.path))
            .collect();
    };
    let names = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    names.split_terminator('\0').map(|name| repository_root().join(name)).collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(repository_root()).unwrap().to_str().expect("paths are UTF-8").to_owned()
}

/// Applies `rule` to every file and fails with all offending lines.
fn assert_no_offences(files: &[SourceFile], rule: fn(&str, &str) -> Vec<Offence>) {
    assert_none(files.iter().flat_map(|file| rule(&file.path, &file.text)));
}

fn assert_none(offences: impl IntoIterator<Item = Offence>) {
    let offences: Vec<String> = offences.into_iter().map(|offence| offence.to_string()).collect();
    assert!(offences.is_empty(), "{} offending lines:\n{}", offences.len(), offences.join("\n"));
}

/// Sources, tests and benchmarks together.
fn all_rust() -> Vec<SourceFile> {
    ["src", "tests", "benches"].into_iter().flat_map(rust_files).collect()
}

#[test]
fn files_open_with_a_module_header() {
    assert_no_offences(&all_rust(), rules::module_header);
}

#[test]
fn files_have_at_most_600_lines() {
    assert_no_offences(&all_rust(), rules::file_length);
}

#[test]
fn file_and_module_names_avoid_util_helper_manager_and_common() {
    assert_no_offences(&all_rust(), rules::generic_name);
}

#[test]
fn identifiers_contain_no_forbidden_word() {
    assert_no_offences(&all_rust(), names::forbidden_words);
}

#[test]
fn type_names_are_defined_in_at_most_two_files() {
    let files = all_rust();
    let files: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    assert_none(names::repeated_type_names(&files));
}

#[test]
fn source_contains_no_todo_markers() {
    assert_no_offences(&all_rust(), rules::no_todo_markers);
}

#[test]
fn imports_follow_the_declared_layering() {
    assert_no_offences(&product_files(), rules::import_direction);
}

#[test]
fn files_import_each_other_in_no_circle() {
    let files = product_files();
    let files: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    assert_none(circles::circles(&files, circles::KNOWN));
}

#[test]
fn pure_modules_use_no_runtime_clock_or_system() {
    assert_no_offences(&product_files(), rules::pure_modules);
}

#[test]
fn contract_matches_every_variant_without_a_catch_all() {
    assert_no_offences(&product_files(), rules::no_catch_all);
}

#[test]
fn pingora_is_imported_only_by_allowed_modules() {
    assert_no_offences(&product_files(), rules::pingora_imports);
}

#[test]
fn only_local_reply_and_relay_write_to_clients() {
    assert_no_offences(&product_files(), rules::client_writes);
}

#[test]
fn only_cli_and_main_read_environment_variables() {
    assert_no_offences(&product_files(), rules::environment_reads);
}

#[test]
fn declared_and_existing_modules_are_the_same() {
    let text = std::fs::read_to_string(repository_root().join("src/lib.rs")).unwrap();
    let code = tokens::product_tokens(&text);
    let declared: BTreeSet<_> =
        code.windows(2).filter(|p| p[0].text == "mod").map(|p| p[1].text.as_str()).collect();
    let planned: BTreeSet<_> = rules::ALLOWED_IMPORTS.iter().map(|(module, _)| *module).collect();
    let unplanned: Vec<_> = declared.difference(&planned).collect();
    assert!(unplanned.is_empty(), "src/lib.rs declares modules without allowed imports: {unplanned:?}");
    let targets = rules::ALLOWED_IMPORTS.iter().flat_map(|(_, to)| to.iter().copied());
    assert!(
        targets.clone().all(|module| planned.contains(module)),
        "ALLOWED_IMPORTS names a module that has no row"
    );
}

#[test]
fn architecture_page_has_the_rooms_and_imports_of_the_rules() {
    let page = std::fs::read_to_string(repository_root().join("ARCHITECTURE.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let in_table: BTreeSet<&str> = rows.map(|(module, _)| module).collect();
    let modules: BTreeSet<&str> = rules::ALLOWED_IMPORTS.iter().map(|(module, _)| *module).collect();
    assert_eq!(in_table, modules, "the table of modules");

    let mut listed = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with(char::is_lowercase)) {
        let Some((from, to)) = line.split_once("> ").filter(|(from, _)| from.ends_with('-')) else {
            continue;
        };
        let from = from.trim_end_matches('-').trim().split(", ");
        listed.extend(from.flat_map(|from| to.split(", ").map(move |to| (from, to))));
    }
    let allowed = rules::ALLOWED_IMPORTS.iter().flat_map(|(from, to)| to.iter().map(move |to| (*from, *to)));
    assert_eq!(listed, allowed.collect(), "the list of imports");
}

#[test]
fn paths_named_by_the_rules_exist() {
    for path in rules::named_paths() {
        assert!(
            repository_root().join(path).exists(),
            "{path} does not exist: the rule that names it has no effect"
        );
    }
}

#[test]
fn committed_files_contain_no_machine_specific_path() {
    let mut files = Vec::new();
    for path in tracked_files() {
        // Skips binary files, and files deleted but not committed.
        if let Ok(text) = std::fs::read_to_string(&path) {
            files.push(SourceFile { path: relative(&path), text });
        }
    }
    assert_no_offences(&files, rules::machine_paths);
}
