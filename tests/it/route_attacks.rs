//! Attacks on what routes do besides forwarding: redirects to another host, fields that a client splits, adds or
//! forges, paths that leave their rewritten part.

use super::prelude::*;
use super::property::random::SeededRandom;

/// Responds with the fields that it got whose names begin with `x-t`, in hyphens or underscores, and its target.
fn echo() -> ScriptedUpstream {
    by_request(|request| {
        let fields =
            request.headers.iter().filter(|(name, _)| name.starts_with("x-t") || name.starts_with("x_t"));
        let fields: Vec<String> = fields.map(|(name, value)| format!("{name}={value}")).collect();
        let response = http_response("200 OK", format!("{}|{}", request.target, fields.join(",")));
        vec![Step::ReadRequestHead, Step::ReadBody, write_bytes(response)]
    })
}

/// Sends one request with this target and host on a connection of its own.
fn send(gateway: &Gateway, target: &[u8], host: &[u8], fields: &str) -> HttpResponse {
    let mut client = gateway.client();
    let request =
        [b"GET ", target, b" HTTP/1.1\r\nhost: ", host, b"\r\n", fields.as_bytes(), b"\r\n"].concat();
    client.send(request);
    client.read(SentRequest::Http11("GET"))
}

fn redirecting(upstream: &ScriptedUpstream) -> Gateway {
    Gateway::with_upstream(upstream)
        .route("name: path, match: { path: \"/p/{*rest}\" }, redirect: { to: \"/{rest}\" }")
        .route("name: swapped, match: { path: \"/s/{a}/{*rest}\" }, redirect: { to: \"/{rest}/{a}\" }")
        .route("name: lenient, match: { path: \"/l/{*rest}\" }, redirect: { to: \"/{rest}\" }, paths: lenient")
        .route(
            "name: wildcard, match: { host: \"*.example.com\", path: \"/{*rest}\" }, \
             redirect: { to: \"https://{host}/{rest}\" }",
        )
        .route("name: fixed, match: { path: \"/f/{*rest}\" }, redirect: { to: \"https://new.example.com/{rest}\" }")
        .start()
}

/// Whether a browser that resolves this `Location` stays on the host that the route names (WHATWG URL: backslashes are
/// slashes, tabs and line breaks are removed).
fn stays(location: &str, origins: &[&str]) -> bool {
    let seen: String = location.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
    let seen = seen.replace('\\', "/");
    let own_path = seen.starts_with('/') && !seen.starts_with("//");
    own_path || origins.iter().any(|origin| seen.starts_with(origin))
}

#[test]
fn redirects_never_leave_the_host_that_the_route_names() {
    let upstream = echo();
    let gateway = redirecting(&upstream);
    let hostile = [
        "//evil.test",
        "///evil.test",
        "/%2F%2Fevil.test",
        "/%2f/evil.test",
        "/%5Cevil.test",
        "/%5C%5Cevil.test",
        "/\\evil.test",
        "\\\\evil.test",
        "/\\/evil.test",
        "https://evil.test",
        "/https:/evil.test",
        "/https:%2F%2Fevil.test",
        "/javascript:alert(1)",
        "/%09/evil.test",
        "/%0d%0alocation:%20https://evil.test",
        "/%00//evil.test",
        "/.%2F/evil.test",
        "/%2e/%2e//evil.test",
        "/@evil.test",
        "/;//evil.test",
        "/a@evil.test:80/",
        "/?//evil.test",
        "/evil.test#@evil.test",
        "/\u{ff0f}\u{ff0f}evil.test",
        "/evil.test/",
        "/evil.test",
        "/",
        "",
    ];
    let mut redirected = 0;
    for prefix in ["/p", "/s", "/s/", "/l", "/f", "", "//p", "/%70"] {
        for suffix in hostile {
            for (host, own) in [
                ("test", "https://new.example.com/"),
                ("a.example.com", "https://a.example.com/"),
                ("a.example.com:8080", "https://a.example.com/"),
                ("A.Example.COM.", "https://a.example.com/"),
            ] {
                let target = format!("{prefix}{suffix}");
                if target.is_empty() {
                    continue;
                }
                let response = send(&gateway, target.as_bytes(), host.as_bytes(), "");
                let location = response.header("location").unwrap_or("/");
                assert!(stays(location, &[own]), "{host} {target}: {location}");
                assert!(
                    response.status == 308 || response.status >= 400,
                    "{host} {target}: {}",
                    response.status
                );
                redirected += usize::from(response.status == 308);
            }
        }
    }
    assert!(redirected > 200, "{redirected}");
}

