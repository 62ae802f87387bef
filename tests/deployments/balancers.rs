//! nginx and HAProxy in front of the gateway, with TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::folder::Folder;
use crate::program::{ProcessOutput, run};
use crate::servers::{ServerProgram, system_program};

/// The host of every request.
pub const HOST: &str = "shop.example";

/// A certificate for [`HOST`], its key, both in one file for HAProxy, and the authority.
pub struct Certificate {
    folder: Folder,
}

impl Certificate {
    pub fn issue() -> Certificate {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "test authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new([HOST.to_owned()]).unwrap();
        let cert = names.signed_by(&key, &authority).unwrap().pem();
        let folder = Folder::new("certificate");
        let write = |name: &str, text: &str| std::fs::write(folder.path.join(name), text).unwrap();
        write("ca.pem", &authority.pem());
        write("cert.pem", &cert);
        write("key.pem", &key.serialize_pem());
        write("both.pem", &(cert + &key.serialize_pem()));
        Certificate { folder }
    }

    /// `ca.pem`, `cert.pem`, `key.pem` or `both.pem`.
    pub fn path(&self, name: &str) -> String {
        self.folder.path.join(name).display().to_string()
    }

    /// The `tls` section of a listener of the gateway.
    pub fn listener(&self) -> String {
        format!("tls: {{ cert: \"{}\", key: \"{}\" }}", self.path("cert.pem"), self.path("key.pem"))
    }
}

/// nginx with this many free ports and the `http` or `stream` block that `block` returns for them.
pub fn nginx(ports: usize, block: impl Fn(&[SocketAddr]) -> String) -> ServerProgram {
    ServerProgram::start("nginx", ports, |addresses, folder| {
        let block = block(addresses);
        // Debian builds the stream module as a file.
        let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
        let load = if block.starts_with("stream") {
            format!("load_module {};\n", module.display())
        } else {
            String::new()
        };
        let text = format!(
            "{load}daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\n\
             events {{ worker_connections 2048; }}\n{block}"
        );
        std::fs::write(folder.join("nginx.conf"), text).unwrap();
        let mut command = Command::new(system_program("nginx"));
        command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "error.log"]);
        command
    })
}

/// The directives that every `http` block needs to run without the folders of the system.
pub fn nginx_temporary_folders() -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.map(|kind| format!("{kind}_temp_path temporary_{kind};\n")).concat()
}

/// HAProxy with this many free ports and the sections that `sections` returns for them.
pub fn haproxy(ports: usize, sections: impl Fn(&[SocketAddr]) -> String) -> ServerProgram {
    ServerProgram::start("haproxy", ports, |addresses, folder| {
        std::fs::write(folder.join("haproxy.cfg"), sections(addresses)).unwrap();
        let mut command = Command::new(system_program("haproxy"));
        command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
        command
    })
}

/// A load balancer that ends TLS.
pub struct TlsBalancer {
    _server: ServerProgram,
    certificate: Certificate,
    pub plain: SocketAddr,
    pub encrypted: SocketAddr,
}

impl TlsBalancer {
    /// nginx as its documentation shows it, which writes `X-Forwarded-Proto`.
    pub fn nginx(upstream: SocketAddr) -> TlsBalancer {
        let certificate = Certificate::issue();
        let server = nginx(2, |addresses| {
            let (plain, encrypted) = (addresses[0], addresses[1]);
            let (cert, key, folders) =
                (certificate.path("cert.pem"), certificate.path("key.pem"), nginx_temporary_folders());
            format!(
                "http {{\naccess_log off;\n{folders}server {{\nlisten {plain};\nlisten {encrypted} ssl http2;\n\
                 ssl_certificate {cert};\nssl_certificate_key {key};\nlocation / {{\nproxy_pass http://{upstream};\n\
                 proxy_set_header Host $host;\nproxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
                 proxy_set_header X-Forwarded-Proto $scheme;\n}}\n}}\n}}\n"
            )
        });
        TlsBalancer {
            plain: server.addresses[0],
            encrypted: server.addresses[1],
            certificate,
            _server: server,
        }
    }

    /// HAProxy likewise.
    pub fn haproxy(upstream: SocketAddr) -> TlsBalancer {
        let certificate = Certificate::issue();
        let server = haproxy(2, |addresses| {
            let (plain, encrypted, both) = (addresses[0], addresses[1], certificate.path("both.pem"));
            format!(
                "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  option forwardfor\n\
                 frontend shop\n  bind {plain}\n  bind {encrypted} ssl crt {both} alpn h2,http/1.1\n\
                 \x20 http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}\n\
                 \x20 http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}\n  default_backend gateway\n\
                 backend gateway\n  server one {upstream}\n"
            )
        });
        TlsBalancer {
            plain: server.addresses[0],
            encrypted: server.addresses[1],
            certificate,
            _server: server,
        }
    }

    /// The arguments that make curl find [`HOST`] here and trust its certificate.
    pub fn curl_arguments(&self) -> Vec<String> {
        curl_arguments(&self.certificate, self.plain, self.encrypted)
    }
}

/// The arguments that make curl find [`HOST`] at these addresses and trust its certificate.
pub fn curl_arguments(certificate: &Certificate, plain: SocketAddr, encrypted: SocketAddr) -> Vec<String> {
    let fixed = ["-q", "--silent", "--show-error", "--max-time", "60", "--noproxy", "*", "--cacert"];
    let mut arguments: Vec<String> = fixed.map(str::to_owned).to_vec();
    arguments.push(certificate.path("ca.pem"));
    for (port, address) in [(80, plain), (443, encrypted)] {
        arguments.push("--connect-to".to_owned());
        arguments.push(format!("{HOST}:{port}:{address}"));
    }
    arguments
}

/// Runs curl with these arguments.
pub fn curl(arguments: &[String], more: &[&str]) -> ProcessOutput {
    run(Command::new("curl").args(arguments).args(more), Duration::from_secs(90))
}

/// The path of a file of the repository.
pub fn repository_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
