//! Readmission: a hub that has lost its database takes its agents back, and only those.

use crate::clients::{Agent, Answer, Caller, Host, answer, hub_with, text};
use crate::raw::{exchange, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mock_hub::{Hub, Options};
use reqwest::Method;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;

const ORIGIN: &str = "https://hub.example.com";
const DOOR: &str = "/api/v1/readmission";

/// The files of a hub that outlive it.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn options(&self) -> Options {
        Options {
            database: Some(self.path("hub.db")),
            receipt_keys: vec![self.path("receipt.key")],
            revocations: Some(self.path("revocations")),
            public_urls: vec![ORIGIN.parse().expect("an origin")],
            ..Options::default()
        }
    }

    async fn start(&self) -> (Hub, Caller) {
        let hub = hub_with(self.options()).await;
        let caller = caller(&hub);
        (hub, caller)
    }

    fn lose_database(&self) {
        for name in ["hub.db", "hub.db-wal", "hub.db-shm"] {
            let _ = fs::remove_file(self.path(name));
        }
    }

    fn save_database(&self) {
        fs::copy(self.path("hub.db"), self.path("yesterday.db")).expect("a copy");
    }

    fn restore_database(&self) {
        self.lose_database();
        fs::copy(self.path("yesterday.db"), self.path("hub.db")).expect("a copy");
    }
}

/// Returns a caller that comes by the public URL: the address is another one at each start.
fn caller(hub: &Hub) -> Caller {
    let mut caller = Caller::of(hub);
    caller.host = Some("hub.example.com");
    caller
}

/// An enrolled host with its receipt.
struct Enrolled {
    host: Host,
    agent: Agent,
    receipt: String,
}

async fn enrol(operator: &Caller) -> Enrolled {
    let defaults = json!({"default_tags": ["prod"], "default_role": "web"});
    let created = operator.create_token(1, defaults).await;
    let host = Host::new();
    let (status, body) = host.enrol(operator, &created.token).await;
    assert_eq!(status, 201, "{body}");
    Enrolled {
        agent: Agent {
            id: text(&body, "agent_id"),
            token: text(&body, "agent_token"),
        },
        receipt: text(&body, "receipt"),
        host,
    }
}

async fn open(operator: &Caller, extra: Value) -> Answer {
    let mut body = json!({"open_for_secs": 3600, "max_agents": 100});
    for (field, value) in extra.as_object().expect("an object") {
        body[field] = value.clone();
    }
    operator.post(DOOR, &body).await
}

async fn opened(operator: &Caller, extra: Value) {
    let (status, view) = open(operator, extra).await;
    assert_eq!((status, text(&view, "state").as_str()), (200, "open"));
}

/// A body and its signature.
struct Request {
    body: Vec<u8>,
    signature: String,
}

/// Makes a readmission, `ahead` seconds in the future of this machine.
fn request(host: &Host, receipt: &str, origin: &str, ahead: i64) -> Request {
    let now = OffsetDateTime::now_utc() + time::Duration::seconds(ahead);
    let mut body = host.body.clone();
    body["receipt"] = json!(receipt);
    body["at"] = json!(now.format(&Rfc3339).expect("a time"));
    let body = serde_json::to_vec(&body).expect("JSON");
    let hash = digest(&SHA256, &body);
    let message = [
        b"monsys-readmit-v1\0",
        origin.as_bytes(),
        b"\0",
        hash.as_ref(),
    ]
    .concat();
    Request {
        signature: host.sign_message(&message),
        body,
    }
}

async fn send(caller: &Caller, request: &Request) -> Answer {
    let call = caller
        .request(Method::POST, "/api/v1/agents/readmit")
        .header("Content-Type", "application/json")
        .header("X-Monsys-Signature", &request.signature)
        .body(request.body.clone());
    answer(call).await
}

async fn readmit(operator: &Caller, host: &Host, receipt: &str) -> Answer {
    send(operator, &request(host, receipt, ORIGIN, 0)).await
}

/// Returns every byte of the answer but the date.
async fn bytes(hub: &Hub, path: &str, request: &Request) -> String {
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Monsys-Signature", request.signature.as_str()),
    ];
    let (answer, ended) = exchange(hub, &post(path, &headers, &request.body)).await;
    ended.expect("a proper end");
    let answer = String::from_utf8(answer).expect("text");
    let lines = answer.split("\r\n");
    let lines = lines.filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
    lines.collect::<Vec<_>>().join("\r\n")
}

