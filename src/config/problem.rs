//! Problems of a configuration: what is wrong, where, and what would be right.
//!
//! [`Problems`] is the complete list of one load, in the order of the file. [`super::tree`] supplies the locations;
//! [`super::validate`] and the modules below it report most problems.

use std::fmt;

use serde_json::{Value, json};

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, for example `routes[1].upstream`; empty for a problem of the whole file.
    pub path: String,
    /// The location in the file; `None` if the file could not be read.
    pub location: Option<Location>,
    /// What is wrong.
    pub message: String,
    /// What would be right; empty if the message already says it.
    pub help: String,
}

/// A position in one of the files, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file: 0 is the main file, others are included.
    pub file: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Location {
    /// Of a value that is not in the file, such as a default.
    pub(crate) const NOWHERE: Location = Location { file: 0, line: 0, column: 0 };
}

/// One file of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The name for messages.
    pub name: String,
    /// Its contents.
    pub text: String,
}

/// What is wrong with a value, without its location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

impl Diagnostic {
    /// Between message and help where a diagnostic passes through an error of serde.
    pub(crate) const SEPARATOR: char = '\u{1f}';

    /// A message with its help.
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Diagnostic { message: message.into(), help: help.into() }
    }

    /// `"text" what`, with its help.
    pub(crate) fn of(text: &str, what: impl fmt::Display, help: impl Into<String>) -> Self {
        Diagnostic::new(format!("{} {what}", quoted(text)), help)
    }

    /// The diagnostic as a problem of the value at this path.
    pub(crate) fn at(self, path: impl Into<String>, location: Location) -> Problem {
        Problem { path: path.into(), location: Some(location), message: self.message, help: self.help }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.message, Diagnostic::SEPARATOR, self.help)
    }
}

impl Problem {
    /// A problem without a location in the file.
    pub fn for_file(message: impl Into<String>, help: impl Into<String>) -> Self {
        Problem { path: String::new(), location: None, message: message.into(), help: help.into() }
    }

    /// `message; help`.
    pub fn message_and_help(&self) -> String {
        if self.help.is_empty() { self.message.clone() } else { format!("{}; {}", self.message, self.help) }
    }
}

/// All problems of one configuration. `Display` formats them for the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    files: Vec<Source>,
    list: Vec<Problem>,
    /// The number of problems found; `list` has at most 100 of them.
    total_count: usize,
}

impl Problems {
    /// The problems of `file` with this text, sorted by location. Only the first 100 are kept; a last entry counts the
    /// rest.
    pub fn new(file: &str, text: &str, list: Vec<Problem>) -> Self {
        Problems::of_files(vec![Source { name: file.to_owned(), text: text.to_owned() }], list)
    }

