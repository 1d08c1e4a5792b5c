//! Retries until an action succeeds or fails for good, or until the deadline: a request, until the hub accepts or
//! rejects it, and the fetch of a token. Pauses have full jitter below a
//! ceiling that doubles from 1 s to 60 s, and `Retry-After` is the least pause.

use std::time::Duration;

use tokio::time::Instant;

use super::response::Outcome;
use super::timeouts::EXCHANGE;
use crate::boxed::Boxed;
use crate::clock;
use crate::environment::Environment;
use crate::error::{Error, Result};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// The time limit of a run.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The latest end of the run.
    pub deadline: Instant,
    /// The time that was set for the run. Zero means one try, as with `--wait 0`.
    pub wait: Duration,
}

impl Limit {
    /// Returns the same limit with a deadline that is later by `pause`.
    #[must_use]
    pub fn later(self, pause: Duration) -> Self {
        Self {
            deadline: clock::after(self.deadline, pause),
            ..self
        }
    }

    /// Returns the same limit for one try.
    #[must_use]
    pub fn once(self) -> Self {
        Self {
            wait: Duration::ZERO,
            ..self
        }
    }

    /// Returns whether the limit is for one try.
    #[must_use]
    pub fn is_single(self) -> bool {
        self.wait.is_zero()
    }

    /// Returns the limit of a run that may last for `wait` from now on. Zero means one try, which may last for
    /// [`EXCHANGE`].
    #[must_use]
    pub fn of(wait: Duration) -> Self {
        let longest = if wait.is_zero() { EXCHANGE } else { wait };
        Self {
            deadline: clock::after(Instant::now(), longest),
            wait,
        }
    }
}

/// The tries of one action, and the pauses between them.
pub(crate) struct Tries<'a> {
    limit: Limit,
    environment: &'a Environment,
    started: Instant,
    number: u32,
    ceiling: Duration,
}

impl<'a> Tries<'a> {
    /// Returns the state before the first try.
    pub(crate) fn new(limit: Limit, environment: &'a Environment) -> Self {
        Self {
            limit,
            environment,
            started: Instant::now(),
            number: 0,
            ceiling: FIRST,
        }
    }

    /// Logs the failure of a try, and waits until the next one, for `asked` at least.
    ///
    /// # Errors
    /// The number of tries and their time, when the limit leaves no room for another try.
    pub(crate) fn pause<'p>(
        &'p mut self,
        cause: &'p str,
        asked: Option<Duration>,
    ) -> Boxed<'p, std::result::Result<(), String>> {
        Box::pin(async move {
            self.number = self.number.saturating_add(1);
            let number = self.number;
            // The jitter also comes on top of the pause that the hub requests: otherwise all hosts with
            // the same `Retry-After` would come back in the same second.
            let pause = asked
                .unwrap_or_default()
                .saturating_add(self.environment.random_up_to(self.ceiling));
            self.ceiling = (self.ceiling * 2).min(LONGEST);
            let left = self
                .limit
                .deadline
                .saturating_duration_since(Instant::now());
            if pause >= left || self.limit.is_single() {
                let spent = humantime::format_duration(rounded(self.started.elapsed()));
                let tries = if number == 1 { "try" } else { "tries" };
                let asks = match asked {
                    Some(asked) if asked >= left => format!(
                        "; the hub asks to wait {} more",
                        humantime::format_duration(rounded(asked))
                    ),
                    _ => String::new(),
                };
                return Err(format!("{number} {tries} in {spent}{asks}"));
            }
            tracing::warn!(
                "try {number}: {cause}; next try in {:.1} s, {} left",
                pause.as_secs_f64(),
                humantime::format_duration(rounded(left))
            );
            wait(pause, self.limit, self.environment).await;
            Ok(())
        })
    }
}

/// Calls `attempt` until it is done, stopped, or the limit leaves no room for another try.
///
/// # Errors
/// The error that `attempt` stopped with; at the deadline, the error of its last try.
pub async fn until<T>(
    url: &str,
    limit: Limit,
    environment: &Environment,
    mut attempt: impl AsyncFnMut() -> Result<Outcome<T>>,
) -> Result<T> {
    let mut tries = Tries::new(limit, environment);
    loop {
        let (error, asked) = match attempt().await? {
            Outcome::Done(value) => return Ok(value),
            Outcome::Stop(error) => return Err(error),
            Outcome::Wait { error, retry_after } => (error, retry_after),
        };
        if let Err(spent) = tries.pause(error.cause(), asked).await {
            let cause = format!("{} ({spent})", error.cause());
            return Err(Error::new(error.id(), cause)
                .about(url)
                .hint(error.next_step()));
        }
    }
}

/// Waits for `pause`. On a terminal, a line counts the seconds down.
async fn wait(pause: Duration, limit: Limit, environment: &Environment) {
    let end = clock::after(Instant::now(), pause);
    if let Some(show) = environment.progress() {
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            let left = limit.deadline.saturating_duration_since(Instant::now());
            show(&format!(
                "next try in {}, {} left",
                humantime::format_duration(rounded(rest)),
                humantime::format_duration(rounded(left))
            ));
            tokio::time::sleep(rest.min(Duration::from_secs(1))).await;
        }
        show("");
    }
    tokio::time::sleep_until(end).await;
}

