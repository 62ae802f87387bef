//! Servers that speak TLS and show a certificate that is not good, each in another way.
//!
//! Certificates are made when the servers start and are gone with them. Whom to trust so that exactly the flaw is left is
//! told by [`TlsServers::ca_pem`], under which name by [`SERVER_NAME`]. Nobody is served: who comes through a handshake after
//! all gets no answer. What goes wrong before or instead of a handshake is a matter for scripts ([`super::script`]).

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

/// The name that these servers should be certified for.
pub const SERVER_NAME: &str = "upstream.test";

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFlaw {
    /// Nothing.
    None,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It is for somebody else.
    WrongName,
    /// It is signed by its own key.
    SelfSigned,
    /// It is signed by an authority that nobody knows.
    UnknownIssuer,
}

impl CertificateFlaw {
    /// Every one, in the order of the servers.
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
    /// Starts them. Fails when the system gives no ports or no random bits.
    pub fn start() -> io::Result<TlsServers> {
        let (trusted, untrusted) = (certificate_issuer("rehearsal")?, certificate_issuer("nobody")?);
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

    /// The certificate of the authority to trust, as a PEM file holds it.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Where the server with this flaw is.
    pub fn address(&self, flaw: CertificateFlaw) -> SocketAddr {
        let found = CertificateFlaw::ALL.iter().zip(self.addresses).find(|(trusted, _)| **trusted == flaw);
        found.map_or(SocketAddr::from(([127, 0, 0, 1], 0)), |(_, address)| address)
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
        // The alert that says why has left; what comes behind it is read, so that it is not overtaken by a reset.
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
