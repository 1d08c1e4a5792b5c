//! The privileged step before the service (contract, section 5). The service writes only to `/run/monsys`, so
//! the step writes all other files.
//!
//! The service manager runs the step as root (`monsys-agent prepare`). The step never fails the unit: it stores
//! a [`StepRecord`], and `run` ends with the error in it. When the service's user owns all files, `run` does
//! the step itself, and then executes itself again without the secret's variable.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::enrolment::step_record::{StepOutcome, StepRecord};
use crate::enrolment::{self, Descriptor, Dialect};
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};
use crate::facts::fingerprint::Fingerprint;
use crate::flags::Flags;
use crate::store::atomic::{self, Owner};
use crate::store::{safe_read, unreadable, unwritable};

/// Folder of the running system for the files that the step hands over to the service.
const HANDOVER: &str = "/run/monsys-step";
/// Name of the step's record in that folder.
const FILE: &str = "verdict.json";
/// Name of the file with the boot's id, as the step sees it. The service's sandbox has its own `/proc`. In a
/// container of systemd-nspawn, that `/proc` shows the boot id of the machine instead of the container's.
const BOOT_ID: &str = "boot_id";

/// Selects the dialect of this run, by flag, environment or default.
pub type Selected<'a> = dyn Fn() -> Result<&'static Descriptor> + 'a;

