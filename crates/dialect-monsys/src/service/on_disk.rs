//! What the service reads of an enrolled host, and how it sees that something has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use uuid::Uuid;

use super::transport::Wire;
use crate::host_state::{EnrolmentState, HostState};
use crate::identity::{Identity, KEY_FILE};
use crate::paths::Paths;
use crate::plan::lost_key;
use crate::registration::Registration;
use crate::state;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::route::Target;
use agent_core::flags::Flags;
use agent_core::settings::Settings;
use agent_core::token::Secret;

/// Between heartbeats when the hub has never said.
const INTERVAL: u64 = 30;
/// Above this interval a connection is not kept: something on the way would have dropped it.
const KEPT: Duration = Duration::from_mins(1);

/// What was read from the disk.
pub(crate) struct OnDisk<W> {
    pub(crate) settings: Settings,
    pub(crate) agent_id: Uuid,
    pub(crate) token: Secret,
    pub(crate) identity: Rc<Identity>,
    pub(crate) introducer: Registration,
    pub(crate) interval: Duration,
    pub(crate) stamp: Stamp,
    pub(crate) wire: W,
    /// Where the hub is, for the address that reaches it; looked up once.
    pub(crate) target: Option<Target>,
    pub(crate) state_dir: PathBuf,
    /// A new key waits, and whether the hub has it pinned is not known.
    pub(crate) is_unsettled: bool,
    /// A killed run has left something behind.
    pub(crate) is_untidy: bool,
}

impl<W: Wire> OnDisk<W> {
    /// `None` when there is no credential.
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
            EnrolmentState::Clone(_) => {
                return Err(not_enrolled(
                    "the identity on this disk belongs to another machine that this one was cloned from",
                ));
            }
            EnrolmentState::New(_) | EnrolmentState::Unconfirmed(..) => return Ok(None),
        };
        let state = enrolled.state.as_ref();
        let seconds = state.and_then(|state| state.heartbeat_interval_secs);
        let interval = Duration::from_secs(seconds.unwrap_or(INTERVAL).clamp(1, 86_400));
        let identity = snapshot.key.ok_or_else(lost_key)?;
        Ok(Some(Self {
            introducer: Registration::of(&settings, state, snapshot.machine.machine_id),
            is_unsettled: state.is_some_and(|state| state.next.is_some()),
            is_untidy: !paths.are_complete(&enrolled),
            wire: W::new(&settings, interval <= KEPT)?,
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

/// What tells that a file was replaced or edited: inode, size, and time of change.
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

/// There is no credential that a heartbeat could go out with.
pub(crate) fn not_enrolled(cause: &str) -> Error {
    Error::new(ErrorId::NotEnrolled, cause)
}
