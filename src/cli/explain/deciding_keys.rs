//! Which keys of the file decide when a cause occurs, with their values.

use std::net::IpAddr;
use std::time::Duration;

use humantime::format_duration;

use crate::config::{RouteConfig, UpstreamConfig};
use crate::contract::Cause;

/// A note about the keys that decide when a request of this route gets the cause; `None` where no key does.
pub(super) fn note(cause: Cause, route: &RouteConfig, upstream: &UpstreamConfig) -> Option<String> {
    let name = &upstream.name;
    match cause {
        Cause::BreakerOpen => Some(breaker_note(upstream)),
        Cause::DestinationUnavailable => Some(no_server_note(upstream)),
        Cause::QueueFull | Cause::QueueTimeout => Some(match &upstream.concurrency {
            None => format!("upstreams.{name}.concurrency is off: the cause does not occur on this route."),
            Some(limits) => format!(
                "Decided by upstreams.{name}.concurrency: max {}, queue {}, queue_timeout {}.",
                limits.max,
                limits.queue,
                format_duration(limits.queue_timeout)
            ),
        }),
        Cause::DnsError | Cause::DnsTimeout => Some(name_note(upstream)),
        Cause::ConnectionTimeout => Some(timeout_note("connect", route.timeouts.connect)),
        Cause::TlsTimeout => Some(timeout_note("tls", route.timeouts.tls)),
        Cause::HttpResponseTimeout => Some(timeout_note("response_headers", route.timeouts.response_headers)),
        Cause::DeadlineExceeded => Some(timeout_note("deadline", route.timeouts.deadline)),
        Cause::ConnectionReadTimeout => Some(timeout_note("body_idle", route.timeouts.body_idle)),
        _ => None,
    }
}

fn timeout_note(key: &str, value: Duration) -> String {
    format!("Decided by timeouts.{key}, which is {} on this route.", format_duration(value))
}

fn name_note(upstream: &UpstreamConfig) -> String {
    let name = &upstream.name;
    let is_fixed = |host: &str| host.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost");
    if upstream.servers.iter().any(|server| is_fixed(&server.host)) {
        return format!("The cause does not occur on this route: upstreams.{name}.servers has an address.");
    }
    format!("Decided by resolver: no name of upstreams.{name}.servers has ever been resolved to an address.")
}

fn breaker_note(upstream: &UpstreamConfig) -> String {
    let name = &upstream.name;
    let Some(breaker) = &upstream.breaker else {
        return format!("upstreams.{name}.breaker is off: the cause does not occur on this route.");
    };
    format!(
        "Decided by upstreams.{name}.breaker: it opens when {} % of at least {} requests within {} have failed, and lets \
         one request through after {}. Retry-After is the time until then.",
        breaker.failure_ratio,
        breaker.min_requests,
        format_duration(breaker.window),
        format_duration(breaker.open_for)
    )
}

fn no_server_note(upstream: &UpstreamConfig) -> String {
    let name = &upstream.name;
    let all_ejectable = upstream.ejection.as_ref().filter(|ejection| ejection.max_ejected >= 100);
    let health = upstream.health.as_ref().map(|health| {
        format!(
            "upstreams.{name}.health: a server is unhealthy after {} failed checks in a row, one every {}",
            health.fall,
            format_duration(health.every)
        )
    });
    let ejection = all_ejectable.map(|ejection| {
        format!(
            "upstreams.{name}.ejection: with max_ejected 100 % every server may be ejected, for {} at first",
            format_duration(ejection.duration)
        )
    });
    match (health, ejection) {
        (None, None) if upstream.ejection.is_some() => format!(
            "The cause does not occur on this route: upstreams.{name}.health is off, and \
             upstreams.{name}.ejection.max_ejected leaves servers."
        ),
        (None, None) => format!(
            "The cause does not occur on this route: upstreams.{name}.health and upstreams.{name}.ejection are off."
        ),
        (health, ejection) => {
            let keys: Vec<String> = [health, ejection].into_iter().flatten().collect();
            format!(
                "Decided by {}. Retry-After is the time until a server may get a request.",
                keys.join("; and by ")
            )
        }
    }
}
