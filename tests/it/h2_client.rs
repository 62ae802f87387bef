//! An HTTP/2 client with prior knowledge, based on the `h2` crate; returns the same [`HttpResponse`].
//!
//! It checks every error against the contract like [`super::http1_client`]; connection-specific header fields are
//! violations.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::contract_check::check_contract;
use super::http1_client::StatusTally;
use super::load::limit;
use super::response_reader::{HttpResponse, MessageFraming, ResponseEnd, SentRequest};

/// One connection on its own runtime.
pub struct H2Client {
    runtime: Runtime,
    send: SendRequest<Bytes>,
    tally: StatusTally,
}

impl H2Client {
    #[track_caller]
    pub fn connect(address: SocketAddr, tally: StatusTally) -> H2Client {
        // A worker thread drives the connection between requests.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let send = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("the gateway accepts connections");
            let (send, connection) =
                h2::client::handshake(stream).await.expect("an HTTP/2 connection preface");
            tokio::spawn(async move { drop(connection.await) });
            send
        });
        H2Client { runtime, send, tally }
    }

    /// HTTP/2 with prior knowledge over an open connection.
    #[track_caller]
    pub fn over(stream: std::net::TcpStream) -> H2Client {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        stream.set_nonblocking(true).unwrap();
        let send = runtime.block_on(async {
            let stream = TcpStream::from_std(stream).unwrap();
            let (send, connection) =
                h2::client::handshake(stream).await.expect("an HTTP/2 connection preface");
            tokio::spawn(async move { drop(connection.await) });
            send
        });
        H2Client { runtime, send, tally: StatusTally::default() }
    }

    /// Connects over TLS with this server name.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> H2Client {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::clone(config));
        let send = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("the gateway accepts connections");
            let stream = connector.connect(name, stream).await.expect("a handshake with the gateway");
            let (send, connection) =
                h2::client::handshake(stream).await.expect("an HTTP/2 connection preface");
            tokio::spawn(async move { drop(connection.await) });
            send
        });
        H2Client { runtime, send, tally: StatusTally::default() }
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> HttpResponse {
        self.request("GET", path, &[], Bytes::new())
    }

    /// Sends a request with a body and reads its response.
    #[track_caller]
    pub fn request(
        &mut self,
        method: &'static str,
        path: &str,
        fields: &[(&str, &str)],
        body: Bytes,
    ) -> HttpResponse {
        match self.try_request(method, path, fields, body) {
            Ok(response) => response,
            Err(error) => panic!("expected a response to {method} {path}, got {error}"),
        }
    }

    #[track_caller]
    pub fn try_request(
        &mut self,
        method: &'static str,
        path: &str,
        fields: &[(&str, &str)],
        body: Bytes,
    ) -> Result<HttpResponse, h2::Error> {
        let mut request = Request::builder().method(method).uri(format!("http://test{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let send = self.send.clone();
        let response = self.runtime.block_on(async {
            let exchange = send_request(send, request, body);
            tokio::time::timeout(limit(), exchange).await.expect("an HTTP/2 response in time")
        })?;
        check_contract(&response, SentRequest::Http11(method));
        *self.tally.lock().unwrap().entry(response.status).or_default() += 1;
        Ok(response)
    }

    /// Sends a request without a body; the response is not checked against the contract.
    #[track_caller]
    pub fn unchecked(&mut self, request: Request<()>) -> HttpResponse {
        let send = self.send.clone();
        self.runtime.block_on(async {
            let exchange = send_request(send, request, Bytes::new());
            tokio::time::timeout(limit(), exchange).await.expect("an HTTP/2 response in time").unwrap()
        })
    }

    /// Sends concurrent requests on this connection.
    #[track_caller]
    pub fn get_all(&mut self, paths: &[&str]) -> Vec<HttpResponse> {
        let futures: Vec<_> = paths
            .iter()
            .map(|path| {
                let request = Request::builder().uri(format!("http://test{path}")).body(()).unwrap();
                self.runtime.spawn(send_request(self.send.clone(), request, Bytes::new()))
            })
            .collect();
        let tally = Arc::clone(&self.tally);
        futures
            .into_iter()
            .map(|task| {
                let result = self.runtime.block_on(async { tokio::time::timeout(limit(), task).await });
                let response = result.expect("an HTTP/2 response in time").unwrap().unwrap();
                check_contract(&response, SentRequest::Http11("GET"));
                *tally.lock().unwrap().entry(response.status).or_default() += 1;
                response
            })
            .collect()
    }
}

async fn send_request(
    send: SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
) -> Result<HttpResponse, h2::Error> {
    let mut send = send.ready().await?;
    let (mut response, mut stream) = send.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        // Fails if the peer has already responded; only the response matters.
        let _ = stream.send_data(body, true);
    }
    let mut interim = Vec::new();
    while let Some(informational) = std::future::poll_fn(|cx| response.poll_informational(cx)).await {
        let informational = informational?;
        interim.push((informational.status().as_u16(), header_pairs(informational.headers())));
    }
    let (head, mut incoming) = response.await?.into_parts();
    let mut body = Vec::new();
    let ended = loop {
        match tokio::time::timeout(limit() / 2, incoming.data()).await {
            Err(_) => break ResponseEnd::TimedOut { after: body.len() },
            Ok(None) => break ResponseEnd::Complete,
            Ok(Some(Err(_))) => break ResponseEnd::Reset { after: body.len() },
            Ok(Some(Ok(piece))) => {
                let _ = incoming.flow_control().release_capacity(piece.len());
                body.extend_from_slice(&piece);
            }
        }
    };
    Ok(HttpResponse { interim, ..to_response(Response::from_parts(head, ()), body, ended) })
}

fn header_pairs(fields: &http::HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    fields.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn to_response(head: Response<()>, body: Vec<u8>, ended: ResponseEnd) -> HttpResponse {
    let fields = header_pairs(head.headers());
    for forbidden in ["connection", "transfer-encoding", "keep-alive", "upgrade", "proxy-connection"] {
        assert!(fields.iter().all(|(name, _)| name != forbidden), "{forbidden} in HTTP/2: {fields:#?}");
    }
    HttpResponse {
        status: head.status().as_u16(),
        reason: String::new(),
        headers: fields,
        body,
        framing: MessageFraming::Http2,
        end: ended,
        interim: Vec::new(),
        connection_usable: true,
    }
}
