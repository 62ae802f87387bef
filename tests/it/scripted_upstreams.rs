//! Named upstreams for common test cases.
//!
//! `statusquo::conformance` implements the scripts.

use statusquo::conformance::{
    Gate, RecordedHead, RefusingPort, Script, ScriptedUpstream, Step, http_response, write_bytes,
};

/// Runs this script for every request.
pub fn script(steps: impl IntoIterator<Item = Step>) -> ScriptedUpstream {
    ScriptedUpstream::script(steps).expect("a loopback port")
}

/// Runs these scripts in turn, repeating the last one.
pub fn scripts(scripts: impl IntoIterator<Item = Script>) -> ScriptedUpstream {
    ScriptedUpstream::scripts(scripts).expect("a loopback port")
}

/// Selects the script by the request headers.
pub fn by_request(choose: impl Fn(&RecordedHead) -> Script + Send + Sync + 'static) -> ScriptedUpstream {
    ScriptedUpstream::by_request(choose).expect("a loopback port")
}

/// Reads a complete request and responds with these bytes.
pub fn static_response(bytes: impl Into<bytes::Bytes>) -> ScriptedUpstream {
    script([Step::ReadRequestHead, Step::SendContinue, Step::ReadBody, write_bytes(bytes)])
}

/// Responds to everything with 200 and this text.
pub fn ok_upstream(text: &str) -> ScriptedUpstream {
    static_response(http_response("200 OK\ncontent-type: text/plain", text))
}

/// Responds to every request with 200 and this text once the gate is open.
pub fn gated_upstream(gate: &Gate, text: &str) -> ScriptedUpstream {
    script([
        Step::ReadRequestHead,
        Step::WaitForGate(gate.clone()),
        Step::Write(http_response("200 OK", text)),
    ])
}

/// Responds to everything with this status and an HTML page.
pub fn html_upstream(status: &str) -> ScriptedUpstream {
    static_response(http_response(
        &format!("{status}\ncontent-type: text/html\nserver: apache/2.4"),
        "<h1>It broke</h1>",
    ))
}

/// A port that refuses connections.
pub fn refusing_port() -> RefusingPort {
    RefusingPort::start().expect("a loopback port")
}
