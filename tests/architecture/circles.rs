//! Import circles: a file names an item of a second file, which names, perhaps through others, one of the first.
//!
//! [`arrows`] reads which file names an item that which other file defines: through `use`, in a path without `use`,
//! after `crate::`, `self::` or `super::`, and through re-exports. A module that a path only passes through does not
//! count. A module and its descendants may name each other: they are one subject in several files. Therefore an arrow
//! between two files counts for the modules that contain them below their nearest common ancestor, which finds circles
//! that close only through a descendant, too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::rules::Offence;
use crate::tokens::{self, Token};

/// A file names an item that another file defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrow {
    pub from: String,
    pub to: String,
    /// The line in `from`, counted from 1.
    pub line: usize,
    /// The path as written, without generic arguments.
    pub name: String,
    /// The modules that contain the two files, directly below their nearest common ancestor.
    siblings: (ModulePath, ModulePath),
}

/// An accepted arrow of a circle: the file that names the item, the file that defines it, and why it is accepted.
pub type KnownArrow = (&'static str, &'static str, &'static str);

/// Arrows of circles in modules that are being rewritten. This list may only shrink.
pub const KNOWN: &[KnownArrow] = &[];

/// Reports circles by their shortest way round, and every known arrow that is part of no circle any more.
pub fn circles(files: &[(&str, &str)], known: &[KnownArrow]) -> Vec<Offence> {
    let arrows = arrows(files);
    let is_known = |arrow: &Arrow| known.iter().any(|(from, to, _)| (*from, *to) == (&arrow.from, &arrow.to));
    let mut offences = Vec::new();
    for (from, to, _) in known {
        let found = arrows.iter().find(|arrow| (*from, *to) == (&arrow.from, &arrow.to));
        if found.is_none_or(|arrow| way_back(&arrows, arrow).is_none()) {
            let what = format!("no import circle with {to} any more; remove this known arrow");
            offences.push(Offence { path: (*from).to_owned(), line: 1, what });
        }
    }
    let (_, arrows): (Vec<_>, Vec<_>) = arrows.into_iter().partition(is_known);
    let mut reported = BTreeSet::new();
    for arrow in &arrows {
        let Some(back) = way_back(&arrows, arrow) else { continue };
        let way: Vec<&Arrow> = std::iter::once(arrow).chain(back).collect();
        if way.iter().any(|arrow| reported.contains(&arrow.siblings)) {
            continue;
        }
        reported.extend(way.iter().map(|arrow| arrow.siblings.clone()));
        let steps: Vec<String> =
            way.iter().map(|a| format!("{}:{} names `{}` of {}", a.from, a.line, a.name, a.to)).collect();
        let what = format!("import circle: {}; move an item below both", steps.join(", "));
        offences.push(Offence { path: arrow.from.clone(), line: arrow.line, what });
    }
    offences
}

/// The arrows between files of which neither is an ancestor of the other, one for each pair of files.
pub fn arrows(files: &[(&str, &str)]) -> Vec<Arrow> {
    let tree = Tree::read(files);
    let mut found: BTreeMap<(&str, &str), Arrow> = BTreeMap::new();
    for module in tree.modules.values() {
        for path in &module.paths {
            let Some(target) = tree.resolve_in(module, &path.segments, &mut Vec::new()) else { continue };
            let (from, to) = (&tree.files[&module.file], &tree.files[&target.file]);
            if from.starts_with(to) || to.starts_with(from) {
                continue;
            }
            let common = from.iter().zip(to).take_while(|(from, to)| from == to).count();
            let arrow = Arrow {
                from: module.file.clone(),
                to: target.file.clone(),
                line: path.line,
                name: path.segments.join("::"),
                siblings: (from[..=common].to_vec(), to[..=common].to_vec()),
            };
            found.entry((&module.file, &target.file)).or_insert(arrow);
        }
    }
    found.into_values().collect()
}

/// The fewest arrows that lead from the end of `arrow` back to its start.
fn way_back<'a>(arrows: &'a [Arrow], arrow: &'a Arrow) -> Option<Vec<&'a Arrow>> {
    let (to, from) = (&arrow.siblings.0, &arrow.siblings.1);
    let mut reached: BTreeMap<&ModulePath, Vec<&Arrow>> = BTreeMap::from([(from, Vec::new())]);
    let mut open = VecDeque::from([from]);
    while let Some(next) = open.pop_front() {
        if next == to {
            return reached.remove(next);
        }
        for arrow in arrows.iter().filter(|arrow| &arrow.siblings.0 == next) {
            let end = &arrow.siblings.1;
            if !reached.contains_key(end) {
                let way = [&reached[next][..], &[arrow]].concat();
                reached.insert(end, way);
                open.push_back(end);
            }
        }
    }
    None
}

/// The names of a module from the crate root.
type ModulePath = Vec<String>;

/// A path in the code, as written: `self` and `super` are resolved later.
struct Path {
    segments: Vec<String>,
    line: usize,
}

/// A module, in a file of its own or in braces.
#[derive(Default)]
struct Module {
    path: ModulePath,
    file: String,
    /// The names of its items, without modules.
    items: BTreeSet<String>,
    /// What `use` declares, by the local name.
    imports: BTreeMap<String, Vec<String>>,
    /// The paths before `::*`.
    globs: Vec<Vec<String>>,
    paths: Vec<Path>,
}

/// All modules of the crate.
struct Tree {
    modules: BTreeMap<ModulePath, Module>,
    /// The module that each file is.
    files: BTreeMap<String, ModulePath>,
}

impl Tree {
    fn read(files: &[(&str, &str)]) -> Tree {
        let mut tree =
            Tree { modules: BTreeMap::from([(Vec::new(), Module::default())]), files: BTreeMap::new() };
        for (file, text) in files {
            let path = module_path(file);
            tree.files.insert((*file).to_owned(), path.clone());
            let mut reader = Reader { code: tokens::product_tokens(text), at: 0, file, tree: &mut tree };
            reader.module(path);
        }
        tree
    }

    /// The module whose file defines what `segments` name inside `module`; `None` for another crate, a local name, or a
    /// module itself.
    fn resolve_in(
        &self,
        module: &Module,
        segments: &[String],
        open: &mut Vec<(ModulePath, String)>,
    ) -> Option<&Module> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => self.resolve(&[], rest, open),
            "self" => self.resolve(&module.path, rest, open),
            "super" => {
                let (_, parent) = module.path.split_last()?;
                if rest.first().is_some_and(|next| next == "super") {
                    return self.resolve_in(self.modules.get(parent)?, rest, open);
                }
                self.resolve(parent, rest, open)
            }
            name if self.names(module, name) => self.resolve(&module.path, segments, open),
            _ => None,
        }
    }

    /// The module whose file defines what `segments` name below the module at `path`.
    fn resolve(
        &self,
        path: &[String],
        segments: &[String],
        open: &mut Vec<(ModulePath, String)>,
    ) -> Option<&Module> {
        let module = self.modules.get(path)?;
        let (first, rest) = segments.split_first()?;
        let child = [path, std::slice::from_ref(first)].concat();
        if self.modules.contains_key(&child) {
            return self.resolve(&child, rest, open);
        }
        if module.items.contains(first) {
            return Some(module);
        }
        // Two modules that import each other with `*` would otherwise be followed for ever.
        let visit = (path.to_vec(), first.clone());
        if open.contains(&visit) {
            return None;
        }
        open.push(visit);
        let target = if let Some(import) = module.imports.get(first) {
            self.resolve_in(module, &[import, rest].concat(), open)
        } else {
            let mut globs = module.globs.iter();
            globs.find_map(|glob| self.resolve_in(module, &[glob, segments].concat(), open))
        };
        open.pop();
        target
    }

    /// Whether `name` may be an item, a child or an import of `module`, rather than a crate or a local name.
    fn names(&self, module: &Module, name: &str) -> bool {
        let child = [&module.path[..], &[name.to_owned()]].concat();
        module.items.contains(name)
            || module
                .imports
                .get(name)
                .is_some_and(|import| import.first().is_some_and(|first| first != name))
            || self.modules.contains_key(&child)
            || !module.globs.is_empty()
    }
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are the module `a::b`.
fn module_path(file: &str) -> ModulePath {
    let inside = file.trim_start_matches("src/").trim_end_matches(".rs");
    let inside = inside.trim_end_matches("mod").trim_end_matches('/');
    inside.split('/').filter(|name| *name != "lib").map(str::to_owned).collect()
}

