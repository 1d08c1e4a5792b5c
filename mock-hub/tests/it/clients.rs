//! The two callers of a hub: its operator, and a host with its key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mock_hub::{Hub, Options};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode};
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::path::Path;

/// Starts a hub in this process.
pub(crate) async fn hub() -> Hub {
    hub_with(Options::default()).await
}

pub(crate) async fn hub_with(options: Options) -> Hub {
    mock_hub::start(options).await.expect("the hub starts")
}

/// Makes a client that trusts the given CA alone. It reuses no connection, so that calls are
/// independent.
pub(crate) fn client(ca_file: Option<&Path>) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(ca_file) = ca_file {
        let pem = std::fs::read(ca_file).expect("the CA file is there");
        client = client.tls_certs_only([Certificate::from_pem(&pem).expect("a CA")]);
    }
    client.build().expect("a client")
}

/// A caller of the hub.
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) url: String,
    admin_token: String,
    /// The name by which the hub is called, if it is not its address.
    pub(crate) host: Option<&'static str>,
}

/// Status and body. A missing body is `null`.
pub(crate) type Answer = (u16, Value);

impl Caller {
    pub(crate) fn of(hub: &Hub) -> Self {
        Self::new(hub.url(), hub.ca_file(), hub.admin_token())
    }

    pub(crate) fn new(url: &str, ca_file: Option<&Path>, admin_token: &str) -> Self {
        Self {
            client: client(ca_file),
            url: url.to_owned(),
            admin_token: admin_token.to_owned(),
            host: None,
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match self.host {
            Some(host) => request.header("Host", host),
            None => request,
        }
    }

    /// Sends a GET as the operator.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        answer(request.bearer_auth(&self.admin_token)).await
    }

    /// Sends a POST as the operator.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, path);
        answer(request.bearer_auth(&self.admin_token).json(body)).await
    }

    /// Sends a DELETE as the operator.
    pub(crate) async fn delete(&self, path: &str) -> Answer {
        let request = self.request(Method::DELETE, path);
        answer(request.bearer_auth(&self.admin_token)).await
    }

    /// Creates a token for that many uses; `extra` overrides or adds fields.
    pub(crate) async fn create_token(&self, max_uses: u32, extra: Value) -> CreatedToken {
        let mut body = json!({"name": "test", "ttl_secs": 3600, "max_uses": max_uses});
        for (field, value) in extra.as_object().expect("an object") {
            body[field] = value.clone();
        }
        let (status, created) = self.post("/api/v1/enrolment-tokens", &body).await;
        assert_eq!(status, 201, "{created}");
        CreatedToken {
            token: text(&created, "token"),
            path: format!("/api/v1/enrolment-tokens/{}", text(&created, "id")),
        }
    }

    /// Returns the uses of a token, and the rows of its audit.
    pub(crate) async fn uses(&self, created: &CreatedToken) -> (u64, usize) {
        let (_, token) = self.get(&created.path).await;
        let (_, audit) = self.get(&format!("{}/uses", created.path)).await;
        let rows = audit["uses"].as_array().expect("a list").len();
        (token["uses"].as_u64().expect("a number"), rows)
    }

    /// Returns the number of agents.
    pub(crate) async fn agent_count(&self) -> usize {
        self.get("/api/v1/agents").await.1["agents"]
            .as_array()
            .expect("a list")
            .len()
    }

    /// Returns the kinds of an agent's anomalies.
    pub(crate) async fn anomalies(&self, agent_id: &str) -> Vec<String> {
        let (_, list) = self.get("/api/v1/integrity").await;
        let anomalies = list["anomalies"].as_array().expect("a list");
        let of_agent = anomalies
            .iter()
            .filter(|anomaly| anomaly["agent_id"] == agent_id);
        of_agent.map(|anomaly| text(anomaly, "kind")).collect()
    }

    pub(crate) async fn fault(&self, fault: Value) {
        let (status, answer) = self.post("/api/v1/faults", &fault).await;
        assert_eq!(status, 201, "{answer}");
    }
}

/// A new enrolment token.
pub(crate) struct CreatedToken {
    pub(crate) token: String,
    pub(crate) path: String,
}

/// A host: a signing key, and the body of its registration.
pub(crate) struct Host {
    key: Ed25519KeyPair,
    seed: [u8; 32],
    pub(crate) body: Value,
}

