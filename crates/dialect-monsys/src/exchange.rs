//! One question to a monsys hub: with which key and token it is asked, and what is kept of the
//! answer.

use std::rc::Rc;

use serde_json::json;
use uuid::Uuid;

use crate::credential_store::{Confirmed, CredentialStore};
use crate::heartbeat_lock::HeartbeatLock;
use crate::identity::Identity;
use crate::monsys::{Monsys, held};
use crate::plan::{self, AfterRejection, Ask, Bearer, Call, KeyPlace};
use crate::state::Asked;
use crate::wire::{self, Admission, HostDescription};
use agent_core::enrolment::{self, Cleanup, Done, Enrolment};
use agent_core::enrolment::{Exchange, ExchangeStep};
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::client::{Client, Reply, Request, SendError};
use agent_core::hub::response::{self, Outcome};
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::token::{Secret, Token};

/// One run under the lock.
pub(crate) struct Run<'a> {
    settings: &'a Settings,
    keeper: CredentialStore<'a>,
    environment: &'a Environment,
    limit: Limit,
}

/// One question, ready to be asked.
pub(crate) struct EnrolRequest<'a> {
    settings: &'a Settings,
    keeper: CredentialStore<'a>,
    ask: Ask,
    client: Client,
    bearer: Secret,
    identity: Rc<Identity>,
    /// This run has marked the credential on the disk, so it may take the mark away again.
    is_marked_here: bool,
    /// Keeps the service's heartbeats back while there are two keys.
    #[expect(dead_code, reason = "held while it lives")]
    quiet: Option<HeartbeatLock>,
    /// What the hub has said.
    admission: Option<Admission>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(host: &'a Monsys<'_>, limit: Limit) -> Result<Self> {
        Ok(Self {
            settings: &host.settings,
            keeper: host.keeper()?,
            environment: host.environment,
            limit,
        })
    }

    /// Asks the hub, and persists what it says.
    pub(crate) async fn ask(self, ask: Ask, token: Option<&Token>) -> Result<Enrolment> {
        let (settings, environment, limit) = (self.settings, self.environment, self.limit);
        let mut asking = self.prepare(ask, token).await?;
        enrolment::run_exchange(&mut asking, token, settings, environment, limit).await
    }

    /// Puts on the disk what has to be there before the first request leaves.
    pub(crate) async fn prepare(self, ask: Ask, token: Option<&Token>) -> Result<EnrolRequest<'a>> {
        if ask.is_clone {
            tracing::info!(
                "the identity on this disk belongs to another machine: this one enrols as itself"
            );
        }
        let bearer = match (&ask.bearer, token) {
            (Bearer::Own(secret), _) => secret.clone(),
            (Bearer::Sourced, Some(token)) => token.secret().clone(),
            (Bearer::Sourced, None) => return Err(plan::no_token()),
        };
        let client = Client::new(self.settings)?;
        let quiet = match ask.key {
            KeyPlace::Next => {
                let state_dir = &self.keeper.paths.state_dir;
                Some(HeartbeatLock::alone(state_dir, self.limit.deadline).await?)
            }
            KeyPlace::Current => None,
        };
        let identity = self.keeper.identity(&ask)?;
        let is_marked_here = ask.replaces_credential && self.keeper.mark_renewing(true)?;
        Ok(EnrolRequest {
            settings: self.settings,
            keeper: self.keeper,
            ask,
            client,
            bearer,
            identity,
            is_marked_here,
            quiet,
            admission: None,
        })
    }
}

impl Exchange for EnrolRequest<'_> {
    fn client(&self) -> &Client {
        &self.client
    }

    fn url(&self) -> String {
        let hub = &self.settings.hub_url.value;
        hub.join(self.ask.call.path()).to_string()
    }

    fn request(&self, facts: &HostFacts) -> Result<Request<'_>> {
        let introduction = HostDescription {
            facts,
            machine_id: self.keeper.machine_id(),
            tags: &self.ask.own.tags,
            role: self.ask.own.role.as_deref(),
        };
        Ok(wire::request(
            &self.settings.hub_url.value,
            self.ask.call.path(),
            &self.bearer,
            &introduction,
            &self.identity,
        ))
    }

    fn classify(&mut self, url: &str, sent: std::result::Result<Reply, SendError>) -> Outcome<()> {
        let accepted: fn(&Reply) -> Result<Admission, String> = match self.ask.call {
            Call::Enrol => wire::enrolled,
            Call::Register => wire::registered,
        };
        response::classify(url, sent, |reply| {
            self.admission = Some(accepted(reply)?);
            Ok(())
        })
    }

    fn refused(&mut self, error: Error, is_certain: bool) -> Error {
        let is_other = error.id() == ErrorId::OtherKey;
        let drops_key = match self.ask.after_a_no {
            AfterRejection::Keep => false,
            AfterRejection::DropIfCertain => is_certain || is_other,
            AfterRejection::DropIfOther => is_other,
        };
        if drops_key && let Err(fault) = self.keeper.drop_next() {
            tracing::warn!("{}: {}", fault.what(), fault.cause());
        }
        if self.is_marked_here && is_certain {
            // The hub has given out no new credential, so the one on the disk lives.
            if let Err(fault) = self.keeper.mark_renewing(false) {
                tracing::warn!("{}: {}", fault.what(), fault.cause());
            }
        }
        self.ask.told(error)
    }

    fn persist(&mut self, facts: &HostFacts) -> Result<ExchangeStep> {
        let Some(mut admission) = self.admission.take() else {
            return Err(Error::new(ErrorId::Internal, "nothing was confirmed"));
        };
        let ask = &self.ask;
        if let Some(expected) = ask.must_be
            && admission.agent_id != expected
        {
            return Err(other_agent(admission.agent_id, expected));
        }
        let fresh = admission.agent_token.take();
        let done = match (ask.call, &ask.bearer, admission.is_new) {
            (Call::Enrol, _, true) => Done::Enrolled,
            (Call::Enrol, _, false) => Done::Recovered,
            (Call::Register, Bearer::Own(_), _) if ask.is_update => Done::Updated,
            (Call::Register, ..) => Done::Registered,
        };
        let agent_id = admission.agent_id;
        let saved = self.keeper.save(
            self.settings,
            Confirmed {
                admission,
                secret: fresh.as_ref().unwrap_or(&self.bearer),
                own: ask.own.clone(),
                key: ask.key,
                hostname: &facts.hostname,
                public_key: self.identity.public_key(),
            },
        );
        let Asked { tags, role } = saved.map_err(|error| not_written(error, ask))?;
        Ok(ExchangeStep::Enrolled(Enrolment {
            done,
            hub_url: self.settings.hub_url.value.to_string(),
            hostname: Some(facts.hostname.clone()),
            changed: true,
            fields: held(agent_id, json!(tags), json!(role), self.keeper.paths),
            cleanup: Cleanup::default(),
        }))
    }
}

/// The hub has accepted the host, and the credential could not be written.
fn not_written(error: Error, ask: &Ask) -> Error {
    let Bearer::Sourced = ask.bearer else {
        return error;
    };
    let fix = error.next_step().to_owned();
    error.hint(format!(
        "{fix}; the hub has accepted this host, so give the same token then: with this host's key it is the same agent, and spends no further use"
    ))
}

/// The hub answered with an agent that this host is not.
fn other_agent(answered: Uuid, this: Uuid) -> Error {
    Error::new(
        ErrorId::Refused,
        format!("the token is that of agent {answered}, and this host is agent {this}; nothing was changed"),
    )
    .hint(format!(
        "take the token of this host's own agent: POST /api/v1/agents/{this}/rotate-token"
    ))
}
