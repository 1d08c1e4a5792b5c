//! All hosts, a limited number at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use xtask::error::{Context, Result};

use super::dialect::Dialect;
use super::host::{self, Enrolled, Site};
use super::percentile::percentile;
use super::{KILLED_PERCENT, Options};

/// The expected time of a host, before one has ended.
const GUESS: Duration = Duration::from_millis(20);
/// The number of last hosts whose median is the expected time of the next.
const RECENT: usize = 50;

/// The hosts that are to enrol.
pub(crate) struct Hosts<D> {
    site: Arc<Site<D>>,
    at_once: usize,
    count: usize,
    kills: Kills,
}

/// All hosts, after their runs.
pub(crate) struct Ended {
    pub(crate) enrolled: Vec<Enrolled>,
    pub(crate) failed: Vec<String>,
    /// The number of hosts that were to be killed.
    pub(crate) chosen: usize,
    pub(crate) time: Duration,
}

impl<D: Dialect> Hosts<D> {
    pub(crate) fn new(site: Arc<Site<D>>, options: &Options) -> Self {
        Self {
            site,
            at_once: options.at_once as usize,
            count: options.hosts(),
            kills: Kills::new(options.hosts(), options.seed.into()),
        }
    }

    /// Enrols them all. A host that fails ends no other.
    pub(crate) async fn enrol(mut self) -> Result<Ended> {
        let start = Instant::now();
        let mut ended = Ended {
            enrolled: Vec::with_capacity(self.count),
            failed: Vec::new(),
            chosen: self.kills.chosen.len(),
            time: Duration::ZERO,
        };
        let mut numbers = 0..self.count;
        let mut running = JoinSet::new();
        loop {
            while running.len() < self.at_once
                && let Some(number) = numbers.next()
            {
                let part = self.kills.of(number);
                let moment = part.map(|part| typical(&ended.enrolled).mul_f64(part));
                let site = Arc::clone(&self.site);
                running.spawn(async move {
                    let host = host::enrol(&site, number, moment).await;
                    (host, moment.is_some())
                });
            }
            let Some(done) = running.join_next().await else {
                break;
            };
            let (host, was_to_die) = done.context(|| "a host's task".to_owned())?;
            match host {
                Ok(host) => {
                    if was_to_die && !host.killed {
                        self.kills.put_off();
                    }
                    ended.enrolled.push(host);
                }
                Err(cause) => ended.failed.push(cause.to_string()),
            }
            ended.print_progress(self.count);
        }
        ended.time = start.elapsed();
        Ok(ended)
    }
}

impl Ended {
    /// Prints a line for each tenth of the hosts.
    fn print_progress(&self, count: usize) {
        let done = self.enrolled.len() + self.failed.len();
        if done.is_multiple_of(count.div_ceil(10)) {
            eprintln!("{done} of {count} hosts, {} failed", self.failed.len());
        }
    }
}

/// The hosts that are killed, and the part of a host's time at which each is killed. The seed chooses; a host that
/// was too quick to be killed hands that on to one that starts after it.
struct Kills {
    chosen: BTreeSet<usize>,
    put_off: usize,
    random: fastrand::Rng,
}

impl Kills {
    fn new(hosts: usize, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut numbers: Vec<_> = (0..hosts).collect();
        random.shuffle(&mut numbers);
        numbers.truncate((hosts * KILLED_PERCENT).div_ceil(100));
        Self {
            chosen: numbers.into_iter().collect(),
            put_off: 0,
            random,
        }
    }

    fn of(&mut self, number: usize) -> Option<f64> {
        if !self.chosen.contains(&number) {
            self.put_off = self.put_off.checked_sub(1)?;
        }
        Some(self.random.f64())
    }

    fn put_off(&mut self) {
        self.put_off += 1;
    }
}

/// The median of the last hosts' times.
fn typical(enrolled: &[Enrolled]) -> Duration {
    let last = &enrolled[enrolled.len().saturating_sub(RECENT)..];
    let mut times: Vec<_> = last.iter().map(|host| host.took).collect();
    times.sort_unstable();
    if times.is_empty() {
        GUESS
    } else {
        percentile(&times, 50)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_chooses_one_in_a_hundred() {
        for (hosts, chosen) in [(1, 1), (100, 1), (101, 2), (10_000, 100)] {
            assert_eq!(Kills::new(hosts, 1).chosen.len(), chosen);
        }
        let moments = |seed| -> Vec<_> {
            let mut kills = Kills::new(10_000, seed);
            (0..10_000).map(|number| kills.of(number)).collect()
        };
        assert_eq!(moments(1).iter().flatten().count(), 100);
        assert_eq!(moments(1), moments(1));
        assert_ne!(moments(1), moments(2));
    }

    #[test]
    fn who_was_too_quick_hands_it_on() {
        let mut kills = Kills::new(100, 1);
        let other = (0..100)
            .find(|number| !kills.chosen.contains(number))
            .unwrap();
        assert_eq!(kills.of(other), None);
        kills.put_off();
        assert!(kills.of(other).is_some());
        assert_eq!(kills.of(other), None);
    }
}
