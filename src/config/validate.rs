//! From the file to a [`Config`], or to everything that is wrong with it.
//!
//! [`load_str`] is the whole way: parse, read, check. The checks of the top-level sections are here, those of contract
//! and errors in [`super::validate_errors`], those of `cors` in [`super::validate_cors`], those of rate limits in
//! [`super::validate_limits`], those of stores in [`super::validate_stores`], those of certificates in [`super::validate_tls`], those of upstreams and routes in
//! [`super::validate_routing`]. Every check goes on with a
//! default after a problem, so that one loading tells all of them. No name is resolved and no port opened.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderName;

use super::checker::{Checker, field_name};
use super::error::{Problem, Problems, Refusal, quoted};
use super::file::forms::SizeText;
use super::file::{ClientFile, ConfigFile, ListenFile, LogFile};
use super::parse::{Environment, parse};
use super::read::read;
use super::tree::Place;
use super::{
    Client, Config, Listener, Log, RateLimit, Telemetry, units, validate_cors, validate_errors,
    validate_limits, validate_routing, validate_stores, validate_tls,
};
use crate::protocol::cors::CorsPolicy;

/// Loads a configuration from a file. `parallelism` is what `workers: auto` means, at least 1.
///
/// # Errors
/// Every problem at once; a file that cannot be read is one sentence.
pub fn load_file(path: &Path, env: Environment<'_>, parallelism: usize) -> Result<Config, Problems> {
    from_file(path, env, parallelism, None)
}

/// The same, and certificates must be valid `now`. An expired one is served rather than nothing at all, so only who asks
/// whether the configuration is good is refused for it.
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
    env: Environment<'_>,
    parallelism: usize,
    now: Option<SystemTime>,
) -> Result<Config, Problems> {
    let name = path.display().to_string();
    let unreadable = |reason: &str, remedy: &str| {
        Problems::of_file(&name, Problem::of_file(format!("cannot read {name}: {reason}"), remedy))
    };
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            unreadable("no such file", "pass the path of a configuration, or write one with `statusquo init`")
        }
        std::io::ErrorKind::PermissionDenied => {
            unreadable("permission denied", "let the user that runs statusquo read it")
        }
        std::io::ErrorKind::IsADirectory => {
            unreadable("it is a directory", "pass the path of the file in it")
        }
        _ => unreadable(&error.to_string(), "pass the path of a readable file"),
    })?;
    if bytes.len() > LARGEST_FILE {
        return Err(unreadable("it is larger than 8 MiB", "pass the path of a configuration"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => from_text(&name, &text, env, parallelism, now),
        Err(error) => {
            let good = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            let line = good.filter(|byte| **byte == b'\n').count() + 1;
            Err(unreadable(&format!("line {line} is not UTF-8"), "save it as UTF-8"))
        }
    }
}

/// Loads a configuration from its text; `name` is what problems call it, and relative paths begin at its folder.
///
/// # Errors
/// Every problem at once, in the order of the file.
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
    let file: ConfigFile = read(&mut tree, &mut problems);
    let folder = Path::new(name).parent().unwrap_or(Path::new(""));
    let mut checker = Checker { tree: &tree, problems, warnings: Vec::new(), folder, now, system: None };
    match config(&mut checker, &file, parallelism) {
        Some(mut config) if checker.problems.is_empty() => {
            config.warnings = Problems::new(name, text, checker.warnings);
            Ok(config)
        }
        Some(_) | None => Err(Problems::new(name, text, checker.problems)),
    }
}

