//! Renders the report as a text table or as JSON.
//!
//! The table has one line per fault and outcome; routes with the same outcome share it. Failed and flaky rows are
//! listed again below, per route, with the reason. JSON has every row.

use std::fmt::Write as _;

use serde_json::json;

use super::{ReportRow, Section, Verdict, VerifyReport};

/// The text report.
pub(super) fn render_text(report: &VerifyReport) -> String {
    let mut text = format!(
        "Load factor {}: all timeouts are multiplied by it (1.0 on an idle machine).\n\n\
         Changes to the configuration for this run:\n",
        report.load
    );
    // Writing to a String cannot fail.
    for change in &report.changes {
        let _ = writeln!(text, "  {change}");
    }
    for (section, _, title) in SECTIONS {
        let rows = report.rows.iter().filter(|row| row.section == section);
        let (skipped, played): (Vec<_>, Vec<_>) =
            rows.partition(|row| matches!(row.verdict, Verdict::NotApplicable(_)));
        if played.is_empty() && skipped.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n{title}");
        for group in group_by_key(&played, |row| (row.fault, &row.expected, &row.actual, word(row))) {
            let Some(row) = group.first() else { continue };
            let (word, routes) = (word(row), describe_routes(&group));
            let ReportRow { fault, expected, actual, .. } = row;
            let _ = writeln!(text, "  {word:<7} {fault:<32} {expected:<46} {actual}{routes}");
        }
        for group in group_by_key(&skipped, |row| (row.fault, reason(row))) {
            let Some(row) = group.first() else { continue };
            let (word, reason, routes) = (word(row), reason(row), describe_routes(&group));
            let _ = writeln!(text, "  {:<7} {:<32} {word}: {reason}{routes}", "-", row.fault);
        }
    }
    reasons(&mut text, report, "Failed:", |verdict| matches!(verdict, Verdict::Failed(_)));
    let flaky = "Flaky (failed first, passed when repeated):";
    reasons(&mut text, report, flaky, |verdict| matches!(verdict, Verdict::Flaky(_)));
    let _ = writeln!(text, "\n{}", summary(report));
    text
}

/// Lists the matching rows with their reasons.
fn reasons(text: &mut String, report: &VerifyReport, title: &str, matches: impl Fn(&Verdict) -> bool) {
    let mut rows = report.rows.iter().filter(|row| matches(&row.verdict)).peekable();
    if rows.peek().is_some() {
        let _ = writeln!(text, "\n{title}");
    }
    for row in rows {
        let route = row.route.as_ref().map(|route| format!(" on the route {route}")).unwrap_or_default();
        let _ = writeln!(text, "  {}{route} ({}): {}", row.fault, row.description, reason(row));
    }
}

/// The JSON report.
pub(super) fn render_json(report: &VerifyReport) -> String {
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| {
            json!({
                "side": section_name(row), "fault": row.fault, "description": row.description, "route": row.route,
                "expected": row.expected, "actual": row.actual, "verdict": word(row),
                "reason": row.verdict.parts().1, "retried": row.retried,
            })
        })
        .collect();
    let document = json!({
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
            "seconds": report.elapsed.as_secs_f64(),
        },
    });
    format!("{document:#}\n")
}

/// The sections, with their names in JSON and their titles in the table.
const SECTIONS: [(Section, &str, &str); 4] = [
    (Section::Upstream, "upstream", "Upstream faults:"),
    (Section::Client, "client", "Client faults:"),
    (Section::Rejections, "rejections", "Requests that the configuration rejects:"),
    (Section::Metrics, "metrics", "Metrics:"),
];

fn section_name(row: &ReportRow) -> &'static str {
    SECTIONS.iter().find(|section| section.0 == row.section).map_or("", |section| section.1)
}

impl Verdict {
    /// The name in both formats, and the reason.
    fn parts(&self) -> (&'static str, Option<&str>) {
        match self {
            Verdict::Passed => ("passed", None),
            Verdict::Failed(reason) => ("failed", Some(reason)),
            Verdict::Flaky(reason) => ("flaky", Some(reason)),
            Verdict::NotApplicable(reason) => ("not applicable", Some(reason)),
        }
    }
}

fn word(row: &ReportRow) -> &'static str {
    row.verdict.parts().0
}

fn reason(row: &ReportRow) -> &str {
    row.verdict.parts().1.unwrap_or_default()
}

/// Groups rows by key, in the order of the first row of each group.
fn group_by_key<'a, K: PartialEq>(
    rows: &[&'a ReportRow],
    key: impl Fn(&'a ReportRow) -> K,
) -> Vec<Vec<&'a ReportRow>> {
    let mut groups: Vec<(K, Vec<&ReportRow>)> = Vec::new();
    for row in rows {
        let row_key = key(row);
        match groups.iter_mut().find(|(key, _)| *key == row_key) {
            Some((_, group)) => group.push(row),
            None => groups.push((row_key, vec![row])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The route of a group, or the number of its routes.
fn describe_routes(group: &[&ReportRow]) -> String {
    match group {
        [row] => row.route.as_ref().map(|route| format!("  ({route})")).unwrap_or_default(),
        rows => format!("  ({} routes)", rows.len()),
    }
}

fn summary(report: &VerifyReport) -> String {
    let passed = report.count(|verdict| *verdict == Verdict::Passed);
    let skipped = report.count(|verdict| matches!(verdict, Verdict::NotApplicable(_)));
    let seconds = report.elapsed.as_secs_f64();
    format!(
        "{}: {passed} passed, {} failed, {} flaky, {skipped} not applicable; load factor {}; {seconds:.1} s",
        report.file,
        report.failed(),
        report.flaky(),
        report.load
    )
}
