//! What the privileged step before the service came to (contract, section 5).
//!
//! The step runs as root and never fails the unit. Its verdict is on the disk for `run`, which the
//! service manager watches: `run` ends with the step's exit code, or sends heartbeats when there was
//! nothing wrong.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::{Error, ErrorId};
use crate::facts::fingerprint::Fingerprint;

/// Pause after the first step that came to nothing.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// What one step came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepRecord {
    /// Boot that the step ran in (random(4), `boot_id`).
    pub boot_id: String,
    /// Machine that the step ran on, by all that root can read of it.
    pub machine: Fingerprint,
    /// When, RFC 3339.
    pub at: String,
    /// What failed; none when the service can begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failed>,
    /// What has to be tried again later, and does not keep the service from running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deferred: Option<Failed>,
    /// Steps in a row that came to nothing.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Before this time, RFC 3339, no step asks the hub for the same thing again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
}

/// How a step ended.
#[derive(Debug)]
pub enum StepOutcome {
    /// The service can run, and nothing is left to do.
    Ready,
    /// The service can run; this has to be tried again later.
    Deferred(Error),
    /// The service cannot run.
    Failed(Error),
}

/// The error that a step ended with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Id in the catalogue.
    pub id: String,
    /// Path, URL or setting that the error is about.
    pub subject: Option<String>,
    /// Why.
    pub cause: String,
    /// How to fix it.
    pub hint: String,
}

impl StepRecord {
    /// The verdict of a step that ended now, after the one `before`.
    #[must_use]
    pub fn of(
        outcome: &StepOutcome,
        before: Option<&Self>,
        boot_id: String,
        machine: Fingerprint,
        now: SystemTime,
    ) -> Self {
        let (failure, deferred) = match outcome {
            StepOutcome::Ready => (None, None),
            StepOutcome::Deferred(error) => (None, Some(Failed::of(error))),
            StepOutcome::Failed(error) => (Some(Failed::of(error)), None),
        };
        let is_done = failure.is_none() && deferred.is_none();
        let attempts = match before {
            _ if is_done => 0,
            Some(before) => before.attempts.saturating_add(1),
            None => 1,
        };
        let not_before = (!is_done)
            .then(|| now.checked_add(pause(attempts)))
            .flatten();
        Self {
            boot_id,
            machine,
            at: clock::rfc3339_nanos(now),
            failure,
            deferred,
            attempts,
            not_before: not_before.map(clock::rfc3339),
        }
    }

    /// Whether the step ran in this boot and on this machine.
    #[must_use]
    pub fn is_for(&self, boot_id: &str, machine: &Fingerprint) -> bool {
        self.boot_id == boot_id && self.machine.is_same_machine(machine)
    }

    /// How long the pause after a failure still lasts. When the clock was put back behind the step,
    /// there is none: it would last until the clock is there again.
    #[must_use]
    pub fn pause_left(&self, now: SystemTime) -> Duration {
        let time = |text: &str| humantime::parse_rfc3339(text).ok();
        if time(&self.at).is_none_or(|at| at > now) {
            return Duration::ZERO;
        }
        let until = self.not_before.as_deref().and_then(time);
        until
            .and_then(|until| until.duration_since(now).ok())
            .unwrap_or_default()
            .min(LONGEST_PAUSE)
    }

    /// The error that the service ends with, if the step failed.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.failure.as_ref().map(Failed::error)
    }
}

impl Failed {
    fn of(error: &Error) -> Self {
        let clean = |text: &str| crate::redact::redact(text).into_owned();
        Self {
            id: error.id().code().into(),
            subject: error.subject().map(clean),
            cause: clean(error.cause()),
            hint: clean(error.next_step()),
        }
    }

    fn error(&self) -> Error {
        let id = ErrorId::ALL.iter().find(|id| id.code() == self.id);
        let error = Error::new(*id.unwrap_or(&ErrorId::Internal), self.cause.clone())
            .hint(self.hint.clone());
        match &self.subject {
            Some(subject) => error.about(subject),
            None => error,
        }
    }
}

/// Doubling from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`].
fn pause(attempts: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::tests::any_time;

    fn verdict(outcome: &StepOutcome, before: Option<&StepRecord>, now: SystemTime) -> StepRecord {
        StepRecord::of(outcome, before, "boot".into(), Fingerprint::default(), now)
    }

    #[test]
    fn a_failure_comes_back_as_the_error_that_it_was_and_pauses_grow() {
        let now = UNIX_EPOCH + Duration::from_hours(1);
        let error = Error::new(ErrorId::Unreachable, "no connection")
            .about("https://hub")
            .hint("wait");
        let text = error.to_string();
        let failed = StepOutcome::Failed(error);
        let mut last: Option<StepRecord> = None;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let next = verdict(&failed, last.as_ref(), now);
            pauses.push(next.pause_left(now).as_secs());
            let text = serde_json::to_string(&next).unwrap();
            assert_eq!(serde_json::from_str::<StepRecord>(&text).unwrap(), next);
            last = Some(next);
        }
        assert_eq!(pauses, [30, 60, 120, 240, 300, 300, 300, 300]);
        let last = last.unwrap();
        assert_eq!(last.error().unwrap().to_string(), text);
        assert_eq!(last.error().unwrap().exit_code(), 69);
        // The clock was put back behind the step: its pause would last until it is there again.
        assert_eq!(last.pause_left(UNIX_EPOCH), Duration::ZERO);
        let good = verdict(&StepOutcome::Ready, Some(&last), now);
        assert_eq!((good.attempts, good.error().is_none()), (0, true));
        // What can wait keeps nothing from running.
        let later = StepOutcome::Deferred(Error::new(ErrorId::Unreachable, "no connection"));
        let later = verdict(&later, Some(&good), now);
        assert!(later.error().is_none() && later.deferred.is_some());
        assert_eq!(later.pause_left(now), FIRST_PAUSE);
    }

    #[test]
    fn counts_for_one_boot_and_one_machine() {
        let here = Fingerprint {
            product_uuid: Some("a".into()),
            machine_id: Some("b".into()),
            ..Fingerprint::default()
        };
        let verdict = StepRecord::of(
            &StepOutcome::Ready,
            None,
            "boot".into(),
            here.clone(),
            UNIX_EPOCH,
        );
        assert!(verdict.is_for("boot", &here));
        assert!(!verdict.is_for("other", &here));
        // What the service's user can read of the machine is enough to tell another one.
        let seen = |machine_id: &str| Fingerprint {
            machine_id: Some(machine_id.into()),
            ..Fingerprint::default()
        };
        assert!(verdict.is_for("boot", &seen("b")));
        assert!(!verdict.is_for("boot", &seen("c")));
    }

    proptest! {
        /// Whatever this host's clock says now, and said when the step before was done.
        #[test]
        fn no_time_is_one_that_a_verdict_cannot_have(then in any_time(), now in any_time(), attempts: u32) {
            let failed = || StepOutcome::Failed(Error::new(ErrorId::Unreachable, "no connection"));
            let before = StepRecord { attempts, ..verdict(&failed(), None, then) };
            prop_assert!(before.pause_left(now) <= LONGEST_PAUSE);
            let after = verdict(&failed(), Some(&before), now);
            prop_assert!(after.pause_left(now) <= LONGEST_PAUSE);
        }
    }
}
