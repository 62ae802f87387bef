//! Descriptors: the soft limit is raised to the hard one, and client connections are held to what it allows.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors for everything but connections: listeners, log, timers, runtime.
const RESERVED: u64 = 64;

/// Raises the soft limit on open descriptors as far as it goes, and says what it is then.
pub fn raise_descriptors() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}

/// How many client connections that allows: each may need a second descriptor towards an upstream.
pub fn connections_within(descriptors: u64, configured: usize) -> usize {
    let allowed = descriptors.saturating_sub(RESERVED) / 2;
    configured.min(usize::try_from(allowed).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_held_to_half_of_the_descriptors() {
        assert_eq!(connections_within(1024, 20_000), 480);
        assert_eq!(connections_within(1_048_576, 20_000), 20_000);
        assert_eq!(connections_within(10, 20_000), 1);
    }
}
