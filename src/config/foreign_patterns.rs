//! Recognises path patterns in the syntax of other tools, and translates them.
//!
//! `/x/*` (nginx, Caddy, Kong), `:id` and `*rest` (Express, gin), `<int:id>` (Flask, Rocket), `[id]` and `[...rest]`
//! (Next.js), `{id:[0-9]+}`, `{path:path}`, `{proxy+}` and `{**rest}` (gorilla, Starlette, API Gateway, ASP.NET), and
//! regular expressions. Read literally, such a pattern would match nothing that its author meant.

/// A pattern in our syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    /// The pattern.
    pub pattern: String,
    /// What it matches besides the paths of the original.
    pub difference: Difference,
}

/// How a translation differs from its original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// Not at all.
    None,
    /// A parameter matches any text in its segment, for example not only digits.
    AnyText,
    /// It ends at a slash: the original also matches paths whose last segment goes on.
    WholeSegment,
}

/// Whether `text` is in the syntax of another tool.
pub(crate) fn is_foreign(text: &str) -> bool {
    text.starts_with(['^', '~', '='])
        || (text.len() > 2 && text.ends_with('$'))
        || text.contains(['*', '[', ']', '\\', '<', '>', '|', '`']) && !is_own(text)
        || ["(?", ".+", "}+"].iter().any(|mark| text.contains(mark))
        || text.ends_with("}?")
        || text.split(['/', '-', '.']).any(|segment| starts_parameter(segment, ':'))
        || parameters(text).any(|name| {
            name.contains([':', '+', '?', '=', '.', '$'])
                || name.starts_with("**")
                || name.trim_start_matches('*').contains('*')
        })
}

/// The pattern in our syntax; `None` if there is none that matches the same paths, apart from a [`Difference`].
pub(crate) fn translate(text: &str) -> Option<Translation> {
    let text = text.replace("\\/", "/");
    // Traefik.
    if let Some((matcher, path)) = text.strip_suffix("`)").and_then(|text| text.split_once("(`")) {
        return match matcher {
            "Path" => Some(exact(path)),
            "PathPrefix" => segments(path, End::Open),
            _ => None,
        }
        .filter(|_| !path.contains('`'));
    }
    // nginx: `= /x`, `^~ /x/`, `~ ^/x$`. Of `~* ^/x$` the case does not matter: no pattern of ours is so.
    if let Some(path) = text.strip_prefix('=') {
        return Some(exact(path.trim_start()));
    }
    if let Some(path) = text.strip_prefix("^~") {
        return segments(path.trim_start(), End::Open);
    }
    if text == "*" {
        return segments("/*", End::Closed);
    }
    let (path, is_expression) = match text.strip_prefix('~') {
        Some(path) => (path.trim_start().strip_prefix('^')?, true),
        None => text.strip_prefix('^').map_or((text.as_str(), false), |path| (path, true)),
    };
    match path.strip_suffix('$') {
        Some(path) => segments(path, End::Closed),
        None => segments(path, if is_expression { End::Open } else { End::Closed }),
    }
}

fn exact(path: &str) -> Translation {
    Translation { pattern: path.to_owned(), difference: Difference::None }
}

/// Whether a path may go on after the pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Open,
}

/// One segment in our syntax, for a start.
#[derive(Debug, PartialEq, Eq)]
enum Segment {
    /// Text with at most one parameter.
    One(String, Difference),
    /// `{*rest}`
    Rest(String),
    /// Text, and anything after it: `api*`.
    Open(String, Difference),
}

