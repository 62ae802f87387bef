//! Protocol upgrades (RFC 9110 7.8): which protocols are offered to the upstream, and whether a 101 is valid.
//!
//! A switch is valid only if both sides agree on the protocol explicitly. Otherwise one side could treat bytes as the
//! new protocol and the other as HTTP requests that bypass the gateway's rules. The route's configuration lists the
//! allowed protocols. The tunnel itself is not part of this module.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use ring::digest;

use super::ascii_class::{is_token, list_elements};
use super::framing::RequestFraming;

/// The protocol of RFC 6455, as `Upgrade` names it.
pub(crate) const WEBSOCKET: &str = "websocket";

/// The GUID that a server appends to the client's key before hashing (RFC 6455 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Maximum number of protocols of one request that are evaluated.
const MAX_PROTOCOLS: usize = 16;

/// Returns why this protocol cannot be tunnelled, or `None` if it can. `name` is in lower case.
///
/// Another HTTP version, or TLS, would carry requests that bypass the gateway's rules.
pub(crate) fn forbidden_reason(name: &str) -> Option<&'static str> {
    if !is_protocol(name.as_bytes()) {
        return Some("it is not a valid protocol name");
    }
    let family = name.split('/').next().unwrap_or_default();
    matches!(family, "http" | "h2" | "h2c" | "h3" | "tls")
        .then_some("requests inside it would bypass the rules of the gateway")
}

/// Whether the text is a name, or a name and a version: `websocket`, `example/1`.
fn is_protocol(name: &[u8]) -> bool {
    let mut parts = name.split(|octet| *octet == b'/');
    parts.next().is_some_and(is_token) && parts.next().is_none_or(is_token) && parts.next().is_none()
}

/// What matters of a request that asks for another protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpgradingRequest<'a> {
    /// The method.
    pub method: &'a Method,
    /// The framing of the body.
    pub framing: RequestFraming,
}

impl UpgradingRequest<'_> {
    /// Whether the request may ask for this protocol. WebSocket starts with a GET without a body (RFC 6455, section
    /// 4.1). Other protocols, such as that of a container engine's `exec`, may start with any request whose end is
    /// known from its header section: the bytes after it belong to the new protocol.
    fn may_use(self, protocol: &[u8]) -> bool {
        if protocol.eq_ignore_ascii_case(WEBSOCKET.as_bytes()) {
            return self.method == Method::GET && !self.framing.has_body();
        }
        self.framing != RequestFraming::Chunked
    }
}

/// The protocols offered to the upstream: those that the client requested and the route allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpgradeOffer<'a> {
    protocols: Vec<&'a [u8]>,
    /// The value of `Sec-WebSocket-Key`, if the request has exactly one.
    key: Option<&'a [u8]>,
}

impl<'a> UpgradeOffer<'a> {
    /// Builds the offer from the `Upgrade` and `Sec-WebSocket-Key` values of a request whose `Connection` names
    /// `Upgrade`. `None` if the request may use none of the requested protocols in `allowed` (lower case).
    pub(crate) fn from_request(
        request: UpgradingRequest<'_>,
        upgrade: impl Iterator<Item = &'a [u8]>,
        mut keys: impl Iterator<Item = &'a [u8]>,
        allowed: &[String],
    ) -> Option<Self> {
        let is_allowed = |name: &&[u8]| {
            request.may_use(name)
                && allowed.iter().any(|protocol| name.eq_ignore_ascii_case(protocol.as_bytes()))
        };
        let protocols: Vec<_> =
            upgrade.flat_map(list_elements).filter(is_allowed).take(MAX_PROTOCOLS).collect();
        let key = keys.next();
        let key = if keys.next().is_none() { key } else { None };
        (!protocols.is_empty()).then_some(UpgradeOffer { protocols, key })
    }

    /// The value of the `Upgrade` field sent to the upstream.
    pub(crate) fn value(&self) -> Vec<u8> {
        self.protocols.join(&b", "[..])
    }

    /// Checks that a 101 with these values of `Connection`, `Upgrade` and `Sec-WebSocket-Accept` accepts the offer.
    /// Returns the protocol.
    ///
    /// # Errors
    /// A constant text for the log.
    pub(crate) fn verify_switch<'b>(
        &self,
        connection: impl Iterator<Item = &'b [u8]>,
        upgrade: impl Iterator<Item = &'b [u8]>,
        mut accepts: impl Iterator<Item = &'b [u8]>,
    ) -> Result<&'b [u8], &'static str> {
        if !names_upgrade(connection) {
            return Err("101 response: Connection does not name Upgrade");
        }
        let mut switched_to = upgrade.flat_map(list_elements);
        let Some(protocol) = switched_to.next() else { return Err("101 response without Upgrade") };
        if switched_to.next().is_some() {
            return Err("101 response with several protocols");
        }
        if !self.protocols.iter().any(|offered| offered.eq_ignore_ascii_case(protocol)) {
            return Err("101 response: the protocol was not offered");
        }
        if protocol.eq_ignore_ascii_case(WEBSOCKET.as_bytes()) {
            let key = self.key.ok_or(
                "101 response to WebSocket, but the request does not have exactly one Sec-WebSocket-Key",
            )?;
            let expected = websocket_accept(key);
            let (accepted, extra) = (accepts.next(), accepts.next());
            if accepted != Some(expected.as_bytes()) || extra.is_some() {
                return Err("101 response: Sec-WebSocket-Accept does not match the key");
            }
        }
        Ok(protocol)
    }
}

