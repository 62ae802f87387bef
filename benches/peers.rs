//! Benchmark of the gateway against nginx and HAProxy: `cargo bench --bench peers`, about 90 seconds.
//!
//! `-- --count` counts system calls and instructions instead, and fails when a request costs more than the committed
//! figures (`peers/baseline.tsv`); with `--update` it writes these figures. `-- --smoke` only checks that the benchmark
//! works. The output is Markdown for docs/performance.md. `peers/mod.rs` describes the method.

#![allow(unreachable_pub)] // a test crate exports nothing
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stderr)]
#![allow(clippy::print_stdout)] // prints tables
#![allow(clippy::disallowed_methods)] // waits for other programs and reads the environment

#[path = "peers/mod.rs"]
mod peers;

use std::path::Path;
use std::process::ExitCode;

use peers::Scale;
use peers::baseline::{self, Comparison, Cost, TOLERANCE};
use peers::process::Cores;

fn main() -> ExitCode {
    let arguments = |option: &str| std::env::args().any(|argument| argument == option);
    let executable = Path::new(env!("CARGO_BIN_EXE_statusquo"));
    let measured = if arguments("--count") {
        peers::count(executable).and_then(|(table, costs)| {
            println!("{table}");
            guard(&costs, arguments("--update"))
        })
    } else if arguments("--smoke") {
        peers::measure(executable, Scale::SMOKE, None)
    } else {
        peers::measure(executable, Scale::FULL, Cores::split())
    };
    match measured {
        Ok(tables) => {
            println!("{tables}");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Compares the counted costs with the committed figures, or replaces the figures.
fn guard(costs: &[Cost], update: bool) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/baseline.tsv");
    let failed = |error| format!("{}: {error}", path.display());
    let committed = std::fs::read_to_string(&path).map_err(failed)?;
    let Comparison { table, failures } = baseline::compare(&baseline::parse(&committed)?, costs);
    if update {
        std::fs::write(&path, baseline::write(costs)).map_err(failed)?;
        return Ok(format!("{table}\nupdated {}", path.display()));
    }
    if failures.is_empty() {
        return Ok(format!(
            "{table}\nno figure is more than {:.0} % above the committed one",
            TOLERANCE * 100.0
        ));
    }
    println!("{table}");
    let failures = failures.join("\n");
    Err(format!(
        "more than {:.0} % above the committed figures:\n{failures}\nhelp: where this is intended, run `make count UPDATE=1` and commit the file",
        TOLERANCE * 100.0
    ))
}
