//! The decision of a run of `enrol`: which request it sends to the hub, if any.
//!
//! The decision follows from the state of the host and the settings of the run. `--dry-run` shows the
//! same decision.

use uuid::Uuid;

use crate::connection_settings;
use crate::host_state::{self, Enrolled, EnrolmentState};
use crate::receipt::Receipt;
use crate::state::{State, TagsAndRole};
use crate::wire;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::settings::Settings;
use agent_core::sourced::Source;
use agent_core::tags;
use agent_core::token::{Kind, Secret};

/// A request to the hub that a run has decided on, and for which nothing is written yet.
#[derive(Debug)]
pub(crate) struct PlannedRequest {
    /// The call.
    pub(crate) call: Call,
    /// The token of the call.
    pub(crate) bearer: Bearer,
    /// The host's own tags and role.
    pub(crate) own: TagsAndRole,
    /// The key that signs the request.
    pub(crate) key: KeyPlace,
    /// This machine is a copy of another one.
    pub(crate) is_clone: bool,
    /// The reason for the request.
    pub(crate) purpose: Purpose,
    /// The interrupted run that may have invalidated the credential on the disk: cause and hint.
    pub(crate) interrupted: Option<(&'static str, &'static str)>,
    /// The hub invalidates the credential on the disk when it accepts the request.
    pub(crate) replaces_credential: bool,
    /// The only agent that the hub's response may name.
    pub(crate) must_be: Option<Uuid>,
    /// The treatment of a next key after a rejection.
    pub(crate) next_key_on_rejection: NextKeyOnRejection,
}

/// The reason for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The hub admits the host.
    Admission,
    /// An enrolled host changes tags, role or key with its own credential.
    Update,
    /// An enrolled host has nothing to change: the hub only confirms the enrolment.
    Confirmation,
}

/// The treatment of the next key, which waits beside the current one, after the hub has rejected the
/// request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextKeyOnRejection {
    /// The next key stays for the next run.
    Keep,
    /// The next key is removed, unless an earlier response was lost.
    DropIfCertain,
    /// The next key is removed only when the hub has another key pinned.
    DropIfOtherPinned,
}

/// The calls that admit a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// With an enrolment token.
    Enrol,
    /// With a per-agent token.
    Register,
    /// With the hub's receipt.
    Readmit,
}

/// The token that goes with a call.
#[derive(Debug)]
pub(crate) enum Bearer {
    /// The token from this run's token source.
    Sourced,
    /// The per-agent token in agent.toml.
    Own(Secret),
    /// No token: the hub's receipt takes its place.
    Receipt(Box<Receipt>),
}

/// The place of the key that signs a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyPlace {
    /// `agent-signing.key`.
    Current,
    /// The next key, beside the current one, until the hub has confirmed it.
    Next,
}

impl Call {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Enrolment => Self::Enrol,
            Kind::Agent => Self::Register,
        }
    }

    /// Returns the path of the call.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Enrol => wire::ENROL,
            Self::Register => wire::REGISTER,
            Self::Readmit => wire::READMIT,
        }
    }
}

/// Returns the request that a run sends. An enrolled host whose settings are unchanged has the hub confirm that.
///
/// `token` is the kind of the token from this run's token source, if the run has one.
///
/// # Errors
/// A missing token, another hub than the host's own, a lost key, and too many tags.
pub(crate) fn plan(
    enrolment_state: &EnrolmentState,
    settings: &Settings,
    token: Option<Kind>,
    force: bool,
    environment: &Environment,
) -> Result<PlannedRequest> {
    let planned = match enrolment_state {
        EnrolmentState::New(Some(state))
        | EnrolmentState::Clone(Some(state))
        | EnrolmentState::Unconfirmed(_, Some(state))
            if state.hub_dropped && settings.hub_url.source == Source::Default =>
        {
            return Err(dropped_hub(settings));
        }
        EnrolmentState::New(state) => {
            let own = host_state::own(settings, state.as_deref());
            PlannedRequest::with_sourced_token(token.ok_or_else(no_token)?, own)
        }
        EnrolmentState::Unconfirmed(secret, state) => {
            let own = host_state::own(settings, state.as_deref());
            match token {
                Some(kind) => PlannedRequest::with_sourced_token(kind, own),
                None => PlannedRequest::with_own_token(secret.clone(), own),
            }
        }
        EnrolmentState::Clone(state) => {
            let own = host_state::own(settings, state.as_deref());
            PlannedRequest {
                key: KeyPlace::Next,
                is_clone: true,
                ..PlannedRequest::with_sourced_token(token.ok_or_else(clone_without_token)?, own)
            }
        }
        EnrolmentState::Enrolled(enrolled) => {
            if enrolled.key_is_lost && !force {
                return Err(lost_key());
            }
            if !force || token.is_none() {
                // Without a token, the request would show this hub's credential to another hub.
                enrolled.refuse_other_hub(settings)?;
            }
            let own = host_state::own(settings, enrolled.state.as_ref());
            let key = if enrolled.key_is_lost {
                KeyPlace::Next
            } else {
                KeyPlace::Current
            };
            let again = force || enrolled.is_renewing();
            match token {
                Some(kind) if again => PlannedRequest {
                    key,
                    // An enrolment at another hub, or with another key, does not touch this credential.
                    replaces_credential: key == KeyPlace::Current && enrolled.is_of_hub(settings),
                    ..PlannedRequest::with_sourced_token(kind, own)
                },
                _ => PlannedRequest {
                    key,
                    purpose: if !again
                        && enrolled.has(&own)
                        && !connection_settings::differ(settings, environment)?
                    {
                        Purpose::Confirmation
                    } else {
                        Purpose::Update
                    },
                    interrupted: enrolled.state.as_ref().and_then(State::interrupted),
                    ..PlannedRequest::with_own_token(enrolled.agent_token.clone(), own)
                },
            }
        }
    };
    tags::check_count(&planned.own.tags, &settings.tags.source)?;
    Ok(planned)
}

