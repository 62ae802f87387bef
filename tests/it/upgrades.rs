//! Which upgrades reach the upstream, and the 101 that the client receives. `tunnel.rs` has what follows the 101.

use statusquo::conformance::{Step, write_bytes};

use super::gateway::Gateway;
use super::response_reader::SentRequest;
use super::scripted_upstreams::script;

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

#[test]
fn framing_fields_of_a_101_are_removed() {
    for fields in [
        "transfer-encoding: chunked",
        "content-length: 0",
        "content-length: 5",
        "content-length: 5\r\ntransfer-encoding: chunked",
        "content-length: 1\r\ncontent-length: 2",
        "transfer-encoding: identity",
    ] {
        let switching = format!(
            "HTTP/1.1 101 Switching Protocols\r\n{fields}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
        let upstream = script([Step::ReadRequestHead, write_bytes(switching), Step::EchoRaw, Step::Close]);
        let gateway = Gateway::with_upstream(&upstream).start();
        let mut client = gateway.client();
        let response = client.exchange(SentRequest::Http11("GET"), HANDSHAKE);
        assert_eq!(response.status, 101, "{fields}: {response:?}");
        for name in ["transfer-encoding", "content-length"] {
            assert_eq!(response.header(name), None, "{fields}");
        }
        client.send("5\r\nhello");
        client.wait_for("5\r\nhello");
    }
}
