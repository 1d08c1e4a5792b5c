//! The host of this dialect: its settings and its files.

use agent_core::enrolment::{self, Dialect, Enrolment};
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::service::step;
use agent_core::settings::Settings;
use agent_core::store::{lock, proof};

use crate::host_state::{EnrolmentState, HostState};
use crate::settings;

/// Name of the lock, in Mimir's folder.
pub(crate) const LOCK: &str = lock::DIALECT_FILE;

/// This host as an agent of a Mimir server.
pub(crate) struct Mimir<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) environment: &'a Environment,
    pub(crate) settings: Settings,
    /// A server is set, so that `settings` does not hold a placeholder.
    pub(crate) has_server: bool,
    pub(crate) state: HostState,
}

impl<'a> Mimir<'a> {
    /// Reads the settings and the files of the host.
    ///
    /// # Errors
    /// A wrong setting, and a record that is broken or cannot be read.
    pub(crate) fn read(flags: &'a Flags, environment: &'a Environment) -> Result<Self> {
        let folder = settings::folder(flags, environment)?;
        let state = HostState::read(environment.resolved_path(&folder), environment)?;
        let (settings, has_server) = settings::resolve(flags, environment, &state, &folder)?;
        Ok(Self {
            flags,
            environment,
            settings,
            has_server,
            state,
        })
    }

    /// Returns the enrolment state at the present time.
    ///
    /// # Errors
    /// As [`HostState::enrolment_state`].
    pub(crate) fn enrolment_state(&self) -> Result<EnrolmentState> {
        self.state.enrolment_state(self.environment.now())
    }

    /// Returns whether the record lacks an id of this machine, and this user can write the record.
    pub(crate) fn keeps_machine(&self) -> bool {
        let folder = self.state.files.folder();
        self.state.has_old_machine() && step::owns(folder) && proof::may_write(folder)
    }

    /// Refuses a run that names another server than the one that issued the certificate.
    ///
    /// # Errors
    /// [`ErrorId::OtherHub`].
    pub(crate) fn refuse_other_server(&self) -> Result<()> {
        let requested = &self.settings.hub_url;
        match &self.state.record.server_url {
            Some(own) if requested.source.is_explicit() && *own != requested.value.to_string() => {
                Err(Error::new(
                    ErrorId::OtherHub,
                    format!("the host's certificate is from {own}"),
                )
                .about(&requested.value)
                .hint("to move the host to the new server: monsys-agent enrol --force, with the secret of that server; to keep the host where it is: run without the URL of the server"))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the error of a host without a certificate and without a secret.
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
