//! Implements [`KeySource`] for a request: the values that rate-limit keys are built from.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;

use crate::http::selectors::{self, AmbiguousMember};
use crate::http::{authority, path};
use crate::limit::KeySource;
use crate::proxy::message::request::Request;
use crate::snapshot::Route;
use crate::snapshot::rate_limits::RateLimitRule;

/// A request, and what its rate-limit keys depend on.
#[derive(Clone, Copy)]
pub(super) struct RequestKeySource<'a> {
    pub request: &'a Request,
    /// `None` for peers of Unix sockets.
    pub client_ip: Option<IpAddr>,
    pub ipv6_prefix: u8,
    pub route: &'a Route,
    /// The body.
    pub body: KeyBody<'a>,
}

/// The request body, as far as keys can use it.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyBody<'a> {
    /// No JSON body, or no rule of the route needs it.
    Absent,
    /// A complete JSON body; it may be invalid.
    Json(&'a [u8]),
    /// A JSON body that was not buffered, and why.
    Unreadable(&'static str),
}

impl KeyBody<'_> {
    /// Why the value of a member is not certain; `None` if it is certain that the member has this value, or is missing.
    fn unreadable(&self, name: &str) -> Option<&'static str> {
        match self {
            KeyBody::Absent => None,
            KeyBody::Unreadable(reason) => Some(reason),
            KeyBody::Json(body) => match selectors::json_member(body, name) {
                Ok(_) => None,
                Err(AmbiguousMember::Repeated) => Some("the JSON body has the member twice"),
                Err(AmbiguousMember::InvalidJson) => Some("the body is not valid JSON"),
            },
        }
    }
}

impl RequestKeySource<'_> {
    /// The first rule that rejects the request because its body cannot be read, and why.
    pub(super) fn unreadable_body(&self) -> Option<(&Arc<RateLimitRule>, &'static str)> {
        let rules = self.route.rate_limits.iter();
        let mut rules = rules.filter(|rule| rule.limiter.rejects_unreadable() && !rule.limiter.exempts(self));
        rules.find_map(|rule| {
            let reason = rule.limiter.body_members().find_map(|name| self.body.unreadable(name))?;
            Some((rule, reason))
        })
    }
}

impl KeySource for RequestKeySource<'_> {
    fn client_ip(&self) -> Option<IpAddr> {
        self.client_ip
    }

    fn ipv6_prefix(&self) -> u8 {
        self.ipv6_prefix
    }

    fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        let name = name.as_str().as_bytes();
        let mut values =
            self.request.fields.iter().filter(|(field_name, _)| field_name.eq_ignore_ascii_case(name));
        let (_, value) = values.next()?;
        // If the field is repeated, it is unknown which value the upstream uses.
        values.next().is_none().then_some(value)
    }

    fn host(&self) -> Option<Cow<'_, str>> {
        let authority = &self.request.authority;
        (!authority.is_empty()).then(|| authority::routing_host(authority))
    }

    fn method(&self) -> &str {
        self.request.method.as_str()
    }

    fn route(&self) -> &str {
        &self.route.config.name
    }

    fn path(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let normalised = path::normalise(self.request.path());
        let value = selectors::path_parameter(&self.route.config.path, &normalised, name)?;
        // The value may borrow from the normalised path, which is local.
        Some(Cow::Owned(value.into_owned()))
    }

    fn cookie(&self, name: &str) -> Option<&[u8]> {
        selectors::cookie_value(self.request.fields.values("cookie"), name)
    }

    fn query(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        selectors::query_parameter(self.request.query(), name)
    }

    fn body(&self, name: &str) -> Option<String> {
        match self.body {
            KeyBody::Json(body) => selectors::json_member(body, name).ok()?,
            KeyBody::Absent | KeyBody::Unreadable(_) => None,
        }
    }
}
