//! Checks the `timeouts` of the top level, the upstreams and the routes against each other.

use std::time::Duration;

use super::file::ConfigFile;
use super::file::routing::Timeouts;
use super::tree::Node;
use super::units::duration_text;
use super::validator::Place;

/// A timeout by its key.
type Limit = (&'static str, Duration);

/// Each timeout with the one that ends the request before it would, if that is shorter.
fn pairs(file: &Timeouts) -> [(Limit, Limit); 4] {
    let deadline = ("deadline", file.deadline);
    [
        (("connect", file.connect), deadline),
        (("tls", file.tls), deadline),
        (("response_headers", file.response_headers), deadline),
        (deadline, ("max_duration", file.max_duration.unwrap_or(Duration::MAX))),
    ]
}

/// Only within one section: a route may shorten `deadline` and inherit the rest.
pub(super) fn check(at: &Place<'_>, file: &Timeouts) {
    for ((inner, short), (outer, long)) in pairs(file) {
        if short > long && at.key(outer).is_written() {
            let (short, long) = (duration_text(short), duration_text(long));
            let message = format!("{short} is longer than {outer} ({long}), so it would never take effect");
            at.key(inner).pointless(message, format!("shorten {inner} or lengthen {outer}"));
        }
    }
}

/// A timeout that is written, compared with the limits of all routes that have it.
struct Written<'v> {
    at: Place<'v>,
    /// `deadline` or `max_duration`.
    outer: &'static str,
    time: Duration,
    /// The longest limit, and where it is written; `None` is the default.
    limit: (Duration, Option<Place<'v>>),
}

/// Warns of a timeout that is longer than the limit in effect on every route that has it.
pub(super) fn warn_of_ineffective(root: &Place<'_>, file: &ConfigFile) {
    let mut found: Vec<Written<'_>> = Vec::new();
    for (at, route) in root.key("routes").items(file.routes.iter().flatten()) {
        let Some(upstream) = &route.upstream else { continue };
        let upstream = root.key("upstreams").key(upstream);
        let levels = [&at, &upstream, root].map(|level| level.key("timeouts"));
        let written = |key: &str| levels.iter().map(|level| level.key(key)).find(|value| value.is_written());
        for ((inner, time), (outer, limit)) in pairs(&route.timeouts) {
            let Some(at) = written(inner) else { continue };
            let limit = (limit, written(outer));
            let known = found.iter_mut().find(|known| known.at.path() == at.path() && known.outer == outer);
            match known {
                Some(known) if known.limit.0 < limit.0 => known.limit = limit,
                Some(_) => {}
                None => found.push(Written { at, outer, time, limit }),
            }
        }
    }
    for Written { at, outer, time, limit: (limit, limit_at) } in
        found.iter().filter(|it| it.time > it.limit.0)
    {
        // As they are written.
        let text = |place: Option<&Place<'_>>, time: Duration| {
            let written = place.and_then(Place::node).and_then(Node::text);
            written.map_or_else(|| duration_text(time), str::to_owned)
        };
        let (time, limit) = (text(Some(at), *time), text(limit_at.as_ref(), *limit));
        let limit_path = limit_at.as_ref().map(Place::path);
        let message = format!(
            "{time} is longer than {outer}, which is {limit} ({}), so it never takes effect",
            limit_path.unwrap_or("the default")
        );
        let other = match limit_path {
            Some(path) => format!("lengthen {path}"),
            None => format!("add {outer}: {time} beside it"),
        };
        at.warn(message, format!("write {limit} or less, or {other}"));
    }
}
