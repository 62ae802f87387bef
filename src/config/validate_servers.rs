//! Checks how the servers of an upstream are selected, checked and ejected.

use std::net::{IpAddr, SocketAddr};

use super::file::forms::{Either, Percent, StringOrList};
use super::file::routing::{self, BreakerFile, EjectionFile, HashFile, HealthFile, Off};
use super::problem::{Diagnostic, quoted};
use super::tree::KeyPath;
use super::units::header_name;
use super::validator::Validator;
use crate::upstream::breaker::BreakerSettings;
use crate::upstream::ejection::EjectionSettings;
use crate::upstream::health::{HealthCheck, HealthSettings};
use crate::upstream::settings::{Balance, HashKey, NameSource};

/// A share in whole percent.
pub(super) fn percent(share: Percent) -> u32 {
    // At most 100, by the syntax.
    (*share * 100.0).round() as u32
}

/// Where names are looked up.
pub(super) fn name_source(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &StringOrList,
) -> NameSource {
    const HELP: &str =
        "write dns, system, or the addresses of name servers, for example [10.0.0.53, \"127.0.0.1:8600\"]";
    match file.0.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["dns"] => return NameSource::Dns,
        ["system"] => return NameSource::System,
        [] => validator.report(at, Diagnostic::new("no name server is listed", HELP)),
        _ => {}
    }
    let mut addresses = Vec::new();
    for (index, text) in file.0.iter().enumerate() {
        match name_server(text) {
            Some(address) => addresses.push(address),
            None => {
                let message = format!("{} is not the address of a name server", quoted(text));
                let item = at.item(index);
                let place = if file.0.len() == 1 { at } else { &item };
                validator.report(place, Diagnostic::new(message, HELP));
            }
        }
    }
    NameSource::NameServers(addresses)
}

fn name_server(text: &str) -> Option<SocketAddr> {
    const PORT: u16 = 53;
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT)).or_else(|_| text.parse());
    address.ok().filter(|address| address.port() != 0)
}

/// How a server is selected.
pub(super) fn balance(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &Either<routing::Balance, HashFile>,
) -> Balance {
    match file {
        Either::Short(routing::Balance::RoundRobin) => Balance::RoundRobin,
        Either::Short(routing::Balance::Random) => Balance::Random,
        Either::Short(routing::Balance::LeastBusy) => Balance::LeastBusy,
        Either::Long(HashFile { hash }) => {
            let Some(text) = hash else { return Balance::RoundRobin };
            match hash_key(text) {
                Ok(key) => Balance::Hash(key),
                Err(problem) => {
                    validator.report(&at.key("balance").key("hash"), problem);
                    Balance::RoundRobin
                }
            }
        }
    }
}

fn hash_key(text: &str) -> Result<HashKey, Diagnostic> {
    if text == "client_ip" {
        return Ok(HashKey::ClientIp);
    }
    if let Some(name) = text.strip_prefix("header:") {
        return header_name(name).map(|name| HashKey::Header(name.as_str().to_owned()));
    }
    match text.strip_prefix("cookie:") {
        Some(name) if !name.is_empty() => Ok(HashKey::Cookie(name.to_owned())),
        Some(_) | None => Err(Diagnostic::new(
            format!("{} cannot be hashed", quoted(text)),
            "write client_ip, header:NAME or cookie:NAME, for example hash: client_ip",
        )),
    }
}

/// Active health checks.
pub(super) fn health(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &HealthFile,
) -> Option<HealthSettings> {
    const HELP: &str = "write a path, for example path: /healthz; or tcp: true to check only the connection";
    let at = at.key("health");
    let check = match (&file.path, file.tcp) {
        (Some(_), true) => {
            validator.report(
                &at.key("tcp"),
                Diagnostic::new("a connect check has no path", "remove tcp, or remove path"),
            );
            return None;
        }
        (None, true) => HealthCheck::Connect,
        (Some(path), false) if is_target(path) => {
            HealthCheck::Http { path: path.clone(), expect: file.expect.clone() }
        }
        (Some(path), false) => {
            let message = format!("{} is not a path", quoted(path));
            validator.report(
                &at.key("path"),
                Diagnostic::new(message, "write it as in a URL, for example path: /healthz"),
            );
            return None;
        }
        (None, false) => {
            validator.report(&at, Diagnostic::new("nothing is checked", HELP));
            return None;
        }
    };
    Some(HealthSettings {
        check,
        every: *file.every,
        timeout: *file.timeout,
        fall: file.fall,
        rise: file.rise,
    })
}

fn is_target(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'#')
}

/// Passive ejection; `None` is off.
pub(super) fn ejection(file: &Either<Off, EjectionFile>) -> Option<EjectionSettings> {
    match file {
        Either::Short(Off::Off) => None,
        Either::Long(file) => Some(EjectionSettings {
            consecutive: file.consecutive,
            failure_ratio: percent(file.failure_ratio),
            window: *file.window,
            min_requests: file.min_requests,
            duration: *file.duration,
            max_ejected: percent(file.max_ejected),
        }),
    }
}

/// Which statuses count as failures. Without ejection, the breaker uses the default.
pub(super) fn failure_status(file: &Either<Off, EjectionFile>) -> Vec<u16> {
    match file {
        Either::Short(Off::Off) => vec![502, 503, 504],
        Either::Long(file) => file.failure_status.clone(),
    }
}

/// The circuit breaker.
pub(super) fn breaker(file: &BreakerFile) -> BreakerSettings {
    BreakerSettings {
        failure_ratio: percent(file.failure_ratio),
        window: *file.window,
        min_requests: file.min_requests,
        open_for: *file.open_for,
    }
}
