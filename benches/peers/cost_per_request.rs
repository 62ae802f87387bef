//! Measurements that do not depend on the clock: system calls and user-space instructions per request.
//!
//! strace counts the system calls of a warmed-up proxy over a fixed number of requests. callgrind counts the
//! instructions of two runs of different length from the same start; the difference belongs to the additional requests.
//! Other load on the machine does not affect either count. Clients use plaintext, or TLS as in [`super::tls`].

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::baseline::Cost;
use super::folder::ProxyFolder;
use super::job::Job;
use super::load::ClientPool;
use super::process::find;
use super::proxies::{Proxy, ProxyKind, Running};
use super::tls::{self, TlsMode};
use super::upstreams::Upstreams;

/// Source of the requests.
enum LoadGenerator {
    Plaintext(ClientPool),
    Encrypted(SocketAddr, Job, TlsMode),
}

impl LoadGenerator {
    async fn open(running: &Running, job: Job, tls_mode: Option<TlsMode>) -> Result<LoadGenerator, String> {
        match tls_mode {
            Some(tls_mode) => Ok(LoadGenerator::Encrypted(running.encrypted, job, tls_mode)),
            None => ClientPool::open(running.address, job, CONNECTIONS).await.map(LoadGenerator::Plaintext),
        }
    }

    async fn run_times(&mut self, requests: usize) -> Result<(), String> {
        match self {
            LoadGenerator::Plaintext(pool) => pool.run_times(requests).await.map(drop),
            LoadGenerator::Encrypted(address, job, tls_mode) => {
                tls::run_h2load(*address, *job, *tls_mode, requests).await.map(drop)
            }
        }
    }
}

const CONNECTIONS: usize = 16;
const WARM_UP_REQUESTS: usize = 500;
const TRACED_REQUESTS: usize = 3000;
const SHORT_RUN: usize = 300;
const LONG_RUN: usize = 2300;

/// System calls of timer threads: their number depends on time, not on requests.
const CLOCK_CALLS: [&str; 3] = ["clock_nanosleep", "nanosleep", "restart_syscall"];

/// Counts every job; returns the table and the plaintext costs of the gateway itself.
pub async fn run(proxies: &[Proxy], upstreams: &Upstreams) -> Result<(String, Vec<Cost>), String> {
    for tool in ["strace", "valgrind"] {
        find(tool).ok_or_else(|| format!("{tool} is not installed; `make count` installs it"))?;
    }
    let mut text = String::from(
        "| job | proxy | system calls | instructions | which calls |\n|---|---|---:|---:|---|\n",
    );
    let mut costs = Vec::new();
    let plaintext = Job::ALL.map(|job| (job, None));
    let encrypted = tls::jobs().map(|(job, tls_mode)| (job, Some(tls_mode)));
    for (job, tls_mode) in plaintext.into_iter().chain(encrypted) {
        for proxy in proxies {
            let (name, meaning) = (job.name(), tls_mode.map_or(job.description(), TlsMode::name));
            eprintln!("counting: {name} {meaning}, {}", proxy.name);
            let named = |error: String| format!("{} {error}", proxy.name);
            let calls = system_calls(proxy, upstreams, job, tls_mode).await.map_err(named)?;
            let short = instructions(proxy, upstreams, job, tls_mode, SHORT_RUN).await.map_err(named)?;
            let long = instructions(proxy, upstreams, job, tls_mode, LONG_RUN).await.map_err(named)?;
            let sum: f64 = calls.iter().map(|(_, calls)| calls).sum();
            let named: Vec<String> = calls
                .iter()
                .filter(|(_, calls)| *calls >= 0.02)
                .map(|(name, calls)| format!("{name} {calls:.2}"))
                .collect();
            let per_request = long.saturating_sub(short) / (LONG_RUN - SHORT_RUN) as u64;
            if tls_mode.is_none() && proxy.kind == ProxyKind::Statusquo {
                costs.push(Cost { job: name.to_owned(), calls: sum, instructions: per_request as f64 });
            }
            writeln!(
                text,
                "| {name} {meaning} | {} | {sum:.2} | {per_request} | {} |",
                proxy.name,
                named.join(", ")
            )
            .unwrap();
        }
    }
    Ok((text, costs))
}

