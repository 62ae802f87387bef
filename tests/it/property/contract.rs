//! Arbitrary bytes of an upstream or a client never cause a response outside the contract, an uncounted close, a hang
//! or a panic.

use std::time::Duration;

use super::super::gateway::{Gateway, GatewaySetup};
use super::client_bytes::ClientProperty;
use super::observed::ObservedResponses;
use super::runner::{CasePlan, run, with_retry};
use super::strict_upstream::StrictUpstream;
use super::upstream_bytes::UpstreamProperty;

/// Timeouts short enough to end a case soon, long enough for a busy machine.
pub fn short_timeouts(peer: &StrictUpstream) -> GatewaySetup {
    GatewaySetup::with_servers(&[peer.address()])
        .set("log.requests", "off")
        .set("client.header_timeout", "200ms")
        .set("client.body_timeout", "200ms")
        .set("client.idle_timeout", "400ms")
        .set("timeouts.connect", "400ms")
        .set("timeouts.response_headers", "250ms")
        .set("timeouts.deadline", "500ms")
        .set("timeouts.body_idle", "250ms")
        .set("timeouts.stream_idle", "250ms")
        .set("errors.upstream_body", "{ timeout: 150ms }")
        .limit(Duration::from_secs(600))
}

/// Connections to `single` are never reused, those to the other upstream are.
pub fn with_two_upstreams(peer: &StrictUpstream) -> GatewaySetup {
    short_timeouts(peer)
        .upstream("single", &[peer.address()])
        .set("upstream single.keepalive", "{ max: 0 }")
        .route("name: single, match: { path: \"/single/{*rest}\" }, upstream: single")
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main")
}

/// Asserts that an idle gateway has counted the same as its clients.
#[track_caller]
pub fn check_settled(gateway: &Gateway, observed: &ObservedResponses, peer: &StrictUpstream) {
    assert_eq!(peer.violations(), Vec::<String>::new(), "malformed requests at the upstream");
    assert_eq!(observed.differences(gateway), Vec::<String>::new(), "{:?}", observed.counts());
    eprintln!("{:?}", observed.counts());
}

#[test]
fn arbitrary_upstream_bytes_never_break_the_contract() {
    with_retry(CasePlan::from_environment(10_000), |plan| {
        let (peer, observed) = (StrictUpstream::start(), ObservedResponses::default());
        let gateway = with_two_upstreams(&peer).start();
        let property = UpstreamProperty { gateway: gateway.address(), peer: &peer, observed: &observed };
        run("upstream side", plan, &property);
        check_settled(&gateway, &observed, &peer);
    });
}

#[test]
fn arbitrary_client_bytes_never_break_the_contract() {
    with_retry(CasePlan::from_environment(10_000), |plan| {
        let (peer, observed) = (StrictUpstream::start(), ObservedResponses::default());
        let gateway = short_timeouts(&peer).start();
        let property = ClientProperty { gateway: gateway.address(), observed: &observed };
        run("client side", plan, &property);
        check_settled(&gateway, &observed, &peer);
    });
}