fn segments(path: &str, end: End) -> Option<Translation> {
    let mut ours = String::new();
    let mut difference = Difference::None;
    let texts = split(path.strip_prefix('/')?);
    for (index, text) in texts.iter().enumerate() {
        let is_last = index + 1 == texts.len();
        ours.push('/');
        let mut segment = segment(text, index + 1)?;
        if let (true, End::Open, Segment::One(text, difference)) = (is_last, end, &segment) {
            segment = match text.is_empty() {
                true => Segment::Rest("rest".to_owned()),
                false => Segment::Open(text.clone(), *difference),
            };
        }
        match segment {
            Segment::One(text, of_segment) => {
                ours.push_str(&text);
                difference = difference.max(of_segment);
            }
            Segment::Rest(name) if is_last => ours.push_str(&format!("{{*{name}}}")),
            Segment::Open(text, of_segment) if is_last => {
                ours.push_str(&format!("{text}/{{*rest}}"));
                let of_end = if text.ends_with('}') { Difference::AnyText } else { Difference::WholeSegment };
                difference = difference.max(of_segment).max(of_end);
            }
            Segment::Rest(_) if text == "*" => ours.push_str(&format!("{{p{}}}", index + 1)),
            Segment::Rest(_) | Segment::Open(..) => return None,
        }
    }
    Some(Translation { pattern: ours, difference })
}

/// Whether the only special characters are those of `{*rest}`.
fn is_own(text: &str) -> bool {
    let mut rest = text.to_owned();
    for name in parameters(text) {
        rest = rest.replacen(&format!("{{{name}}}"), "", 1);
    }
    !rest.contains(['*', '[', ']', '\\', '<', '>', '|', '`'])
}

/// The texts in single braces.
fn parameters(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name)
}

/// Whether the segment is `:name`.
fn starts_parameter(segment: &str, mark: char) -> bool {
    segment.strip_prefix(mark).is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic() || c == '_'))
}

/// Splits at slashes outside brackets.
fn split(path: &str) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut depth = 0_i32;
    for letter in path.chars() {
        match letter {
            '[' | '(' | '{' | '<' => depth += 1,
            ']' | ')' | '}' | '>' => depth -= 1,
            _ => {}
        }
        match segments.last_mut() {
            Some(last) if letter != '/' || depth > 0 => last.push(letter),
            _ => segments.push(String::new()),
        }
    }
    segments
}

fn segment(text: &str, number: usize) -> Option<Segment> {
    let between = |open: &str, close: &str| text.strip_prefix(open)?.strip_suffix(close);
    let rest = |name: &str| match name {
        "" => Some(Segment::Rest("rest".to_owned())),
        name => is_name(name).then(|| Segment::Rest(name.to_owned())),
    };
    match text {
        "*" | "**" | ".*" | ".+" | "(.*)" | "(.+)" => return rest(""),
        // Of Go.
        "{$}" => return Some(Segment::One(String::new(), Difference::None)),
        _ => {}
    }
    // Flask's, Starlette's, gorilla's, API Gateway's, hapi's, Go's, Next.js's, ASP.NET's, Express's, gin's.
    let whole = [
        ("<path:", ">"),
        ("{", ":path}"),
        ("{", ":.*}"),
        ("{", ":.+}"),
        ("{", "+}"),
        ("{", "*}"),
        ("{", "...}"),
        ("[[...", "]]"),
        ("[...", "]"),
        ("{**", "}"),
        ("{*", "}"),
        (":", "*"),
        (":", "+"),
        ("*", ""),
    ];
    let name = whole.iter().find_map(|(open, close)| between(open, close).filter(|name| is_name(name)));
    if let Some(name) = name {
        return rest(name);
    }
    if let Some(name) = between("[", "]").filter(|name| name.len() > 1 && is_name(name)) {
        return Some(Segment::One(format!("{{{name}}}"), Difference::None));
    }
    let open = [".*", ".+", "(.*)", "*"].iter().find_map(|end| text.strip_suffix(end));
    if let Some(start) = open.filter(|start| start.chars().all(|c| is_literal(c) && c != '.')) {
        return Some(Segment::Open(start.to_owned(), Difference::None));
    }
    parts(text, number)
}

