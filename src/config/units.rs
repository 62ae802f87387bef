//! Parses durations, sizes, addresses and networks of the configuration. Names are not resolved.
//! [`super::server_address`] parses the servers of upstreams.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::{IpNet, Ipv4Net};

use super::problem::{Diagnostic, quoted, refuse};
use super::suggestions;
use crate::http::request_head::check_method;

/// `800ms`, `5s`, `1m30s`, `1h`, `7d`; at most a year.
///
/// # Errors
/// The unit is missing or unknown, or the number is not whole.
pub(crate) fn duration(text: &str) -> Result<Duration, Diagnostic> {
    let too_long = || Diagnostic::of(text, "is too long", "use at most 365d");
    if is_digits(text) {
        duration(&format!("{text}s")).map_err(|_| too_long())?;
        // Other tools count in milliseconds.
        let milliseconds = if text.len() > 3 { format!("{text}ms or ") } else { String::new() };
        return refuse(text, "has no unit", format!("write {milliseconds}{text}s"));
    }
    if text == "off" {
        return Err(Diagnostic::new("\"off\" is not allowed here", "use a duration such as 1s"));
    }
    let milliseconds = milliseconds(text).ok_or_else(|| {
        let form = "a whole number with ms, s, m, h or d, for example 800ms, 5s or 1h";
        let meant = suggested_duration(text);
        match meant.as_deref().map(duration) {
            Some(Err(_)) => too_long(),
            Some(Ok(_)) | None => Diagnostic::of(text, "is not a duration", write(meant, form)),
        }
    })?;
    let time = Duration::from_millis(milliseconds);
    if time > MAX_DURATION { Err(too_long()) } else { Ok(time) }
}

/// The help: what was probably meant, else the form.
fn write(meant: Option<String>, form: &str) -> String {
    format!("write {}", meant.as_deref().unwrap_or(form))
}

/// The sum of the parts, or the largest number if it is larger; `None` if the text has another form.
fn milliseconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (digits, after_digits) = split_while(rest, |letter| letter.is_ascii_digit());
        let (unit, after_unit) = split_while(after_digits, |letter| letter.is_ascii_alphabetic());
        let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        let number = if is_digits(digits) { digits.parse().unwrap_or(u64::MAX) } else { return None };
        total = total.saturating_add(number.saturating_mul(*factor));
        rest = after_unit;
    }
    (!text.is_empty()).then_some(total)
}

/// The text in lower case, without spaces and the separators of thousands; `None` if spaces separate numbers.
fn joined(text: &str) -> Option<String> {
    let mut joined = String::new();
    for word in text.split_whitespace() {
        let is_digit = |letter: char| letter.is_ascii_digit();
        if joined.ends_with(is_digit) && word.starts_with(is_digit) {
            return None;
        }
        joined.push_str(&word.to_ascii_lowercase());
    }
    let are_thousands = |group: &str| {
        let (digits, _) = split_while(group, |letter| letter.is_ascii_digit());
        digits.len() == 3
    };
    let separators = ['_', ','];
    let has_groups = joined.split(separators).skip(1).all(are_thousands);
    Some(if has_groups { joined.replace(separators, "") } else { joined })
}

/// The whole number that was probably meant: `20_000`, `1k`, `4.0`.
pub(crate) fn suggested_number(text: &str) -> Option<String> {
    let factor = |unit: &str| match unit {
        "" => Some(1),
        "k" => Some(1_000),
        "m" => Some(1_000_000),
        _ => None,
    };
    scaled(&joined(text)?, factor).map(|number| number.to_string())
}