#[test]
fn host_of_a_client_cannot_choose_where_a_redirect_leads() {
    let upstream = echo();
    let gateway = redirecting(&upstream);
    for host in [
        "evil.test",
        "a.example.com.evil.test",
        "evil.test/.example.com",
        "evil.test#.example.com",
        "evil.test?.example.com",
        "evil.test\\.example.com",
        "user@a.example.com",
        "evil.test:80@a.example.com",
        "a.example.com:80:evil.test",
        "a.example.com, evil.test",
        "a.example.com evil.test",
        "[evil.test].example.com",
        "evil.test%2F.example.com",
        "evil.test%00.example.com",
        ".example.com",
        "example.com",
    ] {
        let response = send(&gateway, b"/x", host.as_bytes(), "x-forwarded-host: evil.test\r\n");
        let location = response.header("location").unwrap_or("/");
        let authority = location.strip_prefix("https://").and_then(|rest| rest.split('/').next());
        let harmless = authority.is_none_or(|authority| {
            authority.ends_with(".example.com")
                && authority
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_'))
        });
        assert!(harmless, "{host}: {location}");
    }
    // The authority of an absolute target is the host; a different Host is refused.
    let response = send(&gateway, b"http://evil.test/x", b"a.example.com", "");
    assert_eq!((response.status, response.header("location")), (400, None));
    let response = send(&gateway, b"http://b.example.com/x", b"b.example.com", "");
    assert_eq!(response.header("location"), Some("https://b.example.com/x"));
}

#[test]
fn client_cannot_forge_a_field_that_the_route_writes() {
    let upstream = echo();
    let gateway = Gateway::with_upstream(&upstream)
        .route(
            "name: edits, match: { path: \"/{*rest}\" }, upstream: main, request_headers: { set: { x-tenant: acme, \
             x-twin-host: \"{host}\" }, add: { x-tag: ours }, remove: [x-trusted] }",
        )
        .start();
    for fields in [
        "x-tenant: evil\r\n",
        "X-TENANT: evil\r\nx-tenant: evil\r\n",
        "x_tenant: evil\r\nX_Tenant: evil\r\n",
        "x-tenant: evil\r\nconnection: x-tenant\r\n",
        "connection: x-tenant, x-tag, x-twin-host\r\n",
        "x_trusted: 1\r\nx-trusted: 1\r\nX-Trusted: 1\r\n",
        "x_tag: evil\r\nx-twin_host: evil\r\n",
        "x-tenant:\r\n",
    ] {
        let response = send(&gateway, b"/a", b"shop.test:81", fields);
        assert_eq!(response.text(), "/a|x-tenant=acme,x-twin-host=shop.test,x-tag=ours", "{fields:?}");
    }
    let mut client = gateway.client();
    client.send(
        "POST /a HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\ntrailer: x-tenant\r\n\r\n0\r\nx-tenant: evil\r\n\r\n",
    );
    let response = client.read(SentRequest::Http11("POST"));
    assert_eq!(response.text(), "/a|x-tenant=acme,x-twin-host=shop.test,x-tag=ours");
}

#[test]
fn rewritten_paths_never_leave_their_part_of_the_upstream() {
    let upstream = echo();
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: strip, match: { path: \"/u/{*rest}\" }, upstream: main, strip_prefix: /u")
        .route(
            "name: rewrite, match: { path: \"/r/{a}/{*rest}\" }, upstream: main, rewrite: \"/v2/{a}/{rest}\"",
        )
        .route("name: joined, match: { path: \"/j/{a}/{b}\" }, upstream: main, rewrite: \"/v2/{a}{b}/x\"")
        .start();
    for target in [
        "/r/../admin",
        "/r/%2e%2e/admin",
        "/r/a/..%2fadmin",
        "/r/a/%2E%2e/%2e%2e/admin",
        "/r/a/..",
        "/r/a/.",
        "/j/./.",
        "/j/%2e/%2E",
        "/r/a/..;/admin",
        "/u/..;/admin",
        "/u/%2e%2e",
        "/r//..//a",
        "/u//..",
        "/r/%252e%252e/x",
        "/u//a/b",
        "/u///",
        "/r/a//b",
        "/r/a\\..\\b",
        "/r/a/%5c..%5cb",
    ] {
        let response = send(&gateway, target.as_bytes(), b"test", "");
        if response.status == 400 {
            continue;
        }
        assert_eq!(response.status, 200, "{target}");
        let text = response.text();
        let path = text.split('|').next().unwrap_or_default();
        assert!(path.starts_with('/') && !path.starts_with("//"), "{target}: {path}");
        let decoded = path.to_ascii_lowercase().replace("%2e", ".");
        let mut segments = decoded.split('/');
        assert!(segments.all(|segment| segment != "." && segment != ".."), "{target}: {path}");
        assert!(target.starts_with("/u") || path.starts_with("/v2/"), "{target}: {path}");
    }
}