/// A segment of literal text and one parameter.
fn parts(text: &str, number: usize) -> Option<Segment> {
    let (mut before, mut after) = (String::new(), String::new());
    let mut parameter: Option<Parameter> = None;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        // Within a word, a colon is literal: `/items:batch`.
        let is_word = letter == ':' && before.ends_with(is_name_letter);
        let (found, behind) = match Parameter::at(rest).filter(|_| !is_word) {
            Some(found) => found?,
            None => {
                let escaped = rest.strip_prefix('\\').and_then(|rest| rest.chars().next());
                let literal = escaped.filter(char::is_ascii_punctuation).unwrap_or(letter);
                let length = if escaped.is_some() { 1 } else { 0 } + literal.len_utf8();
                if escaped.is_none() && !is_literal(letter) {
                    return None;
                }
                let part = if parameter.is_some() { &mut after } else { &mut before };
                part.push(literal);
                rest = rest.get(length..)?;
                continue;
            }
        };
        rest = behind;
        parameter = Some(match parameter {
            None => found,
            // Two expressions are one parameter that matches more; two names are not.
            Some(earlier) if earlier.name.is_none() && found.name.is_none() => {
                after.clear();
                Parameter { name: None, difference: Difference::AnyText }
            }
            Some(_) => return None,
        });
    }
    Some(match parameter {
        None => Segment::One(before, Difference::None),
        Some(Parameter { name, difference }) => {
            let name = name.unwrap_or_else(|| format!("p{number}"));
            Segment::One(format!("{before}{{{name}}}{after}"), difference)
        }
    })
}

struct Parameter {
    name: Option<String>,
    difference: Difference,
}

impl Parameter {
    /// The parameter that a text begins with, and the rest of the text. The outer `None` is that there is none, the
    /// inner that it is one that cannot be translated.
    fn at(text: &str) -> Option<Option<(Parameter, &str)>> {
        let letter = text.chars().next()?;
        let closing = match letter {
            '*' => {
                let parameter = Parameter { name: None, difference: Difference::None };
                return Some(text.get(1..).map(|rest| (parameter, rest)));
            }
            '\\' if text.starts_with("\\d") || text.starts_with("\\w") => {
                return Some(Parameter::repeated(None, Difference::AnyText, text.get(2..)?));
            }
            ':' if starts_parameter(text, ':') => {
                let name: String = text.chars().skip(1).take_while(|c| is_name_letter(*c)).collect();
                let rest = text.get(1 + name.len()..)?;
                let (difference, rest) = match rest.strip_prefix('(').and_then(|_| group(rest, '(', ')')) {
                    Some((_, rest)) => (Difference::AnyText, rest),
                    None => (Difference::None, rest),
                };
                return Some(Some((Parameter { name: Some(name), difference }, rest)));
            }
            '[' => ']',
            '(' => ')',
            '{' => '}',
            '<' => '>',
            _ => return None,
        };
        let Some((inside, rest)) = group(text, letter, closing) else { return Some(None) };
        Some(match letter {
            '[' if inside.contains('[') => None,
            '[' => {
                let difference = if inside == "^/" { Difference::None } else { Difference::AnyText };
                Parameter::repeated(None, difference, rest)
            }
            '(' => Parameter::of_group(inside, rest),
            '<' => {
                let (converter, name) = inside.rsplit_once(':').unwrap_or(("", inside));
                let difference = Difference::of_type(matches!(converter, "" | "string"));
                named(name, difference, rest).filter(|_| converter != "path")
            }
            _ => {
                let (name, expression) = inside.split_once(':').unwrap_or((inside, ""));
                // What may span slashes or be empty is none of ours.
                let is_plain = expression.is_empty()
                    || expression == "[^/]+"
                    || !expression.contains(['/', '?'])
                        && !expression.contains(".*")
                        && !expression.ends_with('*');
                let difference = Difference::of_type(matches!(expression, "" | "[^/]+" | "str"));
                named(name, difference, rest)
                    .filter(|_| is_plain && expression != "path" && !expression.contains(".+"))
            }
        })
    }

