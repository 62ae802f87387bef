//! In which order the addresses of a server are tried (RFC 8305). Pure: the caller passes the time.
//!
//! The families of a name are alternatives: the one that worked last comes first, and its addresses take turns. An
//! address that failed is not tried first again for [`RETRY_FAILED_AFTER`], unless all of them failed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How many addresses are tried per attempt.
pub(crate) const MAX_ADDRESSES: usize = 4;
/// When the next address is tried while the previous one has not connected (RFC 8305, Connection Attempt Delay).
pub(crate) const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How long a failed address is not tried first.
const RETRY_FAILED_AFTER: Duration = Duration::from_secs(10);

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv6.
    V6,
    /// IPv4.
    V4,
}

impl Family {
    /// The family of an address.
    pub(crate) const fn of(address: &SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        }
    }
}

/// What is known about one address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressView {
    /// The address.
    pub address: SocketAddr,
    /// When it failed last, if it has not connected since.
    pub failed_at: Option<Instant>,
    /// Whether ejection and health checks allow a request.
    pub available: bool,
}

/// The indices of the addresses to try, at most [`MAX_ADDRESSES`].
///
/// First an address of the preferred family, chosen by `turn`; then the families alternate. Failed addresses come last.
pub(crate) fn order(
    addresses: &[AddressView],
    preferred: Family,
    turn: usize,
    now: Instant,
) -> [Option<usize>; MAX_ADDRESSES] {
    let failed = |view: &AddressView| {
        view.failed_at.is_some_and(|at| now.saturating_duration_since(at) < RETRY_FAILED_AFTER)
    };
    let mut order = [None; MAX_ADDRESSES];
    let mut filled = 0;
    for want_failed in [false, true] {
        let family = |wanted: bool| {
            let members = addresses.iter().enumerate().filter(move |(_, view)| {
                view.available
                    && failed(view) == want_failed
                    && (Family::of(&view.address) == preferred) == wanted
            });
            let count = members.clone().count();
            // Start at this turn's address and continue in a circle.
            let skip = turn.checked_rem(count).unwrap_or(0);
            let circle = members.clone().skip(skip).chain(members.take(skip));
            circle.map(|(index, _)| index)
        };
        let (mut first, mut second) = (family(true), family(false));
        loop {
            let (one, other) = (first.next(), second.next());
            if one.is_none() && other.is_none() {
                break;
            }
            for index in [one, other].into_iter().flatten() {
                if let Some(place) = order.get_mut(filled) {
                    *place = Some(index);
                    filled += 1;
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn view(address: &str, failed_at: Option<Instant>) -> AddressView {
        AddressView { address: address.parse().unwrap(), failed_at, available: true }
    }

    fn indices(order: [Option<usize>; MAX_ADDRESSES]) -> Vec<usize> {
        order.into_iter().flatten().collect()
    }

    #[test]
    fn families_alternate_and_addresses_of_one_take_turns() {
        let now = Instant::now();
        let views = ["[::1]:1", "[::2]:1", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"];
        let views: Vec<AddressView> = views.iter().map(|address| view(address, None)).collect();
        let at = |family, turn| indices(order(&views, family, turn, now));
        assert_eq!(at(Family::V6, 0), [0, 2, 1, 3]);
        assert_eq!(at(Family::V6, 1), [1, 3, 0, 4]);
        assert_eq!(at(Family::V4, 2), [4, 0, 2, 1]);
    }

    #[test]
    fn failed_address_is_not_first_for_ten_seconds() {
        let failed_at = Instant::now();
        let views = [view("[::1]:1", Some(failed_at)), view("127.0.0.1:1", None)];
        let at = |seconds| indices(order(&views, Family::V6, 0, failed_at + Duration::from_secs(seconds)));
        assert_eq!(at(0), [1, 0]);
        assert_eq!(at(9), [1, 0]);
        assert_eq!(at(10), [0, 1]);
        let all_failed = [view("10.0.0.1:1", Some(failed_at)), view("10.0.0.2:1", Some(failed_at))];
        assert_eq!(indices(order(&all_failed, Family::V6, 1, failed_at)), [1, 0]);
    }

    /// Addresses of either family, failed or not, available or not.
    fn views() -> impl Strategy<Value = Vec<(bool, Option<u64>, bool)>> {
        prop::collection::vec((any::<bool>(), prop::option::of(0_u64..20), prop::bool::weighted(0.8)), 0..10)
    }

    proptest! {
        #[test]
        fn order_has_each_available_address_once_with_failed_ones_last(
            views in views(), turn in any::<usize>(), prefer_v6 in any::<bool>(),
        ) {
            let now = Instant::now() + Duration::from_secs(30);
            let build = |(index, (v6, age, available)): (usize, (bool, Option<u64>, bool))| {
                let address = if v6 { format!("[::{index:x}]:1") } else { format!("10.0.0.{index}:1") };
                let failed_at = age.map(|age| now - Duration::from_secs(age));
                AddressView { address: address.parse().unwrap(), failed_at, available }
            };
            let views: Vec<AddressView> = views.into_iter().enumerate().map(build).collect();
            let preferred = if prefer_v6 { Family::V6 } else { Family::V4 };
            let order = indices(order(&views, preferred, turn, now));
            let available = views.iter().filter(|view| view.available).count();
            prop_assert_eq!(order.len(), available.min(MAX_ADDRESSES));
            let unique: std::collections::HashSet<_> = order.iter().collect();
            prop_assert_eq!(unique.len(), order.len());
            let failed: Vec<bool> = order
                .iter()
                .map(|index| views[*index].failed_at.is_some_and(|at| now - at < Duration::from_secs(10)))
                .collect();
            prop_assert!(failed.is_sorted(), "{failed:?}");
        }
    }

    /// 10^6 attempts on virtual time: the addresses of the preferred family get equal shares.
    #[test]
    fn simulation_of_turns_is_fair() {
        let now = Instant::now();
        let views = ["10.0.0.1:1", "[::1]:1", "10.0.0.2:1", "10.0.0.3:1"].map(|address| view(address, None));
        let mut counts = [0_u32; 4];
        for turn in 0..1_000_000 {
            counts[order(&views, Family::V4, turn, now)[0].unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!([counts[0], counts[2], counts[3]].iter().all(|count| count.abs_diff(333_333) <= 1));
    }
}
