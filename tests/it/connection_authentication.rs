//! Connections that NTLM or Negotiate has authenticated serve the client that authenticated them, and no other one.
//!
//! These schemes authenticate a connection, not a request (RFC 4559 6; NTLM likewise): a pooled connection would
//! carry one client's identity to the next client.

use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use http::Request;
use statusquo::conformance::RecordedRequest;

use super::h2_client::H2Client;
use super::h2_upstream::H2Server;
use super::ntlm_server::{NtlmServer, TYPE1, response_to};
use super::prelude::*;

/// `Authorization` values that authenticate a connection, in the spellings that servers accept.
const BINDING_CREDENTIALS: [&str; 6] = [
    "NTLM TlRMTVNTUAABAAAAB4IIAAAAAAAAAAAAAAAAAAAAAAA=",
    "Negotiate YIIJvwYGKwYBBQUCoIIJszCCCa",
    "nTlM TlRMTVNTUAAD",
    "NEGOTIATE\tYII=",
    "NTLM",
    "Negotiate  YII=",
];

#[test]
fn ntlm_or_negotiate_connection_is_never_reused() {
    for value in BINDING_CREDENTIALS {
        let upstream = ok_upstream("served");
        let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
        // Creates a pooled connection, so that reuse is tested too.
        gateway.client().get("/before").assert_response(200, "served");
        gateway
            .client()
            .request("GET", "/h1", &format!("authorization: {value}\r\n"), "")
            .assert_response(200, "served");
        gateway.client().get("/after-h1").assert_response(200, "served");
        let mut h2 = gateway.h2_client();
        h2.request("POST", "/h2", &[("authorization", value)], Bytes::from_static(b"x"))
            .assert_response(200, "served");
        // Their own client may use it again, others may not.
        gateway.h2_client().get("/after-h2").assert_response(200, "served");
        for connection in &upstream.recording().connections {
            let requests: Vec<_> = connection.requests.iter().map(|request| &request.head).collect();
            for (index, request) in requests.iter().enumerate() {
                let last = index + 1 == requests.len();
                assert!(request.header("authorization").is_none() || last, "{value}: {requests:#?}");
            }
        }
    }
}

#[test]
fn connection_with_other_credentials_is_reused() {
    for value in ["Basic dTpw", "Bearer NTLM", "NTLMv3 x", "Negotiated x", "X-NTLM x"] {
        let upstream = ok_upstream("served");
        let gateway = Gateway::with_upstream(&upstream).start();
        let mut client = gateway.client();
        client
            .request("GET", "/1", &format!("authorization: {value}\r\n"), "")
            .assert_response(200, "served");
        client.get("/2").assert_response(200, "served");
        assert_eq!(upstream.connection_count(), 1, "{value}");
    }
}

#[test]
fn ntlm_request_is_not_sent_on_a_shared_http2_connection() {
    async fn respond(_: Request<h2::RecvStream>, mut send: SendResponse<Bytes>) {
        let Ok(mut body) = send.send_response(http::Response::new(()), false) else { return };
        let _ = body.send_data(Bytes::from_static(b"two"), true);
    }
    let server = H2Server::with(8, respond);
    let gateway = GatewaySetup::with_servers(&[server.address()]).set("upstream.http2", "always").start();
    gateway.client().get("/").assert_response(200, "two");
    // The server supports only HTTP/2, where a connection cannot be reserved for one client.
    gateway.client().request("GET", "/", "authorization: NTLM TlRM\r\n", "").assert_local_reply(504);
    gateway.client().get("/").assert_response(200, "two");
}

