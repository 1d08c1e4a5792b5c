//! The files that the agent writes for itself, when somebody else has written them.

use std::time::{Duration, SystemTime};

use agent_core::clock::Moment;
use agent_core::enrolment::step_record::{StepOutcome, StepRecord};
use agent_core::error::{Error, ErrorId};
use agent_core::service::{Health, Liveness};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dialect_monsys::state::{Next, State};
use monsys_agent::fuzzing;
use serde::Serialize;
use serde::de::DeserializeOwned;

const TIMES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_hours(24 * 365 * 57),
    Duration::from_hours(24 * 365 * 8000),
];

/// The first byte chooses the file. A file that is accepted is the same after it was written and read
/// again, and nothing in it makes the agent fail later on.
pub fn own_files(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind.wrapping_sub(b'a') % 5 {
        0 => state(bytes),
        1 => heartbeat(bytes),
        2 => install_record(bytes),
        3 => verdict(bytes),
        _ => signing_key(bytes),
    }
}

fn read<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, value);
    Some(value)
}

fn state(bytes: &[u8]) {
    let Some(state) = read::<State>(bytes) else {
        return;
    };
    let mut next = state.next.as_deref();
    while let Some(Next {
        key_file,
        confirmed,
        ..
    }) = next
    {
        assert!(
            key_file.starts_with("agent-signing.key.next-") && !key_file.contains('/'),
            "{key_file:?} leads out of the state directory, or to another file in it"
        );
        next = confirmed
            .as_ref()
            .and_then(|confirmed| confirmed.state.next.as_deref());
    }
    assert!(state.fingerprint.is_same_machine(&state.fingerprint));
    if let Some(step) = &state.step {
        is_usable(step);
    }
}

fn heartbeat(bytes: &[u8]) {
    let Some(mut health) = read::<Health>(bytes) else {
        return;
    };
    assert!(health.patience() >= Duration::from_mins(1));
    for since_1970 in TIMES {
        let by_wall = Moment::of_wall(SystemTime::UNIX_EPOCH + since_1970);
        let boot = health.since_boot.as_ref();
        let by_both = Moment {
            since_boot: Some(since_1970.as_secs()),
            boot_id: boot.map_or_else(String::new, |boot| boot.boot_id.clone()),
            ..by_wall.clone()
        };
        for now in [by_wall, by_both] {
            let pulse = Liveness::of(Some(&health), &now);
            assert!(!pulse.describe(Some(&health)).is_empty());
            assert!(!pulse.is_silent() || !pulse.hint().is_empty());
        }
    }
    let before = health.failing().map_or(0, |failure| failure.tries);
    let error = Error::new(ErrorId::Unreachable, "no connection");
    fuzzing::heartbeat_failed(&mut health, &error, SystemTime::UNIX_EPOCH);
    let after = health.failing().map_or(0, |failure| failure.tries);
    assert!(
        after > before || before == u64::MAX,
        "{after} after {before}"
    );
}

fn install_record(bytes: &[u8]) {
    if let Some(written) = fuzzing::install_record(bytes) {
        assert_eq!(fuzzing::install_record(&written), Some(written));
    }
}

fn verdict(bytes: &[u8]) {
    if let Some(verdict) = read::<StepRecord>(bytes) {
        is_usable(&verdict);
    }
}

fn is_usable(verdict: &StepRecord) {
    for since_1970 in TIMES {
        let left = verdict.pause_left(SystemTime::UNIX_EPOCH + since_1970);
        assert!(left <= Duration::from_mins(5), "a pause of {left:?}");
    }
    let Some(error) = verdict.error() else {
        return;
    };
    assert_ne!(error.exit_code(), 0);
    let carried = after(error, verdict);
    assert!(carried.attempts >= verdict.attempts);
    let error = carried.error().expect("a failed step has an error");
    assert_eq!(after(error, &carried).failure, carried.failure);
}

/// The verdict of a next step, which ends with the same error.
fn after(error: Error, before: &StepRecord) -> StepRecord {
    let boot = before.boot_id.clone();
    let machine = before.machine.clone();
    let now = SystemTime::UNIX_EPOCH + TIMES[1];
    let verdict = StepRecord::of(&StepOutcome::Failed(error), Some(before), boot, machine, now);
    assert!(verdict.is_for(&before.boot_id, &before.machine));
    verdict
}

/// A key has 32 bytes, and what it signs is signed to a hub.
fn signing_key(bytes: &[u8]) {
    let made = fuzzing::signing_key(bytes, b"body");
    assert_eq!(made.is_some(), bytes.len() == 32);
    if let Some([public, signature]) = made {
        assert!(hub::fuzzing::is_key(&public), "{public}");
        assert_eq!(STANDARD.decode(&public).map(|key| key.len()), Ok(32));
        let is_signed = |body: &[u8]| hub::fuzzing::is_signed(signature.as_bytes(), body, &public);
        assert!(is_signed(b"body") && !is_signed(b"Body"));
    }
}
