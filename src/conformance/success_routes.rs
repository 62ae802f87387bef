//! Valid responses of the faulty upstream, to show that the gateway forwards them unchanged.
//!
//! They are data, `cases/responses.yaml`, in the language of [`super::step`]. Unknown paths get an HTML 404, which the
//! gateway replaces.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;

use super::case::FAULT_HEADER;
use super::payload::http_response;
use super::recorder::RecordedHead;
use super::step::{Script, Step, write_bytes};

/// A path with a valid response.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuccessRoute {
    /// The request path.
    pub path: String,
    /// The response, in one line.
    #[serde(rename = "shows")]
    pub description: String,
    /// The status code that the client receives.
    pub status: u16,
    #[serde(default)]
    steps: Script,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Responses {
    paths: Vec<SuccessRoute>,
    named: BTreeMap<String, Script>,
}

/// Read once. Tests request every path and every name.
static RESPONSES: LazyLock<Responses> =
    LazyLock::new(|| serde_saphyr::from_str(include_str!("cases/responses.yaml")).unwrap_or_default());

/// The paths that `demo` lists. [`success_script`] also serves `/status/N` and `/bytes/N` for any number.
pub fn success_routes() -> &'static [SuccessRoute] {
    &RESPONSES.paths
}

/// The script for a request that selects no fault.
pub(crate) fn success_script(request: &RecordedHead) -> Script {
    let path = request.path();
    let written = success_routes().iter().find(|route| route.path == path && !route.steps.is_empty());
    let mut script = written.map_or_else(|| parameterised_response(path), |route| route.steps.clone());
    if request.method == "HEAD" {
        script.retain_mut(keep_header_section);
    }
    script
}

/// The script for a request of the client fault tables.
pub fn upstream_script(request: &RecordedHead) -> Script {
    let named = request.header(FAULT_HEADER).and_then(|name| RESPONSES.named.get(name));
    named.or_else(|| RESPONSES.named.get("served")).cloned().unwrap_or_default()
}

/// `/status/N`: status N with an HTML page. `/bytes/N`: a body of N bytes. Any other path: an HTML 404.
fn parameterised_response(path: &str) -> Script {
    let mut script = vec![Step::ReadRequestHead, Step::SendContinue, Step::ReadBody];
    if let Some(size) = path_number(path, "/bytes/") {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {size}\r\n\r\n"
        );
        let (count, interval) = (size / PATTERN.len() as u64, Duration::ZERO);
        let rest: Vec<u8> = PATTERN.bytes().take(size as usize % PATTERN.len()).collect();
        let repeated = Step::WriteRepeated { bytes: PATTERN.into(), count, interval };
        script.extend([write_bytes(head), repeated, write_bytes(rest)]);
        return script;
    }
    let status = path_number(path, "/status/").filter(|status| (200..600).contains(status)).unwrap_or(404);
    script.push(if matches!(status, 204 | 304) {
        write_bytes(format!("HTTP/1.1 {status} Nothing\r\n\r\n"))
    } else {
        let head = format!("{status} Of That Name\ncontent-type: text/html\nserver: apache/2.4");
        Step::Write(http_response(&head, format!("<html><body><h1>{status}</h1></body></html>")))
    });
    script
}

fn path_number(path: &str, prefix: &str) -> Option<u64> {
    path.strip_prefix(prefix)?.parse().ok()
}

/// Removes the body of a response to HEAD from a step; returns whether anything remains.
pub(super) fn keep_header_section(step: &mut Step) -> bool {
    match step {
        Step::Write(bytes) if bytes.starts_with(b"HTTP/1.1 ") => {
            let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
            bytes.truncate(end.map_or(bytes.len(), |at| at + 4));
            true
        }
        Step::Write(_) | Step::WriteRepeated { .. } => false,
        _ => true,
    }
}

/// 1,024 bytes of text, repeated in the body of `/bytes/N`, so that a test can check a download byte for byte.
pub const PATTERN: &str = include_str!("pattern.txt");

#[cfg(test)]
#[path = "success_routes_tests.rs"]
mod tests;
