//! The two questions of an enrolment: the secret for a certificate, and then, under the certificate,
//! as whom the server knows it. Success is said after the second.

use serde_json::{Value, json};

use crate::certificate::Certificate;
use crate::host::{EnrolmentState, Host, KeyToEnrol, Notes};
use crate::mimir::Mimir;
use crate::wire::{self, Certified};
use agent_core::ca_copy;
use agent_core::clock;
use agent_core::enrolment::{Cleanup, Done, Enrolment, ReportField};
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

/// One enrolment that is under way.
pub(crate) struct EnrolRequest<'a> {
    settings: &'a Settings,
    environment: &'a Environment,
    host: Host,
    key: KeyToEnrol,
    client: Client,
    question: Question,
    /// An answer may have been lost on its way.
    is_uncertain: bool,
}

enum Question {
    /// The secret, and what came for it.
    Certificate(Secret, Option<Certified>),
    /// As whom the server knows the certificate, and the answer.
    Proof(Option<String>),
}

impl<'a> EnrolRequest<'a> {
    /// Puts the key on the disk, if it is not.
    pub(crate) fn prepare(
        mimir: &'a Mimir<'_>,
        host: Host,
        enrolment_state: EnrolmentState,
        secret: Option<&Token>,
        force: bool,
    ) -> Result<Self> {
        let (settings, environment) = (&mimir.settings, mimir.environment);
        let key = host.key_to_enrol(enrolment_state)?;
        let question = match secret {
            Some(secret) if force || enrolment_state != EnrolmentState::Unproved => {
                Question::Certificate(secret.secret().clone(), None)
            }
            _ => Question::Proof(None),
        };
        let client = match &question {
            Question::Certificate(..) => Client::new(settings)?,
            Question::Proof(_) => proving(settings, &host)?,
        };
        Ok(Self {
            settings,
            environment,
            host,
            key,
            client,
            question,
            is_uncertain: false,
        })
    }

    fn keep_certificate(&mut self, certified: &Certified, facts: &HostFacts) -> Result<()> {
        let not_our_protocol = |cause: String| {
            Error::new(ErrorId::NotThisProtocol, cause)
                .about(self.url())
                .hint("set this host's clock if it is wrong (timedatectl set-ntp true), else see the server's log; then run the same command again: the key stays, so it is the same agent")
        };
        let certificate = Certificate::from_pem(certified.certificate_pem.as_bytes())
            .map_err(not_our_protocol)?;
        certificate
            .check(
                &self.key.key.public(),
                certified.ca_pem.as_bytes(),
                self.environment.now(),
            )
            .map_err(not_our_protocol)?;
        let settings = self.settings;
        let folder = self.host.files.folder();
        ca_copy::make(settings, folder, self.environment)?;
        let copy = ca_copy::place(settings, folder, self.environment);
        let notes = Notes {
            server_url: Some(settings.hub_url.value.to_string()),
            agent_id: Some(certified.agent_id.clone()),
            hostname: Some(facts.hostname.clone()),
            enrolled_at: None,
            ca_file: settings
                .ca_file
                .as_ref()
                .filter(|file| file.can_be_named())
                .and_then(|file| match file.source {
                    // A link stays the link that was given.
                    Source::Key(..) => self.host.notes.ca_file.clone(),
                    _ => {
                        let path = copy.unwrap_or_else(|| file.value.clone());
                        Some(self.environment.path_on_host(&path).unwrap_or(path))
                    }
                }),
            ca_pin: settings.ca_pin.as_ref().map(|pin| pin.value.to_string()),
            ..Notes::default()
        };
        self.host.keep(
            notes,
            &self.key.file,
            &certified.certificate_pem,
            &certified.ca_pem,
        )
    }
}

/// A client that shows the host's certificate.
pub(crate) fn proving(settings: &Settings, host: &Host) -> Result<Client> {
    Client::proving(settings, proof(host)?)
}

