//! The cost of a request beside the committed cost, `peers/baseline.tsv`: what became more expensive fails the count.
//!
//! The committed figures belong to the last release of the table in docs/performance.md. `make count UPDATE=1` writes
//! what was counted in their place.

use std::fmt::Write as _;

/// How much more a figure may be: one part in a hundred. Counts of one build differ by less from run to run.
pub const TOLERANCE: f64 = 0.01;

/// System calls a request that may always be more. Connections that are ready at once share an `epoll_wait`, so the
/// scheduler decides about a tenth of a call; a call added to each request is a whole one.
pub const TOLERATED_CALLS: f64 = 0.1;

/// What one request costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Name of the job: `W1`.
    pub job: String,
    /// System calls.
    pub calls: f64,
    /// User-space instructions.
    pub instructions: f64,
}

/// Committed costs beside those counted now.
#[derive(Debug, PartialEq)]
pub struct Comparison {
    /// Markdown.
    pub table: String,
    /// A sentence for each figure that fails the run.
    pub failures: Vec<String>,
}

/// Reads the committed file.
pub fn parse(text: &str) -> Result<Vec<Cost>, String> {
    let rows = text.lines().filter(|line| !line.starts_with('#') && *line != COLUMNS);
    rows.map(|line| cost(line).ok_or_else(|| format!("baseline.tsv: not a row of three columns: {line:?}")))
        .collect()
}

fn cost(line: &str) -> Option<Cost> {
    let mut columns = line.split('\t');
    let job = columns.next()?.to_owned();
    let calls = columns.next()?.parse().ok()?;
    let instructions = columns.next()?.parse().ok()?;
    columns.next().is_none().then_some(Cost { job, calls, instructions })
}

/// The text of the committed file.
pub fn write(costs: &[Cost]) -> String {
    let mut text = format!("{HEADER}\n{COLUMNS}\n");
    for Cost { job, calls, instructions } in costs {
        let _ = writeln!(text, "{job}\t{calls:.2}\t{instructions:.0}");
    }
    text
}

/// Compares what was counted with the committed costs. Less is never a failure; a job on one side only is.
pub fn compare(committed: &[Cost], counted: &[Cost]) -> Comparison {
    let mut table = String::from(
        "| job | system calls: committed | counted | change | instructions: committed | counted | change |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
    );
    let mut failures = Vec::new();
    for now in counted {
        let job = &now.job;
        let Some(before) = committed.iter().find(|cost| cost.job == *job) else {
            failures.push(format!("{job}: no committed cost"));
            continue;
        };
        let (calls, instructions) =
            (change(before.calls, now.calls), change(before.instructions, now.instructions));
        let _ = writeln!(
            table,
            "| {job} | {:.2} | {:.2} | {calls:+.1} % | {:.0} | {:.0} | {instructions:+.1} % |",
            before.calls, now.calls, before.instructions, now.instructions
        );
        if now.calls > before.calls * (1.0 + TOLERANCE) && now.calls > before.calls + TOLERATED_CALLS {
            failures.push(format!("{job}: {:.2} system calls instead of {:.2}", now.calls, before.calls));
        }
        if now.instructions > before.instructions * (1.0 + TOLERANCE) {
            failures.push(format!(
                "{job}: {:.0} instructions instead of {:.0}",
                now.instructions, before.instructions
            ));
        }
    }
    let not_counted = committed.iter().filter(|cost| counted.iter().all(|now| now.job != cost.job));
    failures.extend(not_counted.map(|cost| format!("{}: not counted", cost.job)));
    Comparison { table, failures }
}

/// In percent.
fn change(before: f64, now: f64) -> f64 {
    (now / before - 1.0) * 100.0
}

const HEADER: &str =
    "# Cost of a request, as `make count` counts it; `make count UPDATE=1` writes this file.";
const COLUMNS: &str = "job\tsystem calls\tinstructions";
