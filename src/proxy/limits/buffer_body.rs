//! Buffers the request body before admission, for rate limits whose key is a member of a JSON body.
//!
//! Only JSON bodies of at most 64 KiB without a content coding can be used for a key. Other JSON bodies are unreadable;
//! a body of another type counts as having no such member. A body of unknown length is read until it exceeds 64 KiB.
//! The client timeouts apply while the body is read, and the deadline does not run. The buffered bytes are sent to the
//! upstream later, from the replay buffer of [`Upload`].

use std::future::poll_fn;
use std::time::Instant;

use super::super::context::{Exchange, Interrupt};
use super::super::relay;
use super::super::upload::{BufferProgress, Upload};
use crate::contract::{Cause, Phase};
use crate::http::framing::RequestFraming;
use crate::http::media_type;
use crate::proxy::message::request::Request;
use crate::snapshot::Route;
use crate::upstream::timer::timeout_at;

/// Maximum size of a buffered body, in bytes.
pub(super) const MAX_BUFFERED_BODY: usize = 64 * 1024;

/// The result of [`buffer_body`].
pub(crate) enum BufferedBody {
    /// There is no JSON body, or no key needs it; nothing was read.
    NotBuffered,
    /// A JSON body that is not read, and why.
    Unreadable(&'static str),
    /// A JSON body of which the upload has the beginning, or all of it: see [`Upload::buffered_body`].
    Read(Upload),
}

/// Buffers the body, unless its header section already shows that it cannot be used for a key.
///
/// # Errors
/// The body is malformed or too large, the client is too slow, or it disconnected.
pub(crate) async fn buffer_body(
    exchange: &mut Exchange<'_>,
    route: &Route,
    request: &Request,
) -> Result<BufferedBody, Interrupt> {
    let Exchange { context, client, .. } = exchange;
    let client_config = &context.snapshot.client;
    if !has_json_body(request) || client.body_is_done() {
        return Ok(BufferedBody::NotBuffered);
    }
    if let Some(reason) = unreadable(request) {
        return Ok(BufferedBody::Unreadable(reason));
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
                upload.poll_buffer(cx, client, MAX_BUFFERED_BODY)
            }),
        )
        .await;
        let waited = now.elapsed();
        upload.add_client_wait(waited);
        client.add_wait(waited);
        match step {
            Some(BufferProgress::More) => {}
            Some(BufferProgress::Complete | BufferProgress::TooLarge) => {
                return Ok(BufferedBody::Read(upload));
            }
            Some(BufferProgress::Failed(fault)) => {
                if fault.cause() == Cause::MalformedBody {
                    // The end of the body is unknown.
                    client.close_after_response();
                }
                return Err(fault.in_phase(Phase::Admit).into());
            }
            Some(BufferProgress::ClientDisconnected) => return Err(Interrupt::ClientDisconnected),
            // Received bytes extend the limit, and the timer may fire late: check the limit again.
            None => {
                let now = Instant::now();
                let limit =
                    upload.client_limit(client_config, now).earlier(deadlines.max_duration(Phase::Admit));
                if now >= limit.at {
                    return Err(limit.fault().in_phase(Phase::Admit).into());
                }
            }
        }
    }
}

fn has_json_body(request: &Request) -> bool {
    let has_body = match request.framing {
        RequestFraming::None | RequestFraming::Length(0) => false,
        RequestFraming::Length(_) | RequestFraming::Chunked => true,
    };
    has_body && request.fields.value("content-type").is_some_and(media_type::is_json)
}

/// Why a JSON body cannot be read, as far as its header section says so.
fn unreadable(request: &Request) -> Option<&'static str> {
    // "identity" means no coding (RFC 9110 12.5.3).
    let mut codings = request.fields.values("content-encoding");
    if codings.any(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"identity")) {
        return Some("the JSON body has a content coding");
    }
    match request.framing {
        RequestFraming::Length(length) if length > MAX_BUFFERED_BODY as u64 => Some(TOO_LARGE),
        RequestFraming::None | RequestFraming::Length(_) | RequestFraming::Chunked => None,
    }
}

/// Why a body above [`MAX_BUFFERED_BODY`] cannot be read.
pub(super) const TOO_LARGE: &str = "the JSON body is longer than 64 KiB";