/// A client of either protocol.
trait AuthenticatingClient {
    fn send_request(&mut self, method: &'static str, path: &str, authorization: Option<&str>)
    -> HttpResponse;

    /// Sends the first two requests of a handshake; returns the response to the second.
    fn authenticate(&mut self, scheme: &str, path: &str) -> HttpResponse {
        let challenged = self.send_request("GET", path, Some(&format!("{scheme} {TYPE1}")));
        assert_eq!(challenged.status, 401, "{challenged:?}");
        let challenge = challenged.header("www-authenticate").expect("a challenge").to_owned();
        self.send_request("POST", path, Some(&response_to(&challenge)))
    }
}

impl AuthenticatingClient for Client {
    fn send_request(
        &mut self,
        method: &'static str,
        path: &str,
        authorization: Option<&str>,
    ) -> HttpResponse {
        let field = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
        self.request(method, path, &field, if method == "POST" { "body" } else { "" })
    }
}

impl AuthenticatingClient for H2Client {
    fn send_request(
        &mut self,
        method: &'static str,
        path: &str,
        authorization: Option<&str>,
    ) -> HttpResponse {
        let fields: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
        let body = if method == "POST" { Bytes::from_static(b"body") } else { Bytes::new() };
        self.request(method, path, &fields, body)
    }
}

fn ntlm_gateway(server: &NtlmServer) -> GatewaySetup {
    // The connections of the pool must outlast a test on a busy machine; the default limit is not scaled.
    let setup = GatewaySetup::with_servers(&[server.address()]).with_h2c_listener();
    setup.set("upstream.keepalive", "{ idle: 60s }")
}

#[test]
fn handshake_completes_and_its_connection_serves_one_client_only() {
    for scheme in ["NTLM", "Negotiate", "negotiate"] {
        let server = NtlmServer::start("");
        let gateway = ntlm_gateway(&server).start();
        // A pooled connection, which no handshake may use.
        assert_eq!(gateway.client().get("/anonymous").status, 401);
        let mut first = gateway.client();
        first.authenticate(scheme, "/a").assert_response(200, "alice on 1: /a");
        let mut second = gateway.h2_client();
        second.authenticate(scheme, "/b").assert_response(200, "alice on 2: /b");
        // Later requests have no credentials.
        for path in ["/1", "/2"] {
            first.send_request("GET", path, None).assert_response(200, &format!("alice on 1: {path}"));
            second.send_request("POST", path, None).assert_response(200, &format!("alice on 2: {path}"));
        }
        let mut together: Vec<_> =
            second.get_all(&["/x", "/y", "/z"]).iter().map(HttpResponse::text).collect();
        together.sort_unstable();
        assert_eq!(together, ["alice on 2: /x", "alice on 2: /y", "alice on 2: /z"]);
        // Nobody else is alice, neither now nor after these clients have left.
        assert_eq!(gateway.client().get("/stranger").status, 401);
        assert_eq!(gateway.h2_client().get("/stranger").status, 401);
        drop(first);
        server.wait_until_closed(1);
        drop(second);
        server.wait_until_closed(2);
        assert_eq!(gateway.client().get("/stranger").status, 401);
        assert_eq!(server.connections().len(), 3);
        assert!(!server.connections()[0].closed);
        gateway.expect_metrics_match_responses();
    }
}

#[test]
fn handshakes_of_several_clients_do_not_mix() {
    let server = NtlmServer::start("");
    let gateway = ntlm_gateway(&server).start();
    let mut clients: Vec<_> = (0..4).map(|_| gateway.client()).collect();
    let challenges: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            let challenged = client.send_request("GET", "/", Some(&format!("NTLM {TYPE1}")));
            challenged.header("www-authenticate").unwrap().to_owned()
        })
        .collect();
    for (index, (client, challenge)) in clients.iter_mut().zip(&challenges).enumerate().rev() {
        assert_eq!(challenge, &format!("NTLM TYPE2-{index}"));
        let expected = format!("alice on {index}: /");
        client.send_request("GET", "/", Some(&response_to(challenge))).assert_response(200, &expected);
    }
    // The response to another client's challenge authenticates nobody.
    let mut thief = gateway.client();
    assert_eq!(thief.send_request("GET", "/", Some(&response_to(&challenges[0]))).status, 401);
    assert_eq!(thief.send_request("GET", "/", None).status, 401);
}

#[test]
fn peer_that_many_users_may_share_gets_no_pinned_connection() {
    let server = NtlmServer::start("");
    let gateway = ntlm_gateway(&server).set("client.trusted_proxies", "[127.0.0.0/8]").start();
    let mut proxy = gateway.client();
    let mut proxy_h2 = gateway.h2_client();
    assert_eq!(proxy.authenticate("NTLM", "/a").status, 401);
    assert_eq!(proxy_h2.authenticate("NTLM", "/a").status, 401);
    assert_eq!(proxy.get("/b").status, 401);
    assert_eq!(proxy_h2.get("/b").status, 401);
    let connections = server.connections();
    for (index, connection) in connections.iter().enumerate() {
        let bound = connection.requests.iter().any(|request| request.authorization.is_some());
        assert!(!bound || connection.requests.len() == 1, "{connections:#?}");
        if bound {
            server.wait_until_closed(index);
        }
    }
}

#[test]
fn connection_that_its_server_closes_loses_the_user_and_nothing_else() {
    let server = NtlmServer::start("");
    let gateway = ntlm_gateway(&server).start();
    let mut client = gateway.client();
    client.authenticate("NTLM", "/a").assert_response(200, "alice on 0: /a");
    client.send_request("GET", "/last", None).assert_response(200, "alice on 0: /last");
    server.wait_until_closed(0);
    assert_eq!(client.get("/b").status, 401);
    client.authenticate("NTLM", "/c").assert_response(200, "alice on 2: /c");
    client.send_request("GET", "/d", None).assert_response(200, "alice on 2: /d");
}

#[test]
fn connection_without_a_user_is_pooled_again() {
    let server = NtlmServer::start("");
    let gateway = ntlm_gateway(&server).start();
    let mut client = gateway.client();
    client.authenticate("NTLM", "/a").assert_response(200, "alice on 0: /a");
    // Its server closes the user's connection when the request arrives: it is sent again on another one.
    for path in ["/leave", "/c"] {
        assert_eq!(client.send_request("GET", path, None).status, 401);
    }
    assert_eq!(gateway.client().get("/d").status, 401);
    assert_eq!(server.connections().len(), 2, "{:#?}", server.connections());
    // It stays anonymous: a handshake gets a connection of its own.
    client.authenticate("NTLM", "/e").assert_response(200, "alice on 2: /e");
    assert_eq!(gateway.client().get("/f").status, 401);
}

