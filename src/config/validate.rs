//! Builds a [`Config`] from the file, or the list of all its problems.
//!
//! [`load_str`] parses, deserialises and validates. The checks of the top-level sections are here; the other
//! `validate_*` modules have those of larger sections. After a problem every check continues with a default, so that
//! one load reports all problems. No name is resolved and no port is opened.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderName;

use super::deserialize::deserialize;
use super::file::forms::SizeText;
use super::file::{ClientFile, ConfigFile, ListenFile, LogFile};
use super::parse_yaml::{Environment, parse};
use super::problem::{Diagnostic, Problem, Problems, quoted};
use super::tree::KeyPath;
use super::validator::{Validator, header_name};
use super::{
    ClientLimits, Config, Listener, LogConfig, RateLimit, TelemetryConfig, units, validate_cors,
    validate_errors, validate_limits, validate_routing, validate_stores, validate_tls,
};
use crate::http::cors::CorsPolicy;

/// Loads a configuration from a file. `parallelism` is the value of `workers: auto`, at least 1.
///
/// # Errors
/// All problems; an unreadable file is a single problem.
pub fn load_file(path: &Path, variables: Environment<'_>, parallelism: usize) -> Result<Config, Problems> {
    from_file(path, variables, parallelism, None)
}

/// Like [`load_file`], but certificates must be valid at `now`. `run` accepts an expired certificate, because serving
/// it is better than not serving at all.
///
/// # Errors
/// Like [`load_file`].
pub fn check_file(
    path: &Path,
    env: Environment<'_>,
    parallelism: usize,
    now: SystemTime,
) -> Result<Config, Problems> {
    from_file(path, env, parallelism, Some(now))
}

