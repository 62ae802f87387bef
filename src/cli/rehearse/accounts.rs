//! After the rows: has any gateway panicked?
//!
//! Only when every row has kept the contract: a row that broke it is told already. Whether every counter is what clients saw
//! is for the tests of the tables to say (`tests/it/matrix.rs`, `clients.rs`), whose gateways serve nobody else.

use super::stage::{Stage, Started};
use super::{Row, Side, Verdict};

/// One row for each kind of gateway.
pub(super) fn compare(stage: &Stage, rows: &[Row]) -> Vec<Row> {
    let broken = rows.iter().any(|row| matches!(row.verdict, Verdict::Broken(_)));
    let fault = ("panics", "no gateway has panicked");
    if broken {
        let why = "a row above has broken the contract".to_owned();
        return vec![Row::skipped(Side::Accounts, fault, None, why)];
    }
    let gateways = stage.places().iter().chain([&stage.clients, &stage.scarce]);
    let panics: f64 = gateways.map(|gateway| sum(gateway, "statusquo_panics_total")).sum();
    let verdict =
        if panics == 0.0 { Verdict::Kept } else { Verdict::Broken("panics_total is not 0".to_owned()) };
    vec![Row {
        side: Side::Accounts,
        fault: fault.0,
        meaning: fault.1,
        route: None,
        expected: "panics_total 0".to_owned(),
        got: format!("panics_total {panics}"),
        verdict,
        repeated: false,
    }]
}

/// The sum over the series of a metric.
fn sum(gateway: &Started, name: &str) -> f64 {
    let page = String::from_utf8(gateway.metrics.render()).unwrap_or_default();
    let series = page.lines().filter_map(|line| line.split_once(' '));
    let of_name = series.filter(|(series, _)| series.split('{').next() == Some(name));
    of_name.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}
