//! Applications that redirect to https, behind load balancers that end TLS: the gateway passes the scheme on that the
//! balancer reports (`client.trusted_headers`), or the redirect would lead to itself for ever.

use std::net::SocketAddr;

use crate::balancers::{Certificate, TlsBalancer, curl, curl_arguments, nginx, nginx_temporary_folders};
use crate::gateway::RealGateway;
use crate::servers::{ServerProgram, gunicorn, node_with_packages};

/// curl's exit status for too many redirects.
const TOO_MANY_REDIRECTS: i32 = 47;

fn applications() -> [(&'static str, ServerProgram); 2] {
    [("Flask", gunicorn("secure_flask:app", 2)), ("Express", node_with_packages("secure_express.mjs"))]
}

fn gateway_for(application: SocketAddr, client: &str) -> RealGateway {
    RealGateway::with(&sections(application, client))
}

fn sections(application: SocketAddr, client: &str) -> String {
    format!(
        "client: {client}\n\
         upstreams: {{ app: {{ servers: [\"{application}\"] }} }}\n\
         routes: [{{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: app }}]\n"
    )
}

/// Follows redirects from this URL. Returns curl's exit status and `STATUS REDIRECTS BODY`.
fn follow(arguments: &[String], url: &str) -> (Option<i32>, String) {
    let done = curl(
        arguments,
        &["--location", "--max-redirs", "5", "--write-out", " %{http_code} %{num_redirects}", url],
    );
    (done.status.code(), done.out)
}

#[test]
#[ignore = "make proof: applications and load balancers"]
fn application_that_redirects_to_https_does_not_loop_behind_a_balancer() {
    for (application, server) in applications() {
        let trusting = gateway_for(server.address(), "{ trusted_proxies: [127.0.0.0/8] }");
        let untrusting = gateway_for(server.address(), "{ trusted_proxies: [] }");
        let without_proto = gateway_for(
            server.address(),
            "{ trusted_proxies: [127.0.0.0/8], trusted_headers: [x-forwarded-for] }",
        );
        for start in [TlsBalancer::nginx, TlsBalancer::haproxy] {
            let balancer = start(trusting.http1);
            let arguments = balancer.curl_arguments();
            for version in ["--http1.1", "--http2"] {
                let arguments = [&arguments[..], &[version.to_owned()]].concat();
                let page = |redirects| (Some(0), format!("secure shop.example 127.0.0.1 200 {redirects}"));
                assert_eq!(follow(&arguments, "https://shop.example/"), page(0), "{application}");
                assert_eq!(follow(&arguments, "http://shop.example/"), page(1), "{application}");
            }
            // The test can fail: without trust, the application sees the scheme of the connection from the balancer.
            for gateway in [&untrusting, &without_proto] {
                let balancer = start(gateway.http1);
                let (status, output) = follow(&balancer.curl_arguments(), "https://shop.example/");
                assert_eq!(status, Some(TOO_MANY_REDIRECTS), "{application}: {output}");
            }
        }
    }
}

#[test]
#[ignore = "make proof: applications and load balancers"]
fn application_behind_nginx_behind_the_gateway_sees_https() {
    for (application, server) in applications() {
        let target = server.address();
        let middle = nginx(1, |addresses| {
            let (listen, folders) = (addresses[0], nginx_temporary_folders());
            format!(
                "http {{\naccess_log off;\n{folders}server {{\nlisten {listen};\nlocation / {{\nproxy_pass http://{target};\n\
                 proxy_set_header Host $host;\n}}\n}}\n}}\n"
            )
        });
        let certificate = Certificate::issue();
        let listener = format!("{{ address: 127.0.0.1:0, {} }}", certificate.listener());
        let gateway = RealGateway::listening(&[listener], &sections(middle.address(), "{}"));
        let arguments = curl_arguments(&certificate, gateway.http1, gateway.further_listeners[0]);
        for (url, redirects) in [("https://shop.example/", 0), ("http://shop.example/", 1)] {
            let expected = (Some(0), format!("secure shop.example 127.0.0.1 200 {redirects}"));
            assert_eq!(follow(&arguments, url), expected, "{application}");
        }
    }
}
