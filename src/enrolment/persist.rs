//! What an enrolment leaves on the disk, and in which order, so that a crash between any two
//! steps is mended by the next run.
//!
//! For a new host: key, state (which machine), *exchange*, agent.toml, agent-id, state. For a
//! clone the key waits beside the old one until the hub has confirmed it: next key, *exchange*,
//! agent.toml, rename of the key, agent-id, state. Between agent.toml and agent-id their ids
//! differ, and that tells [`roll_forward`] that the rename is due.

use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::error::{Error, ErrorId, Result};
use crate::facts::fingerprint::Fingerprint;
use crate::hub::monsys::Admission;
use crate::identity::{KEY_FILE, NEXT_KEY_FILE};
use crate::settings::Settings;
use crate::store::agent_toml::{ConnectionValue, Credential};
use crate::store::atomic::{self, Owner};
use crate::store::state::{Asked, State};
use crate::store::unwritable;
use crate::tags;
use crate::token::Secret;
use crate::world::World;

/// Name of the file that holds the agent's id.
pub(super) const ID_FILE: &str = "agent-id";

/// Where this host's files are, `--root` included.
pub struct Paths {
    /// `agent.toml`.
    pub config: PathBuf,
    /// The state directory.
    pub state_dir: PathBuf,
}

/// What the hub has confirmed.
pub(super) struct Confirmed<'a> {
    pub(super) admission: Admission,
    pub(super) secret: &'a Secret,
    pub(super) own: Asked,
}

impl Paths {
    /// The paths of the settings.
    #[must_use]
    pub fn of(settings: &Settings, world: &World) -> Self {
        Self {
            config: world.path(&settings.config_path),
            state_dir: world.path(&settings.state_dir.value),
        }
    }

    fn config_dir(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("/"))
    }

    pub(super) fn make_folders(&self) -> Result<()> {
        atomic::make_folder(&self.state_dir, 0o700)
            .map_err(|(path, error)| unwritable(ErrorId::StateUnwritable, &path, &error))?;
        atomic::make_folder(self.config_dir(), 0o755)
            .map_err(|(path, error)| unwritable(ErrorId::ConfigUnwritable, &path, &error))
    }

    /// The user that the secret files belong to: the state directory's, which is the service's.
    pub(super) fn owner(&self) -> Result<Owner> {
        Owner::of(&self.state_dir).map_err(|error| self.state_fault(&error))
    }

    pub(super) fn sweep(&self) -> Result<()> {
        atomic::sweep(&self.state_dir).map_err(|error| self.state_fault(&error))?;
        atomic::sweep(self.config_dir()).map_err(|error| self.config_fault(&error))
    }

    /// Proves, before a use is spent, that both directories take what will be written.
    pub(super) fn prove_writable(&self, settings: &Settings) -> Result<()> {
        let owner = self.owner()?;
        atomic::prove(&self.state_dir, 8 * 1024, owner)
            .map_err(|error| self.state_fault(&error))?;
        atomic::prove(self.config_dir(), settings.file.room(), owner)
            .map_err(|error| self.config_fault(&error))
    }

    pub(super) fn state_fault(&self, error: &io::Error) -> Error {
        unwritable(ErrorId::StateUnwritable, &self.state_dir, error)
    }

    fn config_fault(&self, error: &io::Error) -> Error {
        unwritable(ErrorId::ConfigUnwritable, &self.config, error)
    }

    fn write_id(&self, id: Uuid, owner: Owner) -> Result<()> {
        let path = self.state_dir.join(ID_FILE);
        atomic::write(&path, format!("{id}\n").as_bytes(), 0o644, owner)
            .map_err(|error| self.state_fault(&error))
    }

    fn read_id(&self) -> Option<Uuid> {
        let text = std::fs::read_to_string(self.state_dir.join(ID_FILE)).ok()?;
        text.trim().parse().ok()
    }
}