/// Runs the step as root and stores its result. A failure of the step is not an error of this function: the
/// service ends with it.
pub async fn prepare(
    dialect: &Selected<'_>,
    flags: &Flags,
    environment: &Environment,
) -> StepRecord {
    let open = || dialect()?.open(flags, environment);
    let before = open().ok().and_then(|host| recorded(&*host, environment));
    if let Some(waiting) = before
        .as_ref()
        .filter(|before| waits(before, open(), environment))
    {
        let pause = waiting.pause_left(environment.now()).as_secs();
        tracing::info!(
            "the step failed a short time ago, and no configuration file changed since: next try in {pause} s"
        );
        return waiting.clone();
    }
    let outcome = match step(dialect, flags, environment).await {
        Ok(None) => StepOutcome::Ready,
        Ok(Some(error)) => StepOutcome::Deferred(error),
        Err(error) => StepOutcome::Failed(error),
    };
    match &outcome {
        StepOutcome::Ready => {}
        StepOutcome::Deferred(error) | StepOutcome::Failed(error) => {
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
    }
    let machine = Fingerprint::of(environment).unwrap_or_default();
    let record = StepRecord::of(
        &outcome,
        before.as_ref(),
        environment.boot_id(),
        machine,
        environment.now(),
    );
    let stored = store(&record, open(), environment).await;
    let boot_id = hand_over(BOOT_ID, record.boot_id.as_bytes(), environment);
    for error in [stored, boot_id].into_iter().filter_map(Result::err) {
        tracing::warn!("{}: {}", error.what(), error.cause());
    }
    record
}

async fn step(
    dialect: &Selected<'_>,
    flags: &Flags,
    environment: &Environment,
) -> Result<Option<Error>> {
    let dialect = dialect()?;
    (dialect.take_over)(flags, environment)?;
    let later = dialect.open(flags, environment)?.step(false).await?;
    // An incomplete cleanup does not prevent the service from starting.
    let left = enrolment::scrub_again(&*dialect.open(flags, environment)?, environment);
    Ok(later.or(left))
}

/// Returns whether the step has to wait, because it could not reach the hub a short time ago. A change of the
/// configuration since then ends the wait.
fn waits(
    record: &StepRecord,
    host: Result<Box<dyn Dialect + '_>>,
    environment: &Environment,
) -> bool {
    let is_transport = record
        .error()
        .is_some_and(|error| error.id() == ErrorId::Unreachable);
    let changed_at = host
        .ok()
        .and_then(|host| newest_change(&host.configuration_files()));
    let at = humantime::parse_rfc3339(&record.at).ok();
    is_transport
        && record.boot_id == environment.boot_id()
        && !record.pause_left(environment.now()).is_zero()
        && changed_at.is_none_or(|changed| at.is_some_and(|at| changed <= at))
}

fn newest_change(files: &[PathBuf]) -> Option<SystemTime> {
    files
        .iter()
        .filter_map(|path| path.metadata().ok()?.modified().ok())
        .max()
}

/// Checks that the step has succeeded in this boot and on this machine.
///
/// # Errors
/// The error of the step, or [`ErrorId::StepNeeded`] when no step ran.
pub fn check(host: &dyn Dialect, environment: &Environment) -> Result<()> {
    let machine = Fingerprint::of(environment)?;
    let boots = boot_ids(environment)?;
    let is_ours = |record: &StepRecord| boots.iter().any(|id| record.is_for(id, &machine));
    match recorded(host, environment) {
        Some(record) if is_ours(&record) => match record.error() {
            Some(error) => Err(error),
            None => Ok(()),
        },
        Some(_) => Err(needed(
            "the recorded step ran in another boot or on another machine",
        )),
        None => Err(needed("no step is recorded")),
    }
}

/// Returns the ids of this boot: the kernel's, and the one that the step has handed over.
fn boot_ids(environment: &Environment) -> Result<[String; 2]> {
    let handed = handed_over(BOOT_ID, environment)?.unwrap_or_default();
    let handed = String::from_utf8_lossy(&handed).into_owned();
    Ok([environment.boot_id(), handed])
}

/// Returns the fingerprint of this machine. Only root can read the product UUID. For another user, the UUID
/// counts that the step has recorded in this boot: in `stored`, the host's own state, or in the handover folder.
///
/// # Errors
/// As [`Fingerprint::of`].
pub fn machine(stored: Option<&StepRecord>, environment: &Environment) -> Result<Fingerprint> {
    let machine = Fingerprint::of(environment)?;
    if machine.product_uuid.is_some() || Owner::ours().is_root() {
        return Ok(machine);
    }
    let Ok(boots) = boot_ids(environment) else {
        return Ok(machine);
    };
    let handed = handed_record(environment);
    let records = [stored, handed.as_ref()];
    let ours = records
        .into_iter()
        .flatten()
        .find(|record| boots.iter().any(|id| record.is_for(id, &machine)));
    Ok(match ours {
        Some(record) => machine.with_uuid_of(&record.machine),
        None => machine,
    })
}

/// Returns this boot's id: the id that the step has handed over, or else the kernel's.
pub fn boot_id(environment: &Environment) -> String {
    match handed_over(BOOT_ID, environment) {
        Ok(Some(handed)) => String::from_utf8_lossy(&handed).trim().to_owned(),
        _ => environment.boot_id(),
    }
}

/// Returns the error that the step has to run first, with its cause.
#[must_use]
pub fn needed(cause: &str) -> Error {
    Error::new(ErrorId::StepNeeded, cause)
}

/// Returns whether this user owns the host's files. Then the step does not need a service manager.
#[must_use]
pub fn is_own(host: &dyn Dialect) -> bool {
    host.folders()
        .first()
        .is_none_or(|folder| owns(&folder.path))
}

/// Returns whether `folder` belongs to this user. Root owns every folder.
#[must_use]
pub fn owns(folder: &Path) -> bool {
    let ours = Owner::ours();
    match Owner::of(folder) {
        Ok(owner) => ours.is_root() || owner.ids().0 == ours.ids().0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Returns whether root has run the step for this user's service and handed over the record. The files still
/// belong to the service's user when root could not take over the files of an older release.
#[must_use]
pub fn was_done_for_us(environment: &Environment) -> bool {
    !Owner::ours().is_root() && matches!(handed_over(FILE, environment), Ok(Some(_)))
}

/// Returns the last record, from the host's own state or from the handover folder.
pub fn recorded(host: &dyn Dialect, environment: &Environment) -> Option<StepRecord> {
    let handed = handed_record(environment);
    let stored = host.step_record();
    let boot_id = environment.boot_id();
    // The present boot counts first: the clock may be wrong at the begin of a boot. Texts of RFC 3339 in UTC
    // sort by time.
    [stored, handed]
        .into_iter()
        .flatten()
        .max_by_key(|record| (record.boot_id == boot_id, record.at.clone()))
}

/// Returns the record in the handover folder.
fn handed_record(environment: &Environment) -> Option<StepRecord> {
    let bytes = handed_over(FILE, environment).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// Writes the record into the host's own state. A host without a state, or with a disk that cannot be written,
/// gets the record in memory.
async fn store(
    record: &StepRecord,
    host: Result<Box<dyn Dialect + '_>>,
    environment: &Environment,
) -> Result<()> {
    let stored = match host {
        Ok(host) => host.save_step_record(record).await,
        Err(error) => Err(error),
    };
    if let Ok(true) = stored {
        return atomic::remove(&environment.resolved_path(HANDOVER).join(FILE))
            .map_err(|error| unwritable(ErrorId::StateUnwritable, Path::new(HANDOVER), &error));
    }
    let bytes = serde_json::to_vec(record).unwrap_or_default();
    hand_over(FILE, &bytes, environment)
}

/// Hands `bytes` over to the service, in memory. Root owns the file, and the service's group can read it.
///
/// # Errors
/// [`ErrorId::StateUnwritable`].
pub fn hand_over(name: &str, bytes: &[u8], environment: &Environment) -> Result<()> {
    let folder = environment.resolved_path(HANDOVER);
    let access = environment.access();
    let state_unwritable =
        |path: &Path, error: &io::Error| unwritable(ErrorId::StateUnwritable, path, error);
    atomic::make_folder(&folder, access.shared_folder())
        .map_err(|(path, error)| state_unwritable(&path, &error))?;
    let path = folder.join(name);
    let grant = access.shared();
    atomic::write(&path, bytes, grant.mode, grant.owner)
        .map_err(|error| state_unwritable(&path, &error))
}

/// Reads the file that the step has handed over under this name.
///
/// # Errors
/// [`ErrorId::Unreadable`].
pub fn handed_over(name: &str, environment: &Environment) -> Result<Option<Vec<u8>>> {
    let path = environment.resolved_path(HANDOVER).join(name);
    match safe_read::own(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&path, &error)),
    }
}

/// Removes the file that was handed over under this name.
pub fn remove_handover(name: &str, environment: &Environment) {
    let path = environment.resolved_path(HANDOVER).join(name);
    if let Err(error) = atomic::remove(&path) {
        tracing::debug!("{}: {error}", path.display());
    }
}
