//! Formats one event as one line: JSON for machines, or text for a terminal.
//!
//! Log lines contain data from clients and may be shown in a terminal. Both formats therefore escape control characters
//! and the characters that reorder text, and truncate long values. [`super::log`] writes the lines.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineFormat {
    /// `{"time":…,"level":…,"message":…,…}`, every field at the top level.
    Json,
    /// `time LEVEL message field=value …`.
    Text {
        /// Whether the level is coloured.
        colour: bool,
    },
}

/// Appends `event` as a line, newline included.
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
    // Records of the `log` crate share one callsite; a field has their own target.
    let target = target.as_deref().unwrap_or_else(|| metadata.target());
    // Our own messages are unique; lines of libraries need the target to identify their source.
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

/// Collects the fields of an event, formatted.
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
            // A list that is JSON already.
            ("attempts.json", LineFormat::Json) => {
                self.json_key("attempts");
                self.fields.push_str(value);
            }
            ("attempts.json", LineFormat::Text { .. }) => {
                let _ = write!(self.fields, " attempts={value}");
            }
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

    /// Writes a value that is equal in both formats and never needs escaping.
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
        // JSON has neither NaN nor infinity.
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

/// Writes the content of a JSON string, without the quotes.
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

/// Writes a value of a text line, in quotes if it would be ambiguous.
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
        // Escaped, so that a quoted value can be parsed.
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        other => out.extend(other.escape_default()),
    });
}

/// Copies runs of plain characters, and calls `escape` for the others. Truncates to [`MAX_VALUE_BYTES`].
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

/// The position of the first character that needs escaping. Checks bytes first, because most values are plain ASCII:
/// decoding every character took 40 % of the time of a line.
fn find_escape(text: &str) -> Option<usize> {
    let plain = |byte: &u8| PLAIN_BYTES.get(usize::from(*byte)).copied().unwrap_or(false);
    let start = text.as_bytes().iter().position(|byte| !plain(byte))?;
    // All previous bytes are ASCII, so `start` is a character boundary.
    text.get(start..)?.find(needs_escape).map(|at| start + at)
}

/// Whether a byte is printable ASCII other than a quote or backslash.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated at compile time; an index out of range would not compile"
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

/// True for quotes, backslashes, control characters (C0, DEL, C1), line separators and characters that change text
/// direction.
fn needs_escape(char: char) -> bool {
    matches!(char, '"' | '\\' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
        || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || char.is_control()
}

/// The maximum length of a value. A path can be as long as a whole header section.
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
