//! Hosts whose hub is only a clock: what a fleet does while the hub is unreachable, and afterwards.
//!
//! One test runs the heartbeat loop itself and finds that each of its tries is where [`Backoff`] alone puts
//! it. So the tests of a fleet compute the tries of a thousand hosts by `Backoff`, without their services.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::super::backoff::Backoff;
use super::super::health::{Health, SaveReason};
use super::super::heartbeat::{HeartbeatFailure, HeartbeatOutcome, ServiceHost};
use super::super::heartbeat_loop::run;
use super::super::notify::Notify;
use super::super::signals::Signals;
use super::super::timer::WakeTimer;
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};

const INTERVAL: Duration = Duration::from_secs(30);

/// A heartbeat: its time since the start, and whether the hub accepted it.
type Try = (Duration, bool);

/// Returns what a try comes to.
fn outcome(is_accepted: bool) -> HeartbeatOutcome {
    if is_accepted {
        return HeartbeatOutcome::Accepted;
    }
    HeartbeatOutcome::Missed(HeartbeatFailure {
        error: Error::new(ErrorId::Unreachable, "no connection"),
        retry_after: None,
        is_refusal: false,
    })
}

/// Returns the tries of one host until `end`, as [`Backoff`] puts them.
fn backed_off(seed: u64, unreachable: &Range<Duration>, end: Duration) -> Vec<Try> {
    // Timers of tokio end at a full millisecond.
    let in_millis = |time: Duration| {
        let rest = time.subsec_nanos() % 1_000_000;
        let missing = if rest == 0 { 0 } else { 1_000_000 - rest };
        time + Duration::from_nanos(missing.into())
    };
    let outcomes = [outcome(false), outcome(true)];
    let environment = Environment::real([]).with_seed(seed);
    let mut backoff = Backoff::default();
    let mut tries = Vec::new();
    // Hosts boot when they boot.
    let mut now = in_millis(environment.random_up_to(INTERVAL));
    while now < end {
        let is_accepted = !unreachable.contains(&now);
        tries.push((now, is_accepted));
        let pause = backoff.after(&outcomes[usize::from(is_accepted)], INTERVAL, &environment);
        now = in_millis(now + pause);
    }
    tries
}

/// A host whose hub is a clock.
struct Simulated {
    start: Instant,
    unreachable: Range<Duration>,
    tries: Rc<RefCell<Vec<Try>>>,
    health: Health,
}

impl ServiceHost for Simulated {
    async fn heartbeat(&mut self) -> Result<HeartbeatOutcome> {
        let now = self.start.elapsed();
        let is_accepted = !self.unreachable.contains(&now);
        self.tries.borrow_mut().push((now, is_accepted));
        Ok(outcome(is_accepted))
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

/// Runs the heartbeat loop of one host until `end`; returns its tries.
async fn looped(seed: u64, unreachable: &Range<Duration>, end: Duration) -> Vec<Try> {
    let tries = Rc::default();
    let mut host = Simulated {
        start: Instant::now(),
        unreachable: unreachable.clone(),
        tries: Rc::clone(&tries),
        health: Health::default(),
    };
    let local = LocalSet::new();
    local.spawn_local(async move {
        let environment = Environment::real([]).with_seed(seed);
        sleep(environment.random_up_to(INTERVAL)).await;
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
    local.run_until(sleep(end)).await;
    drop(local);
    tries.take()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

#[tokio::test(start_paused = true)]
async fn each_try_of_the_loop_is_where_its_backoff_puts_it() {
    let unreachable = minutes(10)..minutes(70);
    for seed in 0..4 {
        let tries = looped(seed, &unreachable, minutes(90)).await;
        assert!(tries.len() > 100, "{}", tries.len());
        assert_eq!(tries, backed_off(seed, &unreachable, minutes(90)), "{seed}");
    }
}

#[test]
fn after_an_hour_one_heartbeat_is_sent_promptly_and_the_interval_is_kept_again() {
    let unreachable = minutes(10)..minutes(70);
    let tries = backed_off(0, &unreachable, minutes(90));
    let after: Vec<Duration> = tries
        .iter()
        .filter(|(at, is_accepted)| *is_accepted && *at >= unreachable.end)
        .map(|(at, _)| *at)
        .collect();
    assert!(
        after[0].saturating_sub(unreachable.end) <= INTERVAL * 2,
        "{:?}",
        after[0]
    );
    for pair in after.windows(2) {
        let pause = pair[1].saturating_sub(pair[0]).as_secs_f64();
        assert!((28.0..=32.0).contains(&pause), "{pause}");
    }
    let during = tries.iter().filter(|(at, _)| unreachable.contains(at));
    let during = during.count();
    // About one in an interval: a few quick ones, and then one in half of two intervals.
    assert!((90..=160).contains(&during), "{during} tries in an hour");
}

#[test]
fn a_thousand_hosts_come_back_spread_over_two_intervals() {
    const HOSTS: u64 = 1000;
    let unreachable = minutes(10)..minutes(70);
    let fleet: Vec<Vec<Try>> = (0..HOSTS)
        .map(|seed| backed_off(seed, &unreachable, minutes(72)))
        .collect();
    let first: Vec<Duration> = fleet
        .iter()
        .map(|tries| {
            let is_back = |(at, is_accepted): &&Try| *is_accepted && *at >= unreachable.end;
            let (at, _) = tries.iter().find(is_back).expect("a host is lost");
            at.saturating_sub(unreachable.end)
        })
        .collect();
    assert!(first.iter().all(|at| *at <= INTERVAL * 2));
    // The hosts send 33 heartbeats a second while the hub accepts them. There is no burst, and no gap.
    let in_second = |second: u64| first.iter().filter(|at| at.as_secs() == second).count();
    let fullest = (0..60).map(in_second).max().unwrap();
    assert!(fullest <= 60, "{fullest} hosts in one second");
    let half = first.iter().filter(|at| **at <= INTERVAL).count();
    assert!((600..=900).contains(&half), "{half} within an interval");
    assert!((20..30).map(in_second).sum::<usize>() > 50);

    // And while the hub is unreachable, it gets about as many requests as when it is up.
    let later = minutes(20)..minutes(70);
    let all = fleet.iter().flatten();
    let during = all.filter(|(at, _)| later.contains(at)).count() as u64;
    let healthy = HOSTS * 50 * 2;
    assert!(
        during < healthy * 12 / 10,
        "{during} tries, healthy {healthy}"
    );
}

#[test]
fn a_short_outage_delays_no_host_for_long() {
    let unreachable = minutes(5)..minutes(5) + Duration::from_secs(3);
    for seed in 0..1000 {
        let tries = backed_off(seed, &unreachable, minutes(7));
        let accepted: Vec<Duration> = tries
            .iter()
            .filter(|(_, is_accepted)| *is_accepted)
            .map(|(at, _)| *at)
            .collect();
        let longest = accepted
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]))
            .max();
        assert!(longest.unwrap() < INTERVAL * 2, "host {seed}: {longest:?}");
    }
}
