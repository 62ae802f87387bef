//! Runs `.ci/lines` on a small tree: it counts only production code.

use std::process::Command;

const SOURCE: &str = "\
//! A file.

pub struct One;

#[cfg(test)]
use std::fmt;

impl One {
    pub(crate) fn hidden() {}
    pub const fn visible() {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    pub fn not_counted() {}
}

pub use One as Two;
";

#[test]
fn lines_counts_production_code_public_items_and_long_files() {
    let root = std::env::temp_dir().join(format!("lines-{}", std::process::id()));
    let module = root.join("src/module");
    std::fs::create_dir_all(&module).unwrap();
    std::fs::write(root.join("src/lib.rs"), "pub mod module;\n").unwrap();
    std::fs::write(module.join("one.rs"), SOURCE).unwrap();
    std::fs::write(module.join("one_tests.rs"), "pub fn not_counted() {}\n").unwrap();
    std::fs::write(module.join("properties.rs"), "pub fn not_counted() {}\n").unwrap();
    std::fs::write(module.join("two.rs"), "//\n".repeat(401)).unwrap();

    let printed = Command::new(crate::repository_root().join(".ci/lines")).arg(&root).output().unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let rows: Vec<Vec<&str>> = printed.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected: [&[&str]; 7] = [
        &["module", "files", "lines", "pub", "items"],
        &["(top)", "1", "1", "1"],
        &["module", "2", "415", "2"],
        &["total", "3", "416", "3"],
        &[],
        &["1", "files", "above", "400", "lines"],
        &["401", "src/module/two.rs"],
    ];
    assert_eq!(rows, expected, "{printed}");
}
