//! Rows whose request is wrong in what HTTP/1 says in its first line and Host: authority, target, method.

use crate::contract::Cause;

use super::super::clients::{Expected, Reaches, Setting};
use super::super::hpack::List;
use super::{Fate, FrameFault, asked, broken, refused, reset, served};

const HOST: Cause = Cause::InvalidHost;
const PATH: Cause = Cause::AmbiguousPath;
const LINE: Cause = Cause::MalformedRequestLine;

/// Who is asked.
pub(super) fn authorities(at: &Setting) -> Vec<FrameFault> {
    let host = at.host.as_str();
    let get = |name| at.get(name).without(":authority");
    let named = |name, authority: &str| at.get(name).but(":authority", authority);
    vec![
        refused("h2-no-authority", "neither :authority nor Host", HOST, &get("h2-no-authority")),
        served("h2-host-alone", "Host in the place of :authority", &get("h2-host-alone").with("host", host)),
        served(
            "h2-host-and-authority",
            "Host and :authority that say the same",
            &at.get("h2-host-and-authority").with("host", host),
        ),
        refused(
            "h2-another-host",
            "Host and :authority that differ",
            HOST,
            &at.get("h2-another-host").with("host", "elsewhere.example"),
        ),
        refused(
            "h2-two-hosts",
            "Host twice",
            HOST,
            &get("h2-two-hosts").with("host", host).with("host", host),
        ),
        refused("h2-empty-host", "an empty Host", HOST, &get("h2-empty-host").with("host", "")),
        refused(
            "h2-userinfo",
            "a name before the host in :authority",
            HOST,
            &named("h2-userinfo", &format!("admin@{host}")),
        ),
        refused(
            "h2-userinfo-and-password",
            "a name and a password before the host in :authority",
            HOST,
            &named("h2-userinfo-and-password", &format!("admin:secret@{host}")),
        ),
        reset("h2-empty-authority", "an empty :authority", &named("h2-empty-authority", "")),
        reset("h2-space-in-authority", "a space in :authority", &named("h2-space-in-authority", "a b")),
        reset(
            "h2-slash-in-authority",
            "a path in :authority",
            &named("h2-slash-in-authority", &format!("{host}/admin")),
        ),
        reset("h2-open-bracket", "an IPv6 address without its end", &named("h2-open-bracket", "[::1")),
    ]
}

/// What is asked for.
pub(super) fn targets(at: &Setting) -> Vec<FrameFault> {
    let path = |name: &'static str, path: String| at.get(name).but(":path", path);
    let own = at.path.as_str();
    let row = |name: &str, before: &str| format!("{before}?row={name}");
    vec![
        reset("h2-no-path", "no :path", &at.get("h2-no-path").without(":path")),
        reset("h2-empty-path", "an empty :path", &path("h2-empty-path", String::new())),
        refused("h2-star", "* by a method other than OPTIONS", LINE, &path("h2-star", "*".to_owned())),
        reset("h2-space-in-path", "a space in :path", &path("h2-space-in-path", format!("{own} x"))),
        reset(
            "h2-control-in-path",
            "an octet of 1 in :path",
            &path("h2-control-in-path", format!("{own}\u{1}")),
        ),
        broken(
            "h2-bare-octet",
            "an octet of 255 in :path",
            super::headers(
                super::STREAM,
                &at.get("h2-bare-octet").but(":path", [own.as_bytes(), b"\xff"].concat()),
                true,
            ),
        ),
        refused(
            "h2-dot-segment",
            "a dot segment",
            PATH,
            &path("h2-dot-segment", row("h2-dot-segment", "/a/../b")),
        )
        .dotted("/a/../b"),
        refused(
            "h2-coded-dot-segment",
            "a dot segment in percent code",
            PATH,
            &path("h2-coded-dot-segment", row("h2-coded-dot-segment", "/a/%2e%2E/b")),
        )
        .dotted("/a/%2e%2E/b"),
        refused("h2-backslash", "a backslash", PATH, &path("h2-backslash", row("h2-backslash", "/a\\b"))),
        refused(
            "h2-coded-nul",
            "NUL in percent code",
            PATH,
            &path("h2-coded-nul", row("h2-coded-nul", "/a%00b")),
        ),
        refused(
            "h2-bad-percent",
            "a percent sign that codes nothing",
            PATH,
            &path("h2-bad-percent", row("h2-bad-percent", "/a%zzb")),
        ),
        served(
            "h2-fragment",
            "a fragment in :path, which the HTTP/2 library takes off",
            &path("h2-fragment", format!("{own}?row=h2-fragment#x")),
        ),
    ]
}

/// Everything else that begins with a colon.
pub(super) fn others(at: &Setting) -> Vec<FrameFault> {
    let method = |name: &'static str, method: &str| at.get(name).but(":method", method);
    let connect = |name| {
        List::default().with(":method", "CONNECT").with(":authority", at.host.as_str()).with("x-row", name)
    };
    vec![
        reset("h2-no-method", "no :method", &at.get("h2-no-method").without(":method")),
        reset("h2-no-scheme", "no :scheme", &at.get("h2-no-scheme").without(":scheme")),
        reset("h2-bad-scheme", "a :scheme that is none", &at.get("h2-bad-scheme").but(":scheme", "h t")),
        reset("h2-two-methods", ":method twice", &at.get("h2-two-methods").first(":method", "GET")),
        reset("h2-two-paths", ":path twice", &at.get("h2-two-paths").first(":path", "/smuggled")),
        reset(
            "h2-two-authorities",
            ":authority twice",
            &at.get("h2-two-authorities").first(":authority", at.host.as_str()),
        ),
        reset(
            "h2-pseudo-behind",
            ":path behind an ordinary field",
            &at.get("h2-pseudo-behind")
                .without(":path")
                .with("x-a", "b")
                .with(":path", own(at, "h2-pseudo-behind")),
        ),
        reset("h2-status", ":status in a request", &at.get("h2-status").first(":status", "200")),
        reset(
            "h2-protocol",
            ":protocol by a method other than CONNECT",
            &at.get("h2-protocol").first(":protocol", "websocket"),
        ),
        refused("h2-connect", "CONNECT to another host", Cause::UnsupportedMethod, &connect("h2-connect")),
        reset(
            "h2-connect-with-path",
            "CONNECT with :scheme and :path",
            &at.get("h2-connect-with-path").but(":method", "CONNECT"),
        ),
        reset(
            "h2-extended-connect",
            "CONNECT with :protocol, which nobody offered",
            &at.get("h2-extended-connect").but(":method", "CONNECT").first(":protocol", "websocket"),
        ),
        refused("h2-trace", "TRACE", Cause::UnsupportedMethod, &method("h2-trace", "TRACE")),
        asked(
            "h2-other-scheme",
            "a :scheme that is not the connection's",
            &at.get("h2-other-scheme").but(":scheme", "https"),
            Fate::Answer(Expected::Served),
        )
        .reaching(Reaches::Whole(1)),
    ]
}

fn own(at: &Setting, name: &str) -> String {
    format!("{}?row={name}", at.path)
}