#[test]
fn request_of_a_handshake_is_never_sent_on_a_second_connection() {
    let server = NtlmServer::start("");
    let gateway = ntlm_gateway(&server).set("upstream.retry", "{ attempts: 3 }").start();
    let mut client = gateway.client();
    client.send_request("GET", "/drop", Some(&format!("NTLM {TYPE1}"))).assert_local_reply(504);
    assert_eq!(client.send_request("GET", "/", Some(&format!("NTLM {TYPE1}"))).status, 401);
    client.send_request("GET", "/drop", Some("NTLM TYPE3-1")).assert_local_reply(504);
    let dropped = server.connections().iter().flat_map(|seen| seen.requests.clone()).collect::<Vec<_>>();
    assert_eq!(dropped.iter().filter(|request| request.path == "/drop").count(), 2, "{dropped:#?}");
}

#[test]
fn status_that_is_retried_is_not_retried_within_a_handshake() {
    let server = NtlmServer::start("");
    let gateway =
        ntlm_gateway(&server).set("upstream.retry", "{ attempts: 3, on_status: [401, 503] }").start();
    gateway.client().authenticate("NTLM", "/a").assert_response(200, "alice on 0: /a");
    assert_eq!(server.connections().len(), 1);
}

#[test]
fn pinned_connection_without_requests_is_closed_at_idle_timeout() {
    let server = NtlmServer::start("");
    let other = ok_upstream("other");
    let gateway = ntlm_gateway(&server)
        .upstream("other", &[other.address()])
        .route("name: other, match: { path: /other }, upstream: other")
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main")
        .set("client.idle_timeout", "600ms")
        .start();
    let mut client = gateway.client();
    client.authenticate("NTLM", "/a").assert_response(200, "alice on 0: /a");
    // Another route is not affected, and its requests keep only the client's connection open.
    let deadline = Instant::now() + limit();
    while !server.connections()[0].closed {
        client.get("/other").assert_response(200, "other");
        assert!(Instant::now() < deadline, "the pinned connection stays open");
    }
    assert_eq!(client.get("/b").status, 401);
}

#[test]
fn pinned_connections_are_limited_by_keepalive_max() {
    let server = NtlmServer::start("");
    let gateway = ntlm_gateway(&server).set("upstream.keepalive", "{ max: 1 }").start();
    let (mut first, mut second) = (gateway.client(), gateway.client());
    first.authenticate("NTLM", "/a").assert_response(200, "alice on 0: /a");
    assert_eq!(second.authenticate("NTLM", "/b").status, 401, "closed after each response");
    first.send_request("GET", "/c", None).assert_response(200, "alice on 0: /c");
    drop(first);
    server.wait_until_closed(0);
    let count = server.connections().len();
    second.authenticate("NTLM", "/d").assert_response(200, &format!("alice on {count}: /d"));
}

#[test]
fn pinned_connection_counts_towards_the_concurrency_limit() {
    let server = NtlmServer::start("");
    let gateway = ntlm_gateway(&server).set("upstream.concurrency", "{ max: 1, queue: 0 }").start();
    let mut first = gateway.h2_client();
    first.authenticate("NTLM", "/a").assert_response(200, "alice on 0: /a");
    gateway.client().get("/b").assert_local_reply(503);
    assert_eq!(
        first.get_all(&["/c", "/d"]).iter().map(|response| response.status).collect::<Vec<_>>(),
        [200, 200]
    );
    drop(first);
    server.wait_until_closed(0);
    assert_eq!(gateway.client().get("/e").status, 401);
}

#[test]
fn announced_idle_time_of_the_server_limits_the_pinned_connection() {
    let server = NtlmServer::start("keep-alive: timeout=1\r\n");
    let gateway = ntlm_gateway(&server).start();
    let mut client = gateway.client();
    client.authenticate("NTLM", "/a").assert_response(200, "alice on 0: /a");
    server.wait_until_closed(0);
    assert_eq!(client.get("/b").status, 401);
}

#[test]
fn connection_that_a_route_authenticates_is_not_reused() {
    let upstream = ok_upstream("served");
    let gateway = Gateway::with_upstream(&upstream)
        .route(
            "name: service, match: { path: /service }, upstream: main, \
             request_headers: { set: { authorization: \"Negotiate YII=\" } }",
        )
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    let mut client = gateway.client();
    for path in ["/service", "/other", "/service", "/other"] {
        client.get(path).assert_response(200, "served");
    }
    for connection in &upstream.recording().connections {
        let bound = |request: &RecordedRequest| request.head.header("authorization").is_some();
        let last = connection.requests.len() - 1;
        assert!(!connection.requests[..last].iter().any(bound), "{connection:#?}");
    }
}
