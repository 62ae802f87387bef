//! The report as a table for people, and row by row as JSON.
//!
//! The table has one line for each fault and outcome, however many routes agree on it; rows that failed or are
//! flaky are listed again below, route by route.

use std::fmt::Write as _;

use serde_json::json;

use super::{Report, Row, Side, Verdict};

/// The table.
pub(super) fn text(report: &Report) -> String {
    let mut text = format!(
        "Load factor {}: timeouts are multiplied by it (1.0 is an idle machine).\n\n\
         What differs from the file while it is rehearsed:\n",
        report.load
    );
    // Writing to a String cannot fail.
    for change in &report.changes {
        let _ = writeln!(text, "  {change}");
    }
    for (side, title) in TITLES {
        let rows = report.rows.iter().filter(|row| row.side == side);
        let (skipped, played): (Vec<_>, Vec<_>) =
            rows.partition(|row| matches!(row.verdict, Verdict::NotApplicable(_)));
        if played.is_empty() && skipped.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n{title}");
        for group in grouped(&played, |row| (row.fault, &row.expected, &row.got, word(&row.verdict))) {
            line(&mut text, &group);
        }
        for group in grouped(&skipped, |row| (row.fault, why(row))) {
            let Some(row) = group.first() else { continue };
            let (word, why) = (word(&row.verdict), why(row));
            let _ = writeln!(text, "  {:<7} {:<32} {word}: {why}{}", "-", row.fault, routes(&group));
        }
    }
    reasons(&mut text, report, "Failed:", |verdict| matches!(verdict, Verdict::Failed(_)));
    let flaky = "Flaky (failed as shown, then passed when repeated):";
    reasons(&mut text, report, flaky, |verdict| matches!(verdict, Verdict::Flaky(_)));
    let _ = writeln!(text, "\n{}", summary(report));
    text
}

/// Rows of this verdict, route by route, each with its reason.
fn reasons(text: &mut String, report: &Report, title: &str, of: impl Fn(&Verdict) -> bool) {
    let mut rows = report.rows.iter().filter(|row| of(&row.verdict)).peekable();
    if rows.peek().is_some() {
        let _ = writeln!(text, "\n{title}");
    }
    for row in rows {
        let route = row.route.as_ref().map(|route| format!(" on the route {route}")).unwrap_or_default();
        let _ = writeln!(text, "  {}{route} ({}): {}", row.fault, row.meaning, why(row));
    }
}

/// All of it, for machines.
pub(super) fn json(report: &Report) -> String {
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| {
            json!({
                "side": name(row.side), "fault": row.fault, "meaning": row.meaning, "route": row.route,
                "expected": row.expected, "got": row.got, "verdict": word(&row.verdict),
                "reason": reason(&row.verdict), "repeated": row.repeated,
            })
        })
        .collect();
    let whole = json!({
        "file": report.file,
        "passed": report.passed(),
        "load_factor": report.load.as_f64(),
        "changes": report.changes,
        "rows": rows,
        "summary": {
            "passed": report.count(|verdict| *verdict == Verdict::Passed),
            "failed": report.failed(),
            "flaky": report.flaky(),
            "not_applicable": report.count(|verdict| matches!(verdict, Verdict::NotApplicable(_))),
            "seconds": report.took.as_secs_f64(),
        },
    });
    format!("{whole:#}\n")
}

const TITLES: [(Side, &str); 4] = [
    (Side::Upstream, "When an upstream misbehaves:"),
    (Side::Client, "When a client misbehaves:"),
    (Side::Limits, "When the configuration itself refuses:"),
    (Side::Accounts, "Afterwards:"),
];

const fn name(side: Side) -> &'static str {
    match side {
        Side::Upstream => "upstream",
        Side::Client => "client",
        Side::Limits => "limits",
        Side::Accounts => "accounts",
    }
}

/// The same in the table and in JSON.
const fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed(_) => "failed",
        Verdict::Flaky(_) => "flaky",
        Verdict::NotApplicable(_) => "not applicable",
    }
}

fn reason(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Passed => None,
        Verdict::Failed(why) | Verdict::Flaky(why) | Verdict::NotApplicable(why) => Some(why),
    }
}

fn why(row: &Row) -> &str {
    reason(&row.verdict).unwrap_or_default()
}

/// Rows that are equal by this, in the order of the first of each.
fn grouped<'a, K: PartialEq>(rows: &[&'a Row], key: impl Fn(&'a Row) -> K) -> Vec<Vec<&'a Row>> {
    let mut groups: Vec<(K, Vec<&Row>)> = Vec::new();
    for row in rows {
        let of_row = key(row);
        match groups.iter_mut().find(|(key, _)| *key == of_row) {
            Some((_, group)) => group.push(row),
            None => groups.push((of_row, vec![row])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn line(text: &mut String, group: &[&Row]) {
    let Some(row) = group.first() else { return };
    let word = word(&row.verdict);
    let _ = writeln!(text, "  {word:<7} {:<32} {:<46} {}{}", row.fault, row.expected, row.got, routes(group));
}

/// Which routes agree.
fn routes(group: &[&Row]) -> String {
    match group {
        [row] => row.route.as_ref().map(|route| format!("  ({route})")).unwrap_or_default(),
        more => format!("  ({} routes)", more.len()),
    }
}

fn summary(report: &Report) -> String {
    let passed = report.count(|verdict| *verdict == Verdict::Passed);
    let skipped = report.count(|verdict| matches!(verdict, Verdict::NotApplicable(_)));
    let seconds = report.took.as_secs_f64();
    format!(
        "{}: {passed} passed, {} failed, {} flaky, {skipped} not applicable; load factor {}; {seconds:.1} s",
        report.file,
        report.failed(),
        report.flaky(),
        report.load
    )
}
