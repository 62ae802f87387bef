//! The four jobs of every proxy: the request and the only accepted response.
//!
//! The error bodies are those of the documented API, byte for byte, for all proxies. [`super::proxies`] configures each
//! proxy for the jobs.

/// A request and the upstream behaviour behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// 1 KiB of JSON is forwarded unchanged.
    Forwarded,
    /// The upstream sends 502 with HTML; the client receives 504 with JSON.
    Replaced,
    /// The client has used up its quota: 429 with JSON, without a request to the upstream.
    Limited,
    /// The upstream refuses the connection: 504 with JSON.
    ConnectionRefused,
}

/// Length of the forwarded body, in bytes.
pub const FORWARDED_BODY_BYTES: usize = 1024;

/// The body of a documented 504.
pub const BODY_504: &str = r#"{"message":"The servers are up, but the request could not be serviced due to some failure within the stack. Try again later.","code":504}"#;

/// The body of a documented 429.
pub const BODY_429: &str = r#"{"message":"Too many requests","code":429}"#;

impl Job {
    /// All jobs, in the order of the tables.
    pub const ALL: [Job; 4] = [Job::Forwarded, Job::Replaced, Job::Limited, Job::ConnectionRefused];

    pub const fn name(self) -> &'static str {
        match self {
            Job::Forwarded => "W1",
            Job::Replaced => "W2",
            Job::Limited => "W3",
            Job::ConnectionRefused => "W4",
        }
    }

    /// Short description for the tables.
    pub const fn description(self) -> &'static str {
        match self {
            Job::Forwarded => "forwarded: 1 KiB of JSON",
            Job::Replaced => "replaced: HTML 502 by JSON 504",
            Job::Limited => "rate limited: JSON 429",
            Job::ConnectionRefused => "refused upstream: JSON 504",
        }
    }

    /// Request target; the proxies route by it.
    pub const fn path(self) -> &'static str {
        match self {
            Job::Forwarded => "/passed",
            Job::Replaced => "/replaced",
            Job::Limited => "/limited",
            Job::ConnectionRefused => "/refused",
        }
    }

    /// Expected status code.
    pub const fn status(self) -> u16 {
        match self {
            Job::Forwarded => 200,
            Job::Replaced | Job::ConnectionRefused => 504,
            Job::Limited => 429,
        }
    }

    /// Expected body.
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
