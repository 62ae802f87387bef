//! From YAML to a [`Tree`]: syntax, aliases, duplicate keys, and `${VARIABLES}` in text.
//!
//! The events come from serde-saphyr's parser, for its positions; nothing here knows what a key means. The environment
//! is a function handed in, so that the same text always gives the same tree. Syntax errors end the reading at once
//! (what follows would be guesswork); duplicate keys and missing variables are collected.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Tag, options};

use super::error::{Problem, Refusal, Spot, quoted};
use super::tree::{Entry, Kind, Node, Tree, child_path};

/// Looks a variable up.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads `text`. Problems that do not hinder the reading of the rest are added to `problems`.
///
/// # Errors
/// The first syntax error; also an empty file, a second document, tags, and aliases without bound.
pub fn parse(text: &str, env: Environment<'_>, problems: &mut Vec<Problem>) -> Result<Tree, Problem> {
    let options =
        options! { flow_nesting_limit: DEEPEST, block_nesting_limit: DEEPEST, emit_comments: false };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        builder.take(event, spot(&span.start))?;
    }
    let Some(root) = builder.root.filter(|root| !root.is_null()) else {
        return Err(Problem::of_file("the file is empty", "start from `config/minimal.yaml`"));
    };
    let mut tree = Tree { root };
    finish(&mut tree.root, "", env, problems);
    Ok(tree)
}

/// What is being built: collections still open, the outermost first.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    anchors: HashMap<usize, Anchored>,
    /// Values so far, copies of aliases included.
    values: usize,
}

struct Open {
    node: Node,
    anchor: usize,
    key: Option<(String, Spot)>,
}

struct Anchored {
    node: Node,
    count: usize,
    depth: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, spot: Spot) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(at(
                        spot,
                        "a second document begins here",
                        "keep one document in the file: remove `---`",
                    ));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.as_deref(), spot)?;
                let kind = Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.complete(Node { spot, kind }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), spot)?;
                self.open.push(Open {
                    node: Node { spot, kind: Kind::Sequence(Vec::new()) },
                    anchor,
                    key: None,
                });
                Ok(())
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), spot)?;
                self.open.push(Open {
                    node: Node { spot, kind: Kind::Mapping(Vec::new()) },
                    anchor,
                    key: None,
                });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.complete(open.node, open.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => self.alias(anchor, spot),
            // Names of anchors and unresolved aliases are not asked for; an unknown one is a syntax error.
            _ => Ok(()),
        }
    }

    /// A value is whole: it goes where the innermost open collection wants it.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(at(
                node.spot,
                "the file holds too many values",
                "write fewer; aliases count each time they are used",
            ));
        }
        if anchor != 0 {
            let (count, depth) = node.size();
            self.anchors.insert(anchor, Anchored { node: node.clone(), count, depth });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.kind, open.key.take()) {
            (Kind::Sequence(items), _) => items.push(node),
            (Kind::Mapping(entries), Some((key, spot))) => entries.push(Entry { key, spot, value: node }),
            (Kind::Mapping(_), None) => match node.kind {
                Kind::Scalar { text, .. } => open.key = Some((text, node.spot)),
                Kind::Sequence(_) | Kind::Mapping(_) | Kind::Refused => {
                    return Err(at(
                        node.spot,
                        "a key is not text",
                        "put text before the colon; quote \"${...}\" and \"{...}\"",
                    ));
                }
            },
            (Kind::Scalar { .. } | Kind::Refused, _) => {}
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, spot: Spot) -> Result<(), Problem> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(at(spot, "an alias stands inside the value it refers to", "write the value out"));
        };
        if self.open.len() + anchored.depth > 2 * DEEPEST {
            return Err(at(spot, "aliases are nested too deeply", "write the value out"));
        }
        self.values += anchored.count;
        let node = anchored.node.clone();
        self.complete(node, 0)
    }
}

