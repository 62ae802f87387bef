//! The upstream of the benchmark: keeps connections open and responds immediately with prepared bytes.
//!
//! It reads request header sections without bodies only. It is part of the load, not of the measurement.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::job::{Job, forwarded_body};

/// Addresses of the two upstreams.
pub struct Upstreams {
    /// Responds to every request.
    pub serving: SocketAddr,
    /// Refuses connections: the port is bound but not listening.
    pub refusing: SocketAddr,
    _bound_socket: socket2::Socket,
}

/// Starts the upstream on the current runtime.
pub async fn start() -> std::io::Result<Upstreams> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let serving = listener.local_addr()?;
    let bound_socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    bound_socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    let refusing =
        bound_socket.local_addr()?.as_socket().ok_or_else(|| std::io::Error::other("no IPv4 address"))?;
    tokio::spawn(accept(listener));
    Ok(Upstreams { serving, refusing, _bound_socket: bound_socket })
}

async fn accept(listener: TcpListener) {
    let passed = response_bytes("200 OK", "application/json", &forwarded_body());
    let html = format!(
        "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n{}</body>\r\n</html>\r\n",
        "<!-- a padding to disable friendly error pages -->\r\n".repeat(16)
    );
    let failed = response_bytes("502 Bad Gateway", "text/html", html.as_bytes());
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&passed), Arc::clone(&failed)));
    }
}

fn response_bytes(status: &str, media_type: &str, body: &[u8]) -> Arc<[u8]> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nServer: app/3.1\r\nContent-Type: {media_type}\r\nCache-Control: no-cache\r\n\
         X-App-Version: 7\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes.into()
}

async fn serve(mut stream: TcpStream, passed: Arc<[u8]>, failed: Arc<[u8]>) {
    let _ = stream.set_nodelay(true);
    let mut head = Vec::with_capacity(2048);
    loop {
        match stream.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) if !head.ends_with(b"\r\n\r\n") => {}
            Ok(_) => {
                let requested_path = head.get(4..).unwrap_or_default();
                let reply = if requested_path.starts_with(Job::Replaced.path().as_bytes()) {
                    &failed
                } else {
                    &passed
                };
                if stream.write_all(reply).await.is_err() {
                    return;
                }
                head.clear();
            }
        }
    }
}
