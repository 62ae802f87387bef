//! Checks the section `listen`.

use std::net::SocketAddr;
use std::sync::Arc;

use super::file::forms::Text;
use super::file::{ListenFile, ProxyProtocolFile};
use super::socket_path::check_socket;
use super::validate_actions::ClientCertificates;
use super::validator::{Place, Purpose};
use super::{ListenAddress, Listener, validate_tls};
use crate::http::peer::PeerRange;

/// The listeners, in the order of the file. Their contracts are checked later.
pub(super) fn listeners(
    list: &Place<'_>,
    files: Option<&Vec<ListenFile>>,
    telemetry: SocketAddr,
) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    for (item, file) in list.items(files.into_iter().flatten()) {
        let at = item.key("address");
        let address = listen_address(&item, file);
        if addresses_conflict(&address, &ListenAddress::Tcp(telemetry)) {
            let message = format!("{address} is also the telemetry address");
            at.report(message, "use a different port for one of them");
        } else if listeners.iter().any(|listener| addresses_conflict(&listener.address, &address)) {
            let other = if address.tcp().is_some() { "port" } else { "path" };
            let help = format!("remove one of them, or use a different {other}");
            at.report(format!("{address} is listed twice"), help);
        }
        let tls = validate_tls::listener(&item, file.tls.as_ref());
        if file.h2c && file.tls.is_some() {
            let help = "remove it: with TLS, clients negotiate HTTP/2";
            item.key("h2c").report("h2c is HTTP/2 without TLS", help);
        }
        let proxy_protocol = file.proxy_protocol.as_ref().map(|section| {
            check_senders(&item.key("proxy_protocol").key("from"), section, &address);
            Text::values(&section.from).into()
        });
        listeners.push(Listener { address, h2c: file.h2c, proxy_protocol, tls, errors: None });
    }
    listeners
}

/// Whether one of these listeners asks clients for certificates.
pub(super) fn client_certificates(listeners: &[Listener]) -> ClientCertificates {
    let asks =
        |listener: &Listener| listener.tls.as_ref().is_some_and(|tls| tls.asks_for_client_certificates);
    if listeners.iter().any(asks) { ClientCertificates::Asked } else { ClientCertificates::NotAsked }
}

/// The address of a listener, with the permissions of a socket.
fn listen_address(item: &Place<'_>, file: &ListenFile) -> ListenAddress {
    let ListenAddress::Unix(path, default) = &*file.address else {
        item.key("mode").pointless("mode has no effect without a Unix socket", "remove it");
        return file.address.0.clone();
    };
    // Other commands may run where the directory does not exist, such as `verify` in CI.
    if matches!(item.validator.purpose, Purpose::Check(_)) {
        item.key("address").check(check_socket(path));
    }
    ListenAddress::Unix(Arc::clone(path), file.mode.map_or(*default, |mode| *mode))
}

/// The peers of a Unix socket are `unix`, all others have an address.
fn check_senders(at: &Place<'_>, section: &ProxyProtocolFile, address: &ListenAddress) {
    let lists_unix = section.from.iter().any(|range| **range == PeerRange::Unix);
    match address {
        ListenAddress::Unix(..) if !lists_unix => at.report(
            "the peers of a Unix socket have no address, so no connection would be accepted",
            "write from: [unix]",
        ),
        ListenAddress::Tcp(_) if lists_unix => at.report(
            "unix has no effect without a Unix socket",
            "remove it, and list the networks of the load balancers, for example from: [10.0.0.0/8]",
        ),
        ListenAddress::Unix(..) | ListenAddress::Tcp(_) => {}
    }
}

/// Whether binding both would fail.
fn addresses_conflict(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => tcp_addresses_conflict(*a, *b),
        (ListenAddress::Unix(a, _), ListenAddress::Unix(b, _)) => a == b,
        (ListenAddress::Tcp(_), ListenAddress::Unix(..))
        | (ListenAddress::Unix(..), ListenAddress::Tcp(_)) => false,
    }
}

