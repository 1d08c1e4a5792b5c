//! What a run of `enrol` comes to, decided from where the host stands and what was asked for.
//! `--dry-run` shows the same plan.

use uuid::Uuid;

use crate::credential_store::lacks_connection;
use crate::host_state::{self, Enrolled, EnrolmentState};
use crate::state::{Asked, State};
use crate::wire;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::settings::{HubUrl, Settings};
use agent_core::sourced::Source;
use agent_core::tags;
use agent_core::token::{Kind, Secret};

/// What a run comes to.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing has to be done.
    Already,
    /// The hub is asked.
    Ask(Box<Ask>),
}

/// One question to the hub.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Which call.
    pub(crate) call: Call,
    /// Which token goes with it.
    pub(crate) bearer: Bearer,
    /// The host's own tags and role.
    pub(crate) own: Asked,
    /// Which key signs it.
    pub(crate) key: KeyPlace,
    /// This machine is a copy of another one.
    pub(crate) is_clone: bool,
    /// An enrolled host changes tags, role or key with its own credential.
    pub(crate) is_update: bool,
    /// What was interrupted, and may have killed the credential on the disk: cause and hint.
    pub(crate) interrupted: Option<(&'static str, &'static str)>,
    /// A yes of the hub kills the credential on the disk.
    pub(crate) replaces_credential: bool,
    /// The one agent that the hub may answer with.
    pub(crate) must_be: Option<Uuid>,
    /// What becomes of the new key beside the old one after a no.
    pub(crate) after_a_no: AfterRejection,
}

/// What becomes of a new key beside the old one when the hub says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterRejection {
    /// It stays for the next run.
    Keep,
    /// It goes, unless an answer before was lost.
    DropIfCertain,
    /// It goes when the hub has another one pinned; else the doubt stays.
    DropIfOther,
}

/// The calls that admit a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// With an enrolment token.
    Enrol,
    /// With a per-agent token.
    Register,
}

/// The token that goes with a call.
#[derive(Debug)]
pub(crate) enum Bearer {
    /// The one that this run was given.
    Sourced,
    /// The one in agent.toml.
    Own(Secret),
}

/// Where the key is that signs a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyPlace {
    /// In its place.
    Current,
    /// Beside the old one, until the hub has confirmed it.
    Next,
}

impl Call {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Enrolment => Self::Enrol,
            Kind::Agent => Self::Register,
        }
    }

    /// Path of the call.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Enrol => wire::ENROL,
            Self::Register => wire::REGISTER,
        }
    }
}

/// Decides. `token` is the kind of the token that this run was given, if it was.
pub(crate) fn plan(
    enrolment_state: &EnrolmentState,
    settings: &Settings,
    token: Option<Kind>,
    force: bool,
    environment: &Environment,
) -> Result<Plan> {
    let ask = match enrolment_state {
        EnrolmentState::New(Some(state))
        | EnrolmentState::Clone(Some(state))
        | EnrolmentState::Unconfirmed(_, Some(state))
            if state.hub_dropped && settings.hub_url.source == Source::Default =>
        {
            return Err(dropped_hub(settings));
        }
        EnrolmentState::New(state) => {
            let own = host_state::own(settings, state.as_deref());
            Ask::with_given(token.ok_or_else(no_token)?, own)
        }
        EnrolmentState::Unconfirmed(secret, state) => {
            let own = host_state::own(settings, state.as_deref());
            match token {
                Some(kind) => Ask::with_given(kind, own),
                None => Ask::with_own(secret.clone(), own),
            }
        }
        EnrolmentState::Clone(state) => {
            let own = host_state::own(settings, state.as_deref());
            Ask {
                key: KeyPlace::Next,
                is_clone: true,
                ..Ask::with_given(token.ok_or_else(clone_without_token)?, own)
            }
        }
        EnrolmentState::Enrolled(enrolled) => {
            if enrolled.key_is_lost && !force {
                return Err(lost_key());
            }
            if !force || token.is_none() {
                // Without a token, another hub would get to see this one's credential.
                refuse_other_hub(settings, &enrolled.hub_url)?;
            }
            let asked = host_state::own(settings, enrolled.state.as_ref());
            let key = if enrolled.key_is_lost {
                KeyPlace::Next
            } else {
                KeyPlace::Current
            };
            let again = force || enrolled.is_renewing();
            match token {
                Some(kind) if again => Ask {
                    key,
                    // Another hub, or another key, leaves this credential alone.
                    replaces_credential: key == KeyPlace::Current
                        && is_same_hub(settings, &enrolled.hub_url),
                    ..Ask::with_given(kind, asked)
                },
                _ if !again && enrolled.has(&asked) && !lacks_connection(settings, environment) => {
                    return Ok(Plan::Already);
                }
                _ => Ask {
                    key,
                    is_update: true,
                    interrupted: enrolled.state.as_ref().and_then(State::interrupted),
                    ..Ask::with_own(enrolled.agent_token.clone(), asked)
                },
            }
        }
    };
    tags::check_count(&ask.own.tags, &settings.tags.source)?;
    Ok(Plan::Ask(Box::new(ask)))
}

