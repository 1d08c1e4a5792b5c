//! The enrolment request, and what is stored of its response.

use crate::pending_request::PendingRequest;
use crate::ravenxcope::{Credential, Ravenxcope, warn_unsaved};
use crate::settings::{BACKEND_URL, INSTALL_TOKEN, SENSOR_ID, SENSOR_PORT, SENSOR_TOKEN};
use crate::wire;
use agent_core::enrolment::{Cleanup, Confirmation, Done, Enrolment};
use agent_core::enrolment::{Exchange, ExchangeStep};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::client::{Client, Reply, Request, SendError};
use agent_core::hub::response::Outcome;
use agent_core::store::env_file::{self, EnvFile};
use agent_core::token::{Secret, Token};

/// The comment that replaces the line of the install token.
const CONSUMED: &str = "# INSTALL_TOKEN consumed during enrollment";
/// Keys whose lines stay, even if their value equals the install token.
const KEPT_KEYS: [&str; 4] = [SENSOR_ID, BACKEND_URL, SENSOR_PORT, SENSOR_TOKEN];

/// An enrolment request, ready to be sent.
pub(crate) struct EnrolRequest<'a> {
    host: &'a Ravenxcope<'a>,
    client: Client,
    install_token: Secret,
    /// The backend's response, once it has accepted the request.
    admission: Option<Credential>,
}

impl<'a> EnrolRequest<'a> {
    /// Writes the record of the request, before the request is sent.
    ///
    /// # Errors
    /// A missing install token, and files that cannot be written.
    pub(crate) fn prepare(host: &'a Ravenxcope<'a>, secret: Option<&Token>) -> Result<Self> {
        let Some(secret) = secret else {
            return Err(host.no_install_token());
        };
        let client = Client::new(&host.settings)?;
        let pending = PendingRequest::sent(
            host.pending.as_ref(),
            host.id()?,
            host.own_token(),
            &host.settings.hub_url.value,
            host.environment,
        );
        match pending.save(host.file.folder(), host.environment.access()) {
            Err(error) if host.unsaved.is_some() => {
                tracing::debug!("{}: {}", error.what(), error.cause());
            }
            saved => saved?,
        }
        Ok(Self {
            host,
            client,
            install_token: secret.secret().clone(),
            admission: None,
        })
    }

    /// Restores the record as it was before this request, which the backend has certainly rejected.
    fn roll_back(&self) {
        let folder = self.host.file.folder();
        let rolled_back = match &self.host.pending {
            Some(before) => before.save(folder, self.host.environment.access()),
            None => PendingRequest::remove(folder),
        };
        if let Err(error) = rolled_back {
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
    }

    /// Returns the try whose lost response may have brought the sensor token, in this run or an earlier one.
    fn lost_try(&self, is_certain: bool) -> Option<String> {
        if !is_certain {
            return Some("an earlier try of this run got no response".into());
        }
        let pending = self.host.lost_response()?;
        Some(format!(
            "an earlier run's request, of {}, got no response",
            pending.sent_at()
        ))
    }
}

/// Writes the sensor token into the env file, and removes the install token from it, in one write. Without
/// `install_token`, removes the install token that is in the file.
///
/// # Errors
/// An env file that cannot be read or written.
pub(crate) fn save_token(
    host: &Ravenxcope<'_>,
    install_token: Option<&Secret>,
    token: &Secret,
) -> Result<()> {
    // An operator may have edited the file during the exchange.
    let file = EnvFile::load(host.file.path(), &host.target(), host.environment.access())?;
    let text = env_file::with_value(file.text(), SENSOR_TOKEN, token.expose_secret());
    let in_file = file.get(INSTALL_TOKEN)?;
    let install_token = install_token
        .map(Secret::expose_secret)
        .or(in_file.as_ref().map(|text| text.as_str()));
    let Some(install_token) = install_token else {
        return file.replace(&text);
    };
    file.replace(&env_file::without_secret(
        &text,
        INSTALL_TOKEN,
        CONSUMED,
        install_token,
        &KEPT_KEYS,
    ))
}

impl Exchange for EnrolRequest<'_> {
    fn client(&self) -> &Client {
        &self.client
    }

