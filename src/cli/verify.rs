//! `verify`: runs the gateway with the operator's configuration against faulty upstreams and clients, and checks every
//! response.
//!
//! [`harness`] adapts the configuration and starts the gateways, [`route_probe`] finds a request for each route, and
//! [`expectation`] computes the expected response. [`upstream_rows`], [`client_rows`] and [`route_rows`] run the rows.
//! [`metrics_check`] compares what the clients counted with the gateway's metrics, and [`mod@print`] renders the
//! report. [`crate::conformance`] checks the bytes of the responses; only the expected code comes from the error
//! policy, as for `explain`.

mod client_rows;
mod exchange;
mod expectation;
mod gateway_states;
mod harness;
mod load_factor;
mod metrics_check;
mod print;
mod retry;
mod route_probe;
mod route_rows;
mod special_gateways;
mod upstream_rows;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::check::ReportFormat;
use super::run::print_message;
use super::{ConfigArg, load_or_exit};
use crate::config::{Config, Location, Problem, Problems};
use crate::conformance::ClientProtocol;
use crate::conformance::cases::{CaseError, CaseSet};
use harness::Harness;
use load_factor::LoadFactor;

/// Command-line options of `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyOptions {
    #[command(flatten)]
    file: ConfigArg,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
    /// Exit 0 if rows are flaky: failed first, passed when repeated.
    #[arg(long)]
    allow_flaky: bool,
    /// Also run the cases of this file; see docs/operations.md, "Cases of your own".
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// Connect to the gateways through this relay, which reads their address from a first line; for tests of `verify`.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    through: Option<SocketAddr>,
}

/// The result of one fault, on one route or without a route.
#[derive(Clone, Debug)]
struct ReportRow {
    section: Section,
    fault: &'static str,
    description: &'static str,
    route: Option<String>,
    expected: String,
    actual: String,
    verdict: Verdict,
    /// The first run failed, and the row was run again.
    retried: bool,
}

/// The sections of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Upstream,
    Client,
    Rejections,
    Metrics,
}

/// The verdict of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The contract was kept.
    Passed,
    /// The contract was violated, for this reason.
    Failed(String),
    /// The first run failed for this reason; the second passed.
    Flaky(String),
    /// The row was not run, for this reason.
    NotApplicable(String),
}

/// The result of a run.
#[derive(Debug)]
struct VerifyReport {
    file: String,
    /// The differences between the file and the configuration that was run, one per line.
    changes: Vec<String>,
    rows: Vec<ReportRow>,
    /// The factor by which every timeout was multiplied.
    load: LoadFactor,
    /// Flaky rows do not fail the run.
    allow_flaky: bool,
    elapsed: Duration,
}

