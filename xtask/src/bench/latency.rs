//! Many durations as percentiles and as a histogram.

use std::fmt;
use std::time::Duration;

/// Longest bar of a histogram, in characters.
const BAR: usize = 40;
const NANOS_PER_SEC: u128 = 1_000_000_000;

/// Durations, sorted.
pub(crate) struct Latencies(Vec<Duration>);

/// So many took longer than the bucket before says, and at most `most`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) most: Duration,
    pub(crate) count: usize,
}

impl Latencies {
    pub(crate) fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The least duration that so many per cent do not exceed (nearest rank); zero of none.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// The one line of numbers.
    pub(crate) fn summary(&self) -> String {
        [50, 90, 99, 100]
            .map(|percent| format!("{:>10}", shown(self.percentile(percent))))
            .concat()
    }

    /// Buckets that end at 1, 2 and 5 of each decade, from the first that holds one to the last.
    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        let mut buckets = Vec::new();
        let mut left = self.0.as_slice();
        for most in edges() {
            if left.is_empty() {
                break;
            }
            let count = left.partition_point(|duration| *duration <= most);
            left = &left[count..];
            if count > 0 || !buckets.is_empty() {
                buckets.push(Bucket { most, count });
            }
        }
        buckets
    }
}

/// 1 µs, 2 µs, 5 µs, 10 µs and so on, up to more than a day.
fn edges() -> impl Iterator<Item = Duration> {
    (0..12).flat_map(|power| [1, 2, 5].map(|step| Duration::from_micros(step * 10_u64.pow(power))))
}

/// As a histogram.
impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buckets = self.buckets();
        let highest = buckets.iter().map(|bucket| bucket.count).max();
        for Bucket { most, count } in &buckets {
            // What is there is seen, however little it is.
            let bar = (count * BAR).div_ceil(highest.unwrap_or(1).max(1));
            let label = format!("≤ {}", shown(*most));
            writeln!(f, "  {label:>10}  {:BAR$}  {count}", "█".repeat(bar))?;
        }
        Ok(())
    }
}

/// A duration in three digits: `1.80 ms`, `45.2 ms`, `310 ms`.
pub(crate) fn shown(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, size) = match nanos {
        0..1_000_000 => ("µs", 1_000),
        1_000_000..NANOS_PER_SEC => ("ms", 1_000_000),
        _ => ("s", NANOS_PER_SEC),
    };
    let hundredths = nanos * 100 / size;
    match hundredths {
        0..1_000 if hundredths.is_multiple_of(100) => format!("{} {unit}", hundredths / 100),
        0..1_000 => format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100),
        1_000..10_000 if !hundredths.is_multiple_of(100) => {
            format!("{}.{} {unit}", hundredths / 100, hundredths % 100 / 10)
        }
        _ => format!("{} {unit}", hundredths / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(all: impl IntoIterator<Item = u64>) -> Latencies {
        Latencies::of(all.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let hundred = millis((1..=100).rev());
        for (percent, expected) in [(0, 1), (1, 1), (50, 50), (90, 90), (99, 99), (100, 100)] {
            assert_eq!(hundred.percentile(percent), Duration::from_millis(expected));
        }
        assert_eq!(millis([7]).percentile(99), Duration::from_millis(7));
        assert_eq!(millis([1, 2, 3]).percentile(50), Duration::from_millis(2));
        assert_eq!(millis([]).percentile(50), Duration::ZERO);
    }

    #[test]
    fn buckets_hold_each_duration_once() {
        let found = millis([3, 4, 5, 6, 30, 200]).buckets();
        let found: Vec<_> = found
            .iter()
            .map(|bucket| (bucket.most.as_millis(), bucket.count))
            .collect();
        assert_eq!(
            found,
            [(5, 3), (10, 1), (20, 0), (50, 1), (100, 0), (200, 1)]
        );
        assert_eq!(millis([]).buckets(), []);
        assert_eq!(
            millis(0..1000)
                .buckets()
                .iter()
                .map(|b| b.count)
                .sum::<usize>(),
            1000
        );
    }

    #[test]
    fn the_fullest_bucket_has_the_longest_bar() {
        let text = millis([1; 80].into_iter().chain([2; 20]).chain([5])).to_string();
        let bars: Vec<_> = text.lines().map(|line| line.matches('█').count()).collect();
        assert_eq!(bars, [40, 10, 1]);
        assert!(text.starts_with("      ≤ 1 ms"), "{text}");
    }

    #[test]
    fn durations_have_three_digits() {
        for (nanos, text) in [
            (0, "0 µs"),
            (1_500, "1.50 µs"),
            (1_804_000, "1.80 ms"),
            (45_210_000, "45.2 ms"),
            (310_900_000, "310 ms"),
            (50_000_000, "50 ms"),
            (2_000_000_000, "2 s"),
            (61_000_000_000, "61 s"),
        ] {
            assert_eq!(shown(Duration::from_nanos(nanos)), text);
        }
    }
}
