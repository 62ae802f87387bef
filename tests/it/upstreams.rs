//! The upstreams that scenarios need most, by name.
//!
//! The language and the machinery are `statusquo::rehearse`; here is only what makes a scenario shorter.

use statusquo::rehearse::{Refusing, Request, Script, Step, Upstream, reply, say};

/// Plays this in every turn.
pub fn script(steps: impl IntoIterator<Item = Step>) -> Upstream {
    Upstream::script(steps).expect("a loopback port")
}

/// Plays these in turn, the last one again and again.
pub fn scripts(scripts: impl IntoIterator<Item = Script>) -> Upstream {
    Upstream::scripts(scripts).expect("a loopback port")
}

/// Chooses by the request's head.
pub fn by_request(choose: impl Fn(&Request) -> Script + Send + Sync + 'static) -> Upstream {
    Upstream::by_request(choose).expect("a loopback port")
}

/// Reads a whole request and answers these bytes.
pub fn answering(bytes: impl Into<bytes::Bytes>) -> Upstream {
    script([Step::ReadHead, Step::Continue, Step::ReadBody, say(bytes)])
}

/// Answers everything with 200 and this text.
pub fn ok(text: &str) -> Upstream {
    answering(reply("200 OK\ncontent-type: text/plain", text))
}

/// Answers everything with this status and an HTML page.
pub fn html(status: &str) -> Upstream {
    answering(reply(&format!("{status}\ncontent-type: text/html\nserver: apache/2.4"), "<h1>It broke</h1>"))
}

/// A port that refuses.
pub fn refusing() -> Refusing {
    Refusing::start().expect("a loopback port")
}
