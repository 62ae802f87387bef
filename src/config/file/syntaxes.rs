//! The table of syntaxes: what a value that is written as text may look like.
//!
//! [`super::super::units`] and [`super::parsers`] parse them. A schema checks the pattern only, so a pattern accepts
//! whatever the parser accepts.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use super::super::listen_address;
use super::super::problem::Diagnostic;
use super::super::route_patterns;
use super::super::server_address::{self, ServerAddress};
use super::super::units;
use super::forms::{Syntax, Text};
use super::parsers::{self, or_off, positive_duration, whole_seconds};
use crate::contract::{Cause, FixedStatus, JsonPath, RedirectStatus};
use crate::http::authority::UpstreamHost;
use crate::http::origin::OriginPattern;
use crate::http::peer::PeerRange;
use crate::limit::KeyPart;
use crate::limit::redis::Address;
use crate::upstream::settings::{HashKey, NameSource};

/// One row: the type of a field and its marker, the value, the unit, the pattern, an example, the parser.
macro_rules! syntaxes {
    ($($(#[$doc:meta])* $text:ident($syntax:ident) = $value:ty, $unit:expr, $pattern:expr, $example:expr, $parse:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) type $text = Text<$syntax>;

        /// The syntax of the type with this name.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(crate) struct $syntax;

        impl Syntax for $syntax {
            type Value = $value;
            const NAME: &'static str = stringify!($text);
            const UNIT: &'static str = $unit;
            const PATTERN: &'static str = $pattern;
            const EXAMPLE: &'static str = $example;

            fn parse(text: &str) -> Result<$value, Diagnostic> {
                $parse(text)
            }
        }
    )*

        /// Every row, for the tests: pattern, example, and whether the parser accepts a text.
        #[cfg(test)]
        const ROWS: &[Row] = &[$((stringify!($text), $pattern, $example, |text| $syntax::parse(text).is_ok())),*];
    };
}

#[cfg(test)]
type Row = (&'static str, &'static str, &'static str, fn(&str) -> bool);

syntaxes! {
    /// A duration greater than zero: `800ms`, `5s`, `1m30s`, `1h`.
    Time(TimeSyntax) = Duration, "duration", DURATION, "5s", positive_duration;
    /// A duration that may be zero.
    TimeOrZero(TimeOrZeroSyntax) = Duration, "duration", DURATION, "5s", units::duration;
    /// A duration greater than zero; `None` is `off`.
    TimeOrOff(TimeOrOffSyntax) = Option<Duration>, "duration, or `off`", "off|([0-9]+(ms|s|m|h|d))+", "5s", |text| or_off(text, "5s", positive_duration);
    /// A `Retry-After` in whole seconds.
    RetryAfter(RetryAfterSyntax) = u64, "duration in whole seconds, 1s to 1d", DURATION, "5s", |text| whole_seconds(text, 1..=86_400, "sent as Retry-After", "from 1s to 1d");
    /// An addition to `Retry-After` in whole seconds.
    Jitter(JitterSyntax) = u64, "duration in whole seconds, at most `1h`", DURATION, "5s", |text| {
        positive_duration(text)?;
        whole_seconds(text, 1..=3_600, "added to Retry-After", "at most 1h")
    };
    /// An `Access-Control-Max-Age` in whole seconds.
    MaxAge(MaxAgeSyntax) = u64, "duration in whole seconds, at most 1d", DURATION, "10m", |text| whole_seconds(text, 0..=86_400, "sent as Access-Control-Max-Age", "at most 1d");
    /// A size in bytes: `512B`, `32KiB`, `10MiB`.
    Size(SizeSyntax) = u64, "size", "[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)", "10MiB", units::size;
    /// A size in bytes, or `0`.
    SizeOrZero(SizeOrZeroSyntax) = usize, "size, or `0`", "0|[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)", "256B", parsers::size_or_zero;
    /// A size in bytes; `None` is `off`.
    SizeOrOff(SizeOrOffSyntax) = Option<u64>, "size, or `off`", "off|[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)", "10MiB", |text| or_off(text, "10MiB", units::size);
    /// A share in whole percent: `20%`.
    Percent(PercentSyntax) = u32, "percentage", "[0-9]{1,3}%", "20%", parsers::percent;
    /// A number of threads; `None` is `auto`.
    Workers(WorkersSyntax) = Option<usize>, "number or `auto`", "auto|[0-9]+", "4", parsers::workers;
    /// A quota: a count and its period.
    Allowance(AllowanceSyntax) = (u32, Duration), "", "[0-9]+ +per +([0-9]+(ms|s|m|h|d))+", "100 per 1m", units::allowance;
    /// A network such as `10.0.0.0/8`, or an address.
    Network(NetworkSyntax) = IpNet, "network such as `10.0.0.0/8`, or address", "[0-9A-Fa-f:.]+(/[0-9]{1,3})?", "10.0.0.0/8", units::network;
    /// A network, an address, or `unix` for the peers of Unix sockets.
    PeerNetwork(PeerNetworkSyntax) = PeerRange, "network such as `10.0.0.0/8`, address, or `unix`", "unix|[0-9A-Fa-f:.]+(/[0-9]{1,3})?", "10.0.0.0/8", listen_address::peer_range;
    /// The address of a listener.
    ListenAddress(ListenSyntax) = super::super::ListenAddress, "`ADDRESS:PORT` or `unix:/path`", r"unix:/.{1,106}|(\[[0-9A-Fa-f:.]+(%[0-9]+)?\]|[0-9]+(\.[0-9]+){3}|localhost)?:[0-9]{1,5}", "0.0.0.0:8080", listen_address::listen_address;
    /// The address of the telemetry endpoints.
    TcpAddress(TcpAddressSyntax) = SocketAddr, "`ADDRESS:PORT`", r"(\[[0-9A-Fa-f:.]+(%[0-9]+)?\]|[0-9]+(\.[0-9]+){3}|localhost)?:[0-9]{1,5}", "0.0.0.0:8080", units::tcp_address;
    /// The permissions of a socket.
    FileMode(FileModeSyntax) = u32, "octal permissions", "(0|0o)?[0-7]{3}", "0660", listen_address::file_mode;
    /// The address of a server of an upstream.
    Server(ServerSyntax) = ServerAddress, "", r"unix:/.{1,106}|(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}|https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/.*)?", "10.0.1.10:8000", server_address::server;
    /// Where names are looked up: `dns`, `system` or one name server.
    Resolver(ResolverSyntax) = NameSource, "`dns`, `system` or `ADDRESS[:PORT]`", r"dns|system|[0-9A-Fa-f:.]+|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}", "10.0.0.53", parsers::resolver;
    /// The host that an upstream receives.
    HostChoice(HostChoiceSyntax) = UpstreamHost, "`client`, `server` or `host[:port]`", r"[^/@\s]+", "api.internal", parsers::host_choice;
    /// What selects a server by a hash.
    HashSource(HashSourceSyntax) = HashKey, "`client_ip`, `header:NAME` or `cookie:NAME`", "client_ip|header:.+|cookie:.+", "client_ip", parsers::hash_key;
    /// The hosts of a route: exact, `*.` with a name, or `None` for any.
    HostPattern(HostPatternSyntax) = Option<String>, "", r"\*|(\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", "api.example.com", route_patterns::host;
    /// A protocol that clients may switch to, in lower case.
    UpgradeName(UpgradeSyntax) = String, "name of a protocol", "[!#$%&'*+.^_`|~0-9A-Za-z/-]+", "websocket", parsers::protocol;
    /// The status code of a redirect.
    RedirectCode(RedirectCodeSyntax) = RedirectStatus, "301, 302, 303, 307 or 308", "30[12378]", "308", parsers::redirect_code;
    /// The status code of a fixed response.
    FixedCode(FixedCodeSyntax) = FixedStatus, "200 to 399", "[23][0-9]{2}", "200", parsers::fixed_code;
    /// The media type of a fixed response.
    MediaType(MediaTypeSyntax) = HeaderValue, "media type", r"[!#$&^_.+0-9A-Za-z-]+/[!#$&^_.+0-9A-Za-z-]+( *;.+)?", "text/plain", parsers::media_type;
    /// The target of a health check.
    HealthPath(HealthPathSyntax) = String, "path, such as `/healthz`", "/.*", "/healthz", parsers::health_path;
    /// A request method.
    MethodName(MethodSyntax) = Method, "method", TOKEN, "GET", units::method;
    /// A method that a preflight allows.
    CorsMethod(CorsMethodSyntax) = Method, "method", TOKEN, "GET", parsers::allowed_method;
    /// A field name, in lower case.
    FieldName(FieldNameSyntax) = HeaderName, "field name", TOKEN, "x-forwarded-for", units::header_name;
    /// A request field that a preflight allows.
    CorsField(CorsFieldSyntax) = HeaderName, "field name", TOKEN, "x-forwarded-for", parsers::allowed_header;
    /// A field of an upstream response that a replaced error may keep.
    KeptField(KeptFieldSyntax) = HeaderName, "field name", TOKEN, "x-trace", parsers::kept_field;
    /// Fields of an upstream response that a replaced error keeps, by name or prefix.
    FieldPattern(FieldPatternSyntax) = String, "field name, or `x-shop-*` for every name that begins so", TOKEN, "x-shop-*", parsers::field_pattern;
    /// An origin that may read responses; `None` is every origin.
    Origin(OriginSyntax) = Option<OriginPattern>, "origin", r"\*|[A-Za-z][A-Za-z0-9+.-]*://.+", "https://app.example.com", parsers::origin;
    /// A place in a JSON body.
    MessagePath(MessagePathSyntax) = JsonPath, "place in a JSON body", r"[^.\[\]]+(\[[0-9]+\])*(\.[^.\[\]]+(\[[0-9]+\])*)*", "fault.faultstring", parsers::message_path;
    /// The name of a member of a JSON body.
    MemberName(MemberNameSyntax) = Box<str>, "name of a member", r"[^./\[$*]+", "errors", parsers::member_name;
    /// The name of a cause; `None` is an error response of the upstream.
    CauseName(CauseNameSyntax) = Option<Cause>, "name of a cause", "[a-z0-9_]+", "connection_refused", parsers::condition_cause;
    /// A status code of an error.
    ErrorStatus(ErrorStatusSyntax) = u16, "400 to 599", "[45][0-9]{2}", "503", parsers::parse_status;
    /// A part of the key of a rate limit.
    LimitKeyPart(LimitKeyPartSyntax) = KeyPart, "part", "client_ip|host|method|route|(header|cookie|query|path|body):.+", "client_ip", parsers::key_part;
    /// A SHA-256 digest.
    Sha256(Sha256Syntax) = [u8; 32], "64 hexadecimal digits", "[0-9A-Fa-f]{64}", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", parsers::sha256;
    /// The address of a backend.
    StoreAddress(StoreAddressSyntax) = Address, "URL", r"rediss?(\+(cluster|sentinel))?://.+", "redis://127.0.0.1:6379", parsers::address;
    /// The prefix of key names in a backend.
    KeyPrefix(KeyPrefixSyntax) = String, "letters, digits and `:._-`, at most 64", "[A-Za-z0-9:._-]{1,64}", "statusquo:", parsers::prefix;
    /// The secret that hashes keys.
    StoreSecret(StoreSecretSyntax) = String, "text of at least 16 characters", ".{16,}", "0123456789abcdef", parsers::secret_text;
}

const DURATION: &str = "([0-9]+(ms|s|m|h|d))+";
const TOKEN: &str = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::ROWS;

    /// Valid texts that a careless pattern refuses.
    const ACCEPTED: &[(&str, &[&str])] = &[
        ("Time", &["800ms", "1m30s", "365d"]),
        ("TimeOrOff", &["off", "1h"]),
        ("SizeOrOff", &["off", "1KB"]),
        ("Workers", &["auto", "16"]),
        ("Allowance", &["100 per 1m", "5 per 1m30s"]),
        ("Network", &["10.0.0.1", "::1", "fd00::/8", "::ffff:10.0.0.0/104"]),
        ("PeerNetwork", &["unix", "10.0.0.1", "fd00::/8"]),
        ("ListenAddress", &[":8080", "localhost:80", "[::]:8080", "127.0.0.1:0", "unix:/run/a.sock"]),
        ("TcpAddress", &[":8080", "localhost:80", "[::1]:9464"]),
        ("FileMode", &["660", "0o600"]),
        (
            "Server",
            &[
                "a_b.internal:80",
                "http://api",
                "https://[::1]:8443/",
                "[fd00::1]:80",
                "http://api:3000/api/v1",
            ],
        ),
        ("Resolver", &["dns", "system", "::1", "127.0.0.1:8600", "[::1]:53"]),
        ("HostChoice", &["client", "server", "shop.internal:8000"]),
        ("HostPattern", &["*", "*.example.com", "[::1]", "a-b.example"]),
        ("LimitKeyPart", &["host", "header:x-key", "body:email", "path:id"]),
        ("Origin", &["*", "https://*.example.com", "http://localhost:3000"]),
        ("MessagePath", &["errors[0].text", "a.b.c"]),
        ("StoreAddress", &["rediss+cluster://a:1,b:2", "redis+sentinel://a:1/main"]),
        ("FixedCode", &["204", "399"]),
        ("MediaType", &["text/plain; charset=utf-8", "application/vnd.shop+json"]),
        ("UpgradeName", &["example/1", "TCP"]),
    ];

    #[test]
    fn patterns_and_parsers_accept_the_examples() {
        for (name, pattern, example, accepts) in ROWS {
            let pattern = regex::Regex::new(&format!("^({pattern})$")).unwrap();
            let more = ACCEPTED.iter().find(|(row, _)| row == name).map_or(&[][..], |(_, texts)| texts);
            for text in more.iter().chain([example]) {
                assert!(pattern.is_match(text) && accepts(text), "{name}: {text}");
            }
        }
        assert!(ACCEPTED.iter().all(|(name, _)| ROWS.iter().any(|(row, ..)| row == name)));
    }
}
