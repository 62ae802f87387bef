//! Writes a body: the members in the order of the template, without whitespace.

use bytes::{BufMut, BytesMut};

use super::{Field, Node, ObjectNode, Piece, Placeholder, Template};
use crate::contract::body::{decimal_digits, write_string};
use crate::contract::fault::RequestSent;
use crate::contract::types::{is_integer_type, is_uri};

/// The values of the placeholders of one body. Texts that are JSON come from the reader or the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyValues<'a> {
    /// The status that is sent.
    pub code: u16,
    /// The title of the code.
    pub title: &'a str,
    /// The message.
    pub message: &'a str,
    /// The type; never empty.
    pub kind: &'a str,
    /// `kind` is the upstream's.
    pub kind_of_upstream: bool,
    /// The details, as JSON.
    pub details: Option<&'a str>,
    /// The request ID in the response.
    pub request_id: Option<&'a str>,
    /// The name of the cause.
    pub cause: &'a str,
    /// Whether the client may repeat the request.
    pub retryable: bool,
    /// Whether the request reached the upstream.
    pub request_sent: RequestSent,
    /// The seconds of the response's `Retry-After`.
    pub retry_after: Option<u64>,
    /// The declared values, as JSON, by their index.
    pub declared: &'a [Option<&'a str>],
}

impl Template {
    /// Writes the body.
    pub(crate) fn render(&self, values: &BodyValues<'_>, out: &mut BytesMut) {
        out.reserve(values.message.len() + values.details.map_or(0, str::len) + 192);
        write_object(&self.root, values, out);
    }
}

/// Whether the value is left out.
pub(super) fn is_absent(node: &Node, values: &BodyValues<'_>) -> bool {
    node.placeholder()
        .is_some_and(|placeholder| !placeholder.or_null && field_is_absent(placeholder.field, values))
}

fn field_is_absent(field: Field, values: &BodyValues<'_>) -> bool {
    match field {
        Field::Details => values.details.is_none(),
        Field::RetryAfter => values.retry_after.is_none(),
        Field::RequestId => values.request_id.is_none(),
        Field::ProblemInstance => !values.request_id.is_some_and(is_uuid),
        Field::ProblemCode => is_uri(values.kind),
        Field::Declared(index) => values.declared.get(index).copied().flatten().is_none(),
        Field::UpstreamType => !values.kind_of_upstream,
        Field::Version => true,
        Field::Code
        | Field::Message
        | Field::Title
        | Field::Type
        | Field::Cause
        | Field::Retryable
        | Field::RequestSent
        | Field::ProblemType => false,
    }
}

pub(super) fn write_node(node: &Node, values: &BodyValues<'_>, out: &mut BytesMut) {
    match node {
        Node::Null => out.put_slice(b"null"),
        Node::Bool(true) => out.put_slice(b"true"),
        Node::Bool(false) => out.put_slice(b"false"),
        Node::Number(number) => out.put_slice(number.as_bytes()),
        Node::Text(text) => write_string(text, out),
        Node::Object(object) => write_object(object, values, out),
        Node::Repeated(object) => {
            out.put_u8(b'[');
            write_object(object, values, out);
            out.put_u8(b']');
        }
        Node::List(items) => {
            out.put_u8(b'[');
            let mut first = true;
            for item in items.iter().filter(|item| !is_absent(item, values)) {
                if !std::mem::take(&mut first) {
                    out.put_u8(b',');
                }
                write_node(item, values, out);
            }
            out.put_u8(b']');
        }
        Node::Placeholder(placeholder) => write_placeholder(*placeholder, values, out),
        Node::Mixed(pieces) => {
            let mut text = String::new();
            for piece in pieces {
                match piece {
                    Piece::Literal(literal) => text.push_str(literal),
                    Piece::Field(field) => push_field(*field, values, &mut text),
                }
            }
            write_string(&text, out);
        }
    }
}

fn write_object(object: &ObjectNode, values: &BodyValues<'_>, out: &mut BytesMut) {
    out.put_u8(b'{');
    let mut first = true;
    for member in object.members.iter().filter(|member| !is_absent(&member.node, values)) {
        if !std::mem::take(&mut first) {
            out.put_u8(b',');
        }
        out.put_slice(member.key.as_bytes());
        write_node(&member.node, values, out);
    }
    out.put_u8(b'}');
}

fn write_placeholder(placeholder: Placeholder, values: &BodyValues<'_>, out: &mut BytesMut) {
    let field = placeholder.field;
    if field_is_absent(field, values) {
        out.put_slice(b"null");
        return;
    }
    if placeholder.as_text {
        let mut text = String::new();
        push_field(field, values, &mut text);
        write_string(&text, out);
        return;
    }
    match field {
        Field::Code => out.put_slice(decimal_digits(values.code.into(), &mut [0; 20])),
        Field::Message => write_string(values.message, out),
        Field::Title => write_string(values.title, out),
        Field::Type | Field::UpstreamType | Field::ProblemCode if is_integer_type(values.kind) => {
            out.put_slice(values.kind.as_bytes());
        }
        Field::Type | Field::UpstreamType | Field::ProblemCode => write_string(values.kind, out),
        Field::ProblemType if is_uri(values.kind) => write_string(values.kind, out),
        Field::ProblemType => out.put_slice(b"\"about:blank\""),
        Field::Details => out.put_slice(values.details.unwrap_or("null").as_bytes()),
        Field::RequestId => write_string(values.request_id.unwrap_or_default(), out),
        Field::ProblemInstance => {
            out.put_slice(b"\"urn:uuid:");
            // A UUID: nothing to escape.
            out.put_slice(values.request_id.unwrap_or_default().as_bytes());
            out.put_u8(b'"');
        }
        Field::Cause => write_string(values.cause, out),
        Field::Retryable => out.put_slice(if values.retryable { b"true" } else { b"false" }),
        Field::RequestSent => write_string(values.request_sent.name(), out),
        Field::RetryAfter => {
            out.put_slice(decimal_digits(values.retry_after.unwrap_or_default(), &mut [0; 20]));
        }
        Field::Declared(index) => {
            let json = values.declared.get(index).copied().flatten();
            out.put_slice(json.unwrap_or("null").as_bytes());
        }
        Field::Version => out.put_slice(b"null"),
    }
}

/// Appends a value as text; an absent one is empty.
fn push_field(field: Field, values: &BodyValues<'_>, text: &mut String) {
    match field {
        Field::Code => text.push_str(&values.code.to_string()),
        Field::Message => text.push_str(values.message),
        Field::Title => text.push_str(values.title),
        Field::Type | Field::ProblemCode | Field::ProblemType => text.push_str(values.kind),
        Field::RequestId => text.push_str(values.request_id.unwrap_or_default()),
        Field::Cause => text.push_str(values.cause),
        Field::Retryable => text.push_str(if values.retryable { "true" } else { "false" }),
        Field::RequestSent => text.push_str(values.request_sent.name()),
        Field::RetryAfter => {
            if let Some(seconds) = values.retry_after {
                text.push_str(&seconds.to_string());
            }
        }
        Field::Declared(index) => {
            let json = values.declared.get(index).copied().flatten().unwrap_or_default();
            match serde_json::from_str::<String>(json) {
                Ok(decoded) => text.push_str(&decoded),
                Err(_) => text.push_str(json),
            }
        }
        Field::UpstreamType if values.kind_of_upstream => text.push_str(values.kind),
        Field::UpstreamType | Field::Version | Field::Details | Field::ProblemInstance => {}
    }
}

/// `8-4-4-4-12` hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}
