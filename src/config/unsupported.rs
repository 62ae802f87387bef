//! Planned keys and values that are not implemented yet. They are rejected with a specific message.
//!
//! When one is implemented, its row moves from here to a field in [`super::file`].

/// The message for all of them.
pub(crate) const MESSAGE: &str = "not supported yet";

/// The help for the key at this path, if it is a planned key.
pub(crate) fn help_for_key(path: &str) -> Option<&'static str> {
    KEYS.iter().find(|(pattern, _)| pattern_matches(pattern, path)).map(|(_, help)| *help)
}

/// The help for this value at this path, if it is a planned value.
pub(crate) fn help_for_value(path: &str, value: &str) -> Option<&'static str> {
    VALUES
        .iter()
        .find(|(pattern, known, _)| *known == value && pattern_matches(pattern, path))
        .map(|(_, _, help)| *help)
}

/// `*` matches one name, `[]` an index in brackets.
fn pattern_matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('.'), path.split('.'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(pattern), Some(part)) => {
                let same = match (pattern.strip_suffix("[]"), part.strip_suffix(']')) {
                    (Some(name), Some(part)) => {
                        part.split_once('[').is_some_and(|(before, _)| before == name)
                    }
                    (None, _) => pattern == part,
                    (Some(_), None) => false,
                };
                if !same {
                    return false;
                }
            }
            (Some(_), None) | (None, Some(_)) => return false,
        }
    }
}

/// Path patterns of keys, each with the help.
pub(crate) const KEYS: &[(&str, &str)] = &[
    ("admin", "remove it; /metrics, /livez and /readyz are at telemetry.address"),
    ("listen[].proxy_protocol", "remove it, and have the proxy in front send the field of client.ip_header"),
    ("errors.proxy_status", "remove it"),
    ("routes[].errors.proxy_status", "remove it"),
    ("upstreams.*.retry.budget", "remove it; retry.attempts limits the attempts of each request"),
    ("upstreams.*.health", "remove it"),
    ("upstreams.*.breaker", "remove it"),
    ("upstreams.*.concurrency.adaptive", "use max, a fixed limit"),
];

/// Path patterns with a value, each with the help.
pub(crate) const VALUES: &[(&str, &str, &str)] = &[
    ("errors.format", "problem", "use \"contract\""),
    ("errors.format", "negotiate", "use \"contract\""),
    ("routes[].errors.format", "problem", "use \"contract\""),
    ("routes[].errors.format", "negotiate", "use \"contract\""),
    ("upstreams.*.balance", "random", "use \"round_robin\""),
    ("upstreams.*.balance", "least_busy", "use \"round_robin\""),
    ("upstreams.*.balance", "hash", "use \"round_robin\""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_complete_paths() {
        assert!(help_for_key("upstreams.shop.breaker").is_some());
        assert!(help_for_key("routes[12].errors.proxy_status").is_some());
        assert!(help_for_key("admin").is_some());
        assert!(help_for_key("routes.errors.proxy_status").is_none());
        assert!(help_for_key("upstreams.shop.breaker.window").is_none());
        assert!(help_for_key("client.admin").is_none());
        assert!(help_for_value("upstreams.a.balance", "random").is_some());
        assert!(help_for_value("upstreams.a.balance", "magic").is_none());
    }
}
