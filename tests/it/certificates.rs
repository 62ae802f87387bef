//! Certificates generated at run time: a certificate authority per test and the certificates it issues.
//!
//! No generated file is ever committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    pub cert: String,
    pub key: String,
}

/// Validity from and to: year, month, day.
pub type Dates = ((i32, u8, u8), (i32, u8, u8));

/// Valid during every test run.
pub const LONG_VALIDITY: Dates = ((2020, 1, 1), (2099, 1, 1));
pub const EXPIRED: Dates = ((2020, 1, 1), (2021, 1, 1));

impl Authority {
    pub fn new() -> Authority {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Unique names: an unrelated authority of the same name would look like the same one with an invalid signature.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        parameters.distinguished_name.push(DnType::CommonName, format!("test authority {number}"));
        Authority(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate for these names and addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_for(names, LONG_VALIDITY)
    }

    pub fn issue_for(&self, names: &[&str], dates: Dates) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters(names, dates).signed_by(&key, &self.0).unwrap();
        Issued { cert: certificate.pem(), key: key.serialize_pem() }
    }

    /// A client configuration that trusts only this authority and offers these ALPN protocols.
    pub fn trusting_client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.0.der().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A self-signed certificate.
pub fn self_signed(names: &[&str]) -> Issued {
    let key = KeyPair::generate().unwrap();
    let certificate = parameters(names, LONG_VALIDITY).self_signed(&key).unwrap();
    Issued { cert: certificate.pem(), key: key.serialize_pem() }
}

fn parameters(names: &[&str], (from, until): Dates) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
    parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
    parameters
}
