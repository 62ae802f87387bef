//! The template of an error body: one tree that renders bodies, checks whether a body conforms, completes a conforming
//! body, and says where an upstream's body has the message.
//!
//! [`source`] is the template as the operator wrote it, [`parse`] turns it into the tree, [`presets`] has the built-in
//! ones. Because [`render`], [`conform`] and [`add_members`] walk the same tree, a rendered body always conforms.

pub(crate) mod add_members;
pub(crate) mod conform;
pub(crate) mod parse;
pub(crate) mod presets;
pub(crate) mod render;
pub(crate) mod source;

use super::json::Value;
use super::path::{JsonPath, Step};
use schemars::JsonSchema;
use serde::Deserialize;

pub use parse::TemplateProblem;
pub use source::TemplateSource;

/// The names of the placeholders that every template may have.
pub(crate) fn placeholder_names<'a>() -> impl Iterator<Item = &'a str> {
    Field::NAMES.iter().map(|(word, _)| *word)
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    root: ObjectNode,
    /// The declared values, in the order of their indices.
    values: Vec<DeclaredValue>,
    facts: Facts,
}

/// What is known about a template before a body is rendered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    /// A gateway placeholder is somewhere, so that a conforming body may have to be completed.
    adds_members: bool,
    /// A placeholder depends on the request, so that no body can be prepared.
    varies: bool,
    /// The gateway writes `{details}`.
    details: bool,
    message: Vec<JsonPath>,
    kind: Vec<JsonPath>,
    detail_places: Vec<JsonPath>,
    /// The places of the declared values, by index.
    declared: Vec<Vec<JsonPath>>,
}

/// A placeholder that the contract declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredValue {
    /// The name in braces.
    pub name: String,
    /// Its JSON type.
    pub value_type: ValueType,
}

/// The JSON type of a declared value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// A text.
    String,
    /// A number without fraction.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// An object.
    Object,
    /// A list.
    List,
    /// Any value.
    Any,
}

impl ValueType {
    /// The words of the configuration, with their types.
    pub const ALL: &'static [(&'static str, ValueType)] = &[
        ("string", ValueType::String),
        ("integer", ValueType::Integer),
        ("boolean", ValueType::Boolean),
        ("object", ValueType::Object),
        ("list", ValueType::List),
        ("any", ValueType::Any),
    ];

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<ValueType> {
        ValueType::ALL.iter().find(|(word, _)| *word == name).map(|(_, value_type)| *value_type)
    }

    /// The word of the configuration.
    pub fn name(self) -> &'static str {
        ValueType::ALL.iter().find(|(_, value_type)| *value_type == self).map_or("", |(word, _)| word)
    }
}

/// A value of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Null,
    Bool(bool),
    /// As written.
    Number(Box<str>),
    /// Without placeholders.
    Text(Box<str>),
    Object(ObjectNode),
    /// Exactly these items.
    List(Vec<Node>),
    /// A list of one object: a body may have several.
    Repeated(ObjectNode),
    Placeholder(Placeholder),
    /// Text with placeholders.
    Mixed(Vec<Piece>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ObjectNode {
    members: Vec<MemberNode>,
    /// `"*": any`: a body may have further members.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct MemberNode {
    name: Box<str>,
    /// `"name":`, as JSON.
    key: Box<str>,
    node: Node,
    /// A body of the upstream may lack it.
    optional: bool,
}

/// A value that is exactly one placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placeholder {
    field: Field,
    /// `|string`.
    as_text: bool,
    /// `|null`: written as null where the value is absent; null of the upstream is accepted.
    or_null: bool,
}

/// A part of a text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Field(Field),
}

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Code,
    Message,
    Title,
    Type,
    Details,
    RequestId,
    Cause,
    Retryable,
    RequestSent,
    RetryAfter,
    /// By its index in [`Template::values`].
    Declared(usize),
    /// The upstream's type: never of the gateway. Of the built-in contracts, whose bodies may have it.
    UpstreamType,
    /// The version of the upstream's software: accepted, never written.
    Version,
    /// A problem document's `type`: the type if it is a URI, else `about:blank`.
    ProblemType,
    /// A problem document's `code`: the type if it is no URI.
    ProblemCode,
    /// A problem document's `instance`: the request ID as a URN.
    ProblemInstance,
}

