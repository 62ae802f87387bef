//! One active health check of an address, on a connection of its own.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::endpoint::Endpoint;
use super::health::{CheckResult, HealthCheck, HealthSettings};
use super::http2::HttpVersionPolicy;
use super::runtime::UpstreamRuntime;
use super::timer::timeout_at;
use crate::http::response_head;
use crate::tls::stream::Stream;

/// The longest header section that is read.
const MAX_HEAD: usize = 16 * 1024;

/// Checks an address.
pub(crate) async fn check(
    upstream: &UpstreamRuntime,
    endpoint: &Arc<Endpoint>,
    settings: &HealthSettings,
) -> CheckResult {
    let deadline = Instant::now() + settings.timeout;
    match timeout_at(deadline, passes(upstream, endpoint, settings, deadline)).await {
        Some(Some(true)) => CheckResult::Passed,
        Some(Some(false) | None) | None => CheckResult::Failed,
    }
}

async fn passes(
    upstream: &UpstreamRuntime,
    endpoint: &Arc<Endpoint>,
    settings: &HealthSettings,
    deadline: Instant,
) -> Option<bool> {
    let transport = upstream.transport();
    let mut stream = transport.connect(endpoint, deadline, None).await.ok()?;
    let http2_only = transport.http2().version_policy() == HttpVersionPolicy::Http2;
    let connects_only = settings.check == HealthCheck::Connect;
    if let Some(name) = &endpoint.tls_name {
        let time_left = deadline.saturating_duration_since(Instant::now());
        (stream, _) = transport.encrypt(stream, name, time_left, !http2_only).await.ok()?;
    }
    let HealthCheck::Http { path, expect } = &settings.check else { return Some(connects_only) };
    let status = if http2_only {
        status_h2(stream, endpoint.host(), path).await?
    } else {
        status_h1(stream, endpoint.host(), path).await?
    };
    Some(expect.contains(&status))
}

/// Sends a GET over HTTP/1.1 and returns the status of the final response.
async fn status_h1(mut stream: Stream, host: &str, path: &str) -> Option<u16> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: statusquo-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    stream.flush().await.ok()?;
    let mut head = Vec::with_capacity(1024);
    loop {
        if let Some(end) = memchr::memmem::find(&head, b"\r\n\r\n") {
            let status = response_head::parse(head.get(..end + 4)?, &Method::GET).ok()?.status;
            if status >= 200 {
                return Some(status);
            }
            head.drain(..end + 4);
            continue;
        }
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
}

/// Sends a GET over HTTP/2 and returns the status.
async fn status_h2(stream: Stream, host: &str, path: &str) -> Option<u16> {
    let (send, connection) = h2::client::Builder::new().handshake::<_, Bytes>(stream).await.ok()?;
    let request = Request::get(format!("http://{host}{path}")).body(()).ok()?;
    let exchange = async {
        let (response, _) = send.ready().await.ok()?.send_request(request, true).ok()?;
        Some(response.await.ok()?.status().as_u16())
    };
    tokio::select! {
        status = exchange => status,
        _ = connection => None,
    }
}
