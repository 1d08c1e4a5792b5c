//! A timer that wakes the processor once. tokio's timers need three or four steps for a wait of half a minute,
//! and each step wakes the processor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::read;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// A timer of the kernel, or else of tokio, which a test can pause.
#[derive(Debug, Default)]
pub(super) struct WakeTimer(Option<Timer>);

#[derive(Debug)]
struct Timer {
    set: TimerFd,
    /// The same timer, registered for asynchronous reads.
    readable: AsyncFd<OwnedFd>,
}

impl WakeTimer {
    /// Creates a timer of the kernel, if the kernel provides one.
    pub(super) fn new() -> Self {
        let timer = Timer::new();
        if let Err(error) = &timer {
            tracing::debug!("the kernel provides no timer: {error}");
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
        reason = "its successor is unsafe because of types that may swap their descriptor; an `OwnedFd` does not"
    )]
    fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let set = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let readable = AsyncFd::new(set.as_fd().try_clone_to_owned()?)?;
        Ok(Self { set, readable })
    }

    async fn wait(&self, at: Instant) -> io::Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        // Zero would disarm the timer (timerfd_create(2)).
        let left = left.max(Duration::from_micros(1));
        // This resets an earlier setting and an earlier expiration.
        self.set.set(
            Expiration::OneShot(TimeSpec::from_duration(left)),
            TimerSetTimeFlags::empty(),
        )?;
        let mut count = [0; 8];
        loop {
            let mut guard = self.readable.readable().await?;
            match guard.try_io(|readable| Ok(read(readable.get_ref(), &mut count)?)) {
                Ok(result) => return result.map(drop),
                Err(_not_yet) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn expires_at_its_time_even_after_an_abandoned_wait() {
        let timer = WakeTimer::new();
        assert!(timer.0.is_some());
        for milliseconds in [0, 20, 5] {
            let at = Instant::now() + Duration::from_millis(milliseconds);
            timer.until(at).await;
            assert!(Instant::now() >= at);
        }
        let soon = Instant::now() + Duration::from_millis(5);
        let never = Instant::now() + Duration::from_hours(1);
        drop(tokio::time::timeout(Duration::ZERO, timer.until(soon)).await);
        // The expiration of the wait before does not end the next one.
        sleep_until(soon).await;
        let waited = tokio::time::timeout(Duration::from_millis(20), timer.until(never)).await;
        assert!(waited.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_timer_of_the_kernel_the_time_can_be_paused() {
        let start = Instant::now();
        let hour = Duration::from_hours(1);
        WakeTimer::default().until(start + hour).await;
        assert!(start.elapsed() >= hour);
    }
}
