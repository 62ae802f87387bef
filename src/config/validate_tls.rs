//! Checks the TLS settings and reads the certificates and keys that they refer to.
//!
//! [`crate::tls`] checks their contents; this file reports problems at the key of the configuration.

use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::file::CertificateFile;
use super::file::forms::OneOrMany;
use super::file::routing::UpstreamTlsFile;
use super::problem::{Diagnostic, quoted};
use super::tree::KeyPath;
use super::validator::Validator;
use super::{Certificate, ListenerTls, UpstreamServer};
use crate::tls::cert_verification::{CertVerification, server_name};
use crate::tls::identity::{Identity, IdentityError};
use crate::tls::{TlsConfigError, server_config};

const CERT_HELP: &str = "write a certificate and its key: tls: { cert: gateway.crt, key: gateway.key }";

/// The certificates of a listener; `None` without TLS or after a recorded problem.
pub(crate) fn listener(
    validator: &mut Validator<'_>,
    item: &KeyPath<'_>,
    form: Option<&OneOrMany<CertificateFile>>,
) -> Option<ListenerTls> {
    let at = &item.key("tls");
    let mut loaded = Vec::new();
    match form {
        None => {
            // `tls:` without a value must not become a plaintext listener.
            if validator.tree.keys(item).contains(&"tls") && !validator.tree.any_invalid(at) {
                validator.report(at, Diagnostic::new("the certificate is missing", CERT_HELP));
            }
            return None;
        }
        Some(OneOrMany(files)) => {
            for (index, file) in files.iter().enumerate() {
                loaded.extend(certificate(validator, &at.item(index), file));
            }
        }
    }
    let (certificates, identities): (Vec<_>, Vec<_>) = loaded.into_iter().unzip();
    if identities.is_empty() {
        return None;
    }
    let settings = server_config::build(&identities);
    let settings =
        validator.check(at, settings.map_err(|error| Diagnostic::new(error, "please report it")))?;
    Some(ListenerTls { settings, certificates })
}

fn certificate(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &CertificateFile,
) -> Option<(Certificate, Identity)> {
    let (cert_at, key_at) = (at.key("cert"), at.key("key"));
    let (cert, key) = (validator.read_file(&cert_at, &file.cert), validator.read_file(&key_at, &file.key));
    match Identity::new(&cert?, &key?) {
        Ok(identity) => {
            let validity = identity.validity();
            if let Some(expiry_problem) = validator.now.and_then(|now| validity.problem(now)) {
                let message = format!("the certificate of {} {expiry_problem}", file.cert);
                validator
                    .report(&cert_at, Diagnostic::new(message, "renew it; until then clients reject it"));
            }
            Some((Certificate { file: file.cert.clone(), validity }, identity))
        }
        Err(IdentityError::Certificate(error)) => {
            validator.report(&cert_at, unusable_file(&file.cert, error));
            None
        }
        Err(IdentityError::Key(error)) => {
            validator.report(&key_at, unusable_file(&file.key, error));
            None
        }
    }
}

/// How the certificates of an upstream's servers are verified; `None` without TLS or after a recorded problem. Each
/// server has its index in the file.
pub(crate) fn upstream(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: Option<&UpstreamTlsFile>,
    servers: &mut [(UpstreamServer, usize)],
) -> Option<Arc<CertVerification>> {
    let tls_at = at.key("tls");
    let tls_servers = servers.iter().filter(|(server, _)| server.tls_name.is_some()).count();
    if tls_servers == 0 {
        if file.is_some() && !servers.is_empty() {
            let help = "write the servers as https://host:port, or remove tls";
            validator.report(&tls_at, Diagnostic::new("no server of this upstream uses TLS", help));
        }
        return None;
    }
    if let Some((server, index)) = servers.iter().find(|(server, _)| server.tls_name.is_none()) {
        let message = format!("{} does not use TLS, but other servers of this upstream do", server.label());
        let help = "use https:// for all of them, or move it to another upstream";
        validator.report(&at.key("servers").item(*index), Diagnostic::new(message, help));
    }
    let sni = file.and_then(|file| file.sni.as_deref());
    if let Some(name) = sni.and_then(|sni| validator.check(&tls_at.key("sni"), certificate_name(sni))) {
        for (server, _) in servers {
            server.tls_name = Some(name.clone());
        }
    }
    let ca_at = tls_at.key("ca");
    let ca = file.and_then(|file| file.ca.as_deref());
    if file.is_some_and(|file| !file.verify) {
        if ca.is_some() {
            let message = "ca has no effect with verify: false";
            validator.report(&ca_at, Diagnostic::new(message, "remove verify: false, or ca"));
        }
        return validator.check(&tls_at, CertVerification::disabled().map_err(to_diagnostic)).map(Arc::new);
    }
    match ca {
        Some(path) => {
            let contents = validator.read_file(&ca_at, path)?;
            let verification =
                CertVerification::from_pem(&contents).map_err(|error| unusable_file(path, error));
            validator.check(&ca_at, verification).map(Arc::new)
        }
        None => {
            if validator.system_trust.is_none() {
                let verification = CertVerification::system_roots().map_err(to_diagnostic);
                validator.system_trust = validator.check(&at.key("servers"), verification).map(Arc::new);
            }
            validator.system_trust.clone()
        }
    }
}

/// The contents of a PEM file with valid authorities.
pub(crate) fn read_ca(validator: &mut Validator<'_>, at: &KeyPath<'_>, path: &str) -> Option<Vec<u8>> {
    let contents = validator.read_file(at, path)?;
    let verification = CertVerification::from_pem(&contents).map_err(|error| unusable_file(path, error));
    validator.check(at, verification).map(|_| contents)
}

/// The name that the certificate of a server must be valid for.
///
/// # Errors
/// The name cannot appear in a certificate.
pub(crate) fn certificate_name(text: &str) -> Result<ServerName<'static>, Diagnostic> {
    server_name(text)
        .map_err(|error| Diagnostic::new(format!("{}: {}", quoted(text), error.message), error.help))
}

fn to_diagnostic(error: TlsConfigError) -> Diagnostic {
    Diagnostic::new(error.message, error.help)
}

fn unusable_file(path: &str, error: TlsConfigError) -> Diagnostic {
    Diagnostic::new(format!("{path} cannot be used: {}", error.message), error.help)
}
