//! Recognises path patterns in the syntax of other tools, and translates them.
//!
//! `/x/*` (nginx, Caddy, Kong), `:id` and `*rest` (Express, gin), `<int:id>` (Flask, Rocket), `[id]` and `[...rest]`
//! (Next.js), `{id:[0-9]+}`, `{path:path}`, `{proxy+}` and `{**rest}` (gorilla, Starlette, API Gateway, ASP.NET), and
//! regular expressions. Read literally, such a pattern would match nothing that its author meant.

/// The pattern in our syntax, if `text` is in another one.
pub(crate) fn translate(text: &str) -> Option<String> {
    if !is_foreign(text) {
        return None;
    }
    // nginx: `~ ^/x$` and `~* ^/x$`.
    let path = text.strip_prefix('~').map_or(text, |path| path.trim_start_matches(['*', ' ']));
    let path = path.trim_start_matches('^');
    let path = path.strip_suffix('$').unwrap_or(path);
    let mut segments: Vec<String> = Vec::new();
    let mut count = 0;
    for segment in split(path.strip_prefix("\\/").or(path.strip_prefix('/')).unwrap_or(path)) {
        count += 1;
        segments.push(translate_segment(&segment, count));
    }
    // A wildcard at the end includes everything below, one within the path is a single segment.
    match segments.last_mut() {
        Some(last) if last == "*" => *last = "{*rest}".to_owned(),
        Some(last) if last.ends_with('*') && !last.starts_with('{') => {
            last.pop();
            segments.push("{*rest}".to_owned());
        }
        _ => {}
    }
    let is_wildcard = |segment: &&mut String| *segment == "*";
    for (index, segment) in segments.iter_mut().enumerate().filter(|(_, segment)| is_wildcard(segment)) {
        *segment = format!("{{p{}}}", index + 1);
    }
    Some(format!("/{}", segments.join("/")))
}

fn is_foreign(text: &str) -> bool {
    text.starts_with(['^', '~'])
        || (text.len() > 2 && text.ends_with('$'))
        || text.contains(['*', '[', ']', '\\', '<', '>', '|']) && !is_own(text)
        || text.contains("(?")
        || text.contains(".+")
        || text.split('/').any(|segment| starts_parameter(segment, ':'))
        || parameters(text).any(|name| name.contains([':', '+', '?', '=', '.']) || name.starts_with("**"))
}

