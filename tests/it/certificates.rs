//! Certificates, made when a test runs: an authority of the test's own, and what it issues.
//!
//! It knows nothing of the gateway. Nothing that it makes is ever committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// Somebody who issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as PEM files hold them.
#[derive(Clone)]
pub struct Issued {
    pub cert: String,
    pub key: String,
}

/// From when and until when: year, month, day.
pub type Dates = ((i32, u8, u8), (i32, u8, u8));

/// Longer than any test runs.
pub const LONG_VALIDITY: Dates = ((2020, 1, 1), (2099, 1, 1));
/// Long over.
pub const EXPIRED: Dates = ((2020, 1, 1), (2021, 1, 1));

impl Authority {
    pub fn new() -> Authority {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Each has a name of its own, or a stranger would look like one of the family with a broken signature.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        parameters.distinguished_name.push(DnType::CommonName, format!("authority {number} for tests"));
        Authority(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For these names and addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_for(names, LONG_VALIDITY)
    }

    pub fn issue_for(&self, names: &[&str], dates: Dates) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters(names, dates).signed_by(&key, &self.0).unwrap();
        Issued { cert: certificate.pem(), key: key.serialize_pem() }
    }

    /// A client that trusts nobody else and speaks these protocols.
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

/// Signed by its own key.
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
