//! Weighted round robin, as a precomputed sequence of server indices. Pure: the caller keeps the position.

/// One round: each server appears as often as its weight, spread as evenly as possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoundRobin {
    sequence: Box<[usize]>,
}

/// Approximate maximum length of the sequence; larger weights are scaled down.
const MAX_SEQUENCE: u64 = 4096;

impl RoundRobin {
    /// Builds the sequence from the weights of the servers. A weight of 0 counts as 1.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let weights: Vec<u64> = scaled_weights(weights);
        let total: u64 = weights.iter().sum();
        let total_signed = i64::try_from(total).unwrap_or(i64::MAX);
        // Smooth weighted round robin, as in nginx: in each turn every server's credit grows by its weight; the server
        // with the most credit is chosen and its credit drops by the total.
        let mut credit = vec![0_i64; weights.len()];
        let mut sequence = Vec::new();
        for _ in 0..total {
            let mut best: Option<(usize, i64)> = None;
            for (index, (credit, weight)) in credit.iter_mut().zip(&weights).enumerate() {
                *credit = credit.saturating_add(i64::try_from(*weight).unwrap_or(i64::MAX));
                if best.is_none_or(|(_, max_credit)| *credit > max_credit) {
                    best = Some((index, *credit));
                }
            }
            let Some((index, _)) = best else { break };
            if let Some(credit) = credit.get_mut(index) {
                *credit = credit.saturating_sub(total_signed);
            }
            sequence.push(index);
        }
        RoundRobin { sequence: sequence.into_boxed_slice() }
    }

    /// The server index for the given turn; `None` without servers.
    pub(crate) fn server(&self, turn: usize) -> Option<usize> {
        let turn = turn.checked_rem(self.sequence.len())?;
        self.sequence.get(turn).copied()
    }
}

fn scaled_weights(weights: &[u32]) -> Vec<u64> {
    let weights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight).max(1)).collect();
    let divisor = weights.iter().copied().reduce(gcd).unwrap_or(1).max(1);
    let total: u64 = weights.iter().map(|weight| weight / divisor).sum();
    let shrink = total.div_ceil(MAX_SEQUENCE).max(1);
    weights.iter().map(|weight| (weight / divisor / shrink).max(1)).collect()
}

fn gcd(left: u64, right: u64) -> u64 {
    if right == 0 { left } else { gcd(right, left % right) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(weights: &[u32], turns: usize) -> Vec<usize> {
        let order = RoundRobin::new(weights);
        (0..turns).filter_map(|turn| order.server(turn)).collect()
    }

    #[test]
    fn equal_servers_alternate() {
        assert_eq!(round(&[1, 1, 1], 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(round(&[5, 5], 3), [0, 1, 0]);
    }

    #[test]
    fn heavier_server_is_chosen_more_often_but_interleaved() {
        assert_eq!(round(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(round(&[1, 2], 6), [1, 0, 1, 1, 0, 1]);
    }

    #[test]
    fn huge_weights_keep_the_sequence_short() {
        let order = RoundRobin::new(&[u32::MAX, 1, 0]);
        assert!(order.sequence.len() <= 4098);
        assert!(order.sequence.contains(&1) && order.sequence.contains(&2));
        assert_eq!(RoundRobin::new(&[]).server(3), None);
    }
}