/// What shows who this host is.
pub(crate) fn proof(host: &Host) -> Result<Proof> {
    match (host.key()?, host.certificate()?) {
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
        let path = match self.question {
            Question::Certificate(..) => wire::ENROLL,
            Question::Proof(_) => wire::MYSELF,
        };
        self.settings.hub_url.value.join(path).to_string()
    }

    fn request(&self, facts: &HostFacts) -> Result<Request<'_>> {
        let hub = &self.settings.hub_url.value;
        match &self.question {
            Question::Certificate(secret, _) => {
                if self.is_uncertain {
                    tracing::warn!(
                        "the answer to the try before may have been lost: asking for the same key again; a server that does not know a key again spends a second use"
                    );
                }
                let csr = self.key.key.request(&facts.hostname).ok_or_else(|| {
                    Error::new(ErrorId::Internal, "the system gave no random bytes")
                })?;
                Ok(wire::enroll(hub, secret, &facts.hostname, &csr))
            }
            Question::Proof(_) => Ok(wire::myself(hub)),
        }
    }

    fn classify(&mut self, url: &str, sent: std::result::Result<Reply, SendError>) -> Outcome<()> {
        let outcome = match &mut self.question {
            Question::Certificate(_, certified) => response::classify(url, sent, |reply| {
                *certified = Some(wire::certified(reply)?);
                Ok(())
            }),
            Question::Proof(known_as) => response::classify(url, sent, |reply| {
                *known_as = Some(wire::known_as(reply)?);
                Ok(())
            }),
        };
        self.is_uncertain = matches!(outcome, Outcome::Wait { .. });
        outcome
    }

    fn refused(&mut self, error: Error, is_certain: bool) -> Error {
        // A new key that the server has never given anything for is of no use.
        let drops_key = is_certain && self.key.is_new && self.key.file != KEY;
        if drops_key && let Err(fault) = self.host.files.remove(&self.key.file) {
            tracing::warn!("{}: {}", fault.what(), fault.cause());
        }
        match self.question {
            Question::Certificate(..) => wire::refused(error),
            Question::Proof(_) => wire::not_known(error),
        }
    }

    fn persist(&mut self, facts: &HostFacts) -> Result<ExchangeStep> {
        match &mut self.question {
            Question::Certificate(_, certified) => {
                let certified = certified.take().ok_or_else(nothing)?;
                self.keep_certificate(&certified, facts)?;
                self.client = proving(self.settings, &self.host)?;
                self.question = Question::Proof(None);
                self.is_uncertain = false;
                Ok(ExchangeStep::Continue)
            }
            Question::Proof(known_as) => {
                let known_as = known_as.take().ok_or_else(nothing)?;
                if Some(&known_as) != self.host.notes.agent_id.as_ref() {
                    return Err(Error::new(
                        ErrorId::NotThisProtocol,
                        format!("the server knows the certificate as that of another agent, {known_as:?}"),
                    )
                    .about(self.url()));
                }
                self.host.proved(self.environment.now())?;
                Ok(ExchangeStep::Enrolled(Enrolment {
                    done: Done::Enrolled,
                    hub_url: self.settings.hub_url.value.to_string(),
                    hostname: Some(facts.hostname.clone()),
                    changed: true,
                    fields: held(&self.host)?,
                    cleanup: Cleanup::default(),
                }))
            }
        }
    }
}

fn nothing() -> Error {
    Error::new(ErrorId::Internal, "nothing was confirmed")
}

/// What an enrolled host has.
pub(crate) fn held(host: &Host) -> Result<Vec<ReportField>> {
    let until = host
        .certificate()?
        .map(|certificate| clock::rfc3339(certificate.expires_at()));
    let files: &KeyFiles = &host.files;
    let rows: [(_, _, Value); 3] = [
        ("agent", "agent_id", json!(host.notes.agent_id)),
        ("certificate until", "certificate_expires_at", json!(until)),
        ("folder", "folder", json!(files.folder())),
    ];
    Ok(rows
        .map(|(label, key, value)| ReportField { label, key, value })
        .into())
}
