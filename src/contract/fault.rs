//! Errors of the gateway: a [`Fault`] has a [`Cause`], the [`Phase`] in which it occurred, and [`Evidence`] for the
//! log.
//!
//! A fault is created where the error occurs, and passed unchanged to the policy, the metrics and the log. It does not
//! contain the status code (see [`super::policy`]) or any text for the client: evidence is never written to a body.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::causes::Cause;
use super::phase::Phase;

/// How many bytes of an upstream's output are kept for the log: the largest `log.evidence`.
pub(crate) const EXCERPT_LIMIT: usize = 2048;

/// Details of a fault for the log, for example an error text or the invalid byte.
///
/// [`Evidence::for_log`] is the only way to read it, and nothing in [`super::reply`] accepts one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// A sentence; may be empty.
    sentence: Cow<'static, str>,
    /// The first bytes of what the upstream sent.
    excerpt: Vec<u8>,
    /// The upstream sent more than `excerpt`.
    truncated: bool,
}

impl Evidence {
    /// No evidence.
    pub const fn none() -> Self {
        Evidence::from_static("")
    }

    /// A constant text; does not allocate.
    pub const fn from_static(text: &'static str) -> Self {
        Evidence { sentence: Cow::Borrowed(text), excerpt: Vec::new(), truncated: false }
    }

    /// A text built at run time.
    pub(crate) fn owned(text: impl Into<String>) -> Self {
        Evidence { sentence: Cow::Owned(text.into()), ..Evidence::none() }
    }

    /// A sentence, followed by the first bytes that the upstream sent instead of a response (at most [`EXCERPT_LIMIT`],
    /// and in the log at most `log.evidence`).
    pub(crate) fn with_excerpt(sentence: &str, excerpt: &[u8]) -> Self {
        let (excerpt, truncated) = first_bytes(excerpt, EXCERPT_LIMIT);
        Evidence { excerpt: excerpt.to_vec(), truncated, ..Evidence::owned(sentence) }
    }

    /// The text, with at most `limit` bytes of what the upstream sent; empty if `limit` is 0. Use it only in log
    /// records.
    pub(crate) fn for_log(&self, limit: usize) -> Cow<'_, str> {
        if limit == 0 {
            return Cow::Borrowed("");
        }
        let (excerpt, cut) = first_bytes(&self.excerpt, limit);
        if excerpt.is_empty() {
            return Cow::Borrowed(&self.sentence);
        }
        let colon = if self.sentence.is_empty() { "" } else { ": " };
        let ellipsis = if cut || self.truncated { "..." } else { "" };
        Cow::Owned(format!("{}{colon}{}{ellipsis}", self.sentence, String::from_utf8_lossy(excerpt)))
    }
}

/// The first `limit` bytes, and whether there are more.
fn first_bytes(bytes: &[u8], limit: usize) -> (&[u8], bool) {
    bytes.get(..limit).map_or((bytes, false), |beginning| (beginning, bytes.len() > limit))
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Evidence(..)")
    }
}

/// An error, created where it occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    cause: Cause,
    phase: Phase,
    evidence: Evidence,
    retry_after: Option<u64>,
    message: Option<Arc<str>>,
}

impl Fault {
    /// Creates a fault without evidence.
    pub const fn new(cause: Cause, phase: Phase) -> Self {
        Fault { cause, phase, evidence: Evidence::none(), retry_after: None, message: None }
    }

    /// Sets the phase, where the code that creates the fault serves more than one.
    #[must_use]
    pub(crate) fn in_phase(self, phase: Phase) -> Self {
        Fault { phase, ..self }
    }

    /// Sets the evidence for the log.
    #[must_use]
    pub(crate) fn with_evidence(mut self, evidence: Evidence) -> Self {
        self.evidence = evidence;
        self
    }

    /// Sets the time after which the client may retry, rounded up to seconds, at least 1.
    #[must_use]
    pub(crate) const fn with_retry_after(mut self, wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add((wait.subsec_nanos() > 0) as u64);
        self.retry_after = Some(if seconds == 0 { 1 } else { seconds });
        self
    }

    /// Sets the message that the configuration has for this case. It precedes those of the contract, not an override's.
    #[must_use]
    pub(crate) fn with_message(mut self, message: Option<Arc<str>>) -> Self {
        self.message = message;
        self
    }

    /// The message that the configuration has for this case.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The cause, which determines the status code.
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// The phase of request processing, for the log.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// When the client may retry, in seconds, if known.
    pub const fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// Details for the log.
    pub const fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}

/// How much of the request was sent to the upstream. Never [`RequestSent::None`] if a byte may have been sent, because
/// clients may retry such a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestSent {
    /// Not a single byte was sent.
    #[default]
    None,
    /// The upstream may have received some of its bytes.
    Partial,
    /// The complete request was written to the transport.
    Full,
}

impl RequestSent {
    /// The value in error bodies and logs.
    pub const fn name(self) -> &'static str {
        match self {
            RequestSent::None => "none",
            RequestSent::Partial => "partial",
            RequestSent::Full => "full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_excerpt_is_bounded() {
        let logged = |evidence: &Evidence, limit| evidence.for_log(limit).into_owned();
        let text =
            |sentence, excerpt: &[u8]| logged(&Evidence::with_excerpt(sentence, excerpt), EXCERPT_LIMIT);
        assert_eq!(text("no status line", b"220 mail\r\n"), "no status line: 220 mail\r\n");
        assert_eq!(
            (text("", b"x"), text("no status line", b""), text("", b"")),
            ("x".into(), "no status line".into(), "".into())
        );
        assert_eq!(text("", &[b'x'; EXCERPT_LIMIT]), "x".repeat(EXCERPT_LIMIT));
        assert_eq!(text("", &[b'x'; EXCERPT_LIMIT + 1]), format!("{}...", "x".repeat(EXCERPT_LIMIT)));
        assert_eq!(text("", b"\xff"), "\u{fffd}");
        let evidence = Evidence::with_excerpt("no status line", b"220 mail");
        assert_eq!(logged(&evidence, 3), "no status line: 220...");
        assert_eq!(logged(&evidence, 8), "no status line: 220 mail");
        assert_eq!(logged(&evidence, 0), "");
        assert_eq!(logged(&Evidence::from_static("refused"), 3), "refused", "our own text is not cut");
        assert_eq!(logged(&Evidence::from_static("refused"), 0), "");
    }

    #[test]
    fn retry_after_rounds_up_to_at_least_one_second() {
        let fault = || Fault::new(Cause::RateLimited, Phase::Admit);
        assert_eq!(fault().retry_after(), None);
        for (milliseconds, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_999, 60)] {
            let wait = Duration::from_millis(milliseconds);
            assert_eq!(fault().with_retry_after(wait).retry_after(), Some(seconds), "{milliseconds}");
        }
        assert_eq!(fault().with_retry_after(Duration::MAX).retry_after(), Some(u64::MAX));
    }
}
