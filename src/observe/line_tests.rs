//! Lines as they are written: the form, and that nothing dangerous survives.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use tracing::subscriber::with_default;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::*;

const TEXT: Form = Form::Text { colour: false };

/// Writes every event with a fixed time.
struct Collect(Form, Arc<Mutex<String>>);

impl<S: tracing::Subscriber> Layer<S> for Collect {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let now = UNIX_EPOCH + Duration::from_millis(1_795_359_845_067);
        write(self.0, event, now, &mut self.1.lock().unwrap());
    }
}

fn lines(form: Form, say: impl FnOnce()) -> String {
    let collected = Arc::new(Mutex::new(String::new()));
    let layer = Collect(form, Arc::clone(&collected));
    with_default(tracing_subscriber::registry().with(layer), say);
    collected.lock().unwrap().clone()
}

#[test]
fn a_json_line_is_flat_with_time_level_and_message_first() {
    let line = lines(Form::Json, || {
        tracing::warn!(
            code = 504,
            route = "shop",
            quick = true,
            ratio = 0.5,
            nothing = None::<u8>,
            "replaced"
        );
    });
    assert_eq!(
        line,
        "{\"time\":\"2026-11-22T15:04:05.067Z\",\"level\":\"warn\",\"message\":\"replaced\",\
         \"code\":504,\"route\":\"shop\",\"quick\":true,\"ratio\":0.5}\n"
    );
}

#[test]
fn a_text_line_quotes_only_what_would_be_ambiguous() {
    let line = lines(TEXT, || tracing::info!(a = "b", c = "d e", empty = "", f = "g=\"h\"", "said so"));
    assert_eq!(line, "2026-11-22T15:04:05.067Z  INFO said so a=b c=\"d e\" empty=\"\" f=\"g=\\\"h\\\"\"\n");
}

#[test]
fn a_coloured_level_is_the_only_escape_sequence_of_a_line() {
    let line = lines(Form::Text { colour: true }, || tracing::error!(path = "/\x1b[2J", "said so"));
    assert_eq!(line, "2026-11-22T15:04:05.067Z \x1b[31mERROR\x1b[0m said so path=/\\u{1b}[2J\n");
}

#[test]
fn an_escape_sequence_or_a_second_line_cannot_be_smuggled_in_by_a_value() {
    let nasty = "/a\x1b]0;t\x07\r\n{\"level\":\"error\"}\u{9b}31m\u{7f}\u{202e}\u{2028}\"\\";
    let json = lines(Form::Json, || tracing::warn!(path = nasty, shown = %nasty, "refused {nasty}"));
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed["path"], nasty);
    assert_eq!(parsed["shown"], nasty);
    assert_eq!(parsed["message"], format!("refused {nasty}"));
    assert_eq!(parsed["level"], "warn");
    let text = lines(TEXT, || tracing::warn!(path = nasty, shown = %nasty, "refused {nasty}"));
    for line in [json, text] {
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(!line.trim_end().contains(|char: char| char.is_control() || char == '\u{202e}'), "{line:?}");
    }
}

#[test]
fn a_long_value_is_cut_at_a_character_and_says_so() {
    let long = format!("x{}", "é".repeat(5_000));
    let line = lines(Form::Json, || tracing::warn!(path = long.as_str(), "refused"));
    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
    let path = parsed["path"].as_str().unwrap();
    assert!(path.ends_with("é…") && path.len() <= VALUE_LIMIT + '…'.len_utf8(), "{}", path.len());
}

#[test]
fn a_library_is_named_as_the_target() {
    let json = lines(Form::Json, || tracing::error!(target: "pingora_core::x", "said so"));
    assert!(json.contains(r#""message":"said so","target":"pingora_core::x"}"#), "{json}");
    let text = lines(TEXT, || tracing::error!(target: "h2", "said so"));
    assert!(text.ends_with("said so target=h2\n"), "{text}");
}

#[test]
fn numbers_that_json_cannot_say_are_strings() {
    let line = lines(Form::Json, || tracing::warn!(ratio = f64::NAN, huge = u128::MAX, "said so"));
    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(parsed["ratio"], "NaN");
    // u128 is beyond what tracing passes as a number.
    assert_eq!(parsed["huge"], u128::MAX.to_string());
}

proptest! {
    #[test]
    fn every_value_makes_one_line_that_parses_back(value in any::<String>()) {
        let json = lines(Form::Json, || tracing::warn!(path = value.as_str(), "refused"));
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        if value.len() <= VALUE_LIMIT {
            prop_assert_eq!(parsed["path"].as_str(), Some(value.as_str()));
        }
        let text = lines(TEXT, || tracing::warn!(path = value.as_str(), "refused"));
        for line in [json, text] {
            prop_assert!(line.ends_with('\n') && !line.trim_end_matches('\n').contains(char::is_control));
        }
    }
}
