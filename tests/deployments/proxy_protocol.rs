//! The PROXY protocol as HAProxy and nginx send it, versions 1 and 2, in front of cleartext, TLS and HTTP/2 listeners.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::balancers::{Certificate, HOST, curl, haproxy, nginx};
use crate::gateway::RealGateway;
use crate::servers::{ServerProgram, echo};

/// The address that curl uses; the balancer connects to the gateway from 127.0.0.1.
const CLIENT: &str = "127.0.0.2";

/// A gateway whose listeners require the PROXY protocol: cleartext, TLS, and HTTP/2 without TLS.
fn gateway(application: SocketAddr, certificate: &Certificate) -> RealGateway {
    let required = "proxy_protocol: { from: [127.0.0.1] }";
    let tls = certificate.listener();
    let listeners = [
        format!("{{ address: 127.0.0.1:0, {required} }}"),
        format!("{{ address: 127.0.0.1:0, {tls}, {required} }}"),
        format!("{{ address: 127.0.0.1:0, h2c: true, {required} }}"),
    ];
    RealGateway::listening(
        &listeners,
        &format!(
            "upstreams: {{ app: {{ servers: [\"{application}\"] }} }}\n\
             routes: [{{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: app }}]\n"
        ),
    )
}

/// HAProxy that forwards connections to these listeners, with these words on the `server` line.
fn haproxy_sender(listeners: &[SocketAddr], words: &str) -> ServerProgram {
    haproxy(listeners.len(), |addresses| {
        let mut text = String::from(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n",
        );
        for (index, (bind, listener)) in addresses.iter().zip(listeners).enumerate() {
            writeln!(text, "listen l{index}\n  bind {bind}\n  server one {listener} {words}").unwrap();
        }
        text
    })
}

/// nginx likewise; it sends version 1 only.
fn nginx_sender(listeners: &[SocketAddr]) -> ServerProgram {
    nginx(listeners.len(), |addresses| {
        let mut text = String::from("stream {\nproxy_protocol on;\n");
        for (bind, listener) in addresses.iter().zip(listeners) {
            writeln!(text, "server {{ listen {bind}; proxy_pass {listener}; }}").unwrap();
        }
        text + "}\n"
    })
}

#[test]
#[ignore = "make proof: HAProxy and nginx"]
fn proxy_protocol_of_real_balancers_names_the_client() {
    let (application, certificate) = (echo(), Certificate::issue());
    let gateway = gateway(application.address(), &certificate);
    let listeners = &gateway.further_listeners;
    let senders = [
        ("HAProxy, version 1", haproxy_sender(listeners, "send-proxy")),
        ("HAProxy, version 2", haproxy_sender(listeners, "send-proxy-v2")),
        // TLVs after the addresses; health checks that connect with LOCAL.
        (
            "HAProxy, version 2 with TLVs and checks",
            haproxy_sender(listeners, "send-proxy-v2 proxy-v2-options crc32c,unique-id check inter 100"),
        ),
        ("nginx, version 1", nginx_sender(listeners)),
    ];
    let mut checked = 0;
    for (name, sender) in &senders {
        let [plain, encrypted, h2c] = sender.addresses[..] else { panic!("three listeners") };
        let ca = certificate.path("ca.pem");
        for (scheme, address, options) in [
            ("http", plain, vec!["--http1.1"]),
            ("https", encrypted, vec!["--http1.1", "--cacert", &ca]),
            ("https", encrypted, vec!["--http2", "--cacert", &ca]),
            ("http", h2c, vec!["--http2-prior-knowledge"]),
        ] {
            let port = address.port();
            let target = format!("{HOST}:{port}:{address}");
            let url = format!("{scheme}://{HOST}:{port}/");
            // Two requests: the header stands at the beginning of the connection only. Debian's curl cannot reuse an
            // HTTP/2 connection without TLS (it sends the preface again).
            let urls = if address == h2c { vec![&*url] } else { vec![&*url, &*url] };
            let common = [
                "-q",
                "--silent",
                "--show-error",
                "--max-time",
                "60",
                "--noproxy",
                "*",
                "--interface",
                CLIENT,
            ];
            let arguments: Vec<String> = common
                .iter()
                .chain(&options)
                .chain(&["--connect-to", &target])
                .map(ToString::to_string)
                .collect();
            let version = format!("{options:?}");
            let done = curl(&arguments, &[&["--write-out", "%{num_connects}\n"], &urls[..]].concat());
            let listener_port = listeners[if address == plain {
                0
            } else if address == encrypted {
                1
            } else {
                2
            }]
            .port();
            let fields = format!(
                "Host: {HOST}:{port}\nX-Forwarded-For: {CLIENT}\nX-Forwarded-Proto: {scheme}\n\
                 X-Forwarded-Host: {HOST}:{port}\nX-Forwarded-Port: {listener_port}\nX-Real-IP: {CLIENT}\n"
            );
            let page: String = done
                .out
                .lines()
                .filter(|line| !line.starts_with("Forwarded:"))
                .map(|line| format!("{line}\n"))
                .collect();
            let again = if address == h2c { String::new() } else { format!("{fields}0\n") };
            assert_eq!(page, format!("{fields}1\n{again}"), "{name}, {scheme} {version}: {}", done.err);
            checked += 1;
        }
    }
    println!("{checked} combinations of sender and listener, one or two requests each");
    let page = crate::curl::Curl::http1().get(gateway.telemetry, "/metrics").text();
    let refused = page.lines().find(|line| line.contains("proxy_protocol_error"));
    assert!(refused.is_none_or(|line| line.ends_with(" 0")), "{refused:?}");
}