/// Asserts that the answer is the plain 401, byte for byte.
async fn refused(hub: &Hub, cause: &str, request: &Request) {
    let plain = bytes(hub, "/api/v1/agents/enrol", request).await;
    assert!(
        plain.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
        "{plain}"
    );
    let seen = bytes(hub, "/api/v1/agents/readmit", request).await;
    assert_eq!(seen, plain, "{cause}");
}

#[tokio::test]
async fn a_lost_hub_takes_its_agent_back() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled {
        host,
        agent,
        receipt,
    } = enrol(&operator).await;
    let (_, registered) = host.register(&operator, &agent.token).await;
    assert_ne!(text(&registered, "receipt"), receipt, "register renews it");
    hub.stop().await;

    site.lose_database();
    let (hub, operator) = site.start().await;
    refused(&hub, "shut", &request(&host, &receipt, ORIGIN, 0)).await;
    opened(&operator, json!({})).await;
    let host = host.with("tags", json!(["own"]));
    let (status, body) = readmit(&operator, &host, &receipt).await;
    assert_eq!((status, text(&body, "agent_id")), (201, agent.id.clone()));
    assert_eq!(body["tags"], json!(["prod", "own"]));
    assert_eq!(
        (text(&body, "role"), text(&body, "default_role")),
        ("web".into(), "web".into())
    );
    let (_, door) = operator.get(DOOR).await;
    assert_eq!(
        (&door["readmitted"], text(&door, "revocations").as_str()),
        (&json!(1), "complete")
    );
    let (_, row) = operator.get(&format!("/api/v1/agents/{}", agent.id)).await;
    assert!(
        row["readmitted_at"].is_string() && row["enrolment_token_id"].is_string(),
        "{row}"
    );
    let token = text(&body, "agent_token");
    assert_eq!(host.register(&operator, &agent.token).await.0, 401);
    assert_eq!(host.register(&operator, &token).await.0, 200);

    // Known by now, with the receipt of either time.
    for receipt in [&receipt, &text(&body, "receipt")] {
        let (status, body) = readmit(&operator, &host, receipt).await;
        assert_eq!((status, text(&body, "agent_id")), (200, agent.id.clone()));
    }
    assert_eq!(
        host.register(&operator, &token).await.0,
        401,
        "the old one dies"
    );
    assert_eq!(operator.get(DOOR).await.1["readmitted"], 1);
    assert_eq!(operator.agent_count().await, 1);

    // The door is still open after a restart, and shut once it is closed.
    hub.stop().await;
    let (hub, operator) = site.start().await;
    assert_eq!(readmit(&operator, &host, &receipt).await.0, 200);
    assert_eq!(operator.delete(DOOR).await.0, 204);
    assert_eq!(operator.get(DOOR).await.1["state"], "shut");
    refused(&hub, "closed", &request(&host, &receipt, ORIGIN, 0)).await;
    hub.stop().await;
}

