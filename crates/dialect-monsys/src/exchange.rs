//! The enrolment request to a monsys hub: its key, its token, and what is stored of the response.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::json;
use uuid::Uuid;

use crate::credential_store::{Confirmed, CredentialStore, Saved};
use crate::heartbeat_lock::HeartbeatLock;
use crate::hub_clock::HubClock;
use crate::identity::Identity;
use crate::monsys::{Monsys, report_fields};
use crate::plan::{self, Bearer, Call, KeyPlace, NextKeyOnRejection, PlannedRequest, Purpose};
use crate::state::TagsAndRole;
use crate::wire::{self, Admission, HostDescription};
use agent_core::clock;
use agent_core::enrolment::{self, Cleanup, Confirmation, Done, Enrolment};
use agent_core::enrolment::{Exchange, ExchangeStep};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::client::{Client, Reply, Request, SendError};
use agent_core::hub::response::{self, Outcome};
use agent_core::hub::retry::Limit;
use agent_core::settings::Settings;
use agent_core::token::{Secret, Token};

/// An enrolment or registration request, ready to be sent. The host's lock is held.
pub(crate) struct EnrolRequest<'a> {
    settings: &'a Settings,
    store: CredentialStore<'a>,
    planned: PlannedRequest,
    client: Client,
    /// The token; `None` for a readmission, which has none.
    bearer: Option<Secret>,
    identity: Rc<Identity>,
    /// This run has set `renewing` in state.json, so it may clear it again.
    has_set_renewing: bool,
    /// Holds the service's heartbeats back while there are two keys.
    #[expect(dead_code, reason = "holds the lock while it lives")]
    heartbeat_lock: Option<HeartbeatLock>,
    /// The hub's response, once it has accepted the request.
    admission: Option<Admission>,
    /// The hub's clock, by which a readmission is stamped.
    clock: &'a RefCell<HubClock>,
}

/// Sends the planned request until the hub accepts or rejects it, and stores the credential.
///
/// # Errors
/// The hub's rejection, no response until the deadline, and files that cannot be written.
pub(crate) async fn exchange(
    host: &Monsys<'_>,
    planned: PlannedRequest,
    token: Option<&Token>,
    limit: Limit,
) -> Result<Enrolment> {
    let mut request = EnrolRequest::prepare(host, planned, token, limit).await?;
    enrolment::run_exchange(&mut request, token, &host.settings, host.environment, limit).await
}

impl<'a> EnrolRequest<'a> {
    /// Writes the files that have to be on the disk before the first request is sent.
    ///
    /// # Errors
    /// A missing token, a heartbeat that does not end until the deadline, and files that cannot be
    /// written.
    pub(crate) async fn prepare(
        host: &'a Monsys<'_>,
        planned: PlannedRequest,
        token: Option<&Token>,
        limit: Limit,
    ) -> Result<Self> {
        let (settings, store) = (&host.settings, host.credential_store()?);
        if planned.is_clone {
            tracing::info!(
                "the identity on this disk belongs to another machine: this host enrols with a new identity"
            );
        }
        let bearer = match (&planned.bearer, token) {
            (Bearer::Own(secret), _) => Some(secret.clone()),
            (Bearer::Sourced, Some(token)) => Some(token.secret().clone()),
            (Bearer::Sourced, None) => return Err(plan::no_token()),
            (Bearer::Receipt(_), _) => None,
        };
        let client = Client::new(settings)?;
        let heartbeat_lock = match planned.key {
            KeyPlace::Next => {
                let state_dir = &store.paths.state_dir;
                Some(HeartbeatLock::exclusive(state_dir, limit.deadline).await?)
            }
            KeyPlace::Current => None,
        };
        let identity = store.identity(&planned)?;
        let has_set_renewing = planned.replaces_credential && store.set_renewing(true)?;
        Ok(Self {
            settings,
            store,
            planned,
            client,
            bearer,
            identity,
            has_set_renewing,
            heartbeat_lock,
            admission: None,
            clock: &host.hub_clock,
        })
    }

    /// Takes the credential that agent.toml holds now, if it is not the one that was sent: another process may
    /// have replaced it. Returns whether it was replaced.
    fn take_newer_credential(&mut self) -> bool {
        let now = self.settings.file.current();
        let Some(token) = now.ok().and_then(|file| file.agent_token().ok().flatten()) else {
            return false;
        };
        let is_newer = |sent: &Secret| sent.expose_secret() != token.expose_secret();
        if !self.bearer.as_ref().is_some_and(is_newer) {
            return false;
        }
        tracing::info!("agent.toml holds another credential now: trying that one");
        self.bearer = Some(token.clone());
        self.planned.bearer = Bearer::Own(token);
        true
    }
}

