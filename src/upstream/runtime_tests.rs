//! Selection of servers and addresses, and what is carried over to the next state.

use super::*;
use crate::upstream::balance::mix;
use crate::upstream::breaker::BreakerSettings;
use crate::upstream::endpoint::ServerHealth;
use crate::upstream::health::{CheckResult, FinishedCheck, HealthCheck, HealthSettings};
use crate::upstream::settings::{HashKey, ServerSpec};

fn settings(servers: &[(&str, u16)]) -> UpstreamSettings {
    let servers = servers.iter().map(|(host, port)| ServerSpec {
        host: (*host).into(),
        port: *port,
        socket: None,
        base_path: None,
        weight: 1,
        label: format!("{host}:{port}"),
        tls_name: None,
    });
    UpstreamSettings { servers: servers.collect(), ..UpstreamSettings::for_test() }
}

fn upstream(servers: &[(&str, u16)]) -> UpstreamRuntime {
    UpstreamRuntime::new(settings(servers), None)
}

/// A lookup has found these addresses.
fn found(shop: &UpstreamRuntime, server: &ServerState, addresses: Vec<SocketAddr>) {
    let ips = addresses.iter().map(SocketAddr::ip);
    shop.record_lookup(server, NameAnswer::of(ips, Duration::from_secs(5)), Instant::now());
}

const THREE: [(&str, u16); 3] = [("127.0.0.1", 1), ("127.0.0.1", 2), ("127.0.0.1", 3)];

fn select(shop: &UpstreamRuntime, tried: &[Candidate], now: Instant) -> (Candidate, AttemptGuard) {
    shop.select(tried, 0, now).unwrap()
}

fn ports(shop: &UpstreamRuntime, count: usize, now: Instant) -> Vec<u16> {
    (0..count).map(|_| select(shop, &[], now).0.address.port()).collect()
}

/// Ejects the server with this port.
fn eject(shop: &UpstreamRuntime, port: u16, now: Instant) {
    loop {
        let (candidate, mut guard) = select(shop, &[], now);
        let failed = candidate.address.port() == port;
        shop.record(&mut guard, if failed { AttemptOutcome::Failure } else { AttemptOutcome::Success }, now);
        if failed && candidate.endpoint().state.view(now).health == ServerHealth::Ejected {
            return;
        }
    }
}

#[test]
fn candidates_rotate_and_skip_tried_servers() {
    let (shop, now) = (upstream(&[("127.0.0.1", 1), ("127.0.0.1", 2)]), Instant::now());
    let (first, _) = select(&shop, &[], now);
    let (second, _) = select(&shop, &[], now);
    assert_eq!((first.address.port(), second.address.port()), (1, 2));
    let (other, _) = select(&shop, std::slice::from_ref(&first), now);
    assert_eq!(other.address.port(), 2);
    assert_eq!(shop.select(&[first, second], 0, now).unwrap_err(), NoServer::AllTried);
}

#[test]
fn server_without_an_address_is_skipped() {
    let (shop, now) = (upstream(&[("shop.internal", 1), ("127.0.0.1", 2)]), Instant::now());
    assert_eq!(ports(&shop, 4, now), [2, 2, 2, 2]);
    let unresolved = upstream(&[("shop.internal", 1)]);
    assert_eq!(unresolved.select(&[], 0, now).unwrap_err(), NoServer::Unresolved(LookupFailure::TimedOut));
    unresolved.record_lookup(&unresolved.servers()[0], NameAnswer::failed(LookupFailure::Error), now);
    assert_eq!(unresolved.select(&[], 0, now).unwrap_err(), NoServer::Unresolved(LookupFailure::Error));
}

