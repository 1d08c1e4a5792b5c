//! The interface of the dialect, as the workflow calls it.

use std::path::PathBuf;

use agent_core::check::Check;
use agent_core::enrolment::{
    Cleanup, Confirmation, Descriptor, Dialect, Done, Enrolment, Exchange, Folder, FutureResult,
    Plan, Prepare, Preview, StatusReport,
};
use agent_core::error::{ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::proof::{self, Target};
use agent_core::store::{atomic, lock, unwritable};
use agent_core::text::rows;
use agent_core::token::{Kind, Token};
use agent_core::token_source::TokenSource;
use serde_json::{Value, json};

use crate::exchange::{EnrolRequest, TOKENS};
use crate::host::{Host, SECRET, SERVER, SETTINGS, no_secret};

/// The dialect, as the program lists it.
pub static DESCRIPTOR: Descriptor = Descriptor {
    settings: SETTINGS,
    secret_variables: &[SECRET],
    is_meant: |environment| environment.env(SERVER).is_some(),
    ..Descriptor::new("example", "An invented system", |flags, environment| {
        Ok(Box::new(Host::read(flags, environment)?))
    })
};

impl Host<'_> {
    fn folder(&self) -> PathBuf {
        self.path.parent().unwrap_or(&self.path).to_owned()
    }
}

impl Dialect for Host<'_> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn takes_secret(&self, force: bool) -> Result<bool> {
        Ok(force || self.credential.is_none())
    }

    fn read_secret(&self, text: &str, source: &TokenSource) -> Result<Token> {
        Token::shared(text, source)
    }

    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<Plan<'_>> {
        if self.credential.is_some() && !force {
            return Ok(Plan::Nothing);
        }
        match secret {
            Some(_) => Ok(Plan::Exchange(Box::new(Decided(self)))),
            None => Err(no_secret()),
        }
    }

    fn folders(&self) -> Vec<Folder> {
        vec![Folder {
            name: "folder of the token",
            path: self.folder(),
            grant: self.access().public_folder(),
            is_foreign: false,
            error_id: ErrorId::StateUnwritable,
        }]
    }

    fn lock_name(&self) -> &'static str {
        lock::DIALECT_FILE
    }

    fn recover(&mut self, _: Limit) -> FutureResult<'_, ()> {
        let swept = atomic::sweep(&self.folder());
        let swept =
            swept.map_err(|error| unwritable(ErrorId::StateUnwritable, &self.folder(), &error));
        Box::pin(async { swept })
    }

    fn targets(&self) -> Result<Vec<Target>> {
        Ok(vec![Target {
            path: self.path.clone(),
            grant: self.access().secret(),
            room: 4096,
            error_id: ErrorId::StateUnwritable,
        }])
    }

    fn prove_writable(&self) -> Result<()> {
        let mounts = self.environment.kernel_path(proof::MOUNTS);
        proof::prove(&self.targets()?, None, &mounts)
    }

    fn repair(&self) -> Result<bool> {
        Ok(false)
    }

    fn enrolled(&self) -> Result<Enrolment> {
        let credential = self.credential.as_ref().ok_or_else(no_secret)?;
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            hub_url: credential.server.clone(),
            hostname: None,
            changed: false,
            confirmation: Confirmation::NotAvailable,
            changes: Vec::new(),
            fields: self.fields(),
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
        let Plan::Exchange(_) = self.plan(secret.or(Some(Kind::Enrolment)), force)? else {
            return Ok(None);
        };
        Ok(Some(Preview {
            url: self.settings.hub_url.value.join(TOKENS).to_string(),
            path: TOKENS,
            is_change: true,
            body: json!({"hostname": facts.hostname}),
            rows: vec![("file", self.path.display().to_string())],
            json: json!({"file": self.path}),
        }))
    }

    fn status(&self) -> Result<StatusReport> {
        let file = rows(&[("file", self.path.display().to_string())]);
        Ok(match &self.credential {
            Some(credential) => StatusReport {
                text: format!("This host is enrolled at {}.\n{file}", credential.server),
                json: json!({"enrolled": true, "hub_url": credential.server, "file": self.path}),
                exit_code: 0,
            },
            None => StatusReport {
                text: format!("This host is not enrolled.\n{file}"),
                json: json!({"enrolled": false, "file": self.path}),
                exit_code: ErrorId::NotEnrolled.kind().exit_code(),
            },
        })
    }

    fn checks(&self) -> Vec<Check> {
        let server = &self.settings.hub_url.value;
        vec![Check::good("settings", format!("the server is {server}"))]
    }

    fn without_secret(&self) -> Check {
        match self.credential {
            Some(_) => Check::good("token", "an enrolled host needs none"),
            None => Check::bad("token", &no_secret()),
        }
    }

    fn has_service(&self) -> bool {
        false
    }

    fn access(&self) -> Access {
        Access::private()
    }

    fn serve(&self) -> FutureResult<'_, ()> {
        Box::pin(async {
            let open = || DESCRIPTOR.open(self.flags, self.environment);
            agent_core::enrolment::enrol_by(&open, false, None, self.environment).await?;
            Ok(())
        })
    }
}

/// An exchange that was decided on.
struct Decided<'a>(&'a Host<'a>);

impl<'a> Prepare<'a> for Decided<'a> {
    fn prepare(
        self: Box<Self>,
        secret: Option<&'a Token>,
        _: Limit,
    ) -> FutureResult<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let secret = secret.ok_or_else(no_secret)?;
            let request = EnrolRequest::new(self.0, secret.secret())?;
            Ok(Box::new(request) as Box<dyn Exchange + 'a>)
        })
    }
}
