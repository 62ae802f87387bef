//! Extracts from an upstream's error body what may be sent in a body that is rendered anew: one message, one `type`,
//! details, and declared values.
//!
//! It supports the usual JSON error formats. Reading is strict: if parsers could read different messages, nothing is
//! extracted. [`Extraction`] says what may be sent; the statuses decide about it, not this module.

use std::borrow::Cow;

use super::code::Contract;
use super::conform::BODY_LIMIT;
use super::json::{self, Kind, Value};
use super::path::JsonPath;
use super::template::conform::{FreeBounds, MAX_FREE_DEPTH};
use super::text;

/// The parts of an upstream's error body that may be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtractedError {
    /// The sanitized message: it passes [`super::text::is_allowed`].
    pub message: Option<String>,
    /// A `type` that the contract allows.
    pub kind: Option<String>,
    /// The details, as JSON without whitespace.
    pub details: Option<String>,
    /// The declared values that were found, as JSON, by their index.
    pub declared: Vec<Option<String>>,
    /// How many strings of the details, or whole details, were left out.
    pub details_dropped: u32,
}

/// What may be extracted, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Extraction<'a> {
    /// The message may be sent.
    pub message: bool,
    /// A well-formed type may be sent, not only one on a closed list.
    pub any_type: bool,
    /// Details and declared values may be sent.
    pub details: bool,
    /// Places of the message that are tried first.
    pub message_paths: &'a [JsonPath],
    /// The members whose value is kept as details.
    pub keep_details: &'a [Box<str>],
}

impl Extraction<'static> {
    /// Message, type and declared values, from the usual places.
    pub const ALL: Extraction<'static> =
        Extraction { message: true, any_type: true, details: true, message_paths: &[], keep_details: &[] };
}

/// Extracts the message and the `type` from an error body, regardless of its media type.
pub fn extract(contract: &Contract, body: &[u8]) -> ExtractedError {
    extract_with(contract, body, &Extraction::ALL)
}

/// Extracts from an error body what `extraction` allows. A duplicate member in any object discards the whole body. A
/// message that may not be sent is skipped and the next place is tried.
pub(crate) fn extract_with(contract: &Contract, body: &[u8], extraction: &Extraction<'_>) -> ExtractedError {
    if body.len() > BODY_LIMIT {
        return ExtractedError::default();
    }
    let Ok(text) = std::str::from_utf8(body) else { return ExtractedError::default() };
    let Ok(value) = json::read(text.strip_prefix('\u{feff}').unwrap_or(text)) else {
        return ExtractedError::default();
    };
    if value.members().is_none() {
        return ExtractedError::default();
    }
    let template = contract.template();
    let mut extracted = ExtractedError::default();
    if extraction.message {
        extracted.message = find_message(contract, &value, extraction).map(Cow::into_owned);
    }
    extracted.kind = find_type(contract, &value, extraction.any_type).map(str::to_owned);
    if extraction.details {
        let mut bounds = FreeBounds::default();
        if !template.values().is_empty() {
            let find = |index| {
                let found = template.declared_in(index, &value)?;
                let mut after = bounds;
                if !after.accepts(found) {
                    return None;
                }
                bounds = after;
                Some(compact(found))
            };
            extracted.declared = (0..template.values().len()).map(find).collect();
        }
        let kept = extraction.keep_details.iter().find_map(|name| {
            let inner = || value.member("error").and_then(|error| error.member(name));
            value.member(name).or_else(inner)
        });
        // `detail` is often the message: a text is no detail.
        if let Some(kept) = kept.filter(|kept| template.has_details() && !matches!(kept.kind, Kind::Null)) {
            let mut cleaner = Cleaner { bounds, dropped: 0, kept: 0, out: String::new() };
            match cleaner.write(kept, 0) {
                // Without the strings that were left out, only brackets may remain: nothing was kept.
                Ok(true) if cleaner.kept > 0 || cleaner.dropped == 0 => extracted.details = Some(cleaner.out),
                Ok(_) => {}
                Err(TooMuch) => cleaner.dropped += 1,
            }
            extracted.details_dropped = cleaner.dropped;
        }
    }
    extracted
}