#[tokio::test]
async fn every_refusal_is_the_plain_401() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let enrolled = enrol(&operator).await;
    let (host, receipt) = (&enrolled.host, enrolled.receipt.as_str());
    let other_site = Site::new();
    let (other_hub, other_operator) = other_site.start().await;
    let elsewhere = enrol(&other_operator).await;
    other_hub.stop().await;
    hub.stop().await;
    site.lose_database();

    // The same key under another URL is another hub.
    let moved = Options {
        public_urls: vec!["https://other.example.com".parse().expect("an origin")],
        ..site.options()
    };
    let hub = hub_with(moved).await;
    opened(&caller(&hub), json!({})).await;
    let sent = request(host, receipt, "https://other.example.com", 0);
    refused(&hub, "another issuer", &sent).await;
    hub.stop().await;

    let (hub, operator) = site.start().await;
    opened(&operator, json!({})).await;
    let stranger = Host::new();
    let parts: Vec<&str> = receipt.split('.').collect();
    let payload = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64");
    let payload = String::from_utf8(payload).expect("text");
    let forged = URL_SAFE_NO_PAD.encode(payload.replace("\"web\"", "\"db\""));
    let forged = format!("v1.{}.{forged}.{}", parts[1], parts[3]);
    for (cause, sent) in [
        ("stolen", request(&stranger, receipt, ORIGIN, 0)),
        (
            "another hub's key",
            request(&elsewhere.host, &elsewhere.receipt, ORIGIN, 0),
        ),
        (
            "another origin",
            request(host, receipt, "https://evil.example", 0),
        ),
        ("forged", request(host, &forged, ORIGIN, 0)),
        (
            "truncated",
            request(host, &receipt[..receipt.len() - 1], ORIGIN, 0),
        ),
        ("empty", request(host, "", ORIGIN, 0)),
        ("too long", request(host, &"v1.".repeat(30_000), ORIGIN, 0)),
        ("late", request(host, receipt, ORIGIN, -301)),
        ("early", request(host, receipt, ORIGIN, 302)),
    ] {
        refused(&hub, cause, &sent).await;
    }
    // The body's own signature, and another host's.
    let mut sent = request(host, receipt, ORIGIN, 0);
    sent.signature = host.sign(&sent.body);
    refused(&hub, "signed as an enrolment", &sent).await;
    sent.signature = request(&stranger, receipt, ORIGIN, 0).signature;
    refused(&hub, "another's signature", &sent).await;
    assert_eq!(operator.agent_count().await, 0);

    assert!(operator.anomalies(&enrolled.agent.id).await.is_empty());
    // A clone: the same key on another machine.
    let mut body = host.body.clone();
    body["machine_fingerprint"] = json!("ff00");
    let sent = {
        let clone = host.clone_with(body);
        request(&clone, receipt, ORIGIN, 0)
    };
    refused(&hub, "another fingerprint", &sent).await;
    let kinds = operator.anomalies(&enrolled.agent.id).await;
    assert_eq!(kinds, ["readmission_mismatch"]);

    let sent = request(host, receipt, ORIGIN, 0);
    assert_eq!(send(&operator, &sent).await.0, 201);
    refused(&hub, "sent again", &sent).await;
    // The hour of the door, and then the 90 days of the receipt.
    hub.advance_clock(Duration::from_hours(1));
    assert_eq!(operator.get(DOOR).await.1["state"], "expired");
    refused(&hub, "door expired", &request(host, receipt, ORIGIN, 3_600)).await;
    hub.advance_clock(Duration::from_hours(90 * 24 - 1));
    opened(&operator, json!({})).await;
    let ahead = 90 * 24 * 3_600;
    refused(
        &hub,
        "receipt expired",
        &request(host, receipt, ORIGIN, ahead),
    )
    .await;
    hub.stop().await;
}

