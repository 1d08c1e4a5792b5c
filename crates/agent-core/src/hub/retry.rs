//! Tries until the hub says yes, no, or the deadline comes: full jitter, doubling from 1 s to
//! 60 s, and `Retry-After` honoured.

use std::time::Duration;

use tokio::time::Instant;

use super::client::EXCHANGE;
use super::response::Outcome;
use crate::clock;
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// How long a run may go on.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// When it has to have ended.
    pub deadline: Instant,
    /// There is one try and no other, as with `--wait 0`.
    is_single: bool,
}

impl Limit {
    /// The same, with a deadline that is later by `pause`.
    #[must_use]
    pub fn later(self, pause: Duration) -> Self {
        Self {
            deadline: clock::after(self.deadline, pause),
            ..self
        }
    }

    /// `wait` from now on; zero is one try, which gets the time that a try may take.
    #[must_use]
    pub fn of(wait: Duration) -> Self {
        let is_single = wait.is_zero();
        Self {
            deadline: clock::after(Instant::now(), if is_single { EXCHANGE } else { wait }),
            is_single,
        }
    }
}

/// Calls `attempt` until it is done, stopped, or the limit leaves no room for another try.
///
/// # Errors
/// What `attempt` stopped with; at the deadline, what it was last told to wait for.
pub async fn until<T>(
    url: &str,
    limit: Limit,
    environment: &Environment,
    mut attempt: impl AsyncFnMut() -> Result<Outcome<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut ceiling = FIRST;
    for number in 1_u32.. {
        let (error, asked) = match attempt().await? {
            Outcome::Done(value) => return Ok(value),
            Outcome::Stop(error) => return Err(error),
            Outcome::Wait { error, retry_after } => (error, retry_after),
        };
        // Full jitter also on top of what the hub asks for: else all hosts that it sent away
        // would be back in the same second.
        let pause = asked
            .unwrap_or_default()
            .saturating_add(environment.random_up_to(ceiling));
        ceiling = (ceiling * 2).min(LONGEST);
        let left = limit.deadline.saturating_duration_since(Instant::now());
        if pause >= left || limit.is_single {
            let spent = humantime::format_duration(rounded(started.elapsed()));
            let tries = if number == 1 { "try" } else { "tries" };
            let asks = match asked {
                Some(asked) if asked >= left => format!(
                    "; the hub asks to wait {} more",
                    humantime::format_duration(rounded(asked))
                ),
                _ => String::new(),
            };
            let cause = format!("{} ({number} {tries} in {spent}{asks})", error.cause());
            return Err(Error::new(error.id(), cause)
                .about(url)
                .hint(error.next_step()));
        }
        tracing::warn!(
            "try {number}: {}; next try in {:.1} s, {} left",
            error.cause(),
            pause.as_secs_f64(),
            humantime::format_duration(rounded(left))
        );
        wait(pause, limit, environment).await;
    }
    Err(Error::new(ErrorId::Internal, "more tries than can be counted").about(url))
}

/// Waits; where somebody watches, a line in place counts the seconds.
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
    async fn a_wait_beyond_the_deadline_is_told_at_once() {
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
    async fn no_wait_is_too_long_to_be_told() {
        let (times, error) = times(3, 300, Some(u64::MAX)).await;
        assert_eq!(times, [0.0]);
        assert!(error.cause().contains("asks to wait"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_watches_sees_the_seconds_count_and_then_nothing() {
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
