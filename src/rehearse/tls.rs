//! Servers that speak TLS and show a certificate that is not good, each in another way.
//!
//! Certificates are made when the servers start and are gone with them. Whom to trust so that exactly the flaw is left is
//! told by [`TlsServers::authority`], under which name by [`NAME`]. Nobody is served: who comes through a handshake after
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
pub const NAME: &str = "upstream.test";

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
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
    Stranger,
}

impl Flaw {
    /// Every one, in the order of the servers.
    pub const ALL: [Flaw; 6] =
        [Flaw::None, Flaw::Expired, Flaw::NotYetValid, Flaw::WrongName, Flaw::SelfSigned, Flaw::Stranger];
}

/// A server for each flaw. Dropping it closes their ports and every connection.
pub struct TlsServers {
    authority: String,
    addresses: [SocketAddr; Flaw::ALL.len()],
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TlsServers {
    /// Starts them. Fails when the system gives no ports or no random bits.
    pub fn start() -> io::Result<TlsServers> {
        let (known, unknown) = (authority("rehearsal")?, authority("nobody")?);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut listeners = Vec::new();
        let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); Flaw::ALL.len()];
        for (flaw, address) in Flaw::ALL.into_iter().zip(&mut addresses) {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            *address = listener.local_addr()?;
            listeners.push((listener, TlsAcceptor::from(settings(flaw, &known, &unknown)?)));
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
        Ok(TlsServers { authority: known.pem(), addresses, stop: Some(stop), thread: Some(thread) })
    }

    /// The certificate of the authority to trust, as a PEM file holds it.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Where the server with this flaw is.
    pub fn address(&self, flaw: Flaw) -> SocketAddr {
        let found = Flaw::ALL.iter().zip(self.addresses).find(|(known, _)| **known == flaw);
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
            tokio::spawn(shake_hands(stream, acceptor.clone()));
        }
    }
}

async fn shake_hands(stream: TcpStream, acceptor: TlsAcceptor) {
    match acceptor.accept(stream).into_fallible().await {
        Ok(mut stream) => {
            let mut ignored = [0; 1024];
            while let Ok(1..) = stream.read(&mut ignored).await {}
        }
        // The alert that says why has left; what comes behind it is read, so that it is not overtaken by a reset.
        Err((_, mut stream)) => {
            let _ = stream.shutdown().await;
            let mut ignored = [0; 1024];
            while let Ok(1..) = stream.read(&mut ignored).await {}
        }
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> io::Result<Authority> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    CertifiedIssuer::self_signed(parameters, key).map_err(io::Error::other)
}

fn settings(flaw: Flaw, known: &Authority, unknown: &Authority) -> io::Result<Arc<ServerConfig>> {
    let name = if flaw == Flaw::WrongName { "elsewhere.test" } else { NAME };
    let (from, until) = match flaw {
        Flaw::Expired => (2020, 2021),
        Flaw::NotYetValid => (2090, 2091),
        Flaw::None | Flaw::WrongName | Flaw::SelfSigned | Flaw::Stranger => (2020, 2090),
    };
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).map_err(io::Error::other)?;
    parameters.not_before = date_time_ymd(from, 1, 1);
    parameters.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = match flaw {
        Flaw::SelfSigned => parameters.self_signed(&key),
        Flaw::Stranger => parameters.signed_by(&key, unknown),
        Flaw::None | Flaw::Expired | Flaw::NotYetValid | Flaw::WrongName => parameters.signed_by(&key, known),
    }
    .map_err(io::Error::other)?;
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let settings = builder.with_no_client_auth().with_single_cert(chain, key).map_err(io::Error::other)?;
    Ok(Arc::new(settings))
}
