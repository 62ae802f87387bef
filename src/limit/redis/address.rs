//! Parses the configured address of a backend: a server, a cluster, or sentinels.
//!
//! `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`; `redis+cluster://` with several hosts; `redis+sentinel://` with
//! the sentinels' hosts, followed by `/MASTER`. `rediss` is the same with TLS. Error messages never repeat the input,
//! because it may contain a password. Pure.

use std::fmt;

/// A parsed address.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// What kind of servers the hosts are.
    pub topology: Topology,
    /// Hosts with their ports; at least one.
    pub hosts: Vec<(String, u16)>,
    /// Whether to use TLS.
    pub tls: bool,
    /// The ACL user; `None` for the default user.
    pub user: Option<String>,
    /// The password, if any.
    pub password: Option<String>,
    /// The database number.
    pub database: u16,
}

/// The kind of servers at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// A single server.
    Server,
    /// Nodes of a Redis Cluster.
    Cluster,
    /// Sentinels that report the address of the master with this name.
    Sentinel(String),
}

/// Why an address is invalid: a message and a help text, neither with parts of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressError(pub &'static str, pub &'static str);

const SERVER_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
const EXAMPLE: &str = "expected redis://HOST:PORT, for example redis://127.0.0.1:6379";

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

impl Address {
    /// Parses an address.
    ///
    /// # Errors
    /// The address is invalid.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError("invalid Redis address", EXAMPLE))?;
        let (tls, kind) = match scheme {
            "redis" => (false, ""),
            "rediss" => (true, ""),
            "redis+cluster" => (false, "cluster"),
            "rediss+cluster" => (true, "cluster"),
            "redis+sentinel" => (false, "sentinel"),
            "rediss+sentinel" => (true, "sentinel"),
            _ => {
                let schemes =
                    "use redis://, redis+cluster:// or redis+sentinel://, or rediss instead of redis for TLS";
                return Err(AddressError("unknown scheme in the Redis address", schemes));
            }
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let (user, password) = credentials.map_or(Ok((None, None)), parse_credentials)?;
        let port = if kind == "sentinel" { SENTINEL_PORT } else { SERVER_PORT };
        let hosts: Vec<(String, u16)> =
            hosts.split(',').map(|host| parse_host(host, port)).collect::<Result<_, _>>()?;
        let (topology, database) = match kind {
            "cluster" if path.is_empty() => (Topology::Cluster, ""),
            "cluster" => {
                return Err(AddressError(
                    "a cluster supports only one database",
                    "remove the path after the hosts",
                ));
            }
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    let help = "add it after the hosts, for example redis+sentinel://10.0.0.1:26379/mymaster";
                    return Err(AddressError("missing name of the sentinels' master", help));
                }
                (Topology::Sentinel(master.to_owned()), database)
            }
            _ if hosts.len() > 1 => {
                return Err(AddressError(
                    "several hosts require a cluster or sentinels",
                    "use redis+cluster:// or redis+sentinel://, or keep one host",
                ));
            }
            _ => (Topology::Server, path),
        };
        let database = if database.is_empty() { Ok(0) } else { database.parse() };
        let database = database
            .map_err(|_| AddressError("invalid database number", "use a number such as /0, or remove it"))?;
        Ok(Address { topology, hosts, tls, user, password, database })
    }

    /// The address without user and password, for logs and messages.
    pub fn label(&self) -> String {
        let tls = if self.tls { "s" } else { "" };
        let (kind, master) = match &self.topology {
            Topology::Server => ("", String::new()),
            Topology::Cluster => ("+cluster", String::new()),
            Topology::Sentinel(master) => ("+sentinel", format!("/{master}")),
        };
        let host = |(host, port): &(String, u16)| {
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        };
        let hosts: Vec<String> = self.hosts.iter().map(host).collect();
        format!("redis{tls}{kind}://{}{master}", hosts.join(","))
    }
}

type Credentials = (Option<String>, Option<String>);

