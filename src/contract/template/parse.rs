//! Turns a template as written into the tree, or into the list of what is wrong with it.

use std::fmt;

use super::source::TemplateSource;
use super::{DeclaredValue, Field, MemberNode, Node, ObjectNode, Piece, Placeholder, Template, ValueType};
use crate::contract::path::{JsonPath, Step};
use crate::contract::text;

/// Nesting of lists and objects in a template: deeper ones are mistakes, and the walks are recursive.
const MAX_DEPTH: usize = 16;

/// Something wrong with a template. Its `Display` is the message for the operator; `help` says what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateProblem {
    /// Where in the template: member names, optional marks included, and indices.
    pub place: Vec<Step>,
    /// The problem is the name of the member, not its value.
    pub at_name: bool,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

impl fmt::Display for TemplateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            return write!(f, "the body {}", self.message);
        }
        write!(f, "body.{}: {}", JsonPath::new(self.place.clone()), self.message)
    }
}

impl Template {
    /// Parses a template. `values` are the placeholders that the contract declares.
    ///
    /// # Errors
    /// All problems, in the order of the template.
    pub(crate) fn parse(
        source: &TemplateSource,
        values: Vec<DeclaredValue>,
    ) -> Result<Template, Vec<TemplateProblem>> {
        let mut parser = Parser { values: &values, place: Vec::new(), problems: Vec::new() };
        let root = match source {
            TemplateSource::Object(members) => match parser.unquoted_placeholder(members) {
                Some(written) => {
                    let help = format!("write {{ message: \"{{{written}}}\" }}");
                    parser
                        .report(format!("is {{{written}}} without quotes: a mapping of it to nothing"), help);
                    ObjectNode::default()
                }
                None => parser.object(members),
            },
            TemplateSource::Null
            | TemplateSource::Empty
            | TemplateSource::Bool(_)
            | TemplateSource::Number(_)
            | TemplateSource::Text(_)
            | TemplateSource::List(_) => {
                let message = format!("is {}; an error body is an object", type_name(source));
                parser.report(message, "write an object, for example { error: \"{message}\" }");
                ObjectNode::default()
            }
        };
        let mut names_the_error = !parser.problems.is_empty();
        root.for_each_field(&mut |field| {
            names_the_error |= matches!(field, Field::Message | Field::Title | Field::Type);
        });
        if !names_the_error {
            parser.report(
                "does not say what happened: no {message}, {title} or {type}",
                "add one of them, for example message: \"{message}\"",
            );
        }
        if parser.problems.is_empty() { Ok(Template::new(root, values)) } else { Err(parser.problems) }
    }
}

struct Parser<'a> {
    values: &'a [DeclaredValue],
    place: Vec<Step>,
    problems: Vec<TemplateProblem>,
}