/// Whether the only special characters are those of `{*rest}`.
fn is_own(text: &str) -> bool {
    let mut rest = text.to_owned();
    for name in parameters(text) {
        rest = rest.replacen(&format!("{{{name}}}"), "", 1);
    }
    !rest.contains(['*', '[', ']', '\\', '<', '>', '|'])
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

fn translate_segment(segment: &str, number: usize) -> String {
    let name = |text: &str| {
        let name: String = text
            .chars()
            .skip_while(|c| !c.is_alphabetic())
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if name.is_empty() { format!("p{number}") } else { name }
    };
    let rest = |text: &str| match name(text) {
        name if name == format!("p{number}") => "{*rest}".to_owned(),
        name => format!("{{*{name}}}"),
    };
    match segment {
        // A trailing `*` is resolved in the whole path.
        _ if segment == "*" || is_prefix(segment) => segment.to_owned(),
        "**" | ".*" | ".+" | "(.*)" | "(.+)" => "{*rest}".to_owned(),
        // Flask's path converter, Starlette's, API Gateway's, Next.js's, ASP.NET's, gin's.
        _ if segment.starts_with("<path:") => rest(segment.trim_start_matches("<path:")),
        _ if segment.starts_with("[...") || segment.starts_with("[[...") => rest(segment),
        _ if segment.starts_with("{*") || segment.contains("..}") => rest(segment),
        _ if segment.ends_with(":path}") || segment.ends_with("+}") && !segment.contains([':', '[']) => {
            rest(segment)
        }
        _ if segment.len() > 1 && starts_parameter(segment, '*') => rest(segment),
        _ if segment.starts_with(':') && segment.ends_with(['*', '+']) => rest(segment),
        // Next.js; a character class has a range or is repeated.
        _ if segment.len() > 3
            && segment.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')).is_some_and(is_name) =>
        {
            format!("{{{}}}", name(segment))
        }
        _ if segment.starts_with('{') && segment.ends_with('}') => format!("{{{}}}", name(segment)),
        _ if starts_parameter(segment, ':') => {
            let end = segment.get(1..).and_then(|s| s.find(|c: char| !c.is_alphanumeric() && c != '_'));
            let suffix = end.and_then(|end| segment.get(end + 1..)).unwrap_or_default();
            let literal = suffix.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
            format!("{{{}}}{}", name(segment), if literal { suffix } else { "" })
        }
        _ if segment.starts_with('<') => {
            format!("{{{}}}", name(segment.rsplit(':').next().unwrap_or(segment)))
        }
        _ => translate_expression(segment, number),
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(char::is_alphabetic) && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Whether the segment is literal text and `*`, as in `/api*`.
fn is_prefix(segment: &str) -> bool {
    segment.strip_suffix('*').is_some_and(|text| {
        !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '~'))
    })
}

/// A segment of a regular expression or with a wildcard: the literal text before and after, and a parameter between.
fn translate_expression(segment: &str, number: usize) -> String {
    let special =
        |c: char| matches!(c, '*' | '[' | ']' | '(' | ')' | '\\' | '|' | '+' | '?' | '^' | '$' | '{' | '}');
    let unescaped = segment.replace("\\.", ".").replace("\\-", "-");
    let Some(start) = unescaped.find(special) else { return unescaped };
    let end = unescaped.rfind(special).map_or(unescaped.len(), |end| end + 1);
    let before = unescaped.get(..start).unwrap_or_default().trim_end_matches('.');
    let after = unescaped.get(end..).unwrap_or_default();
    let name = segment
        .split_once("?P<")
        .or_else(|| segment.split_once("?<"))
        .and_then(|(_, rest)| rest.split_once('>'))
        .map_or(format!("p{number}"), |(name, _)| name.to_owned());
    format!("{before}{{{name}}}{after}")
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn patterns_of_other_tools_are_translated() {
        for (text, ours) in [
            ("/api/*", "/api/{*rest}"),
            ("/*", "/{*rest}"),
            ("*", "/{*rest}"),
            ("/api/**", "/api/{*rest}"),
            ("/api*", "/api/{*rest}"),
            ("/a/*/b", "/a/{p2}/b"),
            ("/img/*.png", "/img/{p2}.png"),
            ("/users/:id", "/users/{id}"),
            ("/users/:id?/x", "/users/{id}/x"),
            ("/files/*path", "/files/{*path}"),
            ("/files/:path*", "/files/{*path}"),
            ("/users/<int:id>", "/users/{id}"),
            ("/users/<id>/x", "/users/{id}/x"),
            ("/files/<path:rest>", "/files/{*rest}"),
            ("/posts/[id]", "/posts/{id}"),
            ("/docs/[...slug]", "/docs/{*slug}"),
            ("/u/{id:[0-9]+}", "/u/{id}"),
            ("/u/{id:int}/x", "/u/{id}/x"),
            ("/u/{id?}", "/u/{id}"),
            ("/f/{path:path}", "/f/{*path}"),
            ("/f/{proxy+}", "/f/{*proxy}"),
            ("/f/{**rest}", "/f/{*rest}"),
            ("^/v[0-9]+", "/v{p1}"),
            ("^/v[0-9]+/x$", "/v{p1}/x"),
            ("~ ^/users/(\\d+)/orders$", "/users/{p2}/orders"),
            ("/users/(?P<id>[^/]+)", "/users/{id}"),
            ("/api/.*", "/api/{*rest}"),
            ("^/api/(.*)$", "/api/{*rest}"),
            ("/(a|b)/x", "/{p1}/x"),
            ("^/health$", "/health"),
            ("\\.php$", "/.php"),
        ] {
            assert_eq!(translate(text).as_deref(), Some(ours), "{text}");
        }
    }

    #[test]
    fn own_patterns_and_plain_paths_are_not_translated() {
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
            assert_eq!(translate(text), None, "{text}");
        }
    }
}
