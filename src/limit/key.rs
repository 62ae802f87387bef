//! Whose state it is: the parts of a request that a rule counts by, hashed under a secret.
//!
//! Nothing of a request is kept in clear, and without the secret nobody can make two keys meet. Parts are fed with their
//! kind and length, so that no two different lists of parts are the same bytes. Where the parts come from is the caller's
//! business ([`Subject`]).

use std::borrow::Cow;
use std::hash::Hasher;
use std::net::IpAddr;

use http::HeaderName;
use siphasher::sip128::{Hasher128, SipHasher13};

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address; IPv6 by its network.
    ClientIp,
    /// The value of this request field.
    Header(HeaderName),
    /// The host, as routes see it.
    Host,
    /// The method.
    Method,
    /// The route's name.
    Route,
}

/// What a key is made of. A part that is missing, or cannot be read as one value, is `None`, and counts as the client.
pub trait Subject {
    /// The client's address.
    fn client_ip(&self) -> IpAddr;
    /// By how many leading bits IPv6 clients are told apart.
    fn ipv6_prefix(&self) -> u8;
    /// The only value of a field.
    fn header(&self, name: &HeaderName) -> Option<&[u8]>;
    /// The host in lower case, without port and final dot.
    fn host(&self) -> Option<Cow<'_, str>>;
    /// The method.
    fn method(&self) -> &str;
    /// The route's name.
    fn route(&self) -> &str;
}

/// What hides keys: random bits that leave the process nowhere.
#[derive(Clone, Copy)]
pub struct Secret([u64; 2]);

impl Secret {
    /// From random bits, fresh for each process.
    pub const fn new(bits: [u64; 2]) -> Self {
        Secret(bits)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A hashed key: 128 bits of SipHash-1-3, so that two keys never meet by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Spreads keys over a table.
    pub(super) place: u64,
    /// Tells the keys of one place apart.
    pub(super) tag: u64,
}

/// Hashes what the rule counts by. Allocates nothing, except for a host that is not in lower case.
pub fn key(secret: Secret, parts: &[KeyPart], subject: &impl Subject) -> Key {
    let Secret([one, two]) = secret;
    let mut hasher = SipHasher13::new_with_keys(one, two);
    for part in parts {
        match part {
            KeyPart::ClientIp => client_ip(&mut hasher, subject),
            KeyPart::Header(name) => match subject.header(name).filter(|value| !value.is_empty()) {
                Some(value) => feed(&mut hasher, Kind::Header, value),
                None => client_ip(&mut hasher, subject),
            },
            KeyPart::Host => match subject.host().filter(|host| !host.is_empty()) {
                Some(host) => feed(&mut hasher, Kind::Host, host.as_bytes()),
                None => client_ip(&mut hasher, subject),
            },
            KeyPart::Method => feed(&mut hasher, Kind::Method, subject.method().as_bytes()),
            KeyPart::Route => feed(&mut hasher, Kind::Route, subject.route().as_bytes()),
        }
    }
    let hash = u128::from(hasher.finish128());
    Key { place: (hash >> 64) as u64, tag: hash as u64 }
}

/// The first octet of every part.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Ipv4 = 4,
    Ipv6 = 6,
    Header = 16,
    Host,
    Method,
    Route,
}

fn feed(hasher: &mut SipHasher13, kind: Kind, bytes: &[u8]) {
    hasher.write_u64(((bytes.len() as u64) << 8) | kind as u64);
    hasher.write(bytes);
}

fn client_ip(hasher: &mut SipHasher13, subject: &impl Subject) {
    match subject.client_ip().to_canonical() {
        IpAddr::V4(address) => feed(hasher, Kind::Ipv4, &address.octets()),
        IpAddr::V6(address) => {
            let kept = u32::from(subject.ipv6_prefix()).min(128);
            let mask = u128::MAX.checked_shl(128 - kept).unwrap_or(0);
            feed(hasher, Kind::Ipv6, &(u128::from(address) & mask).to_be_bytes());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "key_tests.rs"]
mod tests;
