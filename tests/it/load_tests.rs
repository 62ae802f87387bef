//! The load factor and the times that it scales.

use std::time::Duration;

use super::load::{MAX_FACTOR, TIMEOUT_KEYS, factor, millis, scale, scaled};

#[test]
fn configured_limits_are_scaled_and_other_values_kept() {
    let text = "timeouts: { connect: 400ms, deadline: 8s, max_duration: 60s, stream_idle: 1h }\n\
                drain_delay: 0s\nclient: { idle_timeout: 2s }\nerrors: { retry_after: 9s }\n\
                stores: { a: { timeout: 2s } }\nroute: { queue_timeout: 300ms, allow: 3 per 5s }\n";
    let expected = "timeouts: { connect: 1200ms, deadline: 24000ms, max_duration: 60s, stream_idle: 1h }\n\
                    drain_delay: 0s\nclient: { idle_timeout: 6000ms }\nerrors: { retry_after: 9s }\n\
                    stores: { a: { timeout: 5000ms } }\nroute: { queue_timeout: 900ms, allow: 3 per 5s }\n";
    assert_eq!(scale(text, 3), expected);
    // The longest scaled timeout stays below the times that stand for "never".
    assert_eq!(scale("deadline: 9s\n", 8), "deadline: 45000ms\n");
}

/// A key that is renamed must not fall out of the scale.
#[test]
fn every_limit_is_a_key_of_the_configuration() {
    let annotated = include_str!("../../config/annotated.yaml");
    for key in TIMEOUT_KEYS {
        assert!(annotated.contains(&format!("{key}: ")), "{key}");
    }
    let timeouts = annotated.split("\ntimeouts:\n").nth(1).unwrap().lines();
    for line in timeouts.take_while(|line| line.starts_with("  ")) {
        let key = line.trim_start().split(':').next().unwrap();
        assert!(TIMEOUT_KEYS.contains(&key), "{key} is not scaled");
    }
}

#[test]
fn load_factor_is_constant_within_a_test_and_bounded() {
    let first = factor();
    assert!((1..=MAX_FACTOR).contains(&first), "{first}");
    assert_eq!(scaled(Duration::from_secs(1)), Duration::from_secs(first.into()));
    assert_eq!((millis(2), factor()), (Duration::from_millis(2) * first, first));
}
