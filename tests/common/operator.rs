//! The operator's requests to a hub.

use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A client that trusts one hub's CA, and has its admin token.
pub(crate) struct Operator {
    pub(super) runtime: Runtime,
    client: reqwest::Client,
    url: String,
    admin_token: String,
}

/// The settings of an enrolment token that is to be minted.
pub(crate) struct Mint(Value);

impl Operator {
    /// Returns the operator of the hub at `url`, whose CA is in `ca_file`.
    pub(super) fn new(
        runtime: Runtime,
        url: &str,
        ca_file: Option<&Path>,
        admin_token: &str,
    ) -> Self {
        // Another test of this process may have installed the provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder().no_proxy();
        if let Some(ca_file) = ca_file {
            let ca = reqwest::Certificate::from_pem(&std::fs::read(ca_file).unwrap()).unwrap();
            client = client.tls_certs_only([ca]);
        }
        Self {
            runtime,
            client: client.build().unwrap(),
            url: url.to_owned(),
            admin_token: admin_token.to_owned(),
        }
    }

    /// Returns the hub's URL.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Returns a runtime for a hub and its operator.
    pub(super) fn runtime() -> Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    }

    /// Sends an operator's request; panics unless it succeeds.
    #[track_caller]
    pub(crate) fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, text) = self.send(method, path, body);
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Sends an operator's request; returns the status and the body.
    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, String) {
        // Requests of another dialect have their own paths.
        let url = match path.strip_prefix('/') {
            Some(path) => format!("{}/{path}", self.url),
            None => format!("{}/api/v1/{path}", self.url),
        };
        self.runtime.block_on(async {
            let mut request = self
                .client
                .request(method, url)
                .bearer_auth(&self.admin_token);
            if let Some(body) = body {
                request = request
                    .header("content-type", "application/json")
                    .body(body.to_string());
            }
            let response = request.send().await.unwrap();
            (response.status(), response.text().await.unwrap())
        })
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, None)
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: Value) -> Value {
        self.call(Method::POST, path, Some(body))
    }

    /// Mints a token for 50 uses with the defaults of the mass-provisioning document.
    pub(crate) fn token(&self) -> String {
        self.mint(&Mint::new()).0
    }

    /// Mints a token; returns it and its id.
    pub(crate) fn mint(&self, mint: &Mint) -> (String, String) {
        let minted = self.post("enrolment-tokens", mint.0.clone());
        (text(&minted["token"]), text(&minted["id"]))
    }

    /// Makes a per-agent token, as one click in the dashboard does.
    pub(crate) fn per_agent_token(&self, defaults: Value) -> (String, String) {
        let agent = self.post("agents", defaults);
        (text(&agent["token"]), text(&agent["agent_id"]))
    }

    pub(crate) fn agents(&self) -> Vec<Value> {
        rows(&self.get("agents"))
    }

    pub(crate) fn tokens(&self) -> Vec<Value> {
        rows(&self.get("enrolment-tokens"))
    }

    pub(crate) fn uses(&self, token_id: &str) -> Vec<Value> {
        rows(&self.get(&format!("enrolment-tokens/{token_id}/uses")))
    }

    /// Returns the sum of the uses of all tokens.
    pub(crate) fn spent(&self) -> u64 {
        let uses = |token: &Value| token["uses"].as_u64().unwrap();
        self.tokens().iter().map(uses).sum()
    }

    /// Injects a fault into the hub.
    #[track_caller]
    pub(crate) fn fault(&self, fault: Value) {
        self.post("faults", fault);
    }

    /// Panics unless there is one agent and one use.
    #[track_caller]
    pub(crate) fn expect_one_slot(&self) {
        assert_eq!((self.agents().len(), self.spent()), (1, 1));
    }
}

impl Mint {
    pub(crate) fn new() -> Self {
        Self(json!({
            "name": "production-cluster-eu-west",
            "ttl_secs": 72 * 3600,
            "max_uses": 50,
            "default_tags": ["prod", "eu-west", "web"],
            "default_role": "web",
        }))
    }

    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.0[key] = value;
        self
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Returns the rows of a listing.
fn rows(value: &Value) -> Vec<Value> {
    value
        .as_array()
        .or_else(|| value.as_object()?.values().find_map(Value::as_array))
        .unwrap()
        .clone()
}
