//! The image and the compose file: their linters, and whether the files that they name exist.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::gateway::RealGateway;
use crate::processes::{install_packages, run, succeed};
use crate::{TIMEOUT, load_config, read_file};

const DOCKERFILE: &str = "deploy/Dockerfile";
const CONFIG: &str = "deploy/compose/statusquo.yaml";

/// Instructions of the Dockerfile with continuation lines joined and comments removed.
fn instructions() -> Vec<String> {
    let text: String = read_file(DOCKERFILE)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    text.replace("\\\n", " ").lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn dockerfile_passes_hadolint() {
    install_packages();
    let output = succeed(Command::new("target/packages/python/bin/hadolint").arg(DOCKERFILE), TIMEOUT);
    assert_eq!(output, "");
}

#[test]
fn image_uses_pinned_rust_and_cmake_and_runs_as_non_root() {
    let manifest = read_file("Cargo.toml");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    let all = instructions();
    let of = |name: &str| -> Vec<&str> {
        all.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect()
    };
    assert_eq!(of("ARG"), [format!("RUST={}", rust.trim_matches('"'))]);
    assert_eq!(of("FROM").len(), 2);
    assert!(of("RUN")[0].contains("install -y --no-install-recommends cmake"), "{}", of("RUN")[0]);
    assert_eq!(of("USER"), ["65532:65532"]);
    assert_eq!(of("STOPSIGNAL"), ["SIGTERM"]);
    let run = format!("{} {}", of("ENTRYPOINT")[0], of("CMD")[0]);
    assert_eq!(run, r#"["statusquo"] ["run", "/etc/statusquo/statusquo.yaml"]"#);
}

/// The build context must contain every `include_str!` source and every file that cargo reads.
#[test]
fn build_context_contains_every_file_the_build_reads() {
    let ignore = read_file("deploy/Dockerfile.dockerignore");
    let sent: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert_eq!(sent, ["Cargo.toml", "Cargo.lock", "src", "config"]);
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for requested in text.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                let found = path.parent().unwrap().join(requested).canonicalize();
                let found = found.unwrap_or_else(|e| panic!("{}: {requested}: {e}", path.display()));
                let inside = found.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
                assert!(
                    sent.iter().any(|sent| inside.starts_with(sent)),
                    "{} asks for {requested}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn image_health_check_detects_a_running_and_a_stopped_gateway() {
    let all = instructions();
    let check = all.iter().find(|line| line.starts_with("HEALTHCHECK")).unwrap();
    let words: Vec<String> = serde_json::from_str(check.split_once(" CMD ").unwrap().1).unwrap();
    let healthy = |telemetry: SocketAddr| {
        let port = format!("127.0.0.1/{}", telemetry.port());
        let requested: Vec<_> = words.iter().map(|word| word.replace("127.0.0.1/9464", &port)).collect();
        assert_ne!(requested, words, "the test must use another port than the default");
        run(Command::new(&requested[0]).args(&requested[1..]), TIMEOUT).status.success()
    };
    let gateway = RealGateway::with_upstream("127.0.0.1:9".parse().unwrap());
    assert!(healthy(gateway.telemetry));
    // The proxy listener has no such page: its status code is not 200.
    assert!(!healthy(gateway.http1));
    let telemetry = gateway.telemetry;
    drop(gateway);
    assert!(!healthy(telemetry));
}

#[test]
fn compose_file_is_valid_and_its_mounts_exist() {
    let resolved =
        succeed(Command::new("docker-compose").args(["-f", "deploy/compose.yaml", "config"]), TIMEOUT);
    let resolved: Value = serde_saphyr::from_str(&resolved).unwrap();
    let services = resolved["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["app", "gateway", "prometheus"]);
    let mut mounted = Vec::new();
    for volume in services.values().filter_map(|service| service["volumes"].as_array()).flatten() {
        let text = volume.as_str().map(str::to_owned);
        let source = text
            .as_deref()
            .map_or_else(|| volume["source"].as_str().unwrap(), |t| t.split(':').next().unwrap());
        if source.starts_with('/') {
            assert!(Path::new(source).exists(), "{source}");
            mounted.push(Path::new(source).strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_owned());
        }
    }
    assert_eq!(mounted, [Path::new(CONFIG), Path::new("deploy/prometheus")]);

    let config = load_config(CONFIG);
    let gateway = &services["gateway"];
    let grace = gateway["stop_grace_period"].as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap();
    assert!(Duration::from_secs(grace) > config.drain_delay + config.drain, "{grace}");
    let descriptors = gateway["ulimits"]["nofile"].as_u64().unwrap();
    assert!(descriptors as usize >= 2 * config.client.max_connections + 64, "{descriptors}");
    assert_eq!(config.listeners[0].address.tcp().unwrap().port(), 8080, "the published port");
    let server = config.upstreams[0].servers[0].label();
    assert!(services.contains_key(server.split(':').next().unwrap()), "{server}");
}

#[test]
fn prometheus_scrapes_the_telemetry_address_of_the_composed_gateway() {
    let telemetry = load_config(CONFIG).telemetry.address;
    assert!(telemetry.ip().is_unspecified(), "reachable from another container");
    let prometheus: Value = serde_saphyr::from_str(&read_file("deploy/prometheus/prometheus.yml")).unwrap();
    let target = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"][0];
    assert_eq!(target, &format!("gateway:{}", telemetry.port()));
}
