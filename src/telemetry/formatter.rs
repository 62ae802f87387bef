//! One event as one line: JSON for machines, text for a terminal, and no byte in either that could do anything.
//!
//! What a client sent ends up in logs, and logs end up in terminals: control characters, and the characters that reorder
//! text, are written as escapes in both forms; a long value is cut. It does not know which events exist or where the
//! line goes (see [`super::log`]).

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// `{"time":…,"level":…,"message":…,…}`, every field at the top level.
    Json,
    /// `time LEVEL message field=value …`; the level in colour or not.
    Text {
        /// Colour the level.
        colour: bool,
    },
}

/// Appends the line of `event`, newline included.
pub(crate) fn format_event(format: LineFormat, event: &Event<'_>, now: SystemTime, line: &mut String) {
    let mut fields = EventFields {
        format,
        message: String::new(),
        fields: String::with_capacity(512),
        target: None,
        scratch: String::new(),
    };
    event.record(&mut fields);
    let EventFields { message, fields, target, .. } = fields;

    let metadata = event.metadata();
    // Records of the `log` crate arrive through one callsite; their own target is a field.
    let target = target.as_deref().unwrap_or_else(|| metadata.target());
    // Ours are told apart by their message; for the libraries' lines the target says who speaks.
    let library_target = (!target.starts_with(env!("CARGO_PKG_NAME"))).then_some(target);
    let time = humantime::format_rfc3339_millis(now);
    let level = *metadata.level();

    match format {
        LineFormat::Json => {
            let _ = write!(line, r#"{{"time":"{time}","level":"{}","message":""#, level_name(level));
            line.push_str(&message);
            line.push('"');
            if let Some(target) = library_target {
                line.push_str(r#","target":""#);
                write_json_text(target, line);
                line.push('"');
            }
            line.push_str(&fields);
            line.push_str("}\n");
        }
        LineFormat::Text { colour } => {
            let _ = write!(line, "{time} ");
            let (on, off) = if colour { (colour_of(level), "\x1b[0m") } else { ("", "") };
            let _ = write!(line, "{on}{level:>5}{off} ");
            line.push_str(&message);
            if let Some(target) = library_target {
                line.push_str(" target=");
                write_text_value(target, line);
            }
            line.push_str(&fields);
            line.push('\n');
        }
    }
}

/// Collects an event's fields, already in the line's form.
struct EventFields {
    format: LineFormat,
    message: String,
    fields: String,
    target: Option<Box<str>>,
    scratch: String,
}

impl EventFields {
    fn text_field(&mut self, field: &Field, value: &str) {
        match (field.name(), self.format) {
            ("message", LineFormat::Json) => write_json_text(value, &mut self.message),
            ("message", LineFormat::Text { .. }) => write_plain_text(value, &mut self.message),
            ("log.target", _) => self.target = Some(value.into()),
            (name, _) if name.starts_with("log.") => {}
            (name, LineFormat::Json) => {
                self.json_key(name);
                self.fields.push('"');
                write_json_text(value, &mut self.fields);
                self.fields.push('"');
            }
            (name, LineFormat::Text { .. }) => {
                let _ = write!(self.fields, " {name}=");
                write_text_value(value, &mut self.fields);
            }
        }
    }

    /// A value that is the same in both forms and cannot need an escape.
    fn plain_field(&mut self, field: &Field, value: impl fmt::Display) {
        match (field.name(), self.format) {
            (name, _) if name.starts_with("log.") => {}
            (name, LineFormat::Json) => {
                self.json_key(name);
                let _ = write!(self.fields, "{value}");
            }
            (name, LineFormat::Text { .. }) => {
                let _ = write!(self.fields, " {name}={value}");
            }
        }
    }

    fn json_key(&mut self, name: &str) {
        self.fields.push_str(",\"");
        write_json_text(name, &mut self.fields);
        self.fields.push_str("\":");
    }
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text_field(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain_field(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain_field(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain_field(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN and no infinity.
        if value.is_finite() { self.plain_field(field, value) } else { self.record_debug(field, &value) }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let _ = write!(scratch, "{value:?}");
        self.text_field(field, &scratch);
        self.scratch = scratch;
    }
}

/// The inside of a JSON string.
fn write_json_text(value: &str, out: &mut String) {
    write_escaped(value, out, |char, out| match char {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        other => {
            for unit in other.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    });
}

/// A value in a text line: bare where that is unambiguous, else in quotes.
fn write_text_value(value: &str, out: &mut String) {
    if value.is_empty() || value.contains([' ', '"', '=']) {
        out.push('"');
        write_plain_text(value, out);
        out.push('"');
    } else {
        write_plain_text(value, out);
    }
}

fn write_plain_text(value: &str, out: &mut String) {
    write_escaped(value, out, |char, out| match char {
        // A message stays readable; in a value, quotes and backslashes are doubled up so that it can be read back.
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        other => out.extend(other.escape_default()),
    });
}

/// Copies runs of harmless characters at once and gives the others to `escape`.
fn write_escaped(value: &str, out: &mut String, mut escape: impl FnMut(char, &mut String)) {
    let truncated = value.len() > MAX_VALUE_BYTES;
    let value = if truncated {
        value.get(..value.floor_char_boundary(MAX_VALUE_BYTES)).unwrap_or_default()
    } else {
        value
    };
    let mut rest = value;
    while let Some(at) = find_escape(rest) {
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = from.chars();
        if let Some(char) = chars.next() {
            escape(char, out);
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    if truncated {
        out.push('…');
    }
}

/// Where the first character is that cannot stay as it is. Most values are short and plain ASCII, so bytes are looked at
/// first: decoding every character was two fifths of a line's cost.
fn find_escape(text: &str) -> Option<usize> {
    let plain = |byte: &u8| PLAIN_BYTES.get(usize::from(*byte)).copied().unwrap_or(false);
    let start = text.as_bytes().iter().position(|byte| !plain(byte))?;
    // All bytes before are ASCII, so a character begins here.
    text.get(start..)?.find(needs_escape).map(|at| start + at)
}

/// By byte: printable ASCII without quotes and backslashes.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler; an index past the end would not build"
)]
static PLAIN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        table[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    table
};

/// Quotes and backslashes, control characters (C0, DEL, C1), line separators, and what changes the direction of text.
fn needs_escape(char: char) -> bool {
    matches!(char, '"' | '\\' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
        || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || char.is_control()
}

/// Bytes of one value that are written. A path can be as long as a whole head; a line need not.
const MAX_VALUE_BYTES: usize = 2048;

const fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

const fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[2m",
    }
}

#[cfg(test)]
#[path = "formatter_tests.rs"]
mod tests;
