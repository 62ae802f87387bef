//! The names that a lookup tries, in the order of resolv.conf(5): `search` and `ndots`. Pure.

/// How names are completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SearchRules {
    /// The domains of `search` or `domain`.
    pub(super) domains: Vec<String>,
    /// A name with at least this many dots is tried as it is first.
    pub(super) ndots: usize,
}

impl SearchRules {
    /// Names are tried as they are only.
    pub(super) const NONE: SearchRules = SearchRules { domains: Vec::new(), ndots: 1 };
}

/// The absolute names to try for `host`, with the final dot.
pub(super) fn names(host: &str, rules: &SearchRules) -> Vec<String> {
    if host.ends_with('.') {
        return vec![host.to_owned()];
    }
    let as_it_is = format!("{host}.");
    let domains = rules.domains.iter().map(|domain| domain.trim_matches('.'));
    let completed = domains.filter(|domain| !domain.is_empty()).map(|domain| format!("{host}.{domain}."));
    let dots = host.bytes().filter(|byte| *byte == b'.').count();
    let mut names: Vec<String> = if dots >= rules.ndots {
        std::iter::once(as_it_is).chain(completed).collect()
    } else {
        completed.chain(std::iter::once(as_it_is)).collect()
    };
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.to_ascii_lowercase()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_search_and_ndots() {
        let rules = |domains: &[&str], ndots| SearchRules {
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            ndots,
        };
        for (host, rules, expected) in [
            ("db", rules(&[], 1), &["db."][..]),
            ("db", rules(&["a.test", "b.test"], 1), &["db.a.test.", "db.b.test.", "db."]),
            ("db.x", rules(&["a.test"], 1), &["db.x.", "db.x.a.test."]),
            // Kubernetes: ndots:5.
            (
                "db.shop",
                rules(&["ns.svc.test", "svc.test"], 5),
                &["db.shop.ns.svc.test.", "db.shop.svc.test.", "db.shop."],
            ),
            ("db.", rules(&["a.test"], 1), &["db."]),
            ("db", rules(&["A.test.", "a.TEST", "."], 1), &["db.A.test.", "db."]),
            ("db", rules(&["a.test"], 0), &["db.", "db.a.test."]),
        ] {
            assert_eq!(names(host, &rules), expected, "{host} {rules:?}");
        }
    }
}
