//! Builds a [`Config`] from the file, or the list of all its problems.
//!
//! [`load_str`] parses, deserialises and validates. The checks of the top-level sections are here; the other
//! `validate_*` modules have those of larger sections. After a problem every check continues with a default, so that
//! one load reports all problems. No name is resolved and no port is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::file::forms::Text;
use super::file::{ClientFile, ConfigFile, TrustedHeader};
use super::parse_yaml::Environment;
use super::problem::{Diagnostic, Problem, Problems};
use super::sources::{Sources, read_text};
use super::structure::read_file;
use super::tree::KeyPath;
use super::validate_contracts::Contracts;
use super::validate_errors::{ErrorScope, OverrideTarget};
use super::validator::Validator;
use super::{
    ClientLimits, Config, LogConfig, RateLimit, TelemetryConfig, validate_cors, validate_errors,
    validate_limits, validate_listen, validate_routing, validate_stores, validate_upstreams,
};
use crate::contract::Contract;
use crate::http::cors::CorsPolicy;
use crate::http::reported_origin::TrustedHeaders;

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
    match read_text(path) {
        Ok(text) => from_text(&name, &text, variables, parallelism, now),
        Err(Diagnostic { message, help }) => Err(Problems::for_file(&name, Problem::for_file(message, help))),
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
    let mut sources = Sources::new(name, text, env);
    let tree = sources.read();
    let Sources { files, mut problems, warnings, .. } = sources;
    let Some(mut tree) = tree else { return Err(Problems::of_files(files, problems)) };
    let Some(file) = read_file(&mut tree, &mut problems) else {
        return Err(Problems::of_files(files, problems));
    };
    let mut validator = Validator { tree: &tree, problems, warnings, files: &files, now, system_trust: None };
    let config = build_config(&mut validator, &file, parallelism);
    let Validator { problems, warnings, .. } = validator;
    match config {
        Some(mut config) if problems.is_empty() => {
            config.warnings = Problems::of_files(files, warnings);
            Ok(config)
        }
        Some(_) | None => Err(Problems::of_files(files, problems)),
    }
}

/// Validates section by section. `None` only if the built-in contract is missing: a bug of ours.
fn build_config(validator: &mut Validator<'_>, file: &ConfigFile, parallelism: usize) -> Option<Config> {
    let root = KeyPath::Root;
    if file.version != 1 {
        let message = format!("version {} of the file format is not supported", file.version);
        validator.report(&root.key("version"), Diagnostic::new(message, "write version: 1"));
    }
    let telemetry = TelemetryConfig { address: *file.telemetry.address };
    let mut listen = validate_listen::listeners(validator, file.listen.as_ref(), &telemetry);
    let client = client(validator, &file.client);

    let contracts = Contracts::read(validator, file)?;
    let default = contracts.named(validator, &root, None);
    let route_contracts =
        contracts_of(validator, &contracts, "routes", file.routes.iter().flatten(), |route| {
            route.contract.as_deref()
        });
    let listener_contracts =
        contracts_of(validator, &contracts, "listen", file.listen.iter().flatten(), |listener| {
            listener.contract.as_deref()
        });
    let upstreams_of_routes = file.routes.iter().flatten().map(|route| route.upstream.as_deref());
    let mut targets: Vec<OverrideTarget<'_>> = route_contracts
        .iter()
        .zip(upstreams_of_routes)
        .map(|(contract, upstream)| OverrideTarget { contract: Arc::clone(contract), upstream })
        .collect();
    targets.extend(
        listener_contracts
            .iter()
            .chain([&default])
            .map(|contract| OverrideTarget { contract: Arc::clone(contract), upstream: None }),
    );
    let errors_at = root.key("errors");
    let scope = ErrorScope { contract: &default, targets: &targets };
    let mut global_errors = validate_errors::rules(validator, &errors_at, &file.errors, &scope)?;
    let overrides = std::mem::take(&mut global_errors.overrides);
    let include = global_errors.include;
    let listed = listen.iter_mut().zip(file.listen.iter().flatten()).zip(&listener_contracts);
    for ((listener, _), contract) in listed.filter(|((_, file), _)| file.contract.is_some()) {
        let contract = validate_errors::with_include(validator, &errors_at, contract, include);
        listener.errors = Some(super::ErrorRules { contract, ..global_errors.clone() });
    }
    let upstreams = validate_upstreams::upstreams(validator, file);
    let cors = validate_cors::top_level(validator, file.cors.as_ref());
    let stores = validate_stores::stores(validator, file.stores.as_ref());
    let limits = validate_limits::rate_limits(validator, file.rate_limits.as_ref());
    let context = validate_routing::RouteContext {
        upstreams: &upstreams,
        errors: &global_errors,
        cors: cors.as_ref(),
        contracts: &route_contracts,
        limits: &limits,
        max_body: client.max_body,
    };
    let routes = validate_routing::routes(validator, file.routes.as_ref(), &context);

    Some(Config {
        workers: file.workers.unwrap_or(parallelism.max(1)),
        drain_delay: *file.drain_delay,
        drain: *file.drain,
        listeners: listen,
        telemetry,
        log: LogConfig {
            format: file.log.format,
            level: file.log.level,
            requests: file.log.requests,
            evidence: usize::try_from(*file.log.evidence).unwrap_or(usize::MAX),
        },
        client,
        contract: default,
        errors: global_errors,
        overrides,
        cors: cors.map(|rules| Arc::new(CorsPolicy::new(rules))),
        upstreams,
        // A rule without settings is recorded as a problem.
        rate_limits: limits
            .into_iter()
            .filter_map(|limit| Some(RateLimit { name: limit.name, settings: limit.settings? }))
            .collect(),
        stores,
        rate_limit_headers: file.rate_limit_headers,
        routes,
        warnings: Problems::default(),
    })
}

