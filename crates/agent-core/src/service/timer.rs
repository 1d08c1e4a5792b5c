//! Wakes up once, when it is time. tokio's timers come to a moment half a minute away in three or
//! four steps, and each step wakes the processor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::read;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// A timer of the kernel's. Without one, tokio's do, which a test can pause.
#[derive(Debug, Default)]
pub(super) struct WakeTimer(Option<Timer>);

#[derive(Debug)]
struct Timer {
    set: TimerFd,
    /// The same timer, as what is waited for.
    ring: AsyncFd<OwnedFd>,
}

impl WakeTimer {
    /// A timer of the kernel's, if it gives one.
    pub(super) fn new() -> Self {
        let timer = Timer::new();
        if let Err(error) = &timer {
            tracing::debug!("no timer of the kernel's: {error}");
        }
        Self(timer.ok())
    }

    /// Waits until `at`.
    pub(super) async fn until(&self, at: Instant) {
        if let Some(timer) = &self.0
            && timer.wait(at).await.is_ok()
        {
            return;
        }
        sleep_until(at).await;
    }
}

impl Timer {
    #[expect(
        deprecated,
        reason = "its successor is unsafe for the sake of types that may swap their descriptor; an `OwnedFd` does not"
    )]
    fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let set = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let ring = AsyncFd::new(set.as_fd().try_clone_to_owned()?)?;
        Ok(Self { set, ring })
    }

    async fn wait(&self, at: Instant) -> io::Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        // Nothing at all would stop the timer.
        let left = left.max(Duration::from_micros(1));
        // Whatever it was set to before, and whatever rang since, is forgotten by this.
        self.set.set(
            Expiration::OneShot(TimeSpec::from_duration(left)),
            TimerSetTimeFlags::empty(),
        )?;
        let mut count = [0; 8];
        loop {
            let mut guard = self.ring.readable().await?;
            match guard.try_io(|ring| Ok(read(ring.get_ref(), &mut count)?)) {
                Ok(rung) => return rung.map(drop),
                Err(_not_yet) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rings_at_its_time_also_after_a_wait_that_was_given_up() {
        let alarm = WakeTimer::new();
        assert!(alarm.0.is_some());
        for milliseconds in [0, 20, 5] {
            let at = Instant::now() + Duration::from_millis(milliseconds);
            alarm.until(at).await;
            assert!(Instant::now() >= at);
        }
        let soon = Instant::now() + Duration::from_millis(5);
        let never = Instant::now() + Duration::from_hours(1);
        drop(tokio::time::timeout(Duration::ZERO, alarm.until(soon)).await);
        // The bell of the one before does not end the next wait.
        sleep_until(soon).await;
        let waited = tokio::time::timeout(Duration::from_millis(20), alarm.until(never)).await;
        assert!(waited.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_timer_of_the_kernels_the_time_can_be_paused() {
        let start = Instant::now();
        let hour = Duration::from_hours(1);
        WakeTimer::default().until(start + hour).await;
        assert!(start.elapsed() >= hour);
    }
}
