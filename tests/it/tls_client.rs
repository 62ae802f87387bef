//! A TLS client that verifies certificates and reads responses strictly, like [`super::http1_client`].

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use super::contract_check::check_contract;
use super::load::limit;
use super::response_reader::{HttpResponse, NoResponse, SentRequest, StrictReader};

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A connection with a completed handshake.
pub struct TlsClient {
    reader: StrictReader<TlsStream>,
}

impl TlsClient {
    /// Connects with this server name.
    pub fn try_connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<TlsClient> {
        TlsClient::over(TcpStream::connect_timeout(&address, limit())?, name, config)
    }

    /// The handshake over an open connection.
    pub fn over(stream: TcpStream, name: &str, config: &Arc<ClientConfig>) -> io::Result<TlsClient> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit()))?;
        stream.set_write_timeout(Some(limit()))?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(TlsClient { reader: StrictReader::new(stream) })
    }

    #[track_caller]
    pub fn connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> TlsClient {
        TlsClient::try_connect(address, name, config).expect("a handshake with the gateway")
    }

    /// The negotiated ALPN protocol.
    pub fn protocol(&self) -> Option<String> {
        self.reader.stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// Whether the handshake has resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.reader.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The server certificate in DER.
    pub fn certificate(&self) -> Vec<u8> {
        self.reader.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.stream.write_all(bytes.as_ref()).expect("the gateway accepts the client's bytes");
        self.reader.stream.flush().unwrap();
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> HttpResponse {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        self.read()
    }

    /// Reads a response and checks it against the contract.
    #[track_caller]
    pub fn read(&mut self) -> HttpResponse {
        let sent_request = SentRequest::Http11("GET");
        let response = self.reader.read(sent_request).expect("a response");
        check_contract(&response, sent_request);
        response
    }

    /// Reads exactly these bytes of a tunnel.
    #[track_caller]
    pub fn expect_bytes(&mut self, bytes: &str) {
        self.reader.wait_for(bytes.as_bytes());
        self.reader.discard(bytes.len());
    }

    /// Waits for the end of the connection: `Closed` is a clean end with close_notify.
    pub fn read_close(&mut self) -> NoResponse {
        self.reader.read_end()
    }
}
