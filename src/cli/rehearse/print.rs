//! The report as a table for people, and row by row as JSON.
//!
//! The table has one line for each fault and outcome, however many routes agree on it; what broke the contract is told
//! again below, route by route.

use std::fmt::Write as _;

use serde_json::json;

use super::{Report, Row, Side, Verdict};

/// The table.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::from("What differs from the file while it is rehearsed:\n");
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
        for group in grouped(&played, |row| (row.fault, &row.expected, &row.got, mark(&row.verdict))) {
            line(&mut text, &group);
        }
        for group in grouped(&skipped, |row| (row.fault, why(row))) {
            let Some(row) = group.first() else { continue };
            let _ = writeln!(text, "  - {:<32} does not apply: {}{}", row.fault, why(row), routes(&group));
        }
    }
    let broken: Vec<&Row> = report.rows.iter().filter(|row| is_broken(row)).collect();
    if !broken.is_empty() {
        text.push_str("\nWhat broke the contract:\n");
    }
    for row in broken {
        let route = row.route.as_ref().map(|route| format!(" on the route {route}")).unwrap_or_default();
        let _ = writeln!(text, "  {}{route} ({}): {}", row.fault, row.meaning, why(row));
    }
    let _ = writeln!(text, "\n{}", summary(report));
    text
}

/// All of it, for machines.
pub(super) fn json(report: &Report) -> String {
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| {
            let (verdict, reason) = match &row.verdict {
                Verdict::Kept => ("kept", None),
                Verdict::Broken(why) => ("broken", Some(why)),
                Verdict::NotApplicable(why) => ("not_applicable", Some(why)),
            };
            json!({
                "side": name(row.side), "fault": row.fault, "meaning": row.meaning, "route": row.route,
                "expected": row.expected, "got": row.got, "verdict": verdict, "reason": reason, "repeated": row.repeated,
            })
        })
        .collect();
    let whole = json!({
        "file": report.file,
        "kept": report.broken() == 0,
        "changes": report.changes,
        "rows": rows,
        "summary": {
            "kept": report.count(|verdict| *verdict == Verdict::Kept),
            "broken": report.broken(),
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

const fn mark(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Kept => "\u{2713}",
        Verdict::Broken(_) => "\u{2717}",
        Verdict::NotApplicable(_) => "-",
    }
}

const fn is_broken(row: &Row) -> bool {
    matches!(row.verdict, Verdict::Broken(_))
}

fn why(row: &Row) -> &str {
    match &row.verdict {
        Verdict::Kept => "",
        Verdict::Broken(why) | Verdict::NotApplicable(why) => why,
    }
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
    let mark = mark(&row.verdict);
    let _ = writeln!(text, "  {mark} {:<32} {:<46} {}{}", row.fault, row.expected, row.got, routes(group));
}

/// Which routes agree.
fn routes(group: &[&Row]) -> String {
    match group {
        [row] => row.route.as_ref().map(|route| format!("  ({route})")).unwrap_or_default(),
        more => format!("  ({} routes)", more.len()),
    }
}

fn summary(report: &Report) -> String {
    let kept = report.count(|verdict| *verdict == Verdict::Kept);
    let skipped = report.count(|verdict| matches!(verdict, Verdict::NotApplicable(_)));
    let seconds = report.took.as_secs_f64();
    let repeated = match report.repeated() {
        0 => String::new(),
        repeated => format!(" ({repeated} when played again: this machine was busy)"),
    };
    format!(
        "{}: {kept} kept the contract{repeated}, {} broke it, {skipped} do not apply; {seconds:.1} s",
        report.file,
        report.broken()
    )
}