#[test]
fn ejected_server_gets_no_request_then_one_at_a_time_until_one_has_succeeded() {
    let (shop, start) = (upstream(&THREE), Instant::now());
    eject(&shop, 2, start);
    assert!(!ports(&shop, 30, start).contains(&2));
    let recovering = start + Duration::from_secs(5);
    let selected: Vec<_> = (0..30).map(|_| select(&shop, &[], recovering)).collect();
    assert_eq!(selected.iter().filter(|(candidate, _)| candidate.address.port() == 2).count(), 1);
    drop(selected);
    let (_, mut guard) = (0..3)
        .map(|_| select(&shop, &[], recovering))
        .find(|(candidate, _)| candidate.address.port() == 2)
        .expect("a trial without an outcome is repeated");
    shop.record(&mut guard, AttemptOutcome::Success, recovering);
    assert_eq!(ports(&shop, 30, recovering).iter().filter(|port| **port == 2).count(), 10);
}

#[test]
fn at_most_half_of_the_servers_are_ejected_and_recovering_ones_count() {
    let (shop, start) = (upstream(&THREE), Instant::now());
    eject(&shop, 1, start);
    for now in [start, start + Duration::from_secs(6)] {
        for _ in 0..100 {
            let (candidate, mut guard) = select(&shop, &[], now);
            if candidate.address.port() == 2 {
                shop.record(&mut guard, AttemptOutcome::Failure, now);
            }
        }
        assert!(ports(&shop, 30, now).contains(&2));
    }
}

#[test]
fn upstream_without_an_available_server_reports_when_to_retry() {
    let mut settings = settings(&THREE[..2]);
    settings.ejection = Some(EjectionSettings { max_ejected: 100, ..EjectionSettings::default() });
    let (shop, start) = (UpstreamRuntime::new(settings, None), Instant::now());
    eject(&shop, 1, start);
    eject(&shop, 2, start + Duration::from_secs(1));
    let unavailable = shop.select(&[], 0, start + Duration::from_secs(2)).unwrap_err();
    assert_eq!(unavailable, NoServer::Unavailable { retry_after: Duration::from_secs(3) });
    let recovering = start + Duration::from_secs(5);
    let (_trial, _guard) = select(&shop, &[], recovering);
    let unavailable = shop.select(&[], 0, recovering).unwrap_err();
    assert_eq!(unavailable, NoServer::Unavailable { retry_after: Duration::from_secs(1) });
}

#[test]
fn single_server_is_never_ejected() {
    let (shop, now) = (upstream(&THREE[..1]), Instant::now());
    for _ in 0..100 {
        let (_, mut guard) = select(&shop, &[], now);
        shop.record(&mut guard, AttemptOutcome::Failure, now);
    }
    assert!(shop.select(&[], 0, now).is_ok());
}

