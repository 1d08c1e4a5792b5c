//! One heartbeat after the other, until the service is stopped.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::alarm::Alarm;
use super::health::{Health, Occasion};
use super::notify::Notify;
use super::pace::Pace;
use super::signals::{Signals, Wish};
use super::step;
use super::teller::Teller;
use crate::clock;
use crate::environment::World;
use crate::error::{Error, Result};

/// What one try came to.
#[derive(Debug)]
pub enum Beat {
    /// The hub took it.
    Accepted,
    /// It failed, as the next one may not.
    Missed(Miss),
    /// None was sent: key or credential change hands in this moment.
    Held,
}

/// A heartbeat that failed.
#[derive(Debug)]
pub struct Miss {
    /// What failed, the cause and the hint.
    pub error: Error,
    /// How long the hub asked to wait.
    pub retry_after: Option<Duration>,
    /// The same try would fail again: somebody has to do something.
    pub is_refusal: bool,
}

/// What the rhythm is kept for.
pub trait Host {
    /// One try. An error ends the service.
    fn beat(&mut self) -> impl Future<Output = Result<Beat>>;
    /// What there may be to tell after a heartbeat that was taken.
    fn follow_up(&mut self) -> impl Future<Output = ()>;
    /// The hub's interval.
    fn interval(&self) -> Duration;
    /// How it fared so far.
    fn health(&mut self) -> &mut Health;
    /// Writes that down.
    fn save(&mut self, occasion: Occasion);
    /// Whether the files that it was read from have changed.
    fn is_stale(&self) -> bool;
    /// Has it read all of them again at the next try.
    fn reload(&mut self);
    /// What it is, in a line.
    fn describe(&self) -> String;
}

/// Why a wait ended.
enum Woken {
    Due,
    Stop,
    Reload,
}

/// Keeps the rhythm until a signal stops it.
///
/// # Errors
/// What ends the service by itself: it is not enrolled any more.
pub(super) async fn keep(
    host: &mut impl Host,
    signals: &mut Signals,
    notify: &mut Notify,
    alarm: &Alarm,
    world: &World,
) -> Result<()> {
    let boot_id = step::boot_id(world);
    let moment = || world.moment(&boot_id);
    host.health().started(&moment());
    host.save(Occasion::StartOrStop);
    let mut pace = Pace::default();
    let mut teller = Teller::default();
    loop {
        let beat = tokio::select! {
            biased;
            () = signals.stop() => break,
            beat = alive(host.beat(), notify) => beat?,
        };
        let interval = host.interval();
        let pause = pace.after(&beat, interval, world);
        let now = moment();
        match &beat {
            Beat::Accepted => host.health().accepted(&now),
            Beat::Missed(miss) => host.health().missed(&miss.error, &now),
            Beat::Held => {}
        }
        host.health().waits(&now, pause);
        teller.hear(&beat, pause);
        if !matches!(beat, Beat::Held) {
            host.save(Occasion::Try);
            notify.status(&status(host));
        }
        let end = clock::after(Instant::now(), pause);
        if matches!(beat, Beat::Accepted) {
            tokio::select! {
                biased;
                () = signals.stop() => break,
                () = alive(host.follow_up(), notify) => {}
            }
        }
        match wait(end, interval, host, signals, notify, alarm).await {
            Woken::Due => {}
            Woken::Stop => break,
            Woken::Reload => {
                tracing::info!("SIGHUP: reading the configuration again");
                notify.reloading();
                host.reload();
                notify.ready(&status(host));
            }
        }
    }
    host.health().stopped(&moment());
    host.save(Occasion::StartOrStop);
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
    host: &impl Host,
    signals: &mut Signals,
    notify: &mut Notify,
    alarm: &Alarm,
) -> Woken {
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
                Wish::Stop => Woken::Stop,
                Wish::Reload => Woken::Reload,
            },
            () = alarm.until(due) => {}
        }
        notify.alive_if_due();
        let now = Instant::now();
        if now >= end || (now >= glance && host.is_stale()) {
            return Woken::Due;
        }
    }
}

/// A line for `systemctl status`.
fn status(host: &mut impl Host) -> String {
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
