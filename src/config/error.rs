//! What is wrong with a configuration, said so that it can be mended: where, what, and what would be right.
//!
//! [`Problems`] is always the complete list of one loading, in the order of the file. It knows nothing of YAML or of
//! what a key means: those who find a problem bring its place along (see [`super::tree`] for places, [`super::validate`]
//! for most of the finding).

use std::fmt;

use serde_json::{Value, json};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key it is about, for example `routes[1].upstream`; empty when it is about the file as a whole.
    pub path: String,
    /// Where in the file; `None` when the file could not be read at all.
    pub spot: Option<Spot>,
    /// What is wrong.
    pub what: String,
    /// What would be right; may be empty when the sentence says it already.
    pub remedy: String,
}

/// A position in the file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// What is wrong with a value, before it is known where the value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub remedy: String,
}

impl Refusal {
    /// A refusal with its remedy.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Refusal { what: what.into(), remedy: remedy.into() }
    }
}

impl Problem {
    /// A problem that has no place in a file.
    pub fn of_file(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Problem { path: String::new(), spot: None, what: what.into(), remedy: remedy.into() }
    }

    /// `what; remedy`.
    pub fn sentence(&self) -> String {
        if self.remedy.is_empty() { self.what.clone() } else { format!("{}; {}", self.what, self.remedy) }
    }
}

/// Everything that is wrong with one configuration. Its `Display` is what the operator reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    file: String,
    lines: Vec<String>,
    list: Vec<Problem>,
    /// How many there are; the list may be cut.
    total: usize,
}

impl Problems {
    /// The problems of the file `file` with this text, sorted by place. More than 100 are cut, and said to be cut.
    pub fn new(file: &str, text: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.spot);
        list.dedup();
        let total = list.len();
        let beyond = list.len().saturating_sub(MOST);
        list.truncate(MOST);
        if beyond > 0 {
            list.push(Problem::of_file(format!("and at least {beyond} more"), "mend the ones above first"));
        }
        Problems { file: file.to_owned(), lines: text.lines().map(str::to_owned).collect(), list, total }
    }

    /// One problem about a file that could not be read.
    pub fn of_file(file: &str, problem: Problem) -> Self {
        Problems { file: file.to_owned(), lines: Vec::new(), list: vec![problem], total: 1 }
    }

    /// The problems, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// How many; never 0 for a value that [`super::load_str`] returned.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The same for machines: `[{"path","line","column","what","remedy"}]`; `line` and `column` are null without a place.
    pub fn to_json(&self) -> Value {
        Value::Array(
            self.list
                .iter()
                .map(|problem| {
                    json!({
                        "path": problem.path,
                        "line": problem.spot.map(|spot| spot.line),
                        "column": problem.spot.map(|spot| spot.column),
                        "what": problem.what,
                        "remedy": problem.remedy,
                    })
                })
                .collect(),
        )
    }

    /// The source line with a caret under the place.
    fn snippet(&self, spot: Spot) -> Option<String> {
        let line = self.lines.get(spot.line.checked_sub(1)?)?;
        let shown: Vec<char> =
            line.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let shown = without_secrets(shown);
        let column = spot.column.saturating_sub(1).min(shown.len());
        // A long line (a route in one line) is shown around the place only.
        let start = if shown.len() > WIDTH { column.saturating_sub(WIDTH / 2) } else { 0 };
        let window: String = shown.iter().skip(start).take(WIDTH).collect();
        let before = if start > 0 { "…" } else { "" };
        let after = if shown.len() > start + WIDTH { "…" } else { "" };
        let number = spot.line.to_string();
        let indent = " ".repeat(column - start + before.chars().count());
        Some(format!("  {number} | {before}{window}{after}\n  {} | {indent}^\n", " ".repeat(number.len())))
    }
}

impl Problems {
    /// Each with its place in the file, without their sum.
    pub fn listed(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.list(&mut text);
        text
    }

