//! All hosts, so many at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::host::{self, Enrolled, Site};
use super::system::System;
use super::{KILLED_PERCENT, Options};
use crate::bench::cpu::{Cpu, Used};
use crate::bench::grouped;
use crate::bench::latency::Latencies;
use crate::bench::progress::Progress;
use crate::error::{Context, Result, Stop};

/// What a host is thought to take, before one has shown it.
const GUESS: Duration = Duration::from_millis(20);
/// So many of the last hosts tell what one takes.
const RECENT: usize = 50;

/// The hosts that are to enrol.
pub(super) struct Fleet<S> {
    site: Arc<Site<S>>,
    at_once: usize,
    hosts: usize,
    kills: Kills,
}

/// What came of them.
pub(super) struct Ended {
    pub(super) enrolled: Vec<Enrolled>,
    pub(super) failed: Vec<String>,
    pub(super) victims: usize,
    /// From the first start to the last one: after that, the fleet thins out.
    pub(super) full: Used,
    /// To the end of the last host.
    pub(super) whole: Used,
}

impl<S: System> Fleet<S> {
    pub(super) fn new(site: Arc<Site<S>>, options: &Options) -> Self {
        Self {
            site,
            at_once: options.at_once as usize,
            hosts: options.hosts(),
            kills: Kills::new(options.hosts(), options.seed.into()),
        }
    }

    /// Enrols them all, with the hub in the process `hub`. That a host fails ends no other.
    pub(super) async fn enrol(mut self, hub: u32) -> Result<Ended> {
        let (before, start) = (Cpu::now(hub)?, Instant::now());
        let used = || Ok::<_, Stop>(before.until(Cpu::now(hub)?, start.elapsed()));
        let all = self.hosts;
        let mut ended = Ended {
            enrolled: Vec::with_capacity(all),
            failed: Vec::new(),
            victims: self.kills.wanted(),
            full: used()?,
            whole: used()?,
        };
        let mut progress = Progress::new();
        let mut left = 0..all;
        let mut running = JoinSet::new();
        loop {
            while running.len() < self.at_once
                && let Some(number) = left.next()
            {
                let part = self.kills.of(number);
                let moment = part.map(|part| typical(&ended.enrolled).mul_f64(part));
                let site = Arc::clone(&self.site);
                if number + 1 == all {
                    ended.full = used()?;
                }
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
            progress.update(|| told(&ended, all, start.elapsed()));
        }
        ended.whole = used()?;
        progress.end();
        Ok(ended)
    }
}

/// Who is killed, and at which part of the time that a host takes. The seed chooses; a host that
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

    fn wanted(&self) -> usize {
        self.chosen.len()
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
    match last.len() {
        0 => GUESS,
        _ => Latencies::of(last.iter().map(|host| host.took).collect()).percentile(50),
    }
}

fn told(ended: &Ended, all: usize, elapsed: Duration) -> String {
    let done = ended.enrolled.len() + ended.failed.len();
    let killed = ended.enrolled.iter().filter(|host| host.killed).count();
    let left = elapsed.as_secs() * (all - done) as u64 / done.max(1) as u64;
    format!(
        "{} of {} hosts, {killed} killed, {} failed, about {left} s left",
        grouped(done),
        grouped(all),
        ended.failed.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_chooses_one_in_a_hundred() {
        for (hosts, victims) in [(1, 1), (100, 1), (101, 2), (10_000, 100)] {
            assert_eq!(Kills::new(hosts, 1).wanted(), victims);
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
