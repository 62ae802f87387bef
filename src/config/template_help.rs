//! What a text of a template was probably meant to be: placeholders spelled right, braces closed or doubled.

use super::problem::closest_match;
use crate::contract::placeholder_names;

/// The text without the mistakes of its placeholders; `None` if none could be corrected. `declared` are the
/// placeholders of the contract.
pub(crate) fn corrected<'a>(text: &'a str, declared: impl Iterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = placeholder_names().chain(declared).collect();
    let mut reader = Correction { known: &known, out: String::with_capacity(text.len() + 2), rest: text };
    while let Some(letter) = reader.rest.chars().next() {
        match letter {
            '{' => reader.opening(),
            '}' => reader.closing(),
            other => reader.copy(other.len_utf8()),
        }
    }
    let whole = reader.out;
    (whole != text && whole.chars().count() <= MAX_LENGTH).then_some(whole)
}

/// The text of a template in which `${message}` was written for `{message}`; `None` elsewhere.
pub(crate) fn placeholder_for_variable(path: &str, text: &str) -> Option<String> {
    if !path.starts_with("contract") || !path.contains(".body") {
        return None;
    }
    let plain = text.replace("${", "{");
    let meant = corrected(&plain, std::iter::empty()).unwrap_or(plain);
    let is_placeholder = |name: &str| meant.contains(&format!("{{{name}}}"));
    placeholder_names().any(is_placeholder).then_some(meant)
}

/// A longer text is not repeated in a help.
const MAX_LENGTH: usize = 80;

/// Names that other systems use, and the placeholder of the same meaning.
const SYNONYMS: &[(&str, &str)] = &[
    ("status", "code"),
    ("statuscode", "code"),
    ("errorcode", "type"),
    ("error", "message"),
    ("msg", "message"),
    ("detail", "message"),
    ("description", "message"),
    ("text", "message"),
    ("reason", "title"),
    ("errors", "details"),
    ("kind", "type"),
    ("id", "request_id"),
    ("correlationid", "request_id"),
    ("traceid", "request_id"),
];

struct Correction<'a> {
    known: &'a [&'a str],
    out: String,
    rest: &'a str,
}

impl<'a> Correction<'a> {
    fn copy(&mut self, length: usize) {
        let (copied, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.out.push_str(copied);
        self.rest = rest;
    }

    fn placeholder(&mut self, name: &str, rest: &'a str) {
        self.out.push('{');
        self.out.push_str(name);
        self.out.push('}');
        self.rest = rest;
    }

    fn opening(&mut self) {
        if let Some(inside) = self.rest.strip_prefix("{{") {
            match self.name_at_start(inside) {
                // `{{message}`: one brace too many, or one too few at the end.
                Some((name, rest)) if rest.starts_with('}') && !rest.starts_with("}}") => {
                    self.placeholder(name, rest.get(1..).unwrap_or_default());
                }
                Some(_) | None => self.copy(2),
            }
            return;
        }
        let inside = self.rest.get(1..).unwrap_or_default();
        match inside.find(['{', '}']).and_then(|at| inside.split_at_checked(at)) {
            Some((written, closing)) if closing.starts_with('}') => {
                let rest = closing.get(1..).unwrap_or_default();
                let is_whole = self.out.is_empty() && rest.is_empty();
                match self.spelled(written, is_whole) {
                    Some(name) => self.placeholder(&name, rest),
                    None => self.copy(written.len() + 2),
                }
            }
            Some(_) | None => match self.name_at_start(inside) {
                Some((name, rest)) => self.placeholder(name, rest),
                None => {
                    self.out.push('{');
                    self.copy(1);
                }
            },
        }
    }

    fn closing(&mut self) {
        if self.rest.starts_with("}}") {
            self.copy(2);
            return;
        }
        let known_before = self.known.iter().copied().filter(|name| {
            let before = self.out.strip_suffix(*name);
            before.is_some_and(|before| !before.ends_with(|c: char| c.is_alphanumeric() || "_{".contains(c)))
        });
        if let Some(name) = known_before.max_by_key(|name| name.len()) {
            self.out.truncate(self.out.len() - name.len());
            self.placeholder(name, self.rest.get(1..).unwrap_or_default());
        } else if self.out.ends_with('}') && self.out.matches("{{").count() <= self.out.matches("}}").count()
        {
            self.rest = self.rest.get(1..).unwrap_or_default();
        } else {
            self.out.push('}');
            self.copy(1);
        }
    }

    /// The longest known name that `inside` begins with, and what follows it.
    fn name_at_start(&self, inside: &'a str) -> Option<(&'a str, &'a str)> {
        let names = self.known.iter().filter_map(|name| Some((*name, inside.strip_prefix(*name)?)));
        let whole = names.filter(|(_, rest)| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        whole.max_by_key(|(name, _)| name.len())
    }

    /// What is between the braces, spelled right. `is_whole`: the text has nothing else, so `|null` may follow.
    fn spelled(&self, written: &str, is_whole: bool) -> Option<String> {
        let mut parts = written.split('|').map(str::trim);
        let name = self.known_name(parts.next()?)?;
        let modifiers = parts.filter(|modifier| *modifier == "string" || (*modifier == "null" && is_whole));
        Some(modifiers.fold(name.to_owned(), |name, modifier| format!("{name}|{modifier}")))
    }

    fn known_name(&self, name: &str) -> Option<&'a str> {
        if let Some(same) = self.known.iter().copied().find(|known| *known == name) {
            return Some(same);
        }
        let plain = |text: &str| -> String {
            text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
        };
        // `error.message` is how other languages of templates name it.
        let last = name.rsplit('.').next().unwrap_or_default().trim_start_matches('$');
        let spelled_otherwise = self.known.iter().copied().find(|known| plain(known) == plain(last));
        spelled_otherwise
            .or_else(|| SYNONYMS.iter().find(|(other, _)| *other == plain(last)).map(|(_, known)| *known))
            .or_else(|| closest_match(last, self.known.iter().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_of_placeholders_are_corrected() {
        for (written, meant) in [
            ("{mesage}", "{message}"),
            ("{Message}", "{message}"),
            ("{requestId}", "{request_id}"),
            ("{error.message}", "{message}"),
            ("{status|string}", "{code|string}"),
            ("{ code }", "{code}"),
            ("{code | string}", "{code|string}"),
            ("{code|upper}", "{code}"),
            ("{parm|null}", "{param|null}"),
            ("Error {cod}: {mesage}", "Error {code}: {message}"),
            ("Error {param|null}.", "Error {param}."),
            ("{message", "{message}"),
            ("{message and more", "{message} and more"),
            ("message}", "{message}"),
            ("{message}}", "{message}"),
            ("{{message}", "{message}"),
            ("{{{message}}", "{{{message}}}"),
            ("{message{code}", "{message}{code}"),
            ("a { b", "a {{ b"),
            ("a } b", "a }} b"),
            ("{message} and {", "{message} and {{"),
            ("{", "{{"),
        ] {
            assert_eq!(corrected(written, ["param"].into_iter()).as_deref(), Some(meant), "{written}");
        }
        for unchanged in ["", "{message}", "{{x}} {code|string}", "{colour}", "{}", "}}{{"] {
            assert_eq!(corrected(unchanged, [].into_iter()), None, "{unchanged}");
        }
    }
}
