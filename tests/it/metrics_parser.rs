//! A parser for the Prometheus text format, as far as the tests need it.

use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Series {
    /// Whether the sample has this name (without prefix) and all these labels.
    pub fn matches(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.name.strip_prefix("statusquo_") == Some(name)
            && labels.iter().all(|(label, value)| self.labels.get(*label).is_some_and(|found| found == value))
    }
}

/// Parses every sample of the page; panics on an invalid line.
pub fn parse_metrics(page: &str) -> Vec<Series> {
    let samples = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    samples.map(|line| parse(line).unwrap_or_else(|| panic!("not a sample: {line:?}"))).collect()
}

fn parse(line: &str) -> Option<Series> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = series.split_once('{') else {
        return Some(Series { name: series.to_owned(), labels: BTreeMap::new(), value });
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}')?;
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"")?;
        let end = quoted.find('"')?;
        labels.insert(label.to_owned(), quoted[..end].to_owned());
        rest = quoted[end + 1..].trim_start_matches(',');
    }
    Some(Series { name: name.to_owned(), labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_samples_are_parsed_with_and_without_labels() {
        let page = "# HELP a b\n# TYPE a counter\nstatusquo_a{x=\"1\",y=\"b c\"} 3\nstatusquo_up 1\n";
        let series = parse_metrics(page);
        assert_eq!(series.len(), 2);
        assert!(series[0].matches("a", &[("y", "b c")]) && series[0].value == 3.0);
        assert!(!series[0].matches("a", &[("y", "b")]) && !series[0].matches("a", &[("z", "")]));
        assert!(series[1].matches("up", &[]));
    }
}