    /// A character class, which must be repeated or stand for one character.
    fn repeated(name: Option<String>, difference: Difference, rest: &str) -> Option<(Parameter, &str)> {
        match rest.strip_prefix('+') {
            Some(rest) => Some((Parameter { name, difference }, rest)),
            None if rest.starts_with(['*', '?']) => None,
            None => {
                let rest = if rest.starts_with('{') { group(rest, '{', '}')?.1 } else { rest };
                Some((Parameter { name, difference: Difference::AnyText }, rest))
            }
        }
    }

    /// `(a|b)`, `(?P<id>[^/]+)`.
    fn of_group<'t>(inside: &str, rest: &'t str) -> Option<(Parameter, &'t str)> {
        let named = inside.strip_prefix("?P<").or_else(|| inside.strip_prefix("?<"));
        let (name, expression) = match named.map(|named| named.split_once('>')) {
            Some(named) => named.map(|(name, expression)| (Some(name.to_owned()), expression))?,
            None => (None, inside.strip_prefix("?:").unwrap_or(inside)),
        };
        let is_own = expression == "[^/]+";
        let may_be_empty = expression.split('|').any(|way| way.is_empty() || way.ends_with(['*', '?']));
        let is_other = expression.contains('/') || expression.contains(".+") || expression.starts_with('?');
        if rest.starts_with(['*', '?', '+', '{']) || may_be_empty || is_other && !is_own {
            return None;
        }
        Some((Parameter { name, difference: Difference::of_type(is_own) }, rest))
    }
}

impl Difference {
    fn of_type(is_any_text: bool) -> Difference {
        if is_any_text { Difference::None } else { Difference::AnyText }
    }
}

fn named<'t>(name: &str, difference: Difference, rest: &'t str) -> Option<(Parameter, &'t str)> {
    (is_name(name) && !rest.starts_with(['+', '?', '*']))
        .then(|| (Parameter { name: Some(name.to_owned()), difference }, rest))
}

/// The text in the brackets that a text begins with, and the text behind them.
fn group(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    let mut depth = 0_i32;
    for (index, letter) in text.char_indices() {
        if letter == open {
            depth += 1;
        } else if letter == close {
            depth -= 1;
        }
        if depth == 0 {
            return Some((text.get(1..index)?, text.get(index + 1..)?));
        }
    }
    None
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_') && text.chars().all(is_name_letter)
}

