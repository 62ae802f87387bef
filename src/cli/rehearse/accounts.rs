//! After the rows: has every gateway counted what its clients saw, and has any panicked?
//!
//! Only when no row has failed: a row that failed is reported already, and what was counted for it is not known. For flaky rows
//! the comparison allows as many more events as they may have caused.

use std::time::{Duration, Instant};

use super::ledger::Account;
use super::stage::{Stage, Started};
use super::{Row, Side, Verdict};

/// What is counted after an answer has left comes a moment later; on a busy machine, some moments. Scaled by the load factor.
const LIMIT: Duration = Duration::from_secs(10);
const PANICS: (&str, &str) = ("panics", "no gateway has panicked");

/// One row for each account, over all gateways.
pub(super) async fn compare(stage: &Stage, rows: &[Row]) -> Vec<Row> {
    let accounts = Account::ALL.map(|account| (account.name(), account.meaning()));
    let skipped = |why: &str| {
        let all = accounts.into_iter().chain([PANICS]);
        all.map(|fault| Row::skipped(Side::Accounts, fault, None, why.to_owned())).collect()
    };
    if rows.iter().any(|row| matches!(row.verdict, Verdict::Failed(_))) {
        return skipped("a row above failed");
    }
    let mut compared: Vec<Row> = Vec::new();
    for account in Account::ALL {
        compared.push(one(stage, account).await);
    }
    compared.push(panics(stage));
    compared
}

async fn one(stage: &Stage, account: Account) -> Row {
    let fault = (account.name(), account.meaning());
    let gateways = || stage.gateways();
    let deadline = Instant::now() + stage.load.scale(LIMIT);
    let differences = loop {
        let of = |(name, gateway): (&str, &Started)| -> Vec<String> {
            let found = gateway.ledger.differences(account, &gateway.metrics);
            found.iter().map(|difference| format!("gateway of {name}: {difference}")).collect()
        };
        let differences: Vec<String> = gateways().flat_map(of).collect();
        if differences.is_empty() || Instant::now() > deadline {
            break differences;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let seen: u64 = gateways().map(|(_, gateway)| gateway.ledger.total(account)).sum();
    let got = if differences.is_empty() { seen.to_string() } else { "another sum".to_owned() };
    row(fault, seen.to_string(), got, differences)
}

fn panics(stage: &Stage) -> Row {
    let panics: u64 = stage.gateways().map(|(_, gateway)| gateway.metrics.panics.get()).sum();
    let wrong = if panics == 0 { Vec::new() } else { vec!["panics_total is not 0".to_owned()] };
    row(PANICS, "0".to_owned(), panics.to_string(), wrong)
}

fn row(fault: (&'static str, &'static str), expected: String, got: String, wrong: Vec<String>) -> Row {
    Row {
        side: Side::Accounts,
        fault: fault.0,
        meaning: fault.1,
        route: None,
        expected,
        got,
        verdict: if wrong.is_empty() { Verdict::Passed } else { Verdict::Failed(wrong.join("; ")) },
        repeated: false,
    }
}
