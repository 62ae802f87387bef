//! The gateway beside nginx and HAProxy: `cargo bench --bench peers`, a minute and a half.
//!
//! `-- --count` counts system calls and instructions instead, `-- --smoke` only shows that it works. What it prints is
//! Markdown for docs/performance.md. How it is done: `peers/mod.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stderr)]
#![allow(clippy::print_stdout)] // the tables
#![allow(clippy::disallowed_methods)] // it waits for other programs, and reads the environment

#[path = "peers/mod.rs"]
mod peers;

use std::path::Path;
use std::process::ExitCode;

use peers::Scale;
use peers::process::Cores;

fn main() -> ExitCode {
    let asked = |option: &str| std::env::args().any(|argument| argument == option);
    let ours = Path::new(env!("CARGO_BIN_EXE_statusquo"));
    let measured = if asked("--count") {
        peers::count(ours)
    } else if asked("--smoke") {
        peers::measure(ours, Scale::SMOKE, None)
    } else {
        peers::measure(ours, Scale::FULL, Cores::divide())
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