impl PlannedRequest {
    fn with_sourced_token(kind: Kind, own: TagsAndRole) -> Self {
        Self {
            call: Call::of(kind),
            bearer: Bearer::Sourced,
            own,
            key: KeyPlace::Current,
            is_clone: false,
            purpose: Purpose::Admission,
            interrupted: None,
            replaces_credential: false,
            must_be: None,
            next_key_on_rejection: NextKeyOnRejection::Keep,
        }
    }

    /// Returns the registration of a new key. An unconfirmed next key is registered again instead.
    pub(crate) fn new_key(enrolled: &Enrolled, settings: &Settings) -> Self {
        Self {
            key: KeyPlace::Next,
            purpose: Purpose::Update,
            must_be: Some(enrolled.agent_id),
            next_key_on_rejection: if enrolled.is_next_key_unconfirmed {
                NextKeyOnRejection::DropIfOtherPinned
            } else {
                NextKeyOnRejection::DropIfCertain
            },
            ..Self::with_own_token(
                enrolled.agent_token.clone(),
                host_state::own(settings, enrolled.state.as_ref()),
            )
        }
    }

    /// Returns the registration with a new per-agent token, signed by the current key, or by an
    /// unconfirmed next key.
    pub(crate) fn new_token(enrolled: &Enrolled, settings: &Settings) -> Self {
        let own = host_state::own(settings, enrolled.state.as_ref());
        let (key, next_key_on_rejection) = if enrolled.is_next_key_unconfirmed {
            (KeyPlace::Next, NextKeyOnRejection::DropIfOtherPinned)
        } else {
            (KeyPlace::Current, NextKeyOnRejection::Keep)
        };
        Self {
            key,
            must_be: Some(enrolled.agent_id),
            next_key_on_rejection,
            ..Self::with_sourced_token(Kind::Agent, own)
        }
    }

    /// Returns the readmission of a host that its hub has forgotten, by the hub's receipt.
    pub(crate) fn by_receipt(enrolled: &Enrolled, settings: &Settings, receipt: Receipt) -> Self {
        Self {
            call: Call::Readmit,
            bearer: Bearer::Receipt(Box::new(receipt)),
            ..Self::returning(enrolled, settings, Kind::Enrolment)
        }
    }

    /// Returns the enrolment or registration of a host that its hub has forgotten, with the same key.
    pub(crate) fn returning(enrolled: &Enrolled, settings: &Settings, kind: Kind) -> Self {
        let own = host_state::own(settings, enrolled.state.as_ref());
        Self::with_sourced_token(kind, own)
    }

    fn with_own_token(secret: Secret, own: TagsAndRole) -> Self {
        Self {
            bearer: Bearer::Own(secret),
            ..Self::with_sourced_token(Kind::Agent, own)
        }
    }

    /// Rewords a rejection: a 401 to a per-agent token has other causes than a 401 to an enrolment token.
    pub(crate) fn explain_rejection(&self, error: Error) -> Error {
        match (error.id(), &self.bearer, self.interrupted) {
            (ErrorId::Forgotten, _, Some((cause, hint))) => {
                let cause = format!("{}: {cause}", error.cause());
                error.with_cause(cause).hint(hint)
            }
            (ErrorId::Rejected, Bearer::Receipt(_), _) => Error::new(
                ErrorId::Rejected,
                "HTTP 401: the readmission is closed, or the hub does not accept this receipt",
            )
            .about(self.call.path()),
            (ErrorId::Rejected, ..) if self.call == Call::Register => Error::new(
                ErrorId::Rejected,
                "the hub answered 401: it does not know this per-agent token, which was rotated, or belongs to a deleted agent or to another hub",
            )
            .about(self.call.path())
            .hint("an operator looks up the agent at the hub and rotates its token; then run the same command with the new one"),
            _ => error,
        }
    }
}

/// Returns the error of a host whose hub was dropped by a takeover: no token goes to the default hub then.
fn dropped_hub(settings: &Settings) -> Error {
    Error::new(
        ErrorId::ConfigBroken,
        "the hub's URL was dropped from it when the files were taken over, since another user could have written it",
    )
    .about(settings.file.path().display())
    .hint("monsys-agent enrol --hub-url URL, with the options that this host needs")
}

/// Returns the error of a host that has a credential, and not the key of it.
#[must_use]
pub(crate) fn lost_key() -> Error {
    Error::new(
        ErrorId::IdentityLost,
        "agent.toml holds a credential, and the signing key that belongs to it is missing",
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
        "the identity on this disk belongs to another machine that this one was cloned from, so this host has to enrol with a new identity",
    )
}
