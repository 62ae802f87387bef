//! The transcripts of docs/behind-a-load-balancer.md: the configurations on the page are run, and the commands must
//! print what the page says. `UPDATE_DOCS=1` writes what they print.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::balancers::{
    Certificate, curl_arguments, haproxy, nginx, nginx_temporary_folders, repository_file,
};
use crate::gateway::RealGateway;
use crate::program::run;
use crate::servers::{ServerProgram, echo};

const PAGE: &str = "docs/behind-a-load-balancer.md";
/// The addresses on the page.
const APPLICATION: &str = "127.0.0.1:3000";
const GATEWAY: &str = "127.0.0.1:8080";

/// A section of the page with a balancer's configuration, the gateway's, and a transcript.
struct PageSection<'p> {
    text: &'p str,
    balancer: &'p str,
    gateway: &'p str,
    transcript: &'p str,
}

/// The content of the first code block in this language.
fn block<'p>(text: &'p str, language: &str) -> Option<&'p str> {
    let start = format!("```{language}\n");
    let (_, rest) = text.split_once(&start)?;
    Some(rest.split_once("```")?.0)
}

fn section<'p>(page: &'p str, heading: &str, language: &str) -> PageSection<'p> {
    let (_, text) =
        page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let text = text.split("\n## ").next().unwrap();
    let find =
        |language: &str| block(text, language).unwrap_or_else(|| panic!("{heading}: no block in {language}"));
    PageSection { text, balancer: find(language), gateway: find("yaml"), transcript: find("console") }
}

/// Starts the gateway of the page, on a free port.
fn start_gateway(text: &str, application: SocketAddr) -> RealGateway {
    let fixed = format!("version: 1\nlisten: [{{ address: \"{GATEWAY}\" }}]\n");
    let sections = text.strip_prefix(&*fixed).unwrap_or_else(|| panic!("the file begins with {fixed}"));
    RealGateway::with(&sections.replace(APPLICATION, &application.to_string()))
}

/// Replaces exactly one part of the configuration.
fn replace_once(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from} in\n{text}");
    text.replacen(from, to, 1)
}

/// Runs the commands of a transcript. Returns it with what they print.
fn replayed(transcript: &str, arguments: &[String], encrypted: SocketAddr, plain: SocketAddr) -> String {
    let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
    let mut text = String::new();
    for command in transcript.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let rest = command.strip_prefix("curl -s").unwrap_or_else(|| panic!("not a curl command: {command}"));
        let done = run(
            Command::new("bash").arg("-c").arg(format!("curl {}{rest}", quoted.join(" "))),
            Duration::from_secs(60),
        );
        assert!(done.status.success(), "{command}: {}", done.err);
        // The page has the usual ports.
        let output = done
            .out
            .replace(&format!("Port: {}\n", encrypted.port()), "Port: 443\n")
            .replace(&format!("Port: {}\n", plain.port()), "Port: 80\n");
        write!(text, "$ {command}\n{output}").unwrap();
    }
    text
}

/// Runs a section of the page and compares its transcript.
fn check(heading: &str, language: &str, start: impl Fn(&str, &Certificate, SocketAddr) -> ServerProgram) {
    let file = repository_file(PAGE);
    let page = std::fs::read_to_string(&file).unwrap();
    let section = section(&page, heading, language);
    let (application, certificate) = (echo(), Certificate::issue());
    let gateway = start_gateway(section.gateway, application.address());
    let balancer = start(section.balancer, &certificate, gateway.http1);
    let (plain, encrypted) = (balancer.addresses[0], balancer.addresses[1]);
    let mut arguments = curl_arguments(&certificate, plain, encrypted);
    // The client is no trusted proxy: it has another address than the balancer.
    arguments.extend(["--interface", "127.0.0.2"].map(str::to_owned));
    let found = replayed(section.transcript, &arguments, encrypted, plain);
    assert!(found.lines().filter(|line| line.starts_with("$ ")).count() > 0, "{heading}: no commands");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(
            &file,
            replace_once(&page, section.text, &section.text.replace(section.transcript, &found)),
        )
        .unwrap();
    } else {
        assert_eq!(section.transcript, found, "{heading}; UPDATE_DOCS=1 writes the page");
    }
}

#[test]
#[ignore = "make proof: nginx and HAProxy"]
fn transcript_with_nginx_is_what_nginx_prints() {
    check("nginx", "nginx", |text, certificate, gateway| {
        nginx(2, |addresses| {
            let folders = nginx_temporary_folders();
            let text = replace_once(text, "listen 80;", &format!("listen {};", addresses[0]));
            let text = replace_once(&text, "listen 443 ssl", &format!("listen {} ssl", addresses[1]));
            let text = replace_once(&text, "/etc/nginx/shop.example.crt", &certificate.path("cert.pem"));
            let text = replace_once(&text, "/etc/nginx/shop.example.key", &certificate.path("key.pem"));
            let text = replace_once(&text, GATEWAY, &gateway.to_string());
            format!("http {{\naccess_log off;\n{folders}{text}}}\n")
        })
    });
}

#[test]
#[ignore = "make proof: nginx and HAProxy"]
fn transcript_with_haproxy_is_what_haproxy_prints() {
    check("HAProxy", "haproxy", |text, certificate, gateway| {
        haproxy(2, |addresses| {
            let text = replace_once(text, "bind :80\n", &format!("bind {}\n", addresses[0]));
            let text = replace_once(&text, "bind :443 ssl", &format!("bind {} ssl", addresses[1]));
            let text = replace_once(&text, "/etc/haproxy/shop.example.pem", &certificate.path("both.pem"));
            replace_once(&text, GATEWAY, &gateway.to_string())
        })
    });
}
