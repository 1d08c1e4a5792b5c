//! The one question, and what is kept of its answer.

use crate::pending_request::PendingRequest;
use crate::ravenxcope::{Credential, Ravenxcope, warn_of};
use crate::settings::{BACKEND_URL, INSTALL_TOKEN, SENSOR_ID, SENSOR_PORT, SENSOR_TOKEN};
use crate::wire;
use agent_core::enrolment::{Cleanup, Done, Enrolment};
use agent_core::enrolment::{Exchange, ExchangeStep};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::client::{Client, Reply, Request, SendError};
use agent_core::hub::response::Outcome;
use agent_core::store::env_file::{self, EnvFile};
use agent_core::token::{Secret, Token};

/// What the line of the install token becomes.
const CONSUMED: &str = "# INSTALL_TOKEN consumed during enrollment";
/// Keys whose values are not taken for the install token, even if they are the same.
const KEPT: [&str; 4] = [SENSOR_ID, BACKEND_URL, SENSOR_PORT, SENSOR_TOKEN];

/// One question, ready to be asked.
pub(crate) struct EnrolRequest<'a> {
    host: &'a Ravenxcope<'a>,
    client: Client,
    install_token: Secret,
    /// What the backend has said.
    admission: Option<Credential>,
}

impl<'a> EnrolRequest<'a> {
    /// Writes down that a request is about to leave.
    pub(crate) fn new(host: &'a Ravenxcope<'a>, secret: Option<&Token>) -> Result<Self> {
        let Some(secret) = secret else {
            return Err(host.no_install_token());
        };
        let client = Client::new(&host.settings)?;
        let mark = PendingRequest::asked(
            host.mark.as_ref(),
            host.id()?,
            host.own_token(),
            host.environment,
        );
        match mark.save(host.file.folder(), host.environment.access()) {
            Err(error) if host.memory.is_some() => {
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

    /// This request came to nothing for certain: what was known before it is all that is.
    fn take_back(&self) {
        let folder = self.host.file.folder();
        let taken_back = match &self.host.mark {
            Some(before) => before.save(folder, self.host.environment.access()),
            None => PendingRequest::remove(folder),
        };
        if let Err(error) = taken_back {
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
    }

    /// Which answer would have brought the sensor token: of this run, or of an earlier one.
    fn lost(&self, is_certain: bool) -> Option<String> {
        if !is_certain {
            return Some("an earlier try of this run got no answer".into());
        }
        let mark = self.host.lost_answer()?;
        Some(format!(
            "an earlier run's request, of {}, got no answer",
            mark.asked_at()
        ))
    }
}

/// Puts the sensor token into the env file, and takes the install token out of it, in one write. The
/// install token is the one in the file where none is given.
pub(crate) fn put(
    host: &Ravenxcope<'_>,
    install_token: Option<&Secret>,
    token: &Secret,
) -> Result<()> {
    // Somebody may have edited it while the backend was waited for.
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
        &KEPT,
    ))
}

impl Exchange for EnrolRequest<'_> {
    fn client(&self) -> &Client {
        &self.client
    }

    fn url(&self) -> String {
        // There is an id, or there would be no question.
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
            self.take_back();
        }
        let again = format!(
            "have a new install token made for sensor {}, put it in the place of the old one ({INSTALL_TOKEN}), and run the same command again",
            self.host.id().unwrap_or_default()
        );
        let subject = error.subject().unwrap_or_default().to_owned();
        match error.id() {
            ErrorId::Rejected => {
                let cause = match self.lost(is_certain) {
                    Some(lost) => format!(
                        "the backend answered 401, and {lost}: if it arrived, it used up the install token, which is good for one enrolment, and the sensor token was lost with its answer"
                    ),
                    None => "the backend answered 401: the install token is unknown, used up, replaced by a newer one, expired, or another sensor's".into(),
                };
                Error::new(ErrorId::Rejected, cause).about(subject).hint(again)
            }
            ErrorId::Unreachable => error.hint(format!(
                "check network, name resolution, proxy (HTTPS_PROXY, NO_PROXY) and the backend, then run the same command again; should that be refused with 401, an answer was lost: {again}"
            )),
            ErrorId::NotThisProtocol => {
                let hint = error.next_step().to_owned();
                error.hint(format!(
                    "{hint}; if it was the backend, it has used up the install token: {again}"
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
        let is_kept = match (
            put(host, Some(&self.install_token), &admission.token),
            host.memory,
        ) {
            (Ok(()), _) => true,
            (Err(error), Some(memory)) => {
                warn_of(&error);
                memory.0.replace(Some(admission));
                false
            }
            (Err(error), None) => {
                let hint = format!(
                    "{}; the backend has given out the sensor token, and it is lost, so then have a new install token made for sensor {id} and run the same command again with it",
                    error.next_step()
                );
                return Err(error.hint(hint));
            }
        };
        if is_kept {
            let mark = PendingRequest::enrolled(id, &facts.hostname, interval, host.environment);
            if let Err(error) = mark.save(host.file.folder(), host.environment.access()) {
                // The credential is safe, and that is what counts.
                tracing::warn!("{}: {}", error.what(), error.cause());
            }
        }
        Ok(ExchangeStep::Enrolled(Enrolment {
            done: Done::Enrolled,
            hub_url: host.settings.hub_url.value.to_string(),
            hostname: Some(facts.hostname.clone()),
            changed: is_kept,
            fields: host.held(interval),
            cleanup: Cleanup::default(),
        }))
    }
}

impl Ravenxcope<'_> {
    fn own_token(&self) -> Option<&Secret> {
        self.token.as_ref().map(|token| &token.value)
    }
}
