//! The interface of the dialect, as the workflow calls it.

use std::path::{Path, PathBuf};

use agent_core::check::Check;
use agent_core::enrolment::{
    Cleanup, Descriptor, Dialect, Done, Enrolment, Exchange, Folder, FutureResult, Plan, Prepare,
    Preview, StatusReport,
};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::key_files::KEY;
use agent_core::token::{Kind, Token};
use agent_core::token_source::TokenSource;
use serde_json::{Value, json};

use crate::exchange::EnrolRequest;
use crate::host::EnrolmentState;
use crate::mimir::{LOCK, Mimir, no_secret};
use crate::settings::{self, DEFAULT_FOLDER, FOLDER};
use crate::{exchange, renewal, status, wire};

/// Mimir, as the program lists it.
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
        let decided = Plan::Exchange(Box::new(Decided {
            mimir: self,
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
                EnrolmentState::Enrolled if self.host.files.has_leftovers() => {
                    return Ok(Plan::Repair);
                }
                EnrolmentState::Enrolled => return Ok(Plan::Nothing),
                EnrolmentState::Unproved => return Ok(decided),
                _ => {}
            }
        }
        if !self.has_server {
            return Err(
                Error::new(ErrorId::BadHubUrl, "none is given, and there is no default")
                    .hint("give it with --hub-url URL, or as MIMIR_SERVER_URL"),
            );
        }
        if secret.is_none() {
            return Err(no_secret());
        }
        Ok(decided)
    }

    fn folders(&self) -> Vec<Folder> {
        vec![Folder {
            name: "Mimir's folder",
            path: self.host.files.folder().to_owned(),
            grant: self.environment.access().public_folder(),
            is_foreign: false,
            error_id: ErrorId::StateUnwritable,
        }]
    }

    fn lock_name(&self) -> &'static str {
        LOCK
    }

    fn recover(&mut self, _limit: Limit) -> FutureResult<'_, ()> {
        Box::pin(async { self.host.files.sweep() })
    }

    fn prove_writable(&self) -> Result<()> {
        self.host.files.prove_writable()
    }

    fn repair(&self) -> Result<bool> {
        // `recover` has removed what was left over, and there is nothing else.
        Ok(false)
    }

    fn enrolled(&self) -> Result<Enrolment> {
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            hub_url: self.host.notes.server_url.clone().unwrap_or_default(),
            hostname: None,
            changed: false,
            fields: exchange::held(&self.host)?,
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
        let plan = self.plan(secret.or(Some(Kind::Enrolment)), force)?;
        if !matches!(plan, Plan::Exchange(_)) {
            return Ok(None);
        }
        let key = match self.host.key()? {
            Some(_) if self.enrolment_state()? != EnrolmentState::Clone => "this host's own",
            Some(_) => "a new one: what is on this disk is another machine's",
            None => "a new one",
        };
        let folder = self.host.files.folder();
        Ok(Some(Preview {
            url: self.settings.hub_url.value.join(wire::ENROLL).to_string(),
            path: wire::ENROLL,
            body: json!({"hostname": facts.hostname}),
            rows: vec![
                ("key", key.into()),
                ("folder", folder.display().to_string()),
            ],
            json: json!({"folder": folder}),
        }))
    }

    fn status(&self) -> Result<StatusReport> {
        status::account(&self.host, self.environment)
    }

    fn checks(&self) -> Vec<Check> {
        status::checks(self)
    }

    fn without_secret(&self) -> Check {
        match self.enrolment_state() {
            Ok(EnrolmentState::Enrolled | EnrolmentState::Unproved) => {
                Check::good("token", "a host with a certificate needs none")
            }
            Ok(_) => Check::bad("token", &no_secret()),
            Err(_) => Check::skipped("token", "it is not known whether this host is enrolled"),
        }
    }

    fn service_environment(&self) -> Vec<(&'static str, String)> {
        let folder = &self.settings.state_dir.value;
        if folder == Path::new(DEFAULT_FOLDER) {
            return Vec::new();
        }
        vec![(FOLDER, folder.to_string_lossy().into_owned())]
    }

    fn service_files(&self) -> Vec<PathBuf> {
        vec![self.host.files.folder().join(KEY)]
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

/// An exchange that was decided on.
struct Decided<'a> {
    mimir: &'a Mimir<'a>,
    enrolment_state: EnrolmentState,
    force: bool,
}

impl<'a> Prepare<'a> for Decided<'a> {
    fn prepare(
        self: Box<Self>,
        secret: Option<&'a Token>,
        _: Limit,
    ) -> FutureResult<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let Self {
                mimir,
                enrolment_state,
                force,
            } = *self;
            let host = mimir.host.clone();
            let asking = EnrolRequest::prepare(mimir, host, enrolment_state, secret, force)?;
            Ok(Box::new(asking) as Box<dyn Exchange + 'a>)
        })
    }
}
