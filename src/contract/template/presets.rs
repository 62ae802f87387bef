//! The built-in templates.

use std::sync::LazyLock;

use super::{Field, MemberNode, Node, ObjectNode, Placeholder, Template};
use crate::contract::body::Include;

/// The form of negotiated problem documents.
pub(crate) static PROBLEM: LazyLock<Template> = LazyLock::new(|| Preset::Problem.template());

/// A template by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// `{"message":"...","code":404}`, with the members of `errors.include`.
    #[default]
    Flat,
    /// `{"error":{"code":"not_found","message":"..."}}`.
    ErrorObject,
    /// JSON:API.
    ErrorsList,
    /// A problem document (RFC 9457).
    Problem,
}

impl Preset {
    /// The words of the configuration.
    pub const ALL: &'static [(&'static str, Preset)] = &[
        ("flat", Preset::Flat),
        ("error_object", Preset::ErrorObject),
        ("errors_list", Preset::ErrorsList),
        ("problem", Preset::Problem),
    ];

    /// The preset of this name.
    pub fn from_name(name: &str) -> Option<Preset> {
        Preset::ALL.iter().find(|(word, _)| *word == name).map(|(_, preset)| *preset)
    }

    /// The media type of its bodies.
    pub const fn media_type(self) -> &'static str {
        match self {
            Preset::Flat | Preset::ErrorObject => "application/json",
            Preset::ErrorsList => "application/vnd.api+json",
            Preset::Problem => "application/problem+json",
        }
    }

    pub(crate) fn template(self) -> Template {
        match self {
            Preset::Flat => Template::flat(Include::default(), UpstreamMembers::Refused),
            Preset::ErrorObject => Template::new(
                object(vec![member(
                    "error",
                    Node::Object(object(vec![
                        placeholder("code", Field::Type),
                        placeholder("message", Field::Message),
                        optional("details", Field::Details),
                    ])),
                )]),
                Vec::new(),
            ),
            Preset::ErrorsList => {
                let mut error = object(vec![
                    member("status", value(Field::Code, true)),
                    placeholder("code", Field::Type),
                    placeholder("title", Field::Title),
                    placeholder("detail", Field::Message),
                ]);
                error.open = true;
                Template::new(object(vec![member("errors", Node::Repeated(error))]), Vec::new())
            }
            Preset::Problem => {
                let mut root = object(vec![
                    optional("type", Field::ProblemType),
                    optional("title", Field::Title),
                    placeholder("status", Field::Code),
                    optional("detail", Field::Message),
                    optional("instance", Field::ProblemInstance),
                    optional("code", Field::ProblemCode),
                    optional("errors", Field::Details),
                    optional("retry_after", Field::RetryAfter),
                ]);
                root.open = true;
                Template::new(root, Vec::new())
            }
        }
    }
}

/// Whether a flat body of the upstream may have the members `type` and `version`, as those of the built-in contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamMembers {
    Accepted,
    Refused,
}

impl Template {
    /// The flat body with these members.
    pub(crate) fn flat(include: Include, upstream: UpstreamMembers) -> Template {
        let mut members = vec![placeholder("message", Field::Message), placeholder("code", Field::Code)];
        if include.kind {
            members.push(optional("type", Field::Type));
        } else if upstream == UpstreamMembers::Accepted {
            members.push(optional("type", Field::UpstreamType));
        }
        for (included, name, field) in [
            (include.details, "details", Field::Details),
            (include.request_id, "request_id", Field::RequestId),
            (include.cause, "cause", Field::Cause),
            (include.retryable, "retryable", Field::Retryable),
            (include.request_sent, "request_sent", Field::RequestSent),
        ] {
            if included {
                members.push(optional(name, field));
            }
        }
        if upstream == UpstreamMembers::Accepted {
            members.push(optional("version", Field::Version));
        }
        Template::new(object(members), Vec::new())
    }
}

const fn object(members: Vec<MemberNode>) -> ObjectNode {
    ObjectNode { members, open: false }
}

const fn value(field: Field, as_text: bool) -> Node {
    Node::Placeholder(Placeholder { field, as_text, or_null: false })
}

fn member(name: &str, node: Node) -> MemberNode {
    MemberNode::new(name, node, false)
}

fn placeholder(name: &str, field: Field) -> MemberNode {
    member(name, value(field, false))
}

fn optional(name: &str, field: Field) -> MemberNode {
    MemberNode::new(name, value(field, false), true)
}