/// System calls per request, most frequent first.
async fn system_calls(
    proxy: &Proxy,
    upstreams: &Upstreams,
    job: Job,
    tls_mode: Option<TlsMode>,
) -> Result<Vec<(String, f64)>, String> {
    let folder = ProxyFolder::new()?;
    let running = proxy.start(upstreams, &folder.path, None, &[])?;
    let mut load = LoadGenerator::open(&running, job, tls_mode).await?;
    load.run_times(WARM_UP_REQUESTS).await?;

    let summary = folder.path.join("strace");
    let mut strace = attach_strace(&running.process.tree(), &summary)?;
    let counted = load.run_times(TRACED_REQUESTS).await;
    // strace detaches and writes its summary on SIGINT.
    let _ = Command::new("sh").arg("-c").arg(format!("kill -INT {}", strace.id())).status();
    strace.wait().map_err(|e| e.to_string())?;
    counted?;

    let text = std::fs::read_to_string(&summary).map_err(|e| e.to_string())?;
    let mut calls: Vec<(String, f64)> = text.lines().filter_map(parse_strace_row).collect();
    calls.retain(|(name, _)| name != "total" && !CLOCK_CALLS.contains(&name.as_str()));
    calls.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    Ok(calls)
}

/// Starts strace on these processes and waits until it has attached.
fn attach_strace(tree: &[u32], summary: &Path) -> Result<Child, String> {
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(summary)
        .args(tree.iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("strace cannot be run: {error}"))?;
    let strace_output = strace.stderr.take().ok_or("strace has no standard error")?;
    let mut strace_output = BufReader::new(strace_output).lines().map_while(Result::ok);
    let mut before = String::new();
    for _ in tree {
        // `strace: Process 7 attached with 5 threads`
        let Some(line) = strace_output.find(|line| {
            let _ = writeln!(before, "{line}");
            line.contains(" attached")
        }) else {
            let _ = strace.wait();
            return Err(format!("strace cannot attach:\n{before}"));
        };
        drop(line);
    }
    std::thread::spawn(move || strace_output.for_each(drop));
    Ok(strace)
}

/// A row of the summary: `% time, seconds, usecs/call, calls, [errors,] syscall`.
fn parse_strace_row(line: &str) -> Option<(String, f64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [share, _, _, calls, .., name] = words[..] else { return None };
    share.parse::<f64>().ok()?;
    Some((name.to_owned(), calls.parse::<f64>().ok()? / TRACED_REQUESTS as f64))
}

/// Instructions of a whole process lifetime with this number of requests, counted by callgrind.
async fn instructions(
    proxy: &Proxy,
    upstreams: &Upstreams,
    job: Job,
    tls_mode: Option<TlsMode>,
    requests: usize,
) -> Result<u64, String> {
    let folder = ProxyFolder::new()?;
    let out = folder.path.join("callgrind");
    let wrapper = ["valgrind", "-q", "--tool=callgrind"].map(str::to_owned).into_iter();
    let wrapper: Vec<String> = wrapper.chain([format!("--callgrind-out-file={}", out.display())]).collect();
    let mut running = proxy.start(upstreams, &folder.path, None, &wrapper)?;
    let mut load = LoadGenerator::open(&running, job, tls_mode).await?;
    load.run_times(requests).await?;
    drop(load);
    running.process.end();
    let text = std::fs::read_to_string(&out).map_err(|e| format!("callgrind output is missing: {e}"))?;
    let total = text.lines().find_map(|line| {
        let counts = line.strip_prefix("summary:").or_else(|| line.strip_prefix("totals:"))?;
        counts.split_whitespace().next()?.parse().ok()
    });
    total.ok_or_else(|| "callgrind output has no total".into())
}
