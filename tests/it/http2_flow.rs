//! Both directions of a stream at once, and flow control on both, towards a client of HTTP/2 in TLS.
//!
//! The client is the `h2` crate over rustls; another one, of gRPC's own library, calls in `tests/sdks/grpc.rs`.

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

use super::gateway::Gateway;
use super::h2_upstream::Serving;
use super::http2_upstream::{echo, serving};
use super::load::limit;
use super::tls_listener::house_speaking;

/// What a stream of this client may have under way towards it.
const WINDOW: u32 = 20_000;
const MEGABYTES: usize = 3 * 1024 * 1024;

async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("test").unwrap();
    let stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
    let mut options = h2::client::Builder::new();
    options.initial_window_size(WINDOW).initial_connection_window_size(8 * 1024 * 1024);
    let (send, connection) = options.handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    send
}

fn run(upstream: &Serving, what: impl AsyncFnOnce(SendRequest<Bytes>)) -> Gateway {
    let (gateway, config) = house_speaking(serving(upstream), &["h2"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let all = async { what(connect(gateway.address(), config).await).await };
        tokio::time::timeout(limit(), all).await.expect("it comes to its end");
    });
    gateway
}

fn ask(send: &mut SendRequest<Bytes>, path: &str, ends: bool) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::builder().method("POST").uri(format!("https://test{path}")).body(()).unwrap();
    send.send_request(request, ends).unwrap()
}

/// Sends all of it, as the window allows.
async fn say(stream: &mut SendStream<Bytes>, mut piece: Bytes) {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
        stream.send_data(piece.split_to(room.min(piece.len())), false).unwrap();
    }
}

/// Takes so many bytes, and opens the window for what was taken.
async fn hear(body: &mut RecvStream, length: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < length {
        let piece = body.data().await.expect("more").unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        heard.extend_from_slice(&piece);
    }
    heard
}

/// Nothing more comes: its end may have a frame of its own.
async fn over(body: &mut RecvStream) {
    while let Some(piece) = body.data().await {
        assert_eq!(piece.unwrap(), "");
    }
}

async fn responded(response: ResponseFuture) -> RecvStream {
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

#[test]
fn a_request_and_its_response_are_said_in_turn_piece_by_piece() {
    let upstream = echo(100);
    run(&upstream, async |mut send| {
        let (response, mut stream) = ask(&mut send, "/", false);
        let mut body = responded(response).await;
        for turn in 0..50 {
            // Smaller and larger than a frame, and than the window.
            let piece = Bytes::from(vec![turn as u8; 1 + turn * 1000]);
            let (_, heard) = tokio::join!(say(&mut stream, piece.clone()), hear(&mut body, piece.len()));
            assert_eq!(heard, piece);
        }
        stream.send_data(Bytes::new(), true).unwrap();
        over(&mut body).await;
    });
}

#[test]
fn a_response_that_is_not_taken_holds_back_no_other_one() {
    let upstream = echo_of(MEGABYTES);
    run(&upstream, async |mut send| {
        let (stalled, _) = ask(&mut send, "/stalled", true);
        let mut stalled = responded(stalled).await;
        for _ in 0..3 {
            let (flowing, _) = ask(&mut send, "/flowing", true);
            let mut flowing = responded(flowing).await;
            assert_eq!(hear(&mut flowing, MEGABYTES).await.len(), MEGABYTES);
            over(&mut flowing).await;
        }
        // Nothing of it was lost, or sent beyond its window.
        let waiting = poll_fn(|cx| std::task::Poll::Ready(stalled.poll_data(cx))).await;
        assert!(waiting.is_ready());
        let rest = match waiting {
            std::task::Poll::Ready(Some(Ok(piece))) => {
                assert!(piece.len() <= WINDOW as usize);
                stalled.flow_control().release_capacity(piece.len()).unwrap();
                MEGABYTES - piece.len()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(hear(&mut stalled, rest).await.len(), rest);
        over(&mut stalled).await;
    });
}

#[test]
fn an_upload_that_is_not_taken_holds_back_no_other_one() {
    let upstream = Serving::with(100, |request: Request<RecvStream>, mut respond| async move {
        if request.uri().path() == "/stalled" {
            std::future::pending::<()>().await;
        }
        let mut body = request.into_body();
        let mut length = 0;
        while let Some(Ok(piece)) = body.data().await {
            let _ = body.flow_control().release_capacity(piece.len());
            length += piece.len();
        }
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        let _ = send.send_data(Bytes::from(length.to_string()), true);
    });
    let gateway = run(&upstream, async |mut send| {
        let (_response, mut stalled) = ask(&mut send, "/stalled", false);
        let taken = Cell::new(0);
        // As much as goes: until its window is shut, and the others have shown that they flow.
        let mut push = std::pin::pin!(async {
            loop {
                say(&mut stalled, Bytes::from(vec![0; 16 * 1024])).await;
                taken.set(taken.get() + 16 * 1024);
            }
        });
        for _ in 0..3 {
            let (response, mut stream) = ask(&mut send, "/flowing", false);
            let flowing = async {
                say(&mut stream, Bytes::from(vec![1; MEGABYTES])).await;
                stream.send_data(Bytes::new(), true).unwrap();
                let mut body = responded(response).await;
                hear(&mut body, 7).await
            };
            let heard = tokio::select! {
                heard = flowing => heard,
                () = push.as_mut() => unreachable!("it has no end"),
            };
            assert_eq!(heard, MEGABYTES.to_string().as_bytes());
        }
        // What lies between is bounded: windows, and what the kernel holds.
        assert!((1..MEGABYTES).contains(&taken.get()), "{}", taken.get());
    });
    gateway.expect_metric("aborted_total", &[], 0.0);
}

/// Answers everything with so many bytes.
fn echo_of(length: usize) -> Serving {
    Serving::with(100, move |_, mut respond| async move {
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        let mut left = length;
        while left > 0 {
            send.reserve_capacity(left);
            let Some(Ok(room)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
            let size = room.min(left);
            left -= size;
            if send.send_data(Bytes::from(vec![b'x'; size]), left == 0).is_err() {
                return;
            }
        }
    })
}