/// Removes repeated keys and puts variables in, saying where something is amiss.
fn finish(node: &mut Node, path: &str, env: Environment<'_>, problems: &mut Vec<Problem>) {
    match &mut node.kind {
        Kind::Scalar { text, plain } => {
            if !text.contains("${") {
                return;
            }
            match expand(text, env) {
                Ok(expanded) => {
                    *text = expanded;
                    *plain = false;
                }
                Err(refusal) => {
                    problems.push(problem(path, node.spot, refusal));
                    node.kind = Kind::Refused;
                }
            }
        }
        Kind::Sequence(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                finish(item, &format!("{path}[{index}]"), env, problems);
            }
        }
        Kind::Mapping(entries) => {
            let mut first: HashMap<String, Spot> = HashMap::new();
            entries.retain(|entry| match first.get(&entry.key) {
                None => {
                    first.insert(entry.key.clone(), entry.spot);
                    true
                }
                Some(earlier) => {
                    let what = format!("this key is written twice, first on line {}", earlier.line);
                    let refusal = Refusal::new(what, "keep one of the two");
                    problems.push(problem(&child_path(path, &entry.key), entry.spot, refusal));
                    false
                }
            });
            for entry in entries {
                finish(&mut entry.value, &child_path(path, &entry.key), env, problems);
            }
        }
        Kind::Refused => {}
    }
}

/// Puts the values of `${NAME}` and `${NAME:-default}` in; `$${` stands for a literal `${`.
fn expand(text: &str, env: Environment<'_>) -> Result<String, Refusal> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((inside, behind)) = after.split_once('}') else {
            return Err(Refusal::new(
                "\"${\" is not closed",
                "write \"${NAME}\", or \"$${\" for the characters themselves",
            ));
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_variable_name(name) {
            let what = format!("{} is not the name of a variable", quoted(name));
            return Err(Refusal::new(what, "write \"${NAME}\" or \"${NAME:-default}\""));
        }
        // As in a shell: with `:-` an empty variable counts as missing.
        match (env(name), default) {
            (Some(value), None) => out.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) => out.push_str(default),
            (None, None) => {
                let what = format!("the environment variable {name} is not set");
                return Err(Refusal::new(what, format!("set it, or give a default: \"${{{name}:-...}}\"")));
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_variable_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
}

/// The parser's error in the operator's words, with what usually causes it.
fn syntax(error: &ScanError) -> Problem {
    let (what, remedy) = match error.kind() {
        ErrorKind::TabInIndentation
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => {
            ("a tab is used as indentation".to_owned(), "indent with spaces")
        }
        ErrorKind::UnknownAnchor => (
            "there is no anchor of this name above".to_owned(),
            "define it with & before using it, or quote the text",
        ),
        ErrorKind::RecursionLimitExceeded => {
            ("the values are nested too deeply".to_owned(), "nest them less")
        }
        ErrorKind::UnclosedQuotedScalar => ("a quote is not closed".to_owned(), "close it on the same line"),
        ErrorKind::UnclosedFlowCollection { open } => {
            (format!("the bracket {} is not closed", quoted(&open.to_string())), "close it")
        }
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::ExpectedFlowSequenceSeparator => (
            "a comma or a closing bracket is missing".to_owned(),
            "add it, or quote the text: inside brackets, text with { } [ ] or , needs quotes",
        ),
        _ => (
            format!("this is not YAML: {}", error.kind()),
            "look at the indentation, the colons and the brackets here and just above",
        ),
    };
    at(spot(error.marker()), what, remedy)
}

fn refuse_tag(tag: Option<&Tag>, spot: Spot) -> Result<(), Problem> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => {
            Err(at(spot, "tags (\"!name\") mean nothing here", "remove the tag, or quote the text"))
        }
        Some(_) | None => Ok(()),
    }
}

fn spot(marker: &Marker) -> Spot {
    Spot { line: marker.line().max(1), column: marker.col() + 1 }
}

fn at(spot: Spot, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    problem("", spot, Refusal::new(what, remedy))
}

fn problem(path: &str, spot: Spot, refusal: Refusal) -> Problem {
    Problem { path: path.to_owned(), spot: Some(spot), what: refusal.what, remedy: refusal.remedy }
}

