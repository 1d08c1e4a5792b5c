//! One heartbeat after the other, until the service is stopped.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::backoff::Pace;
use super::failure_log::FailureLog;
use super::health::{Health, SaveReason};
use super::notify::Notify;
use super::signals::{SignalEvent, Signals};
use super::step;
use super::timer::WakeTimer;
use crate::clock;
use crate::environment::Environment;
use crate::error::{Error, Result};

/// What one try came to.
#[derive(Debug)]
pub enum HeartbeatOutcome {
    /// The hub took it.
    Accepted,
    /// It failed, as the next one may not.
    Missed(HeartbeatFailure),
    /// None was sent: key or credential change hands in this moment.
    NotSent,
}

/// A heartbeat that failed.
#[derive(Debug)]
pub struct HeartbeatFailure {
    /// What failed, the cause and the hint.
    pub error: Error,
    /// How long the hub asked to wait.
    pub retry_after: Option<Duration>,
    /// The same try would fail again: somebody has to do something.
    pub is_refusal: bool,
}

/// What the rhythm is kept for.
pub trait ServiceHost {
    /// One try. An error ends the service.
    fn heartbeat(&mut self) -> impl Future<Output = Result<HeartbeatOutcome>>;
    /// What there may be to tell after a heartbeat that was taken.
    fn follow_up(&mut self) -> impl Future<Output = ()>;
    /// The hub's interval.
    fn interval(&self) -> Duration;
    /// How it fared so far.
    fn health(&mut self) -> &mut Health;
    /// Writes that down.
    fn save(&mut self, occasion: SaveReason);
    /// Whether the files that it was read from have changed.
    fn is_stale(&self) -> bool;
    /// Has it read all of them again at the next try.
    fn reload(&mut self);
    /// What it is, in a line.
    fn describe(&self) -> String;
}

/// Why a wait ended.
enum Wakeup {
    Due,
    Stop,
    Reload,
}

/// Keeps the rhythm until a signal stops it.
///
/// # Errors
/// What ends the service by itself: it is not enrolled any more.
pub(super) async fn run(
    host: &mut impl ServiceHost,
    signals: &mut Signals,
    notify: &mut Notify,
    alarm: &WakeTimer,
    environment: &Environment,
) -> Result<()> {
    let boot_id = step::boot_id(environment);
    let moment = || environment.moment(&boot_id);
    host.health().started(&moment());
    host.save(SaveReason::StartOrStop);
    let mut pace = Pace::default();
    let mut teller = FailureLog::default();
    loop {
        let beat = tokio::select! {
            biased;
            () = signals.stop() => break,
            beat = alive(host.heartbeat(), notify) => beat?,
        };
        let interval = host.interval();
        let pause = pace.after(&beat, interval, environment);
        let now = moment();
        match &beat {
            HeartbeatOutcome::Accepted => host.health().accepted(&now),
            HeartbeatOutcome::Missed(miss) => host.health().missed(&miss.error, &now),
            HeartbeatOutcome::NotSent => {}
        }
        host.health().waits(&now, pause);
        teller.hear(&beat, pause);
        if !matches!(beat, HeartbeatOutcome::NotSent) {
            host.save(SaveReason::Try);
            notify.status(&status(host));
        }
        let end = clock::after(Instant::now(), pause);
        if matches!(beat, HeartbeatOutcome::Accepted) {
            tokio::select! {
                biased;
                () = signals.stop() => break,
                () = alive(host.follow_up(), notify) => {}
            }
        }
        match wait(end, interval, host, signals, notify, alarm).await {
            Wakeup::Due => {}
            Wakeup::Stop => break,
            Wakeup::Reload => {
                tracing::info!("SIGHUP: reading the configuration again");
                notify.reloading();
                host.reload();
                notify.ready(&status(host));
            }
        }
    }
    host.health().stopped(&moment());
    host.save(SaveReason::StartOrStop);
    Ok(())
}

/// `work`, with a sign of life to the watchdog as often as it needs one.
async fn alive<T>(work: impl Future<Output = T>, notify: &mut Notify) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        let Some(due) = notify.due() else {
            return work.await;
        };
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep_until(due) => notify.alive(),
        }
    }
}

/// Waits until `end`. A wait that is longer than an interval looks at the files meanwhile, so that
/// a fix is seen soon.
async fn wait(
    end: Instant,
    interval: Duration,
    host: &impl ServiceHost,
    signals: &mut Signals,
    notify: &mut Notify,
    alarm: &WakeTimer,
) -> Wakeup {
    loop {
        // A wake-up more at the very end of the wait would be for nothing.
        let glance = clock::after(Instant::now(), interval);
        let glance = if clock::after(glance, interval / 2) < end {
            glance
        } else {
            end
        };
        let due = notify.due().map_or(glance, |due| due.min(glance));
        tokio::select! {
            biased;
            wish = signals.wish() => return match wish {
                SignalEvent::Stop => Wakeup::Stop,
                SignalEvent::Reload => Wakeup::Reload,
            },
            () = alarm.until(due) => {}
        }
        notify.alive_if_due();
        let now = Instant::now();
        if now >= end || (now >= glance && host.is_stale()) {
            return Wakeup::Due;
        }
    }
}

/// A line for `systemctl status`.
fn status(host: &mut impl ServiceHost) -> String {
    let who = host.describe();
    let health = host.health();
    let last = health
        .last_heartbeat
        .as_deref()
        .map_or("none taken yet".into(), |at| {
            format!("the last taken at {at}")
        });
    match health.failing() {
        Some(failure) => format!(
            "{who}; heartbeats fail since {} ({last}): {}: {}",
            failure.since, failure.what, failure.cause
        ),
        None => format!("{who}; heartbeats go out ({last})"),
    }
}
