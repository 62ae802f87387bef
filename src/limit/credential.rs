//! Exempts clients from a rule by a secret field value, compared with its digest.
//!
//! Neither the configuration nor the process contains the secret. The comparison takes constant time.

use http::HeaderName;
use ring::digest::{SHA256, digest};

/// Maximum length of a value in bytes. Longer values never match and are not hashed.
const MAX_VALUE_LEN: usize = 4096;

/// The name of a header field and the SHA-256 digest of its secret value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The field name.
    pub header: HeaderName,
    /// The digest of the secret value.
    pub sha256: [u8; 32],
}

impl Credential {
    /// Whether `value` is the secret value.
    pub fn matches(&self, value: &[u8]) -> bool {
        if value.is_empty() || value.len() > MAX_VALUE_LEN {
            return false;
        }
        let digest = digest(&SHA256, value);
        // Compares every byte, so that the time does not depend on the position of a difference.
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
        for value in
            [&b""[..], b"correct-hors", b"correct-horse ", b"Correct-horse", &[b'a'; MAX_VALUE_LEN + 1]]
        {
            assert!(!credential.matches(value), "{value:?}");
        }
        assert!(!credential.matches(&credential.sha256), "the digest is not the secret");
    }
}