/// Nesting of lists and mappings, each; the deepest key of a configuration is at 6.
const DEEPEST: usize = 32;
/// Bounds what aliases can multiply: well above any file a person writes.
const MOST_VALUES: usize = 200_000;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8080".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn first_value(text: &str) -> (Kind, Vec<Problem>) {
        let mut problems = Vec::new();
        let tree = parse(text, &env, &mut problems).unwrap();
        let Kind::Mapping(entries) = tree.root.kind else { panic!("not a mapping") };
        (entries[0].value.kind.clone(), problems)
    }

    fn text_of(yaml: &str) -> String {
        match first_value(yaml) {
            (Kind::Scalar { text, .. }, problems) if problems.is_empty() => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn variables_are_put_into_text_and_only_there() {
        assert_eq!(text_of("a: \"0.0.0.0:${PORT}\""), "0.0.0.0:8080");
        assert_eq!(text_of("a: ${PORT}"), "8080");
        assert_eq!(text_of("a: ${MISSING:-x}${PORT}"), "x8080");
        assert_eq!(text_of("a: \"${EMPTY:-x}\""), "x");
        assert_eq!(text_of("a: \"${EMPTY}\""), "");
        assert_eq!(text_of("a: $${PORT} $5"), "${PORT} $5");
        let mut problems = Vec::new();
        let tree = parse("${PORT}: 1", &env, &mut problems).unwrap();
        assert!(matches!(&tree.root.kind, Kind::Mapping(entries) if entries[0].key == "${PORT}"));
    }

    #[test]
    fn the_value_of_a_variable_is_not_looked_at_again() {
        let nested = |name: &str| (name == "A").then(|| "${B}".to_owned());
        assert_eq!(expand("${A}", &nested).unwrap(), "${B}");
    }

    #[test]
    fn an_alias_is_a_copy_of_its_anchor_and_cannot_multiply_without_bound() {
        let (kind, _) = first_value("b: &x [1]\n");
        let mut problems = Vec::new();
        let tree = parse("a: &x [1]\nb: *x", &env, &mut problems).unwrap();
        let Kind::Mapping(entries) = tree.root.kind else { panic!("not a mapping") };
        assert!(
            matches!((&entries[1].value.kind, kind), (Kind::Sequence(a), Kind::Sequence(b)) if a.len() == b.len())
        );

        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = level - 1;
            let items = format!("*a{before}, ").repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert_eq!(parse(&bomb, &env, &mut problems).unwrap_err().what, "the file holds too many values");
        let mut chain = "a0: &a0 [x]\n".to_owned();
        for level in 1..200 {
            chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert_eq!(parse(&chain, &env, &mut problems).unwrap_err().what, "aliases are nested too deeply");
        assert!(parse("a: &a [*a]", &env, &mut problems).is_err());
    }

    #[test]
    fn what_is_not_one_plain_document_is_refused_with_its_place() {
        let refused = |text: &str| {
            let problem = parse(text, &env, &mut Vec::new()).unwrap_err();
            (problem.spot.map(|spot| (spot.line, spot.column)), problem.what)
        };
        assert_eq!(refused(""), (None, "the file is empty".to_owned()));
        assert_eq!(refused("# only a comment\n"), (None, "the file is empty".to_owned()));
        assert_eq!(refused("a: 1\n---\nb: 2\n"), (Some((2, 1)), "a second document begins here".to_owned()));
        assert_eq!(refused("a:\n\tb: 1\n"), (Some((2, 2)), "a tab is used as indentation".to_owned()));
        assert_eq!(refused("a: !secret x"), (Some((1, 12)), "tags (\"!name\") mean nothing here".to_owned()));
        assert_eq!(refused("{a: 1}: 2"), (Some((1, 1)), "a key is not text".to_owned()));
        assert_eq!(refused("a: *b"), (Some((1, 4)), "there is no anchor of this name above".to_owned()));
    }

    #[test]
    fn a_key_written_twice_and_a_missing_variable_are_both_told() {
        let mut problems = Vec::new();
        parse("a:\n  b: ${NOT_SET}\n  b: 2\n", &env, &mut problems).unwrap();
        let told: Vec<_> = problems.iter().map(|p| (p.path.as_str(), p.sentence())).collect();
        assert_eq!(
            told,
            [
                ("a.b", "this key is written twice, first on line 2; keep one of the two".to_owned()),
                (
                    "a.b",
                    "the environment variable NOT_SET is not set; set it, or give a default: \"${NOT_SET:-...}\""
                        .to_owned()
                ),
            ]
        );
    }
}
