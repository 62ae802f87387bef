//! The listener of a request: its contract applies where the host is unknown.

use crate::config::{Config, ErrorSettings, Listener, listen_address};
use crate::contract::Cause;

/// The listener with this address.
///
/// # Errors
/// A message for the user: the file has no such listener.
pub(super) fn find<'a>(text: &str, config: &'a Config) -> Result<&'a Listener, String> {
    let wanted = listen_address::listen_address(text)
        .map_err(|error| format!("--listener {text}: {}; {}", error.message, error.help))?;
    // As text, because the permissions of a socket do not matter here.
    let is_at = |listener: &&Listener| listener.address.to_string() == wanted.to_string();
    config.listeners.iter().find(is_at).ok_or_else(|| {
        let addresses: Vec<String> =
            config.listeners.iter().map(|listener| listener.address.to_string()).collect();
        format!("--listener {text}: no such listener; expected {}", addresses.join(", "))
    })
}

/// The rules for requests whose host is unknown, at this listener or the first one.
pub(super) fn rules<'a>(listener: Option<&'a Listener>, config: &'a Config) -> &'a ErrorSettings {
    let listener = listener.or_else(|| config.listeners.first());
    listener.and_then(|listener| listener.errors.as_ref()).unwrap_or(&config.errors)
}

/// Whether a request with this cause, which reaches no route, has no host that a route could match. `given`: the user
/// has named a listener, or a route, whose host the request then has.
pub(super) fn host_is_unknown(cause: Option<Cause>, (listener, route): (bool, bool)) -> bool {
    match cause {
        Some(Cause::InvalidHost) => true,
        // The header section may end before the host or after it.
        Some(Cause::HttpRequestError) => listener || !route,
        Some(_) | None => listener,
    }
}

/// A remark about a request that reaches no route: which listener was assumed, or that it could matter.
pub(super) fn note(given: Option<&Listener>, host_is_unknown: bool, config: &Config) -> Option<String> {
    let matters = config.listeners.iter().any(|listener| listener.errors.is_some());
    let first = config.listeners.first()?;
    (matters && given.is_none()).then(|| {
        if host_is_unknown {
            format!(
                "The host is unknown: the contract of the listener applies, here of {}; --listener selects another.",
                first.address
            )
        } else {
            format!(
                "Where no route has the host, the contract of the listener applies: --listener {} shows it.",
                first.address
            )
        }
    })
}
