//! From a status to the value of its label: the statuses that mean something by themselves, the rest in three groups.
//!
//! A label must not grow with what an upstream invents, so only the statuses listed here and the codes of the contract
//! are spelled out. It does not know what a status means; [`crate::contract::policy`] does.

/// Statuses labelled as they are: IANA's registry of HTTP status codes, then those that policy maps by number
/// although nobody registered them.
pub const LABELLED: &[u16] = &[
    100, 101, 102, 103, 104, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305,
    307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421,
    422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 506, 507, 508, 509, 510,
    511, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530, 598, 599,
];

/// Any other status of 400 to 499.
pub const OTHER_4XX: &str = "other_4xx";
/// Any other status of 500 to 599.
pub const OTHER_5XX: &str = "other_5xx";
/// Anything else.
pub const OTHER: &str = "other";

/// The label values of one contract, and a table that finds them by status without hashing.
#[derive(Debug)]
pub(crate) struct StatusLabels {
    names: Vec<Box<str>>,
    places: Box<[u8]>,
}

impl StatusLabels {
    /// The labels of a contract with these documented error codes.
    pub(crate) fn new(documented: impl Iterator<Item = u16>) -> Self {
        let mut spelled: Vec<u16> =
            LABELLED.iter().copied().chain(documented).filter(|&status| status < END).collect();
        spelled.sort_unstable();
        spelled.dedup();

        let mut names: Vec<Box<str>> = [OTHER, OTHER_4XX, OTHER_5XX].map(Box::from).to_vec();
        let mut places: Box<[u8]> = (0..END).map(unlisted).collect();
        for status in spelled {
            // Fits: 3 groups, about 25 registered statuses below 400, and at most 200 from 400 to 599.
            let place = u8::try_from(names.len()).unwrap_or(0);
            if let Some(entry) = places.get_mut(usize::from(status)) {
                *entry = place;
                names.push(status.to_string().into());
            }
        }
        StatusLabels { names, places }
    }

    /// How many label values there are; every [`StatusLabels::place`] is below it.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The dense number of the label of this status.
    pub(crate) fn place(&self, status: u16) -> usize {
        usize::from(self.places.get(usize::from(status)).copied().unwrap_or(PLACE_OTHER))
    }

    /// The label of this status.
    pub(crate) fn label(&self, status: u16) -> &str {
        self.names.get(self.place(status)).map_or(OTHER, |name| name)
    }
}

/// First number that is no HTTP status.
const END: u16 = 600;
const PLACE_OTHER: u8 = 0;
const PLACE_OTHER_4XX: u8 = 1;
const PLACE_OTHER_5XX: u8 = 2;

const fn unlisted(status: u16) -> u8 {
    match status {
        400..=499 => PLACE_OTHER_4XX,
        500..=599 => PLACE_OTHER_5XX,
        _ => PLACE_OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_statuses_are_spelled_out_and_the_rest_fall_into_three_groups() {
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
    fn a_code_of_the_contract_that_nobody_registered_is_spelled_out_too() {
        let labels = StatusLabels::new([444, 555].into_iter());
        assert_eq!(labels.label(444), "444");
        assert_eq!(labels.label(555), "555");
        assert_eq!(labels.label(445), OTHER_4XX);
    }

    #[test]
    fn a_contract_of_all_codes_still_fits() {
        let labels = StatusLabels::new(400..600);
        for status in 400..600 {
            assert_eq!(labels.label(status), status.to_string());
            assert!(labels.place(status) < labels.len());
        }
    }

    #[test]
    fn the_list_is_sorted_and_has_no_duplicates() {
        assert!(LABELLED.is_sorted_by(|a, b| a < b));
    }
}
