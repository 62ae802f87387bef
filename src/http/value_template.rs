//! Texts with placeholders: header field values, rewritten paths and redirect targets (`"/v2/{rest}"`).
//!
//! A template is parsed once, when the configuration is read. Path parameters are inserted as received, never decoded,
//! so that nothing a client sends can end a field or add one.

use std::fmt;

use super::path_pattern::PathPattern;

/// A parsed text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Placeholder(Placeholder),
}

/// The value that replaces a name in braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// The determined client address.
    ClientIp,
    /// The host of the request, without its port.
    Host,
    /// The path as received, without the query.
    Path,
    /// The request id.
    RequestId,
    /// The subject of the client's certificate.
    ClientCertSubject,
    /// The SHA-256 of the client's certificate.
    ClientCertFingerprint,
    /// The parameter of the route's path pattern at this position.
    Parameter(usize),
}

impl Placeholder {
    /// Whether the value comes from the client's certificate.
    pub(crate) const fn is_of_certificate(self) -> bool {
        match self {
            Placeholder::ClientCertSubject | Placeholder::ClientCertFingerprint => true,
            Placeholder::ClientIp
            | Placeholder::Host
            | Placeholder::Path
            | Placeholder::RequestId
            | Placeholder::Parameter(_) => false,
        }
    }

    /// The name in braces.
    pub(crate) fn name(self, pattern: &PathPattern) -> &str {
        match self {
            Placeholder::ClientIp => "client_ip",
            Placeholder::Host => "host",
            Placeholder::Path => "path",
            Placeholder::RequestId => "request_id",
            Placeholder::ClientCertSubject => "client_cert_subject",
            Placeholder::ClientCertFingerprint => "client_cert_fingerprint",
            Placeholder::Parameter(position) => pattern.names().get(position).map_or("", String::as_str),
        }
    }
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// A brace has no partner.
    UnbalancedBrace,
    /// No placeholder has this name.
    UnknownPlaceholder(String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::UnbalancedBrace => f.write_str("a brace has no partner"),
            TemplateError::UnknownPlaceholder(name) => write!(f, "there is no placeholder {{{name}}}"),
        }
    }
}

/// The names of the placeholders that do not depend on the route.
pub(crate) const PLACEHOLDER_NAMES: [&str; 6] =
    ["client_ip", "host", "path", "request_id", "client_cert_subject", "client_cert_fingerprint"];

impl ValueTemplate {
    /// Parses a text. Parameters of `pattern` precede the general placeholders of the same name; `{{` and `}}` are
    /// literal braces.
    ///
    /// # Errors
    /// A brace without a partner, or a name that is no placeholder.
    pub(crate) fn parse(text: &str, pattern: &PathPattern) -> Result<ValueTemplate, TemplateError> {
        let mut template = ValueTemplate { parts: Vec::new() };
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let after = rest.get(letter.len_utf8()..).unwrap_or_default();
            rest = match letter {
                '{' | '}' if after.starts_with(letter) => {
                    template.push_literal(letter);
                    after.get(1..).unwrap_or_default()
                }
                '{' => {
                    let (name, after) = after.split_once('}').ok_or(TemplateError::UnbalancedBrace)?;
                    template.parts.push(Part::Placeholder(placeholder(name, pattern)?));
                    after
                }
                '}' => return Err(TemplateError::UnbalancedBrace),
                other => {
                    template.push_literal(other);
                    after
                }
            };
        }
        Ok(template)
    }

    fn push_literal(&mut self, letter: char) {
        let mut buffer = [0; 4];
        let bytes = letter.encode_utf8(&mut buffer).as_bytes();
        match self.parts.last_mut() {
            Some(Part::Literal(literal)) => literal.extend_from_slice(bytes),
            _ => self.parts.push(Part::Literal(bytes.to_vec())),
        }
    }

    /// The placeholders, in order.
    pub(crate) fn placeholders(&self) -> impl Iterator<Item = Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(placeholder) => Some(*placeholder),
            Part::Literal(_) => None,
        })
    }

    /// Fills in the placeholders. `None` if `value` has none for one of them.
    pub(crate) fn render<'a>(
        &self,
        mut value: impl FnMut(Placeholder) -> Option<std::borrow::Cow<'a, [u8]>>,
    ) -> Option<Vec<u8>> {
        let mut text = Vec::with_capacity(64);
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.extend_from_slice(literal),
                Part::Placeholder(placeholder) => text.extend_from_slice(&value(*placeholder)?),
            }
        }
        Some(text)
    }
}

fn placeholder(name: &str, pattern: &PathPattern) -> Result<Placeholder, TemplateError> {
    if let Some(position) = pattern.position(name) {
        return Ok(Placeholder::Parameter(position));
    }
    match name {
        "client_ip" => Ok(Placeholder::ClientIp),
        "host" => Ok(Placeholder::Host),
        "path" => Ok(Placeholder::Path),
        "request_id" => Ok(Placeholder::RequestId),
        "client_cert_subject" => Ok(Placeholder::ClientCertSubject),
        "client_cert_fingerprint" => Ok(Placeholder::ClientCertFingerprint),
        _ => Err(TemplateError::UnknownPlaceholder(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn parse(text: &str) -> Result<ValueTemplate, TemplateError> {
        ValueTemplate::parse(text, &PathPattern::parse("/users/{id}/{*rest}"))
    }

    #[test]
    fn placeholders_are_filled_in_and_doubled_braces_are_literal() {
        let template = parse("a {{b}} {id}-{rest} {client_ip}").unwrap_or_else(|error| panic!("{error}"));
        let text = template.render(|placeholder| match placeholder {
            Placeholder::Parameter(0) => Some(Cow::Borrowed(&b"7"[..])),
            Placeholder::Parameter(_) => Some(Cow::Borrowed(&b"x/y"[..])),
            _ => Some(Cow::Borrowed(&b"192.0.2.1"[..])),
        });
        assert_eq!(text.as_deref(), Some(&b"a {b} 7-x/y 192.0.2.1"[..]));
    }

    #[test]
    fn absent_value_makes_the_text_absent() {
        let template = parse("x {host}").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(template.render(|_| None), None);
    }

    #[test]
    fn wrong_templates_are_named() {
        let unknown = |name: &str| Err(TemplateError::UnknownPlaceholder(name.to_owned()));
        assert_eq!(parse("{nope}"), unknown("nope"));
        assert_eq!(parse("{}"), unknown(""));
        for text in ["{id", "id}", "{{id}", "{"] {
            assert_eq!(parse(text), Err(TemplateError::UnbalancedBrace), "{text}");
        }
        assert_eq!(parse("").map(|template| template.render(|_| None)), Ok(Some(Vec::new())));
    }
}
