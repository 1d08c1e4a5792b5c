//! All settings, resolved once from flag, environment, `agent.toml` and built-in default.

mod ca_file;
mod hub_url;
pub mod misspelled;
mod proxy;
mod reader;
pub mod table;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use ca_file::CaFile;
pub use hub_url::HubUrl;
pub use proxy::ProxySettings;
pub use table::{Setting, TABLE};

use crate::environment::Environment;
use crate::error::{ErrorId, Result};
use crate::flags::Flags;
use crate::plain::refuse_control;
use crate::sourced::{Source, Sourced};
use crate::store::agent_toml::{AgentToml, FileSettings};
use crate::token::Secret;
use crate::token_source::TokenSource;
use reader::{Reader, absolute, resolve_one};

/// SHA-256 of a certificate's `SubjectPublicKeyInfo` (RFC 5280 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaPin(pub [u8; 32]);

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", crate::hex::encode(&self.0))
    }
}

/// The checked settings of a run.
pub struct Settings {
    /// Path of `agent.toml` on the host, without `--root`.
    pub config_path: PathBuf,
    /// State directory on the host, without `--root`.
    pub state_dir: Sourced<PathBuf>,
    /// The hub's URL.
    pub hub_url: Sourced<HubUrl>,
    /// Source of the token, if any. The token is read only when a command needs it.
    pub token: Option<TokenSource>,
    /// The host's own tags.
    pub tags: Sourced<Vec<String>>,
    /// The host's explicit role.
    pub role: Option<Sourced<String>>,
    /// Private CA; if it is set, the only trusted store.
    pub ca_file: Option<CaFile>,
    /// SPKI pin of a CA in the hub's chain.
    pub ca_pin: Option<Sourced<CaPin>>,
    /// Proxy for https.
    pub proxy: Option<Sourced<ProxySettings>>,
    /// True when plain http to other hosts is allowed.
    pub allow_http: Sourced<bool>,
    /// File that contains the host's name, on the host.
    pub hostname_file: Sourced<PathBuf>,
    /// os-release file of the host, on the host.
    pub os_release_file: Sourced<PathBuf>,
    /// Longest total time of an enrolment.
    pub wait: Sourced<Duration>,
    /// The run asks no hub for a confirmation (`--offline`).
    pub offline: bool,
    /// Longest random wait before the first try.
    pub splay: Sourced<Duration>,
    /// Shortest time between two attempts of the service to return to a hub that has forgotten this host.
    pub readmission_interval: Duration,
    /// True when the enrolment token is removed from cloud-init's files; `None` means only when cloud-init
    /// runs the agent.
    pub scrub_cloud_init: Option<bool>,
    /// `agent.toml` as it was when the settings were read.
    pub file: AgentToml,
}

impl Settings {
    /// Reads `agent.toml` and resolves every setting.
    ///
    /// # Errors
    /// Usage errors name the flag, variable or key. [`ErrorId::ConfigBroken`] for a broken `agent.toml`,
    /// [`ErrorId::ConfigUnwritable`] for an `agent.toml` that could not be replaced,
    /// [`ErrorId::ConfigUnreadable`] for one that this user may not read.
    pub fn resolve(flags: &Flags, environment: &Environment) -> Result<Self> {
        let config_path = config_path(flags, environment)?;
        let path = environment.path(&config_path);
        // The file itself is checked when it is open.
        environment.refuse_foreign_folder(path.parent().unwrap_or(&path))?;
        let file = AgentToml::load(&path)?;
        let settings = Self::with_file(flags, environment, &config_path, &file)?;
        environment.refuse_foreign_folder(&environment.resolved_path(&settings.state_dir.value))?;
        Ok(settings)
    }

    /// Resolves the settings as [`Settings::resolve`] does, but without `agent.toml` if this process may
    /// not read it.
    ///
    /// # Errors
    /// Usage errors, and a broken `agent.toml`.
    pub fn resolve_without(flags: &Flags, environment: &Environment) -> Result<Self> {
        let config_path = config_path(flags, environment)?;
        let path = environment.path(&config_path);
        environment.refuse_foreign_folder(path.parent().unwrap_or(&path))?;
        let file = match AgentToml::load(&path) {
            Err(error)
                if matches!(
                    error.id(),
                    ErrorId::ConfigUnwritable | ErrorId::ConfigUnreadable
                ) =>
            {
                tracing::debug!("{} is ignored: {}", path.display(), error.cause());
                AgentToml::absent(&path)
            }
            loaded => loaded?,
        };
        Self::with_file(flags, environment, &config_path, &file)
    }

