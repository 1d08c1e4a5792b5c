//! The two requests of an enrolment: the secret for a certificate, and a proof under that certificate.
//!
//! The proof asks the server for the agent id of the certificate. The enrolment succeeds after it.

use serde_json::{Value, json};

use crate::certificate::{Certificate, Clock, Misfit};
use crate::host_state::{EnrolmentState, HostState, KeyToCertify, REQUEST_FILE, Record};
use crate::mimir::Mimir;
use crate::wire::{self, Certified};
use agent_core::ca_copy;
use agent_core::clock;
use agent_core::enrolment::{Cleanup, Confirmation, Done, Enrolment, ReportField};
use agent_core::enrolment::{Exchange, ExchangeStep};
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::client::{Client, Proof, Reply, Request, SendError};
use agent_core::hub::response::{self, Outcome};
use agent_core::settings::Settings;
use agent_core::sourced::Source;
use agent_core::store::key_files::{KEY, KeyFiles};
use agent_core::token::{Secret, Token};

/// An enrolment request, ready to be sent.
pub(crate) struct EnrolRequest<'a> {
    settings: &'a Settings,
    environment: &'a Environment,
    state: HostState,
    key: KeyToCertify,
    client: Client,
    step: Step,
    /// The response to the try before may have been lost.
    is_uncertain: bool,
}

/// The two requests of an enrolment.
enum Step {
    /// The request for a certificate: the secret, and the server's response.
    Certificate(Secret, Option<Certified>),
    /// The proof of the certificate: the agent id in the server's response.
    Proof(Option<String>),
}

impl<'a> EnrolRequest<'a> {
    /// Writes the key to the disk, if it is not there yet.
    ///
    /// # Errors
    /// A broken key, and files that cannot be written.
    pub(crate) fn prepare(
        host: &'a Mimir<'_>,
        state: HostState,
        enrolment_state: EnrolmentState,
        secret: Option<&Token>,
        force: bool,
    ) -> Result<Self> {
        let (settings, environment) = (&host.settings, host.environment);
        let key = state.key_to_certify(enrolment_state)?;
        let step = match secret {
            Some(secret) if force || enrolment_state != EnrolmentState::Unproved => {
                Step::Certificate(secret.secret().clone(), None)
            }
            _ => Step::Proof(None),
        };
        let client = match &step {
            Step::Certificate(..) => Client::new(settings)?,
            Step::Proof(_) => certified_client(settings, &state)?,
        };
        Ok(Self {
            settings,
            environment,
            state,
            key,
            client,
            step,
            is_uncertain: false,
        })
    }

    /// Checks the certificate in the server's response, and writes the files of the enrolment.
    fn save_certificate(&mut self, certified: &Certified, facts: &HostFacts) -> Result<()> {
        let misfit = |Misfit { cause, hint }| {
            Error::new(ErrorId::NotThisProtocol, cause)
                .about(self.url())
                .hint(format!("{hint}; then run the same command again: the key stays, so a server that recognises the key spends no second use"))
        };
        let certificate =
            Certificate::from_pem(certified.certificate_pem.as_bytes()).map_err(misfit)?;
        let clock = Clock {
            server: certified.date,
            host: self.environment.now(),
        };
        certificate
            .check(&self.key.key.public(), certified.ca_pem.as_bytes(), clock)
            .map_err(misfit)?;
        let settings = self.settings;
        let folder = self.state.files.folder();
        ca_copy::make(settings, folder, self.environment)?;
        let copy = ca_copy::place(settings, folder, self.environment);
        let record = Record {
            server_url: Some(settings.hub_url.value.to_string()),
            agent_id: Some(certified.agent_id.clone()),
            hostname: Some(facts.hostname.clone()),
            enrolled_at: None,
            ca_file: settings
                .ca_file
                .as_ref()
                .filter(|file| file.can_be_named())
                .and_then(|file| match file.source {
                    // A link is not resolved.
                    Source::Key(..) => self.state.record.ca_file.clone(),
                    _ => {
                        let path = copy.unwrap_or_else(|| file.value.clone());
                        Some(self.environment.path_on_host(&path).unwrap_or(path))
                    }
                }),
            ca_pin: settings.ca_pin.as_ref().map(|pin| pin.value.to_string()),
            ..Record::default()
        };
        self.state.save(
            record,
            &self.key.file,
            &certified.certificate_pem,
            &certified.ca_pem,
        )
    }
}

/// Returns a client that presents the host's certificate.
pub(crate) fn certified_client(settings: &Settings, state: &HostState) -> Result<Client> {
    Client::proving(settings, proof(state)?)
}

/// Returns the client certificate of this host, with its key.
pub(crate) fn proof(state: &HostState) -> Result<Proof> {
    match (state.key()?, state.certificate()?) {
        (Some(key), Some(certificate)) => Ok(Proof {
            chain: certificate.for_tls(),
            key: key.for_tls(),
        }),
        _ => Err(Error::new(
            ErrorId::NotEnrolled,
            "there is no certificate for this host's key",
        )),
    }
}

