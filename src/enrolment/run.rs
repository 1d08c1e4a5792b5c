//! One run under the lock: what is asked, with which key and token, and what is kept of the answer.

use uuid::Uuid;

use super::persist::{Confirmed, Keeper};
use super::plan::{self, AfterANo, Ask, Bearer, Call, KeyPlace, Plan};
use super::{Done, Enrolment, Paths, Standing, already, fetch_token};
use crate::error::{Error, ErrorId, Result};
use crate::facts::HostFacts;
use crate::facts::route::Target;
use crate::hub::client::{Client, Reply};
use crate::hub::monsys::{self, Admission, Introduction};
use crate::hub::retry::{self, Limit};
use crate::hub::verdict::{self, Outcome};
use crate::identity::Identity;
use crate::settings::Settings;
use crate::store::quiet::Quiet;
use crate::token::{Secret, Token};
use crate::world::World;

/// One run under the lock.
pub(super) struct Run<'a> {
    settings: &'a Settings,
    pub(super) keeper: Keeper<'a>,
    world: &'a World,
    limit: Limit,
}

/// What one exchange is made with.
struct Asking<'a> {
    ask: &'a Ask,
    client: Client,
    bearer: &'a Secret,
    identity: &'a Identity,
    /// This run has marked the credential on the disk, so it may take the mark away again.
    is_marked_here: bool,
}

