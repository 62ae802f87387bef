//! `verify`: the gateway with the operator's own configuration, every server behind it swapped for one that misbehaves,
//! and every fault provoked over the wire.
//!
//! What is changed for that is in [`harness`], what is asked in [`route_probe`], what should come of it in [`expectation`]. The rows
//! are played in [`upstream_rows`], [`client_rows`], [`client_rows_h2`] and [`rejections`], what they got is summed up in [`observed`] and held
//! against the counters in [`metrics_check`]; how they are shown is [`mod@print`]'s. The answers are judged from
//! their bytes by [`crate::conformance`]; only the expected code comes from the policy room, as for `explain`.

mod client_rows;
mod client_rows_h2;
mod expectation;
mod harness;
mod load_factor;
mod metrics_check;
mod observed;
mod print;
mod rejections;
mod retry;
mod route_probe;
mod upstream_rows;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::run::print_message;
use super::{ConfigArg, load_or_exit};
use crate::config::Config;
use harness::Harness;
use load_factor::LoadFactor;

/// What is rehearsed, and how it is told.
#[derive(Debug, clap::Args)]
pub struct VerifyOptions {
    #[command(flatten)]
    file: ConfigArg,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: VerifyFormat,
    /// Exit 0 although rows are flaky: they failed, and passed when repeated.
    #[arg(long)]
    allow_flaky: bool,
    /// Reach the gateways by this relay, which is told their address in a first line: for tests of the rehearsal.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    through: Option<SocketAddr>,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum VerifyFormat {
    /// A table for people.
    #[default]
    Text,
    /// Every row by itself, for machines.
    Json,
}

/// One fault on one route, or on none.
#[derive(Clone, Debug)]
struct ReportRow {
    section: Section,
    fault: &'static str,
    description: &'static str,
    route: Option<String>,
    expected: String,
    actual: String,
    verdict: Verdict,
    /// It failed at first, and was played a second time.
    retried: bool,
}

/// Who misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Upstream,
    Client,
    Rejections,
    Metrics,
}

/// What came of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The contract was kept.
    Passed,
    /// It was not: how.
    Failed(String),
    /// It was not at first: how. Repeated, the row passed.
    Flaky(String),
    /// The row was not played: why.
    NotApplicable(String),
}

/// Everything that came of a rehearsal.
#[derive(Debug)]
struct VerifyReport {
    file: String,
    /// What differed from the file, line by line.
    changes: Vec<String>,
    rows: Vec<ReportRow>,
    /// By which every timeout was multiplied.
    load: LoadFactor,
    /// Flaky rows are no failure.
    allow_flaky: bool,
    elapsed: Duration,
}

impl VerifyReport {
    fn count(&self, which: impl Fn(&Verdict) -> bool) -> usize {
        self.rows.iter().filter(|row| which(&row.verdict)).count()
    }

    fn failed(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    fn flaky(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Flaky(_)))
    }

    fn passed(&self) -> bool {
        self.failed() == 0 && (self.allow_flaky || self.flaky() == 0)
    }
}

impl ReportRow {
    /// A client's, which belongs to no route.
    fn for_client_fault(
        (fault, description): (&'static str, &'static str),
        expected: String,
        responses: &[String],
        violation: Option<String>,
    ) -> ReportRow {
        ReportRow {
            section: Section::Client,
            fault,
            description,
            route: None,
            expected,
            actual: if responses.is_empty() {
                "no answer".to_owned()
            } else {
                client_rows::collapse_repeats(responses)
            },
            verdict: violation.map_or(Verdict::Passed, Verdict::Failed),
            retried: false,
        }
    }

    fn skipped(
        side: Section,
        fault: (&'static str, &'static str),
        route: Option<&str>,
        reason: String,
    ) -> ReportRow {
        ReportRow {
            section: side,
            fault: fault.0,
            description: fault.1,
            route: route.map(str::to_owned),
            expected: String::new(),
            actual: String::new(),
            verdict: Verdict::NotApplicable(reason),
            retried: false,
        }
    }
}

/// It usually takes a tenth of that.
const TIMEOUT: Duration = Duration::from_secs(300);
/// So often a run is repeated because the load has grown.
const MAX_RESTARTS: u32 = 2;

/// Rehearses `file`: 0 when the contract was kept, 1 when a row failed or is flaky, or nothing could be rehearsed, 78 when the
/// file is refused.
pub fn run(options: &VerifyOptions) -> ExitCode {
    let config = match load_or_exit(&options.file.file) {
        Ok(config) => config,
        Err(exit_code) => return exit_code,
    };
    let report = match verify(options, &config) {
        Ok(report) => report,
        Err(sentence) => {
            print_message(&sentence);
            return ExitCode::FAILURE;
        }
    };
    let text = match options.format {
        VerifyFormat::Text => print::render_text(&report),
        VerifyFormat::Json => print::render_json(&report),
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) if report.passed() => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

fn verify(options: &VerifyOptions, config: &Config) -> Result<VerifyReport, String> {
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    let mut load = LoadFactor::measure();
    let mut restarts = 0;
    loop {
        let (changes, rows) = runtime.block_on(play(config, options.through, load))?;
        let file = options.file.file.display().to_string();
        let report = VerifyReport {
            file,
            changes,
            rows,
            load,
            allow_flaky: options.allow_flaky,
            elapsed: started.elapsed(),
        };
        if report.failed() + report.flaky() == 0 || restarts == MAX_RESTARTS {
            return Ok(report);
        }
        // The load may have grown since it was measured: then the timeouts were too short, and the verdicts mean nothing.
        let later = LoadFactor::measure();
        if !load.is_exceeded_by(later) {
            return Ok(report);
        }
        load = later;
        restarts += 1;
    }
}

/// Plays every row: what differed from the file, and what came of it.
async fn play(
    config: &Config,
    relay: Option<SocketAddr>,
    load: LoadFactor,
) -> Result<(Vec<String>, Vec<ReportRow>), String> {
    let harness = Harness::set(config.clone(), relay, load)?;
    let target = client_rows::choose_target(&harness);
    let mut rows = Vec::new();
    let run_all = async {
        // Clients first, and alone: their rows are about time, and thousands of others would keep them waiting.
        let clients = client_rows::run_all(&harness, target.clone()).await;
        let clients_tls = client_rows::run_tls(&harness, target.clone()).await;
        let clients_h2 = client_rows_h2::run_all(&harness, target).await;
        let (upstreams, limits) =
            tokio::join!(upstream_rows::run_all(&harness), rejections::run_all(&harness));
        [upstreams, clients, clients_h2, clients_tls, limits].concat()
    };
    let longest = load.scale(TIMEOUT);
    tokio::select! {
        run_all = run_all => rows.extend(run_all),
        sentence = harness.wait_for_shutdown() => return Err(sentence),
        () = tokio::time::sleep(longest) => {
            return Err(format!("timed out after {} min (load factor {load})", longest.as_secs() / 60));
        }
    }
    if rows.iter().all(|row| matches!(row.verdict, Verdict::NotApplicable(_))) {
        return Err("nothing could be rehearsed: no route takes an ordinary request".to_owned());
    }
    let metric_rows = metrics_check::check_all(&harness, &rows).await;
    rows.extend(metric_rows);
    rows.sort_by_key(|row| row.section);
    Ok((harness.changes.clone(), rows))
}
