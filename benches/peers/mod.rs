//! Benchmarks the gateway against nginx and HAProxy in one interleaved run over loopback.
//!
//! [`job`] defines the requests, [`proxies`] the configuration of each proxy, [`upstreams`] the upstream, [`load`] the
//! plaintext clients and [`tls`] the TLS clients; [`process`] reads the resources that a proxy used and [`table`]
//! formats the results. [`cost_per_request`] measures without a clock, and [`baseline`] compares its counts with the
//! committed ones. An unexpected response of any proxy ends the run.

pub mod baseline;
pub mod cost_per_request;
pub mod folder;
pub mod job;
pub mod load;
pub mod process;
pub mod proxies;
pub mod table;
pub mod tls;
pub mod upstreams;

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use baseline::Cost;
use folder::ProxyFolder;
use job::Job;
use load::ClientPool;
use process::{Cores, CpuTimes};
use proxies::{Proxy, Running};
use table::{MemoryUse, Sample, TableRow};
use tls::TlsMode;
use upstreams::Upstreams;

/// Size of a run.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Rounds per proxy and job.
    pub rounds: usize,
    /// Length of a round.
    pub round: Duration,
    /// Concurrent connections under load.
    pub connections: usize,
    /// Connections that send one request and stay open.
    pub idle: usize,
    /// TLS requests per round, and the number of TLS rounds.
    pub encrypted: (usize, usize),
}

impl Scale {
    /// The published run.
    pub const FULL: Scale = Scale {
        rounds: 9,
        round: Duration::from_millis(700),
        connections: 64,
        idle: 5000,
        encrypted: (20_000, 5),
    };

    /// Checks that everything works; its figures are meaningless.
    pub const SMOKE: Scale =
        Scale { rounds: 1, round: Duration::from_millis(20), connections: 4, idle: 20, encrypted: (200, 1) };
}

/// Measures everything and returns the results as Markdown.
pub fn measure(executable: &Path, scale: Scale, cores: Option<Cores>) -> Result<String, String> {
    on_one_thread(async {
        let upstreams =
            upstreams::start().await.map_err(|e| format!("the upstream cannot be started: {e}"))?;
        let (proxies, missing) = proxies::installed(executable);
        let mut text = compare(&proxies, &upstreams, scale, cores).await?;
        text.push('\n');
        text.push_str(&memory(&proxies, &upstreams, scale, cores).await?);
        for sentence in missing {
            text.push_str(&format!("\n{sentence}\n"));
        }
        Ok(text)
    })
}

/// Counts system calls and instructions; returns Markdown and the plaintext costs of the gateway.
pub fn count(ours: &Path) -> Result<(String, Vec<Cost>), String> {
    on_one_thread(async {
        let upstreams =
            upstreams::start().await.map_err(|e| format!("the upstream cannot be started: {e}"))?;
        let (proxies, missing) = proxies::installed(ours);
        let (mut text, costs) = cost_per_request::run(&proxies, &upstreams).await?;
        for sentence in missing {
            text.push_str(&format!("\n{sentence}\n"));
        }
        Ok((text, costs))
    })
}

/// Runs clients and upstream on one thread, and so on one processor.
fn on_one_thread<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| format!("the runtime cannot be started: {e}"))?.block_on(work)
}

