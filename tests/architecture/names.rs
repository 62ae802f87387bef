//! Rules about names: no private vocabulary in identifiers, and one meaning for one type name.
//!
//! A name that is defined in two places may be a pair on purpose (a configuration type and what it is compiled into). A
//! third definition makes every use ambiguous to a reader who searches for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::rules::Offence;
use crate::tokens::{self, Token};

/// Words from an earlier private vocabulary, each of which has a standard term.
const FORBIDDEN_WORDS: &[&str] = &[
    "dress", "told", "wear", "worn", "deed", "fate", "misfit", "torn", "crowded", "ails", "ledger",
    "grounds", "hangups", "farewell", "stranger",
];

/// A type name may be defined in this many files.
const MAX_FILES_PER_TYPE: usize = 2;

/// Reports identifiers that contain a forbidden word as a part of snake_case or CamelCase, in the singular or plural.
pub fn forbidden_words(path: &str, text: &str) -> Vec<Offence> {
    let mut offences = Vec::new();
    for token in tokens::tokenize(text).iter().filter(|token| tokens::is_name(token)) {
        let forbidden = words_of(&token.text).into_iter().find(|word| is_forbidden(word));
        if let Some(word) = forbidden {
            let message = format!("`{}` contains `{word}`; use the standard term", token.text);
            offences.push(Offence { path: path.to_owned(), line: token.line, what: message });
        }
    }
    offences
}

/// Reports every definition of a type name that more than [`MAX_FILES_PER_TYPE`] of the files define.
pub fn repeated_type_names(files: &[(&str, &str)]) -> Vec<Offence> {
    let mut definitions: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
    for (path, text) in files {
        for (name, line) in defined_types(&tokens::tokenize(text)) {
            definitions.entry(name).or_default().push((path, line));
        }
    }
    let mut offences = Vec::new();
    for (name, places) in definitions {
        let count = places.iter().map(|(path, _)| path).collect::<BTreeSet<_>>().len();
        if count > MAX_FILES_PER_TYPE {
            offences.extend(places.iter().map(|(path, line)| Offence {
                path: (*path).to_owned(),
                line: *line,
                what: format!(
                    "the type name `{name}` is defined in {count} files; {MAX_FILES_PER_TYPE} is the limit"
                ),
            }));
        }
    }
    offences
}

fn is_forbidden(word: &str) -> bool {
    FORBIDDEN_WORDS.contains(&word)
        || word.strip_suffix('s').is_some_and(|singular| FORBIDDEN_WORDS.contains(&singular))
}

/// The parts of an identifier in lower case: `HTTPHead_of2` has `http`, `head`, `of2`.
fn words_of(identifier: &str) -> Vec<String> {
    let chars: Vec<char> = identifier.chars().collect();
    let mut words = Vec::new();
    let mut word = String::new();
    for (index, c) in chars.iter().enumerate() {
        let previous = index.checked_sub(1).map(|at| chars[at]);
        let after_lower = previous.is_some_and(|p| p.is_lowercase() || p.is_numeric());
        let ends_acronym = previous.is_some_and(char::is_uppercase)
            && chars.get(index + 1).is_some_and(|next| next.is_lowercase());
        if *c == '_' || (c.is_uppercase() && (after_lower || ends_acronym)) {
            words.push(std::mem::take(&mut word));
        }
        if *c != '_' {
            word.extend(c.to_lowercase());
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// The structs, enums, unions, traits and type aliases that the code defines. Associated types are none: every
/// implementation of `Iterator` has an `Item`.
fn defined_types(code: &[Token]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut braces: Vec<bool> = Vec::new(); // true: opened by an `impl` or a `trait`
    let mut in_header = false;
    for (at, token) in code.iter().enumerate() {
        let starts_item =
            at == 0 || ["{", "}", ";", "]", "pub", ")", "unsafe"].contains(&code[at - 1].text.as_str());
        match token.text.as_str() {
            "{" => braces.push(std::mem::take(&mut in_header)),
            "}" => drop(braces.pop()),
            ";" => in_header = false,
            "impl" if starts_item => in_header = true,
            "struct" | "enum" | "union" | "trait" | "type" if starts_item => {
                let associated = token.text == "type" && braces.last() == Some(&true);
                if let Some(name) = code.get(at + 1).filter(|name| tokens::is_name(name) && !associated) {
                    found.push((name.text.clone(), name.line));
                }
                in_header |= token.text == "trait";
            }
            _ => {}
        }
    }
    found
}
