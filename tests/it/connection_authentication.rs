//! Connections that NTLM or Negotiate has authenticated serve the client that authenticated them, and no other one.
//!
//! These schemes authenticate a connection, not a request (RFC 4559 section 6; NTLM likewise): a pooled connection would
//! carry one client's identity to the next client.

use bytes::Bytes;
use h2::server::SendResponse;
use http::Request;

use super::gateway::Gateway;
use super::gateway::GatewaySetup;
use super::h2_upstream::H2Server;
use super::scripted_upstreams::ok_upstream;

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
        h2.get("/after-h2").assert_response(200, "served");
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
