//! The memory and Redis backends make equal decisions for the same requests at the same times.
//!
//! Two runs: in real time with the production script, where memory uses the time that Redis returned; and over
//! simulated months, with the test's clock in the script.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::Value;
use statusquo::limit::redis::connection::RedisConnection;
use statusquo::limit::redis::script::{self, ScriptOperation};
use statusquo::limit::redis::{Address, reply};
use statusquo::limit::{
    Algorithm, DebitReply, DebitRequest, Key, LimitTable, Quota, QuotaDecision, Timestamp,
};

use super::property::random::SeededRandom;
use super::redis_server::RedisServer;

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Gcra, Algorithm::FixedWindow, Algorithm::SlidingWindow];

struct RandomNumbers(SeededRandom);

impl RandomNumbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next() % limit
    }
}

/// A rule, counted in memory and in Redis.
struct TestRule {
    name: String,
    quota: Quota,
    algorithm: Algorithm,
    cost: u32,
    table: LimitTable,
}

impl TestRule {
    fn new(
        number: usize,
        algorithm: Algorithm,
        allowed: u32,
        period: Duration,
        burst: u32,
        cost: u32,
    ) -> TestRule {
        let burst = if algorithm == Algorithm::Gcra { burst } else { allowed };
        let quota = Quota::new(allowed, period, burst).unwrap();
        let cost = cost.clamp(1, algorithm.capacity(&quota));
        TestRule {
            name: format!("rule{number}"),
            quota,
            algorithm,
            cost,
            table: LimitTable::new(algorithm, 1_000),
        }
    }

    fn debit_request(&self, key: u128) -> DebitRequest<'_> {
        let TestRule { name, quota, algorithm, cost, .. } = self;
        DebitRequest {
            rule: name,
            key: Key::from_bits(key),
            quota: *quota,
            algorithm: *algorithm,
            cost: *cost,
        }
    }
}

/// The in-memory decision of all rules: charged together or not at all.
fn decide_in_memory(rules: &[&TestRule], key: u128, now: Timestamp) -> Vec<QuotaDecision> {
    let key = Key::from_bits(key);
    let peeked: Vec<QuotaDecision> =
        rules.iter().map(|rule| rule.table.peek(key, &rule.quota, now, rule.cost)).collect();
    if peeked.iter().any(|decision| decision.retry_after().is_some()) && rules.len() > 1 {
        return peeked;
    }
    rules.iter().map(|rule| rule.table.debit(key, &rule.quota, now, rule.cost)).collect()
}

#[test]
fn memory_and_redis_agree_in_real_time() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = Address::parse(&server.url()).unwrap();
        let redis_connection = RedisConnection::connect(&address, None).await.unwrap();
        let digest = script::sha1_digest(script::SOURCE);
        let mut random = RandomNumbers(SeededRandom::of(7, 0));
        let mut rules = Vec::new();
        for algorithm in ALGORITHMS {
            for (allowed, micros, burst, cost) in [
                (3, 20_000, 3, 1),
                (1, 3_000, 1, 1),
                (7, 31_007, 3, 2),
                (100, 50_000, 10, 3),
                (5, 3_600_000_000, 5, 1),
                (11, 1_000_000, 11, 4),
            ] {
                rules.push(TestRule::new(
                    rules.len(),
                    algorithm,
                    allowed,
                    Duration::from_micros(micros),
                    burst,
                    cost,
                ));
            }
        }
        let (mut admitted, mut denied) = (0, 0);
        for step in 0..4_000 {
            let one = random.below(rules.len() as u64) as usize;
            let other = random.below(rules.len() as u64) as usize;
            let key = 10 + u128::from(random.below(2));
            let together = random.below(4) == 0 && one != other;
            let chosen: Vec<&TestRule> =
                if together { vec![&rules[one], &rules[other]] } else { vec![&rules[one]] };
            let requests: Vec<DebitRequest<'_>> = chosen.iter().map(|rule| rule.debit_request(key)).collect();
            if random.below(50) == 0 {
                redis_connection.delete("agree:", &requests).await.unwrap();
                chosen.iter().for_each(|rule| rule.table.reset(Key::from_bits(key)));
            }
            let value = redis_connection
                .run_script(&digest, "agree:", ScriptOperation::Debit, &requests)
                .await
                .unwrap();
            let DebitReply { decisions, debited_at: at } = reply::parse(&requests, &value).unwrap();
            assert_eq!(decisions, decide_in_memory(&chosen, key, at), "step {step}: {requests:?} at {at:?}");
            let passed = decisions.iter().all(|decision| decision.retry_after().is_none());
            if passed {
                admitted += 1
            } else {
                denied += 1
            }
            // A refunded bucket keeps what was replenished meanwhile: not compared here, but in another test.
            if passed && random.below(5) == 0 && chosen.iter().all(|rule| rule.algorithm != Algorithm::Gcra) {
                redis_connection
                    .run_script(&digest, "agree:", ScriptOperation::Refund(at), &requests)
                    .await
                    .unwrap();
                for rule in &chosen {
                    rule.table.refund(Key::from_bits(key), &rule.quota, at, rule.cost);
                }
            }
            if random.below(8) == 0 {
                tokio::time::sleep(Duration::from_micros(random.below(9_000))).await;
            }
        }
        assert!(admitted > 500 && denied > 500, "{admitted} admitted, {denied} refused");
    });
    // All keys expire.
    for key in server.keys() {
        let lasts: i64 = server.command(&["PTTL", &key]).parse().unwrap();
        assert!(lasts == -2 || (0..=7_202_000).contains(&lasts), "{key}: {lasts}");
    }
}

