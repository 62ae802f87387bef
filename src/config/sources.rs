//! The files of a configuration: reads them, and adds the sections of included files (`include`) to the tree.
//!
//! It works on the tree, before the structs are read: routes are appended, named sections are united, and every value
//! keeps its location in its own file. Text and variables of an included file are resolved as in the main file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::keys::Keys;
use super::parse_yaml::{Environment, parse};
use super::problem::{Diagnostic, Location, Problem, Source, did_you_mean, quoted, refuse};
use super::tree::{Entry, Node, NodeKind, child_path};

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
    pub(crate) fn read(&mut self) -> Option<Node> {
        let mut tree = self.parse_last()?;
        let directory = directory(&self.files.first()?.name);
        let mut complete = true;
        // A value that is not a list is reported when the structs are read.
        let patterns = tree.get("include").map(Node::items).unwrap_or_default().to_vec();
        for (index, item) in patterns.iter().enumerate() {
            let Some(pattern) = item.text() else { continue };
            let at = format!("include[{index}]");
            match matching_files(&directory, pattern) {
                Err(diagnostic) => {
                    self.report(&at, item.location, diagnostic);
                    complete = false;
                }
                Ok(paths) if paths.is_empty() => {
                    let message = format!("no file matches {}", quoted(pattern));
                    let help = "the pattern is relative to the directory of this file";
                    self.warnings.push(Diagnostic::new(message, help).at(at, item.location));
                }
                Ok(paths) => {
                    for path in paths {
                        complete &= self.include(&mut tree, (&at, item.location), &path);
                    }
                }
            }
        }
        complete.then_some(tree)
    }

    /// Reads one file and adds its sections. A file that several patterns match is read once. False if it cannot be
    /// read or parsed.
    fn include(&mut self, tree: &mut Node, (at, location): (&str, Location), path: &Path) -> bool {
        let text = match self.files.iter().position(|source| same_file(Path::new(&source.name), path)) {
            Some(0) => Err(Diagnostic::new(
                "the file includes itself",
                "move the other files to a directory, for example include: [routes.d/*.yaml]",
            )),
            Some(_) => return true,
            None if self.files.len() > MAX_INCLUDED => {
                let message = format!("more than {MAX_INCLUDED} files are included");
                Err(Diagnostic::new(message, "join some of them"))
            }
            None => read_text(path),
        };
        let text = match text {
            Ok(text) => text,
            Err(diagnostic) => {
                self.report(at, location, diagnostic);
                return false;
            }
        };
        let name = path.display().to_string();
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            let help = "add a section to it, for example routes, or remove it";
            self.warnings.push(Diagnostic::new(format!("{name} is empty"), help).at(at, location));
            return true;
        }
        self.files.push(Source { name, text });
        let Some(included) = self.parse_last() else { return false };
        self.merge(tree, included);
        true
    }

    /// Parses the file that was added last.
    fn parse_last(&mut self) -> Option<Node> {
        let file = self.files.len().checked_sub(1)?;
        let mut problems = Vec::new();
        let parsed = parse(&self.files.get(file)?.text, self.variables, &mut problems);
        let tree = match parsed {
            Ok(mut tree) => {
                tree.set_file(file);
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

    fn merge(&mut self, tree: &mut Node, included: Node) {
        let NodeKind::Mapping(sections) = included.kind else {
            let found = included.type_name();
            let help = format!("write sections: {}", INCLUDABLE.join(", "));
            self.report("", included.location, Diagnostic::new(format!("found {found}"), help));
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
            let target = tree.get_mut(&section.key).filter(|target| !target.is_null());
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
                    tree.set(&section.key, Node { location, kind });
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
    String::from_utf8(read_bytes(path, &CONFIG_FILE)?).map_err(|error| {
        let valid_bytes = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = valid_bytes.filter(|byte| **byte == b'\n').count() + 1;
        let message = format!("cannot read {}: line {line} is not UTF-8", path.display());
        Diagnostic::new(message, "save it as UTF-8")
    })
}

/// What would be right if a file cannot be read.
pub(crate) struct ReadHelp {
    /// It does not exist.
    pub missing: &'static str,
    /// It is a directory.
    pub directory: &'static str,
    /// Any other reason.
    pub unreadable: &'static str,
    /// It is no such file.
    pub too_large: &'static str,
}

const CONFIG_FILE: ReadHelp = ReadHelp {
    missing: "pass the path of a configuration file, or create one with `statusquo init`",
    directory: "pass the path of a file in it",
    unreadable: "pass the path of a readable file",
    too_large: "pass the path of a configuration file",
};

/// Reads a file.
///
/// # Errors
/// The file cannot be read or is too large.
pub(crate) fn read_bytes(path: &Path, help: &ReadHelp) -> Result<Vec<u8>, Diagnostic> {
    match std::fs::read(path) {
        Ok(bytes) if bytes.len() <= MAX_FILE_SIZE => Ok(bytes),
        Ok(_) => {
            let message = format!("cannot read {}: it is larger than 8 MiB", path.display());
            Err(Diagnostic::new(message, help.too_large))
        }
        Err(error) => Err(unreadable(path, &error, help)),
    }
}

/// Why a file cannot be read, for people.
pub(crate) fn unreadable(path: &Path, error: &std::io::Error, help: &ReadHelp) -> Diagnostic {
    let (reason, help) = match error.kind() {
        ErrorKind::NotFound => ("no such file".to_owned(), help.missing),
        ErrorKind::PermissionDenied => {
            ("permission denied".to_owned(), "grant read access to the user that runs statusquo")
        }
        ErrorKind::IsADirectory => ("it is a directory".to_owned(), help.directory),
        _ => (error.to_string(), help.unreadable),
    };
    Diagnostic::new(format!("cannot read {}: {reason}", path.display()), help)
}

/// The files that a pattern names, sorted. In each part of the path `*` is any text and `?` any character; as in a
/// shell, neither matches a dot at the start.
fn matching_files(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, Diagnostic> {
    if pattern.is_empty() || pattern.contains("**") {
        return refuse(pattern, "is not a path", "write a path such as routes.d/*.yaml");
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

/// Far above any real configuration or certificate bundle; it prevents a wrong path from filling the memory.
const MAX_FILE_SIZE: usize = 8 << 20;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "sources_tests.rs"]
mod tests;