#[tokio::test]
async fn the_door_has_terms() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled { host, receipt, .. } = enrol(&operator).await;
    hub.stop().await;
    site.lose_database();
    let (hub, operator) = site.start().await;
    opened(&operator, json!({"allowed_cidrs": ["10.0.0.0/8"]})).await;
    refused(&hub, "address", &request(&host, &receipt, ORIGIN, 0)).await;
    opened(&operator, json!({"issued_before": "2020-01-01T00:00:00Z"})).await;
    refused(&hub, "issued later", &request(&host, &receipt, ORIGIN, 0)).await;
    for (field, value) in [
        ("open_for_secs", json!(0)),
        ("max_agents", json!(0)),
        ("issued_before", json!("yesterday")),
        ("allowed_cidrs", json!(["x"])),
    ] {
        let (status, refusal) = open(&operator, json!({field: value})).await;
        assert_eq!(status, 422);
        assert!(text(&refusal, "message").contains(field), "{refusal}");
    }
    let mut body = host.body.clone();
    body["receipt"] = json!(receipt);
    body["at"] = json!("yesterday");
    let (status, _) = operator.post("/api/v1/agents/readmit", &body).await;
    assert_eq!(status, 422);
    let terms = json!({"allowed_cidrs": ["127.0.0.0/8"], "issued_before": "2999-01-01T00:00:00Z"});
    opened(&operator, terms).await;
    assert_eq!(readmit(&operator, &host, &receipt).await.0, 201);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_cap_however_many_at_once() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let mut all = Vec::new();
    for _ in 0..30 {
        all.push(enrol(&operator).await);
    }
    hub.stop().await;
    site.lose_database();
    let (hub, operator) = site.start().await;
    opened(&operator, json!({"max_agents": 20})).await;
    let operator = Arc::new(operator);
    let mut tries = JoinSet::new();
    for enrolled in all {
        let operator = Arc::clone(&operator);
        tries.spawn(async move {
            readmit(&operator, &enrolled.host, &enrolled.receipt)
                .await
                .0
        });
    }
    let statuses = tries.join_all().await;
    let count = |status| statuses.iter().filter(|seen| **seen == status).count();
    assert_eq!((count(201), count(401)), (20, 10));
    let (_, door) = operator.get(DOOR).await;
    assert_eq!(
        (text(&door, "state").as_str(), &door["readmitted"]),
        ("full", &json!(20))
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_deleted_agent_stays_deleted_until_it_is_allowed() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled {
        host,
        agent,
        receipt,
    } = enrol(&operator).await;
    let path = format!("/api/v1/agents/{}", agent.id);
    hub.stop().await;
    site.save_database();
    let (hub, operator) = site.start().await;
    assert_eq!(
        operator.post(&format!("{path}/allow"), &json!({})).await.0,
        404
    );
    assert_eq!(operator.delete(&path).await.0, 204);
    assert_eq!(operator.delete(&path).await.0, 404);
    hub.stop().await;

    for lose in [
        Site::lose_database as fn(&Site),
        Site::restore_database,
        |_| {},
    ] {
        lose(&site);
        let (hub, operator) = site.start().await;
        opened(&operator, json!({})).await;
        assert_eq!(operator.agent_count().await, 0);
        refused(&hub, "deleted", &request(&host, &receipt, ORIGIN, 0)).await;
        let created = operator.create_token(1, json!({})).await;
        assert_eq!(host.enrol(&operator, &created.token).await.0, 401);
        assert_eq!(operator.uses(&created).await, (0, 0));
        let click = crate::clients::click(&operator, &json!({})).await;
        assert_eq!(host.register(&operator, &click.token).await.0, 401);
        operator
            .delete(&format!("/api/v1/agents/{}", click.id))
            .await;
        hub.stop().await;
    }
    let (hub, operator) = site.start().await;
    assert_eq!(
        operator.post(&format!("{path}/allow"), &json!({})).await.0,
        204
    );
    hub.stop().await;
    site.lose_database();
    let (hub, operator) = site.start().await;
    opened(&operator, json!({})).await;
    let (status, body) = readmit(&operator, &host, &receipt).await;
    assert_eq!((status, text(&body, "agent_id")), (201, agent.id));
    hub.stop().await;
}

#[tokio::test]
async fn what_unenrolled_does_not_come_back_and_its_key_is_free() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled {
        host,
        agent,
        receipt,
    } = enrol(&operator).await;
    hub.stop().await;
    site.save_database();
    let (hub, operator) = site.start().await;
    assert_eq!(host.unenrol(&operator, &agent).await.0, 204);
    hub.stop().await;
    for lose in [Site::lose_database as fn(&Site), Site::restore_database] {
        lose(&site);
        let (hub, operator) = site.start().await;
        opened(&operator, json!({})).await;
        assert_eq!(operator.agent_count().await, 0);
        refused(&hub, "unenrolled", &request(&host, &receipt, ORIGIN, 0)).await;
        let created = operator.create_token(1, json!({})).await;
        assert_eq!(host.enrol(&operator, &created.token).await.0, 201);
        hub.stop().await;
    }
}

#[tokio::test]
async fn a_replaced_key_stays_replaced() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled {
        host,
        agent,
        receipt,
    } = enrol(&operator).await;
    hub.stop().await;
    site.save_database();
    let (hub, operator) = site.start().await;
    let rotate = format!("/api/v1/agents/{}/rotate-signing-key", agent.id);
    // The clock is set back meanwhile: the new receipt counts as newer nevertheless.
    hub.set_clock_by(-60_000);
    assert_eq!(operator.post(&rotate, &json!({})).await.0, 204);
    hub.set_clock_by(-60_000);
    let next = Host::new();
    let (status, body) = next.register(&operator, &agent.token).await;
    assert_eq!(status, 200, "{body}");
    let new_receipt = text(&body, "receipt");
    opened(&operator, json!({})).await;
    hub.set_clock_by(120_000);
    refused(&hub, "old key", &request(&host, &receipt, ORIGIN, 0)).await;
    hub.stop().await;

    // A restart takes nothing away from the new key.
    let (hub, operator) = site.start().await;
    assert_eq!(next.register(&operator, &agent.token).await.0, 200);
    assert_eq!(host.register(&operator, &agent.token).await.0, 403);
    hub.stop().await;

    site.lose_database();
    let (hub, operator) = site.start().await;
    opened(&operator, json!({})).await;
    refused(&hub, "old key", &request(&host, &receipt, ORIGIN, 0)).await;
    assert_eq!(readmit(&operator, &next, &new_receipt).await.0, 201);
    hub.stop().await;

    site.restore_database();
    let (hub, operator) = site.start().await;
    let path = format!("/api/v1/agents/{}", agent.id);
    assert_eq!(operator.get(&path).await.1["signing_pubkey"], Value::Null);
    opened(&operator, json!({})).await;
    refused(&hub, "old key", &request(&host, &receipt, ORIGIN, 0)).await;
    assert_eq!(next.register(&operator, &agent.token).await.0, 200);
    assert_eq!(host.register(&operator, &agent.token).await.0, 403);
    hub.stop().await;
}

