//! The close of a connection whose client does not read.

use std::future::pending;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::tls::cert_verification::{Alpn, CertVerification};
use crate::tls::identity::Identity;
use crate::tls::server_config;
use crate::tls::stream::TlsConnection;

/// A TLS connection with full buffers whose client has stopped reading.
async fn stalled_tls_client() -> (TlsConnection, TlsConnection) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let identity = Identity::new(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let (server_io, client_io) = tokio::io::duplex(1024);
    let verification = CertVerification::from_pem(certificate.pem().as_bytes()).unwrap();
    let name = ServerName::try_from("test").unwrap();
    let (server, client) = tokio::join!(
        TlsConnection::accept(Box::new(server_io), server_config::build(&[identity], None).unwrap()),
        TlsConnection::connect(Box::new(client_io), &verification, name, Alpn::Http1),
    );
    let (mut server, client) = (server.unwrap(), client.unwrap());
    let fill_buffers = async {
        server.write_all(&[b'x'; 4096]).await.unwrap();
        server.flush().await.unwrap();
        pending::<()>().await;
    };
    assert_eq!(timeout_at(Instant::now() + Duration::from_millis(50), fill_buffers).await, None);
    (server, client)
}

#[tokio::test]
async fn lingering_close_is_bounded_when_the_client_does_not_read() {
    let (server, _client) = stalled_tls_client().await;
    let started = Instant::now();
    let closing = lingering_close(BufferedStream::new(Box::new(server)), LINGER_TIMEOUT, None);
    assert_eq!(timeout_at(started + Duration::from_secs(10), closing).await, Some(()));
    assert!(started.elapsed() >= LINGER_IDLE_TIMEOUT);
}