/// Port 0 is a different port each time.
fn tcp_addresses_conflict(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = match (a.is_ipv4() == b.is_ipv4(), a.ip().is_unspecified(), b.ip().is_unspecified()) {
        (true, a_is_any, b_is_any) => a.ip() == b.ip() || a_is_any || b_is_any,
        // `[::]` includes IPv4, unless `0.0.0.0` with the same port is listed too.
        (false, true, true) => false,
        (false, ..) => [a, b].iter().any(|address| address.is_ipv6() && address.ip().is_unspecified()),
    };
    a.port() != 0 && a.port() == b.port() && overlap
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::time::SystemTime;

    use super::super::validate::{load_file, load_str};
    use super::super::{Config, Problems};
    use super::*;

    fn text(listen: &str) -> String {
        format!(
            "version: 1\nlisten: {listen}\nupstreams: {{ main: {{ servers: [\"127.0.0.1:1\"] }} }}\n\
             routes: [{{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: main }}]\n"
        )
    }

    fn load(listen: &str) -> Result<Config, Problems> {
        load_str("statusquo.yaml", &text(listen), &|_| None, 1)
    }

    fn messages(problems: &Problems) -> Vec<String> {
        problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message_and_help())).collect()
    }

    #[test]
    fn socket_has_a_path_permissions_and_senders() {
        let config = load(
            "[{ address: \"unix:/run/a.sock\", mode: 0600, proxy_protocol: { from: [unix] } }, { address: \"unix:/run/b.sock\" }]",
        )
        .unwrap();
        let [first, second] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
        assert_eq!(first.address, ListenAddress::Unix(Arc::from(Path::new("/run/a.sock")), 0o600));
        assert_eq!(first.proxy_protocol.as_deref(), Some([PeerRange::Unix].as_slice()));
        assert_eq!(second.address, ListenAddress::Unix(Arc::from(Path::new("/run/b.sock")), 0o660));
        assert_eq!(second.address.to_string(), "unix:/run/b.sock");
        assert_eq!((first.address.port_or(80), second.address.tcp()), (80, None));
    }

    #[test]
    fn keys_without_effect_and_invalid_sockets_are_refused_with_help() {
        let invalid = "[{ address: \"unix:run/a.sock\" }, { address: /run/a.sock }, { address: \"unix:/a\", mode: rw }]";
        assert_eq!(
            messages(&load(invalid).unwrap_err()),
            [
                "listen[0].address: \"unix:run/a.sock\" is not the path of a socket; write an absolute path, for example \"unix:/run/app.sock\"",
                "listen[1].address: \"/run/a.sock\" is not a socket with a path; write \"unix:/run/a.sock\"",
                "listen[2].mode: \"rw\" is not a file mode; write 3 octal digits for owner, group and others, for example \"0660\"",
            ]
        );
        let useless = "[{ address: \":80\", mode: 0600, proxy_protocol: { from: [unix] } }, \
                       { address: \"unix:/a\", proxy_protocol: { from: [127.0.0.1] } }, { address: \"unix:/a\" }]";
        assert_eq!(
            messages(&load(useless).unwrap_err()),
            [
                "listen[0].mode: mode has no effect without a Unix socket; remove it",
                "listen[0].proxy_protocol.from: unix has no effect without a Unix socket; remove it, and list the networks of the load balancers, for example from: [10.0.0.0/8]",
                "listen[1].proxy_protocol.from: the peers of a Unix socket have no address, so no connection would be accepted; write from: [unix]",
                "listen[2].address: unix:/a is listed twice; remove one of them, or use a different path",
            ]
        );
    }

    #[test]
    fn check_refuses_a_path_at_which_no_socket_could_be_made() {
        let folder = std::env::temp_dir().join(format!("statusquo-listen-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, socket) = (folder.join("file"), folder.join("a.sock"));
        fs::write(&file, "").unwrap();
        drop(UnixListener::bind(&socket).unwrap());
        let name = folder.display().to_string();
        let check = |path: &str| {
            let config = folder.join("statusquo.yaml");
            let text = text(&format!("[{{ address: \"unix:{name}/{path}\" }}]"));
            fs::write(&config, &text).unwrap();
            assert!(load_str("statusquo.yaml", &text, &|_| None, 1).is_ok(), "{path}: only check looks");
            load_file(&config, &|_| None, 1, Purpose::Check(SystemTime::now()))
                .map_or_else(|list| messages(&list), |_| Vec::new())
        };
        for good in ["new.sock", "a.sock"] {
            assert_eq!(check(good), Vec::<String>::new(), "{good}");
        }
        assert_eq!(
            check("file"),
            [format!(
                "listen[0].address: {name}/file exists and is not a socket; remove that file, or use another path"
            )]
        );
        assert_eq!(
            check("missing/a.sock"),
            [format!(
                "listen[0].address: the directory {name}/missing does not exist; create it (systemd: RuntimeDirectory=), or use another path"
            )]
        );
        assert_eq!(
            check("file/a.sock"),
            [format!(
                "listen[0].address: {name}/file is not a directory; use a path in a directory, for example \"unix:/run/app.sock\""
            )]
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