/// The contract of every item of a list: the one that it names, else the default.
fn contracts_of<'f, T: 'f>(
    validator: &mut Validator<'_>,
    contracts: &Contracts,
    list: &str,
    items: impl Iterator<Item = &'f T>,
    name: impl Fn(&'f T) -> Option<&'f str>,
) -> Vec<Arc<Contract>> {
    let root = KeyPath::Root;
    let list = root.key(list);
    items
        .enumerate()
        .map(|(index, item)| contracts.named(validator, &list.item(index).key("contract"), name(item)))
        .collect()
}

fn client(validator: &mut Validator<'_>, file: &ClientFile) -> ClientLimits {
    let root = KeyPath::Root;
    if *file.ip_header == http::header::FORWARDED {
        // RFC 7239 has a different syntax; this key names a list of bare addresses.
        let diagnostic = Diagnostic::new(
            "the field Forwarded is not a list of addresses",
            "remove it, and write trusted_headers: [forwarded]",
        );
        validator.report(&root.key("client").key("ip_header"), diagnostic);
    }
    ClientLimits {
        trusted_proxies: Text::values(&file.trusted_proxies),
        ip_header: file.ip_header.0.clone(),
        trusted_headers: TrustedHeaders {
            forwarded_for: file.trusted_headers.contains(&TrustedHeader::XForwardedFor),
            forwarded_proto: file.trusted_headers.contains(&TrustedHeader::XForwardedProto),
            forwarded_host: file.trusted_headers.contains(&TrustedHeader::XForwardedHost),
            forwarded_port: file.trusted_headers.contains(&TrustedHeader::XForwardedPort),
            forwarded: file.trusted_headers.contains(&TrustedHeader::Forwarded),
        },
        ipv6_prefix: file.ipv6_prefix,
        header_timeout: *file.header_timeout,
        body_timeout: *file.body_timeout,
        min_body_rate: file.min_body_rate.unwrap_or(0),
        write_timeout: *file.write_timeout,
        idle_timeout: *file.idle_timeout,
        max_header_bytes: usize::try_from(*file.max_header_bytes).unwrap_or(usize::MAX),
        max_body: *file.max_body,
        max_connections: file.max_connections,
        max_connections_per_client: file
            .max_connections_per_client
            .unwrap_or_else(|| (file.max_connections / 10).max(MIN_CONNECTIONS_PER_CLIENT)),
    }
}

/// The default of `client.max_connections_per_client` is at least this: below it, one browser with several tabs would reach
/// the limit.
const MIN_CONNECTIONS_PER_CLIENT: usize = 100;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
#[path = "validate_tests.rs"]
mod tests;
