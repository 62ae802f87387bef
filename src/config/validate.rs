//! Builds a [`Config`] from the file, or the list of all its problems.
//!
//! [`load_str`] parses, deserialises and validates. The checks of the top-level sections are here; the other
//! `validate_*` modules have those of larger sections. After a problem every check continues with a default, so that
//! one load reports all problems. No name is resolved and no port is opened.

use std::cell::{OnceCell, RefCell};
use std::path::Path;
use std::sync::Arc;

use super::file::cors::{CorsForm, CorsWord};
use super::file::forms::{Either, Text};
use super::file::route::RouteFile;
use super::file::{ClientFile, ConfigFile, TrustedHeader};
use super::fingerprint::fingerprint;
use super::parse_yaml::Environment;
use super::problem::{Diagnostic, Problem, Problems};
use super::sources::{Sources, read_text};
use super::structure::read_file;
use super::tree::Node;
use super::validate_contracts::Contracts;
use super::validate_errors::{ErrorScope, OverrideTarget};
use super::validator::{Place, Purpose, Validator};
use super::{
    ClientSettings, Config, RateLimit, validate_cors, validate_errors, validate_limits, validate_listen,
    validate_routing, validate_stores, validate_timeouts, validate_upstreams,
};
use crate::contract::Contract;
use crate::http::cors::CorsPolicy;
use crate::http::reported_origin::TrustedHeaders;

/// Loads a configuration from a file. `parallelism` is the value of `workers: auto`, at least 1.
///
/// # Errors
/// All problems; an unreadable file is a single problem.
pub fn load_file(
    path: &Path,
    env: Environment<'_>,
    parallelism: usize,
    purpose: Purpose,
) -> Result<Config, Problems> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|Diagnostic { message, help }| {
        Problems::new(&name, "", vec![Problem::for_file(message, help)])
    })?;
    load(Sources::new(&name, &text, env), parallelism, purpose)
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
    load(Sources::new(name, text, env), parallelism, Purpose::Use)
}

fn load(mut sources: Sources<'_>, parallelism: usize, purpose: Purpose) -> Result<Config, Problems> {
    let tree = sources.read();
    let Sources { files, mut problems, warnings, .. } = sources;
    let Some(mut tree) = tree else { return Err(Problems::of_files(files, problems)) };
    let hash = fingerprint(&tree);
    let Some(file) = read_file(&mut tree, &mut problems) else {
        return Err(Problems::of_files(files, problems));
    };
    let validator = Validator {
        tree: &tree,
        problems: RefCell::new(problems),
        warnings: RefCell::new(warnings),
        files: &files,
        purpose,
        system_trust: OnceCell::new(),
    };
    let config = build_config(&validator.root(), &file, parallelism);
    let (problems, warnings) = (validator.problems.into_inner(), validator.warnings.into_inner());
    match config {
        Some(config) if problems.is_empty() => {
            Ok(Config { warnings: Problems::of_files(files, warnings), hash, ..config })
        }
        Some(_) | None => Err(Problems::of_files(files, problems)),
    }
}

