//! Mimir's hosts and operator: secrets, caps, certificates.

use crate::clients::{Answer, Caller, answer, hub, hub_with, text};
use mock_hub::{Hub, Options};
use rcgen::{CertificateParams, KeyPair};
use reqwest::{Certificate, Client, Identity, Method};
use serde_json::{Value, json};
use std::time::Duration;

const SECRETS: &str = "/api/v1/mimir/enrollment-secrets";

/// A host with a key of its own.
struct Machine {
    key: KeyPair,
}

impl Machine {
    fn new() -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        Self { key }
    }

    fn csr(&self) -> String {
        let params = CertificateParams::default();
        let request = params.serialize_request(&self.key).expect("a request");
        request.pem().expect("PEM")
    }

    async fn enroll(&self, caller: &Caller, secret: &str) -> Answer {
        let body = json!({"enrollment_secret": secret, "hostname": "web-1", "csr": self.csr(),
            "a_field_of_tomorrow": 1});
        answer(caller.request(Method::POST, "/api/v1/enroll").json(&body)).await
    }

    /// Returns a client that presents the certificate.
    fn client(&self, hub: &Hub, certificate_pem: &str) -> Client {
        let ca = std::fs::read(hub.ca_file().expect("a CA")).expect("it is there");
        let pem = format!("{}{certificate_pem}", self.key.serialize_pem());
        Client::builder()
            .no_proxy()
            .tls_certs_only([Certificate::from_pem(&ca).expect("a CA")])
            .identity(Identity::from_pem(pem.as_bytes()).expect("key and certificate"))
            .build()
            .expect("a client")
    }
}

async fn create_token(operator: &Caller, max_uses: Option<u32>) -> (String, String) {
    let body = json!({"name": "datacenter-east", "max_uses": max_uses});
    let (status, made) = operator.post(SECRETS, &body).await;
    assert_eq!(status, 201, "{made}");
    (text(&made, "secret"), text(&made, "id"))
}

/// Returns the rows of one of the operator's two tables.
async fn table(operator: &Caller, table: &str) -> Vec<Value> {
    let (_, list) = operator.get(SECRETS).await;
    list[table].as_array().expect("a table").clone()
}

async fn agents(operator: &Caller) -> Vec<Value> {
    let (_, list) = operator.get("/api/v1/mimir/agents").await;
    list["agents"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_certificate_proves_the_agent_and_outlives_its_secret() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let (secret, id) = create_token(&operator, None).await;
    assert_eq!(table(&operator, "active").await[0]["uses_text"], "None yet");
    let machine = Machine::new();
    let (status, admitted) = machine.enroll(&operator, &secret).await;
    assert_eq!(status, 201, "{admitted}");
    assert_eq!(agents(&operator).await[0]["last_seen_at"], Value::Null);

    let client = machine.client(&hub, &text(&admitted, "certificate_pem"));
    let myself = || client.get(format!("{}/api/v1/agent/self", hub.url()));
    let (status, seen) = answer(myself()).await;
    assert_eq!((status, &seen["agent_id"]), (200, &admitted["agent_id"]));
    assert!(agents(&operator).await[0]["last_seen_at"].is_string());

    operator
        .post(&format!("{SECRETS}/{id}/revoke"), &json!({}))
        .await;
    let revoked = table(&operator, "revoked").await;
    assert_eq!(revoked[0]["uses_text"], "1");
    assert_eq!(table(&operator, "active").await, Vec::<Value>::new());
    assert_eq!(answer(myself()).await.0, 200, "agents keep working");
    let late = Machine::new().enroll(&operator, &secret).await;
    assert_eq!((late.0, &late.1["error"]), (401, &json!("unauthorized")));

    let renewal = client
        .post(format!("{}/api/v1/agent/renew", hub.url()))
        .json(&json!({"csr": machine.csr()}));
    let (status, renewed) = answer(renewal).await;
    assert_eq!((status, &renewed["agent_id"]), (200, &admitted["agent_id"]));
    assert_ne!(renewed["certificate_pem"], admitted["certificate_pem"]);
    let for_another = client
        .post(format!("{}/api/v1/agent/renew", hub.url()))
        .json(&json!({"csr": Machine::new().csr()}));
    assert_eq!(answer(for_another).await.0, 422);
    assert_eq!(agents(&operator).await.len(), 1);
    hub.stop().await;
}

#[tokio::test]
async fn a_call_without_a_certificate_of_the_hub_is_rejected() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    for (method, path) in [(Method::GET, "self"), (Method::POST, "renew")] {
        let call = operator.request(method, &format!("/api/v1/agent/{path}"));
        let body = json!({"csr": Machine::new().csr()});
        assert_eq!(answer(call.json(&body)).await.0, 401, "{path}");
    }
    // A certificate of another CA fails in TLS, even for addresses that need none.
    let machine = Machine::new();
    let stranger = CertificateParams::default().self_signed(&machine.key);
    let client = machine.client(&hub, &stranger.expect("a certificate").pem());
    let refused = client.get(format!("{}/healthz", hub.url())).send().await;
    assert!(refused.is_err());

    let (secret, _) = create_token(&operator, Some(1)).await;
    let (_, admitted) = machine.enroll(&operator, &secret).await;
    let client = machine.client(&hub, &text(&admitted, "certificate_pem"));
    let myself = || client.get(format!("{}/api/v1/agent/self", hub.url()));
    assert_eq!(answer(myself()).await.0, 200);
    hub.advance_clock(Duration::from_hours(91 * 24));
    assert_eq!(answer(myself()).await.0, 401, "it has expired");
    hub.stop().await;

    let hub = crate::clients::hub().await;
    let operator = Caller::of(&hub);
    let (secret, _) = create_token(&operator, Some(1)).await;
    let (_, admitted) = machine.enroll(&operator, &secret).await;
    let client = machine.client(&hub, &text(&admitted, "certificate_pem"));
    let id = text(&admitted, "agent_id");
    operator
        .request(Method::DELETE, &format!("/api/v1/mimir/agents/{id}"))
        .bearer_auth(hub.admin_token())
        .send()
        .await
        .expect("an answer");
    let myself = client.get(format!("{}/api/v1/agent/self", hub.url()));
    assert_eq!(answer(myself).await.0, 401, "it has been taken out");
    hub.stop().await;
}

