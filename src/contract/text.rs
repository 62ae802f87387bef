//! The rule for texts that clients receive: no markup, no stack trace, no credentials.
//!
//! [`passes_rule`] is the rule itself. [`is_allowed`] is for an operator's messages, one line each; [`sanitize`] cleans
//! or rejects an upstream's message. [`super::conform::UpstreamMessages`] decides which upstream messages are sent.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use regex::Regex;

/// Maximum length of a message, in characters.
pub(crate) const MAX_CHARS: usize = 1000;

/// Why a text is not allowed. Its `Display` completes the sentence "the message ...".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextProblem {
    /// The text is empty.
    #[error("is empty; expected 1 to 1000 characters")]
    Empty,
    /// More than [`MAX_CHARS`] characters.
    #[error("is too long; expected 1 to 1000 characters")]
    TooLong,
    /// A control character (Unicode category Cc: C0, DEL, C1).
    #[error("contains a control character; expected one line of plain text")]
    ControlCharacter,
    /// It looks like markup or like a stack trace.
    #[error("looks like markup or a stack trace; expected one plain sentence")]
    MarkupOrStackTrace,
}

/// Returns why an operator's message may not be sent, or `None` if it may.
pub fn problem(text: &str) -> Option<TextProblem> {
    if text.is_empty() {
        return Some(TextProblem::Empty);
    }
    // A text has at most as many characters as bytes, so only long texts are counted.
    if text.len() > MAX_CHARS && text.chars().nth(MAX_CHARS).is_some() {
        return Some(TextProblem::TooLong);
    }
    if text.contains(char::is_control) {
        return Some(TextProblem::ControlCharacter);
    }
    reveals_internals(text).then_some(TextProblem::MarkupOrStackTrace)
}

/// Whether an operator's message may be sent.
pub fn is_allowed(text: &str) -> bool {
    problem(text).is_none()
}

/// Whether a text passes the text rule: no control characters but tab and line feed, nothing that looks like markup, a
/// stack trace or credentials. It may be empty, and of any length.
pub(crate) fn passes_rule(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() && c != '\t' && c != '\n') && !reveals_internals(text)
}

/// Takes the first line of an upstream's text, without control characters, and truncates it to [`MAX_CHARS`]
/// characters. Returns `None` if nothing remains, or if the line fails the text rule. The result always passes
/// [`is_allowed`].
pub(crate) fn sanitize(text: &str) -> Option<Cow<'_, str>> {
    // A lone CR ends a line on terminals and in some clients.
    let line = text.trim().split(['\n', '\r']).next().unwrap_or_default().trim();
    // The complete line is checked, not only the truncated one: it may continue as a stack frame.
    if reveals_internals(line) {
        return None;
    }
    let plain = if line.contains(char::is_control) {
        // Checked again: a NUL can be inside a tag, and a separator can stand for the blank before a stack frame.
        let plain: String = line.chars().filter(|c| !c.is_control()).collect();
        let spaced: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if reveals_internals(&plain) || reveals_internals(&spaced) {
            return None;
        }
        Cow::Owned(plain)
    } else {
        Cow::Borrowed(line)
    };
    if plain.trim().is_empty() {
        return None;
    }
    let kept = match plain.char_indices().nth(MAX_CHARS) {
        None => plain,
        Some(_) => Cow::Owned(plain.chars().take(MAX_CHARS).collect()),
    };
    is_allowed(&kept).then_some(kept)
}

fn reveals_internals(text: &str) -> bool {
    // Every form that the pattern matches has one of these. Most messages have none, and the pattern is not run.
    if memchr::memchr3(b'<', b':', b'"', text.as_bytes()).is_none() {
        return WORDS.iter().any(|word| word.find(text.as_bytes()).is_some());
    }
    FORBIDDEN_TEXT.as_ref().is_none_or(|rule| rule.is_match(text))
}

/// Words that are forbidden by themselves.
static WORDS: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| [Finder::new("Traceback"), Finder::new("SQLSTATE")]);

