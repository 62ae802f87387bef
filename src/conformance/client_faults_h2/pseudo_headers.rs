//! HTTP/2 client faults in the authority, the path and the other pseudo-header fields.

use crate::contract::Cause;

use super::super::client_faults::{ExpectedResponse, GatewayProfile, UpstreamSaw};
use super::super::hpack::HeaderList;
use super::{H2ClientFault, StreamOutcome, connection_error, rejected, served, single_request, stream_reset};

const INVALID_HOST: Cause = Cause::InvalidHost;
const AMBIGUOUS_PATH: Cause = Cause::AmbiguousPath;
const MALFORMED_LINE: Cause = Cause::MalformedRequestLine;

/// `:authority` and Host.
pub(super) fn authorities(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    let host = profile.host.as_str();
    let get = |name| profile.get_headers(name).without(":authority");
    let named = |name, authority: &str| profile.get_headers(name).replace(":authority", authority);
    vec![
        rejected("h2-no-authority", "neither :authority nor Host", INVALID_HOST, &get("h2-no-authority")),
        served("h2-host-alone", "Host without :authority", &get("h2-host-alone").with("host", host)),
        served(
            "h2-host-and-authority",
            "Host equal to :authority",
            &profile.get_headers("h2-host-and-authority").with("host", host),
        ),
        rejected(
            "h2-another-host",
            "Host that differs from :authority",
            INVALID_HOST,
            &profile.get_headers("h2-another-host").with("host", "elsewhere.example"),
        ),
        rejected(
            "h2-two-hosts",
            "two Host fields",
            INVALID_HOST,
            &get("h2-two-hosts").with("host", host).with("host", host),
        ),
        rejected("h2-empty-host", "an empty Host", INVALID_HOST, &get("h2-empty-host").with("host", "")),
        rejected(
            "h2-userinfo",
            "user information in :authority",
            INVALID_HOST,
            &named("h2-userinfo", &format!("admin@{host}")),
        ),
        rejected(
            "h2-userinfo-and-password",
            "user information with a password in :authority",
            INVALID_HOST,
            &named("h2-userinfo-and-password", &format!("admin:secret@{host}")),
        ),
        stream_reset("h2-empty-authority", "an empty :authority", &named("h2-empty-authority", "")),
        stream_reset(
            "h2-space-in-authority",
            "a space in :authority",
            &named("h2-space-in-authority", "a b"),
        ),
        stream_reset(
            "h2-slash-in-authority",
            "a path in :authority",
            &named("h2-slash-in-authority", &format!("{host}/admin")),
        ),
        stream_reset(
            "h2-open-bracket",
            "an IPv6 address without its closing bracket in :authority",
            &named("h2-open-bracket", "[::1"),
        ),
    ]
}

/// `:path`.
pub(super) fn targets(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    let path = |name: &'static str, path: String| profile.get_headers(name).replace(":path", path);
    let own_path = profile.path.as_str();
    let row = |name: &str, before: &str| format!("{before}?row={name}");
    vec![
        stream_reset("h2-no-path", "no :path", &profile.get_headers("h2-no-path").without(":path")),
        stream_reset("h2-empty-path", "an empty :path", &path("h2-empty-path", String::new())),
        rejected(
            "h2-star",
            ":path * with a method other than OPTIONS",
            MALFORMED_LINE,
            &path("h2-star", "*".to_owned()),
        ),
        stream_reset(
            "h2-space-in-path",
            "a space in :path",
            &path("h2-space-in-path", format!("{own_path} x")),
        ),
        stream_reset(
            "h2-control-in-path",
            "a byte 0x01 in :path",
            &path("h2-control-in-path", format!("{own_path}\u{1}")),
        ),
        connection_error(
            "h2-bare-octet",
            "a byte 0xff in :path",
            super::headers_frames(
                super::FAULT_STREAM,
                &profile
                    .get_headers("h2-bare-octet")
                    .replace(":path", [own_path.as_bytes(), b"\xff"].concat()),
                true,
            ),
        ),
        rejected(
            "h2-dot-segment",
            "a dot segment in :path",
            AMBIGUOUS_PATH,
            &path("h2-dot-segment", row("h2-dot-segment", "/a/../b")),
        )
        .with_dot_segment_path("/a/../b"),
        rejected(
            "h2-coded-dot-segment",
            "an encoded dot segment in :path",
            AMBIGUOUS_PATH,
            &path("h2-coded-dot-segment", row("h2-coded-dot-segment", "/a/%2e%2E/b")),
        )
        .with_dot_segment_path("/a/%2e%2E/b"),
        rejected(
            "h2-backslash",
            "a backslash in :path",
            AMBIGUOUS_PATH,
            &path("h2-backslash", row("h2-backslash", "/a\\b")),
        ),
        rejected(
            "h2-coded-nul",
            "an encoded NUL byte in :path",
            AMBIGUOUS_PATH,
            &path("h2-coded-nul", row("h2-coded-nul", "/a%00b")),
        ),
        rejected(
            "h2-bad-percent",
            "a percent sign without hexadecimal digits in :path",
            AMBIGUOUS_PATH,
            &path("h2-bad-percent", row("h2-bad-percent", "/a%zzb")),
        ),
        served(
            "h2-fragment",
            "a fragment in :path, which the HTTP/2 library removes",
            &path("h2-fragment", format!("{own_path}?row=h2-fragment#x")),
        ),
    ]
}

