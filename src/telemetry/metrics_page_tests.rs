//! Renders `docs/metrics.md` from the definitions.
//!
//! `UPDATE_DOCS=1 cargo test metrics_page` writes the page.

use std::fmt::Write as _;

use super::definitions::{ALL, MetricKind};
use super::status_label;
use crate::generated_files::assert_current;

/// The content of `docs/metrics.md`.
fn markdown_page() -> String {
    let mut page = String::from(PAGE_HEADER);
    page.push_str("| metric | type | labels | what it counts |\n|---|---|---|---|\n");
    for row in ALL {
        let labels = row.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let _ =
            writeln!(page, "| `{}` | {} | {labels} | {} |", row.full_name(), type_name(row.kind), row.help);
    }
    page.push_str(PAGE_FOOTER);
    page.push_str("\n## Values of the status labels\n\n");
    let labelled_statuses = status_label::LABELLED_STATUSES
        .iter()
        .map(|status| format!("`{status}`"))
        .collect::<Vec<_>>()
        .join(" ");
    let _ = writeln!(
        page,
        "These status codes, and every code of the contract, have their own label value: {labelled_statuses}.\nOthers are \
         grouped as `{}` (400-499), `{}` (500-599) or `{}`.",
        status_label::OTHER_4XX,
        status_label::OTHER_5XX,
        status_label::OTHER
    );
    page
}

const PAGE_HEADER: &str = "\
<!-- Generated from src/telemetry/definitions.rs; regenerate with: UPDATE_DOCS=1 cargo test metrics_page -->
# Metrics

`GET /metrics` on the telemetry address returns these in Prometheus' text format, compressed with gzip if the scraper accepts
it. Label values are constants or names from
the configuration, never data that a client sent. `route` and `upstream` are `none` for requests without a route or an
upstream.

";

const PAGE_FOOTER: &str = "
On Linux, the standard process metrics are exported too: `process_cpu_seconds_total`, `process_open_fds`,
`process_max_fds`, `process_virtual_memory_bytes`, `process_resident_memory_bytes`, `process_start_time_seconds`,
`process_threads`.

## Series exported from the start

These series exist with the value 0 before the first request: `responses_total` for every route and documented error code,
with the origins `replaced` and `proxy`; `aborted_total` and `closed_without_response_total` for every cause;
`log_lines_dropped_total` for every reason; every metric without labels. Other series appear with their first event.

## Series removed by a reload

The gauges of a route, upstream, server, rate limit or backend that a reload removed disappear at once, its counters and
histograms ten minutes later, so that Prometheus scrapes their last values. A name that comes back within this time continues
its counters; later they start at 0.

## What overhead_seconds excludes

`overhead_seconds` covers every request that was received, also those whose client disconnected. It excludes time spent
waiting for the upstream: in the queue (`concurrency.queue`), for a connection including its TLS handshake, for the response
headers, and for each part of the response body. It also excludes time spent waiting for the client: for each part of the
request body, and until the client accepts more of the response. All time in a tunnel is waiting. What remains is routing,
rate limits (calls to a shared backend included), parsing, classifying and writing.

## How closed_without_response_total counts

[faults.md](faults.md#known-limits) lists the causes. On HTTP/2, `client_gone` counts from the frames: once for each stream that the
client resets, or leaves open when it closes the connection, before a response was counted.

## Invariants

- For every code, the sum of `responses_total` is the number of responses whose headers were sent to clients; they count when they
  are handed to the connection. No stream counts here and in `closed_without_response_total` with the cause `client_gone`.
- For every code of 400 or above, the sum of `errors_total` equals the sum of `responses_total`.
- Attempts minus retries is the number of requests forwarded, except that a request which succeeds after it moved to another
  connection (after a GOAWAY, REFUSED_STREAM or a stale pooled connection) counts as a retry, but not as another attempt.
";

/// The type in Prometheus' text format.
pub(super) const fn type_name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram(_) => "histogram",
    }
}

#[test]
fn metrics_page_matches_the_definitions() {
    assert_current("docs/metrics.md", &markdown_page(), "metrics_page");
}