fn is_name_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Whether the character stands for itself in every syntax.
fn is_literal(letter: char) -> bool {
    letter.is_alphanumeric()
        || matches!(letter, '-' | '_' | '~' | '.' | '%' | '@' | '!' | '&' | '\'' | ',' | ';' | ':')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Difference, is_foreign, translate};

    #[test]
    fn patterns_of_other_tools_are_translated() {
        for (text, ours) in [
            ("/api/*", "/api/{*rest}"),
            ("/*", "/{*rest}"),
            ("*", "/{*rest}"),
            ("/api/**", "/api/{*rest}"),
            ("/a/*/b", "/a/{p2}/b"),
            ("/img/*.png", "/img/{p2}.png"),
            ("/users/:id", "/users/{id}"),
            ("/x-:id", "/x-{id}"),
            ("/files/*path", "/files/{*path}"),
            ("/files/:path*", "/files/{*path}"),
            ("/users/<id>/x", "/users/{id}/x"),
            ("/files/<path:rest>", "/files/{*rest}"),
            ("/posts/[id]", "/posts/{id}"),
            ("/docs/[...slug]", "/docs/{*slug}"),
            ("/f/{path:path}", "/f/{*path}"),
            ("/f/{rest:.*}", "/f/{*rest}"),
            ("/f/{proxy+}", "/f/{*proxy}"),
            ("/f/{rest*}", "/f/{*rest}"),
            ("/f/{rest...}", "/f/{*rest}"),
            ("/f/{**rest}", "/f/{*rest}"),
            ("/x/{$}", "/x/"),
            ("/{$}", "/"),
            ("/users/(?P<id>[^/]+)", "/users/{id}"),
            ("/users/(?P<id>[^/]+)$", "/users/{id}"),
            ("/api/.*", "/api/{*rest}"),
            ("^/api/(.*)$", "/api/{*rest}"),
            ("^/api/", "/api/{*rest}"),
            ("^\\/health$", "/health"),
            ("= /x", "/x"),
            ("^~ /images/", "/images/{*rest}"),
            ("Path(`/x`)", "/x"),
        ] {
            let translation = translate(text).unwrap();
            assert_eq!((&*translation.pattern, translation.difference), (ours, Difference::None), "{text}");
            assert!(is_foreign(text), "{text}");
        }
    }

    #[test]
    fn differences_of_a_translation_are_known() {
        for (text, ours, difference) in [
            ("/users/<int:id>", "/users/{id}", Difference::AnyText),
            ("/u/{id:[0-9]+}", "/u/{id}", Difference::AnyText),
            ("/u/{id:[0-9]{2}}", "/u/{id}", Difference::AnyText),
            ("/u/{id:int}/x", "/u/{id}/x", Difference::AnyText),
            ("/u/:id(\\d+)", "/u/{id}", Difference::AnyText),
            ("^/v[0-9]+", "/v{p1}/{*rest}", Difference::AnyText),
            ("^/v[0-9]+/x$", "/v{p1}/x", Difference::AnyText),
            ("^/v[0-9]+\\.[0-9]+$", "/v{p1}", Difference::AnyText),
            ("~ ^/users/(\\d+)/orders$", "/users/{p2}/orders", Difference::AnyText),
            ("/(a|b)/x", "/{p1}/x", Difference::AnyText),
            ("/api*", "/api/{*rest}", Difference::WholeSegment),
            ("^/api", "/api/{*rest}", Difference::WholeSegment),
            ("^/api.*", "/api/{*rest}", Difference::WholeSegment),
            ("PathPrefix(`/x`)", "/x/{*rest}", Difference::WholeSegment),
        ] {
            let translation = translate(text).unwrap();
            assert_eq!((&*translation.pattern, translation.difference), (ours, difference), "{text}");
            assert!(is_foreign(text), "{text}");
        }
    }

    #[test]
    fn what_has_no_equal_is_not_translated() {
        for text in [
            "~ \\.php$",
            "\\.php$",
            "~* ^/x$",
            "~ /x",
            "/x|/y",
            "/:a.:b",
            "/:from-:to",
            "/users/:id?/x",
            "/u/{id?}",
            "/u/{id=5}",
            "/u/{p*2}",
            "/x/{id}+",
            "/x/{id}?",
            "/x/(?P<id>[^/]+)/?$",
            "/x/(?P<rest>.*)/y",
            "^/ab+$",
            "^/(a|b/c)/x$",
            "^/(v1)?/x$",
            "/**/x",
            "/[[id]]",
            "PathRegexp(`^/x`)",
            "Host(`a`) && Path(`/x`)",
        ] {
            assert_eq!(translate(text), None, "{text}");
            assert!(is_foreign(text), "{text}");
        }
    }

    #[test]
    fn own_patterns_and_plain_paths_are_not_foreign() {
        for text in [
            "/users/{id}",
            "/files/{*rest}",
            "/",
            "/v1/items:batchGet",
            "/Products(1)",
            "/$metadata",
            "/c++",
            "/a.b/c-d_e",
            "/v{n}/x",
            "/{{y}}/x",
            "/a+b",
            "/x@y,z;q=1",
            "/img-{id}.png",
        ] {
            assert!(!is_foreign(text), "{text}");
        }
    }
}