impl VerifyReport {
    fn count(&self, matches: impl Fn(&Verdict) -> bool) -> usize {
        self.rows.iter().filter(|row| matches(&row.verdict)).count()
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

/// The name of a fault, and what it does.
type Fault = (&'static str, &'static str);

impl ReportRow {
    fn new(section: Section, (fault, description): Fault, route: Option<&str>) -> ReportRow {
        ReportRow {
            section,
            fault,
            description,
            route: route.map(str::to_owned),
            expected: String::new(),
            actual: String::new(),
            verdict: Verdict::Passed,
            retried: false,
        }
    }

    fn skipped(self, reason: impl Into<String>) -> ReportRow {
        ReportRow { verdict: Verdict::NotApplicable(reason.into()), ..self }
    }

    fn judged(self, expected: String, actual: String, result: Result<(), String>) -> ReportRow {
        ReportRow {
            expected,
            actual,
            verdict: result.map_or_else(Verdict::Failed, |()| Verdict::Passed),
            ..self
        }
    }
}

/// About ten times the usual duration of a run.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How often a run is repeated because the load of the machine has grown.
const MAX_RESTARTS: u32 = 2;

/// Verifies `file`. Exit code 0: the contract was kept; 1: a row failed or is flaky, or the run could not be set up;
/// 78: the file is invalid.
pub(crate) fn run(options: &VerifyOptions) -> ExitCode {
    let config = match load_or_exit(&options.file.file, options.format) {
        Ok(config) => config,
        Err(exit_code) => return exit_code,
    };
    let cases = match load_cases(options.cases.as_deref()) {
        Ok(cases) => cases,
        Err(exit_code) => return exit_code,
    };
    let report = match verify(options, &config, &cases) {
        Ok(report) => report,
        Err(message) => {
            print_message(&message);
            return ExitCode::FAILURE;
        }
    };
    let text = match options.format {
        ReportFormat::Text => print::render_text(&report),
        ReportFormat::Json => print::render_json(&report),
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) if report.passed() => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

/// The cases of the program and those of the file. An invalid file is reported like an invalid configuration.
fn load_cases(file: Option<&Path>) -> Result<CaseSet, ExitCode> {
    let mut cases = CaseSet::builtin();
    let Some(file) = file else { return Ok(cases) };
    let name = file.display().to_string();
    let refuse = |problems: Problems| {
        print_message(&problems.to_string());
        ExitCode::from(super::check::INVALID_CONFIG)
    };
    let text = std::fs::read_to_string(file).map_err(|error| {
        let problem =
            Problem::for_file(format!("cannot read {name}: {error}"), "pass the path of a file of cases");
        refuse(Problems::new(&name, "", vec![problem]))
    })?;
    let to_problem = |error: CaseError| {
        let location = Some(Location { file: 0, line: error.line, column: error.column });
        Problem { path: String::new(), location, message: error.message, help: error.help }
    };
    cases.add(&text).map_err(|errors| {
        refuse(Problems::new(&name, &text, errors.into_iter().map(to_problem).collect()))
    })?;
    Ok(cases)
}

fn verify(options: &VerifyOptions, config: &Config, cases: &CaseSet) -> Result<VerifyReport, String> {
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    let mut load = LoadFactor::measure();
    let mut restarts = 0;
    loop {
        let (changes, rows) = runtime.block_on(run_rows(config, cases, options.through, load))?;
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
        // If the load has grown since it was measured, the timeouts were too short and the verdicts are invalid.
        let later = LoadFactor::measure();
        if !load.is_exceeded_by(later) {
            return Ok(report);
        }
        load = later;
        restarts += 1;
    }
}

/// Runs every row; returns the configuration changes and the results.
async fn run_rows(
    config: &Config,
    cases: &CaseSet,
    relay: Option<SocketAddr>,
    load: LoadFactor,
) -> Result<(Vec<String>, Vec<ReportRow>), String> {
    let harness = Harness::set(config.clone(), cases.clone(), relay, load)?;
    let targets = client_rows::choose_targets(&harness);
    let mut rows = Vec::new();
    let run_all = async {
        // Client faults first and alone: they depend on timing, which thousands of concurrent rows would disturb.
        let mut clients = Vec::new();
        for protocol in [ClientProtocol::Http1, ClientProtocol::Tls, ClientProtocol::Http2] {
            if targets.is_empty() {
                clients.extend(client_rows::run_all(&harness, protocol, None).await);
            }
            for target in &targets {
                let mut rows = client_rows::run_all(&harness, protocol, Some(target)).await;
                if targets.len() > 1 {
                    let route = harness.config.routes.get(target.0.route_index);
                    rows.iter_mut().for_each(|row| row.route = route.map(|route| route.name.clone()));
                }
                clients.extend(rows);
            }
        }
        let (upstreams, routes) =
            tokio::join!(upstream_rows::run_all(&harness), route_rows::run_all(&harness));
        [upstreams, clients, routes].concat()
    };
    let longest = load.scale(TIMEOUT);
    tokio::select! {
        run_all = run_all => rows.extend(run_all),
        message = harness.wait_for_shutdown() => return Err(message),
        () = tokio::time::sleep(longest) => {
            return Err(format!("timed out after {} min (load factor {load})", longest.as_secs() / 60));
        }
    }
    if rows.iter().all(|row| matches!(row.verdict, Verdict::NotApplicable(_))) {
        return Err("no row could be run: no route accepts an ordinary request".to_owned());
    }
    let metric_rows = metrics_check::check_all(&harness, &rows).await;
    rows.extend(metric_rows);
    rows.sort_by_key(|row| row.section);
    Ok((harness.changes.clone(), rows))
}
