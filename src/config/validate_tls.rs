//! Checks what the file says about TLS, and reads the certificates and keys that it names.
//!
//! What is in them is judged by [`crate::tls`]; this file knows which key of the configuration is to blame.

use super::checker::Checker;
use super::error::Refusal;
use super::file::CertificateFile;
use super::file::forms::OneOrMore;
use super::tree::Place;
use super::{Certificate, ListenerTls};
use crate::tls::identity::{Identity, Wrong};
use crate::tls::{Unusable, served};

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
    let settings = served::settings(&identities);
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
            if let Some(fault) = checker.now.and_then(|now| validity.fault(now)) {
                let what = format!("the certificate of {cert_path} {fault}");
                checker.refuse(&cert_at, Refusal::new(what, "have it renewed; until then clients refuse it"));
            }
            Some((Certificate { file: cert_path.clone(), validity }, identity))
        }
        Err(Wrong::Certificate(wrong)) => {
            checker.refuse(&cert_at, told(cert_path, wrong));
            None
        }
        Err(Wrong::Key(wrong)) => {
            checker.refuse(&key_at, told(key_path, wrong));
            None
        }
    }
}

fn told(path: &str, wrong: Unusable) -> Refusal {
    Refusal::new(format!("{path} cannot be used: {}", wrong.what), wrong.remedy)
}
