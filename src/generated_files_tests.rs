//! Files of the repository that tests generate from the code: pages, the schema and lists.
//!
//! With `UPDATE_DOCS` in the environment they are written; otherwise they must be current.

/// Asserts that a file, named from the root of the repository, has this text. `test` is the name by which cargo runs
/// the test that writes it.
#[track_caller]
pub(crate) fn assert_current(file: &str, generated: &str, test: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = committed.lines().zip(generated.lines()).find(|(old, new)| old != new);
    assert!(
        committed == generated,
        "{file} is out of date, first at {difference:?}; run: UPDATE_DOCS=1 cargo test {test}"
    );
}
