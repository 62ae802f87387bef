//! Parses YAML into a tree of [`Node`]s: syntax, aliases, duplicate keys, and `${VARIABLES}` in text.
//!
//! The events come from the parser of serde-saphyr, which reports positions. The environment is a parameter, so that
//! parsing is a pure function. The first syntax error ends parsing; duplicate keys and missing variables are collected.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Tag, options};

use super::problem::{Diagnostic, Location, Problem, quoted, refuse};
use super::template_help;
use super::tree::{Entry, Node, NodeKind, child_path};

/// Looks up an environment variable.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Parses `text`. Problems that do not prevent parsing the rest are added to `problems`.
///
/// # Errors
/// The first syntax error, an empty file, a second document, a tag, or aliases that expand too far.
pub(crate) fn parse(
    text: &str,
    variables: Environment<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Node, Problem> {
    let options =
        options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH, emit_comments: false };
    let mut builder = TreeBuilder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| syntax_problem(&error, text))?;
        builder.handle_event(event, to_location(&span.start))?;
    }
    let Some(mut root) = builder.root.filter(|root| !root.is_null()) else {
        return Err(Problem::for_file("the file is empty", "write one with `statusquo init`"));
    };
    resolve_variables(&mut root, "", variables, problems);
    Ok(root)
}

/// The state of the parser: the open collections, outermost first.
#[derive(Default)]
struct TreeBuilder {
    open_collections: Vec<OpenCollection>,
    root: Option<Node>,
    documents: usize,
    anchors: HashMap<usize, AnchoredNode>,
    /// The number of values, including copies made by aliases.
    value_count: usize,
}

struct OpenCollection {
    node: Node,
    anchor: usize,
    key: Option<(String, Location)>,
}

struct AnchoredNode {
    node: Node,
    count: usize,
    depth: usize,
}

impl TreeBuilder {
    fn handle_event(&mut self, event: Event<'_>, location: Location) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let help = "keep one document per file: remove `---`";
                    return Err(problem_at(location, "a second document starts here", help));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                reject_tag(
                    tag.as_deref(),
                    &format!("remove the tag, and write {}", quoted(&text)),
                    location,
                )?;
                let kind = NodeKind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.finish_node(Node { location, kind }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                reject_tag(tag.as_deref(), "remove the tag", location)?;
                self.open(Node { location, kind: NodeKind::Sequence(Vec::new()) }, anchor);
                Ok(())
            }
            Event::MappingStart(_, anchor, tag) => {
                reject_tag(tag.as_deref(), "remove the tag", location)?;
                self.open(Node { location, kind: NodeKind::Mapping(Vec::new()) }, anchor);
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open_collections.pop() {
                Some(open) => self.finish_node(open.node, open.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => self.alias(anchor, location),
            // No other events are enabled; the parser reports unknown aliases as syntax errors.
            _ => Ok(()),
        }
    }

    fn open(&mut self, node: Node, anchor: usize) {
        self.open_collections.push(OpenCollection { node, anchor, key: None });
    }

    /// Adds a complete value to the innermost open collection.
    fn finish_node(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        self.value_count += 1;
        if self.value_count > MAX_VALUES {
            let help = "remove some; an alias counts every time it is used";
            return Err(problem_at(node.location, "the file has too many values", help));
        }
        if anchor != 0 {
            let (count, depth) = node.count_and_depth();
            self.anchors.insert(anchor, AnchoredNode { node: node.clone(), count, depth });
        }
        let Some(open) = self.open_collections.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.kind, open.key.take()) {
            (NodeKind::Sequence(items), _) => items.push(node),
            (NodeKind::Mapping(entries), Some((key, location))) => {
                entries.push(Entry { key, location, value: node })
            }
            (NodeKind::Mapping(_), None) => match node.kind {
                NodeKind::Scalar { text, .. } => open.key = Some((text, node.location)),
                NodeKind::Sequence(_) | NodeKind::Mapping(_) | NodeKind::Invalid => {
                    let help = "write text before the colon, and quote \"${...}\" and \"{...}\"";
                    return Err(problem_at(node.location, "a key must be text", help));
                }
            },
            (NodeKind::Scalar { .. } | NodeKind::Invalid, _) => {}
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, location: Location) -> Result<(), Problem> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            let message = "an alias refers to a value that contains it";
            return Err(problem_at(location, message, "write the value out"));
        };
        if self.open_collections.len() + anchored.depth > 2 * MAX_DEPTH {
            return Err(problem_at(location, "aliases are nested too deeply", "write the value out"));
        }
        self.value_count += anchored.count;
        let node = anchored.node.clone();
        self.finish_node(node, 0)
    }
}