#[tokio::test]
async fn a_used_up_secret_admits_only_its_own_agents() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let (secret, _) = create_token(&operator, Some(1)).await;
    assert_eq!(table(&operator, "active").await[0]["uses_text"], "0 / 1");
    let machine = Machine::new();
    let (_, first) = machine.enroll(&operator, &secret).await;
    let (status, again) = machine.enroll(&operator, &secret).await;
    assert_eq!((status, &again["agent_id"]), (201, &first["agent_id"]));
    assert_ne!(again["certificate_pem"], first["certificate_pem"]);

    let full = Machine::new().enroll(&operator, &secret).await;
    let wrong = Machine::new().enroll(&operator, "wrong").await;
    let newline = Machine::new()
        .enroll(&operator, &format!("{secret}\n"))
        .await;
    assert_eq!(full.0, 401);
    assert_eq!(full, wrong);
    assert_eq!(full, newline);
    let row = &table(&operator, "active").await[0];
    assert_eq!(row["uses_text"], "1 / 1", "it stays active");
    assert_eq!(agents(&operator).await.len(), 1);
    hub.stop().await;
}

#[tokio::test]
async fn the_loser_of_the_race_for_the_last_use_is_refused() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let (secret, id) = create_token(&operator, Some(1)).await;
    let slow = |delay_ms: u32| json!({"route": "mimir-claim", "delay_ms": delay_ms});
    operator.fault(slow(2_000)).await;
    let (loser, winner) = tokio::join!(
        async { Machine::new().enroll(&operator, &secret).await },
        async {
            until_hit(&operator).await;
            Machine::new().enroll(&operator, &secret).await
        },
    );
    assert_eq!(winner.0, 201);
    assert_eq!(
        (loser.0, &loser.1["error"]),
        (403, &json!("secret_exhausted"))
    );
    assert_eq!(table(&operator, "active").await[0]["uses"], 1);

    // A secret that is revoked meanwhile is not used up.
    let (secret, other) = create_token(&operator, Some(1)).await;
    assert_ne!(id, other, "names are not unique, ids are");
    operator.fault(slow(2_000)).await;
    let (late, _) = tokio::join!(
        async { Machine::new().enroll(&operator, &secret).await },
        async {
            until_hit(&operator).await;
            operator
                .post(&format!("{SECRETS}/{other}/revoke"), &json!({}))
                .await
        },
    );
    assert_eq!((late.0, &late.1["error"]), (401, &json!("unauthorized")));
    assert_eq!(agents(&operator).await.len(), 1);
    hub.stop().await;
}

