//! The exchange of the secret for the token.

use agent_core::enrolment::{Cleanup, Confirmation, Done, Enrolment, Exchange, ExchangeStep};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::hub::client::{Client, Reply, Request, SendError};
use agent_core::hub::response::{self, Outcome};
use agent_core::store::{atomic, unwritable};
use agent_core::token::Secret;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::host::{Credential, Host};

/// Path of the call.
pub(crate) const TOKENS: &str = "/v1/tokens";

/// One exchange.
pub(crate) struct EnrolRequest<'a> {
    host: &'a Host<'a>,
    client: Client,
    secret: &'a Secret,
    /// The token of the response, until it is written.
    token: Option<String>,
}

#[derive(Deserialize)]
struct TokenBody {
    token: String,
}

impl<'a> EnrolRequest<'a> {
    /// Makes the exchange of `secret`.
    ///
    /// # Errors
    /// Wrong settings of the connection.
    pub(crate) fn new(host: &'a Host<'a>, secret: &'a Secret) -> Result<Self> {
        Ok(Self {
            host,
            client: Client::new(&host.settings)?,
            secret,
            token: None,
        })
    }
}

impl Exchange for EnrolRequest<'_> {
    fn client(&self) -> &Client {
        &self.client
    }

    fn url(&self) -> String {
        self.host.settings.hub_url.value.join(TOKENS).to_string()
    }

    fn request(&self, facts: &HostFacts) -> Result<Request<'_>> {
        let body = json!({"hostname": facts.hostname});
        Ok(Request {
            method: Method::POST,
            url: self.host.settings.hub_url.value.join(TOKENS),
            bearer: Some(self.secret),
            signature: None,
            body: serde_json::to_vec(&body).unwrap_or_default().into(),
        })
    }

    fn classify(&mut self, url: &str, sent: std::result::Result<Reply, SendError>) -> Outcome<()> {
        response::classify(url, sent, |reply| {
            let body: TokenBody =
                serde_json::from_slice(&reply.body).map_err(|cause| cause.to_string())?;
            if body.token.is_empty() {
                return Err("its token is empty".into());
            }
            self.token = Some(body.token);
            Ok(())
        })
    }

    fn refused(&mut self, error: Error, _is_certain: bool) -> Error {
        error
    }

    fn persist(&mut self, facts: &HostFacts) -> Result<ExchangeStep> {
        let host = self.host;
        let server = host.settings.hub_url.value.to_string();
        let token = self.token.take().unwrap_or_default();
        let credential = Credential {
            server: server.clone(),
            token,
        };
        let bytes = serde_json::to_vec(&credential).unwrap_or_default();
        let grant = host.environment.access().secret();
        atomic::write(&host.path, &bytes, grant.mode, grant.owner)
            .map_err(|error| unwritable(ErrorId::StateUnwritable, &host.path, &error))?;
        Ok(ExchangeStep::Enrolled(Enrolment {
            done: Done::Enrolled,
            hub_url: server,
            hostname: Some(facts.hostname.clone()),
            changed: true,
            confirmation: Confirmation::Confirmed,
            changes: Vec::new(),
            fields: host.fields(),
            cleanup: Cleanup::default(),
        }))
    }
}
