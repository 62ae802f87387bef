//! The read-only endpoints for Prometheus and probes: `/metrics`, `/livez`, `/readyz`.
//!
//! The `server` module determines the readiness. Probes read the status code; the bodies are one word for people.

use std::io::Read as _;

use flate2::Compression;
use flate2::read::GzEncoder;
use http::header::{CONTENT_ENCODING, VARY};
use http::{HeaderValue, Method};

use super::PageResponse;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::CONTENT_TYPE;

/// The state of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Not all listeners are open yet.
    Starting,
    /// Ready for requests.
    Serving,
    /// Shutting down: open connections are still served; load balancers should send new ones elsewhere.
    Draining,
}

/// The methods of every endpoint, as the value of `Allow`.
pub(crate) fn allowed_methods() -> HeaderValue {
    HeaderValue::from_static("GET, HEAD")
}

/// How a page is encoded for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageCoding {
    /// As it is.
    Identity,
    /// Compressed, if it is the page of the metrics; the others are one word.
    Gzip,
}

/// The data that the endpoints show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TelemetryState<'a> {
    /// The state of the process.
    pub readiness: Readiness,
    /// The metrics for `/metrics`.
    pub metrics: &'a Metrics,
}

/// Returns the response to a request on the telemetry address. `path` excludes the query.
///
/// # Errors
/// A fault for an unknown path, a method other than GET and HEAD, or a process that is not ready.
pub(crate) fn respond(
    method: &Method,
    path: &str,
    coding: PageCoding,
    state: &TelemetryState<'_>,
) -> Result<PageResponse, Fault> {
    let page: fn(PageCoding, &TelemetryState<'_>) -> Result<PageResponse, Fault> = match path {
        "/metrics" => metrics,
        "/livez" => livez,
        "/readyz" => readyz,
        _ => return Err(Fault::new(Cause::DestinationNotFound, Phase::Route)),
    };
    if method != Method::GET && method != Method::HEAD {
        let evidence = Evidence::from_static("telemetry endpoints support only GET and HEAD");
        return Err(Fault::new(Cause::MethodNotAllowed, Phase::Route).with_evidence(evidence));
    }
    page(coding, state)
}

fn metrics(coding: PageCoding, state: &TelemetryState<'_>) -> Result<PageResponse, Fault> {
    let text = state.metrics.render();
    let compressed = match coding {
        PageCoding::Identity => None,
        PageCoding::Gzip => gzip(&text),
    };
    let is_compressed = compressed.is_some();
    let mut page = PageResponse::uncached(CONTENT_TYPE, compressed.unwrap_or(text));
    page.headers.push((VARY, HeaderValue::from_static("Accept-Encoding")));
    if is_compressed {
        page.headers.push((CONTENT_ENCODING, HeaderValue::from_static("gzip")));
    }
    Ok(page)
}

/// The fastest level: the page is read once, usually within the same data centre.
fn gzip(text: &[u8]) -> Option<Vec<u8>> {
    let mut compressed = Vec::with_capacity(text.len() / 8);
    GzEncoder::new(text, Compression::fast()).read_to_end(&mut compressed).ok()?;
    Some(compressed)
}

fn livez(_: PageCoding, _: &TelemetryState<'_>) -> Result<PageResponse, Fault> {
    Ok(PageResponse::uncached(PLAIN, "ok\n"))
}

fn readyz(_: PageCoding, state: &TelemetryState<'_>) -> Result<PageResponse, Fault> {
    // One cause for both, because probes act alike. The evidence distinguishes them.
    let not_ready =
        |reason| Err(Fault::new(Cause::Draining, Phase::Admit).with_evidence(Evidence::from_static(reason)));
    match state.readiness {
        Readiness::Starting => not_ready("still starting"),
        Readiness::Serving => Ok(PageResponse::uncached(PLAIN, "ready\n")),
        Readiness::Draining => not_ready("draining"),
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::header::CACHE_CONTROL;

    use super::*;

    fn get_page(method: Method, path: &str, readiness: Readiness) -> Result<PageResponse, Cause> {
        let metrics = Metrics::new();
        respond(&method, path, PageCoding::Identity, &TelemetryState { readiness, metrics: &metrics })
            .map_err(|fault| fault.cause())
    }

    #[test]
    fn metrics_page_is_prometheus_text_and_not_cacheable() {
        let page = get_page(Method::GET, "/metrics", Readiness::Starting).unwrap();
        assert_eq!((page.status, page.content_type), (200, "text/plain; version=0.0.4; charset=utf-8"));
        let fields = [(CACHE_CONTROL, "no-store"), (VARY, "Accept-Encoding")]
            .map(|(name, value)| (name, HeaderValue::from_static(value)));
        assert_eq!(page.headers, fields);
        assert!(page.body.starts_with(b"# HELP "));
    }

    #[test]
    fn livez_always_succeeds_and_readyz_only_while_serving() {
        for stage in [Readiness::Starting, Readiness::Serving, Readiness::Draining] {
            assert_eq!(get_page(Method::GET, "/livez", stage).unwrap().body, b"ok\n");
        }
        assert_eq!(get_page(Method::GET, "/readyz", Readiness::Serving).unwrap().body, b"ready\n");
        assert_eq!(get_page(Method::GET, "/readyz", Readiness::Starting), Err(Cause::Draining));
        assert_eq!(get_page(Method::GET, "/readyz", Readiness::Draining), Err(Cause::Draining));
    }

    #[test]
    fn head_returns_the_get_page() {
        let get = get_page(Method::GET, "/livez", Readiness::Serving);
        assert_eq!(get_page(Method::HEAD, "/livez", Readiness::Serving), get);
    }

    #[test]
    fn unsupported_methods_and_unknown_paths_are_faults() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(get_page(method, "/metrics", Readiness::Serving), Err(Cause::MethodNotAllowed));
        }
        for path in ["/", "", "/metrics/", "/Metrics", "//metrics", "*", "/readyz/x"] {
            assert_eq!(
                get_page(Method::GET, path, Readiness::Serving),
                Err(Cause::DestinationNotFound),
                "{path}"
            );
        }
        assert_eq!(get_page(Method::POST, "/nothing", Readiness::Serving), Err(Cause::DestinationNotFound));
    }
}
