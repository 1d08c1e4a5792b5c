//! The implementation of the dialect interface, which the enrolment workflow calls.

use std::path::{Path, PathBuf};

use agent_core::ca_copy;
use agent_core::check::Check;
use agent_core::enrolment::{
    Cleanup, Confirmation, Descriptor, Dialect, Done, Enrolment, Exchange, Folder, FutureResult,
    Plan, Prepare, Preview, StatusReport,
};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::key_files::{CA, CERTIFICATE, KEY};
use agent_core::store::proof::{self, Target};
use agent_core::token::{Kind, Token};
use agent_core::token_source::TokenSource;
use serde_json::{Value, json};

use crate::exchange::EnrolRequest;
use crate::host_state::{EnrolmentState, RECORD_FILE, REQUEST_FILE};
use crate::mimir::{LOCK, Mimir, no_secret};
use crate::settings::{self, DEFAULT_FOLDER, FOLDER};
use crate::{checks, exchange, preview, renewal, status};

/// The entry of Mimir in the program's list of dialects.
pub static DESCRIPTOR: Descriptor = Descriptor {
    settings: settings::SETTINGS,
    secret_variables: settings::SECRETS,
    secret_flag: Some(("--enrollment-secret", settings::SECRET)),
    is_meant: settings::is_meant,
    ..Descriptor::new("mimir", "Agents of a Mimir server", |flags, environment| {
        Ok(Box::new(Mimir::read(flags, environment)?))
    })
};

impl Dialect for Mimir<'_> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn takes_secret(&self, force: bool) -> Result<bool> {
        let enrolment_state = self.enrolment_state()?;
        Ok(force
            || !matches!(
                enrolment_state,
                EnrolmentState::Enrolled | EnrolmentState::Unproved
            ))
    }

    fn read_secret(&self, text: &str, source: &TokenSource) -> Result<Token> {
        Token::shared(text, source)
    }

    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<Plan<'_>> {
        let enrolment_state = self.enrolment_state()?;
        let planned = Plan::Exchange(Box::new(PlannedExchange {
            host: self,
            enrolment_state,
            force,
        }));
        if !force {
            match enrolment_state {
                EnrolmentState::Enrolled | EnrolmentState::Unproved => {
                    self.refuse_other_server()?;
                }
                _ => {}
            }
            match enrolment_state {
                EnrolmentState::Enrolled if self.state.has_remains() || self.keeps_machine() => {
                    return Ok(Plan::Repair);
                }
                EnrolmentState::Enrolled => return Ok(Plan::Nothing),
                EnrolmentState::Unproved => return Ok(planned),
                _ => {}
            }
        }
        if !self.has_server {
            return Err(Error::new(
                ErrorId::BadHubUrl,
                "no server is set, and there is no default",
            )
            .hint("set it with --hub-url URL or MIMIR_SERVER_URL"));
        }
        if secret.is_none() {
            return Err(no_secret());
        }
        Ok(planned)
    }

    fn folders(&self) -> Vec<Folder> {
        vec![Folder {
            name: "Mimir's folder",
            path: self.state.files.folder().to_owned(),
            grant: self.environment.access().public_folder(),
            is_foreign: false,
            error_id: ErrorId::StateUnwritable,
        }]
    }

    fn lock_name(&self) -> &'static str {
        LOCK
    }

    fn recover(&mut self, _limit: Limit) -> FutureResult<'_, ()> {
        Box::pin(async { self.state.files.sweep() })
    }

    fn targets(&self) -> Result<Vec<Target>> {
        let state = &self.state;
        let writes_key =
            state.key()?.is_none() || matches!(self.enrolment_state()?, EnrolmentState::Clone);
        let public = [RECORD_FILE, REQUEST_FILE, CA, CERTIFICATE];
        let mut targets = state.files.targets(&public, writes_key);
        let folder = state.files.folder();
        targets.extend(ca_copy::target(&self.settings, folder, self.environment));
        Ok(targets)
    }

    fn prove_writable(&self) -> Result<()> {
        let mounts = self.environment.kernel_path(proof::MOUNTS);
        proof::prove(&self.targets()?, None, &mounts)
    }

    fn repair(&self) -> Result<bool> {
        // An update of the fingerprint is not a change of the enrolment, and no reason to fail.
        if self.keeps_machine()
            && let Err(error) = self.state.save_machine()
        {
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
        self.state.remove_request()
    }

    fn enrolled(&self) -> Result<Enrolment> {
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            hub_url: self.state.record.server_url.clone().unwrap_or_default(),
            hostname: None,
            changed: false,
            confirmation: Confirmation::NotAvailable,
            changes: Vec::new(),
            fields: exchange::report_fields(&self.state)?,
            cleanup: Cleanup::default(),
        })
    }

    fn facts(&self, facts: &HostFacts) -> Vec<(&'static str, Value)> {
        vec![("hostname", json!(facts.hostname))]
    }

    fn preview(
        &self,
        secret: Option<Kind>,
        force: bool,
        facts: &HostFacts,
    ) -> Result<Option<Preview>> {
        preview::preview(self, secret, force, facts)
    }

    fn status(&self) -> Result<StatusReport> {
        status::report(&self.state, self.environment)
    }

    fn ask_hub(&self) -> FutureResult<'_, bool> {
        Box::pin(renewal::accepts_certificate(self.flags, self.environment))
    }

    fn has_hub(&self) -> bool {
        self.has_server
    }

    fn checks(&self) -> Vec<Check> {
        checks::checks(self)
    }

    fn without_secret(&self) -> Check {
        checks::without_secret(self)
    }

    fn service_environment(&self) -> Vec<(&'static str, String)> {
        let folder = &self.settings.state_dir.value;
        if folder == Path::new(DEFAULT_FOLDER) {
            return Vec::new();
        }
        vec![(FOLDER, folder.to_string_lossy().into_owned())]
    }

    fn service_files(&self) -> Vec<PathBuf> {
        vec![self.state.files.folder().join(KEY)]
    }

    fn access(&self) -> Access {
        self.environment.access()
    }

    fn step(&self, is_service: bool) -> FutureResult<'_, Option<Error>> {
        Box::pin(renewal::step(self.flags, self.environment, is_service))
    }

    fn serve(&self) -> FutureResult<'_, ()> {
        Box::pin(renewal::serve(self.flags, self.environment))
    }
}

/// An exchange that is decided on, and for which nothing is written yet.
struct PlannedExchange<'a> {
    host: &'a Mimir<'a>,
    enrolment_state: EnrolmentState,
    force: bool,
}

impl<'a> Prepare<'a> for PlannedExchange<'a> {
    fn prepare(
        self: Box<Self>,
        secret: Option<&'a Token>,
        _: Limit,
    ) -> FutureResult<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let Self {
                host,
                enrolment_state,
                force,
            } = *self;
            let state = host.state.clone();
            let request = EnrolRequest::prepare(host, state, enrolment_state, secret, force)?;
            Ok(Box::new(request) as Box<dyn Exchange + 'a>)
        })
    }
}
