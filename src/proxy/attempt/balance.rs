//! What the balancer needs to know about a request: its hash.

use std::borrow::Cow;

use crate::http::selectors;
use crate::proxy::context::{Forwarding, RequestContext};
use crate::upstream::runtime::hash_of;
use crate::upstream::settings::{Balance, HashKey};

/// The hash of the request for `balance: { hash: .. }`. A request without the field or cookie is sent by client
/// address.
pub(super) fn request_hash(context: &RequestContext<'_>, forwarding: &Forwarding<'_>) -> u64 {
    let fields = &forwarding.request.fields;
    let value = match &forwarding.route.upstream.settings().balance {
        Balance::RoundRobin | Balance::Random | Balance::LeastBusy => return 0,
        Balance::Hash(HashKey::ClientIp) => None,
        Balance::Hash(HashKey::Header(name)) => fields.values(name).next().map(Cow::Borrowed),
        Balance::Hash(HashKey::Cookie(name)) => {
            selectors::cookie_value(fields.values("cookie"), name).map(Cow::Borrowed)
        }
    };
    match value {
        Some(value) => hash_of(value),
        None => hash_of(context.client_address.to_string()),
    }
}
