//! The address of a store as an operator writes it: one server, a cluster, or sentinels that know the server.
//!
//! `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`; `redis+cluster://` with several hosts; `redis+sentinel://` with the
//! hosts of sentinels and the master's name behind them. `rediss` is the same with TLS. What is wrong is told without
//! repeating what was written, for a password may be part of it. Pure.

use std::fmt;

/// Where the counts are.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// What answers there.
    pub topology: Topology,
    /// Hosts with their ports; at least one.
    pub hosts: Vec<(String, u16)>,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The user of its access list; the default one where there is none.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u16,
}

/// What answers at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Server,
    /// Nodes of a cluster.
    Cluster,
    /// Sentinels, who know where the master of this name is.
    Sentinel(String),
}

/// Why it is no address: what is wrong and what would be right.
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
    /// Reads what was written.
    ///
    /// # Errors
    /// It is no address; without a word of what was written.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let (scheme, rest) =
            text.split_once("://").ok_or(AddressError("this is no address of a Redis", EXAMPLE))?;
        let (tls, kind) = match scheme {
            "redis" => (false, ""),
            "rediss" => (true, ""),
            "redis+cluster" => (false, "cluster"),
            "rediss+cluster" => (true, "cluster"),
            "redis+sentinel" => (false, "sentinel"),
            "rediss+sentinel" => (true, "sentinel"),
            _ => {
                let schemes =
                    "write redis://, redis+cluster:// or redis+sentinel://, or rediss for the same with TLS";
                return Err(AddressError("the address begins with what is not known here", schemes));
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
        let (place, database) = match kind {
            "cluster" if path.is_empty() => (Topology::Cluster, ""),
            "cluster" => {
                return Err(AddressError(
                    "a cluster has one database",
                    "remove what stands behind the hosts",
                ));
            }
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    let help = "write it behind them, for example redis+sentinel://10.0.0.1:26379/mymaster";
                    return Err(AddressError("the sentinels are not told whose master is meant", help));
                }
                (Topology::Sentinel(master.to_owned()), database)
            }
            _ if hosts.len() > 1 => {
                return Err(AddressError(
                    "several hosts are a cluster or sentinels",
                    "write redis+cluster:// or redis+sentinel:// before them, or keep one",
                ));
            }
            _ => (Topology::Server, path),
        };
        let database = if database.is_empty() { Ok(0) } else { database.parse() };
        let database = database.map_err(|_| {
            AddressError("the database is no number", "write one, for example /0, or nothing")
        })?;
        Ok(Address { topology: place, hosts, tls, user, password, database })
    }

    /// Where it is, without user and password: for people and logs.
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
        "user and password cannot be read",
        "write USER:PASSWORD@ or :PASSWORD@ before the host, with %40 for @, %3A for : and %2F for /",
    );
    let field = |text: &str| match text {
        "" => Ok(None),
        text => percent_decode(text).map(Some).ok_or(error),
    };
    match (field(user)?, field(password)?) {
        (Some(_), None) => {
            Err(AddressError("there is a user and no password", "write USER:PASSWORD@ before the host"))
        }
        read => Ok(read),
    }
}

fn parse_host(text: &str, port: u16) -> Result<(String, u16), AddressError> {
    let error = AddressError("a host of the address cannot be read", EXAMPLE);
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
        port.ok_or(AddressError("a port of the address cannot be read", "expected 1 to 65535"))?,
    ))
}

fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse().ok())?.filter(|port| *port > 0)
}

/// `%40` is `@`.
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
            let Address { topology: place, hosts, tls, user, password, database } =
                Address::parse(text).unwrap();
            let hosts: Vec<String> = hosts.iter().map(|(host, port)| format!("{host} {port}")).collect();
            (place, hosts.join(","), tls, user, password, database)
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
