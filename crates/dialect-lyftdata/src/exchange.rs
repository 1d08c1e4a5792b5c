//! The enrolment request to a `LyftData` server, and its responses.

use reqwest::Method;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::files::{RequestRecord, Worker};
use crate::lyftdata::Lyftdata;
use crate::settings::text_fault;
use agent_core::clock;
use agent_core::enrolment::{Cleanup, Confirmation, Done, Enrolment};
use agent_core::enrolment::{Exchange, ExchangeStep};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hex;
use agent_core::hub::client::{Client, Reply, Request, SendError};
use agent_core::hub::optional::Optional;
use agent_core::hub::response::{self, Outcome};
use agent_core::token::Secret;

/// Path of the enrolment.
pub(crate) const ENROLL: &str = "/api/workers/enroll";

/// An enrolment request, ready to be sent.
pub(crate) struct EnrolRequest<'a> {
    host: &'a Lyftdata<'a>,
    client: Client,
    name: &'a str,
    secret: &'a Secret,
    /// The requested id: the one in the settings, or one that the agent has made. All tries of an enrolment
    /// send the same id, so that the server refuses a second worker after a lost response.
    id: String,
    /// Time of an earlier request for the same name whose response was lost, RFC 3339.
    lost_at: Option<String>,
    confirmed: Option<Worker>,
}

#[derive(Serialize)]
struct EnrollBody<'a> {
    name: &'a str,
    nonce: String,
    hmac: String,
    worker: &'a str,
}

/// The response to an accepted request.
#[derive(Deserialize)]
struct AcceptedBody {
    worker: String,
    #[serde(default)]
    name: Optional<String>,
    api_key: Zeroizing<String>,
}

impl Exchange for EnrolRequest<'_> {
    fn client(&self) -> &Client {
        &self.client
    }

    fn url(&self) -> String {
        let hub = &self.host.settings.hub_url.value;
        hub.join(ENROLL).to_string()
    }

    fn request(&self, _: &HostFacts) -> Result<Request<'_>> {
        let nonce = random()?;
        let body = EnrollBody {
            hmac: proof(self.secret, &nonce, self.name),
            nonce,
            name: self.name,
            worker: &self.id,
        };
        Ok(Request {
            method: Method::POST,
            url: self.host.settings.hub_url.value.join(ENROLL),
            bearer: None,
            signature: None,
            body: serde_json::to_vec(&body).unwrap_or_default().into(),
        })
    }

    fn classify(&mut self, url: &str, sent: std::result::Result<Reply, SendError>) -> Outcome<()> {
        if let Some(error) = sent
            .as_ref()
            .ok()
            .and_then(|reply| self.documented_error(reply))
        {
            return Outcome::Stop(error.about(url));
        }
        let outcome = response::classify(url, sent, |reply| {
            self.confirmed = Some(accepted(reply, self.name)?);
            Ok(())
        });
        if matches!(outcome, Outcome::Wait { .. }) {
            let now = clock::rfc3339(self.host.environment.now());
            self.lost_at.get_or_insert(now);
        }
        outcome
    }

    fn refused(&mut self, error: Error, is_certain: bool) -> Error {
        // The rejection is certain and no response was lost, so the record is of no more use.
        if is_certain
            && self.lost_at.is_none()
            && let Err(fault) = self.host.remove_pending_request()
        {
            tracing::warn!("{}: {}", fault.what(), fault.cause());
        }
        error
    }

    fn persist(&mut self, facts: &HostFacts) -> Result<ExchangeStep> {
        let Some(worker) = self.confirmed.take() else {
            return Err(Error::new(ErrorId::Internal, "nothing was confirmed"));
        };
        let pending = RequestRecord {
            confirmed: Some(worker.clone()),
            ..self.host.request_record(self.name, &self.id)
        };
        self.host.save_pending_request(&pending)?;
        self.host.finish(pending)?;
        Ok(ExchangeStep::Enrolled(Enrolment {
            done: Done::Enrolled,
            hub_url: self.host.settings.hub_url.value.to_string(),
            hostname: Some(facts.hostname.clone()),
            changed: true,
            confirmation: Confirmation::Confirmed,
            changes: Vec::new(),
            fields: self.host.report_fields(&worker.id, Some(&worker.name)),
            cleanup: Cleanup::default(),
        }))
    }
}

impl<'a> EnrolRequest<'a> {
    /// Writes the record of the request, before the first request is sent.
    ///
    /// # Errors
    /// A missing name, and files that cannot be read or written.
    pub(crate) fn prepare(host: &'a Lyftdata<'a>, secret: &'a Secret) -> Result<Self> {
        tracing::info!("worker is using auto enrollment");
        let name = host.name()?;
        let client = Client::new(&host.settings)?;
        let lost = host
            .pending_request()?
            .filter(|pending| pending.name == name && pending.hub_url == host.hub_url())
            .and_then(|pending| Some((pending.sent_at, pending.worker?)))
            .filter(|(_, id)| host.worker.as_ref().is_none_or(|worker| worker == id));
        let (lost_at, id) = match lost {
            Some((sent_at, id)) => (Some(sent_at), id),
            None => {
                let id = host.worker.clone().map_or_else(random, Ok)?;
                host.save_pending_request(&host.request_record(name, &id))?;
                (None, id)
            }
        };
        Ok(Self {
            host,
            client,
            name,
            secret,
            id,
            lost_at,
            confirmed: None,
        })
    }

