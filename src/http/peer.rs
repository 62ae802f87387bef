//! The other end of a client's connection, and the sets of peers that a configuration names.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// Who sends a request: the other end of the connection, or the client that a trusted proxy reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// An address.
    Ip(IpAddr),
    /// A process on this machine, over a Unix socket: it has no address.
    Unix,
}

impl Peer {
    /// The address, if there is one.
    pub(crate) const fn ip(self) -> Option<IpAddr> {
        match self {
            Peer::Ip(ip) => Some(ip),
            Peer::Unix => None,
        }
    }

    /// The same with an IPv4-mapped IPv6 address as IPv4.
    pub(crate) fn to_canonical(self) -> Self {
        match self {
            Peer::Ip(ip) => Peer::Ip(ip.to_canonical()),
            Peer::Unix => Peer::Unix,
        }
    }

    /// Whether the address is in one of these networks. A Unix socket is in none.
    pub(crate) fn is_in(self, networks: &[IpNet]) -> bool {
        self.ip().is_some_and(|ip| networks.iter().any(|network| network.contains(&ip)))
    }

    /// Whether one of these ranges has this peer. The address must be canonical.
    pub(crate) fn is_one_of(self, ranges: &[PeerRange]) -> bool {
        ranges.iter().any(|range| match (range, self) {
            (PeerRange::Network(network), Peer::Ip(ip)) => network.contains(&ip),
            (PeerRange::Unix, Peer::Unix) => true,
            (PeerRange::Network(_), Peer::Unix) | (PeerRange::Unix, Peer::Ip(_)) => false,
        })
    }
}

impl From<IpAddr> for Peer {
    fn from(ip: IpAddr) -> Self {
        Peer::Ip(ip)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(ip) => ip.fmt(f),
            Peer::Unix => f.write_str("unix"),
        }
    }
}

/// Peers that a list of the configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRange {
    /// Those with an address in this network.
    Network(IpNet),
    /// The peers of Unix sockets.
    Unix,
}

impl fmt::Display for PeerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerRange::Network(network) => network.fmt(f),
            PeerRange::Unix => f.write_str("unix"),
        }
    }
}
