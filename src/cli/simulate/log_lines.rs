//! Parses lines of access logs: JSON lines of statusquo, and the common and combined log formats of other servers.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::http::authority;

/// The request of a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoggedRequest {
    /// When its header section was complete, since the epoch.
    pub started: Duration,
    /// When it ended, since the epoch.
    pub ended: Duration,
    /// `None` for the peer of a Unix socket.
    pub client_ip: Option<IpAddr>,
    pub method: String,
    /// The host for routing, if the line contains it.
    pub host: Option<String>,
    /// Path and query, if the line contains them.
    pub target: String,
    /// The name of the route, if the line contains it.
    pub route: Option<String>,
    /// The status code of the upstream, or of the response to the client.
    pub status: Option<u16>,
    pub referer: Option<String>,
    pub user_agent: Option<String>,
}

/// Parses a line; `None` if it does not contain a request that a rate limit applies to.
pub(super) fn parse(line: &str) -> Option<LoggedRequest> {
    let line = line.trim();
    if line.starts_with('{') { parse_json_line(line) } else { parse_common_line(line) }
}

/// Parses a line of statusquo, which is written at the end of a request and contains its duration.
fn parse_json_line(line: &str) -> Option<LoggedRequest> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    if text("outcome")? == "preflight" {
        return None;
    }
    let ended = humantime::parse_rfc3339(text("time")?).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let elapsed = value.get("elapsed_ms").and_then(Value::as_f64).unwrap_or_default();
    let elapsed = Duration::try_from_secs_f64(elapsed / 1000.0).unwrap_or_default();
    let status = value.get("upstream_status").or(value.get("code")).and_then(Value::as_u64);
    Some(LoggedRequest {
        started: ended.saturating_sub(elapsed),
        ended,
        // Every other client has an address.
        client_ip: text("client_ip").map(|ip| ip.parse().map_err(drop)).transpose().ok()?,
        method: text("method")?.to_owned(),
        host: text("host").map(|host| authority::routing_host(host.as_bytes()).into_owned()),
        target: text("path")?.to_owned(),
        // Every request that matched a route has its name.
        route: Some(text("route").unwrap_or_default().to_owned()),
        status: status.and_then(|status| u16::try_from(status).ok()),
        referer: None,
        user_agent: text("user_agent").map(str::to_owned),
    })
}

/// `ADDRESS - USER [10/Oct/2000:13:55:36 -0700] "GET /x HTTP/1.1" 200 2326`, and perhaps `"REFERER" "USER AGENT"`.
fn parse_common_line(line: &str) -> Option<LoggedRequest> {
    let (client, rest) = line.split_once(' ')?;
    let (_, rest) = rest.split_once('[')?;
    let (time, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let mut words = request.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let status = rest.split(' ').next()?;
    let mut quoted =
        rest.split('"').skip(1).step_by(2).map(|text| Some(text.to_owned()).filter(|text| text != "-"));
    let started = parse_common_time(time)?;
    Some(LoggedRequest {
        started,
        ended: started,
        // nginx writes `unix:`.
        client_ip: if client == "unix:" { None } else { Some(client.parse().ok()?) },
        method: method.to_owned(),
        host: None,
        target: target.to_owned(),
        route: None,
        status: status.parse().ok(),
        referer: quoted.next().flatten(),
        user_agent: quoted.next().flatten(),
    })
}

/// `10/Oct/2000:13:55:36 -0700`.
fn parse_common_time(text: &str) -> Option<Duration> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (time, zone) = text.split_once(' ')?;
    let mut parts = time.split([':', '/']);
    let day = parts.next()?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? + 1;
    let (year, hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let utc = format!("{year}-{month:02}-{day}T{hour}:{minute}:{second}Z");
    let utc = humantime::parse_rfc3339(&utc).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let positive_offset = zone.strip_prefix('+');
    let (hours, minutes) = positive_offset.or(zone.strip_prefix('-'))?.split_at_checked(2)?;
    let offset = Duration::from_secs(hours.parse::<u64>().ok()? * 3_600 + minutes.parse::<u64>().ok()? * 60);
    if positive_offset.is_some() { utc.checked_sub(offset) } else { utc.checked_add(offset) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn json_log_line_yields_start_and_end_of_the_request() {
        let line = r#"{"time":"2026-01-01T00:00:02.500Z","level":"warn","message":"x","route":"api","method":"GET","path":"/a","client_ip":"192.0.2.7","code":504,"upstream_status":502,"elapsed_ms":500.0,"outcome":"replaced"}"#;
        let request = parse(line).unwrap();
        let midnight = Duration::from_secs(1_767_225_600);
        assert_eq!(
            (request.started, request.ended),
            (midnight + Duration::from_secs(2), midnight + Duration::from_millis(2_500))
        );
        assert_eq!(
            (request.route.as_deref(), request.status, request.target.as_str()),
            (Some("api"), Some(502), "/a")
        );
        assert_eq!(request.user_agent, None);
        let line_with_agent = line.replace(r#""code""#, r#""user_agent":"curl/8","code""#);
        assert_eq!(parse(&line_with_agent).unwrap().user_agent.as_deref(), Some("curl/8"));
        assert_eq!((request.client_ip, request.host), (Some([192, 0, 2, 7].into()), None));
        let request =
            parse(&line.replace(r#""client_ip":"192.0.2.7""#, r#""host":"Shop.example:8080""#)).unwrap();
        assert_eq!(
            (request.client_ip, request.host.as_deref()),
            (None, Some("shop.example")),
            "a Unix socket"
        );
        assert_eq!(parse(&line.replace("192.0.2.7", "elsewhere")), None);
        assert_eq!(parse(&line.replace("replaced", "preflight")), None);
        assert_eq!(parse(r#"{"time":"2026-01-01T00:00:02Z","message":"serving"}"#), None);
    }

    #[test]
    fn common_and_combined_log_lines_are_parsed() {
        let line = r#"192.0.2.7 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.0" 201 2326"#;
        let request = parse(line).unwrap();
        assert_eq!(request.started, Duration::from_secs(971_211_336));
        assert_eq!(
            (request.method.as_str(), request.target.as_str(), request.status),
            ("GET", "/a?b=c", Some(201))
        );
        assert_eq!((request.user_agent, request.referer), (None, None));
        assert_eq!(request.client_ip, Some([192, 0, 2, 7].into()));
        assert_eq!(parse(&line.replace("192.0.2.7", "unix:")).unwrap().client_ip, None);
        let request = parse(&format!(r#"{line} "-" "curl/8 (x)""#)).unwrap();
        assert_eq!((request.referer, request.user_agent.as_deref()), (None, Some("curl/8 (x)")));
        let request = parse(&format!(r#"{line} "http://x/" "curl/8""#)).unwrap();
        assert_eq!(
            (request.referer.as_deref(), request.user_agent.as_deref()),
            (Some("http://x/"), Some("curl/8"))
        );
        let positive_offset = line.replace("-0700", "+0130");
        assert_eq!(parse(&positive_offset).unwrap().started, Duration::from_secs(971_186_136 - 5_400));
        for malformed in [
            "",
            "x",
            "host - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 1",
            "192.0.2.7 - - [x] \"\" 400 0",
        ] {
            assert_eq!(parse(malformed), None, "{malformed}");
        }
    }
}