    fn list(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        for problem in &self.list {
            if let Some(spot) = problem.spot {
                write!(f, "{}:{}:{}: ", self.file, spot.line, spot.column)?;
            }
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            writeln!(f, "{}", problem.sentence())?;
            if let Some(snippet) = problem.spot.and_then(|spot| self.snippet(spot)) {
                f.write_str(&snippet)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list(f)?;
        // A file that cannot be read is one sentence and needs no sum.
        match self.list.as_slice() {
            [only] if only.spot.is_none() => Ok(()),
            [_] => writeln!(f, "1 problem"),
            _ if self.total > MOST => writeln!(f, "more than {MOST} problems"),
            _ => writeln!(f, "{} problems", self.total),
        }
    }
}

impl std::error::Error for Problems {}

/// What logs in to a store, and what its keys are hashed with, becomes stars; a line that is shown may be read by others.
fn without_secrets(mut line: Vec<char>) -> Vec<char> {
    let text: String = line.iter().collect();
    let before = |at: usize| text.get(..at).map_or(0, |before| before.chars().count());
    let mut hide = |from: usize, to: usize| {
        for c in line.iter_mut().take(before(to)).skip(before(from)) {
            *c = '*';
        }
    };
    let ends = |rest: &str, at: &[char]| rest.find(at).unwrap_or(rest.len());
    for (at, scheme) in text.match_indices("://") {
        let from = at + scheme.len();
        let rest = text.get(from..).unwrap_or_default();
        let url = rest.get(..ends(rest, &[' ', '"', '\'', '}'])).unwrap_or_default();
        if let Some(to) = url.rfind('@') {
            hide(from, from + to);
        }
    }
    for (at, key) in text.match_indices("secret:") {
        let from = at + key.len();
        let rest = text.get(from..).unwrap_or_default();
        hide(from + 1, from + ends(rest, &[',', '}', '#']));
    }
    line
}

/// A value of the file inside a sentence: quoted, control characters escaped, long ones cut.
pub fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(LONGEST_QUOTE).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_debug().to_string().replace("\\'", "'"))
}

/// `a`, `a or b`, `a, b or c`.
pub fn either<T: AsRef<str>>(words: &[T]) -> String {
    match words {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<&str> = most.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", most.join(", "), last.as_ref())
        }
    }
}

/// The known word that was probably meant: at most a third of its letters (and at least one) wrong.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(LONGEST_QUOTE).flat_map(char::to_lowercase).collect();
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (candidate.chars().count() / 3).max(1) && *distance < word.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance with neighbouring letters swapped counted once (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
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

const MOST: usize = 100;
const WIDTH: usize = 110;
const LONGEST_QUOTE: usize = 80;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_a_missing_and_a_wrong_letter_are_recognised_and_a_different_word_is_not() {
        let known = ["response_head", "connect", "total"];
        assert_eq!(nearest("respnose_head", known), Some("response_head"));
        assert_eq!(nearest("conect", known), Some("connect"));
        assert_eq!(nearest("totel", known), Some("total"));
        assert_eq!(nearest("Total", known), Some("total"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn a_long_line_is_shown_around_the_place_and_the_caret_still_points_at_it() {
        let text = format!("{}x{}", "a".repeat(200), "b".repeat(200));
        let spot = Some(Spot { line: 1, column: 201 });
        let problems = Problems::new(
            "f",
            &text,
            vec![Problem { path: String::new(), spot, what: "w".into(), remedy: String::new() }],
        );
        let shown = problems.to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[2].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[1].chars().nth(caret), Some('x'));
        assert!(lines[1].chars().count() < 130);
    }

    #[test]
    fn no_password_is_shown_with_the_line_that_it_stands_in() {
        let line = "stores: { a: { redis: \"redis://me:pass@word@host:1\", secret: hidden, timeot: 1s } } # a://b @c";
        let spot = Some(Spot { line: 1, column: 74 });
        let problem = Problem { path: String::new(), spot, what: "w".into(), remedy: String::new() };
        let shown = Problems::new("f", line, vec![problem]).to_string();
        assert!(!shown.contains("pass") && !shown.contains("word") && !shown.contains("hidden"), "{shown}");
        assert!(shown.contains("@host:1\", secret: ******, timeot: 1s } }"), "{shown}");
        assert!(shown.contains("a://b @c"), "{shown}");
    }

    #[test]
    fn control_characters_of_the_file_never_reach_the_terminal() {
        assert_eq!(quoted("a\u{1b}[31m'b'"), "\"a\\u{1b}[31m'b'\"");
        let spot = Some(Spot { line: 1, column: 2 });
        let problem = Problem { path: String::new(), spot, what: "w".into(), remedy: String::new() };
        assert!(!Problems::new("f", "a\u{1b}b", vec![problem]).to_string().contains('\u{1b}'));
    }
}
