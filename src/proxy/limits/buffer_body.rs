//! Buffers the request body before admission, for rate limits whose key is a member of a JSON body.
//!
//! Only JSON bodies of at most 64 KiB without a content coding are buffered; any other body counts as having no such
//! member. The client timeouts apply while the body is read, and the deadline does not run. The buffered bytes are sent
//! to the upstream later, from the replay buffer of [`Upload`].

use std::future::poll_fn;
use std::time::Instant;

use super::super::context::{Exchange, Interrupt};
use super::super::relay;
use super::super::upload::{BufferProgress, Upload};
use crate::contract::Phase;
use crate::http::framing::RequestFraming;
use crate::http::media_type;
use crate::proxy::message::request::Request;
use crate::snapshot::Route;
use crate::upstream::timer::timeout_at;

/// Maximum size of a buffered body, in bytes.
const MAX_BUFFERED_BODY: u64 = 64 * 1024;

/// Buffers the body if it can be used for a key. Otherwise returns `None` without reading the body.
/// [`Upload::buffered_body`] returns the body if it is complete.
///
/// # Errors
/// The body is malformed or too large, the client is too slow, or it disconnected.
pub(crate) async fn buffer_body(
    exchange: &mut Exchange<'_>,
    route: &Route,
    request: &Request,
) -> Result<Option<Upload>, Interrupt> {
    let Exchange { context, client, .. } = exchange;
    let client_config = &context.snapshot.client;
    if !is_bufferable(request) || client.body_is_done() {
        return Ok(None);
    }
    let mut upload = Upload::new(client, route.config.max_body, Instant::now());
    if client.awaits_continue() {
        relay::send_continue(client);
        upload.set_continue_sent();
    }
    let deadlines = context.deadlines(route, None);
    loop {
        let now = Instant::now();
        let limit = upload.client_limit(client_config, now).earlier(deadlines.max_duration(Phase::Admit));
        let step = timeout_at(
            limit.at,
            poll_fn(|cx| {
                if client.unsent() > 0 {
                    // Flushes the 100 Continue. A write error is reported by the next read.
                    let _ = client.poll_flush(cx);
                }
                upload.poll_buffer(cx, client, MAX_BUFFERED_BODY as usize)
            }),
        )
        .await;
        let waited = now.elapsed();
        upload.add_client_wait(waited);
        client.add_wait(waited);
        match step {
            Some(BufferProgress::More) => {}
            Some(BufferProgress::Complete | BufferProgress::TooLarge) => return Ok(Some(upload)),
            Some(BufferProgress::Failed(fault)) => return Err(Interrupt::Fault(fault)),
            Some(BufferProgress::ClientDisconnected) => return Err(Interrupt::ClientDisconnected),
            // Received bytes extend the limit, and the timer may fire late: check the limit again.
            None => {
                let now = Instant::now();
                let limit =
                    upload.client_limit(client_config, now).earlier(deadlines.max_duration(Phase::Admit));
                if now >= limit.at {
                    return Err(Interrupt::Fault(limit.fault()));
                }
            }
        }
    }
}

fn is_bufferable(request: &Request) -> bool {
    let fits = match request.framing {
        RequestFraming::None => false,
        RequestFraming::Length(length) => length <= MAX_BUFFERED_BODY,
        RequestFraming::Chunked => true,
    };
    let is_encoded = request.fields.value("content-encoding").is_some();
    fits && !is_encoded && request.fields.value("content-type").is_some_and(media_type::is_json)
}