impl Exchange for EnrolRequest<'_> {
    fn client(&self) -> &Client {
        &self.client
    }

    fn url(&self) -> String {
        let path = match self.step {
            Step::Certificate(..) => wire::ENROLL,
            Step::Proof(_) => wire::MYSELF,
        };
        self.settings.hub_url.value.join(path).to_string()
    }

    fn request(&self, facts: &HostFacts) -> Result<Request<'_>> {
        let hub = &self.settings.hub_url.value;
        match &self.step {
            Step::Certificate(secret, _) => {
                if self.is_uncertain {
                    tracing::warn!(
                        "the response to the try before may have been lost: requesting a certificate for the same key again; a server that does not recognise the key spends a second use"
                    );
                }
                let csr = self
                    .state
                    .certificate_request(&self.key.key, &facts.hostname)?;
                Ok(wire::enroll(hub, secret, &facts.hostname, &csr))
            }
            Step::Proof(_) => Ok(wire::myself(hub)),
        }
    }

    fn classify(&mut self, url: &str, sent: std::result::Result<Reply, SendError>) -> Outcome<()> {
        let outcome = match &mut self.step {
            Step::Certificate(_, certified) => response::classify(url, sent, |reply| {
                *certified = Some(wire::certified(reply)?);
                Ok(())
            }),
            Step::Proof(known_as) if sent.as_ref().is_ok_and(lacks_call) => {
                tracing::warn!(
                    "the server does not have {url}: it accepted the connection with the certificate, and does not confirm the agent's id"
                );
                known_as.clone_from(&self.state.record.agent_id);
                self.state.record.lacks_self_call = true;
                Outcome::Done(())
            }
            Step::Proof(known_as) => response::classify(url, sent, |reply| {
                *known_as = Some(wire::known_as(reply)?);
                Ok(())
            }),
        };
        self.is_uncertain = matches!(outcome, Outcome::Wait { .. });
        outcome
    }

    fn refused(&mut self, error: Error, is_certain: bool) -> Error {
        // A new key without any response of the server is of no use, and so is its certificate request.
        let drops_next_key = is_certain && self.key.is_new && self.key.file != KEY;
        for file in [self.key.file.as_str(), REQUEST_FILE] {
            if drops_next_key && let Err(fault) = self.state.files.remove(file) {
                tracing::warn!("{}: {}", fault.what(), fault.cause());
            }
        }
        match self.step {
            Step::Certificate(..) => wire::explain_rejection(error),
            Step::Proof(_) => wire::explain_unknown_certificate(error),
        }
    }

    fn persist(&mut self, facts: &HostFacts) -> Result<ExchangeStep> {
        match &mut self.step {
            Step::Certificate(_, certified) => {
                let certified = certified.take().ok_or_else(nothing)?;
                self.save_certificate(&certified, facts)?;
                self.client = certified_client(self.settings, &self.state)?;
                self.step = Step::Proof(None);
                self.is_uncertain = false;
                Ok(ExchangeStep::Continue)
            }
            Step::Proof(known_as) => {
                let known_as = known_as.take().ok_or_else(nothing)?;
                if Some(&known_as) != self.state.record.agent_id.as_ref() {
                    return Err(Error::new(
                        ErrorId::NotThisProtocol,
                        format!(
                            "the server names another agent for this certificate, {known_as:?}"
                        ),
                    )
                    .about(self.url()));
                }
                self.state.proved(self.environment.now())?;
                Ok(ExchangeStep::Enrolled(Enrolment {
                    done: Done::Enrolled,
                    hub_url: self.settings.hub_url.value.to_string(),
                    hostname: Some(facts.hostname.clone()),
                    changed: true,
                    confirmation: Confirmation::Confirmed,
                    changes: Vec::new(),
                    fields: report_fields(&self.state)?,
                    cleanup: Cleanup::default(),
                }))
            }
        }
    }
}

/// Returns whether the server does not have the call of the request (RFC 9110, sections 15.5 and 15.6).
fn lacks_call(reply: &Reply) -> bool {
    matches!(reply.status, 404 | 405 | 501)
}

/// Returns the error of a response that was not read.
fn nothing() -> Error {
    Error::new(ErrorId::Internal, "nothing was confirmed")
}

/// Returns the fields of an enrolled host for the report of a run.
pub(crate) fn report_fields(state: &HostState) -> Result<Vec<ReportField>> {
    let until = state
        .certificate()?
        .map(|certificate| clock::rfc3339(certificate.expires_at()));
    let files: &KeyFiles = &state.files;
    let rows: [(_, _, Value); 3] = [
        ("agent", "agent_id", json!(state.record.agent_id)),
        ("certificate until", "certificate_expires_at", json!(until)),
        ("folder", "folder", json!(files.folder())),
    ];
    Ok(rows
        .map(|(label, key, value)| ReportField { label, key, value })
        .into())
}
