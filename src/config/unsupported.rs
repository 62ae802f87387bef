//! Keys and values that belong to the product and are not built yet: refused by name, so that nobody believes they work.
//!
//! When one is built, its row goes from here and its field comes into [`super::file`].

/// What is said of all of them.
pub const MESSAGE: &str = "not supported yet";

/// The remedy for the key at this path, if it is a known one.
pub fn help_for_key(path: &str) -> Option<&'static str> {
    KEYS.iter().find(|(pattern, _)| pattern_matches(pattern, path)).map(|(_, remedy)| *remedy)
}

/// The remedy for this value at this path, if it is a known one.
pub fn help_for_value(path: &str, value: &str) -> Option<&'static str> {
    VALUES
        .iter()
        .find(|(pattern, known, _)| *known == value && pattern_matches(pattern, path))
        .map(|(_, _, remedy)| *remedy)
}

/// `*` stands for one name, `[]` for a number in brackets.
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

/// Path patterns of keys, each with what to do today.
pub const KEYS: &[(&str, &str)] = &[
    ("admin", "remove it; /metrics, /livez and /readyz are at telemetry.address"),
    ("listen[].proxy_protocol", "remove it, and let the proxy in front set client.ip_header"),
    ("errors.proxy_status", "remove it"),
    ("routes[].errors.proxy_status", "remove it"),
    ("upstreams.*.retry.budget", "remove it; retry.attempts bounds the attempts of each request"),
    ("upstreams.*.health", "remove it"),
    ("upstreams.*.breaker", "remove it"),
    ("upstreams.*.concurrency.adaptive", "write max, which does not adapt"),
];

/// Path patterns with a value, each with what to do today.
pub const VALUES: &[(&str, &str, &str)] = &[
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