/// The message of a `text/plain` body: one line of at most 200 characters.
pub(crate) fn plain_text_message(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body.get(..body.len().min(MAX_PLAIN * 4 + 8))?).ok()?;
    let line = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    let is_one_line = !line.contains(['\n', '\r']) && line.chars().nth(MAX_PLAIN).is_none();
    is_one_line.then(|| text::sanitize(line).map(Cow::into_owned)).flatten()
}

const MAX_PLAIN: usize = 200;

/// The first place that has a message which may be sent; a bare status phrase only where there is nothing else.
fn find_message<'v>(
    contract: &Contract,
    body: &'v Value<'_>,
    extraction: &Extraction<'_>,
) -> Option<Cow<'v, str>> {
    let mut phrase = None;
    let mut found = None;
    let mut offer = |text: &'v str| {
        if found.is_none()
            && let Some(message) = text::sanitize(text)
        {
            if is_phrase(&message) {
                phrase.get_or_insert(message);
            } else {
                found = Some(message);
            }
        }
        found.is_some()
    };
    let declared_places = extraction.message_paths.iter().chain(contract.template().message_places());
    let found_there =
        declared_places.filter_map(|path| path.find(body)).filter_map(Value::as_text).any(&mut offer);
    if !found_there {
        for_each_usual_place(body, &mut offer);
    }
    found.or(phrase)
}

/// Calls `offer` with the text at every usual place, in order of preference, until it returns true.
fn for_each_usual_place<'v>(body: &'v Value<'_>, offer: &mut dyn FnMut(&'v str) -> bool) -> bool {
    let member = |value: Option<&'v Value<'_>>, name: &str| value.and_then(|value| value.member(name));
    let first = |value: Option<&'v Value<'_>>| value.and_then(|value| value.items()?.first());
    let root = Some(body);
    let (error, errors, detail) = (member(root, "error"), member(root, "errors"), member(root, "detail"));
    let mut try_value =
        |value: Option<&'v Value<'_>>| value.and_then(Value::as_text).is_some_and(&mut *offer);
    if try_value(member(root, "message"))
        || try_value(member(error, "message"))
        || try_value(member(root, "error_description"))
        || try_value(detail)
        || try_value(error)
        || try_value(member(first(errors), "message"))
        || try_value(member(first(errors), "detail"))
        || try_value(member(detail, "message"))
        || try_value(member(first(detail), "msg"))
        || try_value(first(member(root, "message")))
        || try_value(first(errors))
    {
        return true;
    }
    for field in errors.and_then(Value::members).unwrap_or_default() {
        if try_value(first(Some(&field.value))) || try_value(Some(&field.value)) {
            return true;
        }
    }
    if try_value(first(member(root, "non_field_errors"))) {
        return true;
    }
    let members = body.members().unwrap_or_default();
    let is_texts = |value: &Value<'_>| {
        value.items().is_some_and(|items| items.iter().all(|item| item.as_text().is_some()))
    };
    if members.iter().all(|field| is_texts(&field.value)) {
        for field in members {
            if try_value(first(Some(&field.value))) {
                return true;
            }
        }
    }
    try_value(member(error, "reason"))
        || ["reason", "msg", "Message", "error_message", "title"]
            .iter()
            .any(|name| try_value(member(root, name)))
}

/// Whether a message only repeats the phrase of a status code.
fn is_phrase(message: &str) -> bool {
    let message = message.trim_end_matches('.');
    (400..=599)
        .filter_map(|status| http::StatusCode::from_u16(status).ok()?.canonical_reason())
        .chain(["Content Too Large", "Unprocessable Content"])
        .any(|phrase| phrase.eq_ignore_ascii_case(message))
}

