//! Percentiles of times.

use std::time::Duration;

/// The least of the sorted times that so many per cent do not exceed (nearest rank); zero of none.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let hundred: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        for (percent, expected) in [(0, 1), (1, 1), (50, 50), (99, 99), (100, 100)] {
            let expected = Duration::from_millis(expected);
            assert_eq!(percentile(&hundred, percent), expected);
        }
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