#[test]
fn families_of_a_name_are_alternatives_of_one_candidate() {
    let (shop, now) = (upstream(&[("localhost", 1)]), Instant::now());
    let server = &shop.servers()[0];
    found(&shop, server, vec!["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()]);
    let (candidate, mut guard) = select(&shop, &[], now);
    let addresses = candidate.addresses();
    assert!(addresses[0].address.is_ipv6() && addresses[1].address.is_ipv4());
    addresses[0].state.connect_failed(now);
    shop.connected_after(&mut guard, &addresses[1], &[Arc::clone(&addresses[0])], now);
    assert!(guard.endpoint().address.is_ipv4());
    let later = now + Duration::from_secs(60);
    assert!(select(&shop, &[], later).0.address.is_ipv4(), "the family that works is remembered");
}

#[test]
fn addresses_of_one_family_take_turns_and_are_ejected_separately() {
    let (shop, now) = (upstream(&[("shop.internal", 1)]), Instant::now());
    let address = |last| SocketAddr::from(([10, 0, 0, last], 1));
    found(&shop, &shop.servers()[0], vec![address(1), address(2), address(3)]);
    let mut counts = [0_u32; 4];
    for _ in 0..300 {
        let (candidate, mut guard) = select(&shop, &[], now);
        let SocketAddr::V4(chosen) = candidate.address else { panic!("IPv6") };
        counts[usize::from(chosen.ip().octets()[3])] += 1;
        let failed = chosen.ip().octets()[3] == 2;
        shop.record(&mut guard, if failed { AttemptOutcome::Failure } else { AttemptOutcome::Success }, now);
    }
    assert_eq!(counts[2], 5, "{counts:?}");
    assert!(counts[1].abs_diff(counts[3]) <= 5, "{counts:?}");
}

#[test]
fn changed_addresses_keep_the_state_of_those_that_remain() {
    let (shop, now) = (upstream(&[("shop.internal", 1)]), Instant::now());
    let address = |last| SocketAddr::from(([10, 0, 0, last], 1));
    let server = &shop.servers()[0];
    found(&shop, server, vec![address(1), address(2)]);
    let endpoints = server.endpoints().clone();
    found(&shop, server, vec![address(3), address(2)]);
    assert!(Arc::ptr_eq(&server.endpoints()[0], &endpoints[1]));
    assert!(endpoints[0].is_removed() && !endpoints[1].is_removed());
    found(&shop, server, Vec::new());
    assert_eq!(server.endpoints().len(), 2, "a failed lookup keeps the addresses");
    assert!(select(&shop, &[], now).0.address.port() == 1);
}

#[test]
fn reload_keeps_addresses_and_ejections_of_equal_servers() {
    let (shop, now) = (upstream(&THREE), Instant::now());
    eject(&shop, 2, now);
    let mut changed = settings(&[("127.0.0.1", 4), ("127.0.0.1", 2), ("127.0.0.1", 3)]);
    changed.keepalive_max = 3;
    let reloaded = UpstreamRuntime::new(changed, Some(&shop));
    assert!(!ports(&reloaded, 30, now).contains(&2));
    drop(shop);
    eject_attempt_is_refused(&reloaded, now);
}

/// One of three is ejected: no other server may be.
fn eject_attempt_is_refused(shop: &UpstreamRuntime, now: Instant) {
    for _ in 0..60 {
        let (_, mut guard) = select(shop, &[], now);
        shop.record(&mut guard, AttemptOutcome::Failure, now);
    }
    let mut left = ports(shop, 30, now);
    left.sort_unstable();
    left.dedup();
    assert_eq!(left, [3, 4]);
}

#[test]
fn hash_sends_equal_keys_to_one_server_and_moves_to_another_when_it_is_ejected() {
    let mut settings = settings(&THREE);
    settings.balance = Balance::Hash(HashKey::ClientIp);
    let (shop, now) = (UpstreamRuntime::new(settings, None), Instant::now());
    let port = |key: u64| shop.select(&[], key, now).unwrap().0.address.port();
    let before: Vec<u16> = (0..100).map(|key| port(hash_of(key.to_string()))).collect();
    assert_eq!(before, (0..100).map(|key| port(hash_of(key.to_string()))).collect::<Vec<_>>());
    assert!((1..=3).all(|port| before.contains(&port)));
    for key in 0..100 {
        let (candidate, mut guard) = shop.select(&[], hash_of(key.to_string()), now).unwrap();
        if candidate.address.port() == 1 {
            shop.record(&mut guard, AttemptOutcome::Failure, now);
        }
    }
    for (key, before) in before.iter().enumerate().filter(|(_, before)| **before != 1) {
        assert_eq!(port(hash_of(key.to_string())), *before);
    }
}

#[test]
fn least_busy_avoids_a_server_with_requests_in_flight() {
    let mut settings = settings(&THREE[..2]);
    settings.balance = Balance::LeastBusy;
    let (shop, now) = (UpstreamRuntime::new(settings, None), Instant::now());
    let (first, _guard) = select(&shop, &[], now);
    for _ in 0..20 {
        assert_ne!(select(&shop, &[], now).0.address, first.address);
    }
}

#[test]
fn server_that_passes_its_health_checks_again_gets_a_trial_at_once() {
    let (shop, now) = (upstream(&THREE), Instant::now());
    eject(&shop, 2, now);
    let endpoint = Arc::clone(&shop.servers()[1].endpoints()[0]);
    let settings = HealthSettings {
        check: HealthCheck::Connect,
        every: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        fall: 1,
        rise: 1,
    };
    let after = |result| {
        endpoint.state.record_check(FinishedCheck { result, started: now, ended: now }, &settings, |_| now);
        endpoint.state.view(now).health
    };
    assert_eq!(after(CheckResult::Passed), ServerHealth::Ejected, "it was not unhealthy");
    assert_eq!(after(CheckResult::Failed), ServerHealth::Unhealthy);
    assert_eq!(after(CheckResult::Passed), ServerHealth::Recovering);
}

#[test]
fn server_with_two_families_is_ejected_as_a_whole_and_counts_once() {
    // Both names have an IPv6 and an IPv4 address.
    let (shop, now) = (upstream(&[("localhost", 1), ("localhost", 2)]), Instant::now());
    for _ in 0..60 {
        let (candidate, mut guard) = select(&shop, &[], now);
        let failed = candidate.address.port() == 1;
        shop.record(&mut guard, if failed { AttemptOutcome::Failure } else { AttemptOutcome::Success }, now);
    }
    assert_eq!(ports(&shop, 30, now), [2; 30]);
    for _ in 0..60 {
        let (_, mut guard) = select(&shop, &[], now);
        shop.record(&mut guard, AttemptOutcome::Failure, now);
    }
    assert_eq!(ports(&shop, 30, now), [2; 30], "one of two may be ejected");
}

#[test]
fn last_address_of_a_name_is_not_ejected_any_more() {
    let (shop, now) = (upstream(&[("shop.internal", 1)]), Instant::now());
    let address = |last| SocketAddr::from(([10, 0, 0, last], 1));
    found(&shop, &shop.servers()[0], vec![address(1), address(2)]);
    loop {
        let (candidate, mut guard) = select(&shop, &[], now);
        let failed = candidate.address == address(2);
        shop.record(&mut guard, if failed { AttemptOutcome::Failure } else { AttemptOutcome::Success }, now);
        if candidate.endpoint().state.view(now).health == ServerHealth::Ejected {
            break;
        }
    }
    found(&shop, &shop.servers()[0], vec![address(2)]);
    let together: Vec<_> = (0..10).map(|_| shop.select(&[], 0, now)).collect();
    assert!(together.iter().all(Result::is_ok), "its requests have nowhere else to go");
}

#[test]
fn reload_that_leaves_too_many_ejected_servers_admits_some() {
    let (four, now) = ([THREE[0], THREE[1], THREE[2], ("127.0.0.1", 4)], Instant::now());
    let shop = upstream(&four);
    eject(&shop, 3, now);
    eject(&shop, 4, now + Duration::from_secs(1));
    let reloaded = UpstreamRuntime::new(settings(&four[2..]), Some(&shop));
    let later = now + Duration::from_secs(2);
    assert_eq!(ports(&reloaded, 10, later), [3; 10], "one of two may be ejected: the last one");
    let alone = UpstreamRuntime::new(settings(&four[3..]), Some(&reloaded));
    assert_eq!(ports(&alone, 10, later), [4; 10]);
}

#[test]
fn reload_keeps_health_breaker_and_budget_of_equal_servers() {
    let health = HealthSettings {
        check: HealthCheck::Connect,
        every: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        fall: 1,
        rise: 1,
    };
    let breaker = BreakerSettings {
        failure_ratio: 50,
        window: Duration::from_secs(10),
        min_requests: 1,
        open_for: Duration::from_secs(5),
    };
    let with = |servers: &[(&str, u16)]| {
        let (health, breaker) = (Some(health.clone()), Some(breaker.clone()));
        UpstreamSettings { health, breaker, ..settings(servers) }
    };
    let (shop, now) = (UpstreamRuntime::new(with(&THREE), None), Instant::now());
    let failed = FinishedCheck { result: CheckResult::Failed, started: now, ended: now };
    shop.servers()[1].endpoints()[0].state.record_check(failed, &health, |_| now);
    shop.breaker().unwrap().admit(now).unwrap().record(AttemptOutcome::Failure, now);
    assert_eq!((0..20).filter(|_| shop.budget().try_retry(20, now)).count(), 10);

    let changed = UpstreamSettings { keepalive_max: 3, ..with(&[THREE[1], THREE[0], ("127.0.0.1", 4)]) };
    let reloaded = UpstreamRuntime::new(changed, Some(&shop));
    let healths: Vec<_> = reloaded.servers().iter().map(|server| server.health(now)).collect();
    assert_eq!(healths, [ServerHealth::Unhealthy, ServerHealth::Healthy, ServerHealth::Healthy].map(Some));
    assert!(reloaded.breaker().unwrap().admit(now).is_err());
    assert!(!reloaded.budget().try_retry(20, now));
}

/// 10^6 requests to 50 servers on virtual time, each of which breaks and recovers now and then, and 30 of them together
/// once: at most half are ejected, and at the end all get equal shares again.
#[test]
fn simulation_of_50_flapping_servers_stays_within_max_ejected_and_becomes_fair() {
    let servers: Vec<(&str, u16)> = (1..=50).map(|port| ("127.0.0.1", port)).collect();
    let (shop, start) = (upstream(&servers), Instant::now());
    let broken = |port: u16, second: u64| {
        let together = (1_000..1_060).contains(&second) && port <= 30;
        // Every server is broken for 10 s in each 1000 s, and all work in the last 400 s.
        let alone = (second + u64::from(port) * 20) % 1_000 < 10 && second > 0;
        second < 1_600 && (together || alone)
    };
    let (mut failures, mut most_ejected, mut last) = (0, 0, [0_u32; 50]);
    for step in 0..1_000_000_u64 {
        let since = Duration::from_millis(step * 2);
        let now = start + since;
        let (candidate, mut guard) = select(&shop, &[], now);
        let port = candidate.address.port();
        let outcome =
            if broken(port, since.as_secs()) { AttemptOutcome::Failure } else { AttemptOutcome::Success };
        let together = (1_000..1_060).contains(&since.as_secs());
        failures += u32::from(outcome == AttemptOutcome::Failure && !together);
        shop.record(&mut guard, outcome, now);
        if step % 500 == 0 {
            most_ejected = most_ejected.max(shop.count_addresses(|endpoint| endpoint.state.is_ejected()));
        }
        if since.as_secs() >= 1_700 {
            last[usize::from(port) - 1] += 1;
        }
    }
    assert_eq!(most_ejected, 25);
    assert!(failures < 5_000, "{failures}");
    assert!(last.iter().all(|count| count.abs_diff(3_000) <= 5), "{last:?}");
}

/// 10^6 choices of `least_busy` and `hash` while a server is ejected again and again: no request goes to it meanwhile,
/// and with `hash` only its own keys move.
#[test]
fn simulation_of_ejections_moves_only_the_keys_of_the_ejected_server() {
    let servers = [("127.0.0.1", 1), ("127.0.0.1", 2), ("127.0.0.1", 3), ("127.0.0.1", 4)];
    let balance = Balance::Hash(HashKey::ClientIp);
    let shop = UpstreamRuntime::new(UpstreamSettings { balance, ..settings(&servers) }, None);
    let start = Instant::now();
    let home: Vec<u16> =
        (0..1_000).map(|key| shop.select(&[], mix(key), start).unwrap().0.address.port()).collect();
    let (mut at_home, mut away) = (0_u32, 0_u32);
    for step in 0..1_000_000_u64 {
        let now = start + Duration::from_millis(step);
        let key = mix(step) % 1_000;
        let (candidate, mut guard) = shop.select(&[], mix(key), now).unwrap();
        let (port, home) = (candidate.address.port(), home[key as usize]);
        // Server 2 is broken in every second minute.
        let failed = port == 2 && step / 60_000 % 2 == 1;
        shop.record(&mut guard, if failed { AttemptOutcome::Failure } else { AttemptOutcome::Success }, now);
        assert!(port == home || home == 2, "a key of server {home} moved");
        at_home += u32::from(port == home);
        away += u32::from(port != home);
    }
    assert!((60_000..180_000).contains(&away), "{away} away, {at_home} at home");
}
