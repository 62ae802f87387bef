//! Checks what the file says about TLS, and reads the certificates and keys that it names.
//!
//! What is in them is judged by [`crate::tls`]; this file knows which key of the configuration is to blame.

use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::checker::Checker;
use super::error::{Refusal, quoted};
use super::file::CertificateFile;
use super::file::forms::OneOrMore;
use super::file::routing::UpstreamTlsFile;
use super::tree::Place;
use super::{Certificate, ListenerTls, Server};
use crate::tls::identity::{Identity, IdentityError};
use crate::tls::trust::{CertVerification, server_name};
use crate::tls::{TlsConfigError, served};

const REMEDY: &str = "name a certificate and its key: tls: { cert: gateway.crt, key: gateway.key }";

/// The certificates of a listener; `None` where it speaks no TLS, or where there is a problem on record.
pub fn listener(
    checker: &mut Checker<'_>,
    item: &Place<'_>,
    form: Option<&OneOrMore<CertificateFile>>,
) -> Option<ListenerTls> {
    let at = &item.key("tls");
    let mut found = Vec::new();
    match form {
        None => {
            // `tls:` with nothing below must not be a listener without TLS.
            if checker.tree.keys(item).contains(&"tls") && !checker.tree.any_refused(at) {
                checker.refuse(at, Refusal::new("there is no certificate", REMEDY));
            }
            return None;
        }
        Some(OneOrMore::More(files)) if files.is_empty() && !checker.tree.any_refused(at) => {
            checker.refuse(at, Refusal::new("the list is empty", REMEDY));
        }
        Some(OneOrMore::One(file)) => found.extend(certificate(checker, at, file)),
        Some(OneOrMore::More(files)) => {
            for (index, file) in files.iter().enumerate() {
                found.extend(certificate(checker, &at.item(index), file));
            }
        }
    }
    let (certificates, identities): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    if identities.is_empty() {
        return None;
    }
    let settings = served::build(&identities);
    let settings = checker.accept(at, settings.map_err(|error| Refusal::new(error, "please report it")))?;
    Some(ListenerTls { settings, certificates })
}

fn certificate(
    checker: &mut Checker<'_>,
    at: &Place<'_>,
    file: &CertificateFile,
) -> Option<(Certificate, Identity)> {
    let (cert_at, key_at) = (at.key("cert"), at.key("key"));
    if file.cert.is_none() {
        checker.missing(&cert_at, "write the path of the certificate, for example gateway.crt");
    }
    if file.key.is_none() {
        checker.missing(&key_at, "write the path of its private key, for example gateway.key");
    }
    let cert = file.cert.as_ref().and_then(|path| Some((path, checker.contents(&cert_at, path)?)));
    let key = file.key.as_ref().and_then(|path| Some((path, checker.contents(&key_at, path)?)));
    let ((cert_path, cert), (key_path, key)) = (cert?, key?);
    match Identity::new(&cert, &key) {
        Ok(identity) => {
            let validity = identity.validity();
            if let Some(fault) = checker.now.and_then(|now| validity.problem(now)) {
                let what = format!("the certificate of {cert_path} {fault}");
                checker.refuse(&cert_at, Refusal::new(what, "have it renewed; until then clients refuse it"));
            }
            Some((Certificate { file: cert_path.clone(), validity }, identity))
        }
        Err(IdentityError::Certificate(wrong)) => {
            checker.refuse(&cert_at, told(cert_path, wrong));
            None
        }
        Err(IdentityError::Key(wrong)) => {
            checker.refuse(&key_at, told(key_path, wrong));
            None
        }
    }
}

/// Whom the servers of an upstream must be certified by; `None` where they speak no TLS, or where there is a problem on
/// record. The servers of the list stand with their index in the file.
pub fn upstream(
    checker: &mut Checker<'_>,
    at: &Place<'_>,
    file: Option<&UpstreamTlsFile>,
    servers: &mut [(Server, usize)],
) -> Option<Arc<CertVerification>> {
    let tls_at = at.key("tls");
    let encrypted = servers.iter().filter(|(server, _)| server.name.is_some()).count();
    if encrypted == 0 {
        if file.is_some() && !servers.is_empty() {
            let remedy = "write the servers as https://host:port, or remove tls";
            checker.refuse(&tls_at, Refusal::new("no server of this upstream speaks TLS", remedy));
        }
        return None;
    }
    if let Some((server, index)) = servers.iter().find(|(server, _)| server.name.is_none()) {
        let what = format!("{} speaks no TLS, and others of this upstream do", server.label());
        let remedy = "write https:// before all of them, or put them into an upstream of their own";
        checker.refuse(&at.key("servers").item(*index), Refusal::new(what, remedy));
    }
    let sni = file.and_then(|file| file.sni.as_deref());
    if let Some(name) = sni.and_then(|sni| checker.accept(&tls_at.key("sni"), name(sni))) {
        for (server, _) in servers {
            server.name = Some(name.clone());
        }
    }
    let ca_at = tls_at.key("ca");
    let ca = file.and_then(|file| file.ca.as_deref());
    if file.and_then(|file| file.verify) == Some(false) {
        if ca.is_some() {
            let what = "nothing is verified (verify: false), so no authority is asked";
            checker.refuse(&ca_at, Refusal::new(what, "remove verify: false, or ca"));
        }
        return checker.accept(&tls_at, CertVerification::disabled().map_err(refusal)).map(Arc::new);
    }
    match ca {
        Some(path) => {
            let contents = checker.contents(&ca_at, path)?;
            let trust = CertVerification::from_pem(&contents).map_err(|wrong| told(path, wrong));
            checker.accept(&ca_at, trust).map(Arc::new)
        }
        None => {
            if checker.system.is_none() {
                let trust = CertVerification::system_roots().map_err(refusal);
                checker.system = checker.accept(&at.key("servers"), trust).map(Arc::new);
            }
            checker.system.clone()
        }
    }
}

/// The authorities of a PEM file, as they stand in it, if they can be used.
pub fn authorities(checker: &mut Checker<'_>, at: &Place<'_>, path: &str) -> Option<Vec<u8>> {
    let contents = checker.contents(at, path)?;
    let trust = CertVerification::from_pem(&contents).map_err(|wrong| told(path, wrong));
    checker.accept(at, trust).map(|_| contents)
}

/// The name that a server must be certified for.
///
/// # Errors
/// No certificate can be for it.
pub fn name(text: &str) -> Result<ServerName<'static>, Refusal> {
    server_name(text)
        .map_err(|wrong| Refusal::new(format!("{}: {}", quoted(text), wrong.message), wrong.help))
}

fn refusal(wrong: TlsConfigError) -> Refusal {
    Refusal::new(wrong.message, wrong.help)
}

fn told(path: &str, wrong: TlsConfigError) -> Refusal {
    Refusal::new(format!("{path} cannot be used: {}", wrong.message), wrong.help)
}
