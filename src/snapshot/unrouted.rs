//! Which settings apply to the responses of requests without a route: those of the first route in the file whose host
//! matches, else those of the listener. Where that route has no CORS policy, the one at the top level applies.

use std::sync::Arc;

use super::{Route, Snapshot};
use crate::config::{Config, ErrorSettings, Listener};
use crate::http::cors::CorsPolicy;
use crate::telemetry::{CodeLabels, Metrics, RouteMetrics, definitions};

/// The settings of a response, borrowed from the snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseSettings<'a> {
    /// Settings for error responses.
    pub(crate) errors: &'a ErrorSettings,
    /// The CORS policy, if any.
    pub(crate) cors: Option<&'a Arc<CorsPolicy>>,
}

/// The settings for requests that match no route, and whose host no route has.
#[derive(Debug)]
pub(crate) struct Unrouted {
    errors: ErrorSettings,
    cors: Option<Arc<CorsPolicy>>,
    /// In the order of the file; `None` for a listener without a contract of its own.
    listeners: Vec<Option<ErrorSettings>>,
    /// Metric handles with the label `route="none"`.
    pub(crate) metrics: Arc<RouteMetrics>,
}

impl Unrouted {
    pub(super) fn of(config: &Config, metrics: &Metrics) -> Unrouted {
        let listeners = config.listeners.iter().filter_map(|listener| listener.errors.as_ref());
        let settings =
            config.routes.iter().map(|route| &route.errors).chain(listeners).chain([&config.errors]);
        let labels = CodeLabels::for_contracts(settings.map(|settings| &*settings.contract));
        Unrouted {
            errors: config.errors.clone(),
            cors: config.cors.clone(),
            listeners: config.listeners.iter().map(|listener: &Listener| listener.errors.clone()).collect(),
            metrics: metrics.route(&labels, definitions::NONE, None),
        }
    }
}

impl Snapshot {
    /// The settings at the top level of the file.
    pub(crate) fn default_settings(&self) -> ResponseSettings<'_> {
        ResponseSettings { errors: &self.unrouted.errors, cors: self.unrouted.cors.as_ref() }
    }

    /// The settings where the host is unknown: those of the listener with this index.
    pub(crate) fn listener_settings(&self, listener: usize) -> ResponseSettings<'_> {
        let own = self.unrouted.listeners.get(listener).and_then(Option::as_ref);
        ResponseSettings { errors: own.unwrap_or(&self.unrouted.errors), ..self.default_settings() }
    }

    /// The settings for a request that matches no route. `path` is set if routes match all of it except the method.
    pub(crate) fn unrouted_settings(
        &self,
        listener: usize,
        host: Option<&str>,
        path: Option<&str>,
    ) -> ResponseSettings<'_> {
        let index = host.and_then(|host| match path {
            Some(path) => self.router.first_for_path(host, path),
            None => self.router.first_for_host(host),
        });
        match index.and_then(|index| self.routes.get(index)).map(Route::response_settings) {
            // Its own pages may read the 404 of a path that no route has.
            Some(settings) => {
                ResponseSettings { cors: settings.cors.or(self.unrouted.cors.as_ref()), ..settings }
            }
            None => self.listener_settings(listener),
        }
    }
}
