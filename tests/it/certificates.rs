//! Certificates generated at run time: a certificate authority per test and the certificates it issues.
//!
//! No generated file is ever committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion};

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
        // Unique names: an unrelated authority of the same name would look like the same one with an invalid signature.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Authority::named(&format!("test authority {number}"))
    }

    pub fn named(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(Authority::parameters(name), key).unwrap())
    }

    /// An intermediate authority.
    pub fn signed_by(issuer: &Authority) -> Authority {
        let key = KeyPair::generate().unwrap();
        let parameters = Authority::parameters("intermediate authority");
        Authority(CertifiedIssuer::signed_by(parameters, key, &issuer.0).unwrap())
    }

    fn parameters(name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters
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

    /// Issues a certificate of a client, whose parameters `change` completes.
    pub fn issue_client(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut parameters = parameters(&[], LONG_VALIDITY);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut parameters);
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        Issued { cert: certificate.pem(), key: key.serialize_pem() }
    }

    /// The authority's own certificate and key.
    pub fn issued(&self) -> Issued {
        Issued { cert: self.0.pem(), key: self.0.key().serialize_pem() }
    }

    /// A client configuration that trusts only this authority and offers these ALPN protocols.
    pub fn trusting_client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        self.client(rustls::ALL_VERSIONS, protocols, None)
    }

    /// Like `trusting_client`, with these TLS versions and a certificate of the client.
    pub fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
        certificate: Option<&Issued>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.0.der().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.unwrap().with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let chain = CertificateDer::pem_slice_iter(issued.cert.as_bytes()).map(Result::unwrap);
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                let provider = rustls::crypto::ring::default_provider();
                let key = provider.key_provider.load_private_key(key).unwrap();
                let certified = CertifiedKey::new(chain.collect(), key);
                builder.with_client_cert_resolver(Arc::new(AlwaysPresents(Arc::new(certified))))
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// Presents a certificate whatever authorities the server names, as `curl --cert` does.
#[derive(Debug)]
struct AlwaysPresents(Arc<CertifiedKey>);

impl ResolvesClientCert for AlwaysPresents {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
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
