//! `rehearse`: the gateway with the operator's own configuration, every server behind it swapped for one that misbehaves,
//! and every fault provoked over the wire.
//!
//! What is changed for that is in [`stage`], what is asked in [`visits`], what should come of it in [`wanted`]. The rows
//! are played in [`upstreams`], [`clients`], [`clients_h2`] and [`limits`], what they got is summed up in [`ledger`] and held
//! against the counters in [`accounts`]; how they are shown is [`mod@print`]'s. The answers are judged from
//! their bytes by [`crate::rehearse`]; only the expected code comes from the policy room, as for `explain`.

mod accounts;
mod again;
mod clients;
mod clients_h2;
mod ledger;
mod limits;
mod load_factor;
mod print;
mod stage;
mod upstreams;
mod visits;
mod wanted;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::run::say;
use super::{File, load};
use crate::config::Config;
use load_factor::LoadFactor;
use stage::Stage;

/// What is rehearsed, and how it is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    file: File,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Exit 0 although rows are flaky: they failed, and passed when repeated.
    #[arg(long)]
    allow_flaky: bool,
    /// Reach the gateways by this relay, which is told their address in a first line: for tests of the rehearsal.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    through: Option<SocketAddr>,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table for people.
    #[default]
    Text,
    /// Every row by itself, for machines.
    Json,
}

/// One fault on one route, or on none.
#[derive(Clone, Debug)]
struct Row {
    side: Side,
    fault: &'static str,
    meaning: &'static str,
    route: Option<String>,
    expected: String,
    got: String,
    verdict: Verdict,
    /// It failed at first, and was played a second time.
    repeated: bool,
}

/// Who misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Upstream,
    Client,
    Limits,
    Accounts,
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
struct Report {
    file: String,
    /// What differed from the file, line by line.
    changes: Vec<String>,
    rows: Vec<Row>,
    /// By which every timeout was multiplied.
    load: LoadFactor,
    /// Flaky rows are no failure.
    allow_flaky: bool,
    took: Duration,
}

impl Report {
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

impl Row {
    /// A client's, which belongs to no route.
    fn of_client(
        (fault, meaning): (&'static str, &'static str),
        expected: String,
        answers: &[String],
        breach: Option<String>,
    ) -> Row {
        Row {
            side: Side::Client,
            fault,
            meaning,
            route: None,
            expected,
            got: if answers.is_empty() { "no answer".to_owned() } else { clients::shortened(answers) },
            verdict: breach.map_or(Verdict::Passed, Verdict::Failed),
            repeated: false,
        }
    }

    fn skipped(side: Side, fault: (&'static str, &'static str), route: Option<&str>, why: String) -> Row {
        Row {
            side,
            fault: fault.0,
            meaning: fault.1,
            route: route.map(str::to_owned),
            expected: String::new(),
            got: String::new(),
            verdict: Verdict::NotApplicable(why),
            repeated: false,
        }
    }
}

/// It usually takes a tenth of that.
const LONGEST: Duration = Duration::from_secs(300);
/// So often a run is repeated because the load has grown.
const MAX_RESTARTS: u32 = 2;

/// Rehearses `file`: 0 when the contract was kept, 1 when a row failed or is flaky, or nothing could be rehearsed, 78 when the
/// file is refused.
pub fn run(options: &Options) -> ExitCode {
    let config = match load(&options.file.file) {
        Ok(config) => config,
        Err(refused) => return refused,
    };
    let report = match rehearse(options, &config) {
        Ok(report) => report,
        Err(sentence) => {
            say(&sentence);
            return ExitCode::FAILURE;
        }
    };
    let text = match options.format {
        Format::Text => print::text(&report),
        Format::Json => print::json(&report),
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) if report.passed() => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

fn rehearse(options: &Options, config: &Config) -> Result<Report, String> {
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    let mut load = LoadFactor::measure();
    let mut restarts = 0;
    loop {
        let (changes, rows) = runtime.block_on(play(config, options.through, load))?;
        let file = options.file.file.display().to_string();
        let report =
            Report { file, changes, rows, load, allow_flaky: options.allow_flaky, took: begun.elapsed() };
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
) -> Result<(Vec<String>, Vec<Row>), String> {
    let stage = Stage::set(config.clone(), relay, load)?;
    let place = clients::setting(&stage);
    let mut rows = Vec::new();
    let played = async {
        // Clients first, and alone: their rows are about time, and thousands of others would keep them waiting.
        let clients = clients::play_all(&stage, place.clone()).await;
        let clients_tls = clients::play_tls(&stage, place.clone()).await;
        let clients_h2 = clients_h2::play_all(&stage, place).await;
        let (upstreams, limits) = tokio::join!(upstreams::play_all(&stage), limits::play_all(&stage));
        [upstreams, clients, clients_h2, clients_tls, limits].concat()
    };
    let longest = load.scale(LONGEST);
    tokio::select! {
        played = played => rows.extend(played),
        sentence = stage.ended() => return Err(sentence),
        () = tokio::time::sleep(longest) => {
            return Err(format!("timed out after {} min (load factor {load})", longest.as_secs() / 60));
        }
    }
    if rows.iter().all(|row| matches!(row.verdict, Verdict::NotApplicable(_))) {
        return Err("nothing could be rehearsed: no route takes an ordinary request".to_owned());
    }
    let compared = accounts::compare(&stage, &rows).await;
    rows.extend(compared);
    rows.sort_by_key(|row| row.side);
    Ok((stage.changes.clone(), rows))
}
