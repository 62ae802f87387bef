//! Label values of status codes: known ones have their own value, the others share three groups.
//!
//! Upstreams must not be able to create label values, so only the status codes listed here and the codes of the
//! contract have their own value.

use std::sync::Arc;

use crate::contract::Contract;

/// Status codes with their own label value: the IANA registry of HTTP status codes, and unregistered ones that
/// [`crate::contract::policy`] maps by number.
pub(crate) const LABELLED_STATUSES: &[u16] = &[
    100, 101, 102, 103, 104, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305,
    307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421,
    422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 506, 507, 508, 509, 510,
    511, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530, 598, 599,
];

/// Label value of other status codes from 400 to 499.
pub(crate) const OTHER_4XX: &str = "other_4xx";
/// Label value of other status codes from 500 to 599.
pub(crate) const OTHER_5XX: &str = "other_5xx";
/// Label value of all other status codes.
pub(crate) const OTHER: &str = "other";

/// The labels that a contract determines: which codes are exported from the start, and which status codes have their
/// own label value. A reload may change the contract; series counted under the old one remain.
#[derive(Debug)]
pub(crate) struct CodeLabels {
    pub(crate) documented: Vec<u16>,
    pub(crate) statuses: StatusLabels,
}

impl CodeLabels {
    /// The labels for the codes of `contract`.
    pub(crate) fn for_contract(contract: &Contract) -> Arc<Self> {
        CodeLabels::for_contracts([contract])
    }

    /// The labels for the codes of all these contracts.
    pub(crate) fn for_contracts<'a>(contracts: impl IntoIterator<Item = &'a Contract>) -> Arc<Self> {
        let entries = contracts.into_iter().flat_map(Contract::codes);
        let mut documented: Vec<u16> = entries.map(|entry| entry.code().status()).collect();
        documented.sort_unstable();
        documented.dedup();
        Arc::new(CodeLabels { statuses: StatusLabels::new(documented.iter().copied()), documented })
    }
}

/// The label values for one contract, indexed by status code.
#[derive(Debug)]
pub(crate) struct StatusLabels {
    names: Vec<Box<str>>,
    indices: Box<[u8]>,
}

impl StatusLabels {
    /// The labels of a contract with these documented error codes.
    pub(crate) fn new(documented: impl Iterator<Item = u16>) -> Self {
        let mut labelled: Vec<u16> = LABELLED_STATUSES
            .iter()
            .copied()
            .chain(documented)
            .filter(|&status| status < FIRST_INVALID_STATUS)
            .collect();
        labelled.sort_unstable();
        labelled.dedup();

        let mut names: Vec<Box<str>> = GROUPS.map(Box::from).to_vec();
        let mut indices: Box<[u8]> = (0..FIRST_INVALID_STATUS).map(group_index).collect();
        for status in labelled {
            // Fits into u8: 3 groups, about 25 registered status codes below 400, and at most 200 from 400 to 599.
            let index = u8::try_from(names.len()).unwrap_or(0);
            if let Some(entry) = indices.get_mut(usize::from(status)) {
                *entry = index;
                names.push(status.to_string().into());
            }
        }
        StatusLabels { names, indices }
    }

    /// The number of label values; every [`StatusLabels::index`] is less.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The index of the label value for this status code.
    pub(crate) fn index(&self, status: u16) -> usize {
        usize::from(self.indices.get(usize::from(status)).copied().unwrap_or_default())
    }

    /// The label value for this status code.
    pub(crate) fn label(&self, status: u16) -> &str {
        self.names.get(self.index(status)).map_or(OTHER, |name| name)
    }
}

/// The first number above the range of status codes.
const FIRST_INVALID_STATUS: u16 = 600;

/// The labels that several status codes share.
const GROUPS: [&str; 3] = [OTHER, OTHER_4XX, OTHER_5XX];

/// The index in [`GROUPS`].
const fn group_index(status: u16) -> u8 {
    match status {
        400..=499 => 1,
        500..=599 => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_statuses_have_labels_others_are_grouped() {
        let labels = StatusLabels::new([400, 404].into_iter());
        for (status, label) in [
            (101, "101"),
            (200, "200"),
            (418, OTHER_4XX),
            (404, "404"),
            (527, "527"),
            (528, OTHER_5XX),
            (199, OTHER),
            (299, OTHER),
            (0, OTHER),
            (600, OTHER),
            (u16::MAX, OTHER),
        ] {
            assert_eq!(labels.label(status), label, "{status}");
        }
    }

    #[test]
    fn unregistered_contract_codes_have_labels() {
        let labels = StatusLabels::new([444, 555].into_iter());
        assert_eq!(labels.label(444), "444");
        assert_eq!(labels.label(555), "555");
        assert_eq!(labels.label(445), OTHER_4XX);
    }

    #[test]
    fn contract_with_all_codes_fits() {
        let labels = StatusLabels::new(400..600);
        for status in 400..600 {
            assert_eq!(labels.label(status), status.to_string());
            assert!(labels.index(status) < labels.len());
        }
    }

    #[test]
    fn labelled_statuses_are_sorted_and_unique() {
        assert!(LABELLED_STATUSES.is_sorted_by(|a, b| a < b));
    }
}
