//! TLS servers, each with a different flaw in its certificate.
//!
//! The certificates are generated at the start. A client that trusts [`Authorities::trusted_pem`] and expects
//! [`SERVER_NAME`] sees exactly one flaw. After a successful handshake a server reads and sends nothing. Failures
//! before or instead of a handshake are scripts ([`super::step`]).

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::server_thread::ServerThread;
use super::upstream_case::ServerKind;

/// The name that clients expect in the certificates.
pub const SERVER_NAME: &str = "upstream.test";

/// The authorities that issue the certificates.
pub(super) struct Authorities {
    trusted: CertificateIssuer,
    untrusted: CertificateIssuer,
}

impl Authorities {
    /// Fails if the system is out of random numbers.
    pub(super) fn generate() -> io::Result<Authorities> {
        Ok(Authorities { trusted: certificate_issuer("verify")?, untrusted: certificate_issuer("nobody")? })
    }

    /// The PEM certificate of the authority to trust.
    pub(super) fn trusted_pem(&self) -> String {
        self.trusted.pem()
    }
}

/// Starts a server; its kind determines the flaw of its certificate. Fails if the system is out of ports.
pub(super) fn start(server_kind: ServerKind, authorities: &Authorities) -> io::Result<ServerThread> {
    let acceptor = TlsAcceptor::from(server_config(server_kind, authorities)?);
    ServerThread::start(move |stream| handshake(stream, acceptor.clone()))
}

async fn handshake(stream: TcpStream, acceptor: TlsAcceptor) {
    let mut discarded = [0; 1024];
    match acceptor.accept(stream).into_fallible().await {
        Ok(mut stream) => while let Ok(1..) = stream.read(&mut discarded).await {},
        // The alert was sent. Read the remaining input, so that a reset does not discard the alert.
        Err((_, mut stream)) => {
            let _ = stream.shutdown().await;
            while let Ok(1..) = stream.read(&mut discarded).await {}
        }
    }
}

type CertificateIssuer = CertifiedIssuer<'static, KeyPair>;

fn certificate_issuer(name: &str) -> io::Result<CertificateIssuer> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    CertifiedIssuer::self_signed(parameters, key).map_err(io::Error::other)
}

fn server_config(server_kind: ServerKind, authorities: &Authorities) -> io::Result<Arc<ServerConfig>> {
    let is = |kind| server_kind == kind;
    let name = if is(ServerKind::WrongNameCertificate) { "elsewhere.test" } else { SERVER_NAME };
    let not_before = if is(ServerKind::NotYetValidCertificate) { 2090 } else { 2020 };
    let not_after = if is(ServerKind::ExpiredCertificate) { 2021 } else { 2091 };
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).map_err(io::Error::other)?;
    parameters.not_before = date_time_ymd(not_before, 1, 1);
    parameters.not_after = date_time_ymd(not_after, 1, 1);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = if is(ServerKind::SelfSignedCertificate) {
        parameters.self_signed(&key)
    } else if is(ServerKind::UnknownIssuer) {
        parameters.signed_by(&key, &authorities.untrusted)
    } else {
        parameters.signed_by(&key, &authorities.trusted)
    }
    .map_err(io::Error::other)?;
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(io::Error::other)?;
    Ok(Arc::new(config))
}