    /// Resolves every setting, with an `agent.toml` that is already read.
    ///
    /// # Errors
    /// Usage errors name the flag, variable or key.
    pub fn with_file(
        flags: &Flags,
        environment: &Environment,
        config_path: &Path,
        file: &AgentToml,
    ) -> Result<Self> {
        let reader = Reader {
            environment,
            keys: file.settings(),
            path: config_path,
        };
        let state_dir = reader.resolve_one(
            &table::STATE_DIR,
            flags.state_dir.as_deref(),
            reader.keys.state_dir.as_deref(),
        )?;
        let state_dir = Sourced {
            value: absolute(&state_dir)?,
            source: state_dir.source,
        };
        let reached = reader.hub(&table::HUB_URL, flags)?;
        let token = TokenSource::resolve(flags, environment, reader.keys, config_path)?;
        Self::with(flags, &reader, state_dir, reached, token, file.clone())
    }

    /// Resolves the settings of a dialect with its own file, and its own names for its hub and its secret.
    ///
    /// # Errors
    /// Usage errors, which name the flag, variable or key.
    pub fn of_dialect(
        flags: &Flags,
        environment: &Environment,
        own: DialectSettings,
    ) -> Result<Self> {
        let mut keys = FileSettings::default();
        keys.hub_url = own.hub_url_in_file;
        let reader = Reader {
            environment,
            keys: &keys,
            path: &own.file,
        };
        let reached = reader.hub(own.hub_url, flags)?;
        let file = AgentToml::absent(&environment.path(&own.file));
        let state_dir = Sourced {
            value: own.folder,
            source: Source::Default,
        };
        let token = match TokenSource::explicit(flags, environment, own.secrets)? {
            None => own.secret_in_file.map(|(key, secret)| {
                TokenSource::Value(secret, Source::Key(key, own.file.clone()))
            }),
            given => given,
        };
        Self::with(flags, &reader, state_dir, reached, token, file)
    }

    fn with(
        flags: &Flags,
        reader: &Reader<'_>,
        state_dir: Sourced<PathBuf>,
        (hub_url, allow_http): (Sourced<HubUrl>, Sourced<bool>),
        token: Option<TokenSource>,
        file: AgentToml,
    ) -> Result<Self> {
        let keys = reader.keys;
        let path = |setting, key: &Option<String>| -> Result<Sourced<PathBuf>> {
            let sourced = reader.resolve_one(setting, None, key.as_deref())?;
            refuse_control(&sourced.value, &sourced.source)?;
            Ok(Sourced {
                value: PathBuf::from(sourced.value),
                source: sourced.source,
            })
        };
        let proxy = reader.proxy(&hub_url.value)?;
        Ok(Self {
            state_dir,
            hub_url,
            token,
            tags: reader.tags(flags)?,
            role: reader.role(flags)?,
            ca_file: reader.ca_file(flags)?,
            ca_pin: reader.ca_pin(flags)?,
            proxy,
            allow_http,
            hostname_file: path(&table::HOSTNAME_FILE, &keys.host_hostname_file)?,
            os_release_file: path(&table::OS_RELEASE_FILE, &keys.host_os_release_file)?,
            wait: reader.duration(&table::WAIT, flags.wait.as_deref(), keys.wait.as_deref())?,
            offline: flags.offline,
            splay: reader.duration(&table::SPLAY, flags.splay.as_deref(), keys.splay.as_deref())?,
            readmission_interval: reader
                .duration(
                    &table::READMISSION_INTERVAL,
                    None,
                    keys.readmission_interval.as_deref(),
                )?
                .value,
            scrub_cloud_init: reader.scrub_cloud_init(flags)?,
            config_path: reader.path.to_owned(),
            file,
        })
    }
}

impl Settings {
    /// Returns the proxy that connections to the hub go through. Plain http, and a hub among the exceptions, have
    /// none.
    #[must_use]
    pub fn proxy_in_use(&self) -> Option<&Sourced<ProxySettings>> {
        let proxy = self.proxy.as_ref()?;
        (self.hub_url.value.is_https() && !proxy.value.is_bypassed).then_some(proxy)
    }
}

/// The settings that a dialect has in places of its own.
pub struct DialectSettings {
    /// The dialect's names for the hub's URL.
    pub hub_url: &'static Setting,
    /// The hub's URL from the dialect's file, at the key of the setting `hub_url`.
    pub hub_url_in_file: Option<String>,
    /// The dialect's own file on the host, without `--root`.
    pub file: PathBuf,
    /// The folder of the dialect's credential on the host, without `--root`.
    pub folder: PathBuf,
    /// Variables of the dialect's secret. The first variable that is set wins; `MONSYS_TOKEN` comes last.
    pub secrets: &'static [&'static str],
    /// The key and the secret in the dialect's own file.
    pub secret_in_file: Option<(&'static str, Secret)>,
}

/// Returns the path of `agent.toml` on the host, without `--root`.
pub fn config_path(flags: &Flags, environment: &Environment) -> Result<PathBuf> {
    absolute(&resolve_one(
        &table::CONFIG,
        flags.config.as_deref(),
        None,
        environment,
    )?)
}

#[cfg(test)]
mod tests;