    /// The problems of several files; [`Location::file`] is an index of `files`.
    pub(crate) fn of_files(files: Vec<Source>, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.location);
        list.dedup();
        let total_count = list.len();
        let omitted = list.len().saturating_sub(MAX_PROBLEMS);
        list.truncate(MAX_PROBLEMS);
        if omitted > 0 {
            let message = format!("and at least {omitted} more");
            list.push(Problem::for_file(message, "fix the problems above first"));
        }
        Problems { files, list, total_count }
    }

    /// The problems, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// The number of listed problems; never 0 in an error of [`super::load_str`].
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are no problems.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The name of the file that contains this location.
    pub(crate) fn file_name(&self, location: Location) -> &str {
        self.files.get(location.file).map(|file| file.name.as_str()).unwrap_or_default()
    }

    /// As JSON: `[{"path","file","line","column","message","help"}]`; `file`, `line` and `column` are null without a
    /// location.
    pub fn to_json(&self) -> Value {
        let problem = |problem: &Problem| {
            json!({
                "path": problem.path,
                "file": problem.location.map(|location| self.file_name(location)),
                "line": problem.location.map(|location| location.line),
                "column": problem.location.map(|location| location.column),
                "message": problem.message,
                "help": problem.help,
            })
        };
        Value::Array(self.list.iter().map(problem).collect())
    }

    /// The source line with a caret under the location.
    fn snippet(&self, location: Location) -> Option<String> {
        let line = self.files.get(location.file)?.text.lines().nth(location.line.checked_sub(1)?)?;
        let shown: Vec<char> =
            line.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let shown = mask_secrets(shown);
        let column = location.column.saturating_sub(1).min(shown.len());
        // Of a long line, only the part around the location is shown.
        let start = if shown.len() > SNIPPET_WIDTH { column.saturating_sub(SNIPPET_WIDTH / 2) } else { 0 };
        let window: String = shown.iter().skip(start).take(SNIPPET_WIDTH).collect();
        let before = if start > 0 { "…" } else { "" };
        let after = if shown.len() > start + SNIPPET_WIDTH { "…" } else { "" };
        let number = location.line.to_string();
        let indent = " ".repeat(column - start + before.chars().count());
        Some(format!("  {number} | {before}{window}{after}\n  {} | {indent}^\n", " ".repeat(number.len())))
    }

    /// All problems with their locations, without the total.
    pub fn render_list(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_list(&mut text);
        text
    }

    fn write_list(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        for problem in &self.list {
            if let Some(location) = problem.location {
                write!(f, "{}:{}:{}: ", self.file_name(location), location.line, location.column)?;
            }
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            writeln!(f, "{}", problem.message_and_help())?;
            if let Some(snippet) = problem.location.and_then(|location| self.snippet(location)) {
                f.write_str(&snippet)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_list(f)?;
        // An unreadable file is one problem and needs no total.
        match self.list.as_slice() {
            [only] if only.location.is_none() => Ok(()),
            [_] => writeln!(f, "1 problem"),
            _ if self.total_count > MAX_PROBLEMS => writeln!(f, "more than {MAX_PROBLEMS} problems"),
            _ => writeln!(f, "{} problems", self.total_count),
        }
    }
}

impl std::error::Error for Problems {}

/// Masks credentials in URLs and `secret` values with asterisks, because others may read the output.
fn mask_secrets(mut line: Vec<char>) -> Vec<char> {
    let text: String = line.iter().collect();
    let before = |at: usize| text.get(..at).map_or(0, |before| before.chars().count());
    let mut mask = |from: usize, to: usize| {
        for c in line.iter_mut().take(before(to)).skip(before(from)) {
            *c = '*';
        }
    };
    let end_of = |rest: &str, at: &[char]| rest.find(at).unwrap_or(rest.len());
    for (at, scheme) in text.match_indices("://") {
        let from = at + scheme.len();
        let rest = text.get(from..).unwrap_or_default();
        let url = rest.get(..end_of(rest, &[' ', '"', '\'', '}'])).unwrap_or_default();
        if let Some(to) = url.rfind('@') {
            mask(from, from + to);
        }
    }
    for (at, key) in text.match_indices("secret:") {
        let from = at + key.len();
        let rest = text.get(from..).unwrap_or_default();
        mask(from + 1, from + end_of(rest, &[',', '}', '#']));
    }
    line
}

/// `"text" what`, with its help, as an error.
pub(crate) fn refuse<T>(
    text: &str,
    what: impl fmt::Display,
    help: impl Into<String>,
) -> Result<T, Diagnostic> {
    Err(Diagnostic::of(text, what, help))
}

/// Quotes a value of the file for a message: control characters are escaped and long values are shortened.
pub(crate) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(MAX_QUOTE).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_debug().to_string().replace("\\'", "'"))
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn join_or<T: AsRef<str>>(words: &[T]) -> String {
    match words {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<&str> = most.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", most.join(", "), last.as_ref())
        }
    }
}

/// `did you mean "x"?`, or else the list of known words.
pub(crate) fn did_you_mean(word: &str, known: &[&str]) -> String {
    suggestion(word, known.iter().copied()).unwrap_or_else(|| format!("expected {}", join_or(known)))
}

/// Words of other tools, and of drafts of this one, with ours.
const SYNONYMS: &[(&str, &[&str])] = &[
    // Before `host`, which upstreams have too.
    ("servers", &["hosts", "targets", "nodes", "endpoints", "server", "url"]),
    ("allow", &["rate", "limit", "quota", "open", "fail_open"]),
    ("allow_origins", &["origin", "origins"]),
    ("address", &["bind", "url", "uri", "port", "host"]),
    ("balance", &["lb_policy", "policy", "load_balancing", "algorithm"]),
    ("body_idle", &["between_bytes", "read"]),
    ("deadline", &["total", "request", "request_timeout"]),
    ("deny", &["refuse", "closed", "fail_closed"]),
    ("error", &["fatal", "critical", "crit", "emerg"]),
    ("every", &["interval"]),
    ("host", &["hosts", "server_name"]),
    ("idle_timeout", &["keepalive_timeout"]),
    ("info", &["notice"]),
    ("least_busy", &["leastconn", "least_conn", "least_request"]),
    ("listen", &["listeners", "entrypoints", "frontend"]),
    ("local", &["use_memory"]),
    ("max_body", &["client_max_body_size", "max_body_size"]),
    ("max_duration", &["whole"]),
    ("methods", &["method", "verbs"]),
    ("off", &["false", "no", "none", "never", "disabled"]),
    ("on", &["true", "yes", "enabled"]),
    ("path", &["prefix", "uri"]),
    ("per", &["period", "window"]),
    ("request_headers", &["headers"]),
    ("requests", &["count"]),
    ("response_headers", &["response"]),
    ("retry", &["retries"]),
    ("sni", &["server_name"]),
    ("text", &["console", "plain", "logfmt"]),
    ("tls", &["ssl"]),
    ("upgrades", &["websocket", "websockets"]),
    ("upstream", &["backend", "service", "cluster", "proxy_pass"]),
    ("upstreams", &["backends", "services", "clusters"]),
    ("verify", &["verify_ssl", "ssl_verify"]),
    ("workers", &["worker_processes", "threads"]),
];