/// What is known about a placeholder before a body is rendered.
struct FieldFacts {
    source: ValueSource,
    /// The value depends on the request, not only on the cause.
    varies: bool,
    /// The gateway may have no value.
    may_be_absent: bool,
}

/// Who knows the value of a placeholder.
#[derive(PartialEq, Eq)]
enum ValueSource {
    /// The contract, or the upstream.
    Error,
    /// The gateway; a conforming body keeps the upstream's.
    Gateway,
    /// The gateway, which replaces the value in a conforming body.
    GatewayAlone,
}

impl Field {
    /// The names of the placeholders that every template may have.
    const NAMES: &'static [(&'static str, Field)] = &[
        ("code", Field::Code),
        ("message", Field::Message),
        ("title", Field::Title),
        ("type", Field::Type),
        ("details", Field::Details),
        ("request_id", Field::RequestId),
        ("cause", Field::Cause),
        ("retryable", Field::Retryable),
        ("request_sent", Field::RequestSent),
        ("retry_after", Field::RetryAfter),
    ];

    fn from_name(name: &str) -> Option<Field> {
        Field::NAMES.iter().find(|(word, _)| *word == name).map(|(_, field)| *field)
    }

    const fn facts(self) -> FieldFacts {
        let (source, varies, may_be_absent) = match self {
            Field::Code | Field::Message | Field::Title | Field::Type | Field::ProblemType => {
                (ValueSource::Error, false, false)
            }
            Field::Details
            | Field::Declared(_)
            | Field::UpstreamType
            | Field::Version
            | Field::ProblemCode => (ValueSource::Error, false, true),
            Field::RequestId => (ValueSource::Gateway, true, false),
            Field::ProblemInstance => (ValueSource::Gateway, true, true),
            Field::Cause => (ValueSource::GatewayAlone, false, false),
            Field::Retryable | Field::RequestSent => (ValueSource::GatewayAlone, true, false),
            Field::RetryAfter => (ValueSource::GatewayAlone, true, true),
        };
        FieldFacts { source, varies, may_be_absent }
    }

    /// Whether only the gateway knows the value.
    fn is_of_gateway(self) -> bool {
        self.facts().source != ValueSource::Error
    }

    /// Whether the gateway replaces the value in a conforming body.
    fn is_overwritten(self) -> bool {
        self.facts().source == ValueSource::GatewayAlone
    }

    /// Whether `|null` says something: the gateway may have no value, or APIs document null for it. The gateway itself
    /// always has a message, a title, a type and a request ID.
    const fn may_be_null(self) -> bool {
        self.facts().may_be_absent
            || matches!(self, Field::Message | Field::Title | Field::Type | Field::RequestId)
    }
}

impl Node {
    /// The placeholder that is the whole value.
    const fn placeholder(&self) -> Option<&Placeholder> {
        if let Node::Placeholder(placeholder) = self { Some(placeholder) } else { None }
    }

    /// A placeholder without a value is left out, not written as `null`.
    fn may_be_absent(&self) -> bool {
        self.placeholder()
            .is_some_and(|placeholder| placeholder.field.facts().may_be_absent && !placeholder.or_null)
    }

    /// Whether it is a value that the gateway replaces in a conforming body.
    fn is_overwritten(&self) -> bool {
        self.placeholder().is_some_and(|placeholder| placeholder.field.is_overwritten())
    }

    /// Whether the gateway alone can fill it: it has gateway placeholders and no other.
    fn is_of_gateway(&self) -> bool {
        let (mut own, mut other) = (false, false);
        self.for_each_field(&mut |field| {
            own |= field.is_of_gateway();
            other |= !field.is_of_gateway();
        });
        own && !other
    }

    /// Calls `visit` with every placeholder.
    fn for_each_field(&self, visit: &mut dyn FnMut(Field)) {
        match self {
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => {}
            Node::Object(object) | Node::Repeated(object) => object.for_each_field(visit),
            Node::List(items) => items.iter().for_each(|item| item.for_each_field(visit)),
            Node::Placeholder(placeholder) => visit(placeholder.field),
            Node::Mixed(pieces) => pieces.iter().for_each(|piece| match piece {
                Piece::Literal(_) => {}
                Piece::Field(field) => visit(*field),
            }),
        }
    }