#[tokio::test]
async fn a_revoked_token_stays_revoked_and_its_agents_come_back() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let created = operator.create_token(2, json!({})).await;
    let host = Host::new();
    let (_, body) = host.enrol(&operator, &created.token).await;
    hub.stop().await;
    site.save_database();
    let (hub, operator) = site.start().await;
    let revoke = format!("{}/revoke", created.path);
    assert_eq!(operator.post(&revoke, &json!({})).await.0, 200);
    hub.stop().await;
    site.restore_database();
    let (hub, operator) = site.start().await;
    assert_eq!(operator.get(&created.path).await.1["status"], "revoked");
    assert_eq!(Host::new().enrol(&operator, &created.token).await.0, 401);
    opened(&operator, json!({})).await;
    assert_eq!(
        readmit(&operator, &host, &text(&body, "receipt")).await.0,
        200
    );
    hub.stop().await;
}

#[tokio::test]
async fn lost_revocations_are_to_be_accepted() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled { host, receipt, .. } = enrol(&operator).await;
    opened(&operator, json!({})).await;
    hub.stop().await;
    fs::remove_file(site.path("revocations")).expect("the file");
    for _ in 0..2 {
        let (hub, operator) = site.start().await;
        let (_, door) = operator.get(DOOR).await;
        assert_eq!(
            (&door["state"], &door["revocations"]),
            (&json!("shut"), &json!("lost"))
        );
        refused(&hub, "lost", &request(&host, &receipt, ORIGIN, 0)).await;
        let (status, refusal) = open(&operator, json!({})).await;
        assert_eq!(
            (status, text(&refusal, "error").as_str()),
            (409, "revocations_lost")
        );
        hub.stop().await;
    }
    let (hub, operator) = site.start().await;
    opened(&operator, json!({"accept_lost_revocations": true})).await;
    assert_eq!(readmit(&operator, &host, &receipt).await.0, 200);
    hub.stop().await;
    let (hub, operator) = site.start().await;
    assert_eq!(operator.get(DOOR).await.1["revocations"], "accepted");
    opened(&operator, json!({})).await;
    hub.stop().await;

    // Without a file they are always lost, and without a key nothing opens.
    let options = Options {
        revocations: None,
        ..site.options()
    };
    let hub = hub_with(options.clone()).await;
    assert_eq!(open(&caller(&hub), json!({})).await.0, 409);
    opened(&caller(&hub), json!({"accept_lost_revocations": true})).await;
    hub.stop().await;
    let hub = hub_with(Options {
        receipt_keys: Vec::new(),
        ..options
    })
    .await;
    let operator = caller(&hub);
    let (status, refusal) = open(&operator, json!({"accept_lost_revocations": true})).await;
    assert_eq!(
        (status, text(&refusal, "error").as_str()),
        (409, "no_receipt_key")
    );
    refused(&hub, "no key", &request(&host, &receipt, ORIGIN, 0)).await;
    hub.stop().await;
}

