//! Chooses among the servers of an upstream, or the addresses of a server (`upstreams.NAME.balance`). Pure: the caller
//! keeps the position and passes random numbers.
//!
//! Every function skips what is not available; the rest keeps its shares.

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

    /// The first available server from this turn on, and how many turns were skipped. A caller that skips these turns
    /// for good keeps the shares of the available servers.
    pub(crate) fn available(&self, turn: usize, available: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
        (0..self.sequence.len()).find_map(|skipped| {
            let server = self.server(turn.wrapping_add(skipped))?;
            available(server).then_some((server, skipped))
        })
    }
}

/// Chooses one of the available servers at random, by weight.
pub(crate) fn random(weights: &[u32], random: u64, available: impl Fn(usize) -> bool) -> Option<usize> {
    let usable = || weights.iter().enumerate().filter(|(index, _)| available(*index));
    let total: u64 = usable().map(|(_, weight)| u64::from(*weight).max(1)).sum();
    let mut point = scale(random, total);
    // A server that has become available meanwhile may end the walk early; one that is gone leaves the last.
    let mut last = None;
    for (index, weight) in usable() {
        last = Some(index);
        match point.checked_sub(u64::from(*weight).max(1)) {
            Some(rest) => point = rest,
            None => break,
        }
    }
    last
}

/// Chooses two available servers at random and returns the one with fewer requests in flight per weight: the power of
/// two choices (Mitzenmacher). At equal load, the first choice is taken, so that weights count at low load too.
pub(crate) fn least_busy(
    weights: &[u32],
    seed: u64,
    available: impl Fn(usize) -> bool,
    in_flight: impl Fn(usize) -> u32,
) -> Option<usize> {
    let first = random(weights, seed, &available)?;
    let Some(second) = random(weights, mix(seed), |index| index != first && available(index)) else {
        return Some(first);
    };
    let weight = |index: usize| u64::from(weights.get(index).copied().unwrap_or(1)).max(1);
    let load_of_first = u64::from(in_flight(first)) * weight(second);
    let load_of_second = u64::from(in_flight(second)) * weight(first);
    Some(if load_of_second < load_of_first { second } else { first })
}

/// Chooses by a hash of the request: weighted rendezvous hashing (highest random weight). `id` identifies a server
/// independently of its position. When a server is added or unavailable, only its own share of the keys moves.
pub(crate) fn by_hash(
    weights: &[u32],
    key: u64,
    id: impl Fn(usize) -> u64,
    available: impl Fn(usize) -> bool,
) -> Option<usize> {
    let score = |index: usize, weight: u32| {
        // A number in (0, 1). Exponentially distributed scores with the weight as the rate are won in proportion to it.
        let point = (mix(key ^ mix(id(index))) >> 11) as f64 + 0.5;
        -(point / (1_u64 << 53) as f64).ln() / f64::from(weight.max(1))
    };
    let usable = weights.iter().enumerate().filter(|(index, _)| available(*index));
    let scored = usable.map(|(index, weight)| (index, score(index, *weight)));
    scored.min_by(|(_, left), (_, right)| left.total_cmp(right)).map(|(index, _)| index)
}

/// Distributes the bits of a counter or hash evenly (the finalizer of SplitMix64).
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Maps a random number to `0..below`.
fn scale(random: u64, below: u64) -> u64 {
    let product = u128::from(random) * u128::from(below);
    u64::try_from(product >> 64).unwrap_or(0)
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
#[path = "balance_tests.rs"]
mod tests;
