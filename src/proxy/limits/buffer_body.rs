//! A request body that is read before the request is admitted, because a rule counts by a member of it.
//!
//! Only where that can come to an end: a JSON body of at most 64 KiB. Anything else (another type, a coding, a longer body)
//! is not waited for, and counts as having no such member. The client's own time limits hold while it sends, no time of the
//! upstream's runs, and what was read is what the upstream is sent first, as if for a second attempt.

use std::future::poll_fn;
use std::time::Instant;

use super::super::clock::RequestClock;
use super::super::context::{Interrupt, RequestLog};
use super::super::downstream::Downstream;
use super::super::relay;
use super::super::upload::{BufferProgress, Upload};
use crate::contract::Phase;
use crate::http::framing::RequestFraming;
use crate::http::media_type;
use crate::proxy::message::request::Request;
use crate::snapshot::{Route, Snapshot};
use crate::upstream::timer::timeout_at;

/// Longest body that is read. Bytes.
const MAX_BUFFERED_BODY: u64 = 64 * 1024;

/// Reads the body where that is worth it; `None` where it is not. The upload then holds it, and says whether it is whole.
///
/// # Errors
/// What a client does wrong while it sends a body, as later.
pub async fn buffer_body(
    snapshot: &Snapshot,
    route: &Route,
    client: &mut Downstream,
    request: &Request,
    log: &mut RequestLog,
) -> Result<Option<Upload>, Interrupt> {
    if !is_bufferable(request) || client.body_is_done() {
        return Ok(None);
    }
    let mut upload = Upload::new(client, route.config.max_body, Instant::now());
    if client.awaits_continue() {
        relay::send_continue(client);
        upload.set_continue_sent();
    }
    let clock = RequestClock::start(log.started, route.timeouts());
    loop {
        let now = Instant::now();
        let limit = upload.client_limit(&snapshot.client, now).earlier(clock.max_duration(Phase::Admit));
        let step = timeout_at(
            limit.at,
            poll_fn(|cx| {
                if client.unsent() > 0 {
                    // A failure shows as a client that left.
                    let _ = client.poll_flush(cx);
                }
                upload.poll_buffer(cx, client, MAX_BUFFERED_BODY as usize)
            }),
        )
        .await;
        let waited = now.elapsed();
        upload.add_client_wait(waited);
        log.body_read_time += waited;
        log.waited += waited;
        match step {
            Some(BufferProgress::More) => {}
            Some(BufferProgress::Complete | BufferProgress::TooLarge) => return Ok(Some(upload)),
            Some(BufferProgress::Failed(fault)) => return Err(Interrupt::Fault(fault)),
            Some(BufferProgress::ClientDisconnected) => return Err(Interrupt::ClientDisconnected),
            // The timer is coarse and limits move while bytes come: only a limit that has passed strikes.
            None => {
                let now = Instant::now();
                let limit =
                    upload.client_limit(&snapshot.client, now).earlier(clock.max_duration(Phase::Admit));
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
