//! Formats samples as Markdown: medians, best values, and the load of the machine meanwhile.

use std::fmt::Write as _;
use std::time::Duration;

use super::job::Job;
use super::process::{CpuTimes, TICK};

/// One round of one proxy and job.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub requests: usize,
    pub time: Duration,
    /// CPU time of the proxy, in ticks.
    pub ticks: u64,
    pub reopened: usize,
}

impl Sample {
    fn rate(&self) -> f64 {
        self.requests as f64 / self.time.as_secs_f64()
    }

    /// CPU time per request, in microseconds.
    fn cost(&self) -> f64 {
        self.ticks as f64 * TICK.as_secs_f64() * 1e6 / self.requests as f64
    }
}

/// All rounds of one proxy and job.
pub struct TableRow<'a> {
    pub job: Job,
    /// Short description of what differs.
    pub description: &'a str,
    pub proxy: &'a str,
    pub samples: Vec<Sample>,
}

/// Formats the table of the four jobs.
pub fn of_jobs(rows: &[TableRow<'_>]) -> String {
    let mut text = String::from(
        "| job | proxy | CPU per request, µs: median | min | requests/s: median | max |\n|---|---|---:|---:|---:|---:|\n",
    );
    for row in rows {
        let costs = sorted(row.samples.iter().map(Sample::cost));
        let rates = sorted(row.samples.iter().map(Sample::rate));
        let lowest = costs.first().copied().unwrap_or_default();
        let highest = rates.last().copied().unwrap_or_default();
        writeln!(
            text,
            "| {} {} | {} | {:.1} | {lowest:.1} | {:.0} | {highest:.0} |",
            row.job.name(),
            row.description,
            row.proxy,
            median(&costs),
            median(&rates)
        )
        .unwrap();
    }
    for row in rows {
        let reopened: usize = row.samples.iter().map(|sample| sample.reopened).sum();
        if reopened > 0 {
            let name = row.job.name();
            writeln!(
                text,
                "\n{}, {name}: closed {reopened} connections of clients between answers.",
                row.proxy
            )
            .unwrap();
        }
    }
    text
}

/// Resident memory of one proxy, in KiB.
pub struct MemoryUse<'a> {
    pub proxy: &'a str,
    pub at_start: u64,
    pub with_connections: u64,
    pub connections: usize,
}

/// Formats the table of memory use.
pub fn of_memory(rows: &[MemoryUse<'_>]) -> String {
    let connections = rows.first().map_or(0, |row| row.connections);
    let mut text = format!(
        "| proxy | resident at start, MiB | with {connections} idle connections, MiB | KiB per connection |\n|---|---:|---:|---:|\n"
    );
    for row in rows {
        let grown = row.with_connections.saturating_sub(row.at_start) as f64;
        writeln!(
            text,
            "| {} | {:.1} | {:.1} | {:.1} |",
            row.proxy,
            row.at_start as f64 / 1024.0,
            row.with_connections as f64 / 1024.0,
            grown / row.connections as f64
        )
        .unwrap();
    }
    text
}

/// Share of CPU time that neither the benchmark nor the proxies used.
pub fn of_noise(before: CpuTimes, after: CpuTimes, own_ticks: u64) -> String {
    let total = (after.total - before.total).max(1) as f64;
    let others = (after.busy - before.busy).saturating_sub(own_ticks) as f64;
    let stolen = (after.stolen - before.stolen) as f64;
    format!(
        "While this was measured, others used {:.0} % of the machine's processors; {:.0} % of that was the host's.\n",
        100.0 * others / total,
        if others > 0.0 { (100.0 * stolen / others).min(100.0) } else { 0.0 }
    )
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
        (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => (below + above) / 2.0,
        (_, Some(value)) => *value,
        _ => 0.0,
    }
}