    /// Returns the error of a response that is in `LyftData`'s troubleshooting table.
    fn documented_error(&self, reply: &Reply) -> Option<Error> {
        match reply.status {
            400 if says(reply, "Community Edition") => Some(
                Error::new(
                    ErrorId::Refused,
                    "Community Edition only supports the built-in worker: the server is not licensed for external ones",
                )
                .hint("enrol at a licensed deployment; a worker of a Community Edition needs a manual API key"),
            ),
            401 => Some(
                Error::new(
                    ErrorId::Rejected,
                    "the server answered 401: the secret of this worker is wrong, or auto enrollment is not enabled (the server's log says `attempted auto enrollment, but secret was incorrect`)",
                )
                .hint("refresh LYFTDATA_AUTO_ENROLLMENT_KEY, and run the same command again; an admin sees what is enabled: GET /api/workers/auto-enrollment"),
            ),
            409 => Some(self.exists(reply)),
            400 if says(reply, "already exists") => Some(self.exists(reply)),
            _ => None,
        }
    }

    /// Returns the error of a name or an id that the server knows already.
    fn exists(&self, reply: &Reply) -> Error {
        let (name, id) = (self.name, &self.id);
        let cause = match &self.lost_at {
            Some(sent_at) => format!(
                "the requested worker already exists at the server: a response to this host was lost (the request for worker {id} with the name {name:?} of {sent_at}), and the server sends it only once"
            ),
            None => format!(
                "the server answered {} to the request for worker {id} with the name {name:?}{}",
                reply.status,
                response::hub_says(reply)
            ),
        };
        let clear = match &self.host.worker {
            Some(_) => "clear LYFTDATA_WORKER_ID, or choose a different --worker-name",
            None => "choose a different --worker-name",
        };
        Error::new(ErrorId::Refused, cause).hint(match self.lost_at {
            Some(_) => "an admin removes that worker, which has never run (GET /api/workers lists it), then run the same command again",
            None => clear,
        })
    }
}

impl Lyftdata<'_> {
    /// Returns the record of a request for the worker `id`, sent now.
    fn request_record(&self, name: &str, id: &str) -> RequestRecord {
        RequestRecord {
            name: name.into(),
            sent_at: clock::rfc3339(self.environment.now()),
            hub_url: self.hub_url(),
            worker: Some(id.into()),
            confirmed: None,
        }
    }
}

/// Returns 16 random bytes as hexadecimal digits.
fn random() -> Result<String> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::new(ErrorId::Internal, "the system gave no random bytes"))?;
    Ok(hex::encode(&bytes))
}

/// Returns whether the server's message contains `text`.
fn says(reply: &Reply, text: &str) -> bool {
    reply
        .message()
        .is_some_and(|message| message.contains(text))
}

/// Reads the response to an accepted request.
///
/// # Errors
/// The part of the response that is not of this protocol.
pub(crate) fn accepted(reply: &Reply, name: &str) -> std::result::Result<Worker, String> {
    if reply.media_type.as_deref() != Some("application/json") {
        return Err("the response is not application/json (a proxy's page, or a web site?)".into());
    }
    let body: AcceptedBody = serde_json::from_slice(&reply.body)
        .map_err(|_| "the response lacks `worker` or `api_key`, or one has the wrong type")?;
    let worker = Worker {
        id: body.worker,
        // Only another name is a reason not to take the key: the response may be another worker's.
        name: body.name.or_warn("name").unwrap_or_else(|| name.to_owned()),
        api_key: body.api_key,
    };
    if let Some(fault) = text_fault(&worker.id) {
        return Err(format!("the `worker` of the response: {fault}"));
    }
    Secret::opaque(&worker.api_key)
        .map_err(|fault| format!("the `api_key` of the response: {fault}"))?;
    if worker.name != name {
        return Err("the `name` of the response is not the requested one".into());
    }
    Ok(worker)
}

/// Returns hex(HMAC-SHA-256(secret, nonce + "\n" + name)) (contract, section 7).
fn proof(secret: &Secret, nonce: &str, name: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    hex::encode(hmac::sign(&key, format!("{nonce}\n{name}").as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::token::Token;

    #[test]
    fn the_proof_is_the_contracts() {
        // printf '%s\n%s' 000102030405060708090a0b0c0d0e0f ingest-us-east-01 |
        //   openssl dgst -sha256 -hmac s3cret
        let Token::Enrolment(secret) = Token::shared(" s3cret\n", &"test").unwrap() else {
            panic!("not a shared secret");
        };
        assert_eq!(
            proof(
                &secret,
                "000102030405060708090a0b0c0d0e0f",
                "ingest-us-east-01"
            ),
            "060e3dfb6032755ba9412857e31151c90caa855198419f5dbbb216452beda9a2"
        );
    }
}
