//! Prometheus files: promtool's checks, a promtool test per rule, and references to existing metrics only.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::processes::succeed;
use crate::{TIMEOUT, read_file};

const FOLDER: &str = "deploy/prometheus";

fn promtool(arguments: &[&str]) -> String {
    succeed(Command::new("promtool").args(arguments).current_dir(FOLDER), TIMEOUT)
}

/// Values of `record` or `alert` keys in a rules file.
fn rule_names(path: &str, key: &str) -> BTreeSet<String> {
    let rules: Value = serde_saphyr::from_str(&read_file(&format!("{FOLDER}/{path}"))).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    rules.filter_map(|rule| Some(rule[key].as_str()?.to_owned())).collect()
}

/// Identifiers that can be metric or recorded series names.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && !['_', ':'].contains(&c))
}

#[test]
fn promtool_accepts_configuration_and_rules() {
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "rules.yml", "alerts.yml"]);
}

#[test]
fn rules_pass_their_promtool_tests() {
    promtool(&["test", "rules", "rules.test.yml", "alerts.test.yml"]);
}

#[test]
fn rules_all_have_a_test() {
    let tests = read_file(&format!("{FOLDER}/rules.test.yml"));
    let queried: BTreeSet<&str> =
        tests.lines().filter(|line| line.contains("- expr: ")).flat_map(words).collect();
    let untested: Vec<_> = rule_names("rules.yml", "record")
        .into_iter()
        .filter(|record| !queried.contains(record.as_str()))
        .collect();
    assert_eq!(untested, [""; 0]);

    // Every alert has a test where it does not fire and one where it fires.
    let tests: Value = serde_saphyr::from_str(&read_file(&format!("{FOLDER}/alerts.test.yml"))).unwrap();
    let cases: Vec<_> = tests["tests"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|t| t["alert_rule_test"].as_array().unwrap())
        .collect();
    for alert in rule_names("alerts.yml", "alert") {
        let of_it: Vec<usize> = cases
            .iter()
            .filter(|case| case["alertname"] == alert.as_str())
            .map(|case| case["exp_alerts"].as_array().unwrap().len())
            .collect();
        assert!(of_it.contains(&0) && of_it.iter().any(|fired| *fired > 0), "{alert}: {of_it:?}");
    }
}

#[test]
fn manual_has_a_runbook_for_every_alert() {
    let manual = read_file("docs/operations.md");
    for alert in rule_names("alerts.yml", "alert") {
        assert!(manual.lines().any(|line| line.starts_with(&format!("| `{alert}` |"))), "{alert}");
    }
}

#[test]
fn rules_alerts_and_manual_name_only_existing_metrics() {
    let (metrics, codes) = (read_file("docs/metrics.md"), read_file("docs/codes.md"));
    let records = rule_names("rules.yml", "record");
    let known = |word: &str| {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        [Some(word), of_histogram].into_iter().flatten().any(|name| metrics.contains(&format!("`{name}`")))
    };
    for path in ["rules.yml", "alerts.yml", "rules.test.yml", "alerts.test.yml", "../../docs/operations.md"] {
        let text = read_file(&format!("{FOLDER}/{path}"));
        let unknown_names: BTreeSet<&str> = words(&text)
            .filter(|word| {
                let word = word.trim_end_matches(':');
                if word.contains(":statusquo_") {
                    !records.contains(word)
                } else {
                    (word.starts_with("statusquo_") || word.starts_with("process_")) && !known(word)
                }
            })
            .collect();
        assert_eq!(unknown_names, BTreeSet::new(), "{path}");
        for causes in text.split("cause=~\"").skip(1).chain(text.split("cause=\"").skip(1)) {
            for cause in causes.split('"').next().unwrap().split('|') {
                assert!(
                    codes.contains(&format!("`{cause}`")) || ["client_gone", "tunnel_idle"].contains(&cause),
                    "{path}: cause {cause}"
                );
            }
        }
    }
}
