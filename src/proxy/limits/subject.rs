//! Implements [`KeySource`] for a request: the values that rate-limit keys are built from.

use std::borrow::Cow;
use std::net::IpAddr;

use http::HeaderName;

use crate::http::{authority, path, selectors};
use crate::limit::KeySource;
use crate::proxy::message::request::Request;
use crate::snapshot::Route;

/// The subject of the rate limits: a request, and what its keys depend on.
#[derive(Clone, Copy)]
pub(super) struct RequestSubject<'a> {
    pub request: &'a Request,
    pub client_ip: IpAddr,
    pub ipv6_prefix: u8,
    pub route: &'a Route,
    /// The complete body, if it was buffered.
    pub body: Option<&'a [u8]>,
}

impl KeySource for RequestSubject<'_> {
    fn client_ip(&self) -> IpAddr {
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
        selectors::json_member(self.body?, name)
    }
}