/// Everything, section by section. `None` only when there is no contract, which is a problem on record.
fn config(checker: &mut Checker<'_>, file: &ConfigFile, parallelism: usize) -> Option<Config> {
    let root = Place::Root;
    if let Some(version) = file.version.filter(|version| *version != 1) {
        let what = format!("version {version} of the file format is not known");
        checker.refuse(&root.key("version"), Refusal::new(what, "write version: 1"));
    }
    let workers = workers(checker, file.workers.as_deref(), parallelism);
    let drain_delay = checker.time_or_zero(&root.key("drain_delay"), file.drain_delay.as_ref());
    let drain = checker.time_or_zero(&root.key("drain"), file.drain.as_ref());
    let telemetry = telemetry(checker, file);
    let listen = listeners(checker, file.listen.as_ref(), &telemetry);
    let client = client(checker, file.client.as_ref().unwrap_or(&ClientFile::default()));

    let contract = validate_errors::contract(checker, file.contract.as_ref());
    let names = checker.tree.keys(&root.key("upstreams"));
    let global = validate_errors::settings(
        checker,
        &root.key("errors"),
        file.errors.as_ref(),
        contract.as_ref(),
        &names,
    );
    let upstreams = validate_routing::upstreams(checker, file.upstreams.as_ref(), file.timeouts.as_ref());
    let cors = validate_cors::top(checker, file.cors.as_ref());
    let stores = validate_stores::stores(checker, file.stores.as_ref());
    let limits = validate_limits::rate_limits(checker, file.rate_limits.as_ref(), &stores);
    let scope = validate_routing::Scope {
        upstreams: &upstreams,
        errors: &global,
        cors: cors.as_ref(),
        contract: contract.as_ref(),
        names: &names,
        limits: &limits,
        max_body: client.max_body,
    };
    let routes = validate_routing::routes(checker, file.routes.as_ref(), &scope);

    Some(Config {
        workers,
        drain_delay: drain_delay.unwrap_or(Duration::from_secs(5)),
        drain: drain.unwrap_or(Duration::from_secs(30)),
        listen,
        telemetry,
        log: log(file.log.as_ref()),
        client,
        contract: Arc::new(contract?),
        errors: global.rules(Vec::new()),
        overrides: global.overrides,
        cors: cors.map(|rules| Arc::new(CorsPolicy::new(rules))),
        upstreams: upstreams.into_iter().map(|upstream| upstream.checked).collect(),
        // All of them, or there is a problem on record.
        rate_limits: limits
            .into_iter()
            .filter_map(|limit| Some(RateLimit { name: limit.name, settings: limit.settings? }))
            .collect(),
        stores: stores.into_iter().filter_map(|store| store.settings).collect(),
        limit_headers: file.rate_limit_headers.unwrap_or_default(),
        routes,
        warnings: Problems::default(),
    })
}

fn workers(checker: &mut Checker<'_>, text: Option<&str>, parallelism: usize) -> usize {
    let parallelism = parallelism.max(1);
    let root = Place::Root;
    let at = root.key("workers");
    match text {
        None | Some("auto") => parallelism,
        Some(text) => match text.parse::<u64>() {
            Ok(number) if units::is_digits(text) => {
                let number = checker.number(&at, Some(number), 1..=1024);
                number.and_then(|number| usize::try_from(number).ok()).unwrap_or(parallelism)
            }
            Ok(_) | Err(_) => {
                let what = format!("{} is not a number of threads", quoted(text));
                checker.refuse(&at, Refusal::new(what, "expected auto, or 1 to 1024"));
                parallelism
            }
        },
    }
}

fn telemetry(checker: &mut Checker<'_>, file: &ConfigFile) -> Telemetry {
    let root = Place::Root;
    let section = root.key("telemetry");
    let at = section.key("address");
    let text = file.telemetry.as_ref().and_then(|telemetry| telemetry.address.as_deref());
    let address = text.and_then(|text| checker.accept(&at, units::listen_address(text)));
    Telemetry { address: address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9464))) }
}

