//! The files of an enrolled host as the service reads them, and the detection of their changes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use uuid::Uuid;

use super::transport::Transport;
use crate::credential_store::CredentialStore;
use crate::host_state::{EnrolmentState, HostState};
use crate::hub_check::HubCheck;
use crate::identity::{Identity, KEY_FILE};
use crate::paths::Paths;
use crate::plan::lost_key;
use crate::registration::Registration;
use crate::state;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::facts::route::Target;
use agent_core::flags::Flags;
use agent_core::service::step;
use agent_core::settings::Settings;
use agent_core::token::Secret;

/// Seconds between heartbeats when the hub has never named an interval.
const DEFAULT_INTERVAL_SECS: u64 = 30;
/// Longest interval at which the connection stays open between heartbeats. A proxy or a firewall on the way
/// drops a connection that is idle for longer.
const MAX_IDLE: Duration = Duration::from_mins(1);

/// The files and settings of an enrolled host.
pub(crate) struct OnDisk<T> {
    pub(crate) settings: Settings,
    pub(crate) agent_id: Uuid,
    pub(crate) token: Secret,
    pub(crate) identity: Rc<Identity>,
    pub(crate) registration: Registration,
    pub(crate) interval: Duration,
    pub(crate) stamp: Stamp,
    /// The machine as this user saw it when the files were read.
    pub(crate) seen: Fingerprint,
    pub(crate) transport: T,
    /// The hub's address, for the facts of the route to it; looked up once.
    pub(crate) target: Option<Target>,
    pub(crate) state_dir: PathBuf,
    /// The last time that the step asked the hub whether it still knows this host.
    pub(crate) hub_check: Option<HubCheck>,
    /// There is a next key: a rotation or an enrolment was interrupted.
    pub(crate) has_next_key: bool,
    /// Files are missing, remains of a killed run exist, or the fingerprint is not that of the machine now.
    pub(crate) is_incomplete: bool,
}

impl<T: Transport> OnDisk<T> {
    /// Reads an enrolled host. Returns `None` when there is no confirmed credential.
    pub(crate) fn read(flags: &Flags, environment: &Environment) -> Result<Option<Self>> {
        let settings = Settings::resolve(flags, environment)?;
        let paths = Paths::of(&settings, environment);
        let stamp = Stamp::of(flags, environment, &paths.state_dir);
        let HostState {
            enrolment_state,
            snapshot,
        } = HostState::inspect(&settings, &paths, environment)?;
        let enrolled = match enrolment_state {
            EnrolmentState::Enrolled(enrolled) => *enrolled,
            // Without root's view of the machine, this is not certain.
            EnrolmentState::Clone(_) if !step::owns(&paths.state_dir) => {
                return Err(step::needed(
                    "the ids of this machine are not those of the host that was enrolled",
                ));
            }
            EnrolmentState::Clone(_) => {
                return Err(not_enrolled(
                    "the identity on this disk belongs to another machine that this one was cloned from",
                ));
            }
            EnrolmentState::New(_) | EnrolmentState::Unconfirmed(..) => return Ok(None),
        };
        enrolled.refuse_other_hub(&settings)?;
        let is_updated = CredentialStore::new(&paths, environment, &snapshot)
            .with_machine_of_now()
            .is_none();
        let state = enrolled.state.as_ref();
        let seconds = state.and_then(|state| state.heartbeat_interval_secs);
        let interval =
            Duration::from_secs(seconds.unwrap_or(DEFAULT_INTERVAL_SECS).clamp(1, 86_400));
        let identity = snapshot.key.ok_or_else(lost_key)?;
        Ok(Some(Self {
            registration: Registration::of(&settings, state, snapshot.machine.machine_id),
            hub_check: state.and_then(|state| state.hub_check.clone()),
            has_next_key: state.is_some_and(|state| state.next.is_some()),
            is_incomplete: !enrolled.is_complete(&paths) || !is_updated,
            seen: Fingerprint::of(environment)?,
            transport: T::new(&settings, interval <= MAX_IDLE)?,
            agent_id: enrolled.agent_id,
            token: enrolled.agent_token,
            state_dir: paths.state_dir,
            target: None,
            settings,
            identity,
            interval,
            stamp,
        }))
    }
}

/// The versions of agent.toml, key and state.json: inode, size, and time of change in seconds and nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp([Option<(u64, u64, i64, i64)>; 3]);

impl Stamp {
    pub(crate) fn of(flags: &Flags, environment: &Environment, state_dir: &Path) -> Self {
        let of = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some((
                metadata.ino(),
                metadata.len(),
                metadata.mtime(),
                metadata.mtime_nsec(),
            ))
        };
        let config = agent_core::settings::config_path(flags, environment).unwrap_or_default();
        Self([
            of(&environment.path(config)),
            of(&state_dir.join(KEY_FILE)),
            of(&state_dir.join(state::FILE)),
        ])
    }
}

/// Returns the error of a host without a credential for heartbeats.
pub(crate) fn not_enrolled(cause: &str) -> Error {
    Error::new(ErrorId::NotEnrolled, cause)
}
