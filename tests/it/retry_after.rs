//! A client that is refused and waits for as long as `Retry-After` demands gets its response then.
//!
//! `make chaos` has 200 trials of each kind. The one in `make test` depends on the time alone, not on the speed of the
//! machine; the waits for health checks and ejections are tested on virtual time (`src/upstream`).

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::chaos_load::{Reply, exchange};
use super::flaky_server::{Behavior, FlakyServer, Received};
use super::prelude::*;

/// What refuses the clients, and how its upstreams are configured.
struct Refusal {
    name: &'static str,
    fault: Behavior,
    settings: &'static [(&'static str, &'static str)],
}

const BREAKER: Refusal = Refusal {
    name: "breaker",
    fault: Behavior::Refuses,
    settings: &[("upstream.breaker", "{ min_requests: 2, open_for: 2s }"), ("upstream.ejection", "off")],
};

const REFUSALS: [Refusal; 5] = [
    BREAKER,
    Refusal {
        name: "no healthy server, it refused",
        fault: Behavior::Refuses,
        settings: &[("upstream.health", "{ path: /healthz, every: 1s, timeout: 500ms, fall: 1, rise: 2 }")],
    },
    Refusal {
        name: "no healthy server, it hung",
        fault: Behavior::Hangs,
        settings: &[("upstream.health", "{ path: /healthz, every: 1s, timeout: 900ms, fall: 1, rise: 2 }")],
    },
    Refusal {
        name: "all servers ejected",
        fault: Behavior::Refuses,
        settings: &[("upstream.ejection", "{ consecutive: 2, for: 1s, max_ejected: 100% }")],
    },
    Refusal {
        name: "breaker, and no healthy server",
        fault: Behavior::Refuses,
        settings: &[
            ("upstream.breaker", "{ min_requests: 1, open_for: 1s }"),
            ("upstream.health", "{ path: /healthz, every: 3s, timeout: 500ms, fall: 1, rise: 1 }"),
        ],
    },
];

/// Two servers and a gateway with an upstream for each client: clients of one upstream would be each other's trial.
struct Setting {
    servers: [FlakyServer; 2],
    gateway: Gateway,
    refusal: &'static Refusal,
}

impl Setting {
    fn start(refusal: &'static Refusal, clients: usize) -> Setting {
        let received = Received::default();
        let servers = [0; 2].map(|_| FlakyServer::start(&received));
        let addresses = servers.each_ref().map(FlakyServer::address);
        let mut setup = GatewaySetup::with_servers(&addresses)
            .set("timeouts.connect", "500ms")
            .set("timeouts.response_headers", "500ms")
            .set("errors.include", "[cause]")
            .limit(Duration::from_secs(300));
        for (key, value) in refusal.settings {
            setup = setup.set(key, value);
        }
        for client in 0..clients {
            let (name, path) = (format!("u{client}"), format!("/u{client}"));
            setup = setup.upstream(&name, &addresses).route(&format!(
                "name: {name}, match: {{ path: \"{path}/{{*rest}}\" }}, strip_prefix: {path}, upstream: {name}"
            ));
        }
        Setting { servers, gateway: setup.start(), refusal }
    }

    fn set(&self, behavior: Behavior) {
        self.servers.iter().for_each(|server| server.set(behavior));
        let accepts = !matches!(behavior, Behavior::Refuses | Behavior::Blackholes);
        self.servers.iter().for_each(|server| server.wait_until_accepting(accepts));
    }

    fn get(&self, client: usize) -> Option<Reply> {
        exchange(&mut None, self.gateway.address(), "GET", &format!("/u{client}/r/{client}")).ok()
    }

    /// A response that no server has seen.
    fn refusal(&self, client: usize) -> Option<Reply> {
        let causes = ["breaker_open", "destination_unavailable"];
        self.get(client).filter(|reply| reply.cause.as_deref().is_some_and(|cause| causes.contains(&cause)))
    }

    fn wait_for_refusal(&self, client: usize) -> bool {
        let deadline = Instant::now() + limit();
        while Instant::now() < deadline {
            if self.refusal(client).is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{}: client {client} is not refused", self.refusal.name);
        false
    }

    /// Each client is refused once more after the servers have recovered, waits, and sends its request again. Returns
    /// how many were refused, and how many of them succeeded.
    fn round(&self, clients: usize) -> (u32, u32) {
        self.set(self.refusal.fault);
        let barrier = Barrier::new(clients + 1);
        let run = |client: usize| {
            let is_refused = self.wait_for_refusal(client);
            barrier.wait();
            // The servers recover.
            barrier.wait();
            if !is_refused {
                return (1, 0);
            }
            // Without a refusal the recovery was noticed already.
            let Some(refused) = self.refusal(client) else { return (0, 0) };
            let wait = refused.retry_after.unwrap_or(0);
            std::thread::sleep(Duration::from_secs(wait));
            let repeated = self.get(client);
            let succeeded = repeated.as_ref().is_some_and(|reply| reply.status == 200);
            if !succeeded {
                eprintln!("{}: refused for {wait} s, then {repeated:?}", self.refusal.name);
            }
            (1, u32::from(succeeded))
        };
        std::thread::scope(|scope| {
            let run = &run;
            let clients: Vec<_> = (0..clients).map(|client| scope.spawn(move || run(client))).collect();
            barrier.wait();
            self.set(Behavior::Works);
            barrier.wait();
            let results = clients.into_iter().map(|client| client.join().expect("no panic"));
            results.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        })
    }
}

#[test]
fn client_that_waits_for_an_open_breaker_succeeds_at_its_first_retry() {
    let setting = Setting::start(&BREAKER, 2);
    let (mut refused, mut succeeded) = (0, 0);
    while refused == 0 {
        let (more_refused, more_succeeded) = setting.round(2);
        (refused, succeeded) = (refused + more_refused, succeeded + more_succeeded);
    }
    assert_eq!(succeeded, refused);
}

#[test]
#[ignore = "make proof: two minutes of waiting"]
fn table_of_clients_that_obey_retry_after() {
    const CLIENTS: usize = 40;
    const TRIALS: u32 = 200;
    let run = |refusal: &'static Refusal| {
        let setting = Setting::start(refusal, CLIENTS);
        let (mut refused, mut succeeded) = (0, 0);
        while refused < TRIALS {
            let (more_refused, more_succeeded) = setting.round(CLIENTS);
            (refused, succeeded) = (refused + more_refused, succeeded + more_succeeded);
        }
        (refusal.name, refused, succeeded)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = REFUSALS.iter().map(|refusal| scope.spawn(move || run(refusal))).collect();
        running.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    println!(
        "| refused by | clients that obeyed Retry-After | succeeded at the first retry |\n|---|---|---|"
    );
    for (name, refused, succeeded) in &results {
        println!("| {name} | {refused} | {succeeded} |");
    }
    for (name, refused, succeeded) in results {
        assert!(succeeded * 100 >= refused * 99, "{name}: {succeeded} of {refused}");
    }
}