fn listeners(
    checker: &mut Checker<'_>,
    files: Option<&Vec<ListenFile>>,
    telemetry: &Telemetry,
) -> Vec<Listener> {
    let root = Place::Root;
    let list = root.key("listen");
    match files {
        None => checker.missing(&list, "say where clients connect: listen: [{ address: \":8080\" }]"),
        Some(files) if files.is_empty() && !checker.tree.any_refused(&list) => checker.refuse(
            &list,
            Refusal::new("the list is empty", "say where clients connect: listen: [{ address: \":8080\" }]"),
        ),
        Some(_) => {}
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for (index, file) in files.into_iter().flatten().enumerate() {
        let item = list.item(index);
        let at = item.key("address");
        let Some(text) = &file.address else {
            checker.missing(&at, "write an address, for example \":8080\"");
            continue;
        };
        let Some(address) = checker.accept(&at, units::listen_address(text)) else { continue };
        if collide(address, telemetry.address) {
            let what = format!("{address} is the address of telemetry too");
            checker.refuse(&at, Refusal::new(what, "give one of them another port"));
        } else if listeners.iter().any(|listener| collide(listener.address, address)) {
            let what = format!("{address} is listened on twice");
            checker.refuse(&at, Refusal::new(what, "keep one of the two, or change a port"));
        }
        let h2c = file.h2c.unwrap_or(false);
        let tls = validate_tls::listener(checker, &item, file.tls.as_ref());
        if h2c && file.tls.is_some() {
            let refusal = Refusal::new(
                "h2c is HTTP/2 without TLS",
                "remove it: with tls, clients choose HTTP/2 by themselves",
            );
            checker.refuse(&item.key("h2c"), refusal);
        }
        listeners.push(Listener { address, h2c, tls });
    }
    listeners
}

/// Whether the system would refuse to listen on both. Port 0 is another port each time.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_family = a.is_ipv4() == b.is_ipv4();
    let same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_family && same_host
}

fn log(file: Option<&LogFile>) -> Log {
    Log {
        format: file.and_then(|file| file.format).unwrap_or_default(),
        level: file.and_then(|file| file.level).unwrap_or_default(),
        requests: file.and_then(|file| file.requests).unwrap_or_default(),
    }
}

fn client(checker: &mut Checker<'_>, file: &ClientFile) -> Client {
    let root = Place::Root;
    let at = root.key("client");
    let seconds = Duration::from_secs;
    let header_timeout = checker.time(&at.key("header_timeout"), file.header_timeout.as_ref());
    let body_timeout = checker.time(&at.key("body_timeout"), file.body_timeout.as_ref());
    let write_timeout = checker.time(&at.key("write_timeout"), file.write_timeout.as_ref());
    let idle_timeout = checker.time(&at.key("idle_timeout"), file.idle_timeout.as_ref());
    let ipv6_prefix = checker.number(&at.key("ipv6_prefix"), file.ipv6_prefix, 1..=128);
    let max_connections = checker.number(&at.key("max_connections"), file.max_connections, 1..=10_000_000);
    let max_header_bytes = checker.size(
        &at.key("max_header_bytes"),
        file.max_header_bytes.as_ref(),
        1024..=65_536,
        "write 1KiB to 64KiB",
    );
    let max_body = checker.size(&at.key("max_body"), file.max_body.as_ref(), 0..=u64::MAX, "");
    let min_body_rate = match &file.min_body_rate {
        Some(SizeText(word)) if word == "off" => Some(0),
        rate => checker.size(
            &at.key("min_body_rate"),
            rate.as_ref(),
            1..=u64::MAX,
            "write off to have no least rate",
        ),
    };
    Client {
        trusted_proxies: checker.networks(&at.key("trusted_proxies"), file.trusted_proxies.as_ref()),
        ip_header: ip_header(checker, &at.key("ip_header"), file.ip_header.as_deref()),
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

fn ip_header(checker: &mut Checker<'_>, at: &Place<'_>, text: Option<&str>) -> HeaderName {
    let default = HeaderName::from_static("x-forwarded-for");
    let Some(name) = text.and_then(|text| checker.accept(at, field_name(text))) else { return default };
    if name == http::header::FORWARDED {
        // RFC 7239 has a syntax of its own; what is read is a list of bare addresses.
        let refusal = Refusal::new("the syntax of Forwarded is not supported yet", "use x-forwarded-for");
        checker.refuse(at, refusal);
        return default;
    }
    name
}

/// Far above any configuration a person keeps; it only stops a wrong path from filling the memory.
const LARGEST_FILE: usize = 8 << 20;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
#[path = "validate_tests.rs"]
mod tests;