/// The other pseudo-header fields.
pub(super) fn other_pseudo_headers(profile: &GatewayProfile) -> Vec<H2ClientFault> {
    let method = |name: &'static str, method: &str| profile.get_headers(name).replace(":method", method);
    let connect = |name| {
        HeaderList::default()
            .with(":method", "CONNECT")
            .with(":authority", profile.host.as_str())
            .with("x-row", name)
    };
    vec![
        stream_reset("h2-no-method", "no :method", &profile.get_headers("h2-no-method").without(":method")),
        stream_reset("h2-no-scheme", "no :scheme", &profile.get_headers("h2-no-scheme").without(":scheme")),
        stream_reset(
            "h2-bad-scheme",
            "an invalid :scheme",
            &profile.get_headers("h2-bad-scheme").replace(":scheme", "h t"),
        ),
        stream_reset(
            "h2-two-methods",
            "two :method fields",
            &profile.get_headers("h2-two-methods").prepend(":method", "GET"),
        ),
        stream_reset(
            "h2-two-paths",
            "two :path fields",
            &profile.get_headers("h2-two-paths").prepend(":path", "/smuggled"),
        ),
        stream_reset(
            "h2-two-authorities",
            "two :authority fields",
            &profile.get_headers("h2-two-authorities").prepend(":authority", profile.host.as_str()),
        ),
        stream_reset(
            "h2-pseudo-behind",
            ":path after a regular field",
            &profile
                .get_headers("h2-pseudo-behind")
                .without(":path")
                .with("x-a", "b")
                .with(":path", own_target(profile, "h2-pseudo-behind")),
        ),
        stream_reset(
            "h2-status",
            ":status in a request",
            &profile.get_headers("h2-status").prepend(":status", "200"),
        ),
        stream_reset(
            "h2-protocol",
            ":protocol with a method other than CONNECT",
            &profile.get_headers("h2-protocol").prepend(":protocol", "websocket"),
        ),
        rejected("h2-connect", "CONNECT to another host", Cause::UnsupportedMethod, &connect("h2-connect")),
        stream_reset(
            "h2-connect-with-path",
            "CONNECT with :scheme and :path",
            &profile.get_headers("h2-connect-with-path").replace(":method", "CONNECT"),
        ),
        stream_reset(
            "h2-extended-connect",
            "extended CONNECT, which is not enabled",
            &profile
                .get_headers("h2-extended-connect")
                .replace(":method", "CONNECT")
                .prepend(":protocol", "websocket"),
        ),
        rejected("h2-trace", "TRACE", Cause::UnsupportedMethod, &method("h2-trace", "TRACE")),
        single_request(
            "h2-other-scheme",
            "a :scheme that differs from the connection's",
            &profile.get_headers("h2-other-scheme").replace(":scheme", "https"),
            StreamOutcome::Response(ExpectedResponse::Served),
        )
        .with_upstream_saw(UpstreamSaw::Complete(1)),
    ]
}

fn own_target(profile: &GatewayProfile, name: &str) -> String {
    format!("{}?row={name}", profile.path)
}
