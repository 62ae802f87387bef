//! The files of a configuration: reads them, and adds the sections of included files (`include`) to the tree.
//!
//! It works on the tree, before the structs are read: routes are appended, named sections are united, and every value
//! keeps its location in its own file. Text and variables of an included file are resolved as in the main file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::keys::Keys;
use super::parse_yaml::{Environment, parse};
use super::problem::{Diagnostic, Location, Problem, Source, did_you_mean, quoted};
use super::tree::{Entry, KeyPath, Node, NodeKind, Tree, child_path};

/// The files that were read, the main file first, and their problems. [`Location::file`] is an index of `files`.
pub(crate) struct Sources<'e> {
    /// At least the main file.
    pub files: Vec<Source>,
    /// The problems so far.
    pub problems: Vec<Problem>,
    /// Probable mistakes.
    pub warnings: Vec<Problem>,
    variables: Environment<'e>,
}

impl<'e> Sources<'e> {
    /// A configuration whose main file has this name and text.
    pub(crate) fn new(name: &str, text: &str, variables: Environment<'e>) -> Self {
        let main = Source { name: name.to_owned(), text: text.to_owned() };
        Sources { files: vec![main], problems: Vec::new(), warnings: Vec::new(), variables }
    }

    /// Parses the main file and adds the included files. `None` if a file cannot be read or parsed: the absence of its
    /// sections would only cause problems elsewhere.
    pub(crate) fn read(&mut self) -> Option<Tree> {
        let mut tree = self.parse_last()?;
        let directory = directory(&self.files.first()?.name);
        let mut complete = true;
        let patterns: Vec<(usize, String)> = match tree.root.get("include").map(|list| &list.kind) {
            Some(NodeKind::Sequence(items)) => {
                let texts = items.iter().filter(|item| item.kind != NodeKind::Invalid).enumerate();
                texts.filter_map(|(index, item)| Some((index, item.text()?.to_owned()))).collect()
            }
            // A value that is not a list is reported when the structs are read.
            Some(NodeKind::Scalar { .. } | NodeKind::Mapping(_) | NodeKind::Invalid) | None => Vec::new(),
        };
        for (index, pattern) in patterns {
            let root = KeyPath::Root;
            let list = root.key("include");
            let at = list.item(index);
            match matching_files(&directory, &pattern) {
                Err(diagnostic) => {
                    self.problems.push(tree.problem(&at, diagnostic));
                    complete = false;
                }
                Ok(paths) if paths.is_empty() => {
                    let message = format!("no file matches {}", quoted(&pattern));
                    let help = "the pattern is relative to the directory of this file";
                    self.warnings.push(tree.problem(&at, Diagnostic::new(message, help)));
                }
                Ok(paths) => {
                    for path in paths {
                        complete &= self.include(&mut tree, index, &path);
                    }
                }
            }
        }
        complete.then_some(tree)
    }

    /// Reads one file and adds its sections. A file that several patterns match is read once. False if it cannot be
    /// read or parsed.
    fn include(&mut self, tree: &mut Tree, index: usize, path: &Path) -> bool {
        let root = KeyPath::Root;
        let list = root.key("include");
        let at = list.item(index);
        let is_path = |source: &Source| same_file(Path::new(&source.name), path);
        match self.files.iter().position(is_path) {
            Some(0) => {
                let diagnostic = Diagnostic::new(
                    "the file includes itself",
                    "move the other files to a directory, for example include: [routes.d/*.yaml]",
                );
                self.problems.push(tree.problem(&at, diagnostic));
                return false;
            }
            Some(_) => return true,
            None => {}
        }
        if self.files.len() > MAX_INCLUDED {
            let message = format!("more than {MAX_INCLUDED} files are included");
            self.problems.push(tree.problem(&at, Diagnostic::new(message, "join some of them")));
            return false;
        }
        let text = match read_text(path) {
            Ok(text) => text,
            Err(diagnostic) => {
                self.problems.push(tree.problem(&at, diagnostic));
                return false;
            }
        };
        let name = path.display().to_string();
        let empty = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if empty {
            let message = format!("{name} is empty");
            let diagnostic =
                Diagnostic::new(message, "add a section to it, for example routes, or remove it");
            self.warnings.push(tree.problem(&at, diagnostic));
            return true;
        }
        self.files.push(Source { name, text });
        let Some(included) = self.parse_last() else { return false };
        self.merge(tree, included);
        true
    }