impl Host {
    pub(crate) fn new() -> Self {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).expect("randomness");
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a key");
        let body = json!({
            "hostname": "web-1", "os_info": "Debian GNU/Linux 13 (trixie)",
            "architecture": "x86_64", "agent_version": "0.2.0", "kernel": "6.12.0",
            "cpus": 2, "memory_bytes": 2_147_483_648_u64, "primary_ip": "192.0.2.7",
            "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "addresses": ["192.0.2.7"],
                "is_management": true, "is_up": true, "bytes_sent": 1, "bytes_recv": 2}],
            "machine_fingerprint": "00ff", "tags": [], "role": null,
            "signing_pubkey": STANDARD.encode(key.public_key().as_ref()),
            "a_field_of_tomorrow": {"is": "ignored"},
        });
        Self { key, seed, body }
    }

    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.body[field] = value;
        self
    }

    /// Returns a host with the same key and another body, as a clone is.
    pub(crate) fn clone_with(&self, body: Value) -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&self.seed).expect("a key");
        Self {
            key,
            seed: self.seed,
            body,
        }
    }

    pub(crate) fn sign(&self, body: &[u8]) -> String {
        self.sign_message(digest::digest(&digest::SHA256, body).as_ref())
    }

    pub(crate) fn sign_message(&self, message: &[u8]) -> String {
        STANDARD.encode(self.key.sign(message))
    }

    /// Returns a signed request of this host, not sent yet.
    pub(crate) fn signed(
        &self,
        caller: &Caller,
        method: Method,
        path: &str,
        token: &str,
        body: Vec<u8>,
    ) -> RequestBuilder {
        caller
            .request(method, path)
            .bearer_auth(token)
            .header("Content-Type", "application/json")
            .header("X-Monsys-Signature", self.sign(&body))
            .body(body)
    }

    pub(crate) fn registration(&self, caller: &Caller, call: &str, token: &str) -> RequestBuilder {
        let path = format!("/api/v1/agents/{call}");
        let body = serde_json::to_vec(&self.body).expect("JSON");
        self.signed(caller, Method::POST, &path, token, body)
    }

    pub(crate) async fn enrol(&self, caller: &Caller, token: &str) -> Answer {
        answer(self.registration(caller, "enrol", token)).await
    }

    pub(crate) async fn register(&self, caller: &Caller, token: &str) -> Answer {
        answer(self.registration(caller, "register", token)).await
    }

    pub(crate) fn heartbeat(&self, caller: &Caller, agent: &Agent, body: &Value) -> RequestBuilder {
        let path = format!("/api/v1/agents/{}/heartbeat", agent.id);
        let body = serde_json::to_vec(body).expect("JSON");
        self.signed(caller, Method::POST, &path, &agent.token, body)
    }

    pub(crate) async fn unenrol(&self, caller: &Caller, agent: &Agent) -> Answer {
        let path = format!("/api/v1/agents/{}", agent.id);
        answer(self.signed(caller, Method::DELETE, &path, &agent.token, Vec::new())).await
    }
}

/// The result of an enrolment.
pub(crate) struct Agent {
    pub(crate) id: String,
    pub(crate) token: String,
}

impl Agent {
    /// Enrols; fails the test if the hub refuses.
    pub(crate) async fn enrol(host: &Host, caller: &Caller, token: &str) -> Self {
        let (status, body) = host.enrol(caller, token).await;
        assert!(status == 200 || status == 201, "{status} {body}");
        Self {
            id: text(&body, "agent_id"),
            token: text(&body, "agent_token"),
        }
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    read(response).await
}

/// Returns status and body, and checks what is true of every response.
pub(crate) async fn read(response: Response) -> Answer {
    let status = response.status();
    let content_type = response.headers().get("content-type").cloned();
    let bytes = response.bytes().await.expect("a body");
    if bytes.is_empty() {
        assert_eq!(status, StatusCode::NO_CONTENT, "only a 204 has no body");
        return (status.as_u16(), Value::Null);
    }
    assert_eq!(content_type.expect("a content type"), "application/json");
    let body: Value = serde_json::from_slice(&bytes).expect("JSON");
    if !status.is_success() {
        assert!(
            body["error"].is_string() && body["message"].is_string(),
            "{body}"
        );
    }
    (status.as_u16(), body)
}

pub(crate) fn text(value: &Value, field: &str) -> String {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {value}"))
        .to_owned()
}

/// Creates a per-agent token, as one click in the dashboard does.
pub(crate) async fn click(operator: &Caller, body: &Value) -> Agent {
    let (status, made) = operator.post("/api/v1/agents", body).await;
    assert_eq!(status, 201, "{made}");
    Agent {
        id: text(&made, "agent_id"),
        token: text(&made, "token"),
    }
}
