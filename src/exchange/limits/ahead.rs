//! A request body that is read before the request is admitted, because a rule counts by a member of it.
//!
//! Only where that can come to an end: a JSON body of at most 64 KiB. Anything else (another type, a coding, a longer body)
//! is not waited for, and counts as having no such member. The client's own time limits hold while it sends, no time of the
//! upstream's runs, and what was read is what the upstream is sent first, as if for a second attempt.

use std::future::poll_fn;
use std::time::Instant;

use super::super::clock::Clock;
use super::super::downstream::Downstream;
use super::super::flow::{Stop, Story};
use super::super::relay;
use super::super::request::Request;
use super::super::upload::{Ahead, Upload};
use crate::contract::Phase;
use crate::protocol::framing::RequestFraming;
use crate::protocol::media;
use crate::snapshot::{Route, Snapshot};
use crate::upstream::timer::timeout_at;

/// Longest body that is read. Bytes.
const LONGEST: u64 = 64 * 1024;

/// Reads the body where that is worth it; `None` where it is not. The upload then holds it, and says whether it is whole.
///
/// # Errors
/// What a client does wrong while it sends a body, as later.
pub async fn read(
    snapshot: &Snapshot,
    route: &Route,
    client: &mut Downstream,
    request: &Request,
    story: &mut Story,
) -> Result<Option<Upload>, Stop> {
    if !can_be_read(request) || client.body_is_done() {
        return Ok(None);
    }
    let mut upload = Upload::new(client, route.config.max_body, Instant::now());
    if client.awaits_continue() {
        relay::invite(client);
        upload.was_invited();
    }
    let clock = Clock::start(story.started, route.timeouts());
    loop {
        let now = Instant::now();
        let limit = upload.client_limit(&snapshot.client, now).or(clock.whole(Phase::Admit));
        let step = timeout_at(
            limit.at,
            poll_fn(|cx| {
                if client.unsent() > 0 {
                    // A failure shows as a client that left.
                    let _ = client.poll_flush(cx);
                }
                upload.poll_ahead(cx, client, LONGEST as usize)
            }),
        )
        .await;
        let waited = now.elapsed();
        upload.add_wait(waited);
        story.sending += waited;
        story.waited += waited;
        match step {
            Some(Ahead::More) => {}
            Some(Ahead::Whole | Ahead::TooLong) => return Ok(Some(upload)),
            Some(Ahead::Failed(fault)) => return Err(Stop::Fault(fault)),
            Some(Ahead::ClientGone) => return Err(Stop::ClientGone),
            // The timer is coarse and limits move while bytes come: only a limit that has passed strikes.
            None => {
                let now = Instant::now();
                let limit = upload.client_limit(&snapshot.client, now).or(clock.whole(Phase::Admit));
                if now >= limit.at {
                    return Err(Stop::Fault(limit.fault()));
                }
            }
        }
    }
}

fn can_be_read(request: &Request) -> bool {
    let short = match request.framing {
        RequestFraming::None => false,
        RequestFraming::Length(length) => length <= LONGEST,
        RequestFraming::Chunked => true,
    };
    let coded = request.fields.value("content-encoding").is_some();
    short && !coded && request.fields.value("content-type").is_some_and(media::is_json)
}
