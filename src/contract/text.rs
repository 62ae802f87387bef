//! The rule for client messages: one plain sentence, without markup and without a stack trace.
//!
//! [`is_allowed`] checks a text that is sent unchanged (conforming bodies, operators' messages); [`sanitize`] cleans or
//! rejects an upstream's message. [`super::conform::UpstreamMessages`] decides which upstream messages are sent.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

/// Maximum length of a message, in characters.
pub const MAX_CHARS: usize = 1000;

/// Why a text is not allowed. Its `Display` completes the sentence "the message ...".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextProblem {
    /// The text is empty.
    Empty,
    /// More than [`MAX_CHARS`] characters.
    TooLong,
    /// A control character (Unicode category Cc: C0, DEL, C1).
    ControlCharacter,
    /// It looks like markup or like a stack trace.
    MarkupOrStackTrace,
}

impl fmt::Display for TextProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextProblem::Empty => f.write_str("is empty; expected 1 to 1000 characters"),
            TextProblem::TooLong => f.write_str("is too long; expected 1 to 1000 characters"),
            TextProblem::ControlCharacter => {
                f.write_str("contains a control character; expected one line of plain text")
            }
            TextProblem::MarkupOrStackTrace => {
                f.write_str("looks like markup or a stack trace; expected one plain sentence")
            }
        }
    }
}

/// Returns why a text may not be sent unchanged, or `None` if it is allowed.
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
    has_markup_or_stack_trace(text).then_some(TextProblem::MarkupOrStackTrace)
}

/// Whether a text may be sent unchanged.
pub fn is_allowed(text: &str) -> bool {
    problem(text).is_none()
}

/// Cleans an upstream's text: removes control characters and truncates to [`MAX_CHARS`] characters. Returns `None` if
/// nothing remains, or if the text looks like markup or a stack trace. The result always passes [`is_allowed`].
pub fn sanitize(text: &str) -> Option<Cow<'_, str>> {
    // Check before and after removing control characters: a line break can separate a word from a stack frame, and a
    // NUL can be inside a tag. Check the complete text, not only the truncated one: a sentence before a stack trace may
    // be part of it.
    if has_markup_or_stack_trace(text) {
        return None;
    }
    let plain = if text.contains(char::is_control) {
        let plain: String = text.chars().filter(|c| !c.is_control()).collect();
        if has_markup_or_stack_trace(&plain) {
            return None;
        }
        Cow::Owned(plain)
    } else {
        Cow::Borrowed(text)
    };
    if plain.is_empty() {
        return None;
    }
    match plain.char_indices().nth(MAX_CHARS) {
        None => Some(plain),
        Some(_) => Some(Cow::Owned(plain.chars().take(MAX_CHARS).collect())),
    }
}

fn has_markup_or_stack_trace(text: &str) -> bool {
    FORBIDDEN_TEXT.as_ref().is_none_or(|rule| rule.is_match(text))
}

/// Matches a tag, a comment or a doctype; a stack frame of JavaScript or Java; the first line of a Python traceback. It
/// has no lookahead, so if a text does not match, no prefix of it matches. `None` would reject every text, but cannot
/// occur: a test compiles the pattern.
static FORBIDDEN_TEXT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"<[a-zA-Z/!]|\bat \S+:\d+|Traceback").ok());

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
            "Traceback (most recent call last)",
            "é at /srv/app.py:9",
        ] {
            assert_eq!(problem(text), Some(TextProblem::MarkupOrStackTrace), "{text}");
            assert_eq!(sanitize(text), None, "{text}");
        }
    }

    #[test]
    fn control_characters_cannot_hide_markup() {
        assert_eq!(sanitize("Error\nat app.js:12"), None);
        assert_eq!(sanitize("<\u{0}script>"), None);
        assert_eq!(sanitize("Trace\u{7}back"), None);
        assert_eq!(sanitize(&format!("{}<b>", "x".repeat(2000))), None);
    }

    #[test]
    fn control_characters_are_removed_and_long_text_truncated() {
        assert_eq!(sanitize("a\r\nb\u{7f}c\u{85}d\u{0}").as_deref(), Some("abcd"));
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
