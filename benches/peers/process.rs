//! A proxy process: start, processor affinity, resource usage and end.
//!
//! Usage is read from `/proc`. A process is ended by its own id and those of its children, never by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Length of a clock tick of `/proc/PID/stat`: USER_HZ is 100 on every supported Linux.
pub const TICK: Duration = Duration::from_millis(10);

/// Time between SIGTERM and SIGKILL.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Processor assignment.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    /// Processor of the proxies.
    pub proxy: usize,
    /// Processor of the clients and the upstream.
    pub load: usize,
}

impl Cores {
    /// Takes the first 2 available processors and pins this process to the second one; must run before any thread
    /// starts. Returns `None` with only one processor or without `taskset`.
    pub fn split() -> Option<Cores> {
        let allowed = allowed_processors();
        let [proxy, load, ..] = allowed[..] else { return None };
        let own_pid = std::process::id().to_string();
        let pinned =
            Command::new("taskset").args(["-cp", &load.to_string(), &own_pid]).stdout(Stdio::null()).status();
        pinned.is_ok_and(|status| status.success()).then_some(Cores { proxy, load })
    }
}

/// `Cpus_allowed_list: 0-3,8` gives 0, 1, 2, 3 and 8.
fn allowed_processors() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let range = |text: &str| -> Option<std::ops::RangeInclusive<usize>> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

/// Path of the executable behind a command. Debian installs servers in folders that only root's PATH contains.
pub fn find(command: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(command)).find(|file| file.is_file())
}

/// A child process with its own children.
pub struct Process {
    child: Child,
    program: String,
}

impl Process {
    /// Starts `words` on a processor, if given; appends its output to `log`.
    pub fn start(words: &[String], core: Option<usize>, log: &Path) -> Result<Process, String> {
        let pinned = core.map(|core| ["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
        let named = words.first().cloned().unwrap_or_default();
        let words: Vec<&String> = pinned.iter().flatten().chain(words).collect();
        let [program, arguments @ ..] = &words[..] else { return Err("empty command".into()) };
        let output = fs::File::options().create(true).append(true).open(log).map_err(|e| e.to_string())?;
        let errors = output.try_clone().map_err(|e| e.to_string())?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{program} cannot be run: {error}"))?;
        Ok(Process { child, program: named })
    }

    /// Whether the process has exited.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ids of the process and its descendants.
    pub fn tree(&self) -> Vec<u32> {
        let mut tree = vec![self.child.id()];
        let all: Vec<(u32, u32)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?)))
            .collect();
        let mut next = 0;
        while let Some(&above) = tree.get(next) {
            tree.extend(all.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
            next += 1;
        }
        tree
    }

    /// User and system time of the process tree so far, in [`TICK`]s.
    pub fn ticks(&self) -> u64 {
        self.tree().into_iter().map(ticks_of).sum()
    }

    /// Resident memory of the process tree, in KiB. Shared pages count once per process.
    pub fn resident(&self) -> u64 {
        let of = |pid: u32| -> Option<u64> {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().strip_suffix(" kB")?.trim().parse().ok()
        };
        self.tree().into_iter().filter_map(of).sum()
    }

    /// Sends SIGTERM, waits, and sends SIGKILL after the timeout.
    pub fn end(&mut self) {
        let started = Instant::now();
        while started.elapsed() < SHUTDOWN_TIMEOUT {
            // Repeated: a process that is about to wait for events can miss a signal.
            if !self.has_ended() {
                send_signal("TERM", self.child.id());
            }
            let requested_at = Instant::now();
            while requested_at.elapsed() < Duration::from_secs(1) {
                if self.has_ended() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        eprintln!("process {} ({}) does not exit and is killed", self.child.id(), self.program);
        self.tree().into_iter().for_each(|pid| send_signal("KILL", pid));
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// User and system time of one process so far, in [`TICK`]s.
pub fn ticks_of(pid: u32) -> u64 {
    // Fields 14 and 15 of proc(5); the third is the first behind the name.
    let Some(fields) = stat(pid) else { return 0 };
    fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Fields of `/proc/PID/stat` after the process name, which may contain spaces: state, parent, ...
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn send_signal(signal: &str, pid: u32) {
    // Uses the shell's built-in `kill`: a minimal system has no `kill` program, and this crate forbids unsafe code.
    let _ = Command::new("sh").arg("-c").arg(format!("kill -{signal} {pid}")).stderr(Stdio::null()).status();
}

/// Time of all processors since boot, in [`TICK`]s.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTimes {
    /// Total time, idle time included.
    pub total: u64,
    /// Non-idle time.
    pub busy: u64,
    /// Time used by other guests of the host.
    pub stolen: u64,
}

impl CpuTimes {
    /// Parses the first line of `/proc/stat`: user nice system idle iowait irq softirq steal.
    pub fn now() -> CpuTimes {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let parts: Vec<u64> =
            line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
        let part = |index: usize| parts.get(index).copied().unwrap_or_default();
        let total = parts.iter().sum();
        CpuTimes { total, busy: total - part(3) - part(4), stolen: part(7) }
    }
}
