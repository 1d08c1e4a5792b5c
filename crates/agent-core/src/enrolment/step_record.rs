//! The record of the privileged step before the service (contract, section 5).
//!
//! The step runs as root and never fails the unit. It stores its result for `run`, which the service manager
//! watches: `run` ends with the step's exit code, or sends heartbeats when the step succeeded.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::{Error, ErrorId};
use crate::facts::fingerprint::Fingerprint;

/// Pause after the first step that failed.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The result of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepRecord {
    /// Boot that the step ran in (random(4), `boot_id`).
    pub boot_id: String,
    /// Fingerprint of the machine that the step ran on, as root reads it.
    pub machine: Fingerprint,
    /// Time of the step, RFC 3339.
    pub at: String,
    /// The error of the step; `None` when the service can start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failed>,
    /// An error that the step tries again later, and that does not prevent the service from running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deferred: Option<Failed>,
    /// Number of failed steps in a row.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Time (RFC 3339) before which no step sends the same request to the hub again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
}

/// The outcome of a step.
#[derive(Debug)]
pub enum StepOutcome {
    /// The service can run, and the step is complete.
    Ready,
    /// The service can run, and a part of the step has to be tried again later.
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
    /// Cause of the error.
    pub cause: String,
    /// Fix of the error.
    pub hint: String,
}

impl StepRecord {
    /// Returns the record of a step that ended now, after the step `before`.
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

    /// Returns whether the step ran in this boot and on this machine.
    #[must_use]
    pub fn is_for(&self, boot_id: &str, machine: &Fingerprint) -> bool {
        self.boot_id == boot_id && self.machine.is_same_machine(machine)
    }

    /// Returns the rest of the pause after a failure. The rest is zero when the clock was set to a time before
    /// the step: otherwise the pause could last for years.
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

    /// Returns the error that the service ends with, if the step failed.
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

/// Returns the pause after that number of failures: it doubles from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`].
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

    fn record(outcome: &StepOutcome, before: Option<&StepRecord>, now: SystemTime) -> StepRecord {
        StepRecord::of(outcome, before, "boot".into(), Fingerprint::default(), now)
    }

    #[test]
    fn a_failure_is_read_back_as_the_same_error_and_pauses_grow() {
        let now = UNIX_EPOCH + Duration::from_hours(1);
        let error = Error::new(ErrorId::Unreachable, "no connection")
            .about("https://hub")
            .hint("wait");
        let text = error.to_string();
        let failed = StepOutcome::Failed(error);
        let mut last: Option<StepRecord> = None;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let next = record(&failed, last.as_ref(), now);
            pauses.push(next.pause_left(now).as_secs());
            let text = serde_json::to_string(&next).unwrap();
            assert_eq!(serde_json::from_str::<StepRecord>(&text).unwrap(), next);
            last = Some(next);
        }
        assert_eq!(pauses, [30, 60, 120, 240, 300, 300, 300, 300]);
        let last = last.unwrap();
        assert_eq!(last.error().unwrap().to_string(), text);
        assert_eq!(last.error().unwrap().exit_code(), 69);
        // The clock was set to a time before the step.
        assert_eq!(last.pause_left(UNIX_EPOCH), Duration::ZERO);
        let good = record(&StepOutcome::Ready, Some(&last), now);
        assert_eq!((good.attempts, good.error().is_none()), (0, true));
        // A deferred error does not prevent the service from running.
        let later = StepOutcome::Deferred(Error::new(ErrorId::Unreachable, "no connection"));
        let later = record(&later, Some(&good), now);
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
        let record = StepRecord::of(
            &StepOutcome::Ready,
            None,
            "boot".into(),
            here.clone(),
            UNIX_EPOCH,
        );
        assert!(record.is_for("boot", &here));
        assert!(!record.is_for("other", &here));
        // The ids that the service's user can read are enough to recognise another machine.
        let seen = |machine_id: &str| Fingerprint {
            machine_id: Some(machine_id.into()),
            ..Fingerprint::default()
        };
        assert!(record.is_for("boot", &seen("b")));
        assert!(!record.is_for("boot", &seen("c")));
    }

    proptest! {
        /// With any time of the step before, and any present time.
        #[test]
        fn a_record_can_have_any_time(then in any_time(), now in any_time(), attempts: u32) {
            let failed = || StepOutcome::Failed(Error::new(ErrorId::Unreachable, "no connection"));
            let before = StepRecord { attempts, ..record(&failed(), None, then) };
            prop_assert!(before.pause_left(now) <= LONGEST_PAUSE);
            let after = record(&failed(), Some(&before), now);
            prop_assert!(after.pause_left(now) <= LONGEST_PAUSE);
        }
    }
}