impl Parser<'_> {
    fn report(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(TemplateProblem {
            place: self.place.clone(),
            at_name: false,
            message: message.into(),
            help: help.into(),
        });
    }

    fn report_name(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.report(message, help);
        if let Some(problem) = self.problems.last_mut() {
            problem.at_name = true;
        }
    }

    /// Names are literal: a placeholder in one would be sent as it is.
    fn placeholder_in_name<'n>(&self, name: &'n str) -> Option<&'n str> {
        let (_, inside) = name.split_once('{')?;
        let (placeholder, _) = inside.split_once('}')?;
        let field = placeholder.split('|').next().unwrap_or_default();
        self.field(field).map(|_| field)
    }

    fn object(&mut self, members: &[(String, TemplateSource)]) -> ObjectNode {
        let mut object = ObjectNode::default();
        for (written, value) in members {
            self.place.push(Step::Member(written.as_str().into()));
            let (name, optional) = match written.strip_suffix('?') {
                Some(name) => (name, true),
                None => (written.as_str(), false),
            };
            if written == "*" {
                object.open = true;
                if *value != TemplateSource::Text("any".to_owned()) {
                    self.report("\"*\" stands for further members of any kind", "write any");
                }
            } else if object.members.iter().any(|member| *member.name == *name) {
                self.report_name(
                    format!("the object has two members {name:?}"),
                    "remove one of them, or rename it",
                );
            } else if let Some(placeholder) = self.placeholder_in_name(name) {
                self.report_name(
                    format!("{{{placeholder}}} is the name of the member, not its value"),
                    format!("write {placeholder}: \"{{{placeholder}}}\""),
                );
            } else {
                let node = self.node(value);
                object.members.push(MemberNode::new(name, node, optional));
            }
            self.place.pop();
        }
        object
    }

    fn node(&mut self, source: &TemplateSource) -> Node {
        if self.place.len() > MAX_DEPTH {
            self.report("the body is nested too deeply", "use at most 16 levels");
            return Node::Null;
        }
        match source {
            TemplateSource::Null => Node::Null,
            TemplateSource::Empty => {
                self.report("has no value", "write null, or a placeholder such as \"{message}\"");
                Node::Null
            }
            TemplateSource::Bool(truth) => Node::Bool(*truth),
            TemplateSource::Number(number) => Node::Number(number.as_str().into()),
            TemplateSource::Text(text) => self.text(text),
            TemplateSource::List(items) => self.list(items),
            TemplateSource::Object(members) => match self.unquoted_placeholder(members) {
                Some(written) => {
                    self.report(
                        format!("{{{written}}} without quotes is a mapping, not a placeholder"),
                        format!("write \"{{{written}}}\""),
                    );
                    Node::Null
                }
                None => Node::Object(self.object(members)),
            },
        }
    }

    /// YAML reads `{type}` without quotes as a mapping of `type` to nothing.
    fn unquoted_placeholder<'m>(&self, members: &'m [(String, TemplateSource)]) -> Option<&'m str> {
        let [(name, TemplateSource::Null | TemplateSource::Empty)] = members else { return None };
        let field = name.split('|').next().unwrap_or_default().trim();
        self.field(field).map(|_| name.as_str())
    }

    fn list(&mut self, items: &[TemplateSource]) -> Node {
        if let [TemplateSource::Object(members)] = items {
            self.place.push(Step::Item(0));
            let unquoted = self.unquoted_placeholder(members).is_some();
            let node = if unquoted { None } else { Some(self.object(members)) };
            self.place.pop();
            if let Some(object) = node {
                return Node::Repeated(object);
            }
        }
        let mut nodes = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.place.push(Step::Item(index));
            nodes.push(self.node(item));
            self.place.pop();
        }
        Node::List(nodes)
    }

    fn field(&self, name: &str) -> Option<Field> {
        Field::from_name(name)
            .or_else(|| self.values.iter().position(|value| value.name == name).map(Field::Declared))
    }

    fn text(&mut self, text: &str) -> Node {
        let Some(pieces) = self.pieces(text) else { return Node::Null };
        match pieces.as_slice() {
            [] => Node::Text("".into()),
            [WrittenPiece::Literal(literal)] => Node::Text(literal.as_str().into()),
            [WrittenPiece::Placeholder(written)] => self.placeholder(written),
            [..] => self.mixed(&pieces),
        }
    }

    /// A text with placeholders and other text: it must pass the text rule, so that a conforming one does.
    fn mixed(&mut self, pieces: &[WrittenPiece]) -> Node {
        let mut nodes = Vec::with_capacity(pieces.len());
        let mut sample = String::new();
        for piece in pieces {
            match piece {
                WrittenPiece::Literal(literal) => {
                    sample.push_str(literal);
                    nodes.push(Piece::Literal(literal.as_str().into()));
                }
                WrittenPiece::Placeholder(written) => {
                    let (name, modifier) = match written.split_once('|') {
                        Some((name, modifier)) => (name, Some(modifier)),
                        None => (written.as_str(), None),
                    };
                    if modifier.is_some_and(|modifier| modifier != "string") {
                        let help = format!("write {{{name}}}: inside a text, an absent value is empty");
                        self.report(format!("{{{written}}} inside a text"), help);
                    }
                    let Some(field) = self.field(name) else {
                        self.unknown(name);
                        continue;
                    };
                    if self.is_structured(field) {
                        self.report(
                            format!("{{{name}}} is not a text"),
                            format!("give it a member of its own: {name}: \"{{{name}}}\""),
                        );
                    }
                    sample.push('a');
                    nodes.push(Piece::Field(field));
                }
            }
        }
        if !text::passes_rule(&sample) {
            self.report(
                "the text looks like markup, a stack trace or an address with a password",
                "write a plain sentence",
            );
        }
        Node::Mixed(nodes)
    }

    /// Whether the value can be a list or an object.
    fn is_structured(&self, field: Field) -> bool {
        match field {
            Field::Details => true,
            Field::Declared(index) => self.values.get(index).is_some_and(|value| match value.value_type {
                ValueType::Object | ValueType::List | ValueType::Any => true,
                ValueType::String | ValueType::Integer | ValueType::Boolean => false,
            }),
            Field::Code
            | Field::Message
            | Field::Title
            | Field::Type
            | Field::RequestId
            | Field::Cause
            | Field::Retryable
            | Field::RequestSent
            | Field::RetryAfter
            | Field::UpstreamType
            | Field::Version
            | Field::ProblemType
            | Field::ProblemCode
            | Field::ProblemInstance => false,
        }
    }

    fn placeholder(&mut self, written: &str) -> Node {
        let mut parts = written.split('|');
        let name = parts.next().unwrap_or_default();
        let Some(field) = self.field(name) else {
            self.unknown(name);
            return Node::Null;
        };
        let mut placeholder = Placeholder { field, as_text: false, or_null: false };
        for modifier in parts {
            match modifier {
                "string" if self.is_structured(field) => {
                    self.report(
                        format!("{{{name}}} cannot be written as text"),
                        format!("write \"{{{name}}}\""),
                    );
                }
                "string" => placeholder.as_text = true,
                "null" if !field.may_be_null() => {
                    self.report(format!("{{{name}}} is never absent"), format!("write \"{{{name}}}\""));
                }
                "null" => placeholder.or_null = true,
                _ => {
                    self.report(
                        format!("unknown modifier {modifier:?}"),
                        format!("write \"{{{name}}}\", or |string or |null after the name"),
                    );
                }
            }
        }
        Node::Placeholder(placeholder)
    }

    fn unknown(&mut self, name: &str) {
        let declared = self.values.iter().map(|value| value.name.as_str());
        let known: Vec<String> =
            super::placeholder_names().chain(declared).map(|word| format!("\"{{{word}}}\"")).collect();
        let help =
            format!("use {}; declare another one in `values`, or write {{{{ for a brace", known.join(", "));
        self.report(format!("unknown placeholder {{{name}}}"), help);
    }

    /// Splits a text at its placeholders. `None` after a problem.
    fn pieces(&mut self, text: &str) -> Option<Vec<WrittenPiece>> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at_checked(at)?;
            literal.push_str(before);
            if let Some(after) = brace.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some((name, after)) =
                brace.strip_prefix('{').and_then(|inside| inside.split_once('}'))
                && !name.contains('{')
            {
                if !literal.is_empty() {
                    pieces.push(WrittenPiece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(WrittenPiece::Placeholder(name.to_owned()));
                rest = after;
            } else {
                let (message, help) = if brace.starts_with('{') {
                    ("a { is not closed", "close it: \"{message}\"; or write {{ for a brace")
                } else {
                    ("a } has no {", "remove it, or write }} for a brace")
                };
                self.report(message, help);
                return None;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(WrittenPiece::Literal(literal));
        }
        Some(pieces)
    }
}

enum WrittenPiece {
    Literal(String),
    /// The text between the braces.
    Placeholder(String),
}

fn type_name(source: &TemplateSource) -> &'static str {
    match source {
        TemplateSource::Null | TemplateSource::Empty => "empty",
        TemplateSource::Bool(_) => "true or false",
        TemplateSource::Number(_) => "a number",
        TemplateSource::Text(_) => "a text",
        TemplateSource::List(_) => "a list",
        TemplateSource::Object(_) => "an object",
    }
}
