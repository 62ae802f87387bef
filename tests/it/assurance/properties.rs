//! Any bytes of an upstream and any bytes of a client: never a response outside the contract, never a silence that is not
//! counted, never a hang, never a panic.

use std::time::Duration;

use super::super::gateway::{Gateway, Setup};
use super::client_side::ClientSide;
use super::ledger::Ledger;
use super::peer::Peer;
use super::run::{Plan, run, twice};
use super::upstream_side::UpstreamSide;

/// Limits so short that a case ends soon, and so long that they mean something on a busy machine.
pub fn impatient(peer: &Peer) -> Setup {
    Setup::of_servers(&[peer.address()])
        .set("log.requests", "off")
        .set("client.header_timeout", "200ms")
        .set("client.body_timeout", "200ms")
        .set("client.idle_timeout", "400ms")
        .set("timeouts.connect", "400ms")
        .set("timeouts.response_head", "250ms")
        .set("timeouts.total", "500ms")
        .set("timeouts.between_bytes", "250ms")
        .set("timeouts.stream_idle", "250ms")
        .set("errors.upstream_body", "{ timeout: 150ms }")
        .limit(Duration::from_secs(600))
}

/// Connections to `single` are never used again, those to the other are.
pub fn with_two_upstreams(peer: &Peer) -> Setup {
    impatient(peer)
        .upstream("single", &[peer.address()])
        .set("upstream single.keepalive", "{ max: 0 }")
        .route("name: single, match: { path: \"/single/{*rest}\" }, upstream: single")
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main")
}

/// A gateway at rest has counted what its clients counted.
#[track_caller]
pub fn settle(gateway: &Gateway, ledger: &Ledger, peer: &Peer) {
    assert_eq!(peer.breaches(), Vec::<String>::new(), "what reached the upstream");
    assert_eq!(ledger.differences(gateway), Vec::<String>::new(), "{:?}", ledger.sums());
    eprintln!("{:?}", ledger.sums());
}

#[test]
fn no_bytes_of_an_upstream_lead_out_of_the_contract() {
    twice(Plan::of_environment(10_000), |plan| {
        let (peer, ledger) = (Peer::start(), Ledger::default());
        let gateway = with_two_upstreams(&peer).start();
        let side = UpstreamSide { gateway: gateway.address(), peer: &peer, ledger: &ledger };
        run("upstream side", plan, &side);
        settle(&gateway, &ledger, &peer);
    });
}

#[test]
fn no_bytes_of_a_client_lead_out_of_the_contract() {
    twice(Plan::of_environment(10_000), |plan| {
        let (peer, ledger) = (Peer::start(), Ledger::default());
        let gateway = impatient(&peer).start();
        let side = ClientSide { gateway: gateway.address(), ledger: &ledger };
        run("client side", plan, &side);
        settle(&gateway, &ledger, &peer);
    });
}