/// What the hub said to one ask.
struct Answer {
    admission: Admission,
    hostname: String,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        paths: &'a Paths,
        world: &'a World,
        limit: Limit,
    ) -> Result<Self> {
        Ok(Self {
            settings,
            keeper: Keeper::new(paths, world)?,
            world,
            limit,
        })
    }

    pub(super) async fn go(&self, token: Option<Token>, force: bool) -> Result<Enrolment> {
        let paths = self.keeper.paths;
        let standing = Standing::of(self.settings, paths, self.world)?;
        // It may have been enrolled when this run began, and no longer be so.
        let token = match token {
            None if standing.takes_token(self.settings, force) => {
                fetch_token(self.settings, self.world, self.limit).await?
            }
            token => token,
        };
        let kind = token.as_ref().map(Token::kind);
        match plan::plan(standing, self.settings, kind, force)? {
            Plan::Already(enrolled) => {
                let changed = self.keeper.repair(enrolled.agent_id)?;
                Ok(Enrolment {
                    changed,
                    ..already(*enrolled, paths)
                })
            }
            Plan::Ask(ask) => {
                paths.prove_writable(self.settings)?;
                self.ask(*ask, token.as_ref()).await
            }
        }
    }

    /// Asks the hub, and persists what it says.
    pub(super) async fn ask(&self, ask: Ask, token: Option<&Token>) -> Result<Enrolment> {
        if ask.is_clone {
            tracing::info!(
                "the identity on this disk belongs to another machine: this one enrols as itself"
            );
        }
        let bearer = match (&ask.bearer, token) {
            (Bearer::Own(secret), _) => secret,
            (Bearer::Given, Some(token)) => token.secret(),
            (Bearer::Given, None) => return Err(plan::no_token()),
        };
        let client = Client::new(self.settings)?;
        let quiet = match ask.key {
            KeyPlace::Next => {
                let state_dir = &self.keeper.paths.state_dir;
                Some(Quiet::alone(state_dir, self.limit.deadline).await?)
            }
            KeyPlace::Current => None,
        };
        let identity = self.keeper.identity(&ask)?;
        let is_marked_here = ask.replaces_credential && self.keeper.mark_renewing(true)?;
        let asking = Asking {
            ask: &ask,
            client,
            bearer,
            identity: &identity,
            is_marked_here,
        };
        let mut answer = self.exchange(&asking).await?;
        if let Some(expected) = ask.must_be
            && answer.admission.agent_id != expected
        {
            return Err(other_agent(answer.admission.agent_id, expected));
        }
        let fresh = answer.admission.agent_token.take();
        let done = match (ask.call, &ask.bearer, answer.admission.is_new) {
            (Call::Enrol, _, true) => Done::Enrolled,
            (Call::Enrol, _, false) => Done::Recovered,
            (Call::Register, Bearer::Own(_), _) if ask.is_update => Done::Updated,
            (Call::Register, ..) => Done::Registered,
        };
        let agent_id = answer.admission.agent_id;
        let merged = self.keeper.save(
            self.settings,
            Confirmed {
                admission: answer.admission,
                secret: fresh.as_ref().unwrap_or(bearer),
                own: ask.own,
                key: ask.key,
                hostname: &answer.hostname,
                public_key: identity.public_key(),
            },
        )?;
        drop(quiet);
        Ok(Enrolment {
            done,
            agent_id,
            hub_url: self.settings.hub_url.value.to_string(),
            tags: merged.tags,
            role: merged.role,
            changed: true,
            config: self.keeper.paths.config.clone(),
            hostname: Some(answer.hostname),
            scrubbed: Vec::new(),
        })
    }

    /// One signed exchange, tried until the deadline. The facts are gathered anew for each try:
    /// at the first one, the network may not be up yet.
    async fn exchange(&self, asking: &Asking<'_>) -> Result<Answer> {
        let Asking {
            ask,
            client,
            bearer,
            identity,
            is_marked_here,
        } = asking;
        let accepted: fn(&Reply) -> Result<Admission, String> = match ask.call {
            Call::Enrol => monsys::enrolled,
            Call::Register => monsys::registered,
        };
        let hub = &self.settings.hub_url.value;
        let url = hub.join(ask.call.path()).to_string();
        let mut is_certain = true;
        tracing::info!("asking {url}");
        let answer = retry::until(&url, self.limit, self.world, async || {
            let target = Target::resolve(self.settings).await;
            let facts = HostFacts::gather(self.settings, self.world, &target);
            let introduction = Introduction {
                facts: &facts,
                tags: &ask.own.tags,
                role: ask.own.role.as_deref(),
            };
            let request = monsys::request(hub, ask.call.path(), bearer, &introduction, identity);
            tracing::debug!("{} bytes to {url}", request.body.len());
            let sent = client.send(request, self.world, self.limit.deadline).await;
            let outcome = verdict::judge(&url, sent, |reply| {
                accepted(reply).map(|admission| Answer {
                    admission,
                    hostname: facts.hostname.clone(),
                })
            });
            is_certain &= !matches!(outcome, Outcome::Wait { .. });
            Ok(outcome)
        })
        .await;
        answer.map_err(|error| {
            let refused = [
                ErrorId::Rejected,
                ErrorId::Forbidden,
                ErrorId::OtherKey,
                ErrorId::Refused,
                ErrorId::Untrusted,
            ];
            let is_refused = is_certain && refused.contains(&error.id());
            let is_other = error.id() == ErrorId::OtherKey;
            let drops_key = match ask.after_a_no {
                AfterANo::Keep => false,
                AfterANo::DropIfCertain => is_refused || is_other,
                AfterANo::DropIfOther => is_other,
            };
            if drops_key && let Err(fault) = self.keeper.drop_next() {
                tracing::warn!("{}: {}", fault.what(), fault.why());
            }
            if *is_marked_here && is_refused {
                // The hub has given out no new credential, so the one on the disk lives.
                if let Err(fault) = self.keeper.mark_renewing(false) {
                    tracing::warn!("{}: {}", fault.what(), fault.why());
                }
            }
            ask.told(error)
        })
    }
}

/// The hub answered with an agent that this host is not.
fn other_agent(answered: Uuid, this: Uuid) -> Error {
    Error::new(
        ErrorId::Refused,
        format!("the token is that of agent {answered}, and this host is agent {this}; nothing was changed"),
    )
    .mend(format!(
        "take the token of this host's own agent: POST /api/v1/agents/{this}/rotate-token"
    ))
}