/// Runs the four jobs; the proxies take turns.
async fn compare(
    proxies: &[Proxy],
    upstreams: &Upstreams,
    scale: Scale,
    cores: Option<Cores>,
) -> Result<String, String> {
    let core = cores.map(|cores| cores.proxy);
    let mut running = Vec::new();
    for proxy in proxies {
        let folder = ProxyFolder::new()?;
        running.push((proxy, proxy.start(upstreams, &folder.path, core, &[])?, folder));
    }
    let used = |running: &[(&Proxy, Running, ProxyFolder)]| -> u64 {
        let proxies: u64 = running.iter().map(|(_, running, _)| running.process.ticks()).sum();
        proxies + process::ticks_of(std::process::id())
    };
    let (before, used_before) = (CpuTimes::now(), used(&running));

    let plaintext = Job::ALL.map(|job| (job, None));
    let encrypted = tls::jobs().map(|(job, tls_mode)| (job, Some(tls_mode)));
    let (mut rows, mut in_tls) = (Vec::new(), Vec::new());
    for (job, tls_mode) in plaintext.into_iter().chain(encrypted) {
        let (meaning, rounds) = tls_mode
            .map_or((job.description(), scale.rounds), |tls_mode| (tls_mode.name(), scale.encrypted.1));
        let mut samples = vec![Vec::new(); running.len()];
        for round in 0..rounds {
            eprintln!("measuring: {} {meaning}, round {} of {rounds}", job.name(), round + 1);
            for ((proxy, running, _), samples) in running.iter().zip(&mut samples) {
                let sample = match tls_mode {
                    None => sample(running, job, scale).await,
                    Some(tls_mode) => sample_encrypted(running, job, tls_mode, scale.encrypted.0).await,
                };
                samples.push(sample.map_err(|error| format!("{} {error}", proxy.name))?);
            }
        }
        let table = if tls_mode.is_some() { &mut in_tls } else { &mut rows };
        let of_job = proxies.iter().zip(samples);
        table.extend(of_job.map(|(proxy, samples)| TableRow {
            job,
            description: meaning,
            proxy: &proxy.name,
            samples,
        }));
    }

    let (after, used_after) = (CpuTimes::now(), used(&running));
    let mut text = table::of_jobs(&rows);
    text.push_str("\nIn TLS 1.3:\n\n");
    text.push_str(tls::missing_tool().unwrap_or_default());
    text.push_str(&table::of_jobs(&in_tls));
    let where_ = match cores {
        Some(Cores { proxy, load }) => {
            format!("Proxies on processor {proxy}, clients and upstream on processor {load}.")
        }
        None => "No processor affinity: only one processor, or taskset is missing.".to_owned(),
    };
    text.push_str(&format!("\n{where_} {}", table::of_noise(before, after, used_after - used_before)));
    Ok(text)
}

/// Runs one round. Connections are opened and used once before the clock starts.
async fn sample(running: &Running, job: Job, scale: Scale) -> Result<Sample, String> {
    let mut pool = ClientPool::open(running.address, job, scale.connections).await?;
    let (begun, ticks) = (Instant::now(), running.process.ticks());
    let tally = pool.run_for(scale.round).await?;
    let (time, ticks) = (begun.elapsed(), running.process.ticks() - ticks);
    if tally.responses == 0 {
        return Err(format!("no expected response to {}", job.name()));
    }
    Ok(Sample { requests: tally.responses, time, ticks, reopened: tally.reopened })
}

/// Runs one round over TLS on new connections: the figures include their handshakes.
async fn sample_encrypted(
    running: &Running,
    job: Job,
    tls_mode: TlsMode,
    requests: usize,
) -> Result<Sample, String> {
    let ticks = running.process.ticks();
    let rate = tls::run_h2load(running.encrypted, job, tls_mode, requests).await?;
    let ticks = running.process.ticks() - ticks;
    Ok(Sample { requests, time: Duration::from_secs_f64(requests as f64 / rate), ticks, reopened: 0 })
}

/// Memory of a fresh process: at start, and with connections that have been used once.
async fn memory(
    proxies: &[Proxy],
    upstreams: &Upstreams,
    scale: Scale,
    cores: Option<Cores>,
) -> Result<String, String> {
    let connections = scale.idle.min(descriptors().saturating_sub(200));
    let mut rows = Vec::new();
    for proxy in proxies {
        let folder = ProxyFolder::new()?;
        let running = proxy.start(upstreams, &folder.path, cores.map(|cores| cores.proxy), &[])?;
        let at_start = running.process.resident();
        let pool = ClientPool::open(running.address, Job::Forwarded, connections).await;
        let pool = pool.map_err(|error| format!("{} {error}", proxy.name))?;
        let with_connections = running.process.resident();
        drop(pool);
        rows.push(MemoryUse { proxy: &proxy.name, at_start, with_connections, connections });
    }
    Ok(table::of_memory(&rows))
}

/// Raises the soft limit on open descriptors to the hard limit, and returns it.
fn descriptors() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}