/// `did you mean "x"?`, if a known word is close or means the same.
pub(crate) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let synonym = SYNONYMS.iter().find(|(ours, theirs)| theirs.contains(&word) && known.contains(ours));
    synonym
        .map(|(ours, _)| *ours)
        .or_else(|| closest_match(word, known))
        .map(|near| format!("did you mean {}?", quoted(near)))
}

/// The known word that is closest to `word`: at most a third of its letters, and at least one, may differ. Otherwise
/// the longest one that `word` begins with, as `warn` for `warning`.
pub(crate) fn closest_match<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.into_iter().collect();
    let prefix = |candidate: &&&str| candidate.len() >= MIN_PREFIX && word.starts_with(**candidate);
    let prefix = known.iter().filter(prefix).max_by_key(|candidate| candidate.len());
    let word: Vec<char> = word.chars().take(MAX_QUOTE).flat_map(char::to_lowercase).collect();
    known
        .iter()
        .map(|candidate| (edit_distance(&word, &candidate.chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (candidate.chars().count() / 3).max(1) && *distance < word.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| *candidate)
        .or(prefix.copied())
}

/// Edit distance that counts a swap of adjacent letters once (optimal string alignment).
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous_a = None;
    for (row, &letter_a) in a.iter().enumerate() {
        let mut line = vec![row + 1];
        let mut previous_b = None;
        for (column, &letter_b) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, column) + usize::from(letter_a != letter_b))
                .min(at(&last, column + 1) + 1)
                .min(at(&line, column) + 1);
            if previous_a == Some(letter_b) && previous_b == Some(letter_a) && column > 0 {
                best = best.min(at(&before, column - 1) + 1);
            }
            line.push(best);
            previous_b = Some(letter_b);
        }
        previous_a = Some(letter_a);
        before = std::mem::replace(&mut last, line);
    }
    last.last().copied().unwrap_or(0)
}

/// The message for keys and values that are planned.
pub(crate) const NOT_YET: &str = "not supported yet";
/// Shorter words begin many others.
const MIN_PREFIX: usize = 4;
const MAX_PROBLEMS: usize = 100;
const SNIPPET_WIDTH: usize = 110;
const MAX_QUOTE: usize = 80;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn closest_match_tolerates_small_typos_only() {
        let known = ["response_headers", "connect", "deadline"];
        assert_eq!(closest_match("respnose_headers", known), Some("response_headers"));
        assert_eq!(closest_match("conect", known), Some("connect"));
        assert_eq!(closest_match("deadlne", known), Some("deadline"));
        assert_eq!(closest_match("Deadline", known), Some("deadline"));
        assert_eq!(closest_match("connect_timeout", known), Some("connect"));
        assert_eq!(closest_match("colour", known), None);
        assert_eq!(closest_match("", known), None);
    }

    #[test]
    fn long_line_is_clipped_around_the_caret() {
        let text = format!("{}x{}", "a".repeat(200), "b".repeat(200));
        let location = Some(Location { file: 0, line: 1, column: 201 });
        let problems = Problems::new(
            "f",
            &text,
            vec![Problem { path: String::new(), location, message: "w".into(), help: String::new() }],
        );
        let shown = problems.to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[2].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[1].chars().nth(caret), Some('x'));
        assert!(lines[1].chars().count() < 130);
    }

    #[test]
    fn snippet_masks_passwords() {
        let line = "stores: { a: { redis: \"redis://me:pass@word@host:1\", secret: hidden, timeot: 1s } } # a://b @c";
        let location = Some(Location { file: 0, line: 1, column: 74 });
        let problem = Problem { path: String::new(), location, message: "w".into(), help: String::new() };
        let shown = Problems::new("f", line, vec![problem]).to_string();
        assert!(!shown.contains("pass") && !shown.contains("word") && !shown.contains("hidden"), "{shown}");
        assert!(shown.contains("@host:1\", secret: ******, timeot: 1s } }"), "{shown}");
        assert!(shown.contains("a://b @c"), "{shown}");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(quoted("a\u{1b}[31m'b'"), "\"a\\u{1b}[31m'b'\"");
        let location = Some(Location { file: 0, line: 1, column: 2 });
        let problem = Problem { path: String::new(), location, message: "w".into(), help: String::new() };
        assert!(!Problems::new("f", "a\u{1b}b", vec![problem]).to_string().contains('\u{1b}'));
    }
}