/// Whether one of the options of `Connection` is `upgrade`.
fn names_upgrade<'a>(connection: impl Iterator<Item = &'a [u8]>) -> bool {
    connection.flat_map(list_elements).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// Computes `Sec-WebSocket-Accept`. A matching value proves that the server processed a WebSocket handshake (RFC 6455,
/// section 4.2.2).
fn websocket_accept(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID);
    STANDARD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn single_value(value: &'static str) -> impl Iterator<Item = &'static [u8]> {
        std::iter::once(value.as_bytes())
    }

    const PLAIN_GET: UpgradingRequest<'static> =
        UpgradingRequest { method: &Method::GET, framing: RequestFraming::None };

    fn offer(upgrade: &'static str, allowed: &[&str]) -> Option<UpgradeOffer<'static>> {
        offer_by(PLAIN_GET, upgrade, allowed)
    }

    fn offer_by(
        request: UpgradingRequest<'_>,
        upgrade: &'static str,
        allowed: &[&str],
    ) -> Option<UpgradeOffer<'static>> {
        let allowed: Vec<_> = allowed.iter().map(|name| (*name).to_owned()).collect();
        UpgradeOffer::from_request(request, single_value(upgrade), std::iter::once(KEY), &allowed)
    }

    fn verify(
        connection: &'static str,
        upgrade: &'static str,
        accept: &'static [u8],
    ) -> Result<&'static [u8], &'static str> {
        let offer = offer("websocket, example/1", &["websocket", "example/1"]).ok_or("no offer")?;
        offer.verify_switch(single_value(connection), single_value(upgrade), std::iter::once(accept))
    }

    #[test]
    fn websocket_accept_matches_the_rfc_example() {
        assert_eq!(websocket_accept(KEY).as_bytes(), ACCEPT);
    }

    #[test]
    fn only_allowed_protocols_are_offered() {
        let value = |requested, allowed: &[&str]| offer(requested, allowed).map(|offer| offer.value());
        assert_eq!(value("WebSocket", &["websocket"]), Some(b"WebSocket".to_vec()));
        assert_eq!(value("h2c, websocket ,, example/1", &["websocket"]), Some(b"websocket".to_vec()));
        assert_eq!(
            value("example/1, websocket", &["websocket", "example/1"]),
            Some(b"example/1, websocket".to_vec())
        );
        for requested in ["h2c", "", ",", "websockets", "web socket", "websocket/13"] {
            assert_eq!(value(requested, &["websocket"]), None, "{requested}");
        }
        assert_eq!(value("websocket", &[]), None);
    }

    #[test]
    fn method_and_body_limit_which_protocols_are_offered() {
        let allowed = ["websocket", "tcp"];
        let value = |method: &Method, framing| {
            offer_by(UpgradingRequest { method, framing }, "websocket, tcp", &allowed)
                .map(|offer| offer.value())
        };
        let both = Some(b"websocket, tcp".to_vec());
        let tcp = Some(b"tcp".to_vec());
        assert_eq!(value(&Method::GET, RequestFraming::None), both);
        assert_eq!(value(&Method::GET, RequestFraming::Length(0)), both);
        assert_eq!(value(&Method::GET, RequestFraming::Length(2)), tcp);
        assert_eq!(value(&Method::POST, RequestFraming::Length(2)), tcp);
        assert_eq!(value(&Method::POST, RequestFraming::None), tcp);
        assert_eq!(value(&Method::PUT, RequestFraming::Length(0)), tcp);
        assert_eq!(value(&Method::POST, RequestFraming::Chunked), None);
    }

    #[test]
    fn switching_protocols_must_match_the_offer() {
        assert_eq!(verify("Upgrade", "WebSocket", ACCEPT), Ok(&b"WebSocket"[..]));
        assert_eq!(verify("keep-alive, upgrade", "example/1", b"any"), Ok(&b"example/1"[..]));
        for (connection, upgrade, accept) in [
            ("close", "websocket", ACCEPT),
            ("", "websocket", ACCEPT),
            ("upgrade", "", ACCEPT),
            ("upgrade", "h2c", ACCEPT),
            ("upgrade", "websocket, example/1", ACCEPT),
            ("upgrade", "websocket", KEY),
            ("upgrade", "websocket", b""),
        ] {
            assert!(verify(connection, upgrade, accept).is_err(), "{connection} {upgrade} {accept:?}");
        }
    }

    #[test]
    fn handshake_needs_exactly_one_key() {
        let allowed = ["websocket".to_owned()];
        for keys in [vec![], vec![KEY, KEY]] {
            let offer =
                UpgradeOffer::from_request(PLAIN_GET, single_value("websocket"), keys.into_iter(), &allowed);
            let rejected = offer.map(|offer| {
                offer
                    .verify_switch(
                        single_value("upgrade"),
                        single_value("websocket"),
                        std::iter::once(ACCEPT),
                    )
                    .is_err()
            });
            assert_eq!(rejected, Some(true));
        }
    }

    #[test]
    fn http_cannot_be_tunnelled() {
        for name in ["h2c", "h2", "http/2.0", "tls/1.0", "tls", "h3", "", "a b", "a/b/c", "/1"] {
            assert!(forbidden_reason(name).is_some(), "{name}");
        }
        for name in ["websocket", "example/1", "irc/6.9"] {
            assert_eq!(forbidden_reason(name), None, "{name}");
        }
    }
}