/// The script with the test's clock and without expiry, which uses the Redis clock.
fn script_with_other_clock() -> String {
    let clock = "redis.call('TIME')";
    let lasting = ", 'PX', milliseconds)";
    assert!(script::SOURCE.contains(clock) && script::SOURCE.contains(lasting));
    script::SOURCE.replace(clock, "{ ARGV[#ARGV - 1], ARGV[#ARGV] }").replace(lasting, ")")
}

#[test]
fn memory_and_redis_agree_over_months_and_across_clock_changes() {
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let text = script_with_other_clock();
    let mut random = RandomNumbers(SeededRandom::of(11, 0));
    let begin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (mut admitted, mut denied) = (0, 0);
    for trace in 0..300 {
        let algorithm = ALGORITHMS[trace % 3];
        let micros = match random.below(4) {
            0 => 1 + random.below(1_000_000),
            1 => 1_000_000 * (1 + random.below(3_600)),
            2 => 1 + random.below(86_400_000_000),
            _ => 1_000_000 * (1 + random.below(50 * 86_400)),
        };
        let maximum = micros.min(if random.below(3) == 0 { 4_000_000_000 } else { 30 });
        let allowed = 1 + random.below(maximum) as u32;
        // A bucket of at most 100 days: above that the numbers of the script are rounded.
        let longest = (100 * 86_400_000_000 / (micros / u64::from(allowed) + 1)).clamp(1, 4_000_000_000);
        let burst = 1 + random.below(longest.min(u64::from(allowed) * 2)) as u32;
        let cost = if random.below(3) == 0 { allowed / 3 } else { 1 };
        let rule = TestRule::new(trace, algorithm, allowed, Duration::from_micros(micros), burst, cost);
        let capacity = u64::from(algorithm.capacity(&rule.quota));
        let stride = (micros * 2 / capacity.max(1)).max(2);
        let mut now = begin + Duration::from_micros(random.below(micros * 3));
        for step in 0..60 {
            let request = rule.debit_request(1);
            let mut command = redis::cmd("EVAL");
            command.arg(&text).arg(1).arg(script::key_name("months:", &request));
            let micro = Duration::from_micros(now.as_micros() as u64);
            for word in
                script::operation_args(ScriptOperation::Debit).iter().chain(script::key_args(&request).iter())
            {
                command.arg(word);
            }
            let value: Value =
                command.arg(micro.as_secs()).arg(micro.subsec_micros()).query(&mut connection).unwrap();
            let at = Timestamp::after_epoch(micro);
            let taken =
                reply::parse(&[request], &value).unwrap_or_else(|_| panic!("{value:?} to {request:?}"));
            assert_eq!(taken.debited_at, at);
            let expected = decide_in_memory(&[&rule], 1, at);
            assert_eq!(taken.decisions, expected, "trace {trace}, step {step}: {request:?} at {at:?}");
            if taken.decisions[0].retry_after().is_some() {
                denied += 1
            } else {
                admitted += 1
            }
            let wait = taken.decisions[0].retry_after();
            now = match (random.below(12), wait) {
                // At the reported retry time, and just before it.
                (0..=2, Some(wait)) => now + wait + Duration::from_micros(1),
                (3, Some(wait)) => now + wait.saturating_sub(Duration::from_micros(1)),
                (4, _) => now - Duration::from_micros(random.below(900_000)),
                (5, _) => now - Duration::from_micros(random.below(micros + 3_000_000)),
                (6, _) => now + Duration::from_micros(random.below(micros * 3)),
                (7, _) => now + Duration::from_micros(micros - now.as_micros() as u64 % micros),
                _ => now + Duration::from_micros(random.below(stride)),
            };
        }
    }
    assert!(admitted > 3_000 && denied > 3_000, "{admitted} admitted, {denied} refused");
}

#[test]
fn bucket_refund_never_exceeds_what_was_taken() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let redis_connection =
            RedisConnection::connect(&Address::parse(&server.url()).unwrap(), None).await.unwrap();
        let digest = script::sha1_digest(script::SOURCE);
        let rule = TestRule::new(0, Algorithm::Gcra, 10, Duration::from_secs(3_600), 10, 3);
        let requests = [rule.debit_request(1)];
        let debit = async || {
            reply::parse(
                &requests,
                &redis_connection
                    .run_script(&digest, "back:", ScriptOperation::Debit, &requests)
                    .await
                    .unwrap(),
            )
            .unwrap()
        };
        let first = debit().await;
        let second = debit().await;
        redis_connection
            .run_script(&digest, "back:", ScriptOperation::Refund(second.debited_at), &requests)
            .await
            .unwrap();
        let third = debit().await;
        let owed = |taken: &DebitReply| taken.decisions[0].quota_state().reset;
        let replenished = owed(&third) + (third.debited_at.since_epoch() - second.debited_at.since_epoch());
        assert!(replenished >= owed(&second), "{first:?} {second:?} {third:?}");
        assert!(owed(&third) < owed(&second) + Duration::from_secs(20), "{second:?} {third:?}");
        // Expired usage is not refunded.
        redis_connection
            .run_script(&digest, "back:", ScriptOperation::Refund(Timestamp::default()), &requests)
            .await
            .unwrap();
        assert!(owed(&debit().await) > owed(&third));
    });
}