/// Validates section by section. `None` only if the built-in contract is missing: a bug of ours.
fn build_config(root: &Place<'_>, file: &ConfigFile, parallelism: usize) -> Option<Config> {
    if file.version != 1 {
        let message = format!("version {} of the file format is not supported", file.version);
        root.key("version").report(message, "write version: 1");
    }
    let (listen_at, routes_at, errors_at) = (root.key("listen"), root.key("routes"), root.key("errors"));
    let mut listen = validate_listen::listeners(&listen_at, file.listen.as_ref(), file.telemetry.address);
    let client = client(&root.key("client"), &file.client);

    let contracts = Contracts::read(root, file)?;
    let default = contracts.named(root, None);
    let route_contracts: Vec<Arc<Contract>> = routes_at
        .items(file.routes.iter().flatten())
        .map(|(item, route)| contracts.named(&item, route.contract.as_deref()))
        .collect();
    let listener_contracts: Vec<Arc<Contract>> = listen_at
        .items(file.listen.iter().flatten())
        .map(|(item, listener)| contracts.named(&item, listener.contract.as_deref()))
        .collect();
    let upstreams_of_routes = file.routes.iter().flatten().map(|route| route.upstream.as_deref());
    let unrouted = listener_contracts.iter().chain([&default]).map(|contract| (contract, None));
    let targets = route_contracts.iter().zip(upstreams_of_routes).chain(unrouted);
    let targets = targets.filter(|(contract, _)| !contracts.is_stand_in(contract));
    let targets: Vec<OverrideTarget<'_>> =
        targets.map(|(contract, upstream)| (&**contract, upstream)).collect();
    let scope = ErrorScope { contract: &default, targets: &targets };
    let mut global_errors = validate_errors::rules(&errors_at, &file.errors, &scope)?;
    let overrides = std::mem::take(&mut global_errors.overrides);
    let listed = listen.iter_mut().zip(file.listen.iter().flatten()).zip(&listener_contracts);
    for ((listener, _), contract) in listed.filter(|((_, file), _)| file.contract.is_some()) {
        let contract = validate_errors::with_include(&errors_at, contract, global_errors.include);
        listener.errors = Some(super::ErrorSettings { contract, ..global_errors.clone() });
    }
    let upstreams = validate_upstreams::upstreams(root, file);
    let cors = file.cors.as_ref().map(|file| validate_cors::rules(&root.key("cors"), file));
    let stores = root.key("stores").sections(file.stores.as_ref()).map(validate_stores::store).collect();
    let limits: Vec<_> = root
        .key("rate_limits")
        .sections(file.rate_limits.as_ref())
        .map(validate_limits::rate_limit)
        .collect();
    let context = validate_routing::RouteContext {
        upstreams: &upstreams,
        errors: &global_errors,
        cors: cors.as_ref(),
        contracts: &route_contracts,
        declared: &contracts,
        limits: &limits,
        max_body: client.max_body,
        client_certificates: validate_listen::client_certificates(&listen),
    };
    let routes = validate_routing::routes(&routes_at, file.routes.as_ref(), &context);
    validate_limits::check_path_parts(root, &limits, &routes);
    warn_of_unused(root, file);
    validate_timeouts::warn_of_ineffective(root, file);

    Some(Config {
        workers: file.workers.unwrap_or(parallelism.max(1)),
        drain_delay: *file.drain_delay,
        drain: *file.drain,
        listeners: listen,
        telemetry: file.telemetry.clone(),
        log: file.log.clone(),
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
        hash: String::new(),
    })
}

/// Warns of named sections that nothing refers to.
fn warn_of_unused(root: &Place<'_>, file: &ConfigFile) {
    let routes = || file.routes.iter().flatten();
    let limits = file.rate_limits.iter().flat_map(|limits| &limits.0);
    let listeners = file.listen.iter().flatten().filter_map(|listener| listener.contract.as_ref());
    let default = match &file.contract {
        Some(Either::Short(name)) => Some(name),
        Some(Either::Long(_)) | None => None,
    };
    let contracts = routes().filter_map(|route| route.contract.as_ref()).chain(listeners).chain(default);
    let references: [(&str, &str, Vec<&String>); 4] = [
        ("contracts", "no route or listener has it", contracts.collect()),
        ("rate_limits", "no route has it", routes().flat_map(|route| &route.rate_limits).collect()),
        ("stores", "no rate limit has it", limits.filter_map(|(_, limit)| limit.store.as_ref()).collect()),
        ("upstreams", "no route has it", routes().filter_map(|route| route.upstream.as_ref()).collect()),
    ];
    warn_of_unused_cors(root, file);
    for (name, message, references) in references {
        let section = root.key(name);
        for entry in section.node().into_iter().flat_map(Node::entries) {
            if !references.contains(&&entry.key) {
                section.key(&entry.key).warn(message, "remove it, or use its name there");
            }
        }
    }
}

/// Warns of a top-level CORS policy that no route uses although some have no policy.
fn warn_of_unused_cors(root: &Place<'_>, file: &ConfigFile) {
    let uses = |route: &RouteFile| matches!(route.cors, Some(CorsForm::Short(CorsWord::Default)));
    let routes = || file.routes.iter().flatten();
    if file.cors.is_some() && !routes().any(uses) && routes().any(|route| route.cors.is_none()) {
        let message = "no route uses this policy: it applies only to requests that reach no route";
        root.key("cors")
            .warn(message, "write cors: default in each route that uses it, or remove the section");
    }
}

fn client(at: &Place<'_>, file: &ClientFile) -> ClientSettings {
    if *file.ip_header == http::header::FORWARDED {
        // RFC 7239 has a different syntax; this key names a list of bare addresses.
        let message = "the field Forwarded is not a list of addresses";
        at.key("ip_header").report(message, "remove it, and write trusted_headers: [forwarded]");
    }
    ClientSettings {
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

/// The default of `client.max_connections_per_client` is at least this: below it, one browser with several tabs would
/// reach the limit.
const MIN_CONNECTIONS_PER_CLIENT: usize = 100;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
#[path = "validate_tests.rs"]
mod tests;
