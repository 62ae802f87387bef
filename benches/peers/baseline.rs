//! Compares the cost of a request with the committed cost in `peers/baseline.tsv`; an increase fails the run.
//!
//! The committed figures belong to the last release in the table of docs/performance.md. `make count UPDATE=1` replaces
//! them.

use std::fmt::Write as _;

/// Allowed relative increase of a figure. Two runs of the same build differ by less than 1 percent.
pub const TOLERANCE: f64 = 0.01;

/// Allowed absolute increase in system calls per request. Connections that become ready together share an `epoll_wait`,
/// so scheduling changes the figure by about 0.1; a system call added to every request changes it by 1.
pub const TOLERATED_CALLS: f64 = 0.1;

/// Cost of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Name of the job: `W1`.
    pub job: String,
    /// System calls per request.
    pub calls: f64,
    /// User-space instructions per request.
    pub instructions: f64,
}

/// Result of comparing committed costs with counted ones.
#[derive(Debug, PartialEq)]
pub struct Comparison {
    /// Comparison table in Markdown.
    pub table: String,
    /// One sentence per figure that fails the run.
    pub failures: Vec<String>,
}

/// Parses the committed file.
pub fn parse(text: &str) -> Result<Vec<Cost>, String> {
    let rows = text.lines().filter(|line| !line.starts_with('#') && *line != COLUMNS);
    rows.map(|line| cost(line).ok_or_else(|| format!("baseline.tsv: expected three columns: {line:?}")))
        .collect()
}

fn cost(line: &str) -> Option<Cost> {
    let mut columns = line.split('\t');
    let job = columns.next()?.to_owned();
    let calls = columns.next()?.parse().ok()?;
    let instructions = columns.next()?.parse().ok()?;
    columns.next().is_none().then_some(Cost { job, calls, instructions })
}

/// Formats the committed file.
pub fn write(costs: &[Cost]) -> String {
    let mut text = format!("{HEADER}\n{COLUMNS}\n");
    for Cost { job, calls, instructions } in costs {
        let _ = writeln!(text, "{job}\t{calls:.2}\t{instructions:.0}");
    }
    text
}

/// Compares counted with committed costs. A decrease never fails; a job on one side only does.
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

/// Relative change, in percent.
fn change(before: f64, now: f64) -> f64 {
    (now / before - 1.0) * 100.0
}

const HEADER: &str =
    "# Cost of a request, as `make count` counts it; `make count UPDATE=1` writes this file.";
const COLUMNS: &str = "job\tsystem calls\tinstructions";