fn from_file(
    path: &Path,
    variables: Environment<'_>,
    parallelism: usize,
    now: Option<SystemTime>,
) -> Result<Config, Problems> {
    let name = path.display().to_string();
    let read_problem = |reason: &str, help: &str| {
        Problems::for_file(&name, Problem::for_file(format!("cannot read {name}: {reason}"), help))
    };
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => read_problem(
            "no such file",
            "pass the path of a configuration file, or create one with `statusquo init`",
        ),
        std::io::ErrorKind::PermissionDenied => {
            read_problem("permission denied", "grant read access to the user that runs statusquo")
        }
        std::io::ErrorKind::IsADirectory => {
            read_problem("it is a directory", "pass the path of a file in it")
        }
        _ => read_problem(&error.to_string(), "pass the path of a readable file"),
    })?;
    if bytes.len() > MAX_CONFIG_SIZE {
        return Err(read_problem("it is larger than 8 MiB", "pass the path of a configuration file"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => from_text(&name, &text, variables, parallelism, now),
        Err(error) => {
            let valid_bytes = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            let line = valid_bytes.filter(|byte| **byte == b'\n').count() + 1;
            Err(read_problem(&format!("line {line} is not UTF-8"), "save it as UTF-8"))
        }
    }
}

/// Loads a configuration from its text. `name` is the file name in problems; relative paths start at its directory.
///
/// # Errors
/// All problems, in the order of the file.
pub fn load_str(
    name: &str,
    text: &str,
    env: Environment<'_>,
    parallelism: usize,
) -> Result<Config, Problems> {
    from_text(name, text, env, parallelism, None)
}

fn from_text(
    name: &str,
    text: &str,
    env: Environment<'_>,
    parallelism: usize,
    now: Option<SystemTime>,
) -> Result<Config, Problems> {
    let mut problems = Vec::new();
    let mut tree = match parse(text, env, &mut problems) {
        Ok(tree) => tree,
        Err(problem) => {
            problems.push(problem);
            return Err(Problems::new(name, text, problems));
        }
    };
    let file: ConfigFile = deserialize(&mut tree, &mut problems);
    let base_dir = Path::new(name).parent().unwrap_or(Path::new(""));
    let mut validator =
        Validator { tree: &tree, problems, warnings: Vec::new(), base_dir, now, system_trust: None };
    match build_config(&mut validator, &file, parallelism) {
        Some(mut config) if validator.problems.is_empty() => {
            config.warnings = Problems::new(name, text, validator.warnings);
            Ok(config)
        }
        Some(_) | None => Err(Problems::new(name, text, validator.problems)),
    }
}

/// Validates section by section. `None` only without a contract, which is recorded as a problem.
fn build_config(validator: &mut Validator<'_>, file: &ConfigFile, parallelism: usize) -> Option<Config> {
    let root = KeyPath::Root;
    if let Some(version) = file.version.filter(|version| *version != 1) {
        let message = format!("version {version} of the file format is not supported");
        validator.report(&root.key("version"), Diagnostic::new(message, "write version: 1"));
    }
    let workers = workers(validator, file.workers.as_deref(), parallelism);
    let drain_delay = validator.duration_or_zero(&root.key("drain_delay"), file.drain_delay.as_ref());
    let drain = validator.duration_or_zero(&root.key("drain"), file.drain.as_ref());
    let telemetry = telemetry(validator, file);
    let listen = listeners(validator, file.listen.as_ref(), &telemetry);
    let client = client(validator, file.client.as_ref().unwrap_or(&ClientFile::default()));

    let contract = validate_errors::contract(validator, file.contract.as_ref());
    let upstream_names = validator.tree.keys(&root.key("upstreams"));
    let global_errors = validate_errors::settings(
        validator,
        &root.key("errors"),
        file.errors.as_ref(),
        contract.as_ref(),
        &upstream_names,
    );
    let upstreams = validate_routing::upstreams(validator, file.upstreams.as_ref(), file.timeouts.as_ref());
    let cors = validate_cors::top_level(validator, file.cors.as_ref());
    let stores = validate_stores::stores(validator, file.stores.as_ref());
    let limits = validate_limits::rate_limits(validator, file.rate_limits.as_ref(), &stores);
    let context = validate_routing::RouteContext {
        upstreams: &upstreams,
        errors: &global_errors,
        cors: cors.as_ref(),
        contract: contract.as_ref(),
        upstream_names: &upstream_names,
        limits: &limits,
        max_body: client.max_body,
    };
    let routes = validate_routing::routes(validator, file.routes.as_ref(), &context);

    Some(Config {
        workers,
        drain_delay: drain_delay.unwrap_or(Duration::from_secs(5)),
        drain: drain.unwrap_or(Duration::from_secs(30)),
        listeners: listen,
        telemetry,
        log: log(file.log.as_ref()),
        client,
        contract: Arc::new(contract?),
        errors: global_errors.rules(Vec::new()),
        overrides: global_errors.overrides,
        cors: cors.map(|rules| Arc::new(CorsPolicy::new(rules))),
        upstreams: upstreams.into_iter().map(|upstream| upstream.upstream).collect(),
        // A rule without settings is recorded as a problem.
        rate_limits: limits
            .into_iter()
            .filter_map(|limit| Some(RateLimit { name: limit.name, settings: limit.settings? }))
            .collect(),
        stores: stores.into_iter().filter_map(|store| store.settings).collect(),
        rate_limit_headers: file.rate_limit_headers.unwrap_or_default(),
        routes,
        warnings: Problems::default(),
    })
}

fn workers(validator: &mut Validator<'_>, text: Option<&str>, parallelism: usize) -> usize {
    let parallelism = parallelism.max(1);
    let root = KeyPath::Root;
    let at = root.key("workers");
    match text {
        None | Some("auto") => parallelism,
        Some(text) => match text.parse::<u64>() {
            Ok(number) if units::is_digits(text) => {
                let number = validator.number(&at, Some(number), 1..=1024);
                number.and_then(|number| usize::try_from(number).ok()).unwrap_or(parallelism)
            }
            Ok(_) | Err(_) => {
                let message = format!("{} is not a number of threads", quoted(text));
                validator.report(&at, Diagnostic::new(message, "expected auto or 1 to 1024"));
                parallelism
            }
        },
    }
}

fn telemetry(validator: &mut Validator<'_>, file: &ConfigFile) -> TelemetryConfig {
    let root = KeyPath::Root;
    let section = root.key("telemetry");
    let at = section.key("address");
    let text = file.telemetry.as_ref().and_then(|telemetry| telemetry.address.as_deref());
    let address = text.and_then(|text| validator.check(&at, units::listen_address(text)));
    TelemetryConfig { address: address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9464))) }
}