/// The first place that has a type which may be sent.
fn find_type<'v>(contract: &Contract, body: &'v Value<'_>, any_type: bool) -> Option<&'v str> {
    let types = contract.allowed_types();
    if !any_type && types.listed.is_none() {
        return None;
    }
    let error = body.member("error");
    let inner = |name| error.and_then(|error| error.member(name));
    let usual = [body.member("type"), body.member("code"), inner("code"), inner("type"), error];
    let places = contract.template().type_places().iter().map(|place| place.find(body));
    places.chain(usual).flatten().find_map(|value| types.kind_of(value))
}

/// The type of a conforming body, where its template has it.
pub(super) fn type_in<'v>(contract: &Contract, body: &'v Value<'_>) -> Option<&'v str> {
    let mut places = contract.template().type_places().iter();
    places.find_map(|place| contract.allowed_types().kind_of(place.find(body)?))
}

/// A value without whitespace; everything else as written.
pub(super) fn compact(value: &Value<'_>) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let is_kept = |letter: &char| {
        in_text ^= *letter == '"' && !escaped;
        escaped = in_text && *letter == '\\' && !escaped;
        in_text || !letter.is_ascii_whitespace()
    };
    value.raw.chars().filter(is_kept).collect()
}

fn push_name(name: &str, out: &mut String) {
    let mut bytes = bytes::BytesMut::new();
    super::body::write_string(name, &mut bytes);
    out.push_str(&String::from_utf8_lossy(&bytes));
    out.push(':');
}

/// Writes details without the strings that fail the text rule.
struct Cleaner {
    bounds: FreeBounds,
    dropped: u32,
    /// How many texts, numbers and other values without members were written.
    kept: u32,
    out: String,
}

/// The details exceed a bound: none of them is kept.
struct TooMuch;

impl Cleaner {
    /// Writes a value. Returns whether it may be sent; of one that may not, nothing is written.
    fn write(&mut self, value: &Value<'_>, depth: usize) -> Result<bool, TooMuch> {
        match &value.kind {
            Kind::Null | Kind::Bool(_) | Kind::Number => {
                self.kept += 1;
                self.push(value.raw, 0)?;
            }
            Kind::Text(text) if !text::passes_rule(text) => {
                self.dropped += 1;
                return Ok(false);
            }
            Kind::Text(_) => {
                self.kept += 1;
                self.push(value.raw, 1)?;
            }
            Kind::List(_) | Kind::Object(_) if depth == MAX_FREE_DEPTH => return Err(TooMuch),
            Kind::List(items) => {
                self.push("[", 0)?;
                let mut first = true;
                for item in items {
                    self.child("", item, depth, &mut first)?;
                }
                self.push("]", 0)?;
            }
            Kind::Object(members) => {
                self.push("{", 0)?;
                let mut first = true;
                for member in members {
                    if !text::passes_rule(&member.name) {
                        self.dropped += 1;
                        continue;
                    }
                    let mut name = String::new();
                    push_name(&member.name, &mut name);
                    self.child(&name, &member.value, depth, &mut first)?;
                }
                self.push("}", 0)?;
            }
        }
        Ok(true)
    }

    /// Writes a member or an item; nothing of it if it is left out.
    fn child(
        &mut self,
        name: &str,
        value: &Value<'_>,
        depth: usize,
        first: &mut bool,
    ) -> Result<(), TooMuch> {
        let before = self.out.len();
        if !*first {
            self.out.push(',');
        }
        self.out.push_str(name);
        if self.write(value, depth + 1)? {
            *first = false;
        } else {
            self.out.truncate(before);
        }
        Ok(())
    }

    fn push(&mut self, raw: &str, texts: usize) -> Result<(), TooMuch> {
        self.out.push_str(raw);
        let mut with_text = self.bounds;
        let fits = with_text.add(self.out.len(), texts);
        self.bounds.add(0, texts);
        fits.then_some(()).ok_or(TooMuch)
    }
}

#[cfg(test)]
#[path = "extract_tests.rs"]
mod tests;
