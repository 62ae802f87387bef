//! `demo`: runs the gateway in front of an embedded faulty upstream, on loopback, without a configuration file.
//!
//! It prints `curl` commands to try, and the upstream sends the same list for `/`. The configuration is generated as
//! text and loaded like a file; `--print-config` prints it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use super::run::{print_message, serve};
use crate::config::{self, Config};
use crate::conformance::demo_page::examples;
use crate::conformance::{FaultyUpstream, ServerKind, UpstreamFault, tls_servers, upstream_faults};
use crate::server::boot::Listening;
use crate::tls::cert_verification::CertVerification;

/// The port of the demo if it is free.
const DEFAULT_PORT: u16 = 8080;

/// The options of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoOptions {
    /// Print the configuration and exit.
    #[arg(long)]
    print_config: bool,
    /// The port of the gateway; by default 8080, or a free port if 8080 is in use.
    #[arg(long)]
    port: Option<u16>,
}

/// Serves until a signal.
pub(crate) fn run(options: &DemoOptions) -> ExitCode {
    let faulty_upstream = match FaultyUpstream::start() {
        Ok(faulty_upstream) => faulty_upstream,
        Err(error) => {
            print_message(&format!("cannot start the faulty upstream on loopback: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let faults = upstream_faults();
    let text = build_configuration(&faulty_upstream, &faults, options.port.unwrap_or_else(free_port));
    if options.print_config {
        let printed = std::io::stdout().lock().write_all(text.as_bytes());
        return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match config::load_str("demo.yaml", &text, &|_| None, 1) {
        Ok(mut config) => {
            match CertVerification::from_pem(faulty_upstream.ca_pem().as_bytes()) {
                Ok(trust) => set_trust(&mut config, &Arc::new(trust)),
                Err(tls_error) => {
                    print_message(&format!(
                        "cannot use the certificate authority of the demo: {}",
                        tls_error.message
                    ));
                    return ExitCode::FAILURE;
                }
            }
            serve(config, None, print_examples)
        }
        Err(problems) => {
            // The configuration is generated, so a problem is a bug; the message shows which.
            print_message(&problems.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Verifies the certificates of TLS servers with `trust`.
fn set_trust(config: &mut Config, trust: &Arc<CertVerification>) {
    for upstream in config.upstreams.iter_mut().filter(|upstream| upstream.cert_verification.is_some()) {
        upstream.cert_verification = Some(Arc::clone(trust));
    }
}

fn free_port() -> u16 {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, DEFAULT_PORT);
    if TcpListener::bind(address).is_ok() { DEFAULT_PORT } else { 0 }
}

/// Timeouts are short, so that every 504 arrives soon.
fn build_configuration(faulty_upstream: &FaultyUpstream, faults: &[UpstreamFault], port: u16) -> String {
    let mut text = format!(
        "version: 1\nworkers: 1\ndrain_delay: 0s\ndrain: 2s\nlisten: [{{ address: \"127.0.0.1:{port}\" }}]\n\
         telemetry: {{ address: \"127.0.0.1:0\" }}\nclient: {{ header_timeout: 3s }}\n\
         timeouts: {{ connect: 1s, response_headers: 2s, deadline: 3s, body_idle: 2s }}\nupstreams:\n"
    );
    for (server_kind, server) in faulty_upstream.servers() {
        let scheme = if server_kind.requires_tls() { "https://" } else { "" };
        let options = if server_kind.requires_http2() {
            ", http2: always".to_owned()
        } else if server_kind.requires_tls() {
            // `set_trust` replaces this after loading: the authority of these servers is not in a file.
            format!(", tls: {{ verify: false, sni: {} }}", tls_servers::SERVER_NAME)
        } else {
            String::new()
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {}: {{ servers: [\"{scheme}{server}\"]{options} }}",
            server_kind.upstream_name()
        );
    }
    text.push_str("routes:\n");
    for fault in faults.iter().filter(|fault| fault.server_kind != ServerKind::Scripted) {
        let (name, server_kind) = (fault.name, fault.server_kind.upstream_name());
        let _ =
            writeln!(text, "  - {{ name: {name}, match: {{ path: \"/{name}\" }}, upstream: {server_kind} }}");
    }
    let _ = writeln!(
        text,
        "  - {{ name: misbehaving, match: {{ path: \"/{{*rest}}\" }}, upstream: {} }}",
        ServerKind::Scripted.upstream_name()
    );
    text
}

fn print_examples(listening: &Listening) {
    let Some(gateway) = listening.gateway.first() else { return };
    let text = format!(
        "\n{}\nCounters:\n  curl -s http://{}/metrics | grep -v '^#' | grep errors_total\n\nStop with Ctrl-C.\n",
        examples(&gateway.to_string()),
        listening.telemetry
    );
    // Standard output may be closed; serving continues.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