/// Removes duplicate keys and expands variables; reports both kinds of problems.
fn resolve_variables(node: &mut Node, path: &str, variables: Environment<'_>, problems: &mut Vec<Problem>) {
    match &mut node.kind {
        NodeKind::Scalar { text, plain } => {
            if !text.contains("${") {
                return;
            }
            match expand(text, variables) {
                Ok(expanded) => {
                    *text = expanded;
                    *plain = false;
                }
                Err(mut diagnostic) => {
                    if let Some(meant) = template_help::placeholder_for_variable(path, text) {
                        diagnostic.help =
                            format!("write {} for the placeholder, or set the variable", quoted(&meant));
                    }
                    problems.push(diagnostic.at(path, node.location));
                    node.kind = NodeKind::Invalid;
                }
            }
        }
        NodeKind::Sequence(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                resolve_variables(item, &format!("{path}[{index}]"), variables, problems);
            }
        }
        NodeKind::Mapping(entries) => {
            let mut first: HashMap<String, Location> = HashMap::new();
            entries.retain(|entry| match first.get(&entry.key) {
                None => {
                    first.insert(entry.key.clone(), entry.location);
                    true
                }
                Some(earlier) => {
                    let message = format!("duplicate key, first on line {}", earlier.line);
                    let diagnostic = Diagnostic::new(message, "remove one of them");
                    problems.push(diagnostic.at(child_path(path, &entry.key), entry.location));
                    false
                }
            });
            for entry in entries {
                resolve_variables(&mut entry.value, &child_path(path, &entry.key), variables, problems);
            }
        }
        NodeKind::Invalid => {}
    }
}

/// Expands `${NAME}` and `${NAME:-default}`; `$${` is a literal `${`.
fn expand(text: &str, variables: Environment<'_>) -> Result<String, Diagnostic> {
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
        let Some((inside, remaining)) = after.split_once('}') else {
            let help = "write \"${NAME}\", or \"$${\" for a literal \"${\"";
            return Err(Diagnostic::new("\"${\" is not closed", help));
        };
        let default = inside.split_once(":-");
        let (name, default) = default.map_or((inside, None), |(name, default)| (name, Some(default)));
        if default.is_some_and(|default| default.contains("${")) {
            let help = "a default is plain text: replace the inner variable by its value";
            return refuse(inside, "has a variable in its default", help);
        }
        if !is_variable_name(name) {
            return refuse(name, "is not a variable name", "write \"${NAME}\" or \"${NAME:-default}\"");
        }
        // As in a shell: with `:-` an empty variable counts as missing.
        match (variables(name), default) {
            (Some(value), None) => out.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) => out.push_str(default),
            (None, None) => {
                let help = format!("set it, or write a default: \"${{{name}:-default}}\"");
                return Err(Diagnostic::new(format!("the environment variable {name} is not set"), help));
            }
        }
        rest = remaining;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_variable_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
}

/// Describes a parser error and its usual cause.
fn syntax_problem(error: &ScanError, text: &str) -> Problem {
    let (message, help) = match error.kind() {
        ErrorKind::TabInIndentation
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => {
            ("a tab is used as indentation".to_owned(), "indent with spaces")
        }
        ErrorKind::UnknownAnchor => {
            ("unknown anchor".to_owned(), "define it with & before it is used, or quote the text")
        }
        ErrorKind::RecursionLimitExceeded => {
            ("the values are nested too deeply".to_owned(), "reduce the nesting")
        }
        ErrorKind::UnclosedQuotedScalar => ("a quote is not closed".to_owned(), "close it on the same line"),
        ErrorKind::UnclosedFlowCollection { open } => {
            (format!("the bracket {} is not closed", quoted(&open.to_string())), "close it")
        }
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::ExpectedFlowSequenceSeparator => (
            "a comma or a closing bracket is missing".to_owned(),
            "add it, or quote the text: inside brackets, text with { } [ ] or , needs quotes",
        ),
        _ => {
            let line = text.lines().nth(error.marker().line().saturating_sub(1)).unwrap_or_default();
            let message = format!("invalid YAML: {}", error.kind());
            if let Some(value) = half_quoted(line) {
                let help = format!("quote the text: {}", quoted(value));
                return problem_at(to_location(error.marker()), message, help);
            }
            (message, "check the indentation, the colons and the brackets here and just above")
        }
    };
    problem_at(to_location(error.marker()), message, help)
}

/// A value of the line that begins with a closed bracket and goes on as text, such as `{message} happened`.
fn half_quoted(line: &str) -> Option<&str> {
    let (_, value) = line.split_once(": ").or_else(|| line.split_once("- "))?;
    let value = value.trim();
    let closing = match value.chars().next()? {
        '{' => '}',
        '[' => ']',
        _ => return None,
    };
    let (_, rest) = value.split_once(closing)?;
    let rest = rest.trim_start();
    (!rest.is_empty() && !rest.starts_with('#')).then_some(value)
}

/// The key decides the type of a value, so that a tag would have no effect.
fn reject_tag(tag: Option<&Tag>, help: &str, location: Location) -> Result<(), Problem> {
    match tag {
        Some(_) => Err(problem_at(location, "tags (\"!name\") are not supported", help)),
        None => Ok(()),
    }
}