#[tokio::test]
async fn revocations_of_the_database_are_added_to_a_new_file() {
    let site = Site::new();
    let options = Options {
        revocations: None,
        ..site.options()
    };
    let hub = hub_with(options).await;
    let operator = caller(&hub);
    let Enrolled {
        host,
        agent,
        receipt,
    } = enrol(&operator).await;
    operator
        .delete(&format!("/api/v1/agents/{}", agent.id))
        .await;
    hub.stop().await;
    let (hub, _) = site.start().await;
    hub.stop().await;
    site.lose_database();
    let (hub, operator) = site.start().await;
    opened(&operator, json!({"accept_lost_revocations": true})).await;
    refused(&hub, "deleted", &request(&host, &receipt, ORIGIN, 0)).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_rotated_receipt_key_verifies_what_the_old_one_signed() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled { host, receipt, .. } = enrol(&operator).await;
    hub.stop().await;
    site.lose_database();
    let rotated = Options {
        receipt_keys: vec![site.path("next.key"), site.path("receipt.key")],
        ..site.options()
    };
    let hub = hub_with(rotated.clone()).await;
    let operator = caller(&hub);
    opened(&operator, json!({})).await;
    let (status, body) = readmit(&operator, &host, &receipt).await;
    assert_eq!(status, 201);
    let kid = |receipt: &str| receipt.split('.').nth(1).expect("a key id").to_owned();
    assert_ne!(kid(&text(&body, "receipt")), kid(&receipt));
    hub.stop().await;
    let only_new = Options {
        receipt_keys: vec![site.path("next.key")],
        ..rotated
    };
    let Err(cause) = mock_hub::start(only_new).await else {
        panic!("it starts");
    };
    assert!(
        cause.to_string().contains("line 1: no receipt key"),
        "{cause}"
    );
}

#[tokio::test]
async fn a_receipt_of_another_tenant_is_refused() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled { host, receipt, .. } = enrol(&operator).await;
    opened(&operator, json!({})).await;
    // Signed by the receipt key itself, whose seed is the end of its DER.
    let pem = fs::read_to_string(site.path("receipt.key")).expect("the key");
    let der = STANDARD
        .decode(pem.lines().nth(1).expect("base64"))
        .expect("base64");
    let key = ring::signature::Ed25519KeyPair::from_seed_unchecked(&der[16..]).expect("a seed");
    let resign = |change: &dyn Fn(&mut Value)| {
        let parts: Vec<&str> = receipt.split('.').collect();
        let payload = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64");
        let mut payload: Value = serde_json::from_slice(&payload).expect("JSON");
        change(&mut payload);
        let signed = format!(
            "v1.{}.{}",
            parts[1],
            URL_SAFE_NO_PAD.encode(payload.to_string())
        );
        let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    };
    let other = resign(&|payload| payload["tenant"] = json!("other"));
    refused(&hub, "another tenant", &request(&host, &other, ORIGIN, 0)).await;
    // An id that another key holds.
    let holder = enrol(&operator).await;
    let stolen_id = resign(&|payload| payload["agent_id"] = json!(holder.agent.id));
    refused(&hub, "another's id", &request(&host, &stolen_id, ORIGIN, 0)).await;
    assert_eq!(
        operator.anomalies(&holder.agent.id).await,
        ["readmission_mismatch"]
    );
    let same = resign(&|_| {});
    assert_eq!(
        readmit(&operator, &host, &same).await.0,
        200,
        "all else was right"
    );
    hub.stop().await;
}

/// A crash after the file was written, and before the database has committed.
#[tokio::test]
async fn a_crash_between_file_and_database_is_made_good_at_the_start() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled {
        host,
        agent,
        receipt,
    } = enrol(&operator).await;
    hub.stop().await;
    site.save_database();
    let before = fs::read(site.path("revocations")).expect("the file");
    let (hub, operator) = site.start().await;
    operator
        .delete(&format!("/api/v1/agents/{}", agent.id))
        .await;
    hub.stop().await;
    let after = fs::read(site.path("revocations")).expect("the file");

    // Before the line is complete, nothing has happened.
    for length in [before.len(), before.len() + 1, after.len() - 1] {
        site.restore_database();
        fs::write(site.path("revocations"), &after[..length]).expect("the file");
        let (hub, operator) = site.start().await;
        assert_eq!(operator.agent_count().await, 1);
        hub.stop().await;
    }
    // Afterwards, all has.
    site.restore_database();
    fs::write(site.path("revocations"), &after).expect("the file");
    let (hub, operator) = site.start().await;
    assert_eq!(operator.agent_count().await, 0);
    opened(&operator, json!({})).await;
    refused(&hub, "deleted", &request(&host, &receipt, ORIGIN, 0)).await;
    hub.stop().await;
}