    /// Calls `visit` with every value that is exactly one placeholder, and its place.
    fn for_each_place(&self, path: &mut Vec<Step>, visit: &mut dyn FnMut(Field, &[Step])) {
        match self {
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) | Node::Mixed(_) => {}
            Node::Placeholder(placeholder) => visit(placeholder.field, path),
            Node::Object(object) => object.for_each_place(path, visit),
            Node::Repeated(object) => {
                path.push(Step::Item(0));
                object.for_each_place(path, visit);
                path.pop();
            }
            Node::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(Step::Item(index));
                    item.for_each_place(path, visit);
                    path.pop();
                }
            }
        }
    }
}

impl ObjectNode {
    fn for_each_field(&self, visit: &mut dyn FnMut(Field)) {
        self.members.iter().for_each(|member| member.node.for_each_field(visit));
    }

    fn for_each_place(&self, path: &mut Vec<Step>, visit: &mut dyn FnMut(Field, &[Step])) {
        for member in &self.members {
            path.push(Step::Member(member.name.clone()));
            member.node.for_each_place(path, visit);
            path.pop();
        }
    }
}

impl MemberNode {
    fn new(name: &str, node: Node, optional: bool) -> MemberNode {
        let mut key = bytes::BytesMut::new();
        super::body::write_string(name, &mut key);
        let key = format!("{}:", String::from_utf8_lossy(&key));
        let optional = optional || node.may_be_absent() || node.is_of_gateway();
        MemberNode { name: name.into(), key: key.into(), node, optional }
    }
}

impl Template {
    fn new(root: ObjectNode, values: Vec<DeclaredValue>) -> Template {
        let mut facts = Facts { declared: vec![Vec::new(); values.len()], ..Facts::default() };
        root.for_each_field(&mut |field| {
            facts.adds_members |= field.is_of_gateway();
            facts.varies |= field.facts().varies;
            facts.details |= field == Field::Details;
        });
        root.for_each_place(&mut Vec::new(), &mut |field, steps| {
            let path = JsonPath::new(steps.to_vec());
            match field {
                Field::Message => facts.message.push(path),
                Field::Type | Field::UpstreamType | Field::ProblemType | Field::ProblemCode => {
                    facts.kind.push(path);
                }
                Field::Details => facts.detail_places.push(path),
                Field::Declared(index) => {
                    if let Some(places) = facts.declared.get_mut(index) {
                        places.push(path);
                    }
                }
                Field::Code
                | Field::Title
                | Field::RequestId
                | Field::Cause
                | Field::Retryable
                | Field::RequestSent
                | Field::RetryAfter
                | Field::Version
                | Field::ProblemInstance => {}
            }
        });
        Template { root, values, facts }
    }

    /// Whether every template has a placeholder of this name.
    pub(crate) fn is_reserved(name: &str) -> bool {
        Field::from_name(name).is_some()
    }

    /// Whether members may have to be added to a conforming body.
    pub(crate) const fn adds_members(&self) -> bool {
        self.facts.adds_members
    }

    /// Whether a body depends on the request that it answers.
    pub(crate) const fn varies(&self) -> bool {
        self.facts.varies
    }

    /// Whether a body can have details.
    pub(crate) const fn has_details(&self) -> bool {
        self.facts.details
    }

    /// The declared values.
    pub(crate) fn values(&self) -> &[DeclaredValue] {
        &self.values
    }

    /// Where the message stands.
    pub(crate) fn message_places(&self) -> &[JsonPath] {
        &self.facts.message
    }

    /// Where the type stands.
    pub(crate) fn type_places(&self) -> &[JsonPath] {
        &self.facts.kind
    }

    /// Where the details stand.
    pub(crate) fn detail_places(&self) -> &[JsonPath] {
        &self.facts.detail_places
    }

    /// The value at a place of the declared value with this index, if it has the declared type.
    pub(crate) fn declared_in<'v, 't>(&self, index: usize, body: &'v Value<'t>) -> Option<&'v Value<'t>> {
        let value_type = self.values.get(index)?.value_type;
        let mut places = self.facts.declared.get(index)?.iter();
        places.find_map(|place| {
            place.find(body).filter(|value| conform::has_type(value, value_type) && !conform::is_null(value))
        })
    }
}

#[cfg(test)]
#[path = "../template_tests.rs"]
mod tests;
