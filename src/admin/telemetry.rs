//! What Prometheus and probes ask: `/metrics`, `/livez`, `/readyz`. Read-only.
//!
//! It is told whether the gateway is ready and does not work it out (see `server`). Bodies of the probes are one word for
//! a person with curl; probes read the status.

use http::Method;

use super::PageResponse;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::observe::Metrics;
use crate::observe::metrics::CONTENT_TYPE;

/// How far the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not all listeners are there yet.
    Starting,
    /// Send requests.
    Serving,
    /// Shutting down: connections are still served, new ones should go elsewhere.
    Draining,
}

/// What the endpoints show.
#[derive(Clone, Copy, Debug)]
pub struct TelemetryState<'a> {
    /// How far the process is.
    pub ready: Readiness,
    /// What `/metrics` prints.
    pub metrics: &'a Metrics,
}

/// Answers one request to the telemetry address. `path` is without the query.
///
/// # Errors
/// A fault, to be answered by the contract: no such page, a method that does not read, not ready.
pub fn answer(method: &Method, path: &str, state: &TelemetryState<'_>) -> Result<PageResponse, Fault> {
    let page: fn(&TelemetryState<'_>) -> Result<PageResponse, Fault> = match path {
        "/metrics" => metrics,
        "/livez" => alive,
        "/readyz" => ready,
        _ => return Err(Fault::new(Cause::DestinationNotFound, Phase::Route)),
    };
    if method != Method::GET && method != Method::HEAD {
        let evidence = Evidence::from_static("the telemetry endpoints are read with GET or HEAD");
        return Err(Fault::new(Cause::UnsupportedMethod, Phase::Route).with_evidence(evidence));
    }
    page(state)
}

fn metrics(state: &TelemetryState<'_>) -> Result<PageResponse, Fault> {
    Ok(PageResponse::uncached(CONTENT_TYPE, state.metrics.render()))
}

fn alive(_: &TelemetryState<'_>) -> Result<PageResponse, Fault> {
    Ok(PageResponse::uncached(PLAIN, "ok\n"))
}

fn ready(state: &TelemetryState<'_>) -> Result<PageResponse, Fault> {
    // Both are one cause to a prober: up, but do not send requests here. The evidence tells them apart.
    let not_ready =
        |why| Err(Fault::new(Cause::Draining, Phase::Admit).with_evidence(Evidence::from_static(why)));
    match state.ready {
        Readiness::Starting => not_ready("still starting"),
        Readiness::Serving => Ok(PageResponse::uncached(PLAIN, "ready\n")),
        Readiness::Draining => not_ready("draining"),
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ask(method: Method, path: &str, ready: Readiness) -> Result<PageResponse, Cause> {
        let metrics = Metrics::new();
        answer(&method, path, &TelemetryState { ready, metrics: &metrics }).map_err(|fault| fault.cause())
    }

    #[test]
    fn metrics_are_a_page_in_prometheus_text_format_that_no_cache_keeps() {
        let page = ask(Method::GET, "/metrics", Readiness::Starting).unwrap();
        assert_eq!((page.status, page.content_type), (200, "text/plain; version=0.0.4; charset=utf-8"));
        assert_eq!(page.headers, [(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"))]);
        assert!(page.body.starts_with(b"# HELP "));
    }

    #[test]
    fn the_process_is_alive_at_every_stage_and_ready_only_while_serving() {
        for stage in [Readiness::Starting, Readiness::Serving, Readiness::Draining] {
            assert_eq!(ask(Method::GET, "/livez", stage).unwrap().body, b"ok\n");
        }
        assert_eq!(ask(Method::GET, "/readyz", Readiness::Serving).unwrap().body, b"ready\n");
        assert_eq!(ask(Method::GET, "/readyz", Readiness::Starting), Err(Cause::Draining));
        assert_eq!(ask(Method::GET, "/readyz", Readiness::Draining), Err(Cause::Draining));
    }

    #[test]
    fn head_gets_the_page_of_get() {
        let get = ask(Method::GET, "/livez", Readiness::Serving);
        assert_eq!(ask(Method::HEAD, "/livez", Readiness::Serving), get);
    }

    #[test]
    fn other_methods_and_other_paths_are_faults() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(ask(method, "/metrics", Readiness::Serving), Err(Cause::UnsupportedMethod));
        }
        for path in ["/", "", "/metrics/", "/Metrics", "//metrics", "*", "/readyz/x"] {
            assert_eq!(ask(Method::GET, path, Readiness::Serving), Err(Cause::DestinationNotFound), "{path}");
        }
        assert_eq!(ask(Method::POST, "/nothing", Readiness::Serving), Err(Cause::DestinationNotFound));
    }
}
