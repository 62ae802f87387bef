//! What the user should know about the route: its maintenance, what it responds itself, its access rules and methods.

use std::collections::BTreeSet;

use http::{HeaderValue, Method};

use crate::config::{Config, RouteAction, RouteConfig};
use crate::contract::{Cause, Phase, Trigger};

/// A remark if the error cannot occur on this route, or only for some clients.
pub(super) fn note(route: &RouteConfig, trigger: Trigger, phase: Phase) -> Option<String> {
    let name = &route.name;
    let needs_upstream = !matches!(phase, Phase::Admit | Phase::Internal);
    match (&route.action, trigger) {
        (RouteAction::Redirect(_), _) if needs_upstream => {
            Some(format!("{name} redirects and forwards nothing: this never occurs there."))
        }
        (RouteAction::Respond(_) | RouteAction::RespondWithError, _) if needs_upstream => {
            Some(format!("{name} has respond and forwards nothing: this never occurs there."))
        }
        (
            RouteAction::Forward | RouteAction::Redirect(_) | RouteAction::Respond(_),
            Trigger::Fault(Cause::RouteResponse),
        ) => Some(format!("{name} has no respond.code: this never occurs there.")),
        (_, Trigger::Fault(Cause::Maintenance)) => route
            .maintenance
            .is_none()
            .then(|| format!("{name} is not in maintenance: set maintenance.enabled of the route.")),
        (_, Trigger::Fault(Cause::HttpRequestDenied)) if !denies(route) => Some(format!(
            "{name} denies no request: it has no deny, deny_from or allow_from, and no cors that denies preflights."
        )),
        (
            RouteAction::Forward
            | RouteAction::Redirect(_)
            | RouteAction::Respond(_)
            | RouteAction::RespondWithError,
            _,
        ) => route.maintenance.as_ref().map(|maintenance| {
            let who = if maintenance.allow_from.is_empty() {
                "clients"
            } else {
                "clients outside maintenance.allow_from"
            };
            format!("{name} is in maintenance: {who} get the cause maintenance instead.")
        }),
    }
}

pub(super) fn denies(route: &RouteConfig) -> bool {
    !route.deny_methods.is_empty()
        || !route.deny_from.is_empty()
        || !route.allow_from.is_empty()
        || route.cors.is_some()
}

/// `Allow` for a path that this route matches: the methods of the routes with the same host and path. `None` if any
/// method is accepted.
pub(super) fn allow(config: &Config, route: &RouteConfig) -> Option<HeaderValue> {
    let same = config.routes.iter().filter(|other| other.host == route.host && other.path == route.path);
    let methods = [Method::HEAD].into_iter().chain(same.clone().flat_map(|route| route.methods.clone()));
    let methods: BTreeSet<String> = methods
        .filter(|method| same.clone().any(|route| !route.methods.is_empty() && route.accepts(method)))
        .map(|method| method.to_string())
        .collect();
    let names: Vec<String> = methods.into_iter().collect();
    HeaderValue::from_str(&names.join(", ")).ok().filter(|names| !names.is_empty())
}

/// Which path `Allow` is about.
pub(super) fn allow_note(route: &RouteConfig) -> String {
    let RouteConfig { name, path, .. } = route;
    if route.methods.is_empty() {
        return format!(
            "{name} accepts every method: this never occurs on its path; --route selects another."
        );
    }
    format!("Allow has the methods of the routes with the path {path}; --route selects another path.")
}
