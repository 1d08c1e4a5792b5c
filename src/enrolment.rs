//! The story itself: lock, enrolled already?, prove that the result can be written, exchange the
//! secret for a credential, merge, persist.
//!
//! What makes it safe to be killed anywhere: the host's key is on the disk before the first
//! request, and to the hub that key *is* the host. Whoever comes again with the same key gets the
//! same agent and spends no further use.

mod persist;
mod standing;

use std::time::Duration;

use uuid::Uuid;

pub use standing::Standing;

use crate::error::{Error, ErrorId, Result};
use crate::facts::HostFacts;
use crate::facts::fingerprint::Fingerprint;
use crate::facts::route::Target;
use crate::hub::client::Client;
use crate::hub::monsys::{self, Admission, Introduction};
use crate::hub::retry::{self, Limit};
use crate::hub::verdict;
use crate::identity::{Identity, KEY_FILE, NEXT_KEY_FILE};
use crate::settings::{Flags, Settings};
use crate::store::atomic::Owner;
use crate::store::lock::Lock;
use crate::store::state::{Asked, State};
use crate::token::{Secret, Token};
use crate::world::World;
pub use persist::Paths;

/// What an enrolment came to.
#[derive(Debug)]
pub struct Enrolment {
    /// What was done.
    pub done: Done,
    /// The agent's id.
    pub agent_id: Uuid,
    /// The hub.
    pub hub_url: String,
    /// Tags, merged.
    pub tags: Vec<String>,
    /// Role, merged.
    pub role: Option<String>,
    /// Whether anything on the host was written.
    pub changed: bool,
    /// Where agent.toml is.
    pub config: std::path::PathBuf,
    /// Host name that the hub was told, when it was told.
    pub hostname: Option<String>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A new agent.
    Enrolled,
    /// The hub knew this host's key: the same agent, with a fresh credential.
    Recovered,
    /// A per-agent token was taken and the key pinned.
    Registered,
    /// Tags or role were changed with the host's own credential.
    Updated,
    /// Nothing had to be done; nothing was sent.
    AlreadyEnrolled,
}

impl Done {
    /// Stable word, as in `--output json`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Recovered => "recovered",
            Self::Registered => "registered",
            Self::Updated => "updated",
            Self::AlreadyEnrolled => "already_enrolled",
        }
    }
}

/// Enrols this host.
///
/// # Errors
/// Every failure of the catalogue that `enrol` can end with; see `docs/errors.md`.
pub async fn enrol(flags: &Flags, force: bool, world: &World) -> Result<Enrolment> {
    let settings = Settings::resolve(flags, world)?;
    let limit = Limit::of(settings.wait);
    let paths = Paths::of(&settings, world);

    // A token that is no token is told before anything on the host is touched.
    let secret = match Standing::of(&settings, &paths, world)? {
        Standing::Enrolled(_) if !force => None,
        standing => {
            let token = fetch_token(&settings, world, limit).await?;
            match standing {
                Standing::New if token.is_none() => return Err(no_token()),
                Standing::Clone if token.is_none() => return Err(clone_without_token()),
                _ => token,
            }
        }
    };

    paths.make_folders()?;
    let lock = Lock::take(&paths.state_dir, limit.deadline).await?;
    // Whoever held the lock may have enrolled this host.
    let settings = Settings::resolve(flags, world)?;
    paths.sweep()?;
    persist::roll_forward(&settings, &paths, world)?;
    let standing = Standing::of(&settings, &paths, world)?;
    paths.prove_writable(&settings)?;

    let run = Run {
        settings: &settings,
        paths: &paths,
        world,
        limit,
        owner: paths.owner()?,
    };
    let enrolment = run.by_standing(standing, secret, force).await?;
    drop(lock);
    Ok(enrolment)
}

async fn fetch_token(settings: &Settings, world: &World, limit: Limit) -> Result<Option<Token>> {
    match &settings.token {
        Some(source) => {
            let token = source.fetch(world, limit.deadline).await?;
            tracing::debug!("{} from {source}", token.kind());
            Ok(Some(token))
        }
        None => Ok(None),
    }
}

/// One run under the lock.
struct Run<'a> {
    settings: &'a Settings,
    paths: &'a Paths,
    world: &'a World,
    limit: Limit,
    owner: Owner,
}

