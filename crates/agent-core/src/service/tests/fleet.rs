//! Hosts whose hub is only a clock: what a fleet does when the hub goes away and comes back.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::super::health::{Health, SaveReason};
use super::super::heartbeat_loop::{HeartbeatFailure, HeartbeatOutcome, ServiceHost, run};
use super::super::notify::Notify;
use super::super::signals::Signals;
use super::super::timer::WakeTimer;
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};

const INTERVAL: Duration = Duration::from_secs(30);

/// A hub, which is away for a while.
struct Hub {
    start: Instant,
    away: Range<Duration>,
    /// When a heartbeat was tried, whose, and whether it was taken.
    tries: RefCell<Vec<(Duration, usize, bool)>>,
}

struct Simulated {
    number: usize,
    hub: Rc<Hub>,
    health: Health,
}

impl ServiceHost for Simulated {
    async fn heartbeat(&mut self) -> Result<HeartbeatOutcome> {
        let now = self.hub.start.elapsed();
        let is_taken = !self.hub.away.contains(&now);
        self.hub
            .tries
            .borrow_mut()
            .push((now, self.number, is_taken));
        if is_taken {
            return Ok(HeartbeatOutcome::Accepted);
        }
        Ok(HeartbeatOutcome::Missed(HeartbeatFailure {
            error: Error::new(ErrorId::Unreachable, "no connection"),
            retry_after: None,
            is_refusal: false,
        }))
    }

    async fn follow_up(&mut self) {}

    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn health(&mut self) -> &mut Health {
        &mut self.health
    }

    fn save(&mut self, _: SaveReason) {}

    fn is_stale(&self) -> bool {
        false
    }

    fn reload(&mut self) {}

    fn describe(&self) -> String {
        String::new()
    }
}

/// Runs hosts for `time`; returns every try in order.
async fn simulate(
    hosts: usize,
    away: Range<Duration>,
    time: Duration,
) -> Vec<(Duration, usize, bool)> {
    let hub = Rc::new(Hub {
        start: Instant::now(),
        away,
        tries: RefCell::default(),
    });
    let local = LocalSet::new();
    for number in 0..hosts {
        let hub = Rc::clone(&hub);
        local.spawn_local(async move {
            let environment = Environment::real([]).with_seed(number as u64);
            // Hosts boot when they boot.
            sleep(environment.random_up_to(INTERVAL)).await;
            let mut host = Simulated {
                number,
                hub,
                health: Health::default(),
            };
            let (mut signals, mut notify) = (Signals::default(), Notify::default());
            run(
                &mut host,
                &mut signals,
                &mut notify,
                &WakeTimer::default(),
                &environment,
            )
            .await
        });
    }
    local.run_until(sleep(time)).await;
    drop(local);
    hub.tries.take()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

#[tokio::test(start_paused = true)]
async fn after_an_hour_one_heartbeat_goes_out_promptly_and_then_the_rhythm_goes_on() {
    let away = minutes(10)..minutes(70);
    let tries = simulate(1, away.clone(), minutes(90)).await;
    let after: Vec<Duration> = tries
        .iter()
        .filter(|(at, _, is_taken)| *is_taken && *at >= away.end)
        .map(|(at, ..)| *at)
        .collect();
    assert!(
        after[0].saturating_sub(away.end) <= INTERVAL * 2,
        "{:?}",
        after[0]
    );
    for pair in after.windows(2) {
        let pause = pair[1].saturating_sub(pair[0]).as_secs_f64();
        assert!((28.0..=32.0).contains(&pause), "{pause}");
    }
    let during = tries.iter().filter(|(at, ..)| away.contains(at)).count();
    // About one in an interval: a few quick ones, and then one in half of two intervals.
    assert!((90..=160).contains(&during), "{during} tries in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_hosts_come_back_spread_over_two_intervals() {
    const HOSTS: usize = 1000;
    let away = minutes(10)..minutes(70);
    let tries = simulate(HOSTS, away.clone(), minutes(72)).await;
    let mut first: Vec<Option<Duration>> = vec![None; HOSTS];
    for (at, host, is_taken) in &tries {
        if *is_taken && *at >= away.end {
            first[*host].get_or_insert(at.saturating_sub(away.end));
        }
    }
    let first: Vec<Duration> = first
        .into_iter()
        .map(|at| at.expect("a host is lost"))
        .collect();
    assert!(first.iter().all(|at| *at <= INTERVAL * 2));
    // A fleet in good health sends 33 in a second. Nowhere is a burst, and nowhere a hole.
    let in_second = |second: u64| first.iter().filter(|at| at.as_secs() == second).count();
    let fullest = (0..60).map(in_second).max().unwrap();
    assert!(fullest <= 60, "{fullest} hosts in one second");
    let half = first.iter().filter(|at| **at <= INTERVAL).count();
    assert!((600..=900).contains(&half), "{half} within an interval");
    assert!((20..30).map(in_second).sum::<usize>() > 50);

    // And while it is away, it is asked about as often as when it is up.
    let recovered = minutes(20)..minutes(70);
    let during = tries
        .iter()
        .filter(|(at, ..)| recovered.contains(at))
        .count();
    let healthy = HOSTS * 50 * 2;
    assert!(
        during < healthy * 12 / 10,
        "{during} tries, healthy {healthy}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_short_blip_delays_nobody_for_long() {
    let away = minutes(5)..minutes(5) + Duration::from_secs(3);
    let tries = simulate(1000, away.clone(), minutes(7)).await;
    for host in 0..1000 {
        let taken: Vec<Duration> = tries
            .iter()
            .filter(|(_, number, is_taken)| *number == host && *is_taken)
            .map(|(at, ..)| *at)
            .collect();
        let longest = taken
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]))
            .max();
        assert!(longest.unwrap() < INTERVAL * 2, "host {host}: {longest:?}");
    }
}