/// Writes what the hub has confirmed; returns the merged tags and role.
pub(super) fn save(
    settings: &Settings,
    paths: &Paths,
    world: &World,
    owner: Owner,
    confirmed: Confirmed<'_>,
) -> Result<Asked> {
    let Confirmed {
        admission,
        secret,
        own,
    } = confirmed;
    let merged = Asked {
        tags: tags::merge(&admission.default_tags, &own.tags),
        role: tags::merge_role(admission.default_role.as_deref(), own.role.as_deref()),
    };
    let text = settings.file.with(&Credential {
        hub_url: settings.hub_url.value.to_string(),
        agent_id: admission.agent_id,
        agent_token: secret,
        tags: &merged.tags,
        role: merged.role.as_deref(),
        connection: connection(settings, world),
    })?;
    settings
        .file
        .replace(&text, owner)
        .map_err(|error| paths.config_fault(&error))?;
    tracing::debug!("wrote {}", paths.config.display());
    take_next_key(paths)?;
    paths.write_id(admission.agent_id, owner)?;
    let state = State {
        fingerprint: Fingerprint::of(world),
        enrolled_at: Some(humantime::format_rfc3339_seconds(world.now()).to_string()),
        asked: own,
        defaults: Asked {
            tags: admission.default_tags,
            role: admission.default_role,
        },
        heartbeat_interval_secs: Some(admission.heartbeat_interval_secs),
        last_heartbeat: None,
    };
    state
        .save(&paths.state_dir, owner)
        .map_err(|error| paths.state_fault(&error))?;
    Ok(merged)
}

/// Settings that this run was given, and without which the service would not reach the hub.
fn connection(settings: &Settings, world: &World) -> Vec<(&'static str, ConnectionValue)> {
    let mut kept = Vec::new();
    if let Some(ca_file) = &settings.ca_file
        && ca_file.origin.is_asked()
    {
        match ca_file.value.strip_prefix(world.root()) {
            Ok(on_host) => {
                let path = Path::new("/").join(on_host);
                kept.push((
                    "ca_file",
                    ConnectionValue::Text(path.to_string_lossy().into_owned()),
                ));
            }
            Err(_) => tracing::warn!(
                "{} is outside of --root, so agent.toml does not name it: put the CA into the host's tree and set `ca_file` there",
                ca_file.value.display()
            ),
        }
    }
    if let Some(pin) = &settings.ca_pin
        && pin.origin.is_asked()
    {
        kept.push(("ca_pin", ConnectionValue::Text(pin.value.to_string())));
    }
    if settings.allow_http.value && settings.allow_http.origin.is_asked() {
        kept.push(("allow_http", ConnectionValue::Flag(true)));
    }
    if settings.state_dir.origin.is_asked() {
        let path = settings.state_dir.value.to_string_lossy().into_owned();
        kept.push(("state_dir", ConnectionValue::Text(path)));
    }
    kept
}

/// The id that a killed run of a clone wrote into agent.toml before it came to the rename of the
/// key, if that is so.
pub(super) fn half_done(settings: &Settings, paths: &Paths) -> Result<Option<Uuid>> {
    if !paths.state_dir.join(NEXT_KEY_FILE).exists() {
        return Ok(None);
    }
    let written = settings.file.agent_id()?;
    let before = paths.read_id();
    Ok(written.filter(|written| before.is_some_and(|before| before != *written)))
}

/// Ends what a killed run of a clone began, if there is something to end. Call it under the lock.
pub(super) fn roll_forward(settings: &Settings, paths: &Paths, world: &World) -> Result<()> {
    let Some(written) = half_done(settings, paths)? else {
        return Ok(());
    };
    tracing::info!("ending what an interrupted run began");
    let owner = paths.owner()?;
    take_next_key(paths)?;
    paths.write_id(written, owner)?;
    save_fingerprint(paths, world, owner)
}

fn take_next_key(paths: &Paths) -> Result<()> {
    let next = paths.state_dir.join(NEXT_KEY_FILE);
    if !next.exists() {
        return Ok(());
    }
    atomic::rename(&next, &paths.state_dir.join(KEY_FILE))
        .map_err(|error| paths.state_fault(&error))
}

/// Writes anew what an interrupted run did not come to, or somebody lost.
pub(super) fn repair(paths: &Paths, world: &World, owner: Owner, agent_id: Uuid) -> Result<()> {
    if paths.read_id() != Some(agent_id) {
        paths.write_id(agent_id, owner)?;
    }
    if State::load(&paths.state_dir).is_none() {
        save_fingerprint(paths, world, owner)?;
    }
    Ok(())
}

fn save_fingerprint(paths: &Paths, world: &World, owner: Owner) -> Result<()> {
    let state = State {
        fingerprint: Fingerprint::of(world),
        ..State::default()
    };
    state
        .save(&paths.state_dir, owner)
        .map_err(|error| paths.state_fault(&error))
}