/// Reads the modules of one file.
struct Reader<'a> {
    code: Vec<Token>,
    at: usize,
    file: &'a str,
    tree: &'a mut Tree,
}

impl Reader<'_> {
    /// Reads a module to the end of its braces or of the file.
    fn module(&mut self, path: ModulePath) {
        let mut module = Module { path, file: self.file.to_owned(), ..Module::default() };
        let mut depth = 0usize;
        while let Some(token) = self.code.get(self.at).cloned() {
            match token.text.as_str() {
                "}" if depth == 0 => break,
                "{" => depth += 1,
                "}" => depth -= 1,
                "use" if self.starts_item() => {
                    self.at += 1;
                    self.use_tree(&mut module, &[]);
                    continue;
                }
                "mod" if self.text(2) == "{" => {
                    let child = [&module.path[..], &[self.text(1).to_owned()]].concat();
                    self.at += 3;
                    self.module(child);
                }
                "struct" | "enum" | "union" | "trait" | "type" | "fn" | "const" | "static" if depth == 0 => {
                    let skipped = usize::from(["mut", "unsafe", "fn"].contains(&self.text(1)));
                    module.items.insert(self.text(1 + skipped).to_owned());
                }
                "macro_rules" => drop(module.items.insert(self.text(2).to_owned())),
                _ if tokens::is_name(&token) && self.starts_path() => {
                    self.path(&mut module);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
        self.tree.modules.insert(module.path.clone(), module);
    }

    fn text(&self, ahead: usize) -> &str {
        self.code.get(self.at + ahead).map_or("", |token| token.text.as_str())
    }

    fn before(&self) -> &str {
        self.at.checked_sub(1).map_or("", |at| self.code[at].text.as_str())
    }

    fn starts_item(&self) -> bool {
        ["", "{", "}", ";", "]", "pub", ")"].contains(&self.before())
    }

    /// Not a field, a method, a lifetime, a later name of a path, or `::name`, which is another crate.
    fn starts_path(&self) -> bool {
        !["::", ".", "'"].contains(&self.before())
    }

    fn path(&mut self, module: &mut Module) {
        let line = self.code[self.at].line;
        let mut segments = vec![self.text(0).to_owned()];
        while self.text(1) == "::" && self.code.get(self.at + 2).is_some_and(tokens::is_name) {
            self.at += 2;
            segments.push(self.text(0).to_owned());
        }
        self.at += 1;
        module.paths.push(Path { segments, line });
    }

    /// Reads `a::b`, `a::b as c`, `a::*` or `a::{..}` behind `prefix`, to after its end.
    fn use_tree(&mut self, module: &mut Module, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        let line = self.code[self.at].line;
        loop {
            match self.text(0) {
                "{" => {
                    self.at += 1;
                    while !["}", ""].contains(&self.text(0)) {
                        self.use_tree(module, &segments);
                        self.at += usize::from(self.text(0) == ",");
                    }
                    self.at += 1;
                    return;
                }
                "*" => {
                    self.at += 1;
                    module.globs.push(segments);
                    return;
                }
                // `::name` is another crate, which no segment finds.
                "::" if segments.is_empty() => segments.push("::".to_owned()),
                "::" => {}
                "self" if !segments.is_empty() => {} // `a::{self, b}`
                name if !["", ";", ",", "}"].contains(&name) => segments.push(name.to_owned()),
                _ => return,
            }
            self.at += 1;
            if self.text(0) == "as" {
                module.imports.insert(self.text(1).to_owned(), segments.clone());
                self.at += 2;
                break;
            }
            if self.text(0) != "::" && self.before() != "::" {
                let name = segments.last().cloned().unwrap_or_default();
                module.imports.insert(name, segments.clone());
                break;
            }
        }
        module.paths.push(Path { segments, line });
    }
}
