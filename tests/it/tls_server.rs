//! A TLS upstream: one certificate, the same response to every request, and a record of server names.
//!
//! Faults before or instead of a handshake need no TLS: they are scripts of [`super::scripted_upstreams`].

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::certificates::{Authority, Issued};

pub struct TlsServer {
    address: SocketAddr,
    log: Arc<Mutex<TlsServerLog>>,
    stop: Arc<AtomicBool>,
}

/// At the end of a response: close the connection without close_notify.
const TRUNCATION_MARK: &[u8] = b"\0cut";

/// What the server has received.
#[derive(Clone, Debug, Default)]
pub struct TlsServerLog {
    /// Server names (SNI), one per handshake; empty without SNI.
    pub server_names: Vec<String>,
    pub requests: usize,
}

impl TlsServer {
    /// Sends `response` to every request.
    pub fn start(issued: &Issued, response: impl Into<Vec<u8>>) -> TlsServer {
        TlsServer::with(server_config(issued, None), response.into())
    }

    /// Like `start`, on a server that prefers HTTP/2 if offered.
    pub fn preferring_http2(issued: &Issued, response: impl Into<Vec<u8>>) -> TlsServer {
        let mut config = Arc::unwrap_or_clone(server_config(issued, None));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsServer::with(Arc::new(config), response.into())
    }

    /// Requires client certificates of this authority. The last argument is its ALPN protocols.
    pub fn requiring_client_certificates(
        issued: &Issued,
        authority: &Authority,
        protocols: &[&str],
    ) -> TlsServer {
        let mut config = Arc::unwrap_or_clone(server_config(issued, Some(authority)));
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsServer::with(Arc::new(config), Vec::new())
    }

    /// Closes the connection after the first response without close_notify, like a crashed process.
    pub fn closing_without_notify(issued: &Issued, response: impl Into<Vec<u8>>) -> TlsServer {
        let mut response = response.into();
        response.extend_from_slice(TRUNCATION_MARK);
        TlsServer::with(server_config(issued, None), response)
    }

    fn with(config: Arc<ServerConfig>, response: Vec<u8>) -> TlsServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log: Arc<Mutex<TlsServerLog>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let (shared_log, ended) = (Arc::clone(&log), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (config, response) = (Arc::clone(&config), response.clone());
                let shared_log = Arc::clone(&shared_log);
                std::thread::spawn(move || serve(stream, config, &response, &shared_log));
            }
        });
        TlsServer { address, log, stop }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn seen(&self) -> TlsServerLog {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn server_config(issued: &Issued, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(issued.cert.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, response: &[u8], log: &Mutex<TlsServerLog>) {
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    while stream.conn.is_handshaking() {
        if stream.conn.complete_io(&mut stream.sock).is_err() {
            // The alert with the reason is pending.
            let _ = stream.conn.write_tls(&mut stream.sock);
            return;
        }
    }
    let name = stream.conn.server_name().unwrap_or_default().to_owned();
    log.lock().unwrap().server_names.push(name);
    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        read.extend_from_slice(&piece[..length]);
        if read.ends_with(b"\r\n\r\n") {
            log.lock().unwrap().requests += 1;
            read.clear();
            let (response, truncates) = match response.strip_suffix(TRUNCATION_MARK) {
                Some(response) => (response, true),
                None => (response, false),
            };
            if stream.write_all(response).and_then(|()| stream.flush()).is_err() || truncates {
                return;
            }
        }
    }
}