    /// Parses the file that was added last.
    fn parse_last(&mut self) -> Option<Tree> {
        let file = self.files.len().checked_sub(1)?;
        let mut problems = Vec::new();
        let parsed = parse(&self.files.get(file)?.text, self.variables, &mut problems);
        let tree = match parsed {
            Ok(mut tree) => {
                tree.root.set_file(file);
                Some(tree)
            }
            Err(mut problem) => {
                if file > 0 && problem.location.is_none() {
                    problem.location = Some(Location { file, line: 1, column: 1 });
                }
                problems.push(problem);
                None
            }
        };
        for location in problems.iter_mut().filter_map(|problem| problem.location.as_mut()) {
            location.file = file;
        }
        self.problems.append(&mut problems);
        tree
    }

    fn merge(&mut self, tree: &mut Tree, included: Tree) {
        let NodeKind::Mapping(sections) = included.root.kind else {
            let found = included.root.type_name();
            let help = format!("write sections: {}", INCLUDABLE.join(", "));
            self.report("", included.root.location, Diagnostic::new(format!("found {found}"), help));
            return;
        };
        for section in sections {
            if !INCLUDABLE.contains(&section.key.as_str()) {
                let diagnostic = self.not_includable(&section.key);
                self.report(&section.key, section.location, diagnostic);
                continue;
            }
            if section.value.is_null() {
                continue;
            }
            let target = tree.root.get_mut(&section.key).filter(|target| !target.is_null());
            match (target, section.value.kind) {
                // A section of the wrong type is reported here: of two, only the first stays in the tree.
                (_, NodeKind::Mapping(_) | NodeKind::Scalar { .. }) if section.key == "routes" => self
                    .report(
                        "routes",
                        section.location,
                        Diagnostic::new("not a list", "write a list: routes: [..]"),
                    ),
                (_, NodeKind::Sequence(_) | NodeKind::Scalar { .. }) if section.key != "routes" => {
                    let help = format!("write names and sections: {}: {{ name: {{ .. }} }}", section.key);
                    self.report(&section.key, section.location, Diagnostic::new("not a mapping", help));
                }
                (None, kind) => {
                    let location = section.value.location;
                    tree.root.set(&section.key, Node { location, kind });
                }
                (Some(Node { kind: NodeKind::Sequence(all), .. }), NodeKind::Sequence(items)) => {
                    all.extend(items)
                }
                (Some(Node { kind: NodeKind::Mapping(all), .. }), NodeKind::Mapping(entries)) => {
                    self.unite(&section.key, all, entries);
                }
                // The other section is invalid and already reported.
                (Some(_), _) => {}
            }
        }
    }

    /// Adds named sections; a name may be declared once.
    fn unite(&mut self, section: &str, all: &mut Vec<Entry>, entries: Vec<Entry>) {
        for entry in entries {
            match all.iter().find(|earlier| earlier.key == entry.key) {
                None => all.push(entry),
                Some(earlier) => {
                    let message = format!("duplicate key, first at {}", self.place(earlier.location));
                    let path = child_path(section, &entry.key);
                    self.report(&path, entry.location, Diagnostic::new(message, "remove one of them"));
                }
            }
        }
    }

    fn not_includable(&self, key: &str) -> Diagnostic {
        let main = self.files.first().map(|main| main.name.as_str()).unwrap_or_default();
        if key == "include" {
            let help = format!("list the files in {main}");
            return Diagnostic::new("an included file cannot include others", help);
        }
        if Keys::root().names().contains(&key) {
            return Diagnostic::new("not allowed in an included file", format!("move it to {main}"));
        }
        Diagnostic::new("unknown key", did_you_mean(key, &INCLUDABLE))
    }

    /// `file:line`.
    fn place(&self, location: Location) -> String {
        place(&self.files, location)
    }