/// The duration that was probably meant: `30S`, `30 seconds`, `1.5s`, `PT5S` (ISO 8601), `minute`.
fn suggested_duration(text: &str) -> Option<String> {
    let joined = joined(text)?;
    let joined = joined.strip_prefix("pt").unwrap_or(&joined);
    let joined = match joined.chars().next()? {
        '.' => format!("0{joined}"),
        letter if letter.is_alphabetic() => format!("1{joined}"),
        _ => joined.to_owned(),
    };
    match milliseconds(&joined) {
        Some(0) => return None,
        Some(_) => return Some(joined),
        None => {}
    }
    if let Some(seconds) = clock_seconds(&joined) {
        return Some(in_largest_unit(seconds.checked_mul(1_000)?, &DURATION_UNITS));
    }
    // Below a millisecond, in nanoseconds.
    let fine = scaled(&joined, |unit| match unit {
        "us" | "µs" | "μs" | "usec" | "micros" | "microsecond" | "microseconds" => Some(1_000),
        "ns" | "nsec" | "nanos" | "nanosecond" | "nanoseconds" => Some(1),
        _ => None,
    });
    if let Some(nanoseconds) = fine {
        return Some(in_largest_unit(nanoseconds.div_ceil(1_000_000), &DURATION_UNITS));
    }
    let amount = scaled(&joined, |unit| {
        let factor = match unit {
            "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => "ms",
            "s" | "sec" | "secs" | "second" | "seconds" => "s",
            "m" | "min" | "mins" | "minute" | "minutes" => "m",
            "h" | "hr" | "hrs" | "hour" | "hours" => "h",
            "d" | "day" | "days" => "d",
            "w" | "week" | "weeks" => return Some(7 * 86_400_000),
            _ => return None,
        };
        DURATION_UNITS.iter().find(|(name, _)| *name == factor).map(|(_, factor)| *factor)
    })?;
    Some(in_largest_unit(amount, &DURATION_UNITS))
}

/// The seconds of `MINUTES:SECONDS` or `HOURS:MINUTES:SECONDS`; `None` for zero.
fn clock_seconds(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.split(':').collect();
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    let add = |total: u64, part: &&str| total.checked_mul(60)?.checked_add(part.parse().ok()?);
    parts.iter().try_fold(0, add).filter(|seconds| *seconds > 0)
}

/// A duration as it would be written.
pub(crate) fn duration_text(time: Duration) -> String {
    match u64::try_from(time.as_millis()) {
        Ok(0) => "0s".to_owned(),
        Ok(milliseconds) => in_largest_unit(milliseconds, &DURATION_UNITS),
        Err(_) => "off".to_owned(),
    }
}

/// `100 per 1m`: a count and its period.
///
/// # Errors
/// The text is not a count, `per` and a duration. Zero is accepted for both.
pub(crate) fn allowance(text: &str) -> Result<(u32, Duration), Diagnostic> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let parsed = match words.as_slice() {
        [count, "per", time] if is_digits(count) => duration(time).ok().map(|time| (*count, time)),
        _ => None,
    };
    let Some((count, time)) = parsed else {
        let meant = suggested_allowance(text);
        if let Some((count, period)) = &meant
            && duration(period).is_err()
        {
            let help = format!("use a period of at most 365d, for example {count} per 365d");
            return refuse(text, "has a period that is too long", help);
        }
        let meant = meant.map(|(count, period)| format!("{count} per {period}"));
        return refuse(text, "is not a quota", write(meant, "COUNT per DURATION, for example 100 per 1m"));
    };
    match count.parse() {
        Ok(count) => Ok((count, time)),
        Err(_) => refuse(count, "is too many", "write a smaller count, for example 100 per 1m"),
    }
}

/// The quota that was probably meant: `100 per minute`, `100/m`, nginx's `100r/m`, `1k per 1m`. The period may be too
/// long.
fn suggested_allowance(text: &str) -> Option<(u32, String)> {
    let text = text.to_ascii_lowercase();
    let separated = [" per ", " every ", " in ", "/", "-"].iter().find_map(|word| text.split_once(word));
    // `100rps`.
    let (count, period) = separated.or_else(|| {
        let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        Some((count.strip_suffix("rp")?, unit))
    })?;
    let count = joined(count)?;
    let nouns = ["requests", "request", "reqs", "req", "r"];
    let count = nouns.iter().find_map(|noun| count.strip_suffix(noun)).unwrap_or(&count);
    let count = suggested_number(count)?.parse::<u32>().ok()?;
    let period = period.trim();
    let period = match duration(period) {
        Ok(_) => period.to_owned(),
        Err(_) if milliseconds(period).is_some() => period.to_owned(),
        Err(_) if is_digits(period) => format!("{period}s"),
        Err(_) => suggested_duration(period)?,
    };
    Some((count, period))
}

