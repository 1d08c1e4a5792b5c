//! The heartbeat loop, which runs until the service is stopped.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::failure_log::FailureLog;
use super::health::SaveReason;
use super::heartbeat::{HeartbeatOutcome, ServiceHost};
use super::notify::Notify;
use super::signals::{SignalEvent, Signals};
use super::step;
use super::timer::WakeTimer;
use crate::clock;
use crate::environment::Environment;
use crate::error::Result;

/// The reason for the end of a wait.
enum Wakeup {
    Due,
    Stop,
    Reload,
}

/// Sends heartbeats until a signal stops the service.
///
/// # Errors
/// The error that ends the service, for instance a host that is not enrolled any more.
pub(super) async fn run(
    host: &mut impl ServiceHost,
    signals: &mut Signals,
    notify: &mut Notify,
    timer: &WakeTimer,
    environment: &Environment,
) -> Result<()> {
    let boot_id = step::boot_id(environment);
    let moment = || environment.moment(&boot_id);
    host.health().started(&moment());
    host.save(SaveReason::StartOrStop);
    let mut backoff = Backoff::default();
    let mut log = FailureLog::default();
    loop {
        let outcome = tokio::select! {
            biased;
            () = signals.stop() => break,
            outcome = alive(host.heartbeat(), notify) => outcome?,
        };
        let interval = host.interval();
        let pause = backoff.after(&outcome, interval, environment);
        let pause = host.due_in().map_or(pause, |due| pause.min(due));
        let now = moment();
        match &outcome {
            HeartbeatOutcome::Accepted => host.health().accepted(&now),
            HeartbeatOutcome::Missed(miss) => host.health().missed(&miss.error, &now),
            HeartbeatOutcome::NotSent => {}
        }
        host.health().waits(&now, pause);
        log.log(&outcome, pause);
        if !matches!(outcome, HeartbeatOutcome::NotSent) {
            host.save(SaveReason::Try);
            notify.status(&status(host));
        }
        let end = clock::after(Instant::now(), pause);
        if matches!(outcome, HeartbeatOutcome::Accepted) {
            tokio::select! {
                biased;
                () = signals.stop() => break,
                () = alive(host.follow_up(), notify) => {}
            }
        }
        match wait(end, interval, host, signals, notify, timer).await {
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

/// Runs `work`, and notifies the watchdog meanwhile as often as necessary.
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

/// Waits until `end`. A wait that is longer than an interval checks the files in between, so that a fix of
/// the configuration takes effect soon.
async fn wait(
    end: Instant,
    interval: Duration,
    host: &impl ServiceHost,
    signals: &mut Signals,
    notify: &mut Notify,
    timer: &WakeTimer,
) -> Wakeup {
    loop {
        // A check shortly before the end of the wait is not worth a wake-up.
        let check_at = clock::after(Instant::now(), interval);
        let check_at = if clock::after(check_at, interval / 2) < end {
            check_at
        } else {
            end
        };
        let due = notify.due().map_or(check_at, |due| due.min(check_at));
        tokio::select! {
            biased;
            event = signals.event() => return match event {
                SignalEvent::Stop => Wakeup::Stop,
                SignalEvent::Reload => Wakeup::Reload,
            },
            () = timer.until(due) => {}
        }
        notify.alive_if_due();
        let now = Instant::now();
        if now >= end || (now >= check_at && host.is_stale()) {
            return Wakeup::Due;
        }
    }
}

/// Returns the line for `systemctl status`.
fn status(host: &mut impl ServiceHost) -> String {
    let who = host.describe();
    let health = host.health();
    let last = health
        .last_heartbeat
        .as_deref()
        .map_or("none accepted yet".into(), |at| {
            format!("the last accepted at {at}")
        });
    match health.failing() {
        Some(failure) => format!(
            "{who}; heartbeats fail since {} ({last}): {}: {}",
            failure.since, failure.what, failure.cause
        ),
        None => format!("{who}; heartbeats are accepted ({last})"),
    }
}
