//! Every setting, resolved once: flag, environment, `agent.toml`, built-in default.

mod ca_file;
mod hub_url;
mod reader;
pub mod table;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use ca_file::CaFile;
pub use hub_url::HubUrl;
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

/// SHA-256 of a certificate's `SubjectPublicKeyInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaPin(pub [u8; 32]);

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", crate::hex::encode(&self.0))
    }
}

/// The proxy for https, and what goes past it.
#[derive(Clone)]
pub struct ProxySettings {
    /// Proxy URL; it may hold a password, so it is never shown whole.
    pub url: reqwest::Url,
    /// Comma-separated hosts and networks that are reached directly.
    pub bypass: Option<String>,
}

/// Everything a run needs to know, checked.
pub struct Settings {
    /// Path of `agent.toml` on the host, without `--root`.
    pub config_path: PathBuf,
    /// State directory on the host, without `--root`.
    pub state_dir: Sourced<PathBuf>,
    /// The hub.
    pub hub_url: Sourced<HubUrl>,
    /// Where the token is to be had, if anywhere. It is fetched only when it is needed.
    pub token: Option<TokenSource>,
    /// The host's own tags.
    pub tags: Sourced<Vec<String>>,
    /// The host's explicit role.
    pub role: Option<Sourced<String>>,
    /// Private CA: then the only store.
    pub ca_file: Option<CaFile>,
    /// SPKI pin of a CA in the hub's chain.
    pub ca_pin: Option<Sourced<CaPin>>,
    /// Proxy for https.
    pub proxy: Option<Sourced<ProxySettings>>,
    /// Plain http to other hosts is allowed.
    pub allow_http: Sourced<bool>,
    /// File that holds the host's name, on the host.
    pub hostname_file: PathBuf,
    /// os-release file of the host, on the host.
    pub os_release_file: PathBuf,
    /// Overall deadline of an enrolment.
    pub wait: Duration,
    /// Longest random wait before the first try.
    pub splay: Sourced<Duration>,
    /// Whether the enrolment token is taken out of cloud-init's files; `None` is by who runs us.
    pub scrub_cloud_init: Option<bool>,
    /// What `agent.toml` said when the settings were read.
    pub file: AgentToml,
}

impl Settings {
    /// Reads `agent.toml` and resolves every setting.
    ///
    /// # Errors
    /// Usage errors name the flag, variable or key; a broken `agent.toml` is
    /// [`ErrorId::ConfigBroken`], one that could not be replaced [`ErrorId::ConfigUnwritable`].
    pub fn resolve(flags: &Flags, environment: &Environment) -> Result<Self> {
        let config_path = config_path(flags, environment)?;
        let path = environment.path(&config_path);
        // The file itself is looked at when it is open.
        environment.refuse_foreign_folder(path.parent().unwrap_or(&path))?;
        let file = AgentToml::load(&path)?;
        let settings = Self::with_file(flags, environment, &config_path, &file)?;
        environment.refuse_foreign_folder(&environment.resolved_path(&settings.state_dir.value))?;
        Ok(settings)
    }

    /// As [`Settings::resolve`], for what can do without `agent.toml` when it may not read it.
    ///
    /// # Errors
    /// Usage errors, and a broken `agent.toml`.
    pub fn resolve_without(flags: &Flags, environment: &Environment) -> Result<Self> {
        let config_path = config_path(flags, environment)?;
        let path = environment.path(&config_path);
        environment.refuse_foreign_folder(path.parent().unwrap_or(&path))?;
        let file = match AgentToml::load(&path) {
            Err(error) if error.id() == ErrorId::ConfigUnwritable => {
                tracing::debug!("{} is passed over: {}", path.display(), error.cause());
                AgentToml::absent(&path)
            }
            loaded => loaded?,
        };
        Self::with_file(flags, environment, &config_path, &file)
    }

    /// Resolves every setting, with `agent.toml` as it was read.
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

    /// The settings of a system that has its own file, and its own names for its hub and its secret.
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
        let path = |setting, key: &Option<String>| -> Result<PathBuf> {
            let given = reader.resolve_one(setting, None, key.as_deref())?;
            refuse_control(&given.value, &given.source)?;
            Ok(PathBuf::from(given.value))
        };
        Ok(Self {
            state_dir,
            hub_url,
            token,
            tags: reader.tags(flags)?,
            role: reader.role(flags)?,
            ca_file: reader.ca_file(flags)?,
            ca_pin: reader.ca_pin(flags)?,
            proxy: reader.proxy()?,
            allow_http,
            hostname_file: path(&table::HOSTNAME_FILE, &keys.host_hostname_file)?,
            os_release_file: path(&table::OS_RELEASE_FILE, &keys.host_os_release_file)?,
            wait: reader
                .duration(&table::WAIT, flags.wait.as_deref(), keys.wait.as_deref())?
                .value,
            splay: reader.duration(&table::SPLAY, flags.splay.as_deref(), keys.splay.as_deref())?,
            scrub_cloud_init: reader.scrub_cloud_init(flags)?,
            config_path: reader.path.to_owned(),
            file,
        })
    }
}

/// What a system has in places of its own.
pub struct DialectSettings {
    /// Its names for the hub.
    pub hub_url: &'static Setting,
    /// The hub, as its own file has it, below the key that `hub_url` names.
    pub hub_url_in_file: Option<String>,
    /// Its own file on the host, without `--root`.
    pub file: PathBuf,
    /// The folder of its credential on the host, without `--root`.
    pub folder: PathBuf,
    /// Variables that hold its secret. The first that is set wins, and `MONSYS_TOKEN` comes last.
    pub secrets: &'static [&'static str],
    /// The secret, as its own file has it, and the key there.
    pub secret_in_file: Option<(&'static str, Secret)>,
}

/// Path of `agent.toml` on the host, without `--root`.
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