/// `512B`, `32KiB`, `10MiB`, `1GiB`, and the decimal `KB`, `MB`, `GB`. In bytes.
///
/// # Errors
/// The unit is missing or unknown, or the number is not whole.
pub(crate) fn size(text: &str) -> Result<u64, Diagnostic> {
    if is_digits(text) {
        let bytes = text.parse().ok().filter(|bytes| *bytes >= 1_024);
        let bytes = bytes.map(|bytes| format!("write {}", in_largest_unit(bytes, &SIZE_UNITS)));
        let help = bytes.unwrap_or_else(|| format!("write {text}B, {text}KiB or {text}MiB"));
        return refuse(text, "has no unit", help);
    }
    let (digits, unit) = split_while(text, |letter| letter.is_ascii_digit());
    match SIZE_UNITS.iter().find(|(name, _)| *name == unit && is_digits(digits)) {
        Some((_, factor)) => {
            let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
            bytes.ok_or_else(|| Diagnostic::of(text, "is too large", "use a size such as 10MiB"))
        }
        None => {
            let form = "a whole number with B, KiB, MiB or GiB, for example 512B or 10MiB";
            refuse(text, "is not a size", write(suggested_size(text), form))
        }
    }
}

/// The size that was probably meant: `10mb`, `10M`, `10 MiB`, `1.5GiB`, `1TiB`.
fn suggested_size(text: &str) -> Option<String> {
    let joined = joined(text)?;
    let joined = joined.strip_suffix("/s").or_else(|| joined.strip_suffix("ps")).unwrap_or(&joined);
    let decimal = joined.ends_with('b') && !joined.ends_with("ib");
    let base: u64 = if decimal { 1_000 } else { 1_024 };
    let bytes = scaled(joined, |unit| match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => Some(1),
        "k" => Some(base),
        "m" => Some(base.pow(2)),
        "g" => Some(base.pow(3)),
        "t" => Some(base.pow(4)),
        _ => None,
    })?;
    let units: Vec<_> =
        SIZE_UNITS.into_iter().filter(|(_, factor)| factor % base == 0 || *factor == 1).collect();
    Some(in_largest_unit(bytes, &units))
}