fn rounded(duration: Duration) -> Duration {
    Duration::from_secs(
        duration
            .saturating_add(Duration::from_millis(500))
            .as_secs(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorId;

    fn wait_for(retry_after: Option<u64>) -> Outcome<()> {
        Outcome::Wait {
            error: Error::new(ErrorId::Unreachable, "HTTP 503 Service Unavailable"),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    async fn times(seed: u64, seconds: u64, retry_after: Option<u64>) -> (Vec<f64>, Error) {
        let environment = Environment::real([]).with_seed(seed);
        let start = Instant::now();
        let mut times = Vec::new();
        let limit = Limit::of(Duration::from_secs(seconds));
        let error = until("https://hub", limit, &environment, async || {
            times.push(start.elapsed().as_secs_f64());
            Ok(wait_for(retry_after))
        })
        .await
        .unwrap_err();
        (times, error)
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_with_full_jitter_and_end_before_the_deadline() {
        for seed in 0..50 {
            let (times, error) = times(seed, 300, None).await;
            assert_eq!(error.exit_code(), 69);
            let mut ceiling = 1.0;
            for pair in times.windows(2) {
                let pause = pair[1] - pair[0];
                assert!(pause <= ceiling + 0.01, "{pause} over {ceiling}");
                ceiling = f64::min(ceiling * 2.0, 60.0);
            }
            assert!(times.iter().all(|time| *time < 300.0));
            assert!(times.len() > 5, "{times:?}");
        }
        let first = times(1, 300, None).await.0;
        assert_eq!(first, times(1, 300, None).await.0, "not repeatable");
        assert_ne!(first, times(2, 300, None).await.0, "no jitter");
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_the_least_pause() {
        let (times, error) = times(3, 300, Some(45)).await;
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 45.0));
        assert!(error.cause().contains("HTTP 503"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_beyond_the_deadline_is_reported_at_once() {
        let (times, error) = times(3, 300, Some(3600)).await;
        assert_eq!(times, [0.0]);
        assert!(error.cause().contains("asks to wait 1h"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_nothing_is_one_try() {
        let (times, error) = times(3, 0, None).await;
        assert_eq!(times, [0.0]);
        assert!(error.cause().contains("1 try"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_of_any_length_is_reported() {
        let (times, error) = times(3, 300, Some(u64::MAX)).await;
        assert_eq!(times, [0.0]);
        assert!(error.cause().contains("asks to wait"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_shows_the_seconds_count_down_and_then_nothing() {
        let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = std::sync::Arc::clone(&lines);
        let environment = Environment::real([])
            .with_seed(1)
            .with_progress(Box::new(move |line| {
                seen.lock().unwrap().push(line.to_owned());
            }));
        let mut tries = 0;
        let limit = Limit::of(Duration::from_mins(5));
        until("https://hub", limit, &environment, async || {
            tries += 1;
            Ok(if tries == 1 {
                wait_for(Some(3))
            } else {
                Outcome::Done(())
            })
        })
        .await
        .unwrap();
        let lines = lines.lock().unwrap();
        assert!(lines.len() >= 4, "{lines:?}");
        assert!(lines[0].starts_with("next try in ") && lines[0].ends_with(" left"));
        assert_eq!(lines.last().unwrap(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_final_answer_is_never_tried_again() {
        let environment = Environment::real([]).with_seed(1);
        let mut tries = 0;
        let limit = Limit::of(Duration::from_mins(5));
        let error = until::<()>("https://hub", limit, &environment, async || {
            tries += 1;
            Ok(Outcome::Stop(Error::new(ErrorId::Rejected, "401")))
        })
        .await
        .unwrap_err();
        assert_eq!((tries, error.exit_code()), (1, 77));
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_when_the_hub_comes_back() {
        let environment = Environment::real([]).with_seed(1);
        let mut tries = 0;
        let limit = Limit::of(Duration::from_mins(5));
        let done = until("https://hub", limit, &environment, async || {
            tries += 1;
            Ok(if tries < 4 {
                Outcome::Wait {
                    error: Error::new(ErrorId::Unreachable, "no connection"),
                    retry_after: None,
                }
            } else {
                Outcome::Done(tries)
            })
        })
        .await
        .unwrap();
        assert_eq!(done, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_of_any_length_is_planned() {
        let environment = Environment::real([]).with_seed(6);
        let longest = Duration::MAX;
        let limit = Limit::of(longest).later(longest);
        let mut answers = [Some(u64::MAX), Some(0)].into_iter();
        let error = until("https://hub", limit, &environment, async || {
            Ok(wait_for(answers.next().flatten()))
        })
        .await
        .unwrap_err();
        assert!(
            error.cause().contains("the hub asks to wait"),
            "{}",
            error.cause()
        );
    }
}
