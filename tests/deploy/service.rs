//! The systemd unit: systemd's own checks, and whether its values match the gateway's defaults.

use std::process::Command;
use std::time::Duration;

use crate::folder::Folder;
use crate::processes::succeed;
use crate::{TIMEOUT, load_config, read_file};

const UNIT: &str = "deploy/systemd/statusquo.service";

/// Values of a key, in order.
fn values(key: &str) -> Vec<String> {
    let unit = read_file(UNIT);
    let assigned = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    assigned.map(str::to_owned).collect()
}

/// The only value of a key.
#[track_caller]
fn value(key: &str) -> String {
    let mut all = values(key);
    assert_eq!(all.len(), 1, "{key}: {all:?}");
    all.remove(0)
}

/// The unit with the path of this build instead of the installed executable, in a folder that systemd can read.
fn installed_unit() -> (Folder, String) {
    let folder = Folder::new("unit");
    let path = folder.path.join("statusquo.service");
    let unit = read_file(UNIT).replace("/usr/local/bin/statusquo", env!("CARGO_BIN_EXE_statusquo"));
    std::fs::write(&path, unit).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

#[test]
fn unit_passes_systemd_analyze_verify() {
    let (_folder, unit) = installed_unit();
    let finished =
        crate::processes::run(Command::new("systemd-analyze").args(["verify", "--man=no", &unit]), TIMEOUT);
    // Warnings do not change the exit status.
    assert_eq!((finished.out.as_str(), finished.err.as_str()), ("", ""));
    assert!(finished.status.success());
}

#[test]
fn unit_stays_within_its_exposure_score() {
    let (_folder, unit) = installed_unit();
    // In tenths. The score differs slightly between systemd versions; a larger difference means a missing directive.
    succeed(
        Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=15"])
            .arg(&unit),
        TIMEOUT,
    );
}

#[test]
fn unit_start_reload_and_stop_match_the_gateway() {
    assert_eq!(value("ExecStart"), "/usr/local/bin/statusquo run /etc/statusquo/statusquo.yaml");
    // `check` rejects an expired certificate, `run` serves it: a restart must not fail because of it.
    assert_eq!(values("ExecStartPre"), [""; 0]);
    assert_eq!(
        values("ExecReload"),
        ["/usr/local/bin/statusquo check /etc/statusquo/statusquo.yaml", "/bin/kill -HUP $MAINPID"]
    );
    assert_eq!(value("DynamicUser"), "yes");
    // An invalid configuration exits with 78, an invalid command line with 2: tests/it/commands.rs.
    assert_eq!(value("RestartPreventExitStatus"), "2 78");

    let defaults = load_config("config/minimal.yaml");
    let stop: u64 = value("TimeoutStopSec").strip_suffix('s').unwrap().parse().unwrap();
    assert!(Duration::from_secs(stop) > defaults.drain_delay + defaults.drain, "{stop}");
    let descriptors: usize = value("LimitNOFILE").parse().unwrap();
    assert!(descriptors >= 2 * defaults.client.max_connections + 64, "{descriptors}");
}