/// The amount that a number, perhaps with a fraction, and a unit describe; `None` if it is zero or not whole.
fn scaled(text: &str, factor: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let (number, unit) = split_while(text, |letter| letter.is_ascii_digit() || letter == '.');
    let factor = factor(unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let parts = 10_u64.pow(fraction.len().try_into().ok()?);
    let fraction = fraction.parse::<u64>().ok()?.checked_mul(factor)?;
    let amount = whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(fraction / parts)?;
    (amount > 0 && fraction % parts == 0).then_some(amount)
}

/// The amount as a whole number of the largest possible unit; the first unit is 1.
fn in_largest_unit(amount: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| amount.is_multiple_of(*factor);
    let (name, factor) = units.iter().rev().find(fits).unwrap_or(&("", 1));
    format!("{}{name}", amount / factor)
}

/// `ADDRESS:PORT`, `:PORT` or `localhost:PORT`.
///
/// # Errors
/// The host is a name other than localhost, or the port is missing.
pub(crate) fn tcp_address(text: &str) -> Result<SocketAddr, Diagnostic> {
    if is_digits(text) {
        return refuse(text, "is only a port", format!("write \":{text}\""));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        let unusable = match address {
            SocketAddr::V6(address) if address.ip().is_multicast() => Some("is a multicast address"),
            SocketAddr::V6(address) if address.ip().is_unicast_link_local() && address.scope_id() == 0 => {
                Some("is a link-local address without its interface")
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => None,
        };
        if let Some(reason) = unusable {
            let help = format!("write \"[::]:{}\" for all addresses", address.port());
            return refuse(text, reason, help);
        }
        return Ok(SocketAddr::new(address.ip().to_canonical(), address.port()));
    }
    let port = |host: &str| text.strip_prefix(host)?.strip_prefix(':')?.parse::<u16>().ok();
    if let Some(port) = port("") {
        return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    if let Some(port) = port("localhost") {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let help = "expected ADDRESS:PORT, for example 0.0.0.0:8080, \"[::]:8080\" or \":8080\"".to_owned();
    let meant = suggestions::listen_address(text, |meant| tcp_address(meant).is_ok())
        .map(|meant| format!("write {}", quoted(&meant)));
    refuse(text, "is not a listen address", meant.unwrap_or(help))
}

/// A network such as `10.0.0.0/8`; a bare address is that address alone. IPv4-mapped networks become IPv4 networks, as
/// addresses are compared in that form.
///
/// # Errors
/// The text is neither, or has host bits set.
pub(crate) fn network(text: &str) -> Result<IpNet, Diagnostic> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let Ok(network) = text.parse::<IpNet>() else {
        let form = "expected an address with a prefix, for example 10.0.0.0/8 or \"fd00::/8\"".to_owned();
        let meant =
            suggestions::networks(text, |meant| network(meant).is_ok()).map(|meant| format!("write {meant}"));
        return refuse(text, "is not a network", meant.unwrap_or(form));
    };
    let network = match network {
        IpNet::V6(mapped) => mapped
            .addr()
            .to_ipv4_mapped()
            .zip(mapped.prefix_len().checked_sub(96))
            .and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok())
            .map_or(network, IpNet::V4),
        IpNet::V4(_) => network,
    };
    if network.trunc() != network {
        let prefix = text.split('/').next_back().unwrap_or("");
        let help = format!("write {}, or the address without /{prefix}", network.trunc());
        return refuse(text, "has host bits set", help);
    }
    Ok(network)
}

/// A request method.
pub(crate) fn method(text: &str) -> Result<Method, Diagnostic> {
    let upper = text.to_ascii_uppercase();
    if ["*", "ANY", "ALL"].contains(&&*upper) {
        return refuse(text, "is not a method", "remove the key: without it, all methods match");
    }
    const COMMON_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    match check_method(text.as_bytes()) {
        Err(_) if ["CONNECT", "TRACE"].contains(&&*upper) => {
            refuse(text, "is not supported", "remove it: such requests always get 400")
        }
        Err(_) => refuse(text, "is not a method", "use a method such as GET or POST"),
        Ok(_) if COMMON_METHODS.contains(&&*upper) && text != upper => {
            refuse(text, "is not a method", format!("methods are case-sensitive, write {upper}"))
        }
        Ok(method) => Ok(method),
    }
}

/// A field name, in lower case.
pub(crate) fn header_name(text: &str) -> Result<HeaderName, Diagnostic> {
    let help = "use letters, digits and -, for example x-forwarded-for";
    if text.len() > 1 && text.contains('*') {
        return refuse(text, "is not one field name: * stands for nothing here", help);
    }
    let parsed = HeaderName::from_bytes(text.as_bytes()).ok().filter(|_| !text.starts_with('$'));
    parsed.ok_or_else(|| {
        let meant = suggestions::field_name(text, |meant| header_name(meant).is_ok())
            .map(|meant| format!("write {}", quoted(&meant)));
        Diagnostic::of(text, "is not a valid field name", meant.unwrap_or_else(|| help.to_owned()))
    })
}

/// A host name or IPv4 address in lower case, without a trailing dot; `None` if it is neither.
pub(crate) fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'-' || letter == b'_')
    };
    (name.len() <= 253 && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

/// Whether the text consists of digits only.
pub(crate) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_digit())
}

