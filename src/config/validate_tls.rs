//! Checks the TLS settings and reads the certificates and keys that they refer to.
//!
//! [`crate::tls`] checks their contents; this file reports problems at the key of the configuration.

use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::file::forms::OneOrMany;
use super::file::routing::UpstreamTlsFile;
use super::file::{CertificateFile, ClientAuthWord};
use super::problem::{Diagnostic, quoted};
use super::validator::{Place, Purpose};
use super::{Certificate, ListenerTls, UpstreamServer};
use crate::tls::cert_verification::{CertVerification, server_name};
use crate::tls::client_verification::{ClientAuth, ClientVerification};
use crate::tls::identity::{Identity, IdentityError};
use crate::tls::{TlsConfigError, server_config};

/// The certificates of the listener at `item`; `None` without TLS or after a recorded problem.
pub(crate) fn listener(item: &Place<'_>, form: Option<&OneOrMany<CertificateFile>>) -> Option<ListenerTls> {
    let at = item.key("tls");
    let Some(OneOrMany(files)) = form else {
        // `tls:` without a value must not become a plaintext listener.
        if at.node().is_some() && !at.any_invalid() {
            let help = "write a certificate and its key: tls: { cert: gateway.crt, key: gateway.key }";
            at.report("the certificate is missing", help);
        }
        return None;
    };
    let loaded = at.items(files).filter_map(|(item, file)| certificate(&item, file));
    let (certificates, identities): (Vec<_>, Vec<_>) = loaded.unzip();
    let clients = client_verification(&at, files);
    if identities.is_empty() {
        return None;
    }
    let settings = server_config::build(&identities, clients.as_ref());
    let settings = at.check(settings.map_err(|error| Diagnostic::new(error, "please report it")))?;
    Some(ListenerTls { settings, certificates, asks_for_client_certificates: clients.is_some() })
}

/// How the certificates of clients are verified; `None` if clients are not asked for any, or after a recorded problem.
fn client_verification(at: &Place<'_>, files: &[CertificateFile]) -> Option<ClientVerification> {
    let of = |file: &CertificateFile| (file.client_ca.clone(), file.client_auth);
    let first = files.first().map(of)?;
    let is_complete = first.0.is_some() == first.1.is_some();
    for (item, file) in at.items(files) {
        let (ca_at, auth_at) = (item.key("client_ca"), item.key("client_auth"));
        match of(file) {
            (Some(_), None) if !auth_at.is_written() => ca_at.report(
                "client_ca has no effect without client_auth",
                "add client_auth: required, or client_auth: optional for clients without a certificate",
            ),
            (None, Some(_)) if !ca_at.is_written() => auth_at.report(
                "client_auth has no effect without client_ca",
                "add the authorities that issue the certificates of clients, for example client_ca: clients.pem, or remove \
                 client_auth",
            ),
            other if is_complete && other != first && !item.any_invalid() => item.report(
                "the certificates of a listener differ in client_ca or client_auth, but the client chooses one by the name \
                 that it asks for",
                same_help(&first),
            ),
            _ => {}
        }
    }
    let (Some(path), Some(word)) = first else { return None };
    let auth = match word {
        ClientAuthWord::Required => ClientAuth::Required,
        ClientAuthWord::Optional => ClientAuth::Optional,
    };
    let ca_at = at.item(0).key("client_ca");
    let contents = ca_at.read_file(&path)?;
    let verification = ClientVerification::from_pem(&contents, auth);
    ca_at.check(verification.map_err(|error| unusable_file(&path, error)))
}

/// How the other certificates of a listener become like the first one.
fn same_help((ca, auth): &(Option<String>, Option<ClientAuthWord>)) -> String {
    let (Some(ca), Some(auth)) = (ca, auth) else {
        return "write both for the first certificate too, or remove them here".to_owned();
    };
    let auth = match auth {
        ClientAuthWord::Required => "required",
        ClientAuthWord::Optional => "optional",
    };
    format!("write client_ca: {}, client_auth: {auth} here too, or use another listener", quoted(ca))
}

fn certificate(at: &Place<'_>, file: &CertificateFile) -> Option<(Certificate, Identity)> {
    let (cert_at, key_at) = (at.key("cert"), at.key("key"));
    let (cert, key) = (cert_at.read_file(&file.cert), key_at.read_file(&file.key));
    match Identity::new(&cert?, &key?) {
        Ok(identity) => {
            let validity = identity.validity();
            let expiry_problem = match at.validator.purpose {
                Purpose::Check(now) => validity.problem(now),
                Purpose::Use => None,
            };
            if let Some(expiry_problem) = expiry_problem {
                let message = format!("the certificate of {} {expiry_problem}", file.cert);
                cert_at.report(message, "renew it; until then clients reject it");
            }
            let names = identity.names().to_vec();
            Some((Certificate { file: file.cert.clone(), names, validity }, identity))
        }
        Err(IdentityError::Certificate(error)) => cert_at.check(Err(unusable_file(&file.cert, error))),
        Err(IdentityError::Key(error)) => key_at.check(Err(unusable_file(&file.key, error))),
    }
}

/// How the certificates of an upstream's servers are verified; `None` without TLS or after a recorded problem. Each
/// server has its place in the file.
pub(crate) fn upstream(
    at: &Place<'_>,
    file: Option<&UpstreamTlsFile>,
    servers: &mut [(Place<'_>, UpstreamServer)],
) -> Option<Arc<CertVerification>> {
    let tls_at = at.key("tls");
    if servers.iter().all(|(_, server)| server.tls_name.is_none()) {
        if file.is_some() && !servers.is_empty() {
            let help = "write the servers as https://host:port, or remove tls";
            tls_at.report("no server of this upstream uses TLS", help);
        }
        return None;
    }
    if let Some((item, server)) = servers.iter().find(|(_, server)| server.tls_name.is_none()) {
        let message = format!("{} does not use TLS, but other servers of this upstream do", server.label());
        item.report(message, "use https:// for all of them, or move it to another upstream");
    }
    let sni = file.and_then(|file| file.sni.as_deref());
    if let Some(name) = sni.and_then(|sni| tls_at.key("sni").check(certificate_name(sni))) {
        for (_, server) in servers {
            server.tls_name = Some(name.clone());
        }
    }
    let ca_at = tls_at.key("ca");
    let ca = file.and_then(|file| file.ca.as_deref());
    if file.is_some_and(|file| !file.verify) {
        if ca.is_some() {
            ca_at.report("ca has no effect with verify: false", "remove verify: false, or ca");
        }
        return tls_at.check(CertVerification::disabled().map_err(to_diagnostic)).map(Arc::new);
    }
    if let Some(path) = ca {
        return read_ca(&ca_at, path).map(|(_, verification)| Arc::new(verification));
    }
    let system_trust = &at.validator.system_trust;
    if let Some(loaded) = system_trust.get() {
        return Some(Arc::clone(loaded));
    }
    let loaded = at.key("servers").check(CertVerification::system_roots().map_err(to_diagnostic))?;
    Some(Arc::clone(system_trust.get_or_init(|| Arc::new(loaded))))
}

/// The contents of a PEM file with valid authorities, and what they verify.
pub(crate) fn read_ca(at: &Place<'_>, path: &str) -> Option<(Vec<u8>, CertVerification)> {
    let contents = at.read_file(path)?;
    let verification = CertVerification::from_pem(&contents).map_err(|error| unusable_file(path, error));
    at.check(verification).map(|verification| (contents, verification))
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
