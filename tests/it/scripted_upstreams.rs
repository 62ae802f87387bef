//! The upstreams that scenarios need most, by name.
//!
//! The language and the machinery are `statusquo::conformance`; here is only what makes a scenario shorter.

use statusquo::conformance::{
    RecordedHead, RefusingPort, Script, ScriptedUpstream, UpstreamStep, http_response, write_bytes,
};

/// Plays this in every turn.
pub fn script(steps: impl IntoIterator<Item = UpstreamStep>) -> ScriptedUpstream {
    ScriptedUpstream::script(steps).expect("a loopback port")
}

/// Plays these in turn, the last one again and again.
pub fn scripts(scripts: impl IntoIterator<Item = Script>) -> ScriptedUpstream {
    ScriptedUpstream::scripts(scripts).expect("a loopback port")
}

/// Chooses by the request's head.
pub fn by_request(choose: impl Fn(&RecordedHead) -> Script + Send + Sync + 'static) -> ScriptedUpstream {
    ScriptedUpstream::by_request(choose).expect("a loopback port")
}

/// Reads a whole request and answers these bytes.
pub fn static_response(bytes: impl Into<bytes::Bytes>) -> ScriptedUpstream {
    script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::SendContinue,
        UpstreamStep::ReadBody,
        write_bytes(bytes),
    ])
}

/// Answers everything with 200 and this text.
pub fn ok_upstream(text: &str) -> ScriptedUpstream {
    static_response(http_response("200 OK\ncontent-type: text/plain", text))
}

/// Answers everything with this status and an HTML page.
pub fn html_upstream(status: &str) -> ScriptedUpstream {
    static_response(http_response(
        &format!("{status}\ncontent-type: text/html\nserver: apache/2.4"),
        "<h1>It broke</h1>",
    ))
}

/// A port that refuses.
pub fn refusing_port() -> RefusingPort {
    RefusingPort::start().expect("a loopback port")
}