fn parse_credentials(text: &str) -> Result<Credentials, AddressError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let error = AddressError(
        "invalid user or password in the Redis address",
        "use USER:PASSWORD@ or :PASSWORD@ before the host, with %40 for @, %3A for : and %2F for /",
    );
    let field = |text: &str| match text {
        "" => Ok(None),
        text => percent_decode(text).map(Some).ok_or(error),
    };
    match (field(user)?, field(password)?) {
        (Some(_), None) => Err(AddressError("user without a password", "use USER:PASSWORD@ before the host")),
        read => Ok(read),
    }
}

fn parse_host(text: &str, port: u16) -> Result<(String, u16), AddressError> {
    let error = AddressError("invalid host in the Redis address", EXAMPLE);
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(error)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| error)?;
            let port = if rest.is_empty() { Some(port) } else { rest.strip_prefix(':').and_then(parse_port) };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, parse_port(port)),
            None => (text, Some(port)),
        },
    };
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b".-_:".contains(&octet);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err(error);
    }
    Ok((
        host.to_owned(),
        port.ok_or(AddressError("invalid port in the Redis address", "expected 1 to 65535"))?,
    ))
}

fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse().ok())?.filter(|port| *port > 0)
}

/// Decodes percent-encoding: `%40` is `@`.
fn percent_decode(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        octets.push(digit(rest.next()?)? << 4 | digit(rest.next()?)?);
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_address_form_is_parsed() {
        let parse = |text| {
            let Address { topology, hosts, tls, user, password, database } = Address::parse(text).unwrap();
            let hosts: Vec<String> = hosts.iter().map(|(host, port)| format!("{host} {port}")).collect();
            (topology, hosts.join(","), tls, user, password, database)
        };
        let some = |text: &str| Some(text.to_owned());
        let host = |text: &str| text.to_owned();
        assert_eq!(parse("redis://cache"), (Topology::Server, host("cache 6379"), false, None, None, 0));
        assert_eq!(parse("redis://[::1]:7/3"), (Topology::Server, host("::1 7"), false, None, None, 3));
        assert_eq!(
            parse("rediss://me:p%40ss:w@10.0.0.1:6380/"),
            (Topology::Server, host("10.0.0.1 6380"), true, some("me"), some("p@ss:w"), 0)
        );
        assert_eq!(
            parse("redis+cluster://:secret@a:1,b,c:3"),
            (Topology::Cluster, host("a 1,b 6379,c 3"), false, None, some("secret"), 0)
        );
        assert_eq!(
            parse("rediss+sentinel://a,b:2/mymaster/4"),
            (Topology::Sentinel("mymaster".into()), host("a 26379,b 2"), true, None, None, 4)
        );
    }

    #[test]
    fn invalid_address_error_hides_the_input() {
        for text in [
            "",
            "secret",
            "http://secret",
            "redis://",
            "redis://secret:x",
            "redis://a:0",
            "redis://a:70000",
            "redis://a:1,b:2",
            "redis://[::1",
            "redis://[secret]:1",
            "redis://a/secret",
            "redis+cluster://a/1",
            "redis+sentinel://a",
            "redis+sentinel:///m",
            "redis://user@a",
            "redis://:%zz@a",
            "redis://a b",
            "redis://:secret@",
            "redis://a:+1",
        ] {
            let AddressError(message, help) = Address::parse(text).unwrap_err();
            assert!(!message.contains("secret") && !help.contains("secret"), "{text}");
        }
    }

    #[test]
    fn label_hides_credentials() {
        for (text, shown) in [
            ("redis://u:secret@a/1", "redis://a:6379"),
            ("rediss+cluster://:secret@[::1],b", "rediss+cluster://[::1]:6379,b:6379"),
            ("redis+sentinel://a/m", "redis+sentinel://a:26379/m"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.label(), format!("{address:?}")), (shown.to_owned(), shown.to_owned()));
        }
    }
}
