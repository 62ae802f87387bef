//! TLS servers, each with a different flaw in its certificate.
//!
//! The certificates are generated at the start. A client that trusts [`TlsServers::ca_pem`] and expects [`SERVER_NAME`]
//! sees exactly one flaw. After a successful handshake a server reads and sends nothing. Failures before or instead of
//! a handshake are scripts ([`super::step`]).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// The name that clients expect in the certificates.
pub const SERVER_NAME: &str = "upstream.test";

/// The flaw of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFlaw {
    /// The certificate is valid.
    None,
    /// It has expired.
    Expired,
    /// It is not yet valid.
    NotYetValid,
    /// It is issued for another name.
    WrongName,
    /// It is self-signed.
    SelfSigned,
    /// It is issued by an unknown authority.
    UnknownIssuer,
}

impl CertificateFlaw {
    /// All flaws, in the order of the servers.
    pub const ALL: [CertificateFlaw; 6] = [
        CertificateFlaw::None,
        CertificateFlaw::Expired,
        CertificateFlaw::NotYetValid,
        CertificateFlaw::WrongName,
        CertificateFlaw::SelfSigned,
        CertificateFlaw::UnknownIssuer,
    ];
}

/// A server for each flaw. Dropping it closes their ports and every connection.
pub struct TlsServers {
    ca_pem: String,
    addresses: [SocketAddr; CertificateFlaw::ALL.len()],
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TlsServers {
    /// Starts the servers. Fails if the system is out of ports or random numbers.
    pub fn start() -> io::Result<TlsServers> {
        let (trusted, untrusted) = (certificate_issuer("verify")?, certificate_issuer("nobody")?);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut listeners = Vec::new();
        let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); CertificateFlaw::ALL.len()];
        for (flaw, address) in CertificateFlaw::ALL.into_iter().zip(&mut addresses) {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            *address = listener.local_addr()?;
            listeners.push((listener, TlsAcceptor::from(server_config(flaw, &trusted, &untrusted)?)));
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            runtime.block_on(async move {
                for (listener, acceptor) in listeners {
                    let Ok(listener) = TcpListener::from_std(listener) else { return };
                    tokio::spawn(accept(listener, acceptor));
                }
                let _ = stopped.await;
            });
        };
        let thread = std::thread::Builder::new().name("tls-servers".to_owned()).spawn(serve)?;
        Ok(TlsServers { ca_pem: trusted.pem(), addresses, stop: Some(stop), thread: Some(thread) })
    }

    /// The PEM certificate of the authority to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The address of the server with this flaw.
    pub fn address(&self, flaw: CertificateFlaw) -> SocketAddr {
        let server = CertificateFlaw::ALL.iter().zip(self.addresses).find(|(other, _)| **other == flaw);
        server.map_or(SocketAddr::from(([127, 0, 0, 1], 0)), |(_, address)| address)
    }
}

impl Drop for TlsServers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handshake(stream, acceptor.clone()));
        }
    }
}

async fn handshake(stream: TcpStream, acceptor: TlsAcceptor) {
    match acceptor.accept(stream).into_fallible().await {
        Ok(mut stream) => {
            let mut discarded = [0; 1024];
            while let Ok(1..) = stream.read(&mut discarded).await {}
        }
        // The alert was sent. Read the remaining input, so that a reset does not discard the alert.
        Err((_, mut stream)) => {
            let _ = stream.shutdown().await;
            let mut discarded = [0; 1024];
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

fn server_config(
    flaw: CertificateFlaw,
    trusted: &CertificateIssuer,
    untrusted: &CertificateIssuer,
) -> io::Result<Arc<ServerConfig>> {
    let name = if flaw == CertificateFlaw::WrongName { "elsewhere.test" } else { SERVER_NAME };
    let (from, until) = match flaw {
        CertificateFlaw::Expired => (2020, 2021),
        CertificateFlaw::NotYetValid => (2090, 2091),
        CertificateFlaw::None
        | CertificateFlaw::WrongName
        | CertificateFlaw::SelfSigned
        | CertificateFlaw::UnknownIssuer => (2020, 2090),
    };
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).map_err(io::Error::other)?;
    parameters.not_before = date_time_ymd(from, 1, 1);
    parameters.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = match flaw {
        CertificateFlaw::SelfSigned => parameters.self_signed(&key),
        CertificateFlaw::UnknownIssuer => parameters.signed_by(&key, untrusted),
        CertificateFlaw::None
        | CertificateFlaw::Expired
        | CertificateFlaw::NotYetValid
        | CertificateFlaw::WrongName => parameters.signed_by(&key, trusted),
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