/// A piece of a target, with octets that end a line only where a server decodes them.
fn hostile_piece(random: &mut SeededRandom) -> Vec<u8> {
    const PIECES: [&[u8]; 12] = [
        b"%0d%0ax-tevil:%201",
        b"%0A",
        b"%00",
        b"//",
        b"%2f",
        b"\xc3\xa9",
        b"%E2%80%A8",
        b"\xff",
        b"{id}",
        b"%",
        b"a;b",
        b"..",
    ];
    let mut piece = Vec::new();
    for _ in 0..random.below(4) {
        if random.percent(60) {
            piece.extend_from_slice(random.pick(&PIECES));
        } else {
            piece.extend(
                random.bytes(12).into_iter().filter(|octet| !matches!(octet, b'\r' | b'\n' | b' ' | b'?')),
            );
        }
    }
    piece
}

fn random_setup(upstream: &ScriptedUpstream) -> GatewaySetup {
    Gateway::with_upstream(upstream)
        .route(
            "name: edits, match: { path: \"/e/{id}\" }, upstream: main, paths: lenient, \
             request_headers: { set: { x-t-id: \"{id}\", x-t-path: \"{path}\", x-t-host: \"{host}\" }, add: { x-t-add: \"{id}\" } }, \
             response_headers: { set: { x-r-id: \"{id}\", x-r-host: \"{host}\" }, add: { x-r-path: \"{path}\" } }",
        )
        .route("name: moved, match: { path: \"/m/{*rest}\" }, redirect: { to: \"/{rest}\" }, paths: lenient")
}

/// No value that a client chooses ends a field or adds one: every field of the route stands once, and no other is
/// there.
#[test]
fn random_bytes_of_a_client_neither_split_nor_add_a_field() {
    const OURS: [&str; 4] = ["x-t-id", "x-t-path", "x-t-host", "x-t-add"];
    let upstream = by_request(|request| {
        let ours =
            request.headers.iter().filter(|(name, _)| name.starts_with("x-t")).map(|(name, _)| name.as_str());
        let mut names: Vec<&str> = ours.collect();
        names.sort_unstable();
        let response = http_response("200 OK", names.join(","));
        vec![Step::ReadRequestHead, Step::ReadBody, write_bytes(response)]
    });
    let gateway = random_setup(&upstream).start();
    let (mut forwarded, mut redirected) = (0, 0);
    for case in 0..600 {
        let mut random = SeededRandom::of(0x7e57, case);
        let prefix: &[u8] = if random.percent(50) { b"/e/x" } else { b"/m/" };
        let target = [prefix, &hostile_piece(&mut random), b"?", &hostile_piece(&mut random)].concat();
        let host = if random.percent(20) { hostile_piece(&mut random) } else { b"test".to_vec() };
        let response = send(&gateway, &target, &host, "");
        let shown = String::from_utf8_lossy(&target).into_owned();
        let named =
            |prefix: &str| response.headers.iter().filter(|(name, _)| name.starts_with(prefix)).count();
        assert_eq!(named("x-tevil"), 0, "{shown}");
        match response.status {
            200 => {
                forwarded += 1;
                let text = response.text();
                let names: Vec<&str> = text.split(',').collect();
                let once = names.iter().all(|name| OURS.contains(name)) && names.len() <= OURS.len();
                assert!(once && names.windows(2).all(|pair| pair[0] != pair[1]), "{shown}: {names:?}");
                assert!(named("x-r-id") <= 1 && named("x-r-host") <= 1 && named("x-r-path") <= 1, "{shown}");
            }
            308 => {
                redirected += 1;
                assert_eq!(named("location"), 1, "{shown}");
                let location = response.header("location").unwrap();
                assert!(
                    stays(location, &[]) && location.bytes().all(|octet| octet.is_ascii_graphic()),
                    "{shown}: {location}"
                );
            }
            status => assert!(status == 400 || status == 404, "{shown}: {status}"),
        }
    }
    assert!(forwarded > 60 && redirected > 60, "{forwarded} {redirected}");
}