impl Ask {
    fn with_given(kind: Kind, own: Asked) -> Self {
        Self {
            call: Call::of(kind),
            bearer: Bearer::Sourced,
            own,
            key: KeyPlace::Current,
            is_clone: false,
            is_update: false,
            interrupted: None,
            replaces_credential: false,
            must_be: None,
            after_a_no: AfterRejection::Keep,
        }
    }

    /// A new key for this host; or the one that waits already, when that is in doubt.
    pub(crate) fn new_key(enrolled: &Enrolled, settings: &Settings) -> Self {
        Self {
            key: KeyPlace::Next,
            is_update: true,
            must_be: Some(enrolled.agent_id),
            after_a_no: if enrolled.is_in_doubt {
                AfterRejection::DropIfOther
            } else {
                AfterRejection::DropIfCertain
            },
            ..Self::with_own(
                enrolled.agent_token.clone(),
                host_state::own(settings, enrolled.state.as_ref()),
            )
        }
    }

    /// A new per-agent token for this host, proved with the key in its place; or, in doubt, with
    /// the one that waits.
    pub(crate) fn new_token(enrolled: &Enrolled, settings: &Settings) -> Self {
        let own = host_state::own(settings, enrolled.state.as_ref());
        let (key, after_a_no) = if enrolled.is_in_doubt {
            (KeyPlace::Next, AfterRejection::DropIfOther)
        } else {
            (KeyPlace::Current, AfterRejection::Keep)
        };
        Self {
            key,
            must_be: Some(enrolled.agent_id),
            after_a_no,
            ..Self::with_given(Kind::Agent, own)
        }
    }

    fn with_own(secret: Secret, own: Asked) -> Self {
        Self {
            bearer: Bearer::Own(secret),
            ..Self::with_given(Kind::Agent, own)
        }
    }

    /// A 401 to a per-agent token has other causes than one to an enrolment token.
    pub(crate) fn told(&self, error: Error) -> Error {
        if error.id() != ErrorId::Rejected || self.call == Call::Enrol {
            return error;
        }
        let url = self.call.path();
        if let Some((cause, hint)) = self.interrupted {
            let cause = format!("the hub answered 401 to this host's own credential: {cause}");
            return Error::new(ErrorId::Rejected, cause).about(url).hint(hint);
        }
        if self.is_update {
            return Error::new(
                ErrorId::Rejected,
                "the hub answered 401 to this host's own credential: it was rotated or the agent was deleted, or the hub lost its data; agent.toml is left as it is",
            )
            .about(url)
            .hint("an operator looks up the agent at the hub; with a new token of this very agent: monsys-agent rotate-token --token-file -; if the agent is gone: monsys-agent unenrol --force, and enrol anew");
        }
        Error::new(
            ErrorId::Rejected,
            "the hub answered 401: it does not know this per-agent token, which was rotated, or belongs to a deleted agent or to another hub",
        )
        .about(url)
        .hint("an operator looks up the agent at the hub and rotates its token; then run the same command with the new one")
    }
}

fn is_same_hub(settings: &Settings, enrolled_at: &str) -> bool {
    // What is in agent.toml may be written in another way.
    HubUrl::parse(enrolled_at, true, &Source::Default)
        .is_ok_and(|enrolled_at| enrolled_at == settings.hub_url.value)
}

fn refuse_other_hub(settings: &Settings, enrolled_at: &str) -> Result<()> {
    let asked = &settings.hub_url;
    if asked.source.is_explicit() && !is_same_hub(settings, enrolled_at) {
        return Err(Error::new(
            ErrorId::OtherHub,
            format!("{} asks for {}", asked.source, asked.value),
        )
        .about(enrolled_at));
    }
    Ok(())
}

/// No token goes to a hub that nobody named.
fn dropped_hub(settings: &Settings) -> Error {
    Error::new(
        ErrorId::ConfigBroken,
        "the hub's URL was dropped from it when the files were taken over, since another user could have written it",
    )
    .about(settings.file.path().display())
    .hint("monsys-agent enrol --hub-url URL, with the options that this host needs")
}

/// The credential is there, and its key is not.
#[must_use]
pub(crate) fn lost_key() -> Error {
    Error::new(
        ErrorId::IdentityLost,
        "agent.toml holds a credential, and the key that belongs to it is not there",
    )
}

pub(crate) fn no_token() -> Error {
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
