//! The four jobs that every proxy of the run has: what is asked, and the one answer that counts.
//!
//! The error bodies are those of the documented API, byte for byte, for all proxies. How each proxy is told to do the
//! job is in [`super::proxies`].

/// What the client asks for, and what stands behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// 1 KiB of JSON passes as it is.
    Forwarded,
    /// The upstream answers 502 with HTML; the client gets 504 with JSON.
    Replaced,
    /// The limit of this client is used up: 429 with JSON, without asking the upstream.
    Limited,
    /// The upstream refuses the connection: 504 with JSON.
    ConnectionRefused,
}

/// Bytes of the body that passes.
pub const FORWARDED_BODY_BYTES: usize = 1024;

/// The body of a documented 504.
pub const BODY_504: &str = r#"{"message":"The servers are up, but the request could not be serviced due to some failure within the stack. Try again later.","code":504}"#;

/// The body of a documented 429.
pub const BODY_429: &str = r#"{"message":"Too many requests","code":429}"#;

impl Job {
    /// In the order of the tables.
    pub const ALL: [Job; 4] = [Job::Forwarded, Job::Replaced, Job::Limited, Job::ConnectionRefused];

    /// The name in the tables.
    pub const fn name(self) -> &'static str {
        match self {
            Job::Forwarded => "W1",
            Job::Replaced => "W2",
            Job::Limited => "W3",
            Job::ConnectionRefused => "W4",
        }
    }

    /// A few words for the tables.
    pub const fn description(self) -> &'static str {
        match self {
            Job::Forwarded => "1 KiB of JSON passes",
            Job::Replaced => "HTML 502 becomes JSON 504",
            Job::Limited => "429 by the limit",
            Job::ConnectionRefused => "upstream refuses: JSON 504",
        }
    }

    /// What is asked for. The proxies choose by it.
    pub const fn path(self) -> &'static str {
        match self {
            Job::Forwarded => "/passed",
            Job::Replaced => "/replaced",
            Job::Limited => "/limited",
            Job::ConnectionRefused => "/refused",
        }
    }

    /// The status of the answer that counts.
    pub const fn status(self) -> u16 {
        match self {
            Job::Forwarded => 200,
            Job::Replaced | Job::ConnectionRefused => 504,
            Job::Limited => 429,
        }
    }

    /// The body of the answer that counts.
    pub fn body(self) -> Vec<u8> {
        match self {
            Job::Forwarded => forwarded_body(),
            Job::Replaced | Job::ConnectionRefused => BODY_504.into(),
            Job::Limited => BODY_429.into(),
        }
    }
}

/// A JSON object of [`FORWARDED_BODY_BYTES`] bytes.
pub fn forwarded_body() -> Vec<u8> {
    let mut body = b"{\"data\":\"".to_vec();
    let letters = (b'a'..=b'z').cycle();
    body.extend(letters.take(FORWARDED_BODY_BYTES - body.len() - 2));
    body.extend_from_slice(b"\"}");
    body
}