fn listeners(
    validator: &mut Validator<'_>,
    files: Option<&Vec<ListenFile>>,
    telemetry: &TelemetryConfig,
) -> Vec<Listener> {
    let root = KeyPath::Root;
    let list = root.key("listen");
    match files {
        None => validator.missing(&list, "add an address: listen: [{ address: \":8080\" }]"),
        Some(files) if files.is_empty() && !validator.tree.any_invalid(&list) => validator.report(
            &list,
            Diagnostic::new("the list is empty", "add an address: listen: [{ address: \":8080\" }]"),
        ),
        Some(_) => {}
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for (index, file) in files.into_iter().flatten().enumerate() {
        let item = list.item(index);
        let at = item.key("address");
        let Some(text) = &file.address else {
            validator.missing(&at, "write an address, for example address: \":8080\"");
            continue;
        };
        let Some(address) = validator.check(&at, units::listen_address(text)) else { continue };
        if addresses_conflict(address, telemetry.address) {
            let message = format!("{address} is also the telemetry address");
            validator.report(&at, Diagnostic::new(message, "use a different port for one of them"));
        } else if listeners.iter().any(|listener| addresses_conflict(listener.address, address)) {
            let message = format!("{address} is listed twice");
            validator.report(&at, Diagnostic::new(message, "remove one of them, or use a different port"));
        }
        let h2c = file.h2c.unwrap_or(false);
        let tls = validate_tls::listener(validator, &item, file.tls.as_ref());
        if h2c && file.tls.is_some() {
            let diagnostic =
                Diagnostic::new("h2c is HTTP/2 without TLS", "remove it: with TLS, clients negotiate HTTP/2");
            validator.report(&item.key("h2c"), diagnostic);
        }
        listeners.push(Listener { address, h2c, tls });
    }
    listeners
}

/// Whether binding both would fail. Port 0 is a different port each time.
fn addresses_conflict(a: SocketAddr, b: SocketAddr) -> bool {
    let same_family = a.is_ipv4() == b.is_ipv4();
    let same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_family && same_host
}

fn log(file: Option<&LogFile>) -> LogConfig {
    LogConfig {
        format: file.and_then(|file| file.format).unwrap_or_default(),
        level: file.and_then(|file| file.level).unwrap_or_default(),
        requests: file.and_then(|file| file.requests).unwrap_or_default(),
    }
}

fn client(validator: &mut Validator<'_>, file: &ClientFile) -> ClientLimits {
    let root = KeyPath::Root;
    let at = root.key("client");
    let seconds = Duration::from_secs;
    let header_timeout = validator.duration(&at.key("header_timeout"), file.header_timeout.as_ref());
    let body_timeout = validator.duration(&at.key("body_timeout"), file.body_timeout.as_ref());
    let write_timeout = validator.duration(&at.key("write_timeout"), file.write_timeout.as_ref());
    let idle_timeout = validator.duration(&at.key("idle_timeout"), file.idle_timeout.as_ref());
    let ipv6_prefix = validator.number(&at.key("ipv6_prefix"), file.ipv6_prefix, 1..=128);
    let max_connections = validator.number(&at.key("max_connections"), file.max_connections, 1..=10_000_000);
    let max_header_bytes = validator.size(
        &at.key("max_header_bytes"),
        file.max_header_bytes.as_ref(),
        1024..=65_536,
        "use 1KiB to 64KiB",
    );
    let max_body = validator.size(&at.key("max_body"), file.max_body.as_ref(), 0..=u64::MAX, "");
    let min_body_rate = match &file.min_body_rate {
        Some(SizeText(word)) if word == "off" => Some(0),
        rate => validator.size(
            &at.key("min_body_rate"),
            rate.as_ref(),
            1..=u64::MAX,
            "use off to disable the minimum rate",
        ),
    };
    ClientLimits {
        trusted_proxies: validator.networks(&at.key("trusted_proxies"), file.trusted_proxies.as_ref()),
        ip_header: ip_header(validator, &at.key("ip_header"), file.ip_header.as_deref()),
        ipv6_prefix: ipv6_prefix.and_then(|bits| u8::try_from(bits).ok()).unwrap_or(64),
        header_timeout: header_timeout.unwrap_or(seconds(10)),
        body_timeout: body_timeout.unwrap_or(seconds(30)),
        min_body_rate: min_body_rate.unwrap_or(512),
        write_timeout: write_timeout.unwrap_or(seconds(30)),
        idle_timeout: idle_timeout.unwrap_or(seconds(75)),
        max_header_bytes: max_header_bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(32 << 10),
        max_body: max_body.unwrap_or(10 << 20),
        max_connections: max_connections.and_then(|number| usize::try_from(number).ok()).unwrap_or(20_000),
    }
}

fn ip_header(validator: &mut Validator<'_>, at: &KeyPath<'_>, text: Option<&str>) -> HeaderName {
    let default = HeaderName::from_static("x-forwarded-for");
    let Some(name) = text.and_then(|text| validator.check(at, header_name(text))) else { return default };
    if name == http::header::FORWARDED {
        // RFC 7239 has a different syntax; only a list of bare addresses is parsed.
        let diagnostic = Diagnostic::new("the field Forwarded is not supported yet", "use x-forwarded-for");
        validator.report(at, diagnostic);
        return default;
    }
    name
}

/// Far above any real configuration; it prevents a wrong path from filling the memory.
const MAX_CONFIG_SIZE: usize = 8 << 20;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
#[path = "validate_tests.rs"]
mod tests;
