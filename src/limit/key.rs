//! Rate-limit keys: hashes the parts of a request by which a rule counts, with a secret.
//!
//! The process keeps no plaintext parts, and without the secret nobody can construct a collision. Each part is hashed
//! with its kind and length, so that different lists of parts never produce equal input. A [`KeySource`] provides the
//! values.

use std::borrow::Cow;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr};

use http::HeaderName;
use siphasher::sip128::{Hasher128, SipHasher13};

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address; for IPv6, its network.
    ClientIp,
    /// The value of this request header field.
    Header(HeaderName),
    /// The host used for routing.
    Host,
    /// The method.
    Method,
    /// The route's name.
    Route,
    /// A parameter of the route's path pattern.
    Path(Box<str>),
    /// The value of a cookie.
    Cookie(Box<str>),
    /// The value of a query parameter.
    Query(Box<str>),
    /// A member of the JSON body.
    Body(Box<str>),
}

impl KeyPart {
    /// Whether the client chooses the value, and so could use another client's.
    pub(crate) const fn is_client_controlled(&self) -> bool {
        match self {
            KeyPart::Header(_)
            | KeyPart::Path(_)
            | KeyPart::Cookie(_)
            | KeyPart::Query(_)
            | KeyPart::Body(_) => true,
            KeyPart::ClientIp | KeyPart::Host | KeyPart::Method | KeyPart::Route => false,
        }
    }
}

/// Provides the values of a key's parts. A part that is missing or not a single value is `None`; the client's address
/// replaces it.
pub trait KeySource {
    /// The client's address; `None` for peers of Unix sockets, which are one client together.
    fn client_ip(&self) -> Option<IpAddr>;
    /// The prefix length by which IPv6 clients are counted.
    fn ipv6_prefix(&self) -> u8;
    /// The value of a header field that occurs once.
    fn header(&self, name: &HeaderName) -> Option<&[u8]>;
    /// The host in lower case, without port and trailing dot.
    fn host(&self) -> Option<Cow<'_, str>>;
    /// The method.
    fn method(&self) -> &str;
    /// The route's name.
    fn route(&self) -> &str;
    /// The value of a parameter of the route's path pattern.
    fn path(&self, name: &str) -> Option<Cow<'_, [u8]>>;
    /// The value of a cookie that occurs once.
    fn cookie(&self, name: &str) -> Option<&[u8]>;
    /// The value of a query parameter that occurs once.
    fn query(&self, name: &str) -> Option<Cow<'_, [u8]>>;
    /// The value of a JSON body member that occurs once, case-folded.
    fn body(&self, name: &str) -> Option<String>;
}

/// The secret that hashes keys. Random, unless a backend shares it between gateways.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u64; 2]);

impl Secret {
    /// Creates a secret from random bits, or from bits derived from the configured secret of a backend.
    pub const fn new(bits: [u64; 2]) -> Self {
        Secret(bits)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A hashed key: 128 bits of SipHash-1-3, so that accidental collisions are negligible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Selects the shard and set of a table.
    pub(super) shard_hash: u64,
    /// Distinguishes the keys of a set.
    pub(super) tag: u64,
}

impl Key {
    /// All 128 bits, for the key names in a backend.
    pub fn bits(self) -> u128 {
        u128::from(self.shard_hash) << 64 | u128::from(self.tag)
    }

    /// Creates the key with these bits.
    pub const fn from_bits(bits: u128) -> Self {
        Key { shard_hash: (bits >> 64) as u64, tag: bits as u64 }
    }
}

/// Hashes the parts of a rule's key. Allocates only for values that need decoding and hosts that are not in lower case.
pub(crate) fn derive_key(secret: Secret, parts: &[KeyPart], source: &impl KeySource) -> Key {
    let Secret([first, second]) = secret;
    let mut hasher = SipHasher13::new_with_keys(first, second);
    for part in parts {
        match part {
            KeyPart::ClientIp => hash_client_ip(&mut hasher, source),
            KeyPart::Header(name) => {
                hash_value_or_client(&mut hasher, source, PartKind::Header, source.header(name))
            }
            KeyPart::Host => {
                let host = source.host();
                hash_value_or_client(
                    &mut hasher,
                    source,
                    PartKind::Host,
                    host.as_ref().map(|host| host.as_bytes()),
                );
            }
            KeyPart::Method => hash_part(&mut hasher, PartKind::Method, source.method().as_bytes()),
            KeyPart::Route => hash_part(&mut hasher, PartKind::Route, source.route().as_bytes()),
            KeyPart::Path(name) => {
                hash_value_or_client(&mut hasher, source, PartKind::Path, source.path(name).as_deref())
            }
            KeyPart::Cookie(name) => {
                hash_value_or_client(&mut hasher, source, PartKind::Cookie, source.cookie(name))
            }
            KeyPart::Query(name) => {
                hash_value_or_client(&mut hasher, source, PartKind::Query, source.query(name).as_deref())
            }
            KeyPart::Body(name) => {
                let value = source.body(name);
                hash_value_or_client(
                    &mut hasher,
                    source,
                    PartKind::Body,
                    value.as_ref().map(|value| value.as_bytes()),
                );
            }
        }
    }
    let hash = u128::from(hasher.finish128());
    Key { shard_hash: (hash >> 64) as u64, tag: hash as u64 }
}

/// The kind of a part, hashed before its value.
#[derive(Clone, Copy)]
#[repr(u8)]
enum PartKind {
    Ipv4 = 4,
    Ipv6 = 6,
    Header = 16,
    Host,
    Method,
    Route,
    Path,
    Cookie,
    Query,
    Body,
}

/// Hashes a value, or the client's address without one.
fn hash_value_or_client(
    hasher: &mut SipHasher13,
    source: &impl KeySource,
    kind: PartKind,
    value: Option<&[u8]>,
) {
    match value.filter(|value| !value.is_empty()) {
        Some(value) => hash_part(hasher, kind, value),
        None => hash_client_ip(hasher, source),
    }
}

fn hash_part(hasher: &mut SipHasher13, kind: PartKind, bytes: &[u8]) {
    hasher.write_u64(((bytes.len() as u64) << 8) | kind as u64);
    hasher.write(bytes);
}

/// Stands for clients without an address. No client has this one.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn hash_client_ip(hasher: &mut SipHasher13, source: &impl KeySource) {
    match source.client_ip().unwrap_or(NO_ADDRESS).to_canonical() {
        IpAddr::V4(address) => hash_part(hasher, PartKind::Ipv4, &address.octets()),
        IpAddr::V6(address) => {
            let prefix_len = u32::from(source.ipv6_prefix()).min(128);
            let mask = u128::MAX.checked_shl(128 - prefix_len).unwrap_or(0);
            hash_part(hasher, PartKind::Ipv6, &(u128::from(address) & mask).to_be_bytes());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "key_tests.rs"]
mod tests;
