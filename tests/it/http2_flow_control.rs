//! Concurrent transfer in both directions of a stream and flow control in both, with an HTTP/2 client over TLS.
//!
//! The client is the `h2` crate over rustls; `tests/sdks/grpc.rs` uses gRPC's own client library.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::h2_upstream::H2Server;
use super::http2_upstream::{echo_server, h2_server_setup};
use super::prelude::*;
use super::tls_listener::tls_gateway_with_alpn;

/// Stream receive window of this client.
const STREAM_WINDOW: u32 = 20_000;
const LARGE_BODY: usize = 3 * 1024 * 1024;

async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("test").unwrap();
    let stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
    let mut options = h2::client::Builder::new();
    options.initial_window_size(STREAM_WINDOW).initial_connection_window_size(8 * 1024 * 1024);
    let (send, connection) = options.handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    send
}

fn run_with_client(upstream: &H2Server, scenario: impl AsyncFnOnce(SendRequest<Bytes>)) -> Gateway {
    let (gateway, config) = tls_gateway_with_alpn(h2_server_setup(upstream), &["h2"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let all = async { scenario(connect(gateway.address(), config).await).await };
        tokio::time::timeout(limit(), all).await.expect("completion in time");
    });
    gateway
}

fn send_request(
    send: &mut SendRequest<Bytes>,
    path: &str,
    ends: bool,
) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::builder().method("POST").uri(format!("https://test{path}")).body(()).unwrap();
    send.send_request(request, ends).unwrap()
}

/// Sends the whole chunk as the window allows.
async fn send_data(stream: &mut SendStream<Bytes>, mut chunk: Bytes) {
    while !chunk.is_empty() {
        stream.reserve_capacity(chunk.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
        stream.send_data(chunk.split_to(room.min(chunk.len())), false).unwrap();
    }
}

/// Reads `length` bytes and releases their flow-control capacity.
async fn receive_data(body: &mut RecvStream, length: usize) -> Vec<u8> {
    let mut received = Vec::new();
    while received.len() < length {
        let chunk = body.data().await.expect("more").unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        received.extend_from_slice(&chunk);
    }
    received
}

/// Asserts the end of the stream, which may be a separate frame.
async fn expect_end(body: &mut RecvStream) {
    while let Some(chunk) = body.data().await {
        assert_eq!(chunk.unwrap(), "");
    }
}

async fn await_response(response: ResponseFuture) -> RecvStream {
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

#[test]
fn request_and_response_bodies_are_interleaved() {
    let upstream = echo_server(100);
    run_with_client(&upstream, async |mut send| {
        let (response, mut stream) = send_request(&mut send, "/", false);
        let mut body = await_response(response).await;
        for turn in 0..50 {
            // Chunks smaller and larger than a frame and than the window.
            let chunk = Bytes::from(vec![turn as u8; 1 + turn * 1000]);
            let (_, received) =
                tokio::join!(send_data(&mut stream, chunk.clone()), receive_data(&mut body, chunk.len()));
            assert_eq!(received, chunk);
        }
        stream.send_data(Bytes::new(), true).unwrap();
        expect_end(&mut body).await;
    });
}

#[test]
fn unread_response_does_not_block_other_streams() {
    let upstream = fixed_length_echo_server(LARGE_BODY);
    run_with_client(&upstream, async |mut send| {
        let (stalled, _) = send_request(&mut send, "/stalled", true);
        let mut stalled = await_response(stalled).await;
        for _ in 0..3 {
            let (flowing, _) = send_request(&mut send, "/flowing", true);
            let mut flowing = await_response(flowing).await;
            assert_eq!(receive_data(&mut flowing, LARGE_BODY).await.len(), LARGE_BODY);
            expect_end(&mut flowing).await;
        }
        // No data was lost or sent beyond the window.
        let waiting = poll_fn(|cx| std::task::Poll::Ready(stalled.poll_data(cx))).await;
        assert!(waiting.is_ready());
        let rest = match waiting {
            std::task::Poll::Ready(Some(Ok(chunk))) => {
                assert!(chunk.len() <= STREAM_WINDOW as usize);
                stalled.flow_control().release_capacity(chunk.len()).unwrap();
                LARGE_BODY - chunk.len()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(receive_data(&mut stalled, rest).await.len(), rest);
        expect_end(&mut stalled).await;
    });
}

#[test]
fn unread_upload_does_not_block_other_streams() {
    let upstream = H2Server::with(100, |request: Request<RecvStream>, mut respond| async move {
        if request.uri().path() == "/stalled" {
            std::future::pending::<()>().await;
        }
        let mut body = request.into_body();
        let mut length = 0;
        while let Some(Ok(chunk)) = body.data().await {
            let _ = body.flow_control().release_capacity(chunk.len());
            length += chunk.len();
        }
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        let _ = send.send_data(Bytes::from(length.to_string()), true);
    });
    let gateway = run_with_client(&upstream, async |mut send| {
        let (_response, mut stalled) = send_request(&mut send, "/stalled", false);
        let taken = Cell::new(0);
        // Sends until the window is closed and the other streams have made progress.
        let mut push = std::pin::pin!(async {
            loop {
                send_data(&mut stalled, Bytes::from(vec![0; 16 * 1024])).await;
                taken.set(taken.get() + 16 * 1024);
            }
        });
        for _ in 0..3 {
            let (response, mut stream) = send_request(&mut send, "/flowing", false);
            let flowing = async {
                send_data(&mut stream, Bytes::from(vec![1; LARGE_BODY])).await;
                stream.send_data(Bytes::new(), true).unwrap();
                let mut body = await_response(response).await;
                receive_data(&mut body, 7).await
            };
            let received = tokio::select! {
                received = flowing => received,
                () = push.as_mut() => unreachable!("endless upload ended"),
            };
            assert_eq!(received, LARGE_BODY.to_string().as_bytes());
        }
        // The data in between is bounded by windows and kernel buffers.
        assert!((1..LARGE_BODY).contains(&taken.get()), "{}", taken.get());
    });
    gateway.expect_metric("aborted_total", &[], 0.0);
}

/// A server that responds with bodies of this length.
fn fixed_length_echo_server(length: usize) -> H2Server {
    H2Server::with(100, move |_, mut respond| async move {
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        let mut remaining = length;
        while remaining > 0 {
            send.reserve_capacity(remaining);
            let Some(Ok(room)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
            let size = room.min(remaining);
            remaining -= size;
            if send.send_data(Bytes::from(vec![b'x'; size]), remaining == 0).is_err() {
                return;
            }
        }
    })
}