    fn url(&self) -> String {
        // `prepare` has failed where there is no id.
        let id = self.host.id().unwrap_or_default();
        wire::url(&self.host.settings.hub_url.value, id, "enroll").to_string()
    }

    fn request(&self, facts: &HostFacts) -> Result<Request<'_>> {
        let url = wire::url(&self.host.settings.hub_url.value, self.host.id()?, "enroll");
        Ok(wire::enroll(
            url,
            facts,
            self.host.port,
            &self.install_token,
        ))
    }

    fn classify(&mut self, url: &str, sent: std::result::Result<Reply, SendError>) -> Outcome<()> {
        wire::classify(url, sent, |reply| {
            self.admission = Some(wire::admitted(reply)?);
            Ok(())
        })
    }

    fn refused(&mut self, error: Error, is_certain: bool) -> Error {
        if is_certain {
            self.roll_back();
        }
        let again = format!(
            "have an operator of the backend make a new install token for sensor {}, replace the old one with it ({INSTALL_TOKEN}), and run the same command again",
            self.host.id().unwrap_or_default()
        );
        let subject = error.subject().unwrap_or_default().to_owned();
        match error.id() {
            ErrorId::Rejected => {
                let cause = match self.lost_try(is_certain) {
                    Some(lost) => format!(
                        "the backend answered 401, and {lost}: if that request arrived, it used up the install token, which is valid for one enrolment, and the sensor token was lost with the response"
                    ),
                    None => "the backend answered 401: the install token is unknown, used up, replaced by a newer one, expired, or belongs to another sensor".into(),
                };
                Error::new(ErrorId::Rejected, cause).about(subject).hint(again)
            }
            ErrorId::Unreachable => error.hint(format!(
                "check network, name resolution, proxy (HTTPS_PROXY, NO_PROXY) and the backend, then run the same command again; if the backend rejects that with 401, a response was lost: {again}"
            )),
            ErrorId::NotThisProtocol => {
                let hint = error.next_step().to_owned();
                error.hint(format!(
                    "{hint}; if the response came from the backend, the install token is used up: {again}"
                ))
            }
            _ => error,
        }
    }

    fn persist(&mut self, facts: &HostFacts) -> Result<ExchangeStep> {
        let Some(admission) = self.admission.take() else {
            return Err(Error::new(ErrorId::Internal, "nothing was confirmed"));
        };
        let host = self.host;
        let (id, interval) = (host.id()?, admission.interval);
        let backend = &host.settings.hub_url.value;
        let pending = PendingRequest::enrolled(
            id,
            &facts.hostname,
            (&admission.token, interval),
            backend,
            host.environment,
        );
        let is_saved = match (
            save_token(host, Some(&self.install_token), &admission.token),
            host.unsaved,
        ) {
            (Ok(()), _) => true,
            (Err(error), Some(unsaved)) => {
                warn_unsaved(&error);
                unsaved.0.replace(Some(admission));
                false
            }
            (Err(error), None) => {
                let hint = format!(
                    "{}; the sensor token that the backend has issued is lost, so have an operator of the backend make a new install token for sensor {id}, and run the same command again with it",
                    error.next_step()
                );
                return Err(error.hint(hint));
            }
        };
        if is_saved && let Err(error) = pending.save(host.file.folder(), host.environment.access())
        {
            // The credential is written, so the enrolment has succeeded.
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
        Ok(ExchangeStep::Enrolled(Enrolment {
            confirmation: Confirmation::Confirmed,
            changes: Vec::new(),
            done: Done::Enrolled,
            hub_url: host.settings.hub_url.value.to_string(),
            hostname: Some(facts.hostname.clone()),
            changed: is_saved,
            fields: host.report_fields(interval),
            cleanup: Cleanup::default(),
        }))
    }
}

impl Ravenxcope<'_> {
    pub(crate) fn own_token(&self) -> Option<&Secret> {
        self.token.as_ref().map(|token| &token.value)
    }
}