/// Matches a tag, a comment or a doctype; a stack frame of JavaScript, Java, .NET or Python; the first line of a Python
/// traceback; a database's error state; a URL with user information. Other stack frames are not in the contract, and an
/// API about source code may name `main.go:12` in its messages. `None` would reject every text, but cannot occur: a
/// test compiles the pattern.
static FORBIDDEN_TEXT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"<[a-zA-Z/!]",
        r"|\bat \S*[(/\\.]\S*:\d+",
        r"|\bat (?:async |new )?\S+ (?:\[as \S+\] )?\(.*:\d+",
        r"|:line \d+",
        r#"|File ".*", line \d+"#,
        r"|Traceback",
        r"|SQLSTATE",
        r"|[A-Za-z][A-Za-z0-9+]*://[^/\s]*@",
    ))
    .ok()
});

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_sentences_are_unchanged() {
        assert!(FORBIDDEN_TEXT.is_some());
        for text in [
            "x",
            "Invalid id: Parameter must be a valid number",
            "a < b",
            "1 <2",
            "größer als 5 €",
            "look at me",
            "The meeting is at 10:30.",
            "Invalid value at column 3 line 12",
            "Syntax error at line 12: unexpected end",
            "The ratio is 1.5:10.",
            "main.go:12: undefined: x",
            "See https://example.com/docs?mail=a@b and ask.",
            "File \"a.txt\" not found",
        ] {
            assert!(is_allowed(text), "{text}");
            assert!(matches!(sanitize(text), Some(Cow::Borrowed(kept)) if kept == text), "{text}");
        }
    }

    #[test]
    fn markup_and_stack_traces_are_rejected() {
        for text in [
            "<html><body>502",
            "oops</p>",
            "<!doctype html>",
            "<!-- x -->",
            "x at foo.js:12",
            "TypeError at Object.<anonymous>:3",
            "boom at f (file:1:2)",
            "at Function.executeUserEntryPoint [as run] (node:internal/modules:170:12)",
            "at App.Main() in C:\\app\\Main.cs:line 12",
            "File \"/srv/app.py\", line 12, in f",
            "SQLSTATE[42S02]: Base table not found",
            "cannot reach postgres://app:secret@db:5432/main",
            "REDIS://:secret@cache",
            "Traceback (most recent call last)",
            "é at /srv/app.py:9",
        ] {
            assert_eq!(problem(text), Some(TextProblem::MarkupOrStackTrace), "{text}");
            assert_eq!(sanitize(text), None, "{text}");
        }
    }

    #[test]
    fn control_characters_cannot_hide_markup() {
        assert_eq!(sanitize("Error\u{b}at app.js:12"), None);
        assert_eq!(sanitize("<\u{0}script>"), None);
        assert_eq!(sanitize("Trace\u{7}back"), None);
        assert_eq!(sanitize(&format!("{}<b>", "x".repeat(2000))), None);
    }

    #[test]
    fn first_line_is_used_and_checked_alone() {
        // contract.md section 3: the first line is used, and refused when it fails the text rule.
        assert_eq!(
            sanitize("No such order.\n    at find (/srv/a.js:1:2)").as_deref(),
            Some("No such order.")
        );
        assert_eq!(
            sanitize("No such order.\r\nTraceback (most recent call last):").as_deref(),
            Some("No such order.")
        );
        assert_eq!(sanitize("No such order.\rSQLSTATE[42S02]").as_deref(), Some("No such order."));
        assert_eq!(sanitize("    at find (/srv/a.js:1:2)\nNo such order."), None);
        assert_eq!(sanitize("Traceback (most recent call last):\n  x"), None);
    }

    #[test]
    fn control_characters_are_removed_and_long_text_truncated() {
        assert_eq!(sanitize("a\u{7f}c\u{85}d\u{0}\r\nsecond").as_deref(), Some("acd"));
        assert_eq!(sanitize("\n\t first \nsecond").as_deref(), Some("first"));
        assert_eq!(sanitize("\u{0}\n"), None);
        assert_eq!(sanitize(""), None);
        let long = "é".repeat(1001);
        assert_eq!(sanitize(&long).unwrap(), "é".repeat(1000));
        assert_eq!(problem(&long), Some(TextProblem::TooLong));
        assert!(is_allowed(&"é".repeat(1000)));
        assert_eq!(problem("a\nb"), Some(TextProblem::ControlCharacter));
        assert_eq!(problem(""), Some(TextProblem::Empty));
    }

    proptest! {
        #[test]
        fn sanitized_text_is_always_allowed(text in any::<String>(), part in "(<|a|at |[a-z]:|1|\n|Traceback|\u{0}|\u{85}| ){0,40}") {
            for candidate in [&text, &part, &format!("{part}{text}")] {
                if let Some(kept) = sanitize(candidate) {
                    prop_assert!(is_allowed(&kept), "{candidate:?} -> {kept:?}");
                }
            }
        }
    }
}