fn to_location(marker: &Marker) -> Location {
    Location { file: 0, line: marker.line().max(1), column: marker.col() + 1 }
}

fn problem_at(location: Location, message: impl Into<String>, help: impl Into<String>) -> Problem {
    Diagnostic::new(message, help).at("", location)
}

/// Nesting of lists and mappings, each; the deepest key of a configuration is at 6.
const MAX_DEPTH: usize = 32;
/// Bounds what aliases can multiply: well above any file a person writes.
const MAX_VALUES: usize = 250_000;

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

    fn first_value(text: &str) -> (NodeKind, Vec<Problem>) {
        let mut problems = Vec::new();
        let tree = parse(text, &env, &mut problems).unwrap();
        let NodeKind::Mapping(entries) = tree.kind else { panic!("not a mapping") };
        (entries[0].value.kind.clone(), problems)
    }

    fn text_of(yaml: &str) -> String {
        match first_value(yaml) {
            (NodeKind::Scalar { text, .. }, problems) if problems.is_empty() => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn variables_are_expanded_in_values_only() {
        assert_eq!(text_of("a: \"0.0.0.0:${PORT}\""), "0.0.0.0:8080");
        assert_eq!(text_of("a: ${PORT}"), "8080");
        assert_eq!(text_of("a: ${MISSING:-x}${PORT}"), "x8080");
        assert_eq!(text_of("a: \"${EMPTY:-x}\""), "x");
        assert_eq!(text_of("a: \"${EMPTY}\""), "");
        assert_eq!(text_of("a: $${PORT} $5"), "${PORT} $5");
        let mut problems = Vec::new();
        let tree = parse("${PORT}: 1", &env, &mut problems).unwrap();
        assert!(matches!(&tree.kind, NodeKind::Mapping(entries) if entries[0].key == "${PORT}"));
    }

    #[test]
    fn variable_values_are_not_expanded_again() {
        let nested_variables = |name: &str| (name == "A").then(|| "${B}".to_owned());
        assert_eq!(expand("${A}", &nested_variables).unwrap(), "${B}");
    }

    #[test]
    fn aliases_are_copied_and_bounded() {
        let (kind, _) = first_value("b: &x [1]\n");
        let mut problems = Vec::new();
        let tree = parse("a: &x [1]\nb: *x", &env, &mut problems).unwrap();
        let NodeKind::Mapping(entries) = tree.kind else { panic!("not a mapping") };
        assert!(
            matches!((&entries[1].value.kind, kind), (NodeKind::Sequence(a), NodeKind::Sequence(b)) if a.len() == b.len())
        );

        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = level - 1;
            let items = format!("*a{before}, ").repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert_eq!(parse(&bomb, &env, &mut problems).unwrap_err().message, "the file has too many values");
        let mut chain = "a0: &a0 [x]\n".to_owned();
        for level in 1..200 {
            chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert_eq!(parse(&chain, &env, &mut problems).unwrap_err().message, "aliases are nested too deeply");
        assert!(parse("a: &a [*a]", &env, &mut problems).is_err());
    }

    #[test]
    fn unsupported_yaml_is_rejected_with_its_location() {
        let parse_error = |text: &str| {
            let problem = parse(text, &env, &mut Vec::new()).unwrap_err();
            (problem.location.map(|spot| (spot.line, spot.column)), problem.message)
        };
        assert_eq!(parse_error(""), (None, "the file is empty".to_owned()));
        assert_eq!(parse_error("# only a comment\n"), (None, "the file is empty".to_owned()));
        assert_eq!(
            parse_error("a: 1\n---\nb: 2\n"),
            (Some((2, 1)), "a second document starts here".to_owned())
        );
        assert_eq!(parse_error("a:\n\tb: 1\n"), (Some((2, 2)), "a tab is used as indentation".to_owned()));
        assert_eq!(
            parse_error("a: !secret x"),
            (Some((1, 12)), "tags (\"!name\") are not supported".to_owned())
        );
        assert_eq!(parse_error("{a: 1}: 2"), (Some((1, 1)), "a key must be text".to_owned()));
        assert_eq!(parse_error("a: *b"), (Some((1, 4)), "unknown anchor".to_owned()));
    }

    #[test]
    fn duplicate_key_and_missing_variable_are_both_reported() {
        let mut problems = Vec::new();
        parse("a:\n  b: ${NOT_SET}\n  b: 2\n", &env, &mut problems).unwrap();
        let messages: Vec<_> = problems.iter().map(|p| (p.path.as_str(), p.message_and_help())).collect();
        assert_eq!(
            messages,
            [
                ("a.b", "duplicate key, first on line 2; remove one of them".to_owned()),
                (
                    "a.b",
                    "the environment variable NOT_SET is not set; set it, or write a default: \"${NOT_SET:-default}\""
                        .to_owned()
                ),
            ]
        );
    }
}
