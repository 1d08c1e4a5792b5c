//! The host of this dialect: its settings, and its files.

use agent_core::enrolment::{self, Dialect, Enrolment};
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::settings::Settings;
use agent_core::store::lock;

use crate::host::{EnrolmentState, Host};
use crate::settings;

/// The lock, in the folder.
pub(crate) const LOCK: &str = lock::DIALECT_FILE;

/// This host, as it stands to a Mimir server.
pub(crate) struct Mimir<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) environment: &'a Environment,
    pub(crate) settings: Settings,
    pub(crate) has_server: bool,
    pub(crate) host: Host,
}

impl<'a> Mimir<'a> {
    /// Reads the settings, and what the host has.
    ///
    /// # Errors
    /// A bad setting, and notes that cannot be read.
    pub(crate) fn read(flags: &'a Flags, environment: &'a Environment) -> Result<Self> {
        let folder = settings::folder(flags, environment)?;
        let host = Host::read(environment.resolved_path(&folder), environment)?;
        let (settings, has_server) = settings::resolve(flags, environment, &host, &folder)?;
        Ok(Self {
            flags,
            environment,
            settings,
            has_server,
            host,
        })
    }

    pub(crate) fn enrolment_state(&self) -> Result<EnrolmentState> {
        self.host.enrolment_state(self.environment.now())
    }

    /// A host that is asked to be enrolled at another server than its own says so.
    pub(crate) fn refuse_other_server(&self) -> Result<()> {
        let asked = &self.settings.hub_url;
        match &self.host.notes.server_url {
            Some(own) if asked.source.is_explicit() && *own != asked.value.to_string() => {
                Err(Error::new(
                    ErrorId::OtherHub,
                    format!("its certificate is from {own}"),
                )
                .about(&asked.value)
                .hint("to move the host: monsys-agent enrol --force, with the new server's secret; to keep it: leave the server's URL out"))
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn no_secret() -> Error {
    Error::new(ErrorId::TokenMissing, "this host has no client certificate").hint(
        "set MIMIR_ENROLLMENT_SECRET, or use --token-file PATH, --token-file - or --token-command CMD",
    )
}

/// Enrols this host at a Mimir server. See [`enrolment::enrol_by`].
pub(crate) async fn enrol(flags: &Flags, environment: &Environment) -> Result<Enrolment> {
    let open = || -> Result<Box<dyn Dialect + '_>> {
        enrolment::checked(Box::new(Mimir::read(flags, environment)?), environment)
    };
    enrolment::enrol_by(&open, false, None, environment).await
}
