//! `rehearse`: no example configuration breaks the contract, and a gateway that does is found out, by name.
//!
//! What is broken on purpose is broken by a relay between the rehearsal's clients and its gateways: it is told where to
//! lead in the first line, and spoils the answers to the requests that it knows.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use statusquo::rehearse::{Setting, client_faults_tls};

use super::certificates::Authority;
use super::gateway::Folder;

/// Runs to its end: the exit status, and the report.
fn rehearse(file: &str, relay: Option<SocketAddr>) -> (Option<i32>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_statusquo"));
    command.args(["rehearse", "--format", "json", file]).stdin(Stdio::null());
    if let Some(relay) = relay {
        command.args(["--through", &relay.to_string()]);
    }
    let output = command.output().unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

fn example(name: &str) -> String {
    format!("{}/config/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Fault and reason of every row with this verdict.
fn rows<'a>(report: &'a Value, verdict: &str) -> Vec<(&'a str, &'a str)> {
    let text = |row: &'a Value, name: &str| row[name].as_str().unwrap_or_default();
    let all = report["rows"].as_array().unwrap().iter();
    all.filter(|row| row["verdict"] == verdict).map(|row| (text(row, "fault"), text(row, "reason"))).collect()
}

#[test]
fn no_example_configuration_breaks_the_contract_in_a_rehearsal() {
    for name in ["minimal.yaml", "annotated.yaml", "appwrite.yaml"] {
        let (status, report) = rehearse(&example(name), None);
        assert_eq!(rows(&report, "broken"), [], "{name}");
        assert_eq!((status, &report["kept"]), (Some(0), &Value::from(true)), "{name}");
        let kept = rows(&report, "kept").len();
        assert!(kept > 400, "{name}: {kept}");
        for (fault, reason) in rows(&report, "not_applicable") {
            assert!(!reason.is_empty(), "{name}: {fault} is left out without a reason");
        }
    }
}

const OWN: &str = "version: 1
listen: [{ address: \"127.0.0.1:1\" }, { address: \"127.0.0.1:3\", SECOND }]
telemetry: { address: \"127.0.0.1:2\" }
rate_limits: { few: { key: [host], allow: 3 per 1h } }
upstreams:
  shop: { servers: [shop.invalid:80], concurrency: { max: 1 } }
  calls: { servers: [calls.invalid:50051], http2: always }
  vault: { servers: [\"https://vault.invalid:443\"] }
  trusting: { servers: [\"https://10.0.0.7:443\"], tls: { verify: false }, http2: off }
errors:
  include: [type, request_id, retryable, request_sent]
  overrides:
    - { when: { cause: connection_refused, upstream: shop }, code: 503, message: \"The shop is closed.\", retry_after: 9s }
    - { when: { upstream_status: [500] }, code: 504 }
routes:
  - { name: watched, match: { path: \"/watched/{id}\", methods: [PATCH] }, upstream: shop, errors: observe }
  - { name: own, match: { host: \"*.shop.example\", path: \"/own/{*rest}\" }, upstream: shop, errors: pass }
  - { name: quiet, match: { path: /quiet }, upstream: shop, errors: { upstream_messages: none }, rate_limits: [few] }
  - { name: calls, match: { path: \"/calls/{*rest}\", methods: [POST] }, upstream: calls }
  - { name: vault, match: { path: /vault }, upstream: vault }
  - { name: trusting, match: { path: /trusting }, upstream: trusting }
  - { name: lenient, match: { path: \"/{*rest}\" }, upstream: shop, paths: lenient, deny: { methods: [DELETE] }, allow_from: [192.0.2.0/24] }
";

/// The modes, overrides, limits and members of a configuration are expected, not only borne.
#[test]
fn a_configuration_with_choices_of_its_own_is_rehearsed_by_them() {
    let folder = Folder::new();
    let issued = Authority::new().issue(&["shop.example"]);
    let cert = folder.write("gateway.crt", &issued.cert);
    let key = folder.write("gateway.key", &issued.key);
    let tls = format!("tls: {{ cert: \"{}\", key: \"{}\" }}", cert.display(), key.display());
    let file = folder.write("own.yaml", &OWN.replace("SECOND", &tls));
    let (status, report) = rehearse(file.to_str().unwrap(), None);
    assert_eq!(rows(&report, "broken"), []);
    let kept_rows = rows(&report, "kept");
    for row in client_faults_tls(&Setting::any()) {
        assert!(kept_rows.iter().any(|(fault, _)| *fault == row.name), "{}", row.name);
    }
    assert_eq!(status, Some(0));
    let row = |fault: &str, route: &str| {
        let all = report["rows"].as_array().unwrap();
        let found = all.iter().find(|row| row["fault"] == fault && row["route"] == route);
        let row = found.unwrap_or_else(|| panic!("no row {fault} on {route}"));
        (row["verdict"].as_str().unwrap().to_owned(), row["expected"].as_str().unwrap().to_owned())
    };
    let kept = |expected: &str| ("kept".to_owned(), expected.to_owned());
    assert_eq!(row("refused", "quiet"), kept("503 connection_refused"));
    assert_eq!(row("status-500", "quiet"), kept("504 upstream_response"));
    assert_eq!(row("status-500", "own"), kept("500 of the upstream"));
    assert_eq!(row("status-500", "watched"), kept("500 of the upstream"));
    assert_eq!(row("h2-reset-cancel", "calls"), kept("504 connection_terminated"));
    assert_eq!(row("h2-no-settings", "calls"), kept("504 connection_timeout"));
    assert_eq!(row("h2-no-end", "calls"), kept("200, cut: connection_read_timeout"));
    assert_eq!(row("h2-goaway-and-close", "vault"), kept("504 connection_terminated"));
    assert_eq!(row("tls-expired", "vault"), kept("504 tls_certificate_error"));
    assert_eq!(row("tls-stall", "vault"), kept("504 tls_timeout"));
    assert_eq!(row("tls-cut", "trusting"), kept("504 tls_protocol_error"));
    assert_eq!(row("plain-to-tls-port", "quiet"), kept("504 http_protocol_error"));
    for (fault, route) in [
        ("tls-self-signed", "trusting"),
        ("tls-stall", "calls"),
        ("plain-to-tls-port", "vault"),
        ("h2-hang", "trusting"),
    ] {
        assert_eq!(row(fault, route).0, "not_applicable", "{fault} on {route}");
    }
    assert_eq!(row("h2-reset-cancel", "quiet").0, "not_applicable");
    assert_eq!(row("rate-limited", "quiet"), kept("429 rate_limited"));
    assert_eq!(row("denied-method", "lenient"), kept("403 http_request_denied"));
    assert_eq!(row("not-allowed-from", "lenient"), kept("403 http_request_denied"));
}

#[test]
fn a_file_that_is_refused_is_refused_as_by_check() {
    let folder = Folder::new();
    let file = folder.write("bad.yaml", "version: 1\nlisten: [{ address: \":80\" }]\nrouts: []\n");
    let told = |command: &str| {
        let mut process = Command::new(env!("CARGO_BIN_EXE_statusquo"));
        let output = process.args([command, file.to_str().unwrap()]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(told("rehearse"), told("check"));
    assert_eq!(told("rehearse").0, Some(78));
}

#[test]
fn a_gateway_that_breaks_the_contract_is_found_out_by_name() {
    let (status, report) = rehearse(&example("minimal.yaml"), Some(relay_with(spoil)));
    assert_eq!(status, Some(1));
    assert_eq!(report["kept"], false);
    let broken = rows(&report, "broken");
    let reason = |fault: &str| {
        let found = broken.iter().find(|(name, _)| *name == fault);
        found.unwrap_or_else(|| panic!("{fault} is not reported: {broken:?}")).1
    };
    assert_eq!(reason("status-502"), "an error whose Content-Type is text/html, not application/json");
    assert_eq!(reason("status-503"), "a 503 without a Retry-After");
    assert_eq!(reason("close-before-head"), "no answer within 12 s");
    assert_eq!(reason("cut-body"), "a broken response that is not visibly cut");
    assert_eq!(reason("two-spaces"), "an error whose Content-Type is text/html, not application/json");
    assert_eq!(reason("slow-head"), "the connection is about to close and does not say so");
    assert_eq!(broken.len(), 6, "{broken:?}");
}

#[test]
fn a_gateway_that_counts_what_no_client_saw_is_found_out() {
    let (status, report) = rehearse(&example("minimal.yaml"), Some(relay_with(ask_beside)));
    assert_eq!((status, &report["kept"]), (Some(1), &Value::from(false)));
    let broken = rows(&report, "broken");
    let reason = |account: &str| broken.iter().find(|(name, _)| *name == account).map(|(_, reason)| *reason);
    // The relay's way of ending connections is not that of the clients: silences differ, too.
    let seen = |account| reason(account).unwrap_or_default().starts_with("gateway of misbehaving: ");
    assert!(seen("responses_total") && seen("errors_total"), "{broken:?}");
    assert!(broken.iter().all(|(name, _)| name.ends_with("_total")), "{broken:?}");
}

/// What is done with the answers of a gateway: its stream, the client's, and what the client sent first.
type PassBack = fn(TcpStream, TcpStream, &str);

/// Leads every connection where its first line says, and back as is told.
fn relay_with(pass_back: PassBack) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || relay(stream, pass_back));
        }
    });
    address
}

fn relay(client: TcpStream, pass_back: PassBack) {
    let mut from_client = BufReader::new(client.try_clone().unwrap());
    let mut line = String::new();
    from_client.read_line(&mut line).unwrap();
    let gateway = TcpStream::connect(line.trim()).unwrap();
    // What is to be done with it is known by the first bytes of the request.
    let mut begun = vec![0; 4096];
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let size = from_client.read(&mut begun).unwrap_or(0);
    client.set_read_timeout(None).unwrap();
    begun.truncate(size);
    let asks = String::from_utf8_lossy(&begun).into_owned();
    let mut to_gateway = gateway.try_clone().unwrap();
    let _ = to_gateway.write_all(&begun);
    let sending = thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_gateway);
        let _ = to_gateway.shutdown(Shutdown::Write);
    });
    pass_back(gateway, client, &asks);
    drop(sending);
}

/// Asks on its own, where nobody sees the answers: more often than rows may have been played again.
fn ask_beside(mut gateway: TcpStream, mut client: TcpStream, asks: &str) {
    if asks.contains("x-rehearsal: status-418\r\n") {
        let mut own = TcpStream::connect(gateway.peer_addr().unwrap()).unwrap();
        let request = b"GET /a/../b HTTP/1.1\r\nhost: x\r\n\r\n";
        own.write_all(&request.repeat(300)).unwrap();
        own.shutdown(Shutdown::Write).unwrap();
        let _ = std::io::copy(&mut own, &mut std::io::sink());
    }
    let _ = std::io::copy(&mut gateway, &mut client);
    let _ = client.shutdown(Shutdown::Write);
}

fn spoil(mut gateway: TcpStream, mut client: TcpStream, asks: &str) {
    let is = |fault: &str| {
        asks.contains(&format!("x-rehearsal: {fault}\r\n")) || asks.contains(&format!("row={fault} "))
    };
    if is("close-before-head") {
        // The answer never comes.
        let _ = std::io::copy(&mut gateway, &mut std::io::sink());
        thread::park();
    }
    let replaced = if is("status-502") || is("two-spaces") {
        Some(("Content-Type: application/json", "Content-Type: text/html"))
    } else if is("status-503") {
        Some(("Retry-After: ", "X-Nothing: "))
    } else if is("slow-head") {
        Some(("Connection: close", "X-Nothing: xxxx"))
    } else if is("cut-body") {
        Some(("content-length: 1000", "content-length: 9"))
    } else {
        None
    };
    let Some((found, other)) = replaced else {
        let _ = std::io::copy(&mut gateway, &mut client);
        let _ = client.shutdown(Shutdown::Write);
        return;
    };
    let mut bytes = vec![0; 64 * 1024];
    let size = gateway.read(&mut bytes).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..size]).into_owned();
    assert!(text.to_lowercase().contains(&found.to_lowercase()), "{text}");
    let at = text.to_lowercase().find(&found.to_lowercase()).unwrap();
    let spoiled = format!("{}{other}{}", &text[..at], &text[at + found.len()..]);
    let _ = client.write_all(spoiled.as_bytes());
    let _ = std::io::copy(&mut gateway, &mut client);
    let _ = client.shutdown(Shutdown::Write);
}

#[test]
fn a_rehearsal_of_nothing_is_a_failure() {
    let folder = Folder::new();
    let only = "version: 1\nlisten: [{ address: \"127.0.0.1:1\" }]\ntelemetry: { address: \"127.0.0.1:2\" }\n\
                upstreams: { shop: { servers: [shop.invalid:80] } }\n\
                routes: [{ name: only, match: { path: /x, methods: [DELETE] }, upstream: shop, deny: { methods: [DELETE] } }]\n";
    let file = folder.write("only.yaml", only);
    let mut process = Command::new(env!("CARGO_BIN_EXE_statusquo"));
    let output = process.args(["rehearse", file.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (output.status.code(), said.contains("nothing could be rehearsed")),
        (Some(1), true),
        "{said}"
    );
}
