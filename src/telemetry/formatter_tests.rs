//! The line formats, and the escaping of hostile values.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use tracing::subscriber::with_default;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::*;

const TEXT: LineFormat = LineFormat::Text { colour: false };

/// Writes every event with a fixed time.
struct CollectLayer(LineFormat, Arc<Mutex<String>>);

impl<S: tracing::Subscriber> Layer<S> for CollectLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let now = UNIX_EPOCH + Duration::from_millis(1_795_359_845_067);
        format_event(self.0, event, now, &mut self.1.lock().unwrap());
    }
}

fn lines(form: LineFormat, emit: impl FnOnce()) -> String {
    let collected = Arc::new(Mutex::new(String::new()));
    let layer = CollectLayer(form, Arc::clone(&collected));
    with_default(tracing_subscriber::registry().with(layer), emit);
    collected.lock().unwrap().clone()
}

#[test]
fn json_line_starts_with_time_level_and_message() {
    let line = lines(LineFormat::Json, || {
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
fn text_line_quotes_only_ambiguous_values() {
    let line = lines(TEXT, || tracing::info!(a = "b", c = "d e", empty = "", f = "g=\"h\"", "message text"));
    assert_eq!(
        line,
        "2026-11-22T15:04:05.067Z  INFO message text a=b c=\"d e\" empty=\"\" f=\"g=\\\"h\\\"\"\n"
    );
}

#[test]
fn only_the_level_is_coloured() {
    let line =
        lines(LineFormat::Text { colour: true }, || tracing::error!(path = "/\x1b[2J", "message text"));
    assert_eq!(line, "2026-11-22T15:04:05.067Z \x1b[31mERROR\x1b[0m message text path=/\\u{1b}[2J\n");
}

#[test]
fn values_cannot_inject_escapes_or_newlines() {
    let malicious = "/a\x1b]0;t\x07\r\n{\"level\":\"error\"}\u{9b}31m\u{7f}\u{202e}\u{2028}\"\\";
    let json = lines(
        LineFormat::Json,
        || tracing::warn!(path = malicious, shown = %malicious, "refused {malicious}"),
    );
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed["path"], malicious);
    assert_eq!(parsed["shown"], malicious);
    assert_eq!(parsed["message"], format!("refused {malicious}"));
    assert_eq!(parsed["level"], "warn");
    let text = lines(TEXT, || tracing::warn!(path = malicious, shown = %malicious, "refused {malicious}"));
    for line in [json, text] {
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(!line.trim_end().contains(|char: char| char.is_control() || char == '\u{202e}'), "{line:?}");
    }
}

#[test]
fn long_value_is_truncated_at_a_character() {
    let long = format!("x{}", "é".repeat(5_000));
    let line = lines(LineFormat::Json, || tracing::warn!(path = long.as_str(), "refused"));
    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
    let path = parsed["path"].as_str().unwrap();
    assert!(path.ends_with("é…") && path.len() <= MAX_VALUE_BYTES + '…'.len_utf8(), "{}", path.len());
}

#[test]
fn library_events_show_their_target() {
    let json = lines(LineFormat::Json, || tracing::error!(target: "pingora_core::x", "message text"));
    assert!(json.contains(r#""message":"message text","target":"pingora_core::x"}"#), "{json}");
    let text = lines(TEXT, || tracing::error!(target: "h2", "message text"));
    assert!(text.ends_with("message text target=h2\n"), "{text}");
}

#[test]
fn non_json_numbers_are_strings() {
    let line = lines(LineFormat::Json, || tracing::warn!(ratio = f64::NAN, huge = u128::MAX, "message text"));
    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(parsed["ratio"], "NaN");
    // u128 is beyond what tracing passes as a number.
    assert_eq!(parsed["huge"], u128::MAX.to_string());
}

proptest! {
    #[test]
    fn every_value_round_trips_on_one_line(value in any::<String>()) {
        let json = lines(LineFormat::Json, || tracing::warn!(path = value.as_str(), "refused"));
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        if value.len() <= MAX_VALUE_BYTES {
            prop_assert_eq!(parsed["path"].as_str(), Some(value.as_str()));
        }
        let text = lines(TEXT, || tracing::warn!(path = value.as_str(), "refused"));
        for line in [json, text] {
            prop_assert!(line.ends_with('\n') && !line.trim_end_matches('\n').contains(char::is_control));
        }
    }
}
