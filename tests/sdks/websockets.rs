//! WebSocket with a real client and server: PyPI's `websockets`, installed by `.ci/packages`.
//!
//! Messages of all sizes are echoed unchanged, closes keep their codes, a server that disconnects is detected, and a
//! rejected handshake gets a documented error. `tests/it/tunnel.rs` covers the bytes.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::RealGateway;
use crate::program::succeed;
use crate::python_server::{PYTHON, PythonServer};

const SCRIPT: &str = "tests/sdks/websockets.py";

#[test]
fn websockets_package_messages_pass_transparently() {
    let server = PythonServer::start(SCRIPT);
    let gateway = RealGateway::with(&format!(
        "upstreams: {{ chat: {{ servers: [\"127.0.0.1:{}\"] }} }}\n\
         routes: [{{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: chat }}]\n",
        server.port
    ));
    let url = format!("ws://{}", gateway.http1);
    let output = succeed(Command::new(PYTHON).args([SCRIPT, "connect", &url]), Duration::from_secs(60));
    let found: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let echoed = json!({ "same": true, "code": 1000 });
    let error = |code: u16, message: &str| json!({ "status": code, "body": format!(r#"{{"message":"{message}","code":{code}}}"#) });
    let failure = "The servers are up, but the request could not be serviced due to some failure within the stack. Try again later.";
    let expected = [
        echoed.clone(),
        json!({ "received": "early", "protocol": null }),
        json!({ "closed": [4001, "enough"] }),
        // The connection ended without a WebSocket close frame.
        json!({ "closed": null }),
        error(403, "The request is understood, but it has been refused, or access is not allowed."),
        error(500, "Something is broken."),
        error(504, failure),
        Value::from(vec![echoed; 20]),
    ];
    assert_eq!(found, expected);
    gateway
        .wait_for_counts(&[(101, 24), (403, 1), (500, 1), (504, 1)].into(), RealGateway::responses_by_code);
}