impl Run<'_> {
    async fn by_standing(
        &self,
        standing: Standing,
        token: Option<Token>,
        force: bool,
    ) -> Result<Enrolment> {
        match standing {
            Standing::Enrolled(enrolled) if !force => {
                self.refuse_other_hub(&enrolled.hub_url)?;
                let asked = self.asked_now(&enrolled);
                if enrolled.has(&asked) {
                    return self.already(*enrolled);
                }
                self.update(&enrolled, asked).await
            }
            Standing::Enrolled(enrolled) => match token {
                Some(token) => {
                    let own = self.asked_now(&enrolled);
                    self.take(token, own, KEY_FILE, enrolled.key_is_lost).await
                }
                None => {
                    // Another hub must not get to see this one's credential.
                    self.refuse_other_hub(&enrolled.hub_url)?;
                    self.update(&enrolled, self.asked_now(&enrolled)).await
                }
            },
            Standing::New => {
                let token = self.need(token).await?.ok_or_else(no_token)?;
                self.take(token, self.own(), KEY_FILE, false).await
            }
            Standing::Unconfirmed(secret) => {
                let token = token.unwrap_or(Token::Agent(secret));
                self.take(token, self.own(), KEY_FILE, false).await
            }
            Standing::Clone => {
                let token = self.need(token).await?.ok_or_else(clone_without_token)?;
                tracing::info!(
                    "the identity on this disk belongs to another machine: this one enrols as itself"
                );
                let own = standing::own_of_clone(self.settings, &self.paths.state_dir);
                self.take(token, own, NEXT_KEY_FILE, false).await
            }
        }
    }

    /// The token, fetched now if it was not needed until the lock was taken.
    async fn need(&self, token: Option<Token>) -> Result<Option<Token>> {
        match token {
            Some(token) => Ok(Some(token)),
            None => fetch_token(self.settings, self.world, self.limit).await,
        }
    }

    /// Exchanges or takes `token`, and persists what the hub says.
    async fn take(
        &self,
        token: Token,
        own: Asked,
        key_file: &str,
        key_was_lost: bool,
    ) -> Result<Enrolment> {
        if key_was_lost {
            tracing::warn!(
                "the host's signing key is gone; a new one is made, and the hub may know this host as a new agent"
            );
        }
        let identity = Identity::load_or_create(&self.paths.state_dir, key_file, self.owner)?;
        if key_file == KEY_FILE {
            self.remember_machine()?;
        }
        self.splay().await;
        let (admission, hostname, secret, done) = match token {
            Token::Enrolment(secret) => {
                let (mut admission, hostname) = self
                    .exchange(monsys::ENROL, &secret, &identity, &own, monsys::enrolled)
                    .await?;
                drop(secret);
                let fresh = admission.agent_token.take().ok_or_else(|| {
                    Error::new(ErrorId::Internal, "an enrolment without a credential")
                })?;
                let done = if admission.is_new {
                    Done::Enrolled
                } else {
                    Done::Recovered
                };
                (admission, hostname, fresh, done)
            }
            Token::Agent(secret) => {
                let (admission, hostname) = self
                    .exchange(
                        monsys::REGISTER,
                        &secret,
                        &identity,
                        &own,
                        monsys::registered,
                    )
                    .await?;
                (admission, hostname, secret, Done::Registered)
            }
        };
        self.persist(done, admission, &secret, own, hostname)
    }

    /// Registers anew with the host's own credential, so that tags and role follow.
    async fn update(&self, enrolled: &standing::Enrolled, own: Asked) -> Result<Enrolment> {
        let identity = Identity::load_or_create(&self.paths.state_dir, KEY_FILE, self.owner)?;
        let secret = &enrolled.agent_token;
        let (admission, hostname) = self
            .exchange(
                monsys::REGISTER,
                secret,
                &identity,
                &own,
                monsys::registered,
            )
            .await
            .map_err(|error| told_for_an_enrolled_host(error, self.settings))?;
        self.persist(Done::Updated, admission, secret, own, hostname)
    }

    /// One signed exchange, tried until the deadline. The facts are gathered anew for each try:
    /// at the first one, the network may not be up yet.
    async fn exchange(
        &self,
        path: &str,
        bearer: &Secret,
        identity: &Identity,
        own: &Asked,
        accepted: impl Fn(&crate::hub::client::Reply) -> Result<Admission, String>,
    ) -> Result<(Admission, String)> {
        let client = Client::new(self.settings)?;
        let hub = &self.settings.hub_url.value;
        let url = hub.join(path).to_string();
        tracing::info!("asking {url}");
        retry::until(&url, self.limit, self.world, async || {
            let target = Target::resolve(self.settings).await;
            let facts = HostFacts::gather(self.settings, self.world, &target);
            let introduction = Introduction {
                facts: &facts,
                tags: &own.tags,
                role: own.role.as_deref(),
            };
            let request = monsys::request(hub, path, bearer, &introduction, identity);
            tracing::debug!("{} bytes to {url}", request.body.len());
            let sent = client.send(request, self.world, self.limit.deadline).await;
            Ok(verdict::judge(&url, sent, |reply| {
                accepted(reply).map(|admission| (admission, facts.hostname.clone()))
            }))
        })
        .await
    }

    fn persist(
        &self,
        done: Done,
        admission: Admission,
        secret: &Secret,
        own: Asked,
        hostname: String,
    ) -> Result<Enrolment> {
        let agent_id = admission.agent_id;
        let merged = persist::save(
            self.settings,
            self.paths,
            self.world,
            self.owner,
            persist::Confirmed {
                admission,
                secret,
                own,
            },
        )?;
        Ok(Enrolment {
            done,
            agent_id,
            hub_url: self.settings.hub_url.value.to_string(),
            tags: merged.tags,
            role: merged.role,
            changed: true,
            config: self.paths.config.clone(),
            hostname: Some(hostname),
        })
    }

    fn already(&self, enrolled: standing::Enrolled) -> Result<Enrolment> {
        persist::repair(self.paths, self.world, self.owner, enrolled.agent_id)?;
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            agent_id: enrolled.agent_id,
            hub_url: enrolled.hub_url,
            tags: enrolled.tags,
            role: enrolled.role,
            changed: false,
            config: self.paths.config.clone(),
            hostname: None,
        })
    }

    /// The host's own tags and role, when it is not enrolled: wherever they were given.
    fn own(&self) -> Asked {
        Asked {
            tags: self.settings.tags.value.clone(),
            role: self.settings.role.as_ref().map(|role| role.value.clone()),
        }
    }

    /// What an enrolled host is asked to have: what this run says, else what it had.
    fn asked_now(&self, enrolled: &standing::Enrolled) -> Asked {
        let before = enrolled.own(self.settings);
        Asked {
            tags: if self.settings.tags.origin.is_asked() {
                self.settings.tags.value.clone()
            } else {
                before.tags
            },
            role: match &self.settings.role {
                Some(role) if role.origin.is_asked() => Some(role.value.clone()),
                _ => before.role,
            },
        }
    }

    fn refuse_other_hub(&self, enrolled_at: &str) -> Result<()> {
        let asked = &self.settings.hub_url;
        if asked.origin.is_asked() && asked.value.to_string() != enrolled_at {
            return Err(Error::new(
                ErrorId::OtherHub,
                format!("{} asks for {}", asked.origin, asked.value),
            )
            .about(enrolled_at));
        }
        Ok(())
    }

    /// Notes the machine that the key belongs to, before the exchange: a copy of the disk made
    /// from here on is known as a clone.
    fn remember_machine(&self) -> Result<()> {
        if State::load(&self.paths.state_dir).is_some() {
            return Ok(());
        }
        let state = State {
            fingerprint: Fingerprint::of(self.world),
            ..State::default()
        };
        state
            .save(&self.paths.state_dir, self.owner)
            .map_err(|error| self.paths.state_fault(&error))
    }

    async fn splay(&self) {
        let pause = self.world.random_up_to(self.settings.splay);
        if pause > Duration::ZERO {
            tracing::info!("first try in {:.1} s (splay)", pause.as_secs_f64());
            tokio::time::sleep(pause).await;
        }
    }
}

fn no_token() -> Error {
    Error::new(
        ErrorId::TokenMissing,
        "this host is not enrolled, and a token is what admits it",
    )
}

fn clone_without_token() -> Error {
    Error::new(
        ErrorId::TokenMissing,
        "the identity on this disk belongs to another machine that this one was cloned from, so this one has to enrol as itself",
    )
}

/// A 401 to a host's own credential has other causes than a 401 to an enrolment token, and the
/// credential stays where it is whatever the hub says.
fn told_for_an_enrolled_host(error: Error, settings: &Settings) -> Error {
    if error.id() != ErrorId::Rejected {
        return error;
    }
    Error::new(
        ErrorId::Rejected,
        "the hub answered 401 to this host's own credential: it was rotated or the agent was deleted, or the hub lost its data; agent.toml is left as it is",
    )
    .about(&settings.hub_url.value)
    .mend("an operator looks up the agent at the hub; with a new token: monsys-agent enrol --force")
}
