//! Who is exempt from a rule by what it knows: the value of a request field, compared with a digest of the right one.
//!
//! Neither the configuration nor the process holds the secret itself. That a field is there proves nothing and exempts
//! nobody; and how long the comparison takes tells nothing, for it looks at the whole digest.

use http::HeaderName;
use ring::digest::{SHA256, digest};

/// Longer values are no credentials, and are not worth the time of a digest. Bytes.
const MAX_VALUE_LEN: usize = 4096;

/// The right value of a field, as its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The field's name.
    pub header: HeaderName,
    /// The digest of its right value.
    pub sha256: [u8; 32],
}

impl Credential {
    /// Whether this is the right value.
    pub fn matches(&self, value: &[u8]) -> bool {
        if value.is_empty() || value.len() > MAX_VALUE_LEN {
            return false;
        }
        let digest = digest(&SHA256, value);
        // Every byte, whatever those before it were.
        let different = self.sha256.iter().zip(digest.as_ref()).fold(0, |all, (one, two)| all | (one ^ two));
        std::hint::black_box(different) == 0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn credential_matches_only_its_value() {
        // printf %s correct-horse | sha256sum
        let credential = Credential {
            header: HeaderName::from_static("x-api-key"),
            sha256: digest(&SHA256, b"correct-horse").as_ref().try_into().unwrap(),
        };
        assert!(credential.matches(b"correct-horse"));
        for wrong in
            [&b""[..], b"correct-hors", b"correct-horse ", b"Correct-horse", &[b'a'; MAX_VALUE_LEN + 1]]
        {
            assert!(!credential.matches(wrong), "{wrong:?}");
        }
        assert!(!credential.matches(&credential.sha256), "the digest opens nothing");
    }
}