/// Returns once a request has met the fault.
async fn until_hit(operator: &Caller) {
    while operator.get("/api/v1/faults").await.1["faults"] != json!([]) {}
}

#[tokio::test]
async fn a_burst_never_passes_the_cap() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let (secret, _) = create_token(&operator, Some(5)).await;
    let (url, ca_file) = (
        hub.url().to_owned(),
        hub.ca_file().map(std::path::Path::to_owned),
    );
    let mut burst = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let caller = Caller::new(&url, ca_file.as_deref(), "");
        let secret = secret.clone();
        burst.spawn(async move { Machine::new().enroll(&caller, &secret).await.0 });
    }
    let mut statuses = burst.join_all().await;
    statuses.retain(|status| *status == 201);
    assert_eq!(statuses.len(), 5);
    assert_eq!(table(&operator, "active").await[0]["uses_text"], "5 / 5");
    assert_eq!(agents(&operator).await.len(), 5);
    hub.stop().await;
}

#[tokio::test]
async fn failed_to_create_enrollment_secret() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    for max_uses in [0, -1, 1_000_000_001, i64::MAX] {
        let body = json!({"name": "n", "max_uses": max_uses});
        let (status, refused) = operator.post(SECRETS, &body).await;
        assert_eq!(status, 422);
        let message = text(&refused, "message");
        assert!(message.starts_with("Failed to create enrollment secret"));
        assert!(message.contains("1000000000"), "the limit: {message}");
    }
    let (status, _) = operator.post(SECRETS, &json!({"max_uses": 1})).await;
    assert_eq!(status, 422, "a name is required");
    let (status, refused) = operator.post(SECRETS, &json!({"name": "  "})).await;
    assert_eq!(status, 422, "{refused}");
    assert!(text(&refused, "message").contains("name"), "{refused}");
    for call in [
        operator
            .request(Method::POST, SECRETS)
            .json(&json!({"name": "n"})),
        operator.request(Method::GET, SECRETS),
        operator.request(Method::GET, "/api/v1/mimir/agents"),
    ] {
        assert_eq!(answer(call).await.0, 401, "only the operator may");
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_request_without_a_valid_csr_takes_no_use() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let (secret, _) = create_token(&operator, Some(1)).await;
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
    let good = Machine::new().csr();
    let forged = {
        let lines: Vec<&str> = good.trim().lines().collect();
        let mut body = lines[1..lines.len() - 1].concat().into_bytes();
        // Within the signature, which is at the end.
        let at = body.len() - 20;
        body[at] = if body[at] == b'A' { b'B' } else { b'A' };
        let body = String::from_utf8(body).expect("base64");
        format!("{}\n{body}\n{}\n", lines[0], lines[lines.len() - 1])
    };
    for csr in [String::new(), forged, Machine { key: p384 }.csr()] {
        let body = json!({"enrollment_secret": secret, "hostname": "web-1", "csr": csr});
        let call = operator.request(Method::POST, "/api/v1/enroll").json(&body);
        let (status, refused) = answer(call).await;
        assert_eq!(status, 422, "{csr}");
        assert!(text(&refused, "message").starts_with("csr:"), "{refused}");
    }
    assert_eq!(table(&operator, "active").await[0]["uses"], 0);
    hub.stop().await;
}

#[tokio::test]
async fn certificates_and_hashed_secrets_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = || Options {
        tls_dir: Some(dir.path().join("tls")),
        database: Some(dir.path().join("hub.db")),
        ..Options::default()
    };
    let first = hub_with(options()).await;
    let operator = Caller::of(&first);
    let (secret, _) = create_token(&operator, None).await;
    let machine = Machine::new();
    let (_, admitted) = machine.enroll(&operator, &secret).await;
    first.stop().await;
    let database = std::fs::read(dir.path().join("hub.db")).expect("the database");
    let holds = |text: &str| {
        database
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(holds("$2b$04$") && !holds(&secret));

    let second = hub_with(options()).await;
    let client = machine.client(&second, &text(&admitted, "certificate_pem"));
    let myself = client.get(format!("{}/api/v1/agent/self", second.url()));
    assert_eq!(answer(myself).await.0, 200);
    second.stop().await;
}