impl Exchange for EnrolRequest<'_> {
    fn client(&self) -> &Client {
        &self.client
    }

    fn url(&self) -> String {
        let hub = &self.settings.hub_url.value;
        hub.join(self.planned.call.path()).to_string()
    }

    fn request(&self, facts: &HostFacts) -> Result<Request<'_>> {
        let description = HostDescription {
            facts,
            machine_id: self.store.machine_id(),
            tags: &self.planned.own.tags,
            role: self.planned.own.role.as_deref(),
        };
        let hub = &self.settings.hub_url.value;
        match (&self.planned.bearer, &self.bearer) {
            (Bearer::Receipt(receipt), _) => {
                // In nanoseconds: the hub takes each body once, so a second try needs another time.
                let at = clock::rfc3339_nanos(self.clock.borrow().at(self.store.now()));
                Ok(wire::readmission(
                    hub,
                    receipt,
                    &at,
                    &description,
                    &self.identity,
                ))
            }
            (_, Some(bearer)) => Ok(wire::request(
                hub,
                self.planned.call.path(),
                bearer,
                &description,
                &self.identity,
            )),
            (_, None) => Err(plan::no_token()),
        }
    }

    fn classify(&mut self, url: &str, sent: std::result::Result<Reply, SendError>) -> Outcome<()> {
        let accepted: fn(&Reply) -> Result<Admission, String> = match self.planned.call {
            Call::Enrol | Call::Readmit => wire::enrolled,
            Call::Register => wire::registered,
        };
        let is_own = matches!(self.planned.bearer, Bearer::Own(_));
        let is_readmission = self.planned.call == Call::Readmit;
        let has_learnt = (is_own || is_readmission)
            && sent.as_ref().is_ok_and(|reply| {
                let mut clock = self.clock.borrow_mut();
                clock.learn(reply, self.store.now())
            });
        let accept = |reply: &Reply| {
            self.admission = Some(accepted(reply)?);
            Ok(())
        };
        let outcome = if is_own {
            response::classify_own(url, sent, accept)
        } else {
            response::classify(url, sent, accept)
        };
        match outcome {
            Outcome::Stop(error)
                if (is_readmission && has_learnt)
                    || (error.id() == ErrorId::Forgotten && self.take_newer_credential()) =>
            {
                Outcome::Wait {
                    error,
                    retry_after: None,
                }
            }
            outcome => outcome,
        }
    }

    fn refused(&mut self, error: Error, is_certain: bool) -> Error {
        let is_other = error.id() == ErrorId::OtherKey;
        let drops_next_key = match self.planned.next_key_on_rejection {
            NextKeyOnRejection::Keep => false,
            NextKeyOnRejection::DropIfCertain => is_certain || is_other,
            NextKeyOnRejection::DropIfOtherPinned => is_other,
        };
        if drops_next_key && let Err(fault) = self.store.drop_next_key() {
            tracing::warn!("{}: {}", fault.what(), fault.cause());
        }
        if self.has_set_renewing && is_certain {
            // The hub has issued no new credential, so the one on the disk stays valid.
            if let Err(fault) = self.store.set_renewing(false) {
                tracing::warn!("{}: {}", fault.what(), fault.cause());
            }
        }
        self.planned.explain_rejection(error)
    }

    fn persist(&mut self, facts: &HostFacts) -> Result<ExchangeStep> {
        let Some(mut admission) = self.admission.take() else {
            return Err(Error::new(ErrorId::Internal, "nothing was confirmed"));
        };
        let planned = &self.planned;
        if let Some(expected) = planned.must_be
            && admission.agent_id != expected
        {
            return Err(other_agent(admission.agent_id, expected));
        }
        let fresh = admission.agent_token.take();
        let done = match (planned.call, &planned.bearer, admission.is_new) {
            (Call::Enrol, _, true) => Done::Enrolled,
            (Call::Enrol, _, false) => Done::Recovered,
            (Call::Readmit, ..) => Done::Readmitted,
            (Call::Register, Bearer::Own(_), _) if planned.purpose != Purpose::Admission => {
                Done::Updated
            }
            (Call::Register, ..) => Done::Registered,
        };
        let agent_id = admission.agent_id;
        let saved = self.store.save(
            self.settings,
            Confirmed {
                admission,
                secret: fresh
                    .as_ref()
                    .or(self.bearer.as_ref())
                    .ok_or_else(plan::no_token)?,
                own: planned.own.clone(),
                key: planned.key,
                hostname: &facts.hostname,
                public_key: self.identity.public_key(),
            },
        );
        let Saved {
            labels: TagsAndRole { tags, role },
            is_changed,
            changes,
        } = saved.map_err(|error| not_written(error, planned))?;
        let done = match done {
            Done::Updated if changes.is_empty() => Done::AlreadyEnrolled,
            done => done,
        };
        Ok(ExchangeStep::Enrolled(Enrolment {
            done,
            hub_url: self.settings.hub_url.value.to_string(),
            hostname: Some(facts.hostname.clone()),
            changed: is_changed,
            confirmation: Confirmation::Confirmed,
            changes,
            fields: report_fields(agent_id, json!(tags), json!(role), self.store.paths),
            cleanup: Cleanup::default(),
        }))
    }
}

/// Extends the hint of an error that stopped the store from writing an accepted credential.
fn not_written(error: Error, planned: &PlannedRequest) -> Error {
    let Bearer::Sourced = planned.bearer else {
        return error;
    };
    let fix = error.next_step().to_owned();
    error.hint(format!(
        "{fix}; the hub has accepted this host, so use the same token again: this host's key is the same agent, and no further use is spent"
    ))
}

/// Returns the error of a token that belongs to another agent than this host.
fn other_agent(answered: Uuid, this: Uuid) -> Error {
    Error::new(
        ErrorId::Refused,
        format!("the token is that of agent {answered}, and this host is agent {this}; nothing was changed"),
    )
    .hint(format!(
        "use a token of this host's own agent: POST /api/v1/agents/{this}/rotate-token"
    ))
}
