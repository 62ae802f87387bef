//! Lines of access logs: our own JSON lines, and the common and combined forms that other servers write.
//!
//! A line becomes a [`Logged`] or nothing. It knows no rule and opens no file.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

/// A request, as far as a line tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// When its head was there, since the epoch.
    pub started: Duration,
    /// When it was over.
    pub ended: Duration,
    pub client_ip: IpAddr,
    pub method: String,
    /// Path and query, as far as they are told.
    pub target: String,
    /// The name of its route, where the line says it.
    pub route: Option<String>,
    /// What the upstream answered, or what the client was.
    pub status: Option<u16>,
    pub referer: Option<String>,
    pub user_agent: Option<String>,
}

/// The request of a line; `None` when it is not one that a limit could have met.
pub fn parse(line: &str) -> Option<Logged> {
    let line = line.trim();
    if line.starts_with('{') { ours(line) } else { common(line) }
}

/// One of our own lines. It is written when a request is over, and says how long that took.
fn ours(line: &str) -> Option<Logged> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    if text("outcome")? == "preflight" {
        return None;
    }
    let ended = humantime::parse_rfc3339(text("time")?).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let took = value.get("elapsed_ms").and_then(Value::as_f64).unwrap_or_default();
    let took = Duration::try_from_secs_f64(took / 1000.0).unwrap_or_default();
    let status = value.get("upstream_status").or(value.get("code")).and_then(Value::as_u64);
    Some(Logged {
        started: ended.saturating_sub(took),
        ended,
        client_ip: text("client_ip")?.parse().ok()?,
        method: text("method")?.to_owned(),
        target: text("path")?.to_owned(),
        // Every line of a request that reached a route names it.
        route: Some(text("route").unwrap_or_default().to_owned()),
        status: status.and_then(|status| u16::try_from(status).ok()),
        referer: None,
        user_agent: None,
    })
}

/// `ADDRESS - USER [10/Oct/2000:13:55:36 -0700] "GET /x HTTP/1.1" 200 2326`, and perhaps `"REFERER" "USER AGENT"`.
fn common(line: &str) -> Option<Logged> {
    let (client_ip, rest) = line.split_once(' ')?;
    let (_, rest) = rest.split_once('[')?;
    let (time, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let mut words = request.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let status = rest.split(' ').next()?;
    let mut quoted =
        rest.split('"').skip(1).step_by(2).map(|text| Some(text.to_owned()).filter(|text| text != "-"));
    let started = common_time(time)?;
    Some(Logged {
        started,
        ended: started,
        client_ip: client_ip.parse().ok()?,
        method: method.to_owned(),
        target: target.to_owned(),
        route: None,
        status: status.parse().ok(),
        referer: quoted.next().flatten(),
        user_agent: quoted.next().flatten(),
    })
}

/// `10/Oct/2000:13:55:36 -0700`.
fn common_time(text: &str) -> Option<Duration> {
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
    let ahead = zone.strip_prefix('+');
    let (hours, minutes) = ahead.or(zone.strip_prefix('-'))?.split_at_checked(2)?;
    let away = Duration::from_secs(hours.parse::<u64>().ok()? * 3_600 + minutes.parse::<u64>().ok()? * 60);
    if ahead.is_some() { utc.checked_sub(away) } else { utc.checked_add(away) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ours_tells_when_a_request_began_and_ended() {
        let line = r#"{"time":"2026-01-01T00:00:02.500Z","level":"warn","message":"x","route":"api","method":"GET","path":"/a","client_ip":"192.0.2.7","code":504,"upstream_status":502,"elapsed_ms":500.0,"outcome":"replaced"}"#;
        let logged = parse(line).unwrap();
        let midnight = Duration::from_secs(1_767_225_600);
        assert_eq!(
            (logged.started, logged.ended),
            (midnight + Duration::from_secs(2), midnight + Duration::from_millis(2_500))
        );
        assert_eq!(
            (logged.route.as_deref(), logged.status, logged.target.as_str()),
            (Some("api"), Some(502), "/a")
        );
        assert_eq!(parse(&line.replace("replaced", "preflight")), None);
        assert_eq!(parse(r#"{"time":"2026-01-01T00:00:02Z","message":"serving"}"#), None);
    }

    #[test]
    fn a_common_and_a_combined_line_are_read() {
        let line = r#"192.0.2.7 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.0" 201 2326"#;
        let logged = parse(line).unwrap();
        assert_eq!(logged.started, Duration::from_secs(971_211_336));
        assert_eq!(
            (logged.method.as_str(), logged.target.as_str(), logged.status),
            ("GET", "/a?b=c", Some(201))
        );
        assert_eq!((logged.user_agent, logged.referer), (None, None));
        let logged = parse(&format!(r#"{line} "-" "curl/8 (x)""#)).unwrap();
        assert_eq!((logged.referer, logged.user_agent.as_deref()), (None, Some("curl/8 (x)")));
        let logged = parse(&format!(r#"{line} "http://x/" "curl/8""#)).unwrap();
        assert_eq!(
            (logged.referer.as_deref(), logged.user_agent.as_deref()),
            (Some("http://x/"), Some("curl/8"))
        );
        let ahead = line.replace("-0700", "+0130");
        assert_eq!(parse(&ahead).unwrap().started, Duration::from_secs(971_186_136 - 5_400));
        for broken in [
            "",
            "x",
            "host - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 1",
            "192.0.2.7 - - [x] \"\" 400 0",
        ] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