fn split_while(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|letter| !keep(letter)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// In milliseconds.
const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// In bytes.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// A longer limit is a mistake, and this bound prevents overflow of instants.
const MAX_DURATION: Duration = Duration::from_secs(365 * 86_400);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_integers_with_units() {
        for (text, milliseconds) in
            [("800ms", 800), ("5s", 5_000), ("1m30s", 90_000), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(duration("5").unwrap_err().help, "write 5s");
        for text in ["", "s", "5 s", "1.5s", "5M", "-5s", "5sec", "five"] {
            assert!(duration(text).unwrap_err().message.ends_with("is not a duration"), "{text}");
        }
        assert!(duration("366d").unwrap_err().message.ends_with("is too long"));
        for text in ["9999999999999999999d", "99999999999999999999s", "99999999999"] {
            assert!(duration(text).unwrap_err().message.ends_with("is too long"), "{text}");
        }
        for (text, remedy) in [
            ("30S", "write 30s"),
            ("30 seconds", "write 30s"),
            ("5Min", "write 5m"),
            ("1h 30m", "write 1h30m"),
            ("1.5s", "write 1500ms"),
            ("1.5h", "write 90m"),
            ("366 days", "use at most 365d"),
        ] {
            assert_eq!(duration(text).unwrap_err().help, remedy, "{text}");
        }
    }

    #[test]
    fn sizes_are_integers_with_units() {
        for (text, bytes) in
            [("512B", 512), ("32KiB", 32_768), ("10MiB", 10_485_760), ("1KB", 1_000), ("2GB", 2_000_000_000)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(size("512").unwrap_err().help, "write 512B, 512KiB or 512MiB");
        for text in ["", "KiB", "1.5MiB", "1kb", "1 MiB", "-1B", "1e3B"] {
            assert!(size(text).unwrap_err().message.ends_with("is not a size"), "{text}");
        }
        for text in ["99999999999GiB", "99999999999999999999B"] {
            assert!(size(text).unwrap_err().message.ends_with("is too large"), "{text}");
        }
        for (text, remedy) in [
            ("10mb", "write 10MB"),
            ("10M", "write 10MiB"),
            ("10 mib", "write 10MiB"),
            ("1.5GiB", "write 1536MiB"),
            ("2T", "write 2048GiB"),
            ("1.5KB", "write 1500B"),
        ] {
            assert_eq!(size(text).unwrap_err().help, remedy, "{text}");
        }
    }

    #[test]
    fn allowance_is_a_count_per_duration() {
        let minute = Duration::from_secs(60);
        for text in ["100 per 1m", " 100  per 60s "] {
            assert_eq!(allowance(text), Ok((100, minute)), "{text}");
        }
        assert_eq!(allowance("0 per 0s"), Ok((0, Duration::ZERO)));
        for (text, remedy) in [
            ("100 per minute", "write 100 per 1m"),
            ("5 per seconds", "write 5 per 1s"),
            ("100/m", "write 100 per 1m"),
            ("10r/s", "write 10 per 1s"),
            ("100 requests per 5 min", "write 100 per 5m"),
            ("100 per 60", "write 100 per 60s"),
            ("1k per 1m", "write 1000 per 1m"),
            ("1x per 1m", "write COUNT per DURATION, for example 100 per 1m"),
            ("1 per 366d", "use a period of at most 365d, for example 1 per 365d"),
            ("10/400 days", "use a period of at most 365d, for example 10 per 365d"),
            ("9999999999 per 1m", "write a smaller count, for example 100 per 1m"),
        ] {
            assert_eq!(allowance(text).unwrap_err().help, remedy, "{text}");
        }
        for text in
            ["", "100", "100/1m", "100per1m", "100 per 60", "-1 per 1m", "100 per 1m 2", "per per per"]
        {
            assert!(allowance(text).unwrap_err().message.ends_with("is not a quota"), "{text}");
        }
    }

    #[test]
    fn listen_address_may_be_short_but_not_a_name() {
        for (text, address) in [
            (":8080", "0.0.0.0:8080"),
            ("localhost:0", "127.0.0.1:0"),
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(tcp_address(text), Ok(address.parse().unwrap()), "{text}");
        }
        assert_eq!(tcp_address("8080").unwrap_err().help, "write \":8080\"");
        for text in ["", ":", ":99999", "example.com:80", "127.0.0.1", "http://:80", "localhost"] {
            assert!(tcp_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn network_has_no_host_bits_and_an_address_is_a_network() {
        assert_eq!(network("10.0.0.0/8"), Ok("10.0.0.0/8".parse().unwrap()));
        assert_eq!(network("10.0.0.1"), Ok("10.0.0.1/32".parse().unwrap()));
        assert_eq!(network("::1"), Ok("::1/128".parse().unwrap()));
        assert_eq!(network("10.0.0.1/8").unwrap_err().help, "write 10.0.0.0/8, or the address without /8");
        assert_eq!(network("::ffff:10.0.0.0/104"), Ok("10.0.0.0/8".parse().unwrap()));
        assert_eq!(network("::ffff:10.0.0.1"), Ok("10.0.0.1/32".parse().unwrap()));
        assert_eq!(network("::ffff:0:0/96"), Ok("0.0.0.0/0".parse().unwrap()));
        assert_eq!(network("::/0"), Ok("::/0".parse().unwrap()));
        assert_eq!(
            network("::ffff:10.0.0.1/104").unwrap_err().help,
            "write 10.0.0.0/8, or the address without /104"
        );
        assert!(network("10.0.0.0/33").is_err());
        assert!(network("office").is_err());
    }
}