    fn report(&mut self, path: &str, location: Location, diagnostic: Diagnostic) {
        self.problems.push(diagnostic.at(path, location));
    }
}

/// `file:line`.
pub(crate) fn place(files: &[Source], location: Location) -> String {
    let name = files.get(location.file).map(|source| source.name.as_str()).unwrap_or_default();
    format!("{name}:{}", location.line)
}

/// The directory that relative paths in this file start at.
pub(crate) fn directory(name: &str) -> PathBuf {
    Path::new(name).parent().unwrap_or(Path::new("")).to_owned()
}

/// Reads a configuration file.
///
/// # Errors
/// The file cannot be read, is too large, or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, Diagnostic> {
    let name = path.display();
    let unreadable =
        |reason: &str, help: &str| Diagnostic::new(format!("cannot read {name}: {reason}"), help);
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => unreadable(
            "no such file",
            "pass the path of a configuration file, or create one with `statusquo init`",
        ),
        ErrorKind::PermissionDenied => {
            unreadable("permission denied", "grant read access to the user that runs statusquo")
        }
        ErrorKind::IsADirectory => unreadable("it is a directory", "pass the path of a file in it"),
        _ => unreadable(&error.to_string(), "pass the path of a readable file"),
    })?;
    if bytes.len() > MAX_CONFIG_SIZE {
        return Err(unreadable("it is larger than 8 MiB", "pass the path of a configuration file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid_bytes = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = valid_bytes.filter(|byte| **byte == b'\n').count() + 1;
        unreadable(&format!("line {line} is not UTF-8"), "save it as UTF-8")
    })
}

/// The files that a pattern names, sorted. In each part of the path `*` is any text and `?` any character; as in a
/// shell, neither matches a dot at the start.
fn matching_files(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, Diagnostic> {
    if pattern.is_empty() || pattern.contains("**") {
        let message = format!("{} is not a path", quoted(pattern));
        return Err(Diagnostic::new(message, "write a path such as routes.d/*.yaml"));
    }
    if !is_pattern(pattern) {
        let path = directory.join(pattern);
        return match path.try_exists() {
            Ok(false) => Err(Diagnostic::new(
                format!("cannot read {}: no such file", path.display()),
                "write the path of a file, relative to the directory of this file",
            )),
            Ok(true) | Err(_) => Ok(vec![path]),
        };
    }
    let mut found = vec![directory.to_owned()];
    for part in Path::new(pattern).components() {
        let part = part.as_os_str();
        found = match part.to_str().filter(|text| is_pattern(text)) {
            None => found.into_iter().map(|path| path.join(part)).filter(|path| path.exists()).collect(),
            Some(part) => {
                let part: Vec<char> = part.chars().collect();
                found.iter().flat_map(|path| children(path, &part)).collect()
            }
        };
    }
    found.retain(|path| !path.is_dir());
    found.sort();
    Ok(found)
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// The entries of a directory that match one part of a pattern.
fn children(path: &Path, part: &[char]) -> Vec<PathBuf> {
    let listed = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let entries = std::fs::read_dir(listed).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.starts_with('.') == part.starts_with(&['.']))
        .filter(|name| matches(part, &name.chars().collect::<Vec<_>>()))
        .map(|name| path.join(name))
        .collect()
}

/// Whether `*` and `?` can stand for parts of the name. After a mismatch the last `*` takes one character more.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n, mut retry) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(letter) if *letter == '?' || name.get(n) == Some(letter) => {
                p += 1;
                n += 1;
            }
            Some(_) | None => {
                let Some((after, start)) = retry else { return false };
                (p, n) = (after, start + 1);
                retry = Some((after, start + 1));
            }
        }
    }
    pattern.iter().skip(p).all(|letter| *letter == '*')
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// What an included file may contain.
const INCLUDABLE: [&str; 5] = ["contracts", "rate_limits", "routes", "stores", "upstreams"];

/// Far above any real configuration; it prevents a wrong pattern from reading for minutes.
const MAX_INCLUDED: usize = 1000;

/// Far above any real configuration; it prevents a wrong path from filling the memory.
const MAX_CONFIG_SIZE: usize = 8 << 20;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "sources_tests.rs"]
mod tests;
