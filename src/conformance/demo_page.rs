//! What to try with the faulty upstream: `demo` prints it when it starts, and the upstream sends it for the path `/`.

use std::fmt::Write as _;

use super::case::FAULT_HEADER;
use super::cases::upstream_faults;
use super::payload::http_response;
use super::recorder::RecordedHead;
use super::step::{Script, Step};
use super::success_routes::{keep_header_section, success_routes};

/// Keeps the list within one screen.
const SHOWN_PER_CATEGORY: usize = 4;

/// The list of `curl` commands for the gateway at this address, in front of an upstream with all faults.
pub(crate) fn examples(gateway: &str) -> String {
    let faults = upstream_faults();
    let mut text = format!(
        "statusquo is in front of an upstream with {} faults. For each of them, the client gets a documented response.\n\n\
         Successful responses:\n",
        faults.len()
    );
    let line = |text: &mut String, path: &str, description: &str, code: u16| {
        let url = format!("curl -i http://{gateway}{path}");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {url:<56} # {code}: {description}");
    };
    for route in success_routes() {
        line(&mut text, &route.path, &route.description, route.status);
    }
    text.push_str("\nFaults (docs/faults.md lists all of them by name):\n");
    for section in faults.chunk_by(|fault, next| fault.section == next.section) {
        let shown = section.iter().filter(|fault| fault.request.is_plain_get());
        for fault in shown.take(SHOWN_PER_CATEGORY) {
            line(&mut text, &fault.path(), fault.description, fault.expect.outcome.status());
        }
    }
    text
}

/// The page at `/`: the list, at the address that the client used. `None` for other requests.
pub(super) fn page(request: &RecordedHead) -> Option<Script> {
    if request.path() != "/" || request.header(FAULT_HEADER).is_some() {
        return None;
    }
    let text = examples(request.header("host").unwrap_or("127.0.0.1:8080"));
    let mut response = Step::Write(http_response("200 OK\ncontent-type: text/plain", text));
    if request.method == "HEAD" {
        keep_header_section(&mut response);
    }
    Some(vec![Step::ReadRequestHead, Step::SendContinue, Step::ReadBody, response])
}
